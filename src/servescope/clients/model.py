"""Traces and log records as plain data, whichever store they come from.

The texts come from the monitored programs and are untrusted: they are unescaped here, and code that displays them must
escape them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar


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
        """Duration in milliseconds."""
        return (self.end_ns - self.start_ns) / 1e6


@dataclass
class Trace:
    """The spans of one request, each once; there is at least one, and none is added later."""

    trace_id: str
    spans: list[Span] = field(default_factory=list)

    @property
    def roots(self) -> list[Span]:
        """The spans whose parent is missing, by start: one, if the trace is complete.

        Every span is one of them or below one: of spans that are each other's parents, the first counts as a root.
        """
        known = {span.span_id for span in self.spans}
        by_start = sorted(self.spans, key=lambda span: span.start_ns)
        found = [span for span in by_start if span.parent_id not in known]
        reached = self._below(found)
        for span in by_start:
            if span.span_id not in reached:
                found.append(span)
                reached |= self._below([span])
        return sorted(found, key=lambda span: span.start_ns)

    def _below(self, roots: list[Span]) -> set[str]:
        """The ids of some spans and of all below them."""
        reached: set[str] = set()
        waiting = list(roots)
        while waiting:
            span = waiting.pop()
            if span.span_id not in reached:
                reached.add(span.span_id)
                waiting += self.children(span)
        return reached

    @property
    def start_ns(self) -> int:
        """Its start."""
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
        """The request IDs of its spans, in order."""
        ids = (span.attributes.get("request_id") for span in sorted(self.spans, key=lambda span: span.start_ns))
        return list(dict.fromkeys(str(found) for found in ids if found))

    def children(self, parent: Span) -> list[Span]:
        """The children of a span, by start."""
        return self._by_parent.get(parent.span_id, [])

    @cached_property
    def _by_parent(self) -> dict[str, list[Span]]:
        found: dict[str, list[Span]] = {}
        for span in sorted(self.spans, key=lambda span: span.start_ns):
            found.setdefault(span.parent_id, []).append(span)
        return found

    def summary(self) -> TraceSummary:
        """A summary, named after the root span."""
        root = self.roots[0]
        return TraceSummary(
            trace_id=self.trace_id,
            service=root.service,
            name=root.name,
            start_ns=self.start_ns,
            ms=self.ms,
            failed=self.failed,
        )


@dataclass(frozen=True, kw_only=True)
class TraceSummary:
    """Summary of a trace: start (unix ns), duration (ms), and whether any span failed."""

    trace_id: str
    service: str
    name: str
    start_ns: int
    ms: float
    failed: bool


AnyTrace = TypeVar("AnyTrace", Trace, TraceSummary)


def slowest(traces: Iterable[AnyTrace], count: int) -> list[AnyTrace]:
    """The slowest traces, slowest first."""
    return sorted(traces, key=lambda trace: trace.ms, reverse=True)[:count]


def failed(traces: Iterable[AnyTrace]) -> list[AnyTrace]:
    """The traces with a failed span, newest first."""
    return sorted((trace for trace in traces if trace.failed), key=lambda trace: trace.start_ns, reverse=True)


@dataclass(frozen=True, kw_only=True)
class LogRecord:
    """One log record: time (unix ns, 0 if it has none), source, and text.

    A traceback is a text of several lines. The IDs are those of the handled request, where known; `fields` are those of
    docs/logs.md, without the text.
    """

    time_ns: int
    source: str
    level: str
    text: str
    trace_id: str = ""
    span_id: str = ""
    request_ids: tuple[str, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def unix_ms(self) -> int:
        """The time in milliseconds since 1970."""
        return self.time_ns // 1_000_000

    @property
    def ids(self) -> set[str]:
        """The IDs of its trace and requests."""
        return {self.trace_id, *self.request_ids} - {""}


def record_of(time_ns: int, fields: Mapping[str, Any]) -> LogRecord:
    """The record of the fields that ray.lua or the Collector made of a line (docs/logs.md); `message` is its text."""

    def text(name: str) -> str:
        value = fields.get(name)
        return "" if value is None else str(value)

    of_batch = fields.get("request_ids")
    several = of_batch.values() if isinstance(of_batch, Mapping) else of_batch if isinstance(of_batch, list) else ()
    members = (value for name, value in fields.items() if name.startswith("request_ids."))
    deployment = "/".join(filter(None, (text("application"), text("deployment")))) if text("deployment") else ""
    return LogRecord(
        time_ns=time_ns,
        source=deployment or text("component"),
        level=text("level"),
        text=text("message"),
        trace_id=text("trace_id"),
        span_id=text("span_id"),
        request_ids=tuple(str(found) for found in (fields.get("request_id"), *several, *members) if found),
        fields={name: value for name, value in fields.items() if name != "message"},
    )
