"""What users feel: errors, latency, refusals, applications and routes that are gone."""

from __future__ import annotations

from servescope import promql
from servescope.rules import series
from servescope.rules.alert import Alert, Case, Group
from servescope.rules.expressions import Expressions
from servescope.settings import Settings

REQUESTS_BY_CODE = "sum by (application, route, status_code) (rate(ray_serve_num_http_requests_total[5m]))"
FAILED_CALLS_BY_EXCEPTION = (
    "sum by (application, deployment, exception_type) (rate(ray_serve_deployment_error_counter_total[5m]))"
)


def build(settings: Settings) -> Group:
    """The alerts of this group, in the order of the rule file."""
    exprs = Expressions(settings)
    return Group(
        name="users",
        title="What users feel",
        alerts=(
            error_ratio_high(exprs),
            error_ratio_elevated(exprs),
            route_failing(exprs),
            unavailable(exprs),
            latency_high(exprs),
            back_pressure(exprs),
            healthz_failing(exprs),
            probe_failing(exprs),
            routes_gone(exprs),
            application_deploy_failed(exprs),
            application_unhealthy(exprs),
            deployment_unhealthy(exprs),
            no_replicas(exprs),
        ),
    )


def shed_codes(exprs: Expressions) -> str:
    """Status codes with which requests are turned away, as alternatives of a matcher."""
    return "|".join((*exprs.settings.backpressure_codes, "RESOURCE_EXHAUSTED"))


def failed_codes(exprs: Expressions) -> str:
    """The matcher of status codes that mean a failure; a refusal for want of room is none."""
    return f'=~"{promql.ERROR_CODES}", status_code!~"{shed_codes(exprs)}"'


def code_share(exprs: Expressions, codes: str, *labels: str, above: float, window: str) -> str:
    """The share of requests with these status codes by cluster label and labels, where it is above a bound."""
    part, whole = exprs.requests(window, *labels, codes=codes), exprs.requests(window, *labels)
    return (
        f"{part} / {whole} > {above:g}\n"
        f"# a handful of failures at night is no ratio\n"
        f"and {part} >= {exprs.settings.alert_min_events}"
    )


def error_ratio_high(exprs: Expressions) -> Alert:
    return Alert(
        name="RayServeErrorRatioHigh",
        severity="critical",
        for_="2m",
        labels=("application",),
        expr=code_share(
            exprs, failed_codes(exprs), "application", above=exprs.settings.error_ratio_critical, window="5m"
        ),
        summary="Many requests of an application fail.",
        description=(
            "{{ $value | humanizePercentage }} of the requests to {{ $labels.application }} ended in a 5xx "
            "during the last 5 minutes (back-pressure not counted)."
        ),
        meaning=(
            "Replicas raise, time out or die while they handle requests. Refusals for want of room (503 or "
            "429) are told apart, by RayServeBackPressure."
        ),
        impact="Their requests fail. Callers that retry add load.",
        diagnosis=(
            ("Which route and status?", REQUESTS_BY_CODE),
            ("Which deployment raises, and what?", FAILED_CALLS_BY_EXCEPTION),
            ("Did it begin with a deploy? The rollout marks on every dashboard tell.", ""),
        ),
        mitigation=(
            "Began with a deploy: deploy the version before.",
            "One exception type: read it in the replica's log, `logs/serve/replica_<app>_<deployment>_*.log`.",
            "One replica only: see RayServeReplicaErrorOutlier, and kill that replica.",
        ),
        panel=("servescope-overview", "Error ratio by application"),
        case=Case(
            at="45m",
            fires={series.http_requests("200"): "0+88x", series.http_requests("500"): "0+12x"},
            quiet={series.http_requests("500"): "0+4x"},
            labels=series.THE_APPLICATION,
            also=("RayServeErrorRatioElevated", "RayServeRouteFailing"),
            quiet_also=("RayServeErrorRatioElevated",),
        ),
        drill="raising-handler",
    )


