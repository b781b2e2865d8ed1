"""The state exporter beside a live Serve: the limits it tells, the mark of a deploy, a ceiling that is reached."""

from __future__ import annotations

import asyncio
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from demo.stack.run import Run
from demo.stack.serve_api import serve_applications
from demo.stack.supervisor import Stack
from servescope.catalog import METRICS
from servescope.clients.prometheus import Prometheus
from servescope.dashboards import all_dashboards
from servescope.grafana.templating import Interpolation
from servescope.promql import capacity
from servescope.report.queries import Window, panels_of, select_variables
from servescope.settings import Settings
from tests.live.versions import older
from tests.support import promtool
from tests.support.waiting import wait_for

SETTINGS = Settings()
# What the second deploy changes of the application `narrow` in serve_config.yaml, which Ray 2.54 reads too: it knows
# neither of the last two.
CHANGED = {"max_ongoing_requests": 6, "backpressure_config": {"status_code": 429}, "rolling_update_percentage": 0.5}
# One deployment that no node can take, and one whose constructor takes its time.
WAITING = {
    "name": "waiting",
    "route_prefix": "/waiting",
    "import_path": "tests.live.limits_app:waiting",
    "deployments": [
        {"name": "Nowhere", "graceful_shutdown_timeout_s": 1, "ray_actor_options": {"num_cpus": 1000}},
        {"name": "Slow", "graceful_shutdown_timeout_s": 1, "ray_actor_options": {"num_cpus": 0.1}},
    ],
}
# Where a Serve config file names what the exporter tells, and under which name: servescope_deployment_...
TOLD = {
    ("num_replicas",): "configured_replicas",
    ("max_ongoing_requests",): "max_ongoing_requests",
    ("max_queued_requests",): "max_queued_requests",
    ("graceful_shutdown_timeout_s",): "graceful_shutdown_timeout_seconds",
    ("health_check_period_s",): "health_check_period_seconds",
    ("health_check_timeout_s",): "health_check_timeout_seconds",
    ("backpressure_config", "status_code"): "backpressure_status_code",
    ("rolling_update_percentage",): "rolling_update_percentage",
    ("ray_actor_options", "num_cpus"): "replica_cpus",
    ("ray_actor_options", "num_gpus"): "replica_gpus",
    ("ray_actor_options", "memory"): "replica_memory_bytes",
    ("autoscaling_config", "min_replicas"): "min_replicas",
    ("autoscaling_config", "initial_replicas"): "initial_replicas",
    ("autoscaling_config", "max_replicas"): "max_replicas",
    ("autoscaling_config", "target_ongoing_requests"): "target_ongoing_requests",
    ("autoscaling_config", "upscale_delay_s"): "upscale_delay_seconds",
    ("autoscaling_config", "downscale_delay_s"): "downscale_delay_seconds",
}


@dataclass(frozen=True)
class Deployed:
    """The Serve config file that is deployed, and when its last change was (unix seconds)."""

    document: dict[str, Any]
    changed_at: float


def deploy(run: Run, file: Path) -> None:
    """As a team would, awaited until every application of the file, and no other, is RUNNING."""
    command = [f"{run.ray}/serve", "deploy", "-a", run.dashboard_url, str(file)]
    subprocess.run(command, check=True, capture_output=True, env={"PATH": "/usr/bin:/bin", **run.ray_env})
    wanted = {application["name"]: "RUNNING" for application in yaml.safe_load(file.read_text())["applications"]}

    def states() -> dict[str, str]:
        return {name: told["status"] for name, told in serve_applications(run).items()}

    wait_for(lambda: states() == wanted, 90, lambda: f"applications are {states()}")


@pytest.fixture(scope="module")
def prometheus(stack: Stack) -> Iterator[Prometheus]:
    with Prometheus(stack.run.prometheus_url) as client:
        yield client


