"""The exporter while the head dies. It needs a Ray of its own, which ends before the shared one starts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from demo.stack.components.applications import applications
from demo.stack.components.exporter import exporter
from demo.stack.components.ray import ray
from demo.stack.ports import Ports
from demo.stack.run import Run
from demo.stack.supervisor import Stack
from tests.live.versions import ray_folder
from tests.support.waiting import wait_for

CONFIG = """
proxy_location: HeadOnly
applications:
  - name: narrow
    route_prefix: /
    import_path: tests.live.limits_app:narrow
    deployments:
      - {name: Narrow, num_replicas: 1, max_ongoing_requests: 5, ray_actor_options: {num_cpus: 0.1}}
"""


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Stack]:
    """A head with one small application, and the exporter."""
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG)
    run = Run(directory=tmp_path, ports=Ports.from_base(22000), serve_config=config, ray=ray_folder())
    with Stack(run, [ray, exporter, applications], print) as started:
        yield started


def scrape(run: Run) -> tuple[dict[str, float], dict[str, float]]:
    """What the exporter serves: its own figures, and those of Serve's state by name and labels."""
    text = httpx.get(f"http://127.0.0.1:{run.ports.exporter}/metrics", timeout=5).raise_for_status().text
    own: dict[str, float] = {}
    state: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.startswith("servescope_exporter_"):
                name = sample.name.removeprefix("servescope_exporter_")
                own[name] = own.get(name, 0) + sample.value  # failures of every reason
            else:
                state[f"{sample.name}{sorted(sample.labels.items())}"] = sample.value
    return own, state


def test_a_dead_head_leaves_no_gap_and_shows_the_age(alone: Stack):
    run = alone.run
    children = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    (head,) = [child for child in children if f"--port={run.ports.gcs}" in child.cmdline()]
    running = "servescope_application_status[('application', 'narrow'), ('status', 'RUNNING')]"
    wait_for(lambda: running in scrape(run)[1], 60, lambda: str(scrape(run)), pause_s=0.5)
    for process in [head, *head.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):  # some end with the ones before them
            process.kill()

    ages: list[float] = []
    states: list[dict[str, float]] = []

    def looked_on_long_enough() -> bool:
        own, state = scrape(run)  # a scrape that fails, or takes longer than 5 s, fails the test
        assert running in state, "the last good data, every time"
        if own["up"] == 0:
            ages.append(own["data_age_seconds"])
            states.append(state)
        return bool(ages) and ages[-1] > 15

    wait_for(looked_on_long_enough, 60, lambda: f"ages {ages}", pause_s=0.5)
    assert len(ages) > 10
    assert ages == sorted(ages), "the age grows and never falls"
    assert all(state == states[0] for state in states)
    assert scrape(run)[0]["fetch_failures_total"] >= 2