def error_ratio_elevated(exprs: Expressions) -> Alert:
    return Alert(
        name="RayServeErrorRatioElevated",
        severity="warning",
        for_="5m",
        labels=("application",),
        expr=code_share(
            exprs, failed_codes(exprs), "application", above=exprs.settings.error_ratio_warning, window="30m"
        ),
        summary="Some requests of an application fail.",
        description=(
            "{{ $value | humanizePercentage }} of the requests to {{ $labels.application }} ended in a 5xx "
            "during the last 30 minutes (back-pressure not counted)."
        ),
        meaning="A small share of requests fails all the time: one input, one route, one replica or one dependency.",
        impact="Some requests fail; most users do not notice.",
        diagnosis=(
            ("Which route and status?", REQUESTS_BY_CODE),
            ("Which deployment raises, and what?", FAILED_CALLS_BY_EXCEPTION),
        ),
        mitigation=("Find the failing input in the logs by its request id and mend the code that raises.",),
        panel=("servescope-overview", "Error ratio by application"),
        case=Case(
            at="45m",
            fires={series.http_requests("200"): "0+97x", series.http_requests("500"): "0+3x"},
            quiet={series.http_requests("500"): "0+0.9x"},
            labels=series.THE_APPLICATION,
        ),
        drill="raising-handler",
    )


def route_failing(exprs: Expressions) -> Alert:
    return Alert(
        name="RayServeRouteFailing",
        severity="warning",
        for_="2m",
        labels=("application", "route"),
        expr=code_share(
            exprs,
            failed_codes(exprs),
            "application",
            "route",
            above=2 * exprs.settings.error_ratio_critical,
            window="5m",
        ),
        summary="A route fails for many of its callers.",
        description=(
            "{{ $value | humanizePercentage }} of the requests to {{ $labels.route }} of {{ "
            "$labels.application }} ended in a 5xx during the last 5 minutes."
        ),
        meaning=(
            "One route fails while the whole application may look well. Under HAProxy the route is the prefix "
            "of the application."
        ),
        impact="What that route offers does not work.",
        diagnosis=(
            ("Which routes and codes?", REQUESTS_BY_CODE),
            ("Which deployment raises, and what?", FAILED_CALLS_BY_EXCEPTION),
        ),
        mitigation=("Mend what this route calls; the other routes show whether the fault is shared.",),
        panel=("servescope-overview", "Non-success responses by status code"),
        case=Case(
            at="45m",
            fires={
                series.http_requests("200"): "0+900x",
                series.http_requests("500", "/a"): "0+15x",
                series.http_requests("200", "/a"): "0+85x",
            },
            quiet={series.http_requests("500", "/a"): "0+9x", series.http_requests("200", "/a"): "0+91x"},
            labels={"application": "main", "route": "/a"},
            also=("RayServeErrorRatioElevated",),
        ),
        drill="raising-handler",
    )


def unavailable(exprs: Expressions) -> Alert:
    return Alert(
        name="RayServeUnavailable",
        severity="critical",
        for_="1m",
        labels=("application",),
        expr=code_share(exprs, f'=~"{promql.ERROR_CODES}|{shed_codes(exprs)}"', "application", above=0.5, window="2m"),
        summary="Most requests of an application get no answer.",
        description=(
            "{{ $value | humanizePercentage }} of the requests to {{ $labels.application }} failed or were "
            "turned away during the last 2 minutes."
        ),
        meaning=(
            "Whatever the cause (no replica, failing code, full queues), the application does not serve: a 503 "
            "means a full queue, or that no replica is there."
        ),
        impact="The application is down for most of them.",
        diagnosis=(
            ("Which codes?", REQUESTS_BY_CODE),
            ("Is any replica healthy?", "sum by (application) (ray_serve_deployment_replica_healthy)"),
            ("Does the controller call it failed?", "ray_serve_application_status"),
        ),
        mitigation=(
            "No replica: follow RayServeNoReplicas.",
            "Full queues: more replicas, see RayServeBackPressure.",
            "Failing code: deploy the version before.",
        ),
        panel=("servescope-overview", "Requests by outcome"),
        case=Case(
            at="10m",
            fires={series.http_requests("200"): "0+40x", series.http_requests("503"): "0+60x"},
            quiet={series.http_requests("503"): "0+39x"},
            labels=series.THE_APPLICATION,
            also=("RayServeBackPressure",),
            quiet_also=("RayServeBackPressure",),
        ),
        drill="burst",
    )


