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
            "Log events by type: backpressure (by the caller that dropped the call), replica_crash, replica_unhealthy, "
            "upscale, downscale."
        ),
        appears="first such log line",
        trap=(
            "An independent source besides Ray's metrics: log lines may be late, and an agent that restarts counts "
            "from zero."
        ),
        needs=_A_LOG_AGENT,
    ),
    Metric(
        name="fluentbit_output_dropped_records_total",
        kind=COUNTER,
        unit="records",
        labels=("name",),
        help=(
            "Records that Fluent Bit dropped: rejected permanently by the backend, or evicted from a full disk buffer."
        ),
        needs=_A_LOG_AGENT,
    ),
    Metric(
        name="fluentbit_output_retries_total",
        kind=COUNTER,
        unit="tries",
        labels=("name",),
        help="Chunks that Fluent Bit failed to deliver and will retry; it rises while the backend is unreachable.",
        needs=_A_LOG_AGENT,
    ),
    Metric(
        name="fluentbit_logger_logs_total",
        kind=COUNTER,
        unit="messages",
        labels=("message_type",),
        help="Fluent Bit's own log messages by severity; an unreadable directory is an error at every scan.",
        needs=_A_LOG_AGENT,
    ),
    Metric(
        name="otelcol_exporter_send_failed_log_records",
        kind=COUNTER,
        unit="records",
        labels=("exporter",),
        help=(
            "Records that the Collector dropped because the backend rejected them permanently; retried records do not "
            "count."
        ),
        appears="first such record",
        needs=_A_LOG_AGENT,
    ),
    Metric(
        name="otelcol_exporter_queue_size",
        kind=GAUGE,
        unit="requests",
        labels=("exporter", "data_type"),
        help="Requests in the Collector's queue on disk; it rises while the backend is unreachable.",
        needs=_A_LOG_AGENT,
    ),
    source=Source.LOG_AGENT,
    origin=Origin.NONE,
)
