"""What a deploy made worse, and deploys that do not come through."""

from __future__ import annotations

from servescope import promql
from servescope.catalog.values import APPLICATION_STATUS, DEPLOYMENT_STATUS
from servescope.promql import DEPLOYMENT, rollouts
from servescope.rules.alert import Alert, Case, Group
from servescope.rules.alerts.saturation import WHO, of
from servescope.rules.alerts.users import http
from servescope.rules.expressions import Expressions
from servescope.settings import Settings

UPDATING = next(code for code, name in DEPLOYMENT_STATUS.items() if name == "UPDATING")
DELETING = next(code for code, name in APPLICATION_STATUS.items() if name == "DELETING")
STATUS = of("ray_serve_deployment_status")


def build(settings: Settings) -> Group:
    """The group."""
    t = Expressions(settings)
    status = t.scope.select("ray_serve_deployment_status")
    # What is being deleted is told as UPDATING too.
    deleted = f"{t.scope.select('ray_serve_application_status')} == {DELETING}"
    deploying = f"{status} == {UPDATING} unless on ({', '.join(t.by('application'))}) {deleted}"
    # Each scrape looked at: a step of its own could pass over a rollout of seconds. Serve tells its states every ten
    # seconds, so that a rollout can begin and end between two of them: then only the exporter saw it.
    step = settings.scrape_interval_s
    updating = t.total("group", f"max_over_time(({deploying})[30m:{step}s])", "application")
    changed = rollouts.changed(t.scope, "30m", t.by("application"), hold=t.hold)
    deployed = f"({updating} or {changed})"
    codes = f'=~"{promql.ERROR_CODES}"'

    def ratio(offset: str) -> str:
        def rate(**extra: str) -> str:
            x = t.scope.select("ray_serve_num_http_requests_total", application='!=""', **extra)
            return t.total("sum", f"rate({x}[10m]{offset})", "application")

        return promql.ratio(rate(status_code=codes), rate())

    def p95(offset: str) -> str:
        buckets = t.scope.select("ray_serve_http_request_latency_ms_bucket", application='!=""')
        return promql.quantile(0.95, t.total("sum", f"rate({buckets}[10m]{offset})", "application", "le"))

    failed = t.requests("10m", "application", codes=codes)
    answered = t.requests("10m", "application")
    p99 = promql.quantile(
        0.99,
        t.total("sum", t.scope.rate("ray_serve_deployment_processing_latency_ms_bucket", "30m"), *DEPLOYMENT, "le"),
    )
    calls = t.events("ray_serve_deployment_processing_latency_ms_count", "30m", *DEPLOYMENT)
    grace = t.total("max", t.now("servescope_deployment_graceful_shutdown_timeout_seconds"), *DEPLOYMENT)
    latency = (
        'ray_serve_http_request_latency_ms_bucket{application="main",route="/",method="GET",status_code="200",le="%s"}'
    )
    version = 'servescope_deployment_config_info{application="main",deployment="D",fingerprint="%s"}'
    processing = "ray_serve_deployment_processing_latency_ms"
    return Group(
        "rollout",
        "Rollouts",
        (
            Alert(
                name="RayServeErrorsAfterDeploy",
                severity="warning",
                wait="2m",
                labels=("application",),
                expr=(
                    f"{ratio('')} > {settings.error_ratio_warning:g}\n"
                    f"# worse than before: an application that failed all along did not get worse\n"
                    f"and {ratio('')} > 3 * ({ratio(' offset 40m')} or 0 * {ratio('')})\n"
                    f"and {failed} >= {settings.alert_min_events}\n"
                    f"and {deployed}"
                ),
                summary="An application fails more since its deploy.",
                description=(
                    "{{ $value | humanizePercentage }} of the requests to {{ $labels.application }} fail (5xx, "
                    "back-pressure among them), three times the share before the deploy of the last 30 minutes."
                ),
                meaning="The new version, its configuration or its model is at fault, or it has less capacity.",
                impact="More of their requests fail than before.",
                diagnose=(
                    ("When was the deploy? The rollout marks on every dashboard tell.", ""),
                    (
                        "What fails?",
                        "sum by (application, deployment) (rate(ray_serve_deployment_error_counter_total[5m]))",
                    ),
                ),
                mend=("Deploy the version before; then look for the reason.",),
                panel=("servescope-overview", "Error ratio by application"),
                case=Case(
                    at="80m",
                    fires={
                        http("200"): "0+100x",
                        http("500"): "0x260 1+4x",
                        STATUS: "6x250 3 6x",
                    },
                    quiet={http("500"): "0+4x"},
                    labels={"application": "main"},
                    also=("RayServeErrorRatioElevated",),
                    quiet_also=("RayServeErrorRatioElevated",),
                ),
                drill="bad-rollout",
            ),
            Alert(
                name="RayServeSlowerAfterDeploy",
                severity="warning",
                wait="5m",
                labels=("application",),
                expr=(
                    f"{p95('')} > 2 * {p95(' offset 40m')}\n"
                    f"# twice as slow and still quick is nobody's concern\n"
                    f"and {p95('')} > 200\n"
                    f"and {answered} >= {10 * settings.alert_min_events}\n"
                    f"and {deployed}"
                ),
                summary="An application is slower since its deploy.",
                description=(
                    "95 % of the requests to {{ $labels.application }} take up to {{ $value | humanize }} ms, twice as "
                    "long as before the deploy of the last 30 minutes."
                ),
                meaning="The new version works more slowly, or has fewer replicas, or they are still warming up.",
                impact="They wait longer than before.",
                diagnose=(
                    (
                        "Which deployment?",
                        "histogram_quantile(0.95, sum by (deployment, le) "
                        "(rate(ray_serve_deployment_processing_latency_ms_bucket[5m])))",
                    ),
                ),
                mend=("Deploy the version before, or wait if it gets better by the minute.",),
                panel=("servescope-overview", "Latency p95 by application"),
                case=Case(
                    at="80m",
                    fires={
                        http("200"): "0+100x",
                        latency % "200": "0+100x260 26000x",
                        latency % "1000": "0+100x",
                        latency % f"{settings.latency_ms}": "0+100x",
                        latency % "+Inf": "0+100x",
                        STATUS: "6x",
                        version % 1: "1x250",
                        version % 2: "_x251 1x",
                        "servescope_exporter_data_age_seconds": "0x",
                    },
                    quiet={version % 1: "1x", version % 2: "_x"},
                    labels={"application": "main"},
                ),
                drill="bad-rollout",
            ),
            Alert(
                name="RayServeRolloutStuck",
                severity="warning",
                wait=f"{settings.rollout_minutes}m",
                labels=DEPLOYMENT,
                expr=f"{t.total('group', t.now('ray_serve_deployment_status') + f' == {UPDATING}', *DEPLOYMENT)}",
                summary="A rollout does not come through.",
                description=(
                    f"{{{{ $labels.deployment }}}} of {{{{ $labels.application }}}} has been UPDATING for "
                    f"{settings.rollout_minutes} minutes."
                ),
                meaning="New replicas are not placed or do not start; old ones are kept until then.",
                impact=(
                    "None while the old replicas carry the load; part of the traffic may already go to the new version."
                ),
                diagnose=(
                    ("Are replicas waiting for a place?", "sum by (Reason) (ray_scheduler_unscheduleable_tasks)"),
                    ("Healthy:", "sum by (application, deployment) (ray_serve_deployment_replica_healthy)"),
                ),
                mend=("See RayServeReplicasNotPlaced and RayServeReplicaStartFailing; deploy the version before.",),
                panel=("servescope-overview", "Deployment status"),
                case=Case(
                    at=f"{settings.rollout_minutes + 10}m", fires={STATUS: "3x"}, quiet={STATUS: "3x60 6x"}, labels=WHO
                ),
                drill="no-resources",
            ),
            Alert(
                name="RayServeSlowerThanGracefulShutdown",
                severity="info",
                wait="15m",
                labels=DEPLOYMENT,
                expr=f"{p99} > 1000 * {grace}\nand {calls} >= {10 * settings.alert_min_events}",
                summary="Calls take longer than replicas are given to finish.",
                description=(
                    "1 % of the calls to {{ $labels.deployment }} of {{ $labels.application }} take longer than "
                    "{{ $value | humanize }} ms, more than graceful_shutdown_timeout_s."
                ),
                meaning="At a rollout or scale-down a replica is killed after that time, with what it still works on.",
                impact="Some requests are cut at each rollout and scale-down.",
                diagnose=(
                    (
                        "Processing time p99:",
                        "histogram_quantile(0.99, sum by (application, deployment, le) "
                        "(rate(ray_serve_deployment_processing_latency_ms_bucket[30m])))",
                    ),
                    ("The time given:", "servescope_deployment_graceful_shutdown_timeout_seconds"),
                ),
                mend=("Raise graceful_shutdown_timeout_s above the longest call that must not be cut.",),
                panel=("servescope-deployment", "Processing time"),
                case=Case(
                    at="60m",
                    fires={
                        of(f"{processing}_bucket", replica="r1", route="/", le="1000"): "0+95x",
                        of(f"{processing}_bucket", replica="r1", route="/", le="60000"): "0+100x",
                        of(f"{processing}_bucket", replica="r1", route="/", le="+Inf"): "0+100x",
                        of(f"{processing}_count", replica="r1", route="/"): "0+100x",
                        of("servescope_deployment_graceful_shutdown_timeout_seconds"): "20x",
                    },
                    quiet={of(f"{processing}_bucket", replica="r1", route="/", le="1000"): "0+99.9x"},
                    labels=WHO,
                ),
                drill="slow-model",
                needs="the servescope exporter (the limit is in no metric of Ray's)",
            ),
        ),
    )