def latency_high(exprs: Expressions) -> Alert:
    slow = exprs.slow_share(
        "ray_serve_http_request_latency_ms", exprs.settings.latency_ms, "10m", "application", application='!=""'
    )
    answered = exprs.events("ray_serve_http_request_latency_ms_count", "10m", "application", application='!=""')
    return Alert(
        name="RayServeLatencyHigh",
        severity="warning",
        for_="5m",
        labels=("application",),
        expr=(
            f"{slow} > {exprs.settings.latency_share:g}\n"
            f"# a few slow requests of a quiet application are no share\n"
            f"and {answered} >= {10 * exprs.settings.alert_min_events}"
        ),
        summary="An application answers slowly.",
        description=(
            "{{ $value | humanizePercentage }} of the requests to {{ $labels.application }} took longer than "
            f"{exprs.settings.latency_ms / 1000:g} s during the last 10 minutes."
        ),
        meaning=(
            "Measured at the proxy, waiting for a replica included. The share is exact, since the bound is "
            "one of the histogram's buckets."
        ),
        impact="They wait.",
        diagnosis=(
            (
                "Is it waiting or working? Router wait:",
                "histogram_quantile(0.95, sum by (application, deployment, le) "
                "(rate(ray_serve_request_router_fulfillment_time_ms_bucket[5m])))",
            ),
            (
                "Which deployment works slowly?",
                "histogram_quantile(0.95, sum by (application, deployment, le) "
                "(rate(ray_serve_deployment_processing_latency_ms_bucket[5m])))",
            ),
        ),
        mitigation=(
            "Waiting: more replicas, or a lower target_ongoing_requests.",
            "Working: profile the slow deployment; look at its CPU and event loop lag.",
        ),
        panel=("servescope-overview", "Latency p95 by application"),
        case=Case(
            at="20m",
            fires={series.http_latency_bucket(exprs.settings.latency_ms): "0+90x", series.HTTP_LATENCY_COUNT: "0+100x"},
            quiet={series.http_latency_bucket(exprs.settings.latency_ms): "0+96x"},
            labels=series.THE_APPLICATION,
        ),
        drill="slow-model",
    )


def back_pressure(exprs: Expressions) -> Alert:
    return Alert(
        name="RayServeBackPressure",
        severity="warning",
        for_="2m",
        labels=("application",),
        expr=code_share(
            exprs, f'=~"{shed_codes(exprs)}"', "application", above=exprs.settings.backpressure_ratio, window="5m"
        ),
        summary="Requests are turned away because queues are full.",
        description=(
            "{{ $value | humanizePercentage }} of the requests to {{ $labels.application }} were refused with "
            f"{' or '.join(exprs.settings.backpressure_codes)} during the last 5 minutes."
        ),
        meaning=(
            "A caller has max_queued_requests waiting for a deployment. Serve also answers 503 when no "
            "replica is there at all; RayServeNoReplicas tells that."
        ),
        impact="They are told to come back later.",
        diagnosis=(
            ("Which queue is full?", "max by (application, deployment) (ray_serve_deployment_queued_queries)"),
            (
                "Which caller dropped the calls? Counted from the logs, where a log agent runs (docs/logs.md):",
                exprs.events(
                    "servescope_log_events_total", "5m", *promql.DEPLOYMENT, "component", event='="backpressure"'
                ),
            ),
            ("Can the deployment grow?", "ray_serve_autoscaling_target_replicas"),
        ),
        mitigation=(
            "Raise max_replicas, or num_replicas where it is fixed.",
            "Raise max_queued_requests if waiting is better than being refused.",
        ),
        panel=("servescope-overview", "Back-pressure"),
        case=Case(
            at="10m",
            fires={series.http_requests("200"): "0+97x", series.http_requests("429"): "0+3x"},
            quiet={series.http_requests("429"): "0+0.9x"},
            labels=series.THE_APPLICATION,
        ),
        drill="burst",
    )


