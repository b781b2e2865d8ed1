"""What an application and Serve call: the exporter function, and the instrumentation of a FastAPI ingress."""

from __future__ import annotations

import logging
import os
from functools import partial
from typing import TYPE_CHECKING, Any

from servescope.errors import ServescopeError

if TYPE_CHECKING:
    from fastapi import FastAPI
    from opentelemetry.sdk.trace import SpanProcessor

log = logging.getLogger("ray.serve")

# Paths that probes request every few seconds; a regular expression each.
HEALTH_CHECKS = ("/-/healthz$", "/healthz?$", "/livez$", "/readyz$", "/metrics$")


def otlp() -> list[SpanProcessor]:
    """The function for Serve's tracing hook: spans as OTLP, by the standard OTEL_EXPORTER_OTLP_* variables.

    Serve calls it once in every proxy and replica, before it makes the tracer provider. It names the service
    `<application>.<deployment>` or `serve-proxy`, patches Serve's tracing in this process, and adds trace IDs to
    the logs. If a package is missing or a variable is wrong, one log line says so and tracing is off.
    """
    try:
        from servescope.tracing import export, logs, ray_patches, resource, takeover

        resource.describe_process()
        instrumented = takeover.is_instrumented()
        processor = export.processor(patched=ray_patches.patch_serve(), everything=instrumented)
        if instrumented:
            takeover.take_over(processor)
        ray_patches.flush_at_shutdown(processor)
        logs.add_trace_ids()
        return [processor]
    except Exception as error:  # no tracing error may break the application
        _turn_off(str(error) if isinstance(error, ServescopeError) else f"{type(error).__name__}: {error}")
        return []


def _turn_off(reason: str) -> None:
    log.warning("servescope: tracing is off: %s", reason)
    try:
        from servescope.tracing import ray_patches

        ray_patches.record_nothing()
    except Exception as error:  # Ray's own code may be of any version; the application goes on
        log.warning("servescope: spans are still created, and discarded: %s", error)


def instrument_fastapi(app: FastAPI, exclude: tuple[str, ...] = HEALTH_CHECKS) -> FastAPI:
    """Add the span of the FastAPI ingress: its route, status and exceptions, without one span for each message.

    Call it before `@serve.ingress(app)`. The application is instrumented in the replica, at its first
    request: what opentelemetry-instrumentation-fastapi creates cannot always be pickled. Without that package the
    application runs uninstrumented.

    Args:
        app: the application of the ingress.
        exclude: regular expressions of paths to leave out.
    """
    app.build_middleware_stack = partial(_instrumented_stack, app, ",".join(exclude))  # type: ignore[method-assign]
    return app


def _instrumented_stack(app: FastAPI, exclude: str) -> Any:
    del app.build_middleware_stack  # restores the class's own method
    try:
        # The stable names of the semantic conventions, unless the application set something else.
        os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http")
        from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

        FastAPIInstrumentor.instrument_app(app, excluded_urls=exclude, exclude_spans=["send", "receive"])
    except Exception as error:  # no tracing error may break the application
        log.warning("servescope: the FastAPI application is not instrumented: %s", error)
    return app.build_middleware_stack()
