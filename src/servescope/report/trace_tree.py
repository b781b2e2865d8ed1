"""`servescope trace`: one request as a tree in the terminal, with its log lines."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timezone

from rich.markup import escape
from rich.tree import Tree

from servescope.clients.model import LogRecord, Span, Trace

# Already in the tree, or of no use there.
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


def summary_line(trace: Trace) -> str:
    """One line of a trace."""
    root = trace.roots[0]
    began = datetime.fromtimestamp(trace.start_ns / 1e9, tz=timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
    codes = ("http.response.status_code", "rpc.response.status_code", "websocket.close_code")
    code = next((root.attributes[name] for name in codes if root.attributes.get(name)), "")
    state = "[red]failed[/red]" if trace.failed else "ok"
    parts = (f"{began}Z", f"{trace.ms:9.1f} ms", state, escape(str(code)), escape(root.name), escape(trace.trace_id))
    return "  ".join(part for part in parts if part)


def tree(trace: Trace, records: Iterable[LogRecord] = ()) -> Tree:
    """The tree of a request: start, duration, status and log lines of each span."""
    by_span: dict[str, list[LogRecord]] = defaultdict(list)
    known = {span.span_id for span in trace.spans}
    for record in records:
        by_span[record.span_id if record.span_id in known else ""].append(record)
    top = Tree(f"{summary_line(trace)}  request {escape(' '.join(trace.request_ids)) or '-'}", guide_style="dim")
    # Not recursive, and no span twice: a chain may be long, and spans may be each other's parents.
    waiting = [(top, root) for root in reversed(trace.roots)]
    shown = {root.span_id for root in trace.roots}
    while waiting:
        above, span = waiting.pop()
        branch = above.add(_span_text(span, trace.start_ns))
        for record in by_span[span.span_id]:
            branch.add(_log_text(record, trace.start_ns))
        children = [child for child in trace.children(span) if child.span_id not in shown]
        shown.update(child.span_id for child in children)
        waiting += [(branch, child) for child in reversed(children)]
    for record in by_span[""]:
        top.add(_log_text(record, trace.start_ns))
    return top


def facts_of(span: Span) -> str:
    """The attributes of a span that say something, `name=value` each."""
    shown = {key: value for key, value in span.attributes.items() if key not in HIDDEN and value not in ("", None)}
    return " ".join(f"{key}={value}" for key, value in sorted(shown.items()))


def _span_text(span: Span, start_ns: int) -> str:
    offset = (span.start_ns - start_ns) / 1e6
    kind = "" if span.kind == "internal" else f" ({span.kind})"
    text = f"{offset:+8.1f} ms {span.ms:9.1f} ms  [bold]{escape(span.service)}[/bold]{kind}  {escape(span.name)}"
    if facts := facts_of(span):
        text += f"  [dim]{escape(facts)}[/dim]"
    if span.links:
        text += f"  [dim]{len(span.links)} links[/dim]"
    if span.status == "error":
        why = span.message or str(span.attributes.get("error.type", "failed"))
        text += f"  [red]{escape(_first_line(why))}[/red]"
    return text


def _log_text(record: LogRecord, start_ns: int) -> str:
    offset = (record.time_ns - start_ns) / 1e6
    text = f"{record.level} {record.source}: {_first_line(record.text)}"
    return f"[dim]{offset:+8.1f} ms  log {escape(text)}[/dim]"


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else ""
