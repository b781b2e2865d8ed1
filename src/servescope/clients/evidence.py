"""Traces and log lines for the snapshot: the slowest and the failing traces, and the lines around the first alert.

Everything read here comes from the watched programs and is hostile text to a page: it is kept plain, and escaped there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from servescope.clients import traces
from servescope.errors import ServescopeError

MOST_TRACES = 20
MOST_LINES = 400
TIMEOUT_S = 15.0


@dataclass(frozen=True, kw_only=True)
class TraceSummary:
    """One trace: when it began (unix ns), how long it took (ms), and whether a span of it failed."""

    trace_id: str
    service: str
    name: str
    start_ns: int
    ms: float
    failed: bool


@dataclass(frozen=True)
class Traces:
    """The slowest and the failing traces of a window."""

    source: str
    slowest: list[TraceSummary]
    failing: list[TraceSummary]


@dataclass(frozen=True, kw_only=True)
class Line:
    """One log record: when (unix ms), from where, its level, and its text (several lines for a traceback)."""

    at: int
    source: str
    level: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Logs:
    """The lines around a moment (unix ms); `left_out` counts those that did not fit."""

    source: str
    around: int
    lines: list[Line]
    left_out: int


# (window start, window end) in unix seconds to the traces of that time, in any order.
TraceReader = Callable[[float, float], list[TraceSummary]]


def read_traces(source: str, reader: TraceReader, start: float, *, end: float) -> Traces:
    """The slowest and the failing traces that a reader finds."""
    found = reader(start, end)
    return Traces(source, traces.slowest(found, MOST_TRACES), traces.failed(found)[:MOST_TRACES])


def trace_files(folder: Path) -> TraceReader:
    """A reader of the trace files that the Collector writes, where there is no Tempo.

    The reader raises ServescopeError when there are none.
    """

    def read(start: float, end: float) -> list[TraceSummary]:
        result = []
        for trace in traces.read(folder).values():
            if start <= trace.start_ns / 1e9 <= end:
                root = trace.roots[0]
                result.append(
                    TraceSummary(
                        trace_id=trace.trace_id,
                        service=root.service,
                        name=root.name,
                        start_ns=trace.start_ns,
                        ms=trace.ms,
                        failed=trace.failed,
                    )
                )
        return result

    return read


def tempo(url: str) -> TraceReader:
    """A reader of Tempo's search API (TraceQL).

    The reader raises ServescopeError when Tempo cannot be reached, refuses the search, or something else answers.
    """

    def read(start: float, end: float) -> list[TraceSummary]:
        found: dict[str, TraceSummary] = {}
        # Tempo gives any traces that match, not the slowest: ask from slow to fast until there are enough.
        for query in ("{ status = error }", *(f"{{ duration > {s} }}" for s in ("10s", "1s", "100ms")), "{}"):
            slow_enough = sum(not trace.failed for trace in found.values())
            if slow_enough >= MOST_TRACES:
                break
            for trace in _search(url, query, start=start, end=end):
                found.setdefault(trace.trace_id, trace)
        return list(found.values())

    return read


def _search(url: str, query: str, *, start: float, end: float) -> list[TraceSummary]:
    parameters = {"q": query, "start": f"{start:.0f}", "end": f"{end:.0f}", "limit": "100"}
    body = _get("Tempo", url, "/api/search", parameters=parameters)
    found: list[TraceSummary] = []
    with _read_as("Tempo", url):
        found = [
            TraceSummary(
                trace_id=str(item["traceID"]),
                service=str(item.get("rootServiceName", "")),
                name=str(item.get("rootTraceName", "")),
                start_ns=int(item["startTimeUnixNano"]),
                ms=float(item.get("durationMs", 0)),
                failed="error" in query,
            )
            for item in body.get("traces") or []
        ]
    return found


def loki(url: str, query: str, *, at: float, seconds: float) -> Logs:
    """The lines that Loki holds around a moment (unix seconds), errors first where they do not all fit.

    Raises:
        ServescopeError: Loki cannot be reached, refuses the query, or something else answers.
    """
    parameters = {
        "query": query,
        "start": f"{(at - seconds) * 1e9:.0f}",
        "end": f"{(at + seconds) * 1e9:.0f}",
        "limit": "5000",
        "direction": "forward",
    }
    body = _get("Loki", url, "/loki/api/v1/query_range", parameters=parameters)
    lines = []
    with _read_as("Loki", url):
        for stream in body["data"]["result"]:
            labels = stream["stream"]
            source = "/".join(labels[name] for name in ("application", "deployment") if labels.get(name))
            for entry in stream["values"]:
                origin = source or labels.get("component", "")
                lines.append(
                    Line(
                        at=int(entry[0]) // 1_000_000, source=origin, level=labels.get("level", ""), text=str(entry[1])
                    )
                )
    return _kept(url, at, lines)


@contextmanager
def _read_as(program: str, url: str) -> Iterator[None]:
    """What another server answers has other fields: one line says so."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ServescopeError(f"{url}: answers, but not as {program} does ({type(error).__name__}: {error})") from error


