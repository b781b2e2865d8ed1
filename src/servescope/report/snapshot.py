"""`servescope snapshot`: its options, and the file that it writes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from servescope import __version__
from servescope.clients import log_lines, loki, otlp_files, tempo
from servescope.clients.access import PUBLIC, Access, redacted_url
from servescope.clients.http import Unavailable
from servescope.clients.prometheus import Prometheus
from servescope.clients.ray_lua import Redaction
from servescope.clients.shared import SharedAnswers
from servescope.errors import ServescopeError
from servescope.files import write_all
from servescope.grafana.templating import parse_time
from servescope.report import evidence
from servescope.report.collect import TIMEOUT_S, collect, load_dashboards, window_of
from servescope.report.collected import Collected
from servescope.report.model import Logs, Report, Traces
from servescope.report.page import render
from servescope.report.queries import Choices, Window
from servescope.report.waterfall import waterfall
from servescope.settings import Settings

LOGS_AROUND_S = 120
MOST_WATERFALLS = 10
KEPT_S = 600.0  # how long what was read of a file is good for the same report


@dataclass(frozen=True, kw_only=True)
class SnapshotRequest:
    """The options as text; see `servescope snapshot --help`."""

    prometheus: str
    start: str
    end: str
    dashboards: Sequence[str]
    folder: Path | None
    chosen: Choices
    title: str
    tempo: str | None
    traces: Path | None
    loki: str | None
    loki_query: str
    logs: Path | None
    logs_around: str | None
    access: Access = PUBLIC
    timeout_s: float = TIMEOUT_S


def read_choices(texts: Sequence[str]) -> dict[str, list[str]]:
    """`name=value` texts as the values of each variable.

    Raises:
        ServescopeError: a text has no name or no `=`.
    """
    chosen: dict[str, list[str]] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise ServescopeError(f"--var: expected name=value, such as application=main, got {text!r}")
        chosen.setdefault(name, []).append(value)
    return chosen


@dataclass(frozen=True)
class SnapshotResult:
    """The result: bytes, seconds, and what is missing from the page, a line each."""

    size: int
    seconds: float
    problems: list[str]


def write(request: SnapshotRequest, settings: Settings, output: Path, *, console: Console) -> SnapshotResult:
    """Make the report and write it. What cannot be had is left out: the page says so, and so does the answer.

    Raises:
        ServescopeError: a bad time or variable, a file that cannot be written, or a Prometheus without any answer where
            there are neither traces nor logs to write.
    """
    begun = time.monotonic()
    now = time.time()
    start = parse_time(request.start, now, what="--from")
    end = parse_time(request.end, now, end=True, what="--to")
    around = parse_time(request.logs_around, now, what="--logs-around") if request.logs_around else None
    window = window_of(start, end, scrape_interval_s=settings.scrape_interval_s)
    boards = load_dashboards(settings, request.folder, request.dashboards)
    columns = (TextColumn("{task.fields[what]}", style="dim"), BarColumn(), MofNCompleteColumn())
    for url in (request.tempo, request.loki):
        if url:
            redacted_url(url)  # a bad address is found before anything is asked
    with (
        Prometheus(request.prometheus, access=request.access) as prometheus,
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar,
    ):
        task = bar.add_task("panels", total=None, what="querying Prometheus")

        def progress(done: int, total: int, what: str) -> None:
            bar.update(task, completed=done, total=total, what=what[:50].ljust(50))

        unavailable = None
        try:
            report = collect(
                prometheus,
                boards,
                window,
                settings=settings,
                chosen=request.chosen,
                progress=progress,
                timeout_s=request.timeout_s,
                evidence=_evidence(request),
            )
        except Unavailable as error:
            unavailable = error
            report = _without_figures(window, prometheus.url, str(error))
        bar.update(task, what="traces and logs")
        with _or_a_problem(report):
            report.traces = _traces(request, window, report)
            _draw_traces(request, report)
        with _or_a_problem(report):
            report.logs = _logs(request, _moment(report) if around is None else around)
        if unavailable is not None and report.traces is None and report.logs is None:
            raise unavailable
        bar.update(task, what="writing")
        page = render(report, request.title)
    write_all({output: page})
    return SnapshotResult(len(page.encode()), time.monotonic() - begun, report.problems)


def _without_figures(window: Window, source: str, reason: str) -> Report:
    """The report where the store of figures does not answer: traces and logs may show what happened."""
    return Report(
        window=window,
        created=time.time(),
        source=source,
        boards=[],
        alerts=[],
        alerts_known=False,
        versions={"servescope": __version__},
        problems=[f"missing: dashboards and alerts: {reason}"],
    )


@contextmanager
def _or_a_problem(report: Report) -> Iterator[None]:
    """A second server that failed in the incident must not cost the metrics."""
    try:
        yield
    except ServescopeError as error:
        report.problems.append(str(error))


def _traces(request: SnapshotRequest, window: Window, report: Report) -> Traces | None:
    if request.tempo:
        found = tempo.search(
            request.tempo, window.start, window.end, enough=evidence.MOST_TRACES, access=request.access
        )
        return evidence.slowest_and_failing(redacted_url(request.tempo), found)
    if request.traces:
        found = otlp_files.summaries(request.traces, window.start, window.end, report=report.problems.append)
        return evidence.slowest_and_failing(str(request.traces), found)
    return None


def _evidence(request: SnapshotRequest) -> Collected:
    """What the rows of logs and traces are drawn from: the folders, redacted."""
    if request.logs is None and request.traces is None:
        return Collected()
    answers = SharedAnswers(at_once=1, kept_s=KEPT_S)
    return Collected(logs=request.logs, traces=request.traces, shared=answers.get, redaction=Redaction())


def _draw_traces(request: SnapshotRequest, report: Report) -> None:
    """Adds the waterfalls of the traces around the first alert, failed ones first, with their lines."""
    if report.traces is None or request.traces is None:
        return
    evidence = _evidence(request)
    at = _moment(report)
    near = evidence.traces_between(at - LOGS_AROUND_S, at + LOGS_AROUND_S)
    chosen = sorted(near, key=lambda trace: (not trace.failed, -trace.ms))[:MOST_WATERFALLS]
    report.traces = replace(report.traces, waterfalls=[waterfall(trace, evidence.lines_of(trace)) for trace in chosen])


def _moment(report: Report) -> float:
    """When the first alert fired, in unix seconds; without an alert the end of the time range."""
    fired = [alert.firing_from for alert in report.alerts if alert.firing_from is not None]
    return min(fired) / 1000 if fired else report.window.end


def _logs(request: SnapshotRequest, at: float) -> Logs | None:
    if request.loki:
        records = loki.records_around(
            request.loki, request.loki_query, at=at, seconds=LOGS_AROUND_S, access=request.access
        )
        source = redacted_url(request.loki)
    elif request.logs:
        records = log_lines.read(request.logs, at - LOGS_AROUND_S, at + LOGS_AROUND_S)
        source = str(request.logs)
    else:
        return None
    # The page may go to people who do not see the store.
    redaction = Redaction()
    found = evidence.nearest(source, records, at)
    return replace(found, lines=[redaction.record(record) for record in found.lines])
    return None