@pytest.fixture(scope="module")
def deployed(stack: Stack, prometheus: Prometheus) -> Iterator[Deployed]:
    """What there was before, with other limits for `narrow`; taken back at the end."""
    run = stack.run
    before = max(run.directory.glob("serve_config*.yaml"), key=lambda file: file.stat().st_mtime)
    # A change is news only to an exporter that was there before it, and an older change must not be news any more (the
    # tests before these deploy too); the longest step that is tested is 60 s.
    info = "servescope_deployment_config_info"
    document = yaml.safe_load(before.read_text())
    wanted = {(a["name"], deployment["name"]) for a in document["applications"] for deployment in a["deployments"]}

    def unchanged() -> set[tuple[str, str]]:
        found = prometheus.query(f"{info} and {info} offset 75s")
        return {(s["metric"]["application"], s["metric"]["deployment"]) for s in found}

    wait_for(lambda: unchanged() == wanted, 150, lambda: f"changed less than 75 s ago: {wanted ^ unchanged()}")
    (narrow,) = [application for application in document["applications"] if application["name"] == "narrow"]
    narrow["deployments"][0] |= CHANGED
    file = run.directory / "limits.yaml"
    file.write_text(yaml.safe_dump(document))
    changed_at = time.time()
    deploy(run, file)
    yield Deployed(document, changed_at)
    file.unlink()
    deploy(run, before)


def figures(prometheus: Prometheus, metric: str) -> dict[tuple[str, str], float]:
    """The present figures of one of the exporter's metrics by application and deployment."""
    found = prometheus.query(f"servescope_deployment_{metric}")
    return {(s["metric"]["application"], s["metric"]["deployment"]): float(s["value"][1]) for s in found}


def test_the_limits_are_those_of_the_config_file(deployed: Deployed, prometheus: Prometheus):
    version = prometheus.query("ray_serve_application_status")[0]["metric"]["Version"]
    since = {metric.name: metric.since for metric in METRICS}
    told = {path: name for path, name in TOLD.items() if not older(version, since[f"servescope_deployment_{name}"])}
    wanted: dict[str, dict[tuple[str, str], float]] = {}
    for application in deployed.document["applications"]:
        for deployment in application["deployments"]:
            for path, metric in told.items():
                value: Any = deployment
                for key in path:
                    value = value.get(key) if value is not None else None
                if value is not None:
                    wanted.setdefault(metric, {})[application["name"], deployment["name"]] = value
    assert wanted.keys() == set(told.values()), "the file says something of each"
    assert sum(map(len, wanted.values())) > 40

    def wrong() -> list[str]:
        found = {metric: figures(prometheus, metric) for metric in wanted}
        return [
            f"{metric} of {key}: {found[metric].get(key)} instead of {value}"
            for metric, values in wanted.items()
            for key, value in values.items()
            if found[metric].get(key) != value
        ]

    wait_for(lambda: not wrong(), 60, lambda: "\n".join(wrong()))
    assert wanted["max_ongoing_requests"]["narrow", "Narrow"] == 6, "that of the second deploy"


def test_replicas_are_told_by_the_market_of_their_node(deployed: Deployed, prometheus: Prometheus):
    """The head was started with RAY_NODE_MARKET_TYPE=spot."""

    def told() -> list[tuple[str, str]]:
        found = prometheus.query('servescope_deployment_market_replicas{application="narrow"}')
        return [(one["metric"]["market_type"], one["value"][1]) for one in found]

    wait_for(lambda: told() == [("spot", "1")], 60, lambda: f"{told()}")


def test_promtool_accepts_what_the_exporter_serves(stack: Stack, deployed: Deployed):
    response = httpx.get(f"http://127.0.0.1:{stack.run.ports.exporter}/metrics")
    result = promtool.run("check", "metrics", stdin=response.text)
    assert (result.returncode, result.stdout + result.stderr) == (0, "")
    assert 'servescope_deployment_config_info{application="narrow"' in response.text


@contextmanager
def held_requests(url: str, count: int) -> Iterator[None]:
    """So many requests at once that stay until the end of the block; then the client goes away."""

    async def hold() -> None:
        async with httpx.AsyncClient(timeout=180, trust_env=False) as client:
            asks = [asyncio.create_task(client.get(url)) for _ in range(count)]
            while not over.is_set():
                await asyncio.sleep(0.1)
            for ask in asks:
                ask.cancel()
            await asyncio.gather(*asks, return_exceptions=True)

    over = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(hold()), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(30)