def healthz_failing(exprs: Expressions) -> Alert:
    probe_errors = exprs.events(
        "ray_serve_num_http_requests_total", "2m", "NodeAddress", route='="/-/healthz"', status_code='=~"5.."'
    )
    drained = exprs.total("max", exprs.over("max", "ray_serve_proxy_status", "5m"), "node_ip_address")
    drained = f'label_replace({drained}, "NodeAddress", "$1", "node_ip_address", "(.*)") >= 4'
    by_node = f"({', '.join(exprs.by('NodeAddress'))})"
    return Alert(
        name="RayServeHealthzFailing",
        severity="critical",
        for_="1m",
        labels=(),
        expr=(
            f"sum by ({exprs.settings.cluster_label}) ({probe_errors} >= 3\n"
            "# a node without replicas is drained: its proxy says so, that it may be taken out\n"
            f"unless on {by_node} {drained})"
        ),
        summary="Proxies answer their health probe with an error.",
        description="{{ $value }} probes of /-/healthz were answered with a 5xx during the last 2 minutes.",
        meaning=(
            "The proxy has no route table yet, or no replica to send to. Counted by the proxies themselves, "
            "so it needs somebody who probes, such as a load balancer."
        ),
        impact="The load balancer takes the node out; with all nodes out nothing is reachable.",
        diagnosis=(
            ("What do the proxies' status gauges say?", "ray_serve_proxy_status"),
            ("What does the probe say? `curl -i http://<node>:8000/-/healthz` tells the reason.", ""),
        ),
        mitigation=("No route table: see whether the controller lives (RayServeControllerStalled).",),
        panel=("servescope-cluster", "Proxy status"),
        case=Case(
            at="10m",
            fires={series.http_requests("503", "/-/healthz", ""): "0+1x"},
            quiet={series.http_requests("503", "/-/healthz", ""): "0x30 1x5 2x"},
        ),
        drill="empty-head",
    )


def probe_failing(exprs: Expressions) -> Alert:
    probe = exprs.now("probe_success", instance='=~".*/-/healthz"')
    return Alert(
        name="RayServeProbeFailing",
        severity="critical",
        for_="1m",
        labels=("instance",),
        expr=f"{exprs.total('max', probe, 'instance')} == 0",
        summary="The health probe from outside fails.",
        description="The probe of {{ $labels.instance }} has failed for a minute.",
        meaning="Seen from outside, by the blackbox exporter: network, proxy or node.",
        impact="Whoever comes by that address gets nothing.",
        diagnosis=(
            ("Do other probes succeed?", "probe_success"),
            ("Are the proxies healthy?", "ray_serve_proxy_status"),
        ),
        mitigation=("All proxies healthy: look at the network and the load balancer between.",),
        panel=("servescope-cluster", "Proxy status"),
        case=Case(
            at="10m",
            fires={series.series("probe_success", instance="http://n1:8000/-/healthz", job="probe"): "0x"},
            quiet={
                series.series("probe_success", instance="http://n1:8000/-/healthz", job="probe"): "1 0 0 1 _ _ 0 1x"
            },
            labels={"instance": "http://n1:8000/-/healthz"},
        ),
        drill="kill-proxy",
        needs="a blackbox exporter that probes `/-/healthz`, its instance label the probed address",
    )