_HEADER = re.compile(
    r"^(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL) (?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) "
    r"(?P<component>\S+) \S+ (?:[0-9a-f-]{36} | )?-- (?P<message>.*)$"
)


def ray_logs(folder: Path, at: float, seconds: float) -> Logs:
    """The lines of Serve's own log files around a moment (unix seconds): a session's `logs/serve` folder.

    Ray writes local time without a zone in text logs, so the report must be made where the clock has the same zone.

    Raises:
        ServescopeError: there is no such folder, or no log file in it.
    """
    paths = sorted(path for path in folder.glob("*.log*") if path.is_file()) if folder.is_dir() else []
    if not paths:
        raise ServescopeError(
            f"{folder}: no log files there; name a session's folder, /tmp/ray/session_latest/logs/serve"
        )
    lines: list[Line] = []
    for path in paths:
        try:
            # A file that was last written before the moment holds nothing of it.
            if path.stat().st_mtime >= at - seconds:
                lines += [line for line in _records(path) if abs(line.at / 1000 - at) <= seconds]
        except OSError as error:
            raise ServescopeError(f"{path}: cannot read ({error.strerror})") from error
    return _kept(str(folder), at, lines)


def _records(path: Path) -> list[Line]:
    records: list[Line] = []
    with path.open(encoding="utf-8", errors="replace") as file:
        for text in file:
            text = text.rstrip("\n")
            record = _json_line(text) if text.startswith("{") else _text_record(text)
            if record:
                records.append(record)
            elif records:  # a traceback goes on
                before = records[-1]
                records[-1] = Line(
                    at=before.at, source=before.source, level=before.level, text=f"{before.text}\n{text}"
                )
    return records


def _text_record(text: str) -> Line | None:
    match = _HEADER.match(text)
    if match is None:
        return None
    at = traces.wall_clock_ns(match["time"]) // 1_000_000
    return Line(at=at, source=match["component"], level=match["level"], text=match["message"])


def _json_line(text: str) -> Line | None:
    record = traces.log_record(text)
    line = traces.line_of(record) if record else None
    if line is None or not line.time_ns:
        return None
    return Line(at=line.time_ns // 1_000_000, source=line.component, level=line.level, text=line.message)


def _kept(source: str, at: float, lines: list[Line]) -> Logs:
    """The lines nearest to the moment, warnings and errors before others, in the order of time."""

    def rank(line: Line) -> tuple[bool, float]:
        return line.level.upper() not in ("WARNING", "WARN", "ERROR", "CRITICAL"), abs(line.at - at * 1000)

    kept = sorted(sorted(lines, key=rank)[:MOST_LINES], key=lambda line: line.at)
    return Logs(source=source, around=round(at * 1000), lines=kept, left_out=len(lines) - len(kept))


def _get(program: str, url: str, path: str, *, parameters: dict[str, str]) -> Any:
    try:
        response = httpx.get(f"{url.rstrip('/')}{path}", params=parameters, timeout=TIMEOUT_S)
    except httpx.HTTPError as error:
        raise ServescopeError(f"{url}: {program} does not answer ({error or type(error).__name__})") from error
    try:
        if response.is_success:
            return response.json()
    except ValueError:
        pass
    reason = " ".join(response.text.split())[:200]
    raise ServescopeError(f"{url}: {program} refuses the query ({response.status_code}): {reason}")
