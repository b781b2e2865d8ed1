"""One trace as a waterfall: a bar for each span, with its attributes and its log lines."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from servescope.clients.model import LogRecord, Span, Trace
from servescope.grafana.colors import CLASSIC_PALETTE
from servescope.report.trace_tree import facts_of

MOST_SPANS = 500


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One span: `left` and `width` are shares of the trace's duration in percent, `depth` its level below the root."""

    span: Span
    depth: int
    left: float
    width: float
    color: str
    facts: str
    lines: Sequence[LogRecord]


@dataclass(frozen=True, kw_only=True)
class Waterfall:
    """A trace with its lines; `lines` belong to no span of it, `left_out` counts spans beyond the most."""

    trace: Trace
    bars: Sequence[Bar]
    lines: Sequence[LogRecord]
    services: Sequence[tuple[str, str]]
    left_out: int


def waterfall(trace: Trace, records: Iterable[LogRecord] = ()) -> Waterfall:
    """The spans in the order of a tree, each once, and the records beside the spans that wrote them."""
    known = {span.span_id for span in trace.spans}
    by_span: dict[str, list[LogRecord]] = defaultdict(list)
    for record in records:
        by_span[record.span_id if record.span_id in known else ""].append(record)
    names = sorted({span.service for span in trace.spans})
    colors = {name: CLASSIC_PALETTE[number % len(CLASSIC_PALETTE)] for number, name in enumerate(names)}
    whole_ns = max(1.0, trace.ms * 1e6)
    bars: list[Bar] = []
    # Not recursive, and no span twice: a chain may be long, and spans may be each other's parents.
    waiting = [(root, 0) for root in reversed(trace.roots)]
    shown = {root.span_id for root in trace.roots}
    while waiting and len(bars) < MOST_SPANS:
        span, depth = waiting.pop()
        bars.append(
            Bar(
                span=span,
                depth=depth,
                left=100 * (span.start_ns - trace.start_ns) / whole_ns,
                width=max(100 * (span.end_ns - span.start_ns) / whole_ns, 0.3),
                color=colors[span.service],
                facts=facts_of(span),
                lines=by_span[span.span_id],
            )
        )
        below = [child for child in trace.children(span) if child.span_id not in shown]
        shown |= {child.span_id for child in below}
        waiting += [(child, depth + 1) for child in reversed(below)]
    return Waterfall(
        trace=trace,
        bars=bars,
        lines=by_span[""],
        services=[(name, colors[name]) for name in names],
        left_out=len(trace.spans) - len(bars),
    )
