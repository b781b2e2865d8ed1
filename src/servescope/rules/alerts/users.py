"""What users feel: errors, latency, refusals, applications and routes that are gone."""

from __future__ import annotations

from servescope import promql
from servescope.rules.alert import Alert, Case, Group
from servescope.rules.expressions import Expressions
from servescope.settings import Settings

APP = {"application": "main"}
STATUS = 'ray_serve_application_status{application="main"}'
LOOPS = 'ray_serve_controller_num_control_loops{actor_id="c1"}'


def http(code: str, route: str = "/", application: str = "main") -> str:
    """A series of the proxies' request counter."""
    return (
        f'ray_serve_num_http_requests_total{{application="{application}",route="{route}",method="GET",'
        f'status_code="{code}"}}'
    )


def build(settings: Settings) -> Group:
    """The group."""
    t = Expressions(settings)
    shed = "|".join((*settings.backpressure_codes, "RESOURCE_EXHAUSTED"))
    failed = f'=~"{promql.ERROR_CODES}", status_code!~"{shed}"'

    def share(codes: str, above: float, window: str, *labels: str) -> str:
        part, whole = t.requests(window, *labels, codes=codes), t.requests(window, *labels)
        return (
            f"{part} / {whole} > {above:g}\n"
            f"# a handful of failures at night is no ratio\n"
            f"and {part} >= {settings.alert_min_events}"
        )

    codes_query = "sum by (application, route, status_code) (rate(ray_serve_num_http_requests_total[5m]))"
    exceptions_query = (
        "sum by (application, deployment, exception_type) (rate(ray_serve_deployment_error_counter_total[5m]))"
    )
    slow = t.slow_share(
        "ray_serve_http_request_latency_ms", settings.latency_ms, "10m", "application", application='!=""'
    )
    answered = t.events("ray_serve_http_request_latency_ms_count", "10m", "application", application='!=""')
    probe_errors = t.events(
        "ray_serve_num_http_requests_total", "2m", "NodeAddress", route='="/-/healthz"', status_code='=~"5.."'
    )
    drained = t.total("max", t.over("max", "ray_serve_proxy_status", "5m"), "node_ip_address")
    drained = f'label_replace({drained}, "NodeAddress", "$1", "node_ip_address", "(.*)") >= 4'
    by_node = f"({', '.join(t.by('NodeAddress'))})"
    probe = t.now("probe_success", instance='=~".*/-/healthz"')
    unmatched = t.events(
        "ray_serve_num_http_requests_total", "5m", application='=""', route='=""', status_code='="404"'
    )
    vanished = (
        f"{t.total('group', t.over('last', 'ray_serve_application_status', '1h'), 'application')}\n"
        f"unless {t.total('group', t.now('ray_serve_application_status'), 'application')}"
    )
    target = t.total("max", t.now("ray_serve_autoscaling_target_replicas"), *promql.DEPLOYMENT)
    healthy = t.total("sum", t.now("ray_serve_deployment_replica_healthy"), *promql.DEPLOYMENT)
    was_healthy = t.total("max", t.over("max", "ray_serve_deployment_replica_healthy", "1h"), *promql.DEPLOYMENT)
    waiting = t.total("sum", t.now("ray_serve_deployment_queued_queries"), *promql.DEPLOYMENT)
    return Group(
        "users",
        "What users feel",
        (
            Alert(
                name="RayServeErrorRatioHigh",
                severity="critical",
                wait="2m",
                labels=("application",),
                expr=share(failed, settings.error_ratio_critical, "5m", "application"),
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
                diagnose=(
                    ("Which route and status?", codes_query),
                    ("Which deployment raises, and what?", exceptions_query),
                    ("Did it begin with a deploy? The rollout marks on every dashboard tell.", ""),
                ),
                mend=(
                    "Began with a deploy: deploy the version before.",
                    "One exception type: read it in the replica's log, `logs/serve/replica_<app>_<deployment>_*.log`.",
                    "One replica only: see RayServeReplicaErrorOutlier, and kill that replica.",
                ),
                panel=("servescope-overview", "Error ratio by application"),
                case=Case(
                    at="45m",
                    fires={http("200"): "0+88x", http("500"): "0+12x"},
                    quiet={http("500"): "0+4x"},
                    labels=APP,
                    also=("RayServeErrorRatioElevated", "RayServeRouteFailing"),
                    quiet_also=("RayServeErrorRatioElevated",),
                ),
                drill="raising-handler",
            ),
            Alert(
                name="RayServeErrorRatioElevated",
                severity="warning",
                wait="5m",
                labels=("application",),
                expr=share(failed, settings.error_ratio_warning, "30m", "application"),
                summary="Some requests of an application fail.",
                description=(
                    "{{ $value | humanizePercentage }} of the requests to {{ $labels.application }} ended in a 5xx "
                    "during the last 30 minutes (back-pressure not counted)."
                ),
                meaning=(
                    "A small share of requests fails all the time: one input, one route, one replica or one dependency."
                ),
                impact="Some requests fail; most users do not notice.",
                diagnose=(
                    ("Which route and status?", codes_query),
                    ("Which deployment raises, and what?", exceptions_query),
                ),
                mend=("Find the failing input in the logs by its request id and mend the code that raises.",),
                panel=("servescope-overview", "Error ratio by application"),
                case=Case(
                    at="45m",
                    fires={http("200"): "0+97x", http("500"): "0+3x"},
                    quiet={http("500"): "0+0.9x"},
                    labels=APP,
                ),
                drill="raising-handler",
            ),
            Alert(
                name="RayServeRouteFailing",
                severity="warning",
                wait="2m",
                labels=("application", "route"),
                expr=share(failed, 2 * settings.error_ratio_critical, "5m", "application", "route"),
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
                diagnose=(
                    ("Which routes and codes?", codes_query),
                    ("Which deployment raises, and what?", exceptions_query),
                ),
                mend=("Mend what this route calls; the other routes show whether the fault is shared.",),
                panel=("servescope-overview", "Requests not answered well, by status code"),
                case=Case(
                    at="45m",
                    fires={http("200"): "0+900x", http("500", "/a"): "0+15x", http("200", "/a"): "0+85x"},
                    quiet={http("500", "/a"): "0+9x", http("200", "/a"): "0+91x"},
                    labels={"application": "main", "route": "/a"},
                    also=("RayServeErrorRatioElevated",),
                ),
                drill="raising-handler",
            ),
            Alert(
                name="RayServeUnavailable",
                severity="critical",
                wait="1m",
                labels=("application",),
                expr=share(f'=~"{promql.ERROR_CODES}|{shed}"', 0.5, "2m", "application"),
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
                diagnose=(
                    ("Which codes?", codes_query),
                    ("Is any replica healthy?", "sum by (application) (ray_serve_deployment_replica_healthy)"),
                    ("Does the controller call it failed?", "ray_serve_application_status"),
                ),
                mend=(
                    "No replica: follow RayServeNoReplicas.",
                    "Full queues: more replicas, see RayServeBackPressure.",
                    "Failing code: deploy the version before.",
                ),
                panel=("servescope-overview", "Requests by outcome"),
                case=Case(
                    at="10m",
                    fires={http("200"): "0+40x", http("503"): "0+60x"},
                    quiet={http("503"): "0+39x"},
                    labels=APP,
                    also=("RayServeBackPressure",),
                    quiet_also=("RayServeBackPressure",),
                ),
                drill="burst",
            ),
            Alert(
                name="RayServeLatencyHigh",
                severity="warning",
                wait="5m",
                labels=("application",),
                expr=(
                    f"{slow} > {settings.latency_share:g}\n"
                    f"# a few slow requests of a quiet application are no share\n"
                    f"and {answered} >= {10 * settings.alert_min_events}"
                ),
                summary="An application answers slowly.",
                description=(
                    "{{ $value | humanizePercentage }} of the requests to {{ $labels.application }} took longer than "
                    f"{settings.latency_ms / 1000:g} s during the last 10 minutes."
                ),
                meaning=(
                    "Measured at the proxy, waiting for a replica included. The share is exact, since the bound is "
                    "one of the histogram's buckets."
                ),
                impact="They wait.",
                diagnose=(
                    (
                        "Is it waiting or working? Wait for a replica:",
                        "histogram_quantile(0.95, sum by (application, deployment, le) "
                        "(rate(ray_serve_request_router_fulfillment_time_ms_bucket[5m])))",
                    ),
                    (
                        "Which deployment works slowly?",
                        "histogram_quantile(0.95, sum by (application, deployment, le) "
                        "(rate(ray_serve_deployment_processing_latency_ms_bucket[5m])))",
                    ),
                ),
                mend=(
                    "Waiting: more replicas, or a lower target_ongoing_requests.",
                    "Working: profile the slow deployment; look at its CPU and event loop lag.",
                ),
                panel=("servescope-overview", "Latency p95 by application"),
                case=Case(
                    at="20m",
                    fires={
                        f'ray_serve_http_request_latency_ms_bucket{{application="main",route="/",method="GET",'
                        f'status_code="200",le="{settings.latency_ms}"}}': "0+90x",
                        'ray_serve_http_request_latency_ms_count{application="main",route="/",method="GET",'
                        'status_code="200"}': "0+100x",
                    },
                    quiet={
                        f'ray_serve_http_request_latency_ms_bucket{{application="main",route="/",method="GET",'
                        f'status_code="200",le="{settings.latency_ms}"}}': "0+96x"
                    },
                    labels=APP,
                ),
                drill="slow-model",
            ),
            Alert(
                name="RayServeBackPressure",
                severity="warning",
                wait="2m",
                labels=("application",),
                expr=share(f'=~"{shed}"', settings.backpressure_ratio, "5m", "application"),
                summary="Requests are turned away because queues are full.",
                description=(
                    "{{ $value | humanizePercentage }} of the requests to {{ $labels.application }} were refused with "
                    f"{' or '.join(settings.backpressure_codes)} during the last 5 minutes."
                ),
                meaning=(
                    "A caller has max_queued_requests waiting for a deployment. Serve also answers 503 when no "
                    "replica is there at all; RayServeNoReplicas tells that."
                ),
                impact="They are told to come back later.",
                diagnose=(
                    ("Which queue is full?", "max by (application, deployment) (ray_serve_deployment_queued_queries)"),
                    (
                        "Which caller dropped the calls? Counted from the logs, where a log agent runs (docs/logs.md):",
                        t.events(
                            "servescope_log_events_total",
                            "5m",
                            *promql.DEPLOYMENT,
                            "component",
                            event='="backpressure"',
                        ),
                    ),
                    ("Can the deployment grow?", "ray_serve_autoscaling_target_replicas"),
                ),
                mend=(
                    "Raise max_replicas, or num_replicas where it is fixed.",
                    "Raise max_queued_requests if waiting is better than being refused.",
                ),
                panel=("servescope-overview", "Back-pressure"),
                case=Case(
                    at="10m",
                    fires={http("200"): "0+97x", http("429"): "0+3x"},
                    quiet={http("429"): "0+0.9x"},
                    labels=APP,
                ),
                drill="burst",
            ),
            Alert(
                name="RayServeHealthzFailing",
                severity="critical",
                wait="1m",
                labels=(),
                expr=(
                    f"sum by ({settings.cluster_label}) ({probe_errors} >= 3\n"
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
                diagnose=(
                    ("What do the proxies' status gauges say?", "ray_serve_proxy_status"),
                    ("What does the probe say? `curl -i http://<node>:8000/-/healthz` tells the reason.", ""),
                ),
                mend=("No route table: see whether the controller lives (RayServeControllerStalled).",),
                panel=("servescope-cluster", "Proxy status"),
                case=Case(
                    at="10m",
                    fires={http("503", "/-/healthz", ""): "0+1x"},
                    quiet={http("503", "/-/healthz", ""): "0x30 1x5 2x"},
                ),
                drill="empty-head",
            ),
            Alert(
                name="RayServeProbeFailing",
                severity="critical",
                wait="1m",
                labels=("instance",),
                expr=f"{t.total('max', probe, 'instance')} == 0",
                summary="The health probe from outside fails.",
                description="The probe of {{ $labels.instance }} has failed for a minute.",
                meaning="Seen from outside, by the blackbox exporter: network, proxy or node.",
                impact="Whoever comes by that address gets nothing.",
                diagnose=(
                    ("Do other probes succeed?", "probe_success"),
                    ("Are the proxies healthy?", "ray_serve_proxy_status"),
                ),
                mend=("All proxies healthy: look at the network and the load balancer between.",),
                panel=("servescope-cluster", "Proxy status"),
                case=Case(
                    at="10m",
                    fires={'probe_success{instance="http://n1:8000/-/healthz",job="probe"}': "0x"},
                    quiet={'probe_success{instance="http://n1:8000/-/healthz",job="probe"}': "1 0 0 1 _ _ 0 1x"},
                    labels={"instance": "http://n1:8000/-/healthz"},
                ),
                drill="kill-proxy",
                needs="a blackbox exporter that probes `/-/healthz`, its instance label the probed address",
            ),
            Alert(
                name="RayServeRoutesGone",
                severity="critical",
                wait="1m",
                labels=("application",),
                expr=(
                    f"({vanished})\n"
                    "# an application deleted on purpose is nobody's loss: callers who still ask for it are\n"
                    f"and on ({settings.cluster_label}) ({unmatched} >= {settings.alert_min_events})\n"
                    "# silence of the controller or of the whole cluster has an alert of its own\n"
                    f"and on ({settings.cluster_label}) {t.controller_turns(t.hold)}"
                ),
                summary="An application is gone and its callers get 404.",
                description=(
                    "{{ $labels.application }} was there within the last hour and is no longer, while the proxies "
                    "answer 404 to paths that match no route."
                ),
                meaning="The application was deleted or replaced by a configuration that does not hold it.",
                impact="Every request to it gets a 404.",
                diagnose=(
                    ("Which applications are there?", "ray_serve_application_status"),
                    (
                        "How many requests match nothing?",
                        'sum(rate(ray_serve_num_http_requests_total{application="", route=""}[5m]))',
                    ),
                ),
                mend=("Deploy the configuration that holds the application; `serve config` shows the present one.",),
                panel=("servescope-overview", "Unmatched and probe traffic"),
                case=Case(
                    at="20m",
                    fires={
                        STATUS: "6x20",
                        'ray_serve_application_status{application="other"}': "6x",
                        http("404", "", ""): "0+5x",
                        LOOPS: "0+10x",
                    },
                    quiet={http("404", "", ""): "0+0.1x"},
                    labels=APP,
                ),
                drill="lost-route",
            ),
            Alert(
                name="RayServeApplicationDeployFailed",
                severity="critical",
                wait="1m",
                labels=("application",),
                expr=f"{t.total('group', t.now('ray_serve_application_status') + ' == 1', 'application')}",
                summary="An application failed to deploy.",
                description="Serve's controller reports DEPLOY_FAILED for {{ $labels.application }}.",
                meaning=(
                    "The constructor raises, the import fails, or the runtime environment cannot be made. Serve has "
                    "given up; it tries again with the next deploy only."
                ),
                impact="A new application answers 503. An old one runs on with the replicas that are left.",
                diagnose=(
                    ("Which deployment?", "ray_serve_deployment_status == 1"),
                    ("Why? `serve status` shows the message with the traceback.", ""),
                ),
                mend=("Mend what the message names, or deploy the version before.",),
                panel=("servescope-overview", "Application status"),
                case=Case(at="10m", fires={STATUS: "5x10 1x"}, quiet={STATUS: "5x"}, labels=APP),
                drill="failing-constructor",
            ),
            Alert(
                name="RayServeApplicationUnhealthy",
                severity="critical",
                wait="2m",
                labels=("application",),
                expr=f"{t.total('group', t.now('ray_serve_application_status') + ' == 2', 'application')}",
                summary="An application is unhealthy.",
                description="Serve's controller has reported UNHEALTHY for {{ $labels.application }} for two minutes.",
                meaning="A deployment of it has replicas that fail their health check or cannot be replaced.",
                impact="Capacity is lost; with no replica left requests fail.",
                diagnose=(
                    ("Which deployment?", "ray_serve_deployment_status == 2"),
                    ("How many replicas are healthy?", "sum by (deployment) (ray_serve_deployment_replica_healthy)"),
                ),
                mend=("Read the replicas' logs; see RayServeReplicaCrashLooping and RayServeHealthCheckFailing.",),
                panel=("servescope-overview", "Application status"),
                case=Case(at="10m", fires={STATUS: "6x10 2x"}, quiet={STATUS: "6x10 2x3 6x"}, labels=APP),
                drill="exit-at-start",
            ),
            Alert(
                name="RayServeDeploymentUnhealthy",
                severity="warning",
                wait="5m",
                labels=("application", "deployment"),
                expr=f"{t.total('group', t.now('ray_serve_deployment_status') + ' <= 2', *promql.DEPLOYMENT)}",
                summary="A deployment is unhealthy or failed to deploy.",
                description=(
                    "{{ $labels.deployment }} of {{ $labels.application }} has been UNHEALTHY, DEPLOY_FAILED or "
                    "UNKNOWN for five minutes."
                ),
                meaning="It names the deployment behind an application's trouble.",
                impact="What the application's alert says.",
                diagnose=(("Its status:", "ray_serve_deployment_status"),),
                mend=("See the application's alert; the controller's log holds the reason of each failed replica.",),
                panel=("servescope-overview", "Deployment status"),
                case=Case(
                    at="15m",
                    fires={'ray_serve_deployment_status{application="main",deployment="D"}': "6x4 2x"},
                    quiet={'ray_serve_deployment_status{application="main",deployment="D"}': "3x"},
                    labels={"application": "main", "deployment": "D"},
                ),
                drill="failing-constructor",
            ),
            Alert(
                name="RayServeNoReplicas",
                severity="critical",
                wait="2m",
                labels=("application", "deployment"),
                expr=(
                    f"({target} > 0\nunless {healthy} > 0)\n"
                    "# a first deploy that still loads is no outage: a replica must have been there, or a "
                    "caller waits\n"
                    f"and ({was_healthy} > 0\nor {waiting} > 0)\n"
                    "# a controller that has just come back does not yet know its replicas\n"
                    f"and on ({settings.cluster_label}) {t.controller_lasts()}"
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
                diagnose=(
                    ("Wanted:", "ray_serve_autoscaling_target_replicas"),
                    ("Are replicas waiting for a place?", 'ray_actors{Source="gcs", State!="ALIVE"}'),
                ),
                mend=(
                    "No place: see RayServeReplicasNotPlaced.",
                    "They start and die: see RayServeReplicaStartFailing and RayServeReplicaCrashLooping.",
                ),
                panel=("servescope-deployment", "Replicas wanted and healthy"),
                case=Case(
                    at="10m",
                    fires={
                        'ray_serve_autoscaling_target_replicas{application="main",deployment="D"}': "2x",
                        'ray_serve_deployment_replica_healthy{application="main",deployment="D"}': "1x8 0x",
                        LOOPS: "0+100x",
                    },
                    quiet={'ray_serve_autoscaling_target_replicas{application="main",deployment="D"}': "2x8 0x"},
                    labels={"application": "main", "deployment": "D"},
                ),
                drill="exit-at-start",
            ),
        ),
    )
