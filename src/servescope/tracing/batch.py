"""The span of a batch, linked to every request in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.trace import Link


@contextmanager
def trace_batch(name: str = "batch") -> Iterator[None]:
    """A span around the work of a `@serve.batch` method, in the method's body.

    Serve records a batch in the trace of its first request only; this span links to all of them.
    Outside a batch, without OpenTelemetry, and on a Ray that does not expose a batch's requests, it is a plain span or
    nothing.

    Args:
        name: the name of the span.
    """
    try:
        from opentelemetry import trace
    except ImportError:
        yield
        return
    requests = batch_requests()
    attributes: dict[str, Any] = {}
    if requests:
        attributes = {"serve.batch.size": len(requests), "serve.batch.request_ids": request_ids(requests)}
    tracer = trace.get_tracer("servescope.tracing")
    with tracer.start_as_current_span(name, attributes=attributes, links=links(requests)):
        yield


def batch_requests() -> Sequence[Any]:
    """Serve's request contexts of the running batch; a private API of Ray, so empty if it is missing."""
    try:
        from ray.serve import context

        # Read, not called: the function would store an empty list if there is none.
        found = context._serve_batch_request_context.get()
    except (ImportError, AttributeError):
        return ()
    return found or ()


def request_ids(requests: Sequence[Any]) -> list[str]:
    """The request IDs, in order."""
    return [request.request_id for request in requests if getattr(request, "request_id", "")]


def links(requests: Sequence[Any]) -> list[Link]:
    """A link to the span that sent each request; none for a request that is not recorded."""
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    found = []
    for request in requests:
        carrier = getattr(request, "_ray_trace_ctx", None)
        if not isinstance(carrier, Mapping):
            continue
        span = trace.get_current_span(TraceContextTextMapPropagator().extract(carrier)).get_span_context()
        if span.is_valid and span.trace_flags.sampled:
            attributes = {"request_id": request.request_id} if getattr(request, "request_id", "") else {}
            found.append(trace.Link(span, attributes))
    return found
