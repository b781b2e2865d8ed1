"""Regressions after a deploy, and rollouts that do not complete."""

from __future__ import annotations

from servescope import promql
from servescope.promql import DEPLOYMENT, figures
from servescope.promql.figures import MINUTE, MINUTES, UPDATING
from servescope.rules import series
from servescope.rules.alert import Alert, Case, Group
from servescope.rules.expressions import Expressions
from servescope.rules.remarks import NEEDS_EXPORTER_FOR_LIMITS


def build(exprs: Expressions) -> Group:
    """The alerts of this group, in the order of the rule file."""
    return Group(
        name="rollout",
        title="Rollouts",
        alerts=(
            errors_after_deploy(exprs),
            slower_after_deploy(exprs),
            rollout_stuck(exprs),
            slower_than_graceful_shutdown(exprs),
        ),
    )


def deployed(exprs: Expressions) -> str:
    """Applications with a deploy in the last half hour."""
    return exprs.read(figures.DEPLOYED, "application")


def errors_after_deploy(exprs: Expressions) -> Alert:
    exprs = exprs.by_service
    codes = f'=~"{promql.ERROR_CODES}"'

    def requests(offset: str = "", **extra: str) -> str:
        return exprs.read(figures.REQUESTS_10M, "application", offset=offset, **extra)

    before = f"({requests('40m', status_code=codes)} or 0 * {requests('40m')}) / {requests('40m')}"
    return Alert(
        name="RayServeErrorsAfterDeploy",
        severity="warning",
        owner="application",
        for_="2m",
        every_s=MINUTE,
        labels=("application",),
        expr=(
            f"({requests(status_code=codes)} >= {exprs.settings.alert_min_events}) / {requests()}\n"
            "# worse than before: an application that failed all along did not get worse, and one without traffic\n"
            "# before has nothing to compare with\n"
            f"> clamp_min(3 * {before}, {exprs.settings.error_ratio_warning:g})\n"
            f"and {deployed(exprs)}"
        ),
        summary="The error ratio increased after a deploy.",
        description=(
            "{{ $value | humanizePercentage }} of requests to application {{ $labels.application }} end "
            "in a 5xx (back-pressure included), more than three times the ratio before the deploy of the last 30 "
            "minutes."
        ),
        meaning="The new version, its configuration or its model is faulty, or it has less capacity.",
        impact="More requests fail than before the deploy.",
        diagnosis=(
            ("When was the deploy? See the rollout annotations on every dashboard.", ""),
            (
                "Which deployment fails?",
                "sum by (application, deployment) (rate(ray_serve_deployment_error_counter_total[5m]))",
            ),
        ),
        mitigation=("Roll back to the previous version; then look for the cause.",),
        panel=("servescope-overview", "Error ratio by application"),
        case=Case(
            at="80m",
            fires={
                series.http_requests("200"): "0+100x",
                series.http_requests("500"): "0x260 1+4x",
                series.STATUS_OF_DEPLOYMENT: "6x250 3 6x",
            },
            quiet={series.http_requests("500"): "0+4x"},
            labels=series.THE_APPLICATION,
            also=("RayServeErrorRatioElevated",),
            quiet_also=("RayServeErrorRatioElevated",),
        ),
        judged="usual",
        drill="bad-rollout",
    )


def slower_after_deploy(exprs: Expressions) -> Alert:
    exprs = exprs.by_service

    def p95(offset: str = "") -> str:
        return promql.quantile(0.95, exprs.read(figures.LATENCY_BUCKETS, "application", "le", offset=offset))

    answered = exprs.read(figures.REQUESTS_10M, "application")
    old = series.deployment_series("servescope_deployment_config_info", fingerprint="1")
    new = series.deployment_series("servescope_deployment_config_info", fingerprint="2")
    return Alert(
        name="RayServeSlowerAfterDeploy",
        severity="warning",
        owner="application",
        for_="5m",
        every_s=MINUTE,
        labels=("application",),
        expr=(
            f"{p95()} > 2 * {p95('40m')}\n"
            f"# ignore a doubling below 200 ms\n"
            f"and {p95()} > 200\n"
            f"and {answered} >= {10 * exprs.settings.alert_min_events}\n"
            f"and {deployed(exprs)}"
        ),
        summary="Latency increased after a deploy.",
        description=(
            "The p95 latency of application {{ $labels.application }} is {{ $value | humanize }} ms, "
            "more than twice that before the deploy of the last 30 minutes."
        ),
        meaning="The new version is slower, has fewer replicas, or its replicas are still warming up.",
        impact="Responses are slower than before the deploy.",
        diagnosis=(
            (
                "Which deployment?",
                "histogram_quantile(0.95, sum by (deployment, le) "
                "(rate(ray_serve_deployment_processing_latency_ms_bucket[5m])))",
            ),
        ),
        mitigation=("Roll back to the previous version, unless latency is already recovering.",),
        panel=("servescope-overview", "Latency p95 by application"),
        case=Case(
            at="80m",
            fires={
                series.http_requests("200"): "0+100x",
                series.http_latency_bucket("200"): "0+100x260 26000x",
                series.http_latency_bucket("1000"): "0+100x",
                series.http_latency_bucket(exprs.settings.latency_ms): "0+100x",
                series.http_latency_bucket("+Inf"): "0+100x",
                series.STATUS_OF_DEPLOYMENT: "6x",
                old: "1x250",
                new: "_x251 1x",
                series.EXPORTER_DATA_AGE: "0x",
            },
            quiet={old: "1x", new: "_x"},
            labels=series.THE_APPLICATION,
        ),
        judged="usual",
        drill="bad-rollout",
    )