def test_a_scale_to_the_ceiling_shows_as_capped_within_30_seconds(
    stack: Stack, deployed: Deployed, prometheus: Prometheus
):
    run = stack.run
    (board,) = [b for b in all_dashboards(SETTINGS) if b.uid == "servescope-capacity"]
    (panel,) = [p for p in panels_of(board.to_json()) if p["title"] == "Autoscaling state"]

    def why() -> int | None:
        """The panel's own answer, as of now."""
        window = Window.last(300)
        scope = Interpolation(
            select_variables(board.to_json(), prometheus, window, chosen={"application": ["narrow"]}, every=True),
            window.macros(),
        )
        # What is not at rest has a target of its own.
        found = [one for target in panel["targets"] for one in prometheus.query(scope.promql(target["expr"]))]
        return int(found[0]["value"][1]) if found else None

    def target() -> int:
        told = serve_applications(run)["narrow"]["deployments"]["Narrow"]["target_num_replicas"]
        return int(told)

    wait_for(lambda: why() == capacity.STEADY, 60, lambda: f"before the load it says {why()}")
    with held_requests(f"{run.serve_url}/narrow?seconds=100", 6):
        wait_for(lambda: target() == 2, 60, lambda: f"the target is {target()}", pause_s=0.5)
        wait_for(lambda: why() == capacity.CAPPED, 30, lambda: f"it says {why()}", pause_s=0.5)


@pytest.mark.parametrize("step_s", [15, 60])
def test_a_redeploy_makes_exactly_one_mark(deployed: Deployed, prometheus: Prometheus, step_s: int):
    """Every dashboard's own annotation query over the deploy: one point, for the application that changed."""
    expressions = {
        annotation["expr"]
        for board in all_dashboards(SETTINGS)
        for annotation in board.to_json()["annotations"]["list"]
        if annotation.get("name") == "Deploys"
    }
    # Some dashboards show the marks of what they show, the others all.
    chosen = dict.fromkeys(("cluster", "application", "deployment"), ".*")
    scope = Interpolation({}, {**chosen, "__interval": f"{step_s}s"})
    # The exporter asks every 5 s and is scraped every 15 s, and then a whole step has to pass.
    seen_by = deployed.changed_at + 5 + 15 + 2 * step_s
    wait_for(lambda: time.time() > seen_by, 200, lambda: "the clock stands still")
    window = Window(deployed.changed_at - 10, time.time(), step_s=step_s)
    for expression in map(scope.promql, sorted(expressions)):
        found = prometheus.query_range(expression, start=window.start, end=window.end, step_s=window.step_s)
        marks = [(s["metric"]["application"], float(t)) for s in found for t, _ in s["values"]]
        assert [application for application, _ in marks] == ["narrow"], expression
        assert deployed.changed_at <= marks[0][1] <= seen_by


def test_the_table_of_changes_knows_when(deployed: Deployed, prometheus: Prometheus):
    (board,) = [b for b in all_dashboards(SETTINGS) if b.uid == "servescope-deployment"]
    (panel,) = [p for p in panels_of(board.to_json()) if p["title"] == "Last change, before and after"]
    window = Window.last(900)
    chosen = {"application": ["narrow"], "deployment": ["Narrow"]}
    scope = Interpolation(
        select_variables(board.to_json(), prometheus, window, chosen=chosen, every=True), window.macros()
    )
    (row,) = prometheus.query(scope.promql(panel["targets"][0]["expr"]))
    changed_at = float(row["value"][1]) / 1000
    assert deployed.changed_at <= changed_at <= deployed.changed_at + 5 + 15 + 2 * window.step_s


def test_a_replica_without_a_place_is_told_from_one_that_is_slow(
    stack: Stack, deployed: Deployed, prometheus: Prometheus
):
    """Both are STARTING; only the one that no node takes counts as unplaced."""
    run = stack.run
    before = run.directory / "limits.yaml"
    document = {**deployed.document, "applications": [*deployed.document["applications"], WAITING]}
    file = run.directory / "waiting.yaml"
    file.write_text(yaml.safe_dump(document))

    def starting(metric: str) -> dict[str, float]:
        found = figures(prometheus, metric)
        return {deployment: value for (application, deployment), value in found.items() if application == "waiting"}

    command = [f"{run.ray}/serve", "deploy", "-a", run.dashboard_url, str(file)]
    subprocess.run(command, check=True, capture_output=True, env={"PATH": "/usr/bin:/bin", **run.ray_env})
    try:
        wait_for(
            lambda: starting('replicas{state="STARTING"}') == {"Nowhere": 1, "Slow": 1},
            90,
            lambda: f"starting: {starting('replicas')}",
        )
        wait_for(
            lambda: starting("unplaced_replicas") == {"Nowhere": 1, "Slow": 0},
            60,
            lambda: f"unplaced: {starting('unplaced_replicas')}",
        )
        assert starting('replicas{state="STARTING"}') == {"Nowhere": 1, "Slow": 1}, "the constructor has not ended"
    finally:
        deploy(run, before)
        file.unlink()
