"""Export of ended spans to the Collector: in the background, with bounded memory, retrying through an outage."""

from __future__ import annotations

import importlib
import logging
import os
import threading
import time
from collections.abc import Sequence

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from servescope.errors import ServescopeError
from servescope.tracing.destination import Destination, destination, listening
from servescope.tracing.semconv import of_resource, rewritten

log = logging.getLogger("ray.serve")

OUTAGE_S = 90.0  # how long a batch is retried: long enough for a Collector to restart or move
PAUSE_S = 2.0  # doubled with each attempt in vain, up to
LONGEST_PAUSE_S = 10.0
FLUSH_S = 5.0
SCHEDULE_DELAY_MS = 1000  # a proxy exits without a flush, so queued spans are lost; the SDK's default delay is 5 s
# A busy process sends small batches instead of one a second: while a batch is encoded, requests wait for the
# interpreter. A quiet process sends once a second, since a batch costs as much as a dozen spans.
BATCH_SIZE = 32
EXPORTERS = {
    "grpc": "opentelemetry.exporter.otlp.proto.grpc.trace_exporter",
    "http/protobuf": "opentelemetry.exporter.otlp.proto.http.trace_exporter",
}


def otlp_exporter(to: Destination) -> SpanExporter:
    """The SDK's OTLP exporter, which reads endpoint, headers, certificates and timeout from the standard variables.

    Raises:
        ServescopeError: its package is missing.
    """
    chosen = to.protocol
    try:
        module = importlib.import_module(EXPORTERS[chosen])
    except ImportError as error:
        raise ServescopeError(f"OTLP over {chosen} needs a missing package ({error})") from error
    exporter: SpanExporter = module.OTLPSpanExporter()
    return exporter


class RetryingExporter(SpanExporter):
    """Retries a batch until it is sent or `outage_s` have passed; meanwhile spans collect in the bounded queue.

    It also rewrites the spans, because this is the exporter's own thread and not a request's. An outage is one line in
    the log, and its end another.
    """

    def __init__(
        self,
        exporter: SpanExporter,
        *,
        to: Destination,
        patched: bool,
        resource: Resource | None = None,
        outage_s: float = OUTAGE_S,
        pause_s: float = PAUSE_S,
    ) -> None:
        """`resource` takes the place of every span's own, where other providers make spans too."""
        self._exporter = exporter
        self._to = to
        self._patched = patched
        self._resource = resource
        self._outage_s = outage_s
        self._pause_s = pause_s
        self._ending = threading.Event()
        self._failures = 0  # attempts in vain since the last that succeeded
        self._lost = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch."""
        batch = [rewritten(span, self._patched) for span in spans]
        if self._resource is not None:
            batch = [of_resource(span, self._resource) for span in batch]
        deadline = time.monotonic() + self._outage_s
        while True:
            result, said = self._attempt(batch)
            if result is SpanExportResult.SUCCESS:
                self._note_success()
                return result
            self._note_failure(said)
            if self._ending.is_set() or time.monotonic() > deadline:
                self._lost += len(batch)
                return result
            self._ending.wait(min(self._pause_s * 2 ** min(self._failures - 1, 10), LONGEST_PAUSE_S))

    def _attempt(self, batch: Sequence[ReadableSpan]) -> tuple[SpanExportResult, str]:
        """The result of one attempt, and what the SDK said of it."""
        with listening() as said:
            try:
                return self._exporter.export(batch), " ".join(said)
            except Exception as error:  # a bad certificate, for instance
                return SpanExportResult.FAILURE, f"{' '.join(said)} {type(error).__name__}: {error}"

    def _note_failure(self, said: str) -> None:
        self._failures += 1
        if self._failures == 1:
            log.warning("servescope: %s (retried quietly, each span for %.0f s)", self._to.why(said), self._outage_s)

    def _note_success(self) -> None:
        if self._failures:
            log.info("servescope: spans are sent again to %s; lost meanwhile: %d", self._to.url, self._lost)
        self._failures = self._lost = 0

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


def processor(patched: bool, *, everything: bool = False) -> Processor:
    """The processor for Serve's tracer provider.

    Args:
        patched: whether Serve's own tracing is patched (`ray_patches`).
        everything: whether spans of other providers come here too, which get the resource of this process.

    Raises:
        ServescopeError: an environment variable is wrong, or a package is missing.
    """
    try:
        to = destination()
        resource = Resource.create() if everything else None
        return Processor(RetryingExporter(otlp_exporter(to), to=to, patched=patched, resource=resource))
    except ValueError as error:  # from the SDK, on an invalid or out-of-range number
        raise ServescopeError(f"an OTEL_* variable is wrong: {error}") from error
