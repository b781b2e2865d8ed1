"""Configuration that will hurt one day: told as information, once, without waking anybody."""

from __future__ import annotations

from servescope.promql import DEPLOYMENT, capacity
from servescope.rules.alert import Alert, Case, Group
from servescope.rules.alerts.saturation import WANTED_EACH, WHO, of
from servescope.rules.expressions import Expressions, bound
from servescope.settings import Settings


def build(settings: Settings) -> Group:
    """The group."""
    t = Expressions(settings)
    wanted = (
        f"({t.total('max', t.now('servescope_deployment_target_ongoing_requests'), *DEPLOYMENT)} or "
        f"{t.total('max', t.now('ray_serve_autoscaling_target_ongoing_requests'), *DEPLOYMENT)})"
    )
    each = t.total("max", t.now("servescope_deployment_max_ongoing_requests"), *DEPLOYMENT)
    queue_limit = t.total("max", t.now("servescope_deployment_max_queued_requests"), *DEPLOYMENT)
    from_proxies = t.total(
        "group",
        t.scope.rate("ray_serve_request_router_fulfillment_time_ms_count", "1h", handle_source='="PROXY"'),
        *DEPLOYMENT,
    )
    count = t.total(
        "group", t.scope.rate("ray_serve_http_request_latency_ms_bucket", "1h", application='!=""'), "application"
    )
    at_bound = t.total(
        "group",
        t.scope.rate(
            "ray_serve_http_request_latency_ms_bucket", "1h", application='!=""', le=bound(settings.latency_ms)
        ),
        "application",
    )
    latency = (
        'ray_serve_http_request_latency_ms_bucket{application="main",route="/",method="GET",status_code="200",le="%s"}'
    )
    return Group(
        "advice",
        "Configuration",
        (
            Alert(
                name="RayServeTargetNearLimit",
                severity="info",
                wait="15m",
                labels=DEPLOYMENT,
                expr=f"{wanted} / {each} > {capacity.TARGET_NEAR_LIMIT:g}",
                summary="The autoscaler aims close to what a replica may carry.",
                description=(
                    "target_ongoing_requests of {{ $labels.deployment }} of {{ $labels.application }} is "
                    "{{ $value | humanizePercentage }} of max_ongoing_requests."
                ),
                meaning=(
                    "Replicas are added when they carry more than the target; with the limit just above it, requests "
                    "queue before a new replica is there."
                ),
                impact="Waiting during each scale-up.",
                diagnose=(
                    ("Target:", "ray_serve_autoscaling_target_ongoing_requests"),
                    ("Limit:", "servescope_deployment_max_ongoing_requests"),
                ),
                mend=("Lower target_ongoing_requests to half of max_ongoing_requests, or raise the limit.",),
                panel=("servescope-deployment", "Requests in progress per replica"),
                case=Case(
                    at="30m",
                    fires={WANTED_EACH: "8x", of("servescope_deployment_max_ongoing_requests"): "10x"},
                    quiet={WANTED_EACH: "7x"},
                    labels=WHO,
                ),
                drill="bad-configuration",
                needs="the servescope exporter (the limit is in no metric of Ray's)",
            ),
            Alert(
                name="RayServeNoQueueLimit",
                severity="info",
                wait="15m",
                labels=DEPLOYMENT,
                expr=(
                    f"{queue_limit} == -1\n"
                    "# only deployments that proxies call: the rest is limited by their callers\n"
                    f"and {from_proxies}"
                ),
                summary="An ingress has no limit for its queue.",
                description="max_queued_requests of {{ $labels.deployment }} of {{ $labels.application }} is not set.",
                meaning="In a flood every request waits, until its client has long gone; memory of the proxies grows.",
                impact="In a flood everybody waits, instead of some being refused at once.",
                diagnose=(("Waiting:", "sum by (application, deployment) (ray_serve_deployment_queued_queries)"),),
                mend=("Set max_queued_requests to what the replicas finish within the clients' patience.",),
                panel=("servescope-deployment", "Waiting requests of the fullest caller"),
                case=Case(
                    at="30m",
                    fires={
                        of("servescope_deployment_max_queued_requests"): "-1x",
                        of("ray_serve_request_router_fulfillment_time_ms_count", actor_id="x", handle_source="PROXY"): (
                            "0+1x"
                        ),
                    },
                    quiet={of("servescope_deployment_max_queued_requests"): "100x"},
                    labels=WHO,
                ),
                drill="bad-configuration",
                needs="the servescope exporter (the limit is in no metric of Ray's)",
            ),
            Alert(
                name="RayServeLatencyBoundMissing",
                severity="info",
                wait="15m",
                labels=("application",),
                expr=f"{count}\nunless {at_bound}",
                summary="The latency alert compares with a bound that no bucket has.",
                description=(
                    f"No latency bucket of {{{{ $labels.application }}}} ends at {settings.latency_ms} ms, so "
                    "RayServeLatencyHigh is silent for it."
                ),
                meaning="RAY_SERVE_REQUEST_LATENCY_BUCKETS_MS sets other bounds than the setting latency_ms expects.",
                impact="None; slow answers raise no alert.",
                diagnose=(
                    ("Which bounds are there?", "group by (le) (rate(ray_serve_http_request_latency_ms_bucket[5m]))"),
                ),
                mend=("Set latency_ms to one of the bounds and generate the rules again.",),
                panel=("servescope-overview", "Latency distribution"),
                case=Case(
                    at="30m",
                    fires={latency % "1000": "0+1x", latency % "+Inf": "0+1x"},
                    quiet={latency % f"{settings.latency_ms}": "0+1x"},
                    labels={"application": "main"},
                ),
                drill="bad-configuration",
            ),
        ),
    )
