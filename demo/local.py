"""`make demo`: Ray Serve under load with its monitoring, as local processes, until Ctrl-C.

DURATION=120 stops after that many seconds, with exit code 0 only if all stayed healthy and every dashboard has data.
PORT_BASE=20000 moves every port, DEMO_DIR the logs and the time series. Where the Collector is not built yet, that
happens beside the running demo, and what runs the Collector joins when it is there.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import FrameType

from rich.console import Console
from rich.table import Table

from demo import ROOT
from demo.deploy import scraped
from demo.smoke.backends import Addresses
from demo.smoke.runner import Result, report_results, run_checks
from demo.stack import environment, logs, serve_config
from demo.stack.component import Component, find
from demo.stack.components.alertmanager import alertmanager
from demo.stack.components.applications import applications
from demo.stack.components.blackbox import blackbox
from demo.stack.components.collector import collector, trace_files
from demo.stack.components.collector_build import BUILT, TO_BUILD, collector_build, progress_of, state
from demo.stack.components.exporter import exporter
from demo.stack.components.load import LOAD_RESULT, load
from demo.stack.components.log_collector import log_collector
from demo.stack.components.loki import loki, loki_url
from demo.stack.components.preview import preview
from demo.stack.components.prometheus import prometheus
from demo.stack.components.ray import ray
from demo.stack.joining import Joining
from demo.stack.ports import LOOPBACK
from demo.stack.run import Run
from demo.stack.supervisor import Stack
from servescope import promql
from servescope.clients.prometheus import Prometheus
from servescope.errors import ServescopeError
from servescope.promql import Scope
from servescope.promql.signals import QUEUED, REPLICAS, REQUEST_LATENCY, REQUESTS, Reader
from servescope.report.check import DashboardCheck, check_dashboards
from servescope.settings import Settings

SETTINGS = Settings()
SMOKE_WITHIN_S = 60  # at the end of a run everything has had time
out = Console(highlight=False, soft_wrap=True)


def prometheus_after_ray(run: Run) -> Component:
    """Prometheus, which has scraped Ray before anything is deployed, so that the first starts are seen."""
    return replace(prometheus(run), ready=lambda: scraped(run.prometheus_url), timeout_s=120)


# What `make demo` runs, in this order; a component is one small function.
COMPONENTS: tuple[Callable[[Run], Component], ...] = (
    ray,
    prometheus_after_ray,
    alertmanager,
    exporter,
    blackbox,
    applications,
    load,
    preview,
)


@dataclass(frozen=True, kw_only=True)
class Figures:
    """The figures of the live line: per second, share 0 to 1, milliseconds, requests, replicas; NaN without data."""

    requests: float
    error_ratio: float
    p95_ms: float
    waiting: float
    replicas: float


def figures(client: Prometheus) -> Figures:
    """Read the live line from Prometheus, with the expressions of the dashboards."""
    r = Reader(SETTINGS, Scope(SETTINGS.cluster_label, {"application": '=~".+"'}), window=SETTINGS.rate_window)
    errors = r.read(REQUESTS, (), status_code=f'=~"{promql.ERROR_CODES}"')

    def now(expression: str) -> float:
        found = client.query(expression)
        return float(found[0]["value"][1]) if found else math.nan

    return Figures(
        requests=now(r.read(REQUESTS)),
        error_ratio=now(promql.ratio(errors, r.read(REQUESTS))),
        p95_ms=now(r.quantile(0.95, REQUEST_LATENCY)),
        waiting=now(r.read(QUEUED)),
        replicas=now(r.read(REPLICAS)),
    )


def parts_of(building: bool) -> tuple[list[Callable[[Run], Component]], list[Callable[[Run], Component]]]:
    """What runs from the start, and what joins when the Collector is built; nothing of the latter without a build."""
    agents = logs.components(building)
    if not building:
        return [*((collector,) if find("otelcol") else ()), *agents, *COMPONENTS], []
    later: list[Callable[[Run], Component]] = [
        factory for factory in (collector, *agents) if factory in (collector, log_collector)
    ]
    return [collector_build, *(factory for factory in agents if factory not in later), *COMPONENTS], later


def smoke_addresses(run: Run, left_out: Sequence[str] = ()) -> Addresses:
    """Where the checks of `make smoke` find the components that run here; `left_out` names those that did not join."""
    jobs = [
        *(("traces", "collector") if "collector" in left_out else ()),
        *((job["job_name"] for job in run.extra_scrapes) if "log-collector" in left_out else ()),
    ]
    return Addresses(
        jobs_left_out=jobs,
        serve=run.serve_url,
        ray=run.dashboard_url,
        prometheus=run.prometheus_url,
        alertmanager=f"http://{LOOPBACK}:{run.ports.alertmanager}",
        exporter=True,
        blackbox=True,
        load=True,
        loki=loki_url(run) if loki in logs.components() and "log-collector" not in left_out else None,
        trace_files=trace_files(run) if run.traces and "collector" not in left_out else None,
    )


def load_failures(run: Run) -> list[str]:
    """The unexpected results of the finished load: a wrong reading, a timeout, another status."""
    try:
        result = json.loads((run.directory / LOAD_RESULT).read_text())
    except (OSError, ValueError):
        return ["the load wrote no result: see logs/load.log"]
    failed = sum(result["failures"].values())
    out.print(f"The load sent {result['requests']} requests; {failed} had an unexpected result")
    return [f"load: {count} times {failure}" for failure, count in result["failures"].items()]


def print_where(run: Run, components: list[Component]) -> None:
    """The table of components and their URLs."""
    table = Table("what", "where", title="Running", title_justify="left")
    for component in components:
        table.add_row(component.name, component.address)
    out.print(table)
    out.print(
        f"Logs of the components: {run.directory / 'logs'}; Ray's own logs: {run.temp_dir / 'session_latest/logs'}"
    )
    out.print(
        "All components listen on loopback, except Ray's GCS, raylet and metrics ports, which Ray always binds to all "
        "interfaces."
    )
    out.print(f"Prometheus rules: {run.prometheus_url}/rules; dashboards to import: {ROOT / 'dashboards'}")
    out.print(f"Dashboards without Grafana: http://{LOOPBACK}:{run.ports.preview}/")


def print_checks(checks: list[DashboardCheck]) -> None:
    """How many panels of each dashboard have data, and why the others lack it."""
    table = Table(
        "dashboard", "panels with data", "needs what this machine lacks", title="Dashboards", title_justify="left"
    )
    for check in checks:
        needs = ", ".join(sorted({reason for _, reason in check.excused}))
        table.add_row(check.title, f"{check.with_data} of {check.panels}", needs)
    out.print(table)
    for check in checks:
        for title in check.missing:
            out.print(f"no data: {check.title} / {title}")


def main() -> int:
    """Run until Ctrl-C or for DURATION seconds; returns the exit code, 0 if everything stayed healthy."""
    duration = _duration()
    # SIGINT too: a shell starts background processes with it ignored.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    started = time.monotonic()
    directory = environment.directory_from_environment("demo")
    collector_state = state()
    building = collector_state == TO_BUILD
    parts, later = parts_of(building)
    run = Run(
        directory=directory,
        ports=environment.ports_from_environment(),
        serve_config=serve_config.path_from_environment(),
        probes=True,
        traces=collector in (*parts, *later),  # Serve's exporter tries again until one that joins is there
    )
    run = replace(run, extra_scrapes=logs.scrape_jobs(run, building))

    def announce(line: str) -> None:
        text = f"[{time.monotonic() - started:4.0f} s] {line}"
        out.print(f"\r{text:<90}" if out.is_terminal else text)  # over the live line

    def started_one(line: str) -> None:
        announce(line)
        joining.poll_progress()

    stack = Stack(run, parts, started_one)
    joining = Joining(
        stack,
        later,
        job="collector-build",
        progress=lambda: progress_of(run),
        made=lambda: state() == BUILT,
        say=announce,
    )
    complaints: list[str] = []
    checks: list[DashboardCheck] = []
    found: list[Result] = []
    running = None
    try:
        with stack as running:
            print_where(run, running.components)
            for line in left_out(run, joining, collector_state):
                out.print(line)
            try:
                complaints = _watch(running, joining, started=started, duration=duration)
            except KeyboardInterrupt:
                out.print()
            try:
                if duration is not None and not complaints:
                    found = run_checks(smoke_addresses(run, joining.missing), SMOKE_WITHIN_S)
                checks = check_dashboards(run.prometheus_url, SETTINGS)
            except ServescopeError as error:
                complaints = complaints or [str(error)]  # the component that exited is the cause
            out.print("stopping")
    except KeyboardInterrupt:
        out.print("\nstopped")
        return 130
    complaints += report_results(found, out) if found else []
    if checks:
        print_checks(checks)
    if joining.failure:
        complaints.append(joining.failure)
    elif joining.left_out:
        out.print(f"{joining.left_out}; the next `make demo` goes on with it")
    if duration is not None:
        complaints += load_failures(run)
        complaints += [f"{check.title}: no data in {', '.join(check.missing)}" for check in checks if check.missing]
    for complaint in complaints:
        print(f"demo: {complaint}", file=sys.stderr)
    return 1 if complaints else 0


def left_out(run: Run, joining: Joining, collector_state: str) -> list[str]:
    """What this run lacks, a line for each."""
    if joining.missing:
        lacking = "traces" if joining.missing == ["collector"] else "traces and no logs"
        return [
            f"no {lacking} yet: the Collector is built in the background, at the lowest priority, and joins when it is "
            "there",
            *filter(None, [logs.missing(building=True)]),
        ]
    without = [] if run.traces else [f"no traces: {collector_state}"]
    return [*without, *filter(None, [logs.missing()])]


def _duration() -> float | None:
    text = os.environ.get("DURATION", "")
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 < seconds < math.inf:
        raise ServescopeError(f"DURATION: expected seconds, got {text!r}")
    return seconds


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _watch(running: Stack, joining: Joining, *, started: float, duration: float | None) -> list[str]:
    """Print the live line until the time is up or a component exits; returns the errors."""
    run = running.run
    begun = time.monotonic()
    complete = threading.Event()

    def await_data() -> None:
        while not complete.wait(5):
            try:
                checks = check_dashboards(run.prometheus_url, SETTINGS)
            except ServescopeError:
                continue  # the live line shows it
            if not any(check.missing for check in checks):
                out.print(f"\n[{time.monotonic() - started:4.0f} s] all panels have data")
                return

    waiter = threading.Thread(target=await_data, daemon=True)
    waiter.start()
    try:
        with Prometheus(run.prometheus_url) as client:
            while duration is None or time.monotonic() - begun < duration:
                dead = running.dead()
                if dead:
                    return dead
                joining.poll()
                _print_line(figures(client))
                time.sleep(2 if out.is_terminal else 10)
    except ServescopeError as error:
        return [str(error)]
    finally:
        complete.set()
        waiter.join(30)
        out.print()
    return []


def _print_line(now: Figures) -> None:
    def shown(value: float, form: str) -> str:
        return "-" if math.isnan(value) else format(value, form)

    line = (
        f"{shown(now.requests, '.1f')} requests/s   {shown(now.error_ratio, '.1%')} errors   p95 "
        f"{shown(now.p95_ms, '.0f')} ms   {shown(now.waiting, '.0f')} waiting   {shown(now.replicas, '.0f')} replicas"
    )
    out.print(f"\r{line:<90}" if out.is_terminal else line, end="" if out.is_terminal else "\n")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ServescopeError as error:
        print(f"demo: {error}", file=sys.stderr)
        sys.exit(1)
