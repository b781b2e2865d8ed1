"""Metrics of the log agents: Fluent Bit and the OpenTelemetry Collector."""

from __future__ import annotations

from servescope.catalog.model import COUNTER, GAUGE, Metric, Origin, Source, group

_A_LOG_AGENT = "a log agent (docs/logs.md)"

LOG_AGENTS = group(
    "Logs",
    Metric(
        name="servescope_log_events_total",
        kind=COUNTER,
        unit="events",
        labels=("event", "application", "deployment", "component"),
        help=(
            "Events that only the logs tell: backpressure (by the caller that dropped the call), replica_crash, "
            "replica_unhealthy, upscale, downscale."
        ),
        appears="with the first such line",
        trap="A second witness: a line may be late, and an agent that starts counts from zero.",
        needs=_A_LOG_AGENT,
    ),
    Metric(
        name="fluentbit_output_dropped_records_total",
        kind=COUNTER,
        unit="records",
        labels=("name",),
        help="Records that Fluent Bit gave up: refused for good, or pushed out of a full disk buffer.",
        needs=_A_LOG_AGENT,
    ),
    Metric(
        name="fluentbit_output_retries_total",
        kind=COUNTER,
        unit="tries",
        labels=("name",),
        help="Chunks that Fluent Bit could not deliver and will try again; it rises while the backend is away.",
        needs=_A_LOG_AGENT,
    ),
    Metric(
        name="fluentbit_logger_logs_total",
        kind=COUNTER,
        unit="messages",
        labels=("message_type",),
        help="What Fluent Bit says of itself, by severity; an unreadable directory is an error at every scan.",
        needs=_A_LOG_AGENT,
    ),
    Metric(
        name="otelcol_exporter_send_failed_log_records",
        kind=COUNTER,
        unit="records",
        labels=("exporter",),
        help="Records that the Collector gave up, refused by the backend for good; what it tries again does not count.",
        appears="with the first such record",
        needs=_A_LOG_AGENT,
    ),
    Metric(
        name="otelcol_exporter_queue_size",
        kind=GAUGE,
        unit="requests",
        labels=("exporter", "data_type"),
        help="Requests that wait in the Collector's queue on disk; it rises while the backend is away.",
        needs=_A_LOG_AGENT,
    ),
    source=Source.LOG_AGENT,
    origin=Origin.NONE,
)
