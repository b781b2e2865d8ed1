"""A process that OpenTelemetry's auto-instrumentation was in first: its spans go out once, under Serve's names.

The operator's injection and `opentelemetry-instrument` set a tracer provider before Serve does. Serve's own is refused
then, and its spans would be sent by both, under the service name of the whole pod.
"""

from __future__ import annotations

import logging
import threading

from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

from servescope.errors import ServescopeError

log = logging.getLogger("ray.serve")


def is_instrumented() -> bool:
    """Whether this process has a tracer provider already."""
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def take_over(processor: SpanProcessor) -> None:
    """Give the spans of the provider that is there to `processor`, and its place to Serve's provider.

    Tracers that instrumentations hold go on; what exported their spans before is shut down.

    Raises:
        ServescopeError: the provider is not the SDK's, or the SDK is one that this was not written for.
    """
    provider = trace.get_tracer_provider()
    kind = f"{type(provider).__module__}.{type(provider).__qualname__}"
    if not isinstance(provider, TracerProvider):
        raise ServescopeError(f"another tracer is set up in this process: {kind}; use that one or this one")
    shared = getattr(provider, "_active_span_processor", None)
    before = getattr(shared, "_span_processors", None)
    once = getattr(trace, "_TRACER_PROVIDER_SET_ONCE", None)
    if shared is None or not isinstance(before, tuple) or once is None or not hasattr(trace, "_TRACER_PROVIDER"):
        raise ServescopeError(
            "OpenTelemetry is set up in this process already, by a version of its SDK that is not known; take the "
            "auto-instrumentation out of Ray's environment"
        )
    shared._span_processors = (processor,)
    trace._TRACER_PROVIDER = None
    trace._TRACER_PROVIDER_SET_ONCE = type(once)()
    # They flush, for seconds where nothing answers.
    threading.Thread(target=_shut_down, args=(before,), daemon=True, name="servescope-takeover").start()
    log.info(
        "servescope: this process was instrumented before (%s); its spans are now sent once, as Serve's service", kind
    )


def _shut_down(processors: tuple[SpanProcessor, ...]) -> None:
    for processor in processors:
        processor.shutdown()
