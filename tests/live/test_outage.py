"""The Collector is away for a minute while Serve works: no request notices, and no span is lost that fits the queues.

The effect of an outage on latency is in docs/benchmarks.md (`make bench BENCHES=tracing`).
"""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from demo.stack import component
from demo.stack.components.applications import applications
from demo.stack.components.ray import ray
from demo.stack.ports import Ports
from demo.stack.run import Run
from demo.stack.supervisor import Stack
from tests.live.collector import Collector
from tests.live.versions import ray_folder
from tests.support.waiting import wait_for

pytestmark = pytest.mark.skipif(
    component.find("otelcol") is None, reason="no Collector: make tools builds it where Go 1.21 is installed"
)

PORTS = Ports.from_base(23000)
OUTAGE_S = 60
# A request makes 8 spans, at most 3 of them in one process, whose queue holds 2048: 480 requests in a minute fit.
RATE = 8
SPANS = 8
LONGEST_S = 10


class Asked(NamedTuple):
    """A request; `began` is on the machine's monotonic clock, `said` its status or what went wrong."""

    trace_id: str
    began: float
    took_s: float
    said: int | str


class SteadyLoad:
    """Requests at a steady rate from a thread, each with a trace id of its own, for as long as a `with` block lasts."""

    def __init__(self, url: str) -> None:
        self.asked: list[Asked] = []
        self._url = url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        with httpx.Client(timeout=30, trust_env=False) as http, ThreadPoolExecutor(32) as pool:
            while not self._stop.wait(1 / RATE):
                pool.submit(self._ask, http)

    def _ask(self, http: httpx.Client) -> None:
        trace_id, span_id = os.urandom(16).hex(), os.urandom(8).hex()
        began = time.monotonic()
        said: int | str
        try:
            headers = {"traceparent": f"00-{trace_id}-{span_id}-01"}
            said = http.get(f"{self._url}/traced/chain/outage", headers=headers).status_code
        except httpx.HTTPError as error:
            said = repr(error)
        self.asked.append(Asked(trace_id, began, time.monotonic() - began, said))

    def since(self, moment: float) -> set[str]:
        """The trace ids of what was asked after a moment."""
        return {request.trace_id for request in list(self.asked) if request.began > moment}

    def __enter__(self) -> SteadyLoad:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return Run(
        directory=tmp_path_factory.mktemp("outage"),
        ports=PORTS,
        serve_config=Path(__file__).parent / "outage_config.yaml",
        ray=ray_folder(),
        traces=True,
    )


@pytest.fixture(scope="module")
def collector(run):
    with Collector(run.directory / "collector", PORTS.otlp_grpc) as started:
        yield started


@pytest.fixture(scope="module")
def serve(run, collector):
    with Stack(run, [ray, applications], print):
        yield run.serve_url


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
def test_a_minute_without_the_collector_costs_no_request_and_no_span(serve, collector, number):
    def whole(wanted):
        found = collector.traces()
        return {i for i in wanted if i in found and len({span.span_id for span in found[i].spans}) == SPANS}

    with SteadyLoad(serve) as load:
        wait_for(
            lambda: bool(whole(load.since(0))), 60, lambda: f"{len(load.asked)} requests, no whole trace", pause_s=1
        )
        stopping = time.monotonic()
        collector.stop(number)
        gone = time.monotonic()
        time.sleep(OUTAGE_S)  # the outage
        collector.start()
        back = time.monotonic()
        wait_for(lambda: len(load.since(back)) >= 2 * RATE, 60, lambda: f"{load.asked[-3:]}", pause_s=0.5)

    assert {request.said for request in load.asked} == {200}
    assert max(request.took_s for request in load.asked) < LONGEST_S
    assert len(load.since(gone) - load.since(back)) > OUTAGE_S * RATE / 2
    # What the Collector had taken but not decided on dies with SIGKILL; SIGTERM lets it finish.
    expected = load.since(gone if number is signal.SIGKILL else 0)
    wait_for(
        lambda: whole(expected) == expected,
        90,
        lambda: f"{len(whole(expected))} of {len(expected)} whole; the Collector was gone for {back - stopping:.0f} s",
        pause_s=3,
    )
