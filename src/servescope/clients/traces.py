"""Traces without a backend: the Collector's rotated OTLP JSON files and Serve's JSON logs, read and put together.

The file exporter writes one `ExportTraceServiceRequest` a line in OTLP's own JSON
(https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding); identifiers are hexadecimal there.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol, TypeVar

from rich.markup import escape
from rich.tree import Tree

from servescope.errors import ServescopeError

KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")
STATUSES = ("unset", "ok", "error")
FILES = "traces*.json"
# Said by the tree already, or of no use there.
HIDDEN = frozenset(
    (
        "app",
        "deployment",
        "request_id",
        "request_type",
        "replica_id",
        "peer.service",
        "error.type",
        "route",
        "http.request.method",
        "http.route",
        "call_method",
        "is_streaming",
        "is_http_request",
        "is_grpc_request",
        "http.flavor",
        "http.scheme",
        "url.scheme",
        "network.protocol.version",
        "server.address",
        "server.port",
        "client.address",
        "client.port",
        "user_agent.original",
        "rpc.system",
        "rpc.method",
        "rpc.service",
        "serve.batch.request_ids",
        "serve.route",
    )
)


@dataclass(frozen=True)
class SpanLink:
    """A link to a span of another trace, or of this one."""

    trace_id: str
    span_id: str


@dataclass(frozen=True, kw_only=True)
class Span:
    """One span; times in nanoseconds since 1970."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: str
    service: str
    start_ns: int
    end_ns: int
    status: str
    message: str
    attributes: dict[str, Any]
    resource: dict[str, Any]
    links: tuple[SpanLink, ...] = ()
    events: tuple[tuple[str, dict[str, Any]], ...] = ()

    @property
    def ms(self) -> float:
        """Its duration in milliseconds."""
        return (self.end_ns - self.start_ns) / 1e6


@dataclass
class Trace:
    """The spans of one request."""

    trace_id: str
    spans: list[Span] = field(default_factory=list)

    @property
    def roots(self) -> list[Span]:
        """The spans whose parent is not here: one, when the trace is whole."""
        known = {span.span_id for span in self.spans}
        return sorted((s for s in self.spans if s.parent_id not in known), key=lambda s: s.start_ns)

    @property
    def start_ns(self) -> int:
        """When it began."""
        return min(span.start_ns for span in self.spans)

    @property
    def ms(self) -> float:
        """From the first start to the last end, in milliseconds."""
        return (max(span.end_ns for span in self.spans) - self.start_ns) / 1e6

    @property
    def failed(self) -> bool:
        """Whether any span of it failed."""
        return any(span.status == "error" for span in self.spans)

    @property
    def request_ids(self) -> list[str]:
        """The request ids of its spans, the first one first."""
        ids = (span.attributes.get("request_id") for span in sorted(self.spans, key=lambda s: s.start_ns))
        return list(dict.fromkeys(str(found) for found in ids if found))

    def children(self, span: Span) -> list[Span]:
        """The spans below one, by their start."""
        return sorted((s for s in self.spans if s.parent_id == span.span_id), key=lambda s: s.start_ns)


def read(folder: Path, holding: str = "") -> dict[str, Trace]:
    """The traces in a folder of the Collector, by id, the rotated files included.

    With `holding`, a trace id, what does not name it is passed over unread: other traces are not whole then.

    Raises:
        ServescopeError: there is none, or it cannot be read.
    """
    files = sorted(folder.glob(FILES), key=lambda file: file.stat().st_mtime)
    if not files:
        raise ServescopeError(
            f"{folder}: holds no {FILES}; the Collector writes them with TRACES_TO='[file/traces]' and COLLECTOR_DATA"
        )
    traces: dict[str, Trace] = {}
    for file in files:
        for span in _spans(file, holding):
            traces.setdefault(span.trace_id, Trace(span.trace_id)).spans.append(span)
    return traces


def _spans(file: Path, holding: str) -> Iterator[Span]:
    try:
        with file.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if holding not in line:
                    continue
                try:
                    document = json.loads(line)
                except ValueError:
                    continue  # the last line of a file that is being written
                yield from spans_of(document)
    except OSError as error:
        raise ServescopeError(f"{file}: cannot read it ({error.strerror})") from error


