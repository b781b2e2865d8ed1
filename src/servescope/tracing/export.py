"""Export of ended spans to the Collector: in the background, with bounded memory, retrying through an outage."""

from __future__ import annotations

import importlib
import os
import threading
import time
from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from servescope.errors import ServescopeError
from servescope.tracing.semconv import rewritten

OUTAGE_S = 90.0  # how long a batch is retried: long enough for a Collector to restart or move
PAUSE_S = 2.0
FLUSH_S = 5.0
SCHEDULE_DELAY_MS = 1000  # a proxy exits without a flush, so queued spans are lost; the SDK's default delay is 5 s
# A busy process sends small batches instead of one a second: while a batch is encoded, requests wait for the
# interpreter. A quiet process sends once a second, since a batch costs as much as a dozen spans.
BATCH_SIZE = 32
EXPORTERS = {
    "grpc": "opentelemetry.exporter.otlp.proto.grpc.trace_exporter",
    "http/protobuf": "opentelemetry.exporter.otlp.proto.http.trace_exporter",
}
DEFAULT_PROTOCOL = "grpc"


def protocol() -> str:
    """The protocol that the standard variables select.

    Raises:
        ServescopeError: it is not supported.
    """
    for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if value := os.environ.get(name, "").strip():
            if value not in EXPORTERS:
                raise ServescopeError(f"{name}: {value!r} is not one of {', '.join(EXPORTERS)}")
            return value
    return DEFAULT_PROTOCOL


def otlp_exporter() -> SpanExporter:
    """The SDK's OTLP exporter, which reads endpoint, headers, certificates and timeout from the standard variables.

    Raises:
        ServescopeError: its package is missing, or a variable is wrong.
    """
    chosen = protocol()
    for name in ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        value = os.environ.get(name, "")
        if value and "://" not in value:
            raise ServescopeError(f"{name}: {value!r} has no scheme; for example http://127.0.0.1:4317")
    try:
        module = importlib.import_module(EXPORTERS[chosen])
    except ImportError as error:
        raise ServescopeError(f"OTLP over {chosen} needs a missing package ({error})") from error
    exporter: SpanExporter = module.OTLPSpanExporter()
    return exporter


class RetryingExporter(SpanExporter):
    """Retries a batch until it is sent or `outage_s` have passed; meanwhile spans collect in the bounded queue.

    It also rewrites the spans, because this is the exporter's own thread and not a request's.
    """

    def __init__(
        self, exporter: SpanExporter, *, patched: bool, outage_s: float = OUTAGE_S, pause_s: float = PAUSE_S
    ) -> None:
        self._exporter = exporter
        self._patched = patched
        self._outage_s = outage_s
        self._pause_s = pause_s
        self._ending = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch."""
        batch = [rewritten(span, self._patched) for span in spans]
        deadline = time.monotonic() + self._outage_s
        while True:
            result = self._exporter.export(batch)
            if result is SpanExportResult.SUCCESS or self._ending.is_set() or time.monotonic() > deadline:
                return result
            self._ending.wait(self._pause_s)

    def stop_waiting(self) -> None:
        """Do not retry from now on."""
        self._ending.set()

    def shutdown(self) -> None:
        """End."""
        self._ending.set()
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Nothing is buffered here."""
        return self._exporter.force_flush(timeout_millis)


class Processor(SpanProcessor):
    """A batch processor whose shutdown flushes and takes five seconds at most, whatever state the Collector is in."""

    def __init__(self, exporter: RetryingExporter) -> None:
        delay = None if os.environ.get("OTEL_BSP_SCHEDULE_DELAY") else SCHEDULE_DELAY_MS
        self._exporter = exporter
        size = None if os.environ.get("OTEL_BSP_MAX_EXPORT_BATCH_SIZE") else BATCH_SIZE
        self._batches = BatchSpanProcessor(exporter, schedule_delay_millis=delay, max_export_batch_size=size)
        self._ended = threading.Lock()
        self._down = False

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a span; the queue is bounded (OTEL_BSP_MAX_QUEUE_SIZE) and drops the oldest."""
        self._batches.on_end(span)

    def shutdown(self) -> None:
        """Send the queued spans, for five seconds at most."""
        with self._ended:
            if self._down:
                return
            self._down = True
        self._exporter.stop_waiting()
        worker = threading.Thread(target=self._batches.shutdown, daemon=True, name="servescope-flush")
        worker.start()
        worker.join(FLUSH_S)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Send the queued spans now."""
        return self._batches.force_flush(timeout_millis)


def processor(patched: bool) -> Processor:
    """The processor for Serve's tracer provider; `patched`: whether Serve's own tracing is patched (`ray_patches`).

    Raises:
        ServescopeError: an environment variable is wrong, or a package is missing.
    """
    try:
        return Processor(RetryingExporter(otlp_exporter(), patched=patched))
    except ValueError as error:  # from the SDK, on an invalid or out-of-range number
        raise ServescopeError(f"an OTEL_* variable is wrong: {error}") from error
