"""Traces without a backend: reads and joins the Collector's rotated OTLP JSON files.

The file exporter writes one `ExportTraceServiceRequest` a line in OTLP's own JSON
(https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding); identifiers are hexadecimal there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from servescope.clients.model import Span, SpanLink, Trace, TraceSummary
from servescope.errors import ServescopeError

KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")
STATUSES = ("unset", "ok", "error")
FILES = "traces*.json"


def read_traces(folder: Path, holding: str = "") -> dict[str, Trace]:
    """The traces in a directory of the Collector, by ID, rotated files included.

    With `holding`, a trace ID, lines that do not contain it are skipped: other traces are then incomplete.

    Raises:
        ServescopeError: there is no trace file, or one cannot be read.
    """
    files = sorted(folder.glob(FILES), key=lambda file: file.stat().st_mtime)
    if not files:
        raise ServescopeError(
            f"{folder}: no {FILES} found; the Collector writes them with TRACES_TO='[file/traces]' and COLLECTOR_DATA"
        )
    traces: dict[str, Trace] = {}
    for file in files:
        for span in _spans_in(file, holding):
            traces.setdefault(span.trace_id, Trace(span.trace_id)).spans.append(span)
    return traces


def summaries(folder: Path, start: float, end: float) -> list[TraceSummary]:
    """Summaries of the traces that began in a time range (unix seconds).

    Raises:
        ServescopeError: there is no trace file, or it cannot be read.
    """
    return [trace.summary() for trace in read_traces(folder).values() if start <= trace.start_ns / 1e9 <= end]


def find(traces: dict[str, Trace], wanted: str) -> list[Trace]:
    """The traces with an ID: a trace ID (or a prefix of 8 digits or more), or a request ID."""
    wanted = wanted.strip().lower()
    if re.fullmatch(r"[0-9a-f]{8,32}", wanted):
        found = [trace for trace_id, trace in traces.items() if trace_id.startswith(wanted)]
        if found:
            return found
    return [trace for trace in traces.values() if wanted in trace.request_ids]


def _spans_in(file: Path, holding: str) -> Iterator[Span]:
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
        raise ServescopeError(f"{file}: cannot read ({error.strerror})") from error


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