def spans_of(document: dict[str, Any]) -> Iterator[Span]:
    """The spans of one OTLP request."""
    for resource_spans in document.get("resourceSpans", ()):
        resource = _attributes(resource_spans.get("resource", {}))
        for scope_spans in resource_spans.get("scopeSpans", ()):
            for span in scope_spans.get("spans", ()):
                yield _span(span, resource)


def _span(span: dict[str, Any], resource: dict[str, Any]) -> Span:
    status = span.get("status", {})
    return Span(
        trace_id=span["traceId"],
        span_id=span["spanId"],
        parent_id=span.get("parentSpanId", ""),
        name=span.get("name", ""),
        kind=KINDS[span.get("kind", 0)],
        service=str(resource.get("service.name", "")),
        start_ns=int(span["startTimeUnixNano"]),
        end_ns=int(span["endTimeUnixNano"]),
        status=STATUSES[status.get("code", 0)],
        message=status.get("message", ""),
        attributes=_attributes(span),
        resource=resource,
        links=tuple(SpanLink(link["traceId"], link["spanId"]) for link in span.get("links", ())),
        events=tuple((event.get("name", ""), _attributes(event)) for event in span.get("events", ())),
    )


def _attributes(holder: dict[str, Any]) -> dict[str, Any]:
    return {pair["key"]: _value(pair.get("value", {})) for pair in holder.get("attributes", ())}


def _value(value: dict[str, Any]) -> Any:
    for kind, held in value.items():
        if kind == "intValue":
            return int(held)
        if kind == "arrayValue":
            return [_value(item) for item in held.get("values", ())]
        if kind == "kvlistValue":
            return {pair["key"]: _value(pair.get("value", {})) for pair in held.get("values", ())}
        return held
    return None


def find(traces: dict[str, Trace], wanted: str) -> list[Trace]:
    """The traces of an id: a trace id (or its beginning, of 8 digits or more), or the id of a request."""
    wanted = wanted.strip().lower()
    if re.fullmatch(r"[0-9a-f]{8,32}", wanted):
        found = [trace for trace_id, trace in traces.items() if trace_id.startswith(wanted)]
        if found:
            return found
    return [trace for trace in traces.values() if wanted in trace.request_ids]


class Timed(Protocol):
    """What is known of any trace: one put together here, or one that a backend has summed up."""

    @property
    def start_ns(self) -> int:
        """When it began."""

    @property
    def ms(self) -> float:
        """How long it took, in milliseconds."""

    @property
    def failed(self) -> bool:
        """Whether any span of it failed."""


AnyTrace = TypeVar("AnyTrace", bound=Timed)


def slowest(traces: Iterable[AnyTrace], count: int) -> list[AnyTrace]:
    """The slowest traces, the slowest first."""
    return sorted(traces, key=lambda trace: trace.ms, reverse=True)[:count]


def failed(traces: Iterable[AnyTrace]) -> list[AnyTrace]:
    """The traces with a failed span, the latest first."""
    return sorted((t for t in traces if t.failed), key=lambda trace: trace.start_ns, reverse=True)


@dataclass(frozen=True, kw_only=True)
class LogLine:
    """A line of Serve's JSON log that belongs to a trace; the time in nanoseconds since 1970."""

    time_ns: int
    level: str
    component: str
    message: str
    span_id: str


def log_lines(folder: Path, trace: Trace) -> list[LogLine]:
    """The lines of Serve's logs that carry the trace's id or the id of one of its requests, in their order.

    Rotated files are read too. Lines of logs that are not JSON carry no trace id, so there are none of them.
    """
    ids = {trace.trace_id, *trace.request_ids}
    found = []
    for file in sorted(folder.glob("*.log*")):
        try:
            with file.open(encoding="utf-8", errors="replace") as lines:
                # Most lines belong to other requests: looking for the ids is cheaper than parsing.
                found += [line for text in lines if any(i in text for i in ids) and (line := _log_line(text, ids))]
        except OSError:
            continue  # rotated away meanwhile
    return sorted(found, key=lambda line: line.time_ns)


def _log_line(text: str, ids: set[str]) -> LogLine | None:
    record = log_record(text)
    if record is None or not {record.get("trace_id"), record.get("request_id"), *_request_ids(record)} & ids:
        return None
    return line_of(record)


