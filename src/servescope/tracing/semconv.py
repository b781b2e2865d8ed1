"""Serve's spans in OpenTelemetry's terms: name, kind, status, attributes. A pure function of one ended span.

The Collector's configuration (`otel/collector.yaml`) does the same for spans that do not pass through here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import SpanKind, Status, StatusCode

SERVE_SCOPE = "ray.serve._private.tracing_utils"
PROXY_HTTP = "proxy_http_request"
PROXY_WEBSOCKET = "proxy_websocket_request"
PROXY_GRPC = "proxy_grpc_request"
PROXIES = (PROXY_HTTP, PROXY_WEBSOCKET, PROXY_GRPC)
ROUTER = "route_to_replica"
REPLICA = "replica_handle_request"
# A request that its client cancelled, or that hit Serve's timeout, which the proxy's span records.
CANCELLED = frozenset(("CancelledError", "TaskCancelledError", "RequestCancelledError"))
# Serve's method of a WebSocket session; of older versions too.
SOCKET_METHODS = ("WS", "WEBSOCKET")
# Close codes by which a server says that it failed (RFC 6455, 7.4.1); `promql.builders` counts by the same.
SOCKET_ERRORS = range(1011, 1015)
FIRST_CLOSE_CODE = 1000  # as a status of Serve's; below it is HTTP's
# Server errors by the RPC conventions.
GRPC_ERRORS = frozenset(("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"))
# Replaced by the names beside them, or wrong: `http.method` of a router is `__call__`.
DROPPED = (
    "http.method",
    "http.status_code",
    "request_method",
    "request_route_path",
    "resource.name",
    "rpc.system",
    "rpc.grpc.status_code",
)

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def plain(text: str) -> str:
    """Without terminal colours."""
    return _ANSI.sub("", text)


def rewritten(span: ReadableSpan, patched: bool = True) -> ReadableSpan:
    """The corrected span.

    Args:
        span: any ended span; spans that are not Serve's are returned unchanged.
        patched: whether `ray_patches` put the route template into `http.route` of the proxy's span, where Serve puts
            the raw path.
    """
    scope = span.instrumentation_scope
    if scope is None or scope.name != SERVE_SCOPE:
        return span
    what = span.name.split(" ", 1)[0]
    given = dict(span.attributes or {})
    kept = {key: value for key, value in given.items() if key not in DROPPED and value not in ("", None)}
    events = [_plain_event(event) for event in span.events]
    exception = _exception(events)
    name, kind, failed = span.name, span.kind, False
    if what in (PROXY_HTTP, PROXY_WEBSOCKET):
        failed = _http(kept, given, patched)
        route = kept.get("http.route")
        name = " ".join(str(part) for part in (kept.get("http.request.method", "HTTP"), route) if part)
    elif what == PROXY_GRPC:
        failed = _grpc(kept, given)
        name = str(given.get("rpc.method") or span.name.rpartition(" ")[2]).lstrip("/")
    elif what == ROUTER:
        kind = SpanKind.CLIENT
        kept.pop("rpc.service", None)  # under concurrency it is another call's
        kept.pop("rpc.method", None)
        kept["peer.service"] = f"{given.get('app', '')}.{given.get('deployment', '')}"
    elif what == REPLICA:
        kind = SpanKind.SERVER
        failed = _http(kept, given, patched=True)
        if kept.get("http.request.method") in SOCKET_METHODS:
            kept.pop("http.route", None)  # the application's prefix, not the socket's route
        if "rpc.method" in kept:
            kept["rpc.system"] = "ray_serve"
    status = span.status
    if exception and _class_name(exception[0]) not in CANCELLED:
        failed = failed or what not in PROXIES or not _answered_with_an_error(kept)
        kept["error.type"] = exception[0]
    if failed or (what == ROUTER and status.status_code is StatusCode.ERROR):
        text = status.description or (": ".join(part for part in exception if part) if exception else None)
        status = Status(StatusCode.ERROR, plain(text) if text else None)
    else:
        # By the conventions a server's 4xx is not an error, and only an application sets OK.
        status = Status(StatusCode.UNSET)
    return ReadableSpan(
        name=name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=kept,
        events=events,
        links=span.links,
        kind=kind,
        status=status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=scope,
    )


def of_resource(span: ReadableSpan, resource: Resource) -> ReadableSpan:
    """The span as one of another resource."""
    if span.resource == resource:
        return span
    return ReadableSpan(
        name=span.name,
        context=span.context,
        parent=span.parent,
        resource=resource,
        attributes=span.attributes,
        events=span.events,
        links=span.links,
        kind=span.kind,
        status=span.status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _http(kept: dict[str, Any], given: Mapping[str, Any], patched: bool) -> bool:
    """Set the stable HTTP attributes; returns whether the server failed."""
    if method := given.get("http.method") or given.get("request_method"):
        kept["http.request.method"] = method
    if path := given.get("request_route_path"):
        kept["url.path"] = path
    if not patched:
        kept.pop("http.route", None)
    try:
        code = int(given.get("http.status_code", 0))
    except ValueError:
        code = 0
    if not code:
        return False
    kept["websocket.close_code" if code >= FIRST_CLOSE_CODE else "http.response.status_code"] = code
    failed = 500 <= code < 600 or code in SOCKET_ERRORS
    if failed:
        kept["error.type"] = str(code)
    return failed


def _answered_with_an_error(kept: Mapping[str, Any]) -> bool:
    """Whether the client was told of the failure by a status, which then says whose error it is.

    A response that breaks after its first byte has the status 200, and no client is told.
    """
    grpc = kept.get("rpc.system") == "grpc" and kept.get("rpc.response.status_code", "OK") != "OK"
    return grpc or int(kept.get("http.response.status_code", 0)) >= 400


def _grpc(kept: dict[str, Any], given: Mapping[str, Any]) -> bool:
    service, _, method = str(given.get("rpc.method", "")).lstrip("/").rpartition("/")
    code = str(given.get("rpc.grpc.status_code", ""))
    kept["rpc.system"] = "grpc"
    if service:
        kept |= {"rpc.service": service, "rpc.method": method}
    if code:
        kept["rpc.response.status_code"] = code
    if code in GRPC_ERRORS:
        kept["error.type"] = code
    return code in GRPC_ERRORS


def _plain_event(event: Event) -> Event:
    found = dict(event.attributes or {})
    if not any(isinstance(value, str) and "\x1b" in value for value in found.values()):
        return event
    clean = {key: plain(value) if isinstance(value, str) else value for key, value in found.items()}
    return Event(event.name, clean, event.timestamp)


def _class_name(exception_type: str) -> str:
    """`CancelledError` of `asyncio.exceptions.CancelledError` and of `ray.exceptions.RayTaskError(CancelledError)`."""
    return exception_type.rstrip(")").rpartition("(")[2].rpartition(".")[2]


def _exception(events: list[Event]) -> tuple[str, str] | None:
    """Type and message of the last exception."""
    for event in reversed(events):
        if event.name == "exception":
            found = event.attributes or {}
            return str(found.get("exception.type", "")), str(found.get("exception.message", ""))
    return None
