"""The panels of logs and traces without Grafana, from what a Collector has written to files.

Not a query language: the dashboards' rows ask a few questions, and each is recognised by its form. A query of any other
form is left to Grafana, and the panel says so.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from servescope.clients import log_lines, otlp_files
from servescope.clients.model import LogRecord, Trace
from servescope.clients.ray_lua import Redaction
from servescope.errors import ServescopeError
from servescope.grafana.templating import Interpolation
from servescope.json_types import Json
from servescope.report.queries import Series, TargetAnswer, Window

MOST_LINES = 200
MOST_ROWS = 100
MOST_TRACES = 20
MOST_PATTERNS = 25

# What a store of a single Ray does not say: its lines and spans are all of one cluster.
_OF_THE_STORE = ("job", "cluster")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"')
_COUNTED = re.compile(r"sum by \(([\w, ]+)\) \(count_over_time\((.*?) \[[^\]]+\]\)\)", re.DOTALL)
_SLOWER = re.compile(r"\s+or\s+latency_ms\s*>\s*(\d+)")
_PATTERN_STAGE = re.compile(r"\|\s*label_format text=`[^`]*`")
_ON_SPANS = re.compile(r"(resource\.serve\.\w+|kind|status|duration)\s*(=~|=|>)\s*(\"[^\"]*\"|\w+)")
# IDs, addresses and numbers differ from line to line, as in dashboards/rows/logs.py.
_VARYING = (
    (re.compile(r"\n.*", re.DOTALL), ""),
    (re.compile("[0-9a-f]{8}[0-9a-f-]{20,}"), "<id>"),
    (re.compile("0x[0-9a-f]+"), "<address>"),
    (re.compile("[0-9]+([.][0-9]+)*"), "<n>"),
)


class NotHere(ServescopeError):
    """A question that only Grafana's data sources answer."""


@dataclass(frozen=True)
class Matcher:
    """One condition on a field, by LogQL's rules: a missing field is empty, a regular expression is anchored."""

    name: str
    operator: str
    value: str

    def holds(self, fields: Mapping[str, Any]) -> bool:
        """Whether the fields of a line or a span match."""
        found = fields.get(self.name)
        if found is None and self.name in _OF_THE_STORE:
            return True
        text = "" if found is None else str(found)
        same = text == self.value if "~" not in self.operator else bool(re.fullmatch(self.value, text, re.DOTALL))
        return same != self.operator.startswith("!")


@dataclass(frozen=True)
class Question:
    """Which lines; `slower_ms`: lines slower than that count too where the last condition fails."""

    matchers: tuple[Matcher, ...]
    slower_ms: float | None = None

    def of(self, records: Iterable[LogRecord]) -> list[LogRecord]:
        """The records that it asks for."""
        return [record for record in records if self._holds(record.fields)]

    def _holds(self, fields: Mapping[str, Any]) -> bool:
        *most, last = self.matchers
        if not all(matcher.holds(fields) for matcher in most):
            return False
        latency = fields.get("latency_ms")
        slow = self.slower_ms is not None and isinstance(latency, (int, float)) and latency > self.slower_ms
        return slow or last.holds(fields)


def question(expression: str) -> Question:
    """The question of a stream selector and conditions on fields.

    Raises:
        NotHere: it has anything else in it.
    """
    slower = _SLOWER.search(expression)
    rest = _SLOWER.sub("", expression)
    found = tuple(Matcher(name, how, re.sub(r"\\(.)", r"\1", value)) for name, how, value in _MATCHER.findall(rest))
    if not found or _MATCHER.sub("", rest).strip("{}|, \n") or re.search(r"\w", _MATCHER.sub("", rest)):
        raise NotHere("this query of logs")
    try:
        for matcher in found:
            re.compile(matcher.value if "~" in matcher.operator else "")
    except re.error as error:
        raise NotHere(f"this regular expression ({error})") from error
    return Question(found, float(slower[1]) if slower else None)


