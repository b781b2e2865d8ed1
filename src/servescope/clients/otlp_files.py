"""Traces without a backend: reads and joins the Collector's rotated OTLP JSON files.

The file exporter writes one `ExportTraceServiceRequest` a line in OTLP's own JSON
(https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding); identifiers are hexadecimal there.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from servescope.clients.model import Span, SpanLink, Trace, TraceSummary
from servescope.errors import ServescopeError

KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")
STATUSES = ("unset", "ok", "error")
FILES = "traces*.json"
_LATEST_NS = 2**63  # the year 2262; OTLP's own times are unsigned numbers of 64 bits


def read_traces(
    folder: Path, holding: str = "", *, report: Callable[[str], None] = lambda line: None
) -> dict[str, Trace]:
    """The traces in a directory of the Collector, by ID, rotated files included.

    With `holding`, a trace ID, lines that do not contain it are skipped: other traces are then incomplete. A span
    that was delivered twice, as OTLP may, is there once. `report` is given one line for each file with lines that hold
    no OTLP traces; those are skipped.

    Raises:
        ServescopeError: there is no trace file, or one cannot be read.
    """
    files = oldest_first(folder, FILES)
    if not files:
        raise ServescopeError(
            f"{folder}: no {FILES} found; the Collector writes them with TRACES_TO='[file/traces]' and COLLECTOR_DATA"
        )
    traces: dict[str, dict[str, Span]] = defaultdict(dict)
    for file in files:
        for spans in lines_in(
            file, [holding] * bool(holding), report, what="OTLP traces", read=lambda document: list(spans_of(document))
        ):
            for span in spans:
                traces[span.trace_id].setdefault(span.span_id, span)
    return {trace_id: Trace(trace_id, list(spans.values())) for trace_id, spans in traces.items()}


def oldest_first(folder: Path, pattern: str) -> list[Path]:
    """The files of a folder by the time of their last change."""
    written = {}
    for file in folder.glob(pattern):
        with suppress(FileNotFoundError):  # rotated away between listing and looking
            written[file] = file.stat().st_mtime
    return sorted(written, key=lambda file: written[file])


def summaries(
    folder: Path, start: float, end: float, *, report: Callable[[str], None] = lambda line: None
) -> list[TraceSummary]:
    """Summaries of the traces that began in a time range (unix seconds); `report` as in `read_traces`.

    Raises:
        ServescopeError: there is no trace file, or it cannot be read.
    """
    return [
        trace.summary() for trace in read_traces(folder, report=report).values() if start <= trace.start_ns / 1e9 <= end
    ]


def find(traces: dict[str, Trace], wanted: str) -> list[Trace]:
    """The traces with an ID: a trace ID (or a prefix of 8 digits or more), or a request ID."""
    wanted = wanted.strip()
    if re.fullmatch(r"[0-9a-fA-F]{8,32}", wanted):
        found = [trace for trace_id, trace in traces.items() if trace_id.startswith(wanted.lower())]
        if found:
            return found
    # A client's own request id is any text: as it was given, and where there is none, whatever the case.
    exact = [trace for trace in traces.values() if wanted in trace.request_ids]
    lowered = wanted.lower()
    return exact or [trace for trace in traces.values() if lowered in map(str.lower, trace.request_ids)]


Read = TypeVar("Read")
# What reading a line may raise that is no OTLP.
NO_DOCUMENT = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)


def lines_in(
    file: Path,
    holding: Collection[str],
    report: Callable[[str], None],
    *,
    what: str,
    read: Callable[[dict[str, Any]], Read],
) -> Iterator[Read]:
    """What `read` makes of each line of a file; with `holding`, of those that contain one of the texts.

    Raises:
        ServescopeError: the file cannot be read.
    """
    skipped = 0
    texts = tuple(holding)
    try:
        with file.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if texts and not any(text in line for text in texts):
                    continue
                try:
                    found = read(json.loads(line))
                except NO_DOCUMENT:
                    skipped += line.endswith("\n")  # else the last line of a file that is being written
                    continue
                yield found
    except FileNotFoundError:
        return  # rotated away meanwhile
    except OSError as error:
        raise ServescopeError(f"{file}: cannot read ({error.strerror})") from error
    if skipped:
        report(f"{file}: skipped lines that hold no {what}: {skipped}")


def spans_of(document: dict[str, Any]) -> Iterator[Span]:
    """The spans of one OTLP request. As in all of protobuf's JSON, null is the same as a field that is absent.

    Raises:
        ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError: it is no such request.
    """
    for resource_spans in document.get("resourceSpans") or ():
        resource = _attributes(resource_spans.get("resource") or {})
        for scope_spans in resource_spans.get("scopeSpans") or ():
            for span in scope_spans.get("spans") or ():
                yield _span(span, resource)


def _span(span: dict[str, Any], resource: dict[str, Any]) -> Span:
    status = span.get("status") or {}
    return Span(
        trace_id=_identifier(span["traceId"]),
        span_id=_identifier(span["spanId"]),
        parent_id=_text(span.get("parentSpanId")),
        name=_text(span.get("name")),
        kind=_name_of(span.get("kind"), KINDS),
        service=_text(resource.get("service.name")),
        start_ns=time_of(span["startTimeUnixNano"]),
        end_ns=time_of(span["endTimeUnixNano"]),
        status=_name_of(status.get("code"), STATUSES),
        message=_text(status.get("message")),
        attributes=_attributes(span),
        resource=resource,
        links=tuple(
            SpanLink(_identifier(link["traceId"]), _identifier(link["spanId"])) for link in span.get("links") or ()
        ),
        events=tuple((_text(event.get("name")), _attributes(event)) for event in span.get("events") or ()),
    )


def _identifier(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("an identifier is a text")
    return _text(value)


def _text(value: Any) -> str:
    """A text that can be printed: JSON's escapes may hold half of a surrogate pair."""
    return "" if value is None else str(value).encode(errors="replace").decode()


def time_of(value: Any) -> int:
    """A time of OTLP in nanoseconds since 1970.

    Raises:
        ValueError: it is none.
    """
    time_ns = int(value)
    if not 0 <= time_ns < _LATEST_NS:
        raise ValueError("not a time in nanoseconds")
    return time_ns


def _name_of(code: Any, names: tuple[str, ...]) -> str:
    """The name of an enumeration's value; what a later version of OTLP adds counts as unspecified."""
    number = int(code or 0)
    return names[number] if 0 <= number < len(names) else names[0]


def _attributes(holder: dict[str, Any]) -> dict[str, Any]:
    return pairs_of(holder.get("attributes"))


def pairs_of(pairs: Any) -> dict[str, Any]:
    """Attributes as a dictionary."""
    return {_text(pair["key"]): value_of(pair.get("value") or {}) for pair in pairs or ()}


def value_of(value: dict[str, Any]) -> Any:
    """An OTLP value as Python's."""
    for kind, held in value.items():
        if kind == "intValue":
            return int(held)
        if kind == "arrayValue":
            return [value_of(item) for item in held.get("values") or ()]
        if kind == "kvlistValue":
            return pairs_of(held.get("values"))
        return _text(held) if isinstance(held, str) else held
    return None
