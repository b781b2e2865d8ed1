"""Risky configuration: reported with severity info."""

from __future__ import annotations

from servescope import promql
from servescope.promql import DEPLOYMENT, capacity
from servescope.promql.figures import MINUTES, bound
from servescope.rules import series
from servescope.rules.alert import Alert, Case, Group
from servescope.rules.expressions import Expressions
from servescope.rules.remarks import NEEDS_EXPORTER_FOR_LIMITS

ANY_BOUND = '="+Inf"'  # every histogram has it


def build(exprs: Expressions) -> Group:
    """The alerts of this group, in the order of the rule file."""
    return Group(
        name="advice",
        title="Configuration",
        alerts=(target_near_limit(exprs), no_queue_limit(exprs), latency_bound_missing(exprs)),
    )


def target_near_limit(exprs: Expressions) -> Alert:
    wanted = (
        f"({exprs.total('max', exprs.now('servescope_deployment_target_ongoing_requests'), *DEPLOYMENT)} or "
        f"{exprs.total('max', exprs.now('ray_serve_autoscaling_target_ongoing_requests'), *DEPLOYMENT)})"
    )
    each = exprs.total("max", exprs.now("servescope_deployment_max_ongoing_requests"), *DEPLOYMENT)
    return Alert(
        name="RayServeTargetNearLimit",
        severity="info",
        owner="application",
        for_="15m",
        every_s=MINUTES,
        labels=DEPLOYMENT,
        expr=f"{wanted} / {each} > {capacity.TARGET_NEAR_LIMIT:g}",
        summary="The autoscaling target is close to max_ongoing_requests.",
        description=(
            "target_ongoing_requests of {{ $labels.application }}/{{ $labels.deployment }} is {{ $value "
            "| humanizePercentage }} of max_ongoing_requests."
        ),
        meaning=(
            "The autoscaler adds replicas when the load exceeds the target; with the limit just above "
            "it, requests queue before a new replica is ready."
        ),
        impact="Requests queue during each scale-up.",
        diagnosis=(
            ("The target:", "ray_serve_autoscaling_target_ongoing_requests"),
            ("The limit:", "servescope_deployment_max_ongoing_requests"),
        ),
        mitigation=(("Lower target_ongoing_requests to half of max_ongoing_requests, or raise max_ongoing_requests."),),
        panel=("servescope-deployment", "Executing requests per replica"),
        case=Case(
            at="30m",
            fires={series.TARGET_ONGOING_REQUESTS: "8x", series.MAX_ONGOING_REQUESTS: "10x"},
            quiet={series.TARGET_ONGOING_REQUESTS: "7x"},
            labels=series.THE_DEPLOYMENT,
        ),
        drill="bad-configuration",
        needs=NEEDS_EXPORTER_FOR_LIMITS,
    )


def no_queue_limit(exprs: Expressions) -> Alert:
    queue_limit = exprs.total("max", exprs.now("servescope_deployment_max_queued_requests"), *DEPLOYMENT)
    from_proxies = exprs.total(
        "group",
        exprs.scope.rate("ray_serve_request_router_fulfillment_time_ms_count", "1h", handle_source='="PROXY"'),
        *DEPLOYMENT,
    )
    return Alert(
        name="RayServeNoQueueLimit",
        severity="info",
        owner="application",
        for_="15m",
        every_s=MINUTES,
        labels=DEPLOYMENT,
        expr=(
            f"{queue_limit} == -1\n"
            "# only deployments that proxies call: others are limited by their callers\n"
            f"and {from_proxies}"
        ),
        summary="The ingress deployment has no queue limit.",
        description="max_queued_requests of {{ $labels.application }}/{{ $labels.deployment }} is not set.",
        meaning=(
            "In a traffic surge every request queues, even after its client has timed out; the memory of "
            "the proxies grows."
        ),
        impact="In a traffic surge all clients wait, instead of some being rejected at once.",
        diagnosis=(("Queued requests:", "sum by (application, deployment) (ray_serve_deployment_queued_queries)"),),
        mitigation=("Set max_queued_requests to what the replicas can complete within the clients' timeout.",),
        panel=("servescope-deployment", "Longest queue of a single caller"),
        case=Case(
            at="30m",
            fires={series.MAX_QUEUED_REQUESTS: "-1x", series.ROUTED_REQUESTS: "0+1x"},
            quiet={series.MAX_QUEUED_REQUESTS: "100x"},
            labels=series.THE_DEPLOYMENT,
        ),
        drill="bad-configuration",
        needs=NEEDS_EXPORTER_FOR_LIMITS,
    )


def latency_bound_missing(exprs: Expressions) -> Alert:
    def having(le: str) -> str:
        requests = {"application": '!=""', "method": promql.NO_SESSIONS, "le": le}
        return exprs.total("group", exprs.now("ray_serve_http_request_latency_ms_bucket", **requests), "application")

    return Alert(
        name="RayServeLatencyBoundMissing",
        severity="info",
        owner="monitoring",
        for_="15m",
        every_s=MINUTES,
        labels=("application",),
        expr=f"{having(ANY_BOUND)}\nunless {having(bound(exprs.settings.latency_ms))}",
        summary="Latency threshold matches no histogram bucket, so RayServeLatencyHigh cannot fire.",
        description=(
            f"No latency bucket of application {{{{ $labels.application }}}} ends at "
            f"{exprs.settings.latency_ms} ms, so RayServeLatencyHigh cannot fire for it."
        ),
        meaning=(
            "RAY_SERVE_REQUEST_LATENCY_BUCKETS_MS sets bucket bounds without the value of the setting latency_ms."
        ),
        impact="None for users; high latency raises no alert.",
        diagnosis=(
            ("Which bucket bounds exist?", "group by (le) (rate(ray_serve_http_request_latency_ms_bucket[5m]))"),
        ),
        mitigation=("Set latency_ms to one of the bucket bounds and regenerate the rules.",),
        panel=("servescope-overview", "Latency distribution"),
        case=Case(
            at="30m",
            fires={series.http_latency_bucket("1000"): "0+1x", series.http_latency_bucket("+Inf"): "0+1x"},
            quiet={series.http_latency_bucket(exprs.settings.latency_ms): "0+1x"},
            labels=series.THE_APPLICATION,
        ),
        drill="bad-configuration",
    )