@dataclass(frozen=True, kw_only=True)
class Collected:
    """The folders that a Collector writes to; None: nobody does. `logs` may be a session of Ray too.

    `redaction` takes out secrets once more, for a page that others get.
    """

    logs: Path | None = None
    traces: Path | None = None
    shared: Callable[[str, Callable[[], Any]], Any] = field(default=lambda key, make: make())
    redaction: Redaction | None = None

    def records(self, start: float, end: float) -> list[LogRecord]:
        """The lines between two times (unix seconds).

        Raises:
            NotHere: there is no folder of logs.
            ServescopeError: it cannot be read.
        """
        logs = self.logs
        if logs is None:
            raise NotHere("log lines: start with --logs FOLDER, of a Collector that writes them (docs/logs.md)")
        found: list[LogRecord] = self.shared(
            f"logs {start} {end}", lambda: self._redacted(log_lines.read(logs, start, end))
        )
        return found

    def _redacted(self, records: list[LogRecord]) -> list[LogRecord]:
        return [self.redaction.record(record) for record in records] if self.redaction else records

    def every_trace(self) -> dict[str, Trace]:
        """All traces, by ID.

        Raises:
            NotHere: there is no folder of traces.
            ServescopeError: it cannot be read.
        """
        traces = self.traces
        if traces is None:
            raise NotHere("traces: start with --traces FOLDER, of a Collector that writes them (docs/tracing.md)")
        found: dict[str, Trace] = self.shared("traces", lambda: otlp_files.read_traces(traces))
        return found

    def traces_between(self, start: float, end: float) -> list[Trace]:
        """The traces that began between two times (unix seconds), newest first."""
        found = [trace for trace in self.every_trace().values() if start <= trace.start_ns / 1e9 <= end]
        if self.redaction:
            found = [self.redaction.trace(trace) for trace in found]
        return sorted(found, key=lambda trace: trace.start_ns, reverse=True)

    def lines_of(self, trace: Trace) -> list[LogRecord]:
        """The lines of a trace and of its requests; none where nobody collects lines."""
        return self._redacted(log_lines.of_trace(trace, self.logs)) if self.logs else []


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a panel shows: series as Prometheus would give them, or lines, or a table of its own."""

    series: list[TargetAnswer] = field(default_factory=list)
    lines: list[LogRecord] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)
    cells: list[list[Json]] = field(default_factory=list)
    note: str = ""


def answer(panel: Mapping[str, Any], collected: Collected, *, window: Window, scope: Interpolation) -> Answer:
    """The content of a panel that asks Loki or Tempo.

    Raises:
        NotHere: it asks something else than the bundled rows, or what it asks for is not collected.
        ServescopeError: the files cannot be read.
    """
    target = panel["targets"][0]
    of_traces = target["datasource"]["type"] == "tempo"
    asked = target.get("query" if of_traces else "expr")
    if len(panel["targets"]) != 1 or not isinstance(asked, str):
        raise NotHere("this query")
    expression = scope.promql(asked)
    if of_traces:
        return _traces(expression, collected, window)
    if panel["type"] == "logs":
        return _lines(question(expression), collected, window)
    counted = _COUNTED.search(expression)
    if panel["type"] == "timeseries" and counted:
        return _counts(target, counted, collected=collected, window=window)
    if panel["type"] == "table" and counted and "text" in counted[1]:
        return _patterns(target, counted, collected=collected, window=window)
    if panel["type"] == "table" and not counted:
        columns = _named_columns(panel)
        return _requests(question(expression), columns, collected=collected, window=window)
    raise NotHere("this query of logs")


def pattern(text: str) -> str:
    """A message without what differs from line to line."""
    text = text[:300]
    for varying, name in _VARYING:
        text = varying.sub(name, text)
    return text[:160]


def _lines(asked: Question, collected: Collected, window: Window) -> Answer:
    found = asked.of(collected.records(window.start, window.end + window.step_s))
    left_out = len(found) - MOST_LINES
    note = f"{left_out} older lines are not shown" if left_out > 0 else ""
    return Answer(lines=found[::-1][:MOST_LINES], note=note)


def _labels(counted: re.Match[str]) -> list[str]:
    return [name.strip() for name in counted[1].split(",")]


def _counts(target: Json, counted: re.Match[str], *, collected: Collected, window: Window) -> Answer:
    """Lines in each interval that ends at a step of the window, by labels."""
    names = _labels(counted)
    found: dict[tuple[str, ...], Counter[int]] = {}
    for record in question(counted[2]).of(collected.records(window.start - window.step_s, window.end)):
        step = -int((window.start - record.time_ns / 1e9) // window.step_s)
        key = tuple(str(record.fields.get(name) or "") for name in names)
        found.setdefault(key, Counter())[max(step, 0)] += 1
    series = [
        Series(
            dict(zip(names, key, strict=True)),
            [(window.start + step * window.step_s, float(count)) for step, count in sorted(counts.items())],
        )
        for key, counts in sorted(found.items())
    ]
    return Answer(series=[_answered(target, series)])


def _patterns(target: Json, counted: re.Match[str], *, collected: Collected, window: Window) -> Answer:
    names = _labels(counted)
    asked = question(_PATTERN_STAGE.sub("", counted[2]))
    counts: Counter[tuple[str, ...]] = Counter()
    for record in asked.of(collected.records(window.start, window.end)):
        fields = {**record.fields, "text": pattern(record.text)}
        counts[tuple(str(fields.get(name) or "") for name in names)] += 1
    series = [
        Series(dict(zip(names, key, strict=True)), [(window.end, float(count))])
        for key, count in counts.most_common(MOST_PATTERNS)
    ]
    return Answer(series=[_answered(target, series)])


def _answered(target: Mapping[str, Any], series: list[Series]) -> TargetAnswer:
    return TargetAnswer(
        ref=target["refId"], expression=target["expr"], legend=target.get("legendFormat", ""), series=series
    )


def _named_columns(panel: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Field and title of each column, in order, by the panel's `organize`."""
    for one in panel.get("transformations", []):
        if one["id"] == "organize":
            order: dict[str, int] = one["options"]["indexByName"]
            titles: dict[str, str] = one["options"].get("renameByName", {})
            hidden = one["options"].get("excludeByName", {})
            return [
                (name, titles.get(name, name)) for name in sorted(order, key=lambda n: order[n]) if not hidden.get(name)
            ]
    raise NotHere("this table")