def routes_gone(exprs: Expressions) -> Alert:
    unmatched = exprs.events(
        "ray_serve_num_http_requests_total", "5m", application='=""', route='=""', status_code='="404"'
    )
    vanished = (
        f"{exprs.total('group', exprs.over('last', 'ray_serve_application_status', '1h'), 'application')}\n"
        f"unless {exprs.total('group', exprs.now('ray_serve_application_status'), 'application')}"
    )
    return Alert(
        name="RayServeRoutesGone",
        severity="critical",
        for_="1m",
        labels=("application",),
        expr=(
            f"({vanished})\n"
            "# an application deleted on purpose is nobody's loss: callers who still ask for it are\n"
            f"and on ({exprs.settings.cluster_label}) ({unmatched} >= {exprs.settings.alert_min_events})\n"
            "# silence of the controller or of the whole cluster has an alert of its own\n"
            f"and on ({exprs.settings.cluster_label}) {exprs.controller_turns(exprs.hold)}"
        ),
        summary="An application is gone and its callers get 404.",
        description=(
            "{{ $labels.application }} was there within the last hour and is no longer, while the proxies "
            "answer 404 to paths that match no route."
        ),
        meaning="The application was deleted or replaced by a configuration that does not hold it.",
        impact="Every request to it gets a 404.",
        diagnosis=(
            ("Which applications are there?", "ray_serve_application_status"),
            (
                "How many requests match nothing?",
                'sum(rate(ray_serve_num_http_requests_total{application="", route=""}[5m]))',
            ),
        ),
        mitigation=("Deploy the configuration that holds the application; `serve config` shows the present one.",),
        panel=("servescope-overview", "Unmatched and probe traffic"),
        case=Case(
            at="20m",
            fires={
                series.STATUS_OF_APPLICATION: "6x20",
                series.series("ray_serve_application_status", application="other"): "6x",
                series.http_requests("404", "", ""): "0+5x",
                series.CONTROL_LOOPS: "0+10x",
            },
            quiet={series.http_requests("404", "", ""): "0+0.1x"},
            labels=series.THE_APPLICATION,
        ),
        drill="lost-route",
    )


def application_deploy_failed(exprs: Expressions) -> Alert:
    return Alert(
        name="RayServeApplicationDeployFailed",
        severity="critical",
        for_="1m",
        labels=("application",),
        expr=exprs.total("group", exprs.now("ray_serve_application_status") + " == 1", "application"),
        summary="An application failed to deploy.",
        description="Serve's controller reports DEPLOY_FAILED for {{ $labels.application }}.",
        meaning=(
            "The constructor raises, the import fails, or the runtime environment cannot be made. Serve has "
            "given up; it tries again with the next deploy only."
        ),
        impact="A new application answers 503. An old one runs on with the replicas that are left.",
        diagnosis=(
            ("Which deployment?", "ray_serve_deployment_status == 1"),
            ("Why? `serve status` shows the message with the traceback.", ""),
        ),
        mitigation=("Mend what the message names, or deploy the version before.",),
        panel=("servescope-overview", "Application status"),
        case=Case(
            at="10m",
            fires={series.STATUS_OF_APPLICATION: "5x10 1x"},
            quiet={series.STATUS_OF_APPLICATION: "5x"},
            labels=series.THE_APPLICATION,
        ),
        drill="failing-constructor",
    )


def application_unhealthy(exprs: Expressions) -> Alert:
    return Alert(
        name="RayServeApplicationUnhealthy",
        severity="critical",
        for_="2m",
        labels=("application",),
        expr=exprs.total("group", exprs.now("ray_serve_application_status") + " == 2", "application"),
        summary="An application is unhealthy.",
        description="Serve's controller has reported UNHEALTHY for {{ $labels.application }} for two minutes.",
        meaning="A deployment of it has replicas that fail their health check or cannot be replaced.",
        impact="Capacity is lost; with no replica left requests fail.",
        diagnosis=(
            ("Which deployment?", "ray_serve_deployment_status == 2"),
            ("How many replicas are healthy?", "sum by (deployment) (ray_serve_deployment_replica_healthy)"),
        ),
        mitigation=("Read the replicas' logs; see RayServeReplicaCrashLooping and RayServeHealthCheckFailing.",),
        panel=("servescope-overview", "Application status"),
        case=Case(
            at="10m",
            fires={series.STATUS_OF_APPLICATION: "6x10 2x"},
            quiet={series.STATUS_OF_APPLICATION: "6x10 2x3 6x"},
            labels=series.THE_APPLICATION,
        ),
        drill="exit-at-start",
    )


