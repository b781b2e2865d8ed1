"""Logs that do not arrive: what the log agent says of itself."""

from __future__ import annotations

from servescope.rules import series
from servescope.rules.alert import Alert, Case, Group
from servescope.rules.expressions import Expressions
from servescope.settings import Settings

COLLECTOR = "the Collector with otel/logs.yaml, scraped with the cluster label (docs/logs.md)"
AGENT = "Fluent Bit with fluentbit/, scraped with the cluster label (docs/logs.md)"
PANEL = ("servescope-deployment", "Log-derived events")
DROPPED = series.series("fluentbit_output_dropped_records_total", name="loki")
FAILED = series.series("otelcol_exporter_send_failed_log_records", exporter="otlp_http/logs")
ERRORS = series.series("fluentbit_logger_logs_total", message_type="error")


def build(settings: Settings) -> Group:
    """The alerts of this group, in the order of the rule file."""
    exprs = Expressions(settings)
    return Group(
        name="logs", title="Logs", alerts=(logs_dropped(exprs), collector_logs_dropped(exprs), log_agent_errors(exprs))
    )


def logs_dropped(exprs: Expressions) -> Alert:
    dropped = exprs.events("fluentbit_output_dropped_records_total", "15m", "instance")
    return Alert(
        name="ServescopeLogsDropped",
        severity="warning",
        for_="",
        labels=("instance",),
        expr=f"{dropped} > 0",
        summary="Log lines are being lost.",
        description="Fluent Bit on {{ $labels.instance }} gave up {{ $value | humanize }} records in 15 minutes.",
        meaning=(
            "The backend refuses them for good (400, or 401, 413 and 500 with OTLP), or it was away for so "
            "long that 1 GB waits on disk and the oldest go."
        ),
        impact="Lines are missing where somebody will look for them.",
        diagnosis=(
            ("Is the backend away?", "rate(fluentbit_output_retries_total[5m])"),
            ("What does it answer? Fluent Bit's own log tells.", ""),
        ),
        mitigation=(
            "Bring the backend back, or raise its limits (loki/loki.yml).",
            "Raise storage.total_limit_size in fluentbit/output-*.yaml where outages last longer.",
        ),
        panel=PANEL,
        case=Case(at="20m", fires={DROPPED: "0+1x"}, quiet={DROPPED: "5x"}, labels={"instance": "n1"}),
        no_drill="the buffer of 1 GB would have to fill; make drill-logs measures outages",
        needs=AGENT,
    )


def collector_logs_dropped(exprs: Expressions) -> Alert:
    failed = exprs.events("otelcol_exporter_send_failed_log_records", "15m", "instance")
    return Alert(
        name="ServescopeCollectorLogsDropped",
        severity="warning",
        for_="",
        labels=("instance",),
        expr=f"{failed} > 0",
        summary="Log lines are being lost.",
        description="The Collector on {{ $labels.instance }} gave up {{ $value | humanize }} records in 15 minutes.",
        meaning=(
            "The backend refuses them for good: every answer but 429, 502, 503 and 504, which are tried "
            "again. An outage loses nothing: when the queue on disk is full, the files wait."
        ),
        impact="Lines are missing where somebody will look for them.",
        diagnosis=(
            (
                "Is the backend away as well? The queue grows.",
                'max by (instance) (otelcol_exporter_queue_size{data_type="logs"})',
            ),
            ("What does it answer? The Collector's own log tells: `Exporting failed. Dropping data.`", ""),
        ),
        mitigation=(
            "Raise the backend's limits (loki/loki.yml), or mend the address and the login in otel/logs.yaml.",
        ),
        panel=PANEL,
        case=Case(at="20m", fires={FAILED: "0+1x"}, quiet={FAILED: "5x"}, labels={"instance": "n1"}),
        no_drill="a live test lets the backend refuse records for good and reads the counter",
        needs=COLLECTOR,
    )


def log_agent_errors(exprs: Expressions) -> Alert:
    errors = exprs.events("fluentbit_logger_logs_total", "10m", "instance", message_type='="error"')
    return Alert(
        name="ServescopeLogAgentErrors",
        severity="warning",
        for_="5m",
        labels=("instance",),
        expr=f"{errors} >= 10",
        summary="The log agent complains again and again.",
        description="Fluent Bit on {{ $labels.instance }} logged {{ $value | humanize }} errors in 10 minutes.",
        meaning=(
            "Most often it may not read a directory of Ray's (`read error, check permissions`): to a user "
            "that is neither root nor Ray's, one such directory hides every file that its pattern matches. "
            "The Collector tells of such a directory at its log level debug only, so there is no such alert "
            "about it."
        ),
        impact=(
            "Lines of the files that it cannot read are missing until it can; none is lost for good while "
            "they lie there."
        ),
        diagnosis=(("What does it say? Its own log tells.", ""),),
        mitigation=("Run it as root or as the user that runs Ray; in a pod, with Ray's runAsUser.",),
        panel=PANEL,
        case=Case(at="30m", fires={ERRORS: "0+3x"}, quiet={ERRORS: "90x"}, labels={"instance": "n1"}),
        no_drill="make drill-logs measures an unreadable directory",
        needs=AGENT,
    )
