"""Patches for defects of Serve's tracing in this process: `docs/ray-issues/` describes each with a reproduction.

The patched code is private to Ray. So every piece is checked first, and if one differs from the Ray that this was
written for, nothing is patched and one log line says so. Spans are rewritten anyway (`semconv`, and the Collector);
`docs/tracing.md` lists what remains wrong then.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import os
from contextvars import ContextVar
from types import ModuleType
from typing import Any

from servescope.tracing import semconv

log = logging.getLogger("ray.serve")

RATIO_VARIABLE = "RAY_SERVE_TRACING_SAMPLING_RATIO"
# Functions that are replaced or called, with their parameters.
EXPECTED = {
    "_append_trace_stack": ("span",),
    "_pop_trace_stack": (),
    "is_tracing_enabled": (),
    "get_tracer": (),
    "get_trace_context": (),
    "set_trace_context": ("trace_context",),
    "set_span_in_context": ("span", "context"),
    "set_span_name": ("name",),
    "extract_propagated_context": ("propagated_context",),
    "ParentBasedTraceIdRatio": ("rate",),
}
EXPECTED_MANAGER = ("self", "trace_name", "span_kind", "trace_context")
_MARK = "_servescope_patched"

# The route template of the WebSocket session of this context; "" for a request.
_socket_route: ContextVar[str] = ContextVar("servescope_socket_route", default="")


def serve_tracing() -> ModuleType | None:
    """Serve's tracing module; None if it has none."""
    try:
        from ray.serve._private import tracing_utils
    except ImportError:
        return None
    module: ModuleType = tracing_utils
    return module


def differences(module: ModuleType) -> list[str]:
    """What differs from what this module expects."""
    found = []
    for name, parameters in EXPECTED.items():
        function = getattr(module, name, None)
        if function is None or tuple(inspect.signature(function).parameters) != parameters:
            found.append(name)
    manager = getattr(module, "TraceContextManager", None)
    if manager is None or tuple(inspect.signature(manager.__init__).parameters) != EXPECTED_MANAGER:
        found.append("TraceContextManager")
    if not hasattr(module, "TRACE_STACK"):
        found.append("TRACE_STACK")
    return found


def patch_serve() -> bool:
    """Patch Serve's tracing; returns whether that was possible."""
    module = serve_tracing()
    if module is None or differences(module):
        log.warning(
            "servescope: unsupported version of Ray's tracing, not patched; spans are rewritten, but %s",
            "sampling decisions are not propagated and attributes may be on the wrong span",
        )
        _sample_everything(module)
        return False
    if getattr(module, _MARK, False):
        return True
    _own_stack_for_each_task(module)
    _propagate_decisions_and_record_failures(module)
    _pass_trace_state_on()
    _find_routes_of_sockets()
    _sample_everything(module)
    setattr(module, _MARK, True)
    return True


def record_nothing() -> None:
    """Make Serve record nothing: neither in the provider that it is about to make, nor in one that is there already."""
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
    from opentelemetry.trace import NoOpTracer
    from ray.serve._private import tracing_utils

    module: Any = tracing_utils
    module.ParentBasedTraceIdRatio = lambda rate: ALWAYS_OFF
    module._tracer = NoOpTracer()  # what Serve keeps of its provider


def _sample_everything(module: Any) -> None:
    """Serve samples one request in a hundred by default; here everything is recorded and the Collector samples.

    A ratio set by the variable is kept. On an unknown Ray this is the only remedy for incomplete traces.
    """
    if os.environ.get(RATIO_VARIABLE):
        return
    if not hasattr(module, "ParentBasedTraceIdRatio"):
        log.warning("servescope: this Ray samples differently; set %s=1, or traces are incomplete", RATIO_VARIABLE)
        return
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased

    module.ParentBasedTraceIdRatio = lambda *_, **__: ParentBased(ALWAYS_ON)


def _own_stack_for_each_task(module: Any) -> None:
    """Serve keeps its open spans in a list that concurrent tasks share, so attributes land on another task's span."""
    stack = module.TRACE_STACK

    def append(span: Any) -> None:
        stack.set([*stack.get([]), span])

    def pop() -> None:
        stack.set(stack.get([])[:-1])

    module._append_trace_stack = append
    module._pop_trace_stack = pop


def _propagate_decisions_and_record_failures(module: Any) -> None:
    """A span that is not sampled becomes the current one too, so that its children are not sampled either.

    Serve skips it, and every hop decides again. At the end, a failure becomes the span's status, and the proxy's
    span gets the route template, which only this process' request context knows.
    """
    from opentelemetry.trace import SpanKind, get_current_span

    manager = module.TraceContextManager

    def on_stack(self: Any) -> bool:
        # With a span on the stack, Serve describes the request, and a router or a replica passes it to the next hop.
        # A proxy does not, so a request that is not sampled needs no description there.
        return self.span.is_recording() or not self.trace_name.startswith("proxy_")

    def enter(self: Any) -> Any:
        if self.is_tracing_enabled:
            context = self.trace_context if self.trace_context else module.get_trace_context()
            above = get_current_span(context)
            decided = above.get_span_context()
            if decided.is_valid and not decided.trace_flags.sampled and not above.is_recording():
                # A parent-based sampler, as Serve's is, would only decide the same again.
                self.span = above
                if self.trace_context:
                    module.set_trace_context(self.trace_context)
            else:
                router = self.trace_name.startswith(semconv.ROUTER)
                kind = SpanKind.CLIENT if router else self.span_kind or SpanKind.SERVER
                self.span = module.get_tracer().start_span(self.trace_name, kind=kind, context=context)
                module.set_trace_context(module.set_span_in_context(self.span))
            # Serve repeats the name here, in an attribute that nothing reads.
            if on_stack(self):
                module._append_trace_stack(self.span)
        return self

    def leave(  # noqa: PLR0917 (what __exit__ is given)
        self: Any, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: Any
    ) -> bool:
        if self.is_tracing_enabled and self.span is not None:
            if on_stack(self):
                module._pop_trace_stack()
            if self.span.is_recording():
                _record_end(self.span, self.trace_name, exc)
            self.span.end()
        return False

    manager.__enter__ = enter
    manager.__exit__ = leave


