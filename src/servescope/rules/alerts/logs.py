"""Log collection: records that the log agents drop, and their errors."""

from __future__ import annotations

from servescope.promql.figures import MINUTE
from servescope.rules import series
from servescope.rules.alert import Alert, Case, Group
from servescope.rules.expressions import Expressions

COLLECTOR = "the Collector with otel/logs.yaml, scraped with the cluster label (docs/logs.md)"
AGENT = "Fluent Bit with fluentbit/, scraped with the cluster label (docs/logs.md)"
PANEL = ("servescope-deployment", "Log-derived events")
DROPPED = series.series("fluentbit_output_dropped_records_total", name="loki")
FAILED = series.series("otelcol_exporter_send_failed_log_records", exporter="otlp_http/logs")
ERRORS = series.series("fluentbit_logger_logs_total", message_type="error")


def build(exprs: Expressions) -> Group:
    """The alerts of this group, in the order of the rule file."""
    return Group(
        name="logs",
        title="Log collection",
        alerts=(logs_dropped(exprs), collector_logs_dropped(exprs), log_agent_errors(exprs)),
    )


def logs_dropped(exprs: Expressions) -> Alert:
    dropped = exprs.events("fluentbit_output_dropped_records_total", "15m", "instance")
    return Alert(
        name="ServescopeLogsDropped",
        severity="warning",
        owner="monitoring",
        for_="",
        every_s=MINUTE,
        labels=("instance",),
        expr=f"{dropped} > 0",
        summary="Fluent Bit dropped log records.",
        description=(
            "Fluent Bit on {{ $labels.instance }} dropped {{ $value | humanize }} log records in the last 15 minutes."
        ),
        meaning=(
            "The backend rejects them permanently (400, or 401, 413 and 500 with OTLP), or its outage "
            "lasted until the disk buffer of 1 GB was full and the oldest records were dropped."
        ),
        impact="Log lines are missing.",
        diagnosis=(
            ("Is the backend down?", "rate(fluentbit_output_retries_total[5m])"),
            ("What does it return? See Fluent Bit's own log.", ""),
        ),
        mitigation=(
            "Restore the backend, or raise its limits (loki/loki.yml).",
            "If outages last longer, raise storage.total_limit_size in fluentbit/output-*.yaml.",
        ),
        panel=PANEL,
        case=Case(at="20m", fires={DROPPED: "0+1x"}, quiet={DROPPED: "5x"}, labels={"instance": "n1"}),
        no_drill="the disk buffer of 1 GB would have to fill; make drill-logs measures outages",
        needs=AGENT,
    )


def collector_logs_dropped(exprs: Expressions) -> Alert:
    failed = exprs.events("otelcol_exporter_send_failed_log_records", "15m", "instance")
    return Alert(
        name="ServescopeCollectorLogsDropped",
        severity="warning",
        owner="monitoring",
        for_="",
        every_s=MINUTE,
        labels=("instance",),
        expr=f"{failed} > 0",
        summary="The OpenTelemetry Collector dropped log records.",
        description=(
            "The Collector on {{ $labels.instance }} dropped {{ $value | humanize }} log records in the "
            "last 15 minutes."
        ),
        meaning=(
            "The backend rejects them permanently: every status code but 429, 502, 503 and 504, which "
            "are retried. An outage loses nothing: when the queue on disk is full, the Collector stops "
            "reading the files."
        ),
        impact="Log lines are missing.",
        diagnosis=(
            (
                "Is the backend down as well? Then the queue grows.",
                'max by (instance) (otelcol_exporter_queue_size{data_type="logs"})',
            ),
            ("What does it return? See the Collector's own log: `Exporting failed. Dropping data.`", ""),
        ),
        mitigation=(
            "Raise the backend's limits (loki/loki.yml), or fix the address and credentials in otel/logs.yaml.",
        ),
        panel=PANEL,
        case=Case(at="20m", fires={FAILED: "0+1x"}, quiet={FAILED: "5x"}, labels={"instance": "n1"}),
        no_drill="a live test makes the backend reject records permanently and reads the counter",
        needs=COLLECTOR,
    )


def log_agent_errors(exprs: Expressions) -> Alert:
    errors = exprs.events("fluentbit_logger_logs_total", "10m", "instance", message_type='="error"')
    return Alert(
        name="ServescopeLogAgentErrors",
        severity="warning",
        owner="monitoring",
        for_="5m",
        every_s=MINUTE,
        labels=("instance",),
        expr=f"{errors} >= 10",
        summary="The log agent reports errors.",
        description=(
            "Fluent Bit on {{ $labels.instance }} logged {{ $value | humanize }} errors in the last 10 minutes."
        ),
        meaning=(
            "Most often it lacks permission to read one of Ray's directories (`read error, check "
            "permissions`): for a user that is neither root nor Ray's, one such directory hides every "
            "file that its pattern matches. The Collector logs such a directory at level debug only, so "
            "it has no such alert."
        ),
        impact=(
            "Log lines of the unreadable files are missing until the agent can read them; nothing is "
            "lost while the files exist."
        ),
        diagnosis=(("Which error? See its own log.", ""),),
        mitigation=("Run the agent as root or as the user that runs Ray; in a pod, with Ray's runAsUser.",),
        panel=PANEL,
        case=Case(at="30m", fires={ERRORS: "0+3x"}, quiet={ERRORS: "90x"}, labels={"instance": "n1"}),
        no_drill="make drill-logs measures an unreadable directory",
        needs=AGENT,
    )
