"""Configuration that will hurt one day: told as information, once, without waking anybody."""

from __future__ import annotations

from servescope import limits
from servescope.promql import DEPLOYMENT
from servescope.rules.alert import Alert, Case, Group, Terms, bound
from servescope.rules.alerts.saturation import WANTED_EACH, WHO, of
from servescope.settings import Settings


def build(settings: Settings) -> Group:
    """The group."""
    t = Terms(settings)
    wanted = (
        f"({t.total('max', t.now('servescope_deployment_target_ongoing_requests'), *DEPLOYMENT)}"
        f" or {t.total('max', t.now('ray_serve_autoscaling_target_ongoing_requests'), *DEPLOYMENT)})"
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
                "RayServeTargetNearLimit",
                "info",
                "15m",
                DEPLOYMENT,
                f"{wanted} / {each} > {limits.TARGET_NEAR_LIMIT:g}",
                "The autoscaler aims close to what a replica may carry.",
                "target_ongoing_requests of {{ $labels.deployment }} of {{ $labels.application }} is "
                "{{ $value | humanizePercentage }} of max_ongoing_requests.",
                "Replicas are added when they carry more than the target; with the limit just above it, requests queue "
                "before a new replica is there.",
                "Waiting during each scale-up.",
                (
                    ("Target:", "ray_serve_autoscaling_target_ongoing_requests"),
                    ("Limit:", "servescope_deployment_max_ongoing_requests"),
                ),
                ("Lower target_ongoing_requests to half of max_ongoing_requests, or raise the limit.",),
                ("servescope-deployment", "Requests in progress per replica"),
                Case(
                    "30m",
                    {WANTED_EACH: "8x", of("servescope_deployment_max_ongoing_requests"): "10x"},
                    {WANTED_EACH: "7x"},
                    WHO,
                ),
                drill="bad-configuration",
                needs="the servescope exporter (the limit is in no metric of Ray's)",
            ),
            Alert(
                "RayServeNoQueueLimit",
                "info",
                "15m",
                DEPLOYMENT,
                f"{queue_limit} == -1\n"
                "# only deployments that proxies call: the rest is limited by their callers\n"
                f"and {from_proxies}",
                "An ingress has no limit for its queue.",
                "max_queued_requests of {{ $labels.deployment }} of {{ $labels.application }} is not set.",
                "In a flood every request waits, until its client has long gone; memory of the proxies grows.",
                "In a flood everybody waits, instead of some being refused at once.",
                (("Waiting:", "sum by (application, deployment) (ray_serve_deployment_queued_queries)"),),
                ("Set max_queued_requests to what the replicas finish within the clients' patience.",),
                ("servescope-deployment", "Waiting requests of the fullest caller"),
                Case(
                    "30m",
                    {
                        of("servescope_deployment_max_queued_requests"): "-1x",
                        of("ray_serve_request_router_fulfillment_time_ms_count", actor_id="x", handle_source="PROXY"): (
                            "0+1x"
                        ),
                    },
                    {of("servescope_deployment_max_queued_requests"): "100x"},
                    WHO,
                ),
                drill="bad-configuration",
                needs="the servescope exporter (the limit is in no metric of Ray's)",
            ),
            Alert(
                "RayServeLatencyBoundMissing",
                "info",
                "15m",
                ("application",),
                f"{count}\nunless {at_bound}",
                "The latency alert compares with a bound that no bucket has.",
                f"No latency bucket of {{{{ $labels.application }}}} ends at {settings.latency_ms} ms, so "
                "RayServeLatencyHigh is silent for it.",
                "RAY_SERVE_REQUEST_LATENCY_BUCKETS_MS sets other bounds than the setting latency_ms expects.",
                "None; slow answers raise no alert.",
                (("Which bounds are there?", "group by (le) (rate(ray_serve_http_request_latency_ms_bucket[5m]))"),),
                ("Set latency_ms to one of the bounds and generate the rules again.",),
                ("servescope-overview", "Latency distribution"),
                Case(
                    "30m",
                    {latency % "1000": "0+1x", latency % "+Inf": "0+1x"},
                    {latency % f"{settings.latency_ms}": "0+1x"},
                    {"application": "main"},
                ),
                drill="bad-configuration",
            ),
        ),
    )
