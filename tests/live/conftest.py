"""One live Ray Serve with Prometheus and our rules for all live tests of a session."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from demo.stack import component
from demo.stack.components.alertmanager import alertmanager
from demo.stack.components.applications import applications
from demo.stack.components.collector import collector
from demo.stack.components.exporter import exporter
from demo.stack.components.prometheus import prometheus
from demo.stack.components.ray import ray
from demo.stack.ports import Ports
from demo.stack.run import Run
from demo.stack.serve_api import serve_applications
from demo.stack.supervisor import Stack
from servescope.clients.prometheus import Prometheus
from servescope.files import write_all
from servescope.generate import rule_files
from servescope.rules.slo.objectives import load
from servescope.settings import Settings
from tests.live.traffic import Background
from tests.live.truth_load import TruthLoad
from tests.live.versions import ray_folder
from tests.support.waiting import wait_for

HERE = Path(__file__).parent
PORTS = Ports.from_base(21000)

# Fixtures end what they started when the session is interrupted; SIGTERM alone would leave a Ray behind.
signal.signal(signal.SIGTERM, signal.default_int_handler)

LIVE_PROGRAMS = ("prometheus", "prometheus-alertmanager")
TRACES = component.find("otelcol") is not None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        if "stack" not in getattr(item, "fixturenames", ()):
            return 0  # what starts a Ray of its own has the machine to itself before the shared one is there
        # The traces' tests pass the time until Prometheus has watched long enough, and those of the exporter that of
        # the load of the truth tests.
        return 1 if item.path.stem in ("test_batch", "test_tracing") else 2

    items.sort(key=place)
    missing = [program for program in LIVE_PROGRAMS if shutil.which(program) is None]
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.live)
            if missing:
                item.add_marker(pytest.mark.skip(reason=f"not on the PATH: {', '.join(missing)}; make tools"))


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    directory = tmp_path_factory.mktemp("stack")
    rules = {directory / "rules" / path: text for path, text in rule_files(Settings(), load(HERE / "slo.yaml")).items()}
    write_all(rules)
    rule_pattern = str(directory / "rules/*.yml")
    return Run(
        directory=directory,
        ports=PORTS,
        serve_config=HERE / "serve_config.yaml",
        cluster="test",
        rules=(rule_pattern,),
        ray=ray_folder(),
        traces=TRACES,
        env={
            # Ray's label for the market of a node; no test machine sets it.
            "RAY_NODE_MARKET_TYPE": "spot",
            # Else the replicas (nice 15) come after all else that a slow machine has to do, and the counted load waits.
            "RAY_worker_niceness": "0",
        },
    )


@pytest.fixture(scope="session")
def stack(run: Run) -> Iterator[Stack]:
    """Ray, the test application, Prometheus with our rules, Alertmanager, the state exporter, and the Collector."""
    parts = [
        *((collector,) if TRACES else ()),
        ray,
        prometheus,
        alertmanager,
        exporter,
        applications,
    ]
    with Stack(run, parts, print) as started:
        yield started


@pytest.fixture(scope="session")
def truth_load(stack: Stack) -> Iterator[TruthLoad]:
    """The load whose every answer is counted, in applications of its own."""
    with Prometheus(stack.run.prometheus_url) as prometheus:
        # Events count only in a Prometheus that scraped before them; the longest step that is tested is 60 s, and
        # the rules of the objectives look once a minute.
        watched = "count(up{job='ray'} offset 75s == 1) == count(up{job='ray'})"
        wait_for(lambda: bool(prometheus.query(watched)), 120, lambda: "Prometheus has not seen Ray for 75 s")
    load = TruthLoad(stack.run.serve_url)
    yield load
    load.stop()


@pytest.fixture(scope="session")
def traffic(stack: Stack, truth_load: TruthLoad) -> Iterator[Background]:
    """Traffic of every kind for as long as the tests that ask for it run; beside it, the load of the truth tests."""
    background = Background(stack.run.serve_url).start()
    yield background
    background.stop()


@pytest.fixture(scope="session")
def traffic_done(stack: Stack, traffic: Background) -> Run:
    """The run after everything was triggered once: a crash, a reconfiguration, a scale-up and a scale-down."""
    run = stack.run

    def replicas(deployment: str) -> int:
        found = serve_applications(run)["main"]["deployments"][deployment]["replicas"]
        return sum(replica["state"] == "RUNNING" for replica in found)

    assert httpx.get(f"{run.serve_url}/crash", timeout=60).status_code == 500
    wait_for(lambda: replicas("Scaler") > 1, 60, lambda: "the load does not scale Scaler up")
    document = yaml.safe_load((run.directory / "serve_config.yaml").read_text())
    (scaler,) = [d for d in document["applications"][0]["deployments"] if d["name"] == "Scaler"]
    scaler["user_config"] = {"factor": 1.01}
    scaler["autoscaling_config"]["max_replicas"] = 2  # one replica has to stop
    changed = run.directory / "serve_config_changed.yaml"
    changed.write_text(yaml.safe_dump(document))
    command = [f"{run.ray}/serve", "deploy", "-a", run.dashboard_url, str(changed)]
    subprocess.run(command, check=True, capture_output=True, env={"PATH": "/usr/bin:/bin", **run.ray_env})
    # Two minutes of rounds: rate windows of four scrapes are full, also at a scrape every 30 s.
    wait_for(lambda: traffic.rounds > 100 or traffic.error is not None, 240, lambda: f"{traffic.rounds} rounds only")
    assert traffic.error is None
    assert stack.dead() == []
    return run