def deployment_unhealthy(exprs: Expressions) -> Alert:
    return Alert(
        name="RayServeDeploymentUnhealthy",
        severity="warning",
        for_="5m",
        labels=("application", "deployment"),
        expr=exprs.total("group", exprs.now("ray_serve_deployment_status") + " <= 2", *promql.DEPLOYMENT),
        summary="A deployment is unhealthy or failed to deploy.",
        description=(
            "{{ $labels.deployment }} of {{ $labels.application }} has been UNHEALTHY, DEPLOY_FAILED or "
            "UNKNOWN for five minutes."
        ),
        meaning="It names the deployment behind an application's trouble.",
        impact="What the application's alert says.",
        diagnosis=(("Its status:", "ray_serve_deployment_status"),),
        mitigation=("See the application's alert; the controller's log holds the reason of each failed replica.",),
        panel=("servescope-overview", "Deployment status"),
        case=Case(
            at="15m",
            fires={series.STATUS_OF_DEPLOYMENT: "6x4 2x"},
            quiet={series.STATUS_OF_DEPLOYMENT: "3x"},
            labels=series.THE_DEPLOYMENT,
        ),
        drill="failing-constructor",
    )


def no_replicas(exprs: Expressions) -> Alert:
    was_healthy = exprs.total(
        "max", exprs.over("max", "ray_serve_deployment_replica_healthy", "1h"), *promql.DEPLOYMENT
    )
    waiting = exprs.total("sum", exprs.now("ray_serve_deployment_queued_queries"), *promql.DEPLOYMENT)
    return Alert(
        name="RayServeNoReplicas",
        severity="critical",
        for_="2m",
        labels=("application", "deployment"),
        expr=(
            f"({exprs.target_replicas()} > 0\nunless {exprs.healthy_replicas()} > 0)\n"
            "# a first deploy that still loads is no outage: a replica must have been there, or a caller "
            "waits\n"
            f"and ({was_healthy} > 0\nor {waiting} > 0)\n"
            "# a controller that has just come back does not yet know its replicas\n"
            f"and on ({exprs.settings.cluster_label}) {exprs.controller_lasts()}"
        ),
        summary="A deployment that should run has no healthy replica.",
        description=(
            "{{ $labels.deployment }} of {{ $labels.application }} should have {{ $value }} replicas and has "
            "none that is healthy."
        ),
        meaning=(
            "All replicas died, or none can be placed or started. A deployment that was scaled to zero on "
            "purpose has the target 0 and raises nothing."
        ),
        impact="Every request that needs it waits, then fails.",
        diagnosis=(
            ("Wanted:", "ray_serve_autoscaling_target_replicas"),
            ("Are replicas waiting for a place?", 'ray_actors{Source="gcs", State!="ALIVE"}'),
        ),
        mitigation=(
            "No place: see RayServeReplicasNotPlaced.",
            "They start and die: see RayServeReplicaStartFailing and RayServeReplicaCrashLooping.",
        ),
        panel=("servescope-deployment", "Target and healthy replicas"),
        case=Case(
            at="10m",
            fires={
                series.TARGET_REPLICAS: "2x",
                series.deployment_series("ray_serve_deployment_replica_healthy"): "1x8 0x",
                series.CONTROL_LOOPS: "0+100x",
            },
            quiet={series.TARGET_REPLICAS: "2x8 0x"},
            labels=series.THE_DEPLOYMENT,
        ),
        drill="exit-at-start",
    )