def _requests(asked: Question, columns: Sequence[tuple[str, str]], *, collected: Collected, window: Window) -> Answer:
    found = asked.of(collected.records(window.start, window.end + window.step_s))[::-1]

    def cell(record: LogRecord, name: str) -> Json:
        if name == "Time":
            return _cell(_clock(record.time_ns))
        value = record.fields.get(name)
        text = "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
        link = {"trace_id": trace_link, "request_id": request_link}.get(name)
        return _cell(text, link=link(text) if link and text else "", number=isinstance(value, (int, float)))

    cells = [[cell(record, name) for name, _ in columns] for record in found[:MOST_ROWS]]
    left_out = len(found) - len(cells)
    note = f"{left_out} older ones are not shown" if left_out else ""
    return Answer(columns=[title for _, title in columns], cells=cells, note=note)


def _traces(traceql: str, collected: Collected, window: Window) -> Answer:
    """Traces with a span that meets all conditions, newest first."""
    rest = _ON_SPANS.sub("", traceql)
    if rest.strip("{}& "):
        raise NotHere("this query of traces")
    conditions = _ON_SPANS.findall(traceql)

    def meets(span: Any) -> bool:
        for name, _, value in conditions:
            value = value.strip('"')
            if name == "status" and span.status != value:
                return False
            if name == "kind" and span.kind != value:
                return False
            if name == "duration" and span.ms <= float(value.removesuffix("s")) * 1000:
                return False
            attribute = name.removeprefix("resource.")
            if attribute != name and not re.fullmatch(value, str(span.resource.get(attribute, ""))):
                return False
        return True

    found = [one for one in collected.traces_between(window.start, window.end) if any(map(meets, one.spans))]
    return traces_table(found[:MOST_TRACES], left_out=len(found) - MOST_TRACES)


def traces_table(traces: Sequence[Trace], *, left_out: int = 0) -> Answer:
    """A row for each trace, which opens it."""
    cells = []
    for trace in traces:
        root = trace.roots[0]
        cells.append(
            [
                _cell(trace.trace_id[:12], link=trace_link(trace.trace_id)),
                _cell(_clock(trace.start_ns)),
                _cell(root.service),
                _cell(root.name),
                _cell(f"{trace.ms:.0f} ms", number=True, color="#e02f44" if trace.failed else ""),
            ]
        )
    note = f"{left_out} older traces are not shown" if left_out > 0 else ""
    return Answer(columns=["Trace", "Start (UTC)", "Service", "Name", "Duration"], cells=cells, note=note)


def trace_link(trace_id: str) -> str:
    """The address of a trace in the preview."""
    return f"/trace/{trace_id}"


def request_link(request_id: str) -> str:
    """The address of the lines of a request in the preview."""
    from urllib.parse import quote

    return f"/request/{quote(request_id, safe='')}"


def _clock(time_ns: int) -> str:
    import time

    return time.strftime("%H:%M:%S", time.gmtime(time_ns / 1e9)) + f".{time_ns // 10**6 % 1000:03}"


def _cell(text: str, *, link: str = "", number: bool = False, color: str = "") -> Json:
    links = [{"url": link, "fields": {}}] if link else []
    return {"text": text, "number": number, "color": color, "links": links}