def _record_end(span: Any, name: str, exc: BaseException | None) -> None:
    from opentelemetry.trace import StatusCode

    if name.startswith("proxy_http") and (route := _socket_route.get() or _route()):
        span.set_attribute("http.route", route)
    if (
        name.startswith(semconv.ROUTER)
        and exc is not None
        and not isinstance(exc, (asyncio.CancelledError, GeneratorExit))
    ):
        # Serve records the exceptions of proxies and replicas, but not of routers.
        span.record_exception(exc)
        span.set_status(StatusCode.ERROR, semconv.plain(f"{type(exc).__name__}: {exc}"))


def _route() -> str:
    from ray.serve import context

    current = context._serve_request_context.get()
    return str(getattr(current, "route", "") or "")


def _find_routes_of_sockets() -> None:
    """Serve's proxy matches the routes of requests only, and counts a socket under the application's prefix.

    Its metrics and logs stay as they are: the route is kept for the span alone.
    """
    try:
        from ray.serve._private.proxy_router import ProxyRouter
    except ImportError:
        return
    router: Any = ProxyRouter
    original = getattr(router, "match_route_pattern", None)
    if original is None or tuple(inspect.signature(original).parameters) != ("self", "route_prefix", "asgi_scope"):
        return  # the span then has the prefix

    def match_route_pattern(self: Any, route_prefix: str, asgi_scope: Any) -> str:
        found: str = original(self, route_prefix, asgi_scope)
        is_socket = asgi_scope.get("type") == "websocket"
        as_request = {**asgi_scope, "type": "http", "method": "GET"}
        _socket_route.set(original(self, route_prefix, as_request) if is_socket else "")
        return found

    router.match_route_pattern = match_route_pattern


def _pass_trace_state_on() -> None:
    """Serve's proxy reads `traceparent` only: neither `tracestate` nor what OTEL_PROPAGATORS names."""
    try:
        from ray.serve._private import proxy_request_response
        from ray.serve._private.tracing_utils import extract_propagated_context, is_tracing_enabled, set_trace_context

        requests: Any = proxy_request_response
        kinds = (requests.ASGIProxyRequest, requests.gRPCProxyRequest)
        if any("populate_tracing_context" not in vars(kind) for kind in kinds):
            return
    except (ImportError, AttributeError):
        return

    other = other_propagators()
    names = frozenset(other.fields) if other else frozenset(("traceparent", "tracestate"))

    def populate(headers: Any) -> None:
        wanted: dict[str, str] = {}
        for key, value in headers:
            name = key.decode("latin-1") if isinstance(key, bytes) else key
            if name.lower() in names:
                name, text = name.lower(), value.decode("latin-1") if isinstance(value, bytes) else value
                # A list in several headers of one name is one list (RFC 9110, 5.3); of two parents the last counts.
                wanted[name] = f"{wanted[name]},{text}" if name == "tracestate" and wanted.get(name) else text
        if other is not None:
            if wanted:
                set_trace_context(other.extract(wanted))
        elif "traceparent" in wanted:
            set_trace_context(extract_propagated_context(wanted))

    def of_http(self: Any) -> None:
        if is_tracing_enabled():
            populate(self.headers)

    def of_grpc(self: Any) -> None:
        if is_tracing_enabled():
            populate(self.context.invocation_metadata())

    requests.ASGIProxyRequest.populate_tracing_context = of_http
    requests.gRPCProxyRequest.populate_tracing_context = of_grpc


def other_propagators() -> Any:
    """The propagator of OTEL_PROPAGATORS where it names others than W3C's, else None.

    Serve's proxy reads a request with it. Between proxy and replicas Serve speaks W3C's Trace Context only: neither
    another format nor baggage goes further.
    """
    named = {name.strip() for name in os.environ.get("OTEL_PROPAGATORS", "").split(",") if name.strip()}
    if named <= {"tracecontext", "baggage"}:
        return None
    try:
        from opentelemetry import propagate
    except Exception as error:  # it raises whatever a package of a propagator raises
        log.warning("servescope: OTEL_PROPAGATORS: %s; requests are read by W3C's Trace Context only", error)
        return None
    return propagate.get_global_textmap()


def flush_at_shutdown(processor: Any) -> None:
    """Send the queued spans when Serve stops this replica: Serve kills the process right after.

    On a Ray that stops replicas differently, the last spans are lost.
    """
    try:
        from ray.serve._private import replica

        serve_replica: Any = replica.Replica
        original = serve_replica._perform_graceful_shutdown
    except (ImportError, AttributeError):
        log.warning("servescope: this Ray stops replicas differently; the last spans may be lost")
        return

    @functools.wraps(original)
    async def stop(self: Any) -> None:
        try:
            await original(self)
        finally:
            await asyncio.to_thread(processor.shutdown)

    serve_replica._perform_graceful_shutdown = stop