def _request_ids(record: dict[str, Any]) -> list[str]:
    return record.get("request_ids") or []


def log_record(text: str) -> dict[str, Any] | None:
    """A line of a JSON log as its fields; None for what is none, as the half-written last line of a file."""
    try:
        record = json.loads(text)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def line_of(record: dict[str, Any]) -> LogLine:
    """A record of Serve's JSON log, its traceback below its message; the time is 0 where it has none."""
    component = record.get("deployment") or record.get("component_name") or ""
    message = "\n".join(str(record[key]) for key in ("message", "exc_text") if record.get(key))
    level, span_id = (str(record.get(key) or "") for key in ("levelname", "span_id"))
    return LogLine(time_ns=_time_ns(record), level=level, component=str(component), message=message, span_id=span_id)


def _time_ns(record: dict[str, Any]) -> int:
    try:
        return int(record.get("timestamp_ns") or 0) or wall_clock_ns(str(record.get("asctime")))
    except (TypeError, ValueError):
        return 0


def wall_clock_ns(text: str) -> int:
    """The time that stands at the head of Ray's log lines, `2026-11-25 10:00:00,500`, in this machine's zone.

    Raises:
        ValueError: the text is no such time.
    """
    moment = datetime.strptime(text, "%Y-%m-%d %H:%M:%S,%f")
    return int(moment.replace(microsecond=0).timestamp()) * 10**9 + moment.microsecond * 1000


def summary(trace: Trace) -> str:
    """One line of a trace."""
    root = trace.roots[0]
    began = datetime.fromtimestamp(trace.start_ns / 1e9, tz=timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
    code = root.attributes.get("http.response.status_code") or root.attributes.get("rpc.response.status_code") or ""
    state = "[red]failed[/red]" if trace.failed else "ok"
    parts = (f"{began}Z", f"{trace.ms:9.1f} ms", state, str(code), escape(root.name), trace.trace_id)
    return "  ".join(part for part in parts if part)


def tree(trace: Trace, lines: Iterable[LogLine] = ()) -> Tree:
    """The tree of a request: when each span began and how long it took, its status, and its log lines."""
    by_span: dict[str, list[LogLine]] = defaultdict(list)
    known = {span.span_id for span in trace.spans}
    for line in lines:
        by_span[line.span_id if line.span_id in known else ""].append(line)
    top = Tree(f"{summary(trace)}  request {' '.join(trace.request_ids) or '-'}", guide_style="dim")
    for root in trace.roots:
        _grow(top, root, trace, by_span=by_span)
    for line in by_span[""]:
        top.add(_log_text(line, trace.start_ns))
    return top


def _grow(above: Tree, span: Span, trace: Trace, *, by_span: dict[str, list[LogLine]]) -> None:
    branch = above.add(_span_text(span, trace.start_ns))
    for line in by_span[span.span_id]:
        branch.add(_log_text(line, trace.start_ns))
    for child in trace.children(span):
        _grow(branch, child, trace, by_span=by_span)


def _span_text(span: Span, start_ns: int) -> str:
    offset = (span.start_ns - start_ns) / 1e6
    kind = "" if span.kind == "internal" else f" ({span.kind})"
    text = f"{offset:+8.1f} ms {span.ms:9.1f} ms  [bold]{escape(span.service)}[/bold]{kind}  {escape(span.name)}"
    shown = {key: value for key, value in span.attributes.items() if key not in HIDDEN and value not in ("", None)}
    if shown:
        text += "  [dim]" + escape(" ".join(f"{key}={value}" for key, value in sorted(shown.items()))) + "[/dim]"
    if span.links:
        text += f"  [dim]{len(span.links)} links[/dim]"
    if span.status == "error":
        why = span.message or str(span.attributes.get("error.type", "failed"))
        text += f"  [red]{escape(_first_line(why))}[/red]"
    return text


def _log_text(line: LogLine, start_ns: int) -> str:
    offset = (line.time_ns - start_ns) / 1e6
    return f"[dim]{offset:+8.1f} ms  log {escape(f'{line.level} {line.component}: {_first_line(line.message)}')}[/dim]"


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else ""
