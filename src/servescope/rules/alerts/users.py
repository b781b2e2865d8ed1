"""What users see: errors, latency, back-pressure, applications and routes that are missing."""

from __future__ import annotations

from dataclasses import replace

from servescope import promql
from servescope.promql import figures
from servescope.promql.figures import MINUTE, Figure
from servescope.rules import series
from servescope.rules.alert import Alert, Case, Group
from servescope.rules.expressions import Expressions

REQUESTS_BY_CODE = "sum by (application, route, status_code) (rate(ray_serve_num_http_requests_total[5m]))"
FAILED_CALLS_BY_EXCEPTION = (
    "sum by (application, deployment, exception_type) (rate(ray_serve_deployment_error_counter_total[5m]))"
)


def build(exprs: Expressions) -> Group:
    """The alerts of this group, in the order of the rule file."""
    of_users = (error_ratio_high, error_ratio_elevated, route_failing, unavailable, latency_high, back_pressure)
    return Group(
        name="users",
        title="User-facing errors and latency",
        alerts=(
            *(replace(alert(exprs.by_service), judged="users") for alert in of_users),
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
    """Status codes of requests rejected by back-pressure, as alternatives of a matcher."""
    return "|".join((*exprs.settings.backpressure_codes, "RESOURCE_EXHAUSTED"))


def failed_codes(exprs: Expressions) -> str:
    """The matcher of status codes that count as errors; back-pressure does not."""
    return f'=~"{promql.ERROR_CODES}", status_code!~"{shed_codes(exprs)}"'


def code_share(exprs: Expressions, codes: str, *labels: str, above: float, of: Figure) -> str:
    """The share of requests with these status codes by cluster label and labels, where it is above a bound."""
    part = exprs.read(of, *labels, status_code=codes)
    return (
        "# ignore ratios of only a few failures at low traffic\n"
        f"({part} >= {exprs.settings.alert_min_events})\n"
        f"/ {exprs.read(of, *labels)} > {above:g}"
    )


def error_ratio_high(exprs: Expressions) -> Alert:
    return Alert(
        name="RayServeErrorRatioHigh",
        severity="critical",
        owner="application",
        for_="2m",
        labels=("application",),
        expr=code_share(
            exprs, failed_codes(exprs), "application", above=exprs.settings.error_ratio_critical, of=figures.REQUESTS_5M
        ),
        summary="The application's error ratio is high.",
        description=(
            "{{ $value | humanizePercentage }} of requests to application {{ $labels.application }} "
            "ended in a 5xx in the last 5 minutes (back-pressure excluded)."
        ),
        meaning=(
            "Replicas raise exceptions, time out or crash while they handle requests. Requests rejected "
            "by back-pressure (503 or 429) are not counted; RayServeBackPressure covers those."
        ),
        impact="Many requests fail. Clients that retry add load.",
        diagnosis=(
            ("Which route and status code?", REQUESTS_BY_CODE),
            ("Which deployment raises, and which exception?", FAILED_CALLS_BY_EXCEPTION),
            ("Did the errors start with a deploy? See the rollout annotations on every dashboard.", ""),
        ),
        mitigation=(
            "If the errors started with a deploy, roll back to the previous version.",
            (
                "If one exception type dominates, find its traceback in the replica's log, "
                "`logs/serve/replica_<app>_<deployment>_*.log`."
            ),
            "If a single replica fails, see RayServeReplicaErrorOutlier and kill that replica.",
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
        owner="application",
        for_="5m",
        every_s=MINUTE,
        labels=("application",),
        expr=code_share(
            exprs, failed_codes(exprs), "application", above=exprs.settings.error_ratio_warning, of=figures.REQUESTS_30M
        ),
        summary="The application's error ratio is elevated.",
        description=(
            "{{ $value | humanizePercentage }} of requests to application {{ $labels.application }} "
            "ended in a 5xx in the last 30 minutes (back-pressure excluded)."
        ),
        meaning=("A small share of requests fails persistently: one input, one route, one replica or one dependency."),
        impact="Some requests fail; most users are not affected.",
        diagnosis=(
            ("Which route and status code?", REQUESTS_BY_CODE),
            ("Which deployment raises, and which exception?", FAILED_CALLS_BY_EXCEPTION),
        ),
        mitigation=("Find a failing request in the logs by its request ID and fix the code that raises.",),
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
        owner="application",
        for_="2m",
        labels=("application", "route"),
        expr=code_share(
            exprs,
            failed_codes(exprs),
            "application",
            "route",
            above=2 * exprs.settings.error_ratio_critical,
            of=figures.REQUESTS_5M,
        ),
        summary="A route's error ratio is high.",
        description=(
            "{{ $value | humanizePercentage }} of requests to route {{ $labels.route }} of application "
            "{{ $labels.application }} ended in a 5xx in the last 5 minutes."
        ),
        meaning=(
            "One route fails while the error ratio of the whole application may look normal. Under "
            "HAProxy the route is the application's route prefix."
        ),
        impact="Requests to that route fail.",
        diagnosis=(
            ("Which routes and status codes?", REQUESTS_BY_CODE),
            ("Which deployment raises, and which exception?", FAILED_CALLS_BY_EXCEPTION),
        ),
        mitigation=(
            (
                "Fix or roll back the deployment that this route calls; the error ratios of other routes "
                "show whether they share the cause."
            ),
        ),
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
        owner="application",
        for_="1m",
        labels=("application",),
        expr=code_share(
            exprs, f'=~"{promql.ERROR_CODES}|{shed_codes(exprs)}"', "application", above=0.5, of=figures.REQUESTS_2M
        ),
        summary="Most requests to the application fail.",
        description=(
            "{{ $value | humanizePercentage }} of requests to application {{ $labels.application }} "
            "failed or were rejected by back-pressure in the last 2 minutes."
        ),
        meaning=(
            "The application is unavailable, whatever the cause (no replicas, failing code, full "
            "queues). A 503 means a full queue or no replica at all."
        ),
        impact="The application is down for most clients.",
        diagnosis=(
            ("Which status codes?", REQUESTS_BY_CODE),
            ("Are any replicas healthy?", "sum by (application) (ray_serve_deployment_replica_healthy)"),
            ("Does the controller report the application as failed?", "ray_serve_application_status"),
        ),
        mitigation=(
            "If there are no replicas, follow RayServeNoReplicas.",
            "If queues are full, add replicas; see RayServeBackPressure.",
            "If the code fails, roll back to the previous version.",
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
    slow = exprs.share_beyond(
        figures.FAST_REQUESTS, figures.TIMED_REQUESTS, "application", least=10 * exprs.settings.alert_min_events
    )
    return Alert(
        name="RayServeLatencyHigh",
        severity="warning",
        owner="application",
        for_="5m",
        every_s=MINUTE,
        labels=("application",),
        expr=f"# ignore shares of only a few requests at low traffic\n{slow} > {exprs.settings.latency_share:g}",
        summary="The application's latency is high.",
        description=(
            f"{{{{ $value | humanizePercentage }}}} of requests to application {{{{ $labels.application "
            f"}}}} took longer than {exprs.settings.latency_ms / 1000:g} s in the last 10 minutes."
        ),
        meaning=(
            "Measured at the proxy, including the time waiting for a replica. The share is exact, "
            "because the threshold is a bucket bound of the histogram. WebSocket sessions do not count."
        ),
        impact="Slow responses; some clients may time out.",
        diagnosis=(
            (
                "Is the time spent waiting or processing? Router wait:",
                "histogram_quantile(0.95, sum by (application, deployment, le) "
                "(rate(ray_serve_request_router_fulfillment_time_ms_bucket[5m])))",
            ),
            (
                "Which deployment is slow?",
                "histogram_quantile(0.95, sum by (application, deployment, le) "
                "(rate(ray_serve_deployment_processing_latency_ms_bucket[5m])))",
            ),
        ),
        mitigation=(
            "If requests wait for a replica, add replicas or lower target_ongoing_requests.",
            "If processing is slow, profile the slow deployment; check its CPU usage and event loop lag.",
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
        owner="application",
        for_="2m",
        labels=("application",),
        expr=code_share(
            exprs,
            f'=~"{shed_codes(exprs)}"',
            "application",
            above=exprs.settings.backpressure_ratio,
            of=figures.REQUESTS_5M,
        ),
        summary="Requests are rejected by back-pressure.",
        description=(
            f"{{{{ $value | humanizePercentage }}}} of requests to application {{{{ $labels.application "
            f"}}}} were rejected with {' or '.join(exprs.settings.backpressure_codes)} in the last 5 "
            f"minutes."
        ),
        meaning=(
            "The queue of a proxy or handle has reached max_queued_requests. Serve also returns 503 when "
            "there is no replica at all; RayServeNoReplicas covers that."
        ),
        impact="Rejected clients must retry later.",
        diagnosis=(
            ("Which queue is full?", "max by (application, deployment) (ray_serve_deployment_queued_queries)"),
            (
                (
                    "Which proxy or handle rejected requests? Counted from the logs, where a log agent runs "
                    "(docs/logs.md):"
                ),
                exprs.events(
                    "servescope_log_events_total", "5m", *promql.DEPLOYMENT, "component", event='="backpressure"'
                ),
            ),
            ("Can the deployment scale up?", "ray_serve_autoscaling_target_replicas"),
        ),
        mitigation=(
            "Raise max_replicas, or num_replicas if it is fixed.",
            "Raise max_queued_requests if clients would rather wait than be rejected.",
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
    probe_errors = exprs.read(figures.PROBE_ERRORS, "NodeAddress")
    drained = exprs.total("max", exprs.over("max", "ray_serve_proxy_status", "5m"), "node_ip_address")
    drained = f'label_replace({drained}, "NodeAddress", "$1", "node_ip_address", "(.*)") >= 4'
    by_node = f"({', '.join(exprs.by('NodeAddress'))})"
    return Alert(
        name="RayServeHealthzFailing",
        severity="critical",
        owner="platform",
        for_="1m",
        labels=(),
        expr=(
            f"sum by ({exprs.key}) ({probe_errors} >= 3\n"
            "# a draining node without replicas fails its probe on purpose, so that it can be removed\n"
            f"unless on {by_node} {drained})"
        ),
        summary="Proxies fail their health probe.",
        description="{{ $value }} probes of /-/healthz were answered with a 5xx in the last 2 minutes.",
        meaning=(
            "The proxy has no route table yet, or no replica to route to. The proxies count these probes "
            "themselves, so the alert needs a prober, such as a load balancer."
        ),
        impact="The load balancer removes the node; when all nodes are removed, Serve is unreachable.",
        diagnosis=(
            ("What is the status of each proxy?", "ray_serve_proxy_status"),
            ("What does the probe return? `curl -i http://<node>:8000/-/healthz` prints the reason.", ""),
        ),
        mitigation=(("If there is no route table, check that the controller is running (RayServeControllerStalled)."),),
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
        owner="platform",
        for_="1m",
        labels=("instance",),
        expr=f"{exprs.total('max', probe, 'instance')} == 0",
        summary="The external health probe fails.",
        description="The health probe of {{ $labels.instance }} has failed for 1 minute.",
        meaning="The blackbox exporter cannot reach the address from outside: network, proxy or node failure.",
        impact="Clients that use this address get no response.",
        diagnosis=(
            ("Do other probes succeed?", "probe_success"),
            ("Are the proxies healthy?", "ray_serve_proxy_status"),
        ),
        mitigation=("If all proxies are healthy, check the network and the load balancer in front of them.",),
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
        needs="a blackbox exporter that probes `/-/healthz`, with the probed address as its instance label",
    )


def routes_gone(exprs: Expressions) -> Alert:
    unmatched = exprs.read(figures.UNMATCHED)
    vanished = (
        f"{exprs.total('group', exprs.over('last', 'ray_serve_application_status', '1h'), 'application')}\n"
        f"unless {exprs.total('group', exprs.now('ray_serve_application_status'), 'application')}"
    )
    return Alert(
        name="RayServeRoutesGone",
        severity="critical",
        owner="application",
        for_="1m",
        labels=("application",),
        expr=(
            f"({vanished})\n"
            "# an application deleted on purpose matters only while clients still request it\n"
            f"and on ({exprs.key}) ({unmatched} >= {exprs.settings.alert_min_events})\n"
            "# a stalled controller and a silent cluster have their own alerts\n"
            f"and on ({exprs.key}) {exprs.controller_runs(exprs.hold)}"
        ),
        summary="An application is missing and its clients get 404.",
        description=(
            "Application {{ $labels.application }} was reported within the last hour and no longer is, "
            "while the proxies return 404 for paths that match no route."
        ),
        meaning="The application was deleted, or replaced by a Serve config that does not include it.",
        impact="Every request to the application gets a 404.",
        diagnosis=(
            ("Which applications are deployed?", "ray_serve_application_status"),
            (
                "How many requests match no route?",
                'sum(rate(ray_serve_num_http_requests_total{application="", route=""}[5m]))',
            ),
        ),
        mitigation=("Deploy the Serve config that includes the application; `serve config` shows the current one.",),
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
        owner="application",
        for_="1m",
        labels=("application",),
        expr=exprs.total("group", exprs.now("ray_serve_application_status") + " == 1", "application"),
        summary="The application failed to deploy.",
        description="The Serve controller reports DEPLOY_FAILED for application {{ $labels.application }}.",
        meaning=(
            "A constructor raises, an import fails, or the runtime environment cannot be created. Serve "
            "does not retry until the next deploy."
        ),
        impact="A new application returns 503. An existing one keeps running on its remaining replicas.",
        diagnosis=(
            ("Which deployment?", "ray_serve_deployment_status == 1"),
            ("Why? `serve status` shows the message with the traceback.", ""),
        ),
        mitigation=("Fix what the message in `serve status` reports, or roll back to the previous version.",),
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
        owner="application",
        for_="2m",
        labels=("application",),
        expr=exprs.total("group", exprs.now("ray_serve_application_status") + " == 2", "application"),
        summary="The application is unhealthy.",
        description=(
            "The Serve controller has reported UNHEALTHY for application {{ $labels.application }} for 2 minutes."
        ),
        meaning="One of its deployments has replicas that fail their health check or cannot be replaced.",
        impact="Reduced capacity; requests fail when no replica is left.",
        diagnosis=(
            ("Which deployment?", "ray_serve_deployment_status == 2"),
            ("How many replicas are healthy?", "sum by (deployment) (ray_serve_deployment_replica_healthy)"),
        ),
        mitigation=(
            "Read the logs of the failing replicas; see RayServeReplicaCrashLooping and RayServeHealthCheckFailing.",
        ),
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
        owner="application",
        for_="5m",
        labels=("application", "deployment"),
        expr=exprs.total("group", exprs.now("ray_serve_deployment_status") + " <= 2", *promql.DEPLOYMENT),
        summary="The deployment is unhealthy or failed to deploy.",
        description=(
            "{{ $labels.application }}/{{ $labels.deployment }} has been UNHEALTHY, DEPLOY_FAILED or "
            "UNKNOWN for 5 minutes."
        ),
        meaning="Identifies the deployment that makes its application unhealthy.",
        impact="The same as that of the application's alert.",
        diagnosis=(("Deployment status:", "ray_serve_deployment_status"),),
        mitigation=("Follow the application's alert; the controller's log holds the reason for each failed replica.",),
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
        owner="application",
        for_="2m",
        labels=("application", "deployment"),
        expr=(
            f"({exprs.target_replicas()} > 0\nunless {exprs.healthy_replicas()} > 0)\n"
            "# a first deploy that is still starting is no outage: require an earlier replica or queued requests\n"
            f"and ({was_healthy} > 0\nor {waiting} > 0)\n"
            "# a controller that has just restarted does not know its replicas yet\n"
            f"and on ({exprs.key}) {exprs.controller_lasts()}{exprs.unless_starting()}"
        ),
        summary="The deployment has no healthy replicas.",
        description=(
            "{{ $labels.application }}/{{ $labels.deployment }} has no healthy replicas; its target is {{ $value }}."
        ),
        meaning=(
            "All replicas died, or none can be scheduled or started. A deployment scaled to zero on "
            "purpose has a target of 0 and does not raise this alert."
        ),
        impact="Requests that need this deployment wait, then fail.",
        diagnosis=(
            ("Target replicas:", "ray_serve_autoscaling_target_replicas"),
            ("Are replicas pending?", 'ray_actors{Source="gcs", State!="ALIVE"}'),
        ),
        mitigation=(
            "If replicas are unschedulable, follow RayServeReplicasNotPlaced.",
            "If replicas start and die, follow RayServeReplicaStartFailing and RayServeReplicaCrashLooping.",
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
        judged="start",
        drill="exit-at-start",
    )