def rollout_stuck(exprs: Expressions) -> Alert:
    return Alert(
        name="RayServeRolloutStuck",
        severity="warning",
        owner="application",
        for_=f"{exprs.settings.rollout_minutes}m",
        every_s=MINUTE,
        labels=DEPLOYMENT,
        expr=exprs.total("group", exprs.now("ray_serve_deployment_status") + f" == {UPDATING}", *DEPLOYMENT),
        summary="Rollout has not completed.",
        description=(
            f"{{{{ $labels.application }}}}/{{{{ $labels.deployment }}}} has been UPDATING for "
            f"{exprs.settings.rollout_minutes} minutes."
        ),
        meaning="New replicas are unschedulable or fail to start; the old ones are kept until then.",
        impact=("None while the old replicas serve the load; part of the traffic may already reach the new version."),
        diagnosis=(
            ("Are replicas unschedulable?", "sum by (Reason) (ray_scheduler_unscheduleable_tasks)"),
            ("Healthy replicas:", "sum by (application, deployment) (ray_serve_deployment_replica_healthy)"),
        ),
        mitigation=(
            "Roll back to the previous version; see RayServeReplicasNotPlaced and RayServeReplicaStartFailing.",
        ),
        panel=("servescope-overview", "Deployment status"),
        case=Case(
            at=f"{exprs.settings.rollout_minutes + 10}m",
            fires={series.STATUS_OF_DEPLOYMENT: "3x"},
            quiet={series.STATUS_OF_DEPLOYMENT: "3x60 6x"},
            labels=series.THE_DEPLOYMENT,
        ),
        drill="no-resources",
    )


def slower_than_graceful_shutdown(exprs: Expressions) -> Alert:
    p99 = exprs.read(figures.PROCESSING_P99, *DEPLOYMENT)
    calls = exprs.read(figures.CALLS_30M, *DEPLOYMENT)
    grace = exprs.total("max", exprs.now("servescope_deployment_graceful_shutdown_timeout_seconds"), *DEPLOYMENT)
    return Alert(
        name="RayServeSlowerThanGracefulShutdown",
        severity="info",
        owner="application",
        for_="15m",
        every_s=MINUTES,
        labels=DEPLOYMENT,
        expr=f"{p99} > 1000 * {grace}\nand {calls} >= {10 * exprs.settings.alert_min_events}",
        summary="Calls take longer than graceful_shutdown_timeout_s.",
        description=(
            "The p99 processing time of {{ $labels.application }}/{{ $labels.deployment }} is {{ $value "
            "| humanize }} ms, longer than graceful_shutdown_timeout_s."
        ),
        meaning=(
            "During a rollout or scale-down a replica is killed after that timeout, together with its "
            "requests in flight."
        ),
        impact="Some requests are aborted during each rollout and scale-down.",
        diagnosis=(
            (
                "Processing time p99:",
                "histogram_quantile(0.99, sum by (application, deployment, le) "
                "(rate(ray_serve_deployment_processing_latency_ms_bucket[30m])))",
            ),
            ("The timeout:", "servescope_deployment_graceful_shutdown_timeout_seconds"),
        ),
        mitigation=("Raise graceful_shutdown_timeout_s above the longest call that must not be aborted.",),
        panel=("servescope-deployment", "Processing time"),
        case=Case(
            at="60m",
            fires={
                series.processing_bucket("1000"): "0+95x",
                series.processing_bucket("60000"): "0+100x",
                series.processing_bucket("+Inf"): "0+100x",
                series.finished_calls(): "0+100x",
                series.deployment_series("servescope_deployment_graceful_shutdown_timeout_seconds"): "20x",
            },
            quiet={series.processing_bucket("1000"): "0+99.9x"},
            labels=series.THE_DEPLOYMENT,
        ),
        drill="slow-model",
        needs=NEEDS_EXPORTER_FOR_LIMITS,
    )
