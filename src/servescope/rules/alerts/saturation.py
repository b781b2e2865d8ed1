"""Too much to do: queues, full replicas, and a scale that does not follow."""

from __future__ import annotations

from servescope.promql import DEPLOYMENT
from servescope.rules.alert import Alert, Case, Group
from servescope.rules.expressions import Expressions
from servescope.settings import Settings

WHO = {"application": "main", "deployment": "D"}


def of(metric: str, **labels: str) -> str:
    """A series of the deployment that the cases are about."""
    text = ",".join(f'{name}="{value}"' for name, value in {**WHO, **labels}.items())
    return f"{metric}{{{text}}}"


TARGET = of("ray_serve_autoscaling_target_replicas")
DEMAND = of("ray_serve_autoscaling_total_requests")
WANTED_EACH = of("ray_serve_autoscaling_target_ongoing_requests")
QUEUE = of("ray_serve_deployment_queued_queries", handle="h1", actor_id="x")
RUNNING = of("ray_serve_replica_processing_queries", replica="r1")
FINISHED = of("ray_serve_deployment_processing_latency_ms_count", replica="r1", route="/")
HEALTHY = of("ray_serve_deployment_replica_healthy", replica="r1")


def build(settings: Settings) -> Group:
    """The group."""
    t = Expressions(settings)
    target = t.total("max", t.now("ray_serve_autoscaling_target_replicas"), *DEPLOYMENT)
    highest = t.total("max", t.over("max", "ray_serve_autoscaling_target_replicas", "10m"), *DEPLOYMENT)
    lowest = t.total("min", t.over("min", "ray_serve_autoscaling_target_replicas", "10m"), *DEPLOYMENT)
    healthy = t.total("sum", t.now("ray_serve_deployment_replica_healthy"), *DEPLOYMENT)
    queue = t.total("sum", t.over("avg", "ray_serve_deployment_queued_queries", "5m"), *DEPLOYMENT)
    queue_before = t.total(
        "sum", f"avg_over_time({t.scope.select('ray_serve_deployment_queued_queries')}[5m] offset 5m)", *DEPLOYMENT
    )
    fullest = t.total("max", t.over("min", "ray_serve_deployment_queued_queries", t.hold), *DEPLOYMENT)
    limit = t.total("max", t.now("servescope_deployment_max_queued_requests"), *DEPLOYMENT)
    running = t.total("sum", t.over("avg", "ray_serve_replica_processing_queries", "5m"), *DEPLOYMENT)
    each = t.total("max", t.now("servescope_deployment_max_ongoing_requests"), *DEPLOYMENT)
    demand = t.total("sum", t.over("avg", "ray_serve_autoscaling_total_requests", "5m"), *DEPLOYMENT)
    wanted_each = (
        f"({t.total('max', t.now('ray_serve_autoscaling_target_ongoing_requests'), *DEPLOYMENT)} or "
        f"{t.total('max', t.now('servescope_deployment_target_ongoing_requests'), *DEPLOYMENT)})"
    )
    waited = t.slow_share("ray_serve_request_router_fulfillment_time_ms", settings.router_wait_ms, "5m", *DEPLOYMENT)
    routed = t.events("ray_serve_request_router_fulfillment_time_ms_count", "5m", *DEPLOYMENT)
    hung = f"{settings.hung_minutes}m"
    finished = t.events("ray_serve_deployment_processing_latency_ms_count", hung, *DEPLOYMENT)
    pending = t.scope.select(
        "ray_actors", Source='="gcs"', State='=~"PENDING_CREATION|DEPENDENCIES_UNREADY"', Name='=~"ServeReplica:.+:.+"'
    )
    pending_by = f"last_over_time({pending}[{t.hold}])"
    for group, label in ((1, "application"), (2, "deployment")):
        pending_by = f'label_replace({pending_by}, "{label}", "${group}", "Name", "ServeReplica:(.*):([^:]*)")'
    why_no_place = t.total(
        "sum", t.now("ray_scheduler_unscheduleable_tasks", Reason='=~"Infeasible|WaitingFor.*Resources"')
    )
    changes = t.scope.select("ray_serve_autoscaling_target_replicas")
    return Group(
        "saturation",
        "Too much to do",
        (
            Alert(
                name="RayServeQueueGrowing",
                severity="warning",
                wait="5m",
                labels=DEPLOYMENT,
                expr=(
                    f"{queue} > 1.2 * {queue_before}\n"
                    "# a queue that empties now and then is doing its work\n"
                    "and "
                    f"{t.total('max', t.over('min', 'ray_serve_deployment_queued_queries', '5m'), *DEPLOYMENT)} >= 1\n"
                    "# while replicas are being added, growth is being dealt with\n"
                    f"and {highest} == {lowest}"
                ),
                summary="A queue grows and no replica is added.",
                description=(
                    "On average {{ $value | humanize }} requests wait for {{ $labels.deployment }} of "
                    "{{ $labels.application }}, more than five minutes ago, and the number of replicas has not "
                    "changed for ten minutes."
                ),
                meaning=(
                    "Demand exceeds what the replicas can take: the replicas are fixed, at max_replicas, or the "
                    "autoscaler does not see the queue."
                ),
                impact="Waiting times grow until queues are full and requests are refused.",
                diagnose=(
                    ("Waiting:", "sum by (application, deployment) (ray_serve_deployment_queued_queries)"),
                    ("Wanted replicas:", "ray_serve_autoscaling_target_replicas"),
                ),
                mend=(
                    "Raise num_replicas or max_replicas; lower target_ongoing_requests if replicas are busy below it.",
                ),
                panel=("servescope-deployment", "Waiting requests"),
                case=Case(
                    at="20m",
                    fires={QUEUE: "1+1x", TARGET: "2x", HEALTHY: "2x"},
                    quiet={QUEUE: "40x"},
                    labels=WHO,
                ),
                drill="beyond-max-replicas",
            ),
            Alert(
                name="RayServeQueueNearLimit",
                severity="warning",
                wait="1m",
                labels=DEPLOYMENT,
                expr=f"{fullest} / ({limit} > 0) > 0.8",
                summary="A caller's queue is nearly full.",
                description=(
                    "The fullest caller of {{ $labels.deployment }} of {{ $labels.application }} uses "
                    "{{ $value | humanizePercentage }} of max_queued_requests."
                ),
                meaning="max_queued_requests holds for each caller (each proxy and each handle), not for their sum.",
                impact="None yet; beyond the limit requests are refused.",
                diagnose=(
                    ("The fullest caller:", "max by (application, deployment) (ray_serve_deployment_queued_queries)"),
                    ("The limit:", "servescope_deployment_max_queued_requests"),
                ),
                mend=("More replicas, or a higher max_queued_requests.",),
                panel=("servescope-deployment", "Waiting requests of the fullest caller"),
                case=Case(
                    at="10m",
                    fires={QUEUE: "9x", of("servescope_deployment_max_queued_requests"): "10x"},
                    quiet={QUEUE: "8x"},
                    labels=WHO,
                ),
                drill="burst",
                needs="the servescope exporter (the limit is in no metric of Ray's)",
            ),
            Alert(
                name="RayServeReplicasSaturated",
                severity="warning",
                wait="5m",
                labels=DEPLOYMENT,
                expr=f"{running} / ({healthy} * {each} > 0) >= 0.95",
                summary="All replicas are as full as they may be.",
                description=(
                    "Replicas of {{ $labels.deployment }} of {{ $labels.application }} carry "
                    "{{ $value | humanizePercentage }} of max_ongoing_requests."
                ),
                meaning="Each replica works on max_ongoing_requests at once; whatever comes on top waits.",
                impact="They wait for a place.",
                diagnose=(
                    ("In progress on each replica:", "ray_serve_replica_processing_queries"),
                    ("The limit:", "servescope_deployment_max_ongoing_requests"),
                ),
                mend=("More replicas; a higher max_ongoing_requests only if a replica has resources left.",),
                panel=("servescope-deployment", "Requests in progress per replica"),
                case=Case(
                    at="15m",
                    fires={
                        RUNNING: "10x",
                        HEALTHY: "1x",
                        FINISHED: "0+10x",
                        of("servescope_deployment_max_ongoing_requests"): "10x",
                    },
                    quiet={RUNNING: "9x"},
                    labels=WHO,
                ),
                drill="beyond-max-replicas",
                needs="the servescope exporter (the limit is in no metric of Ray's)",
            ),
            Alert(
                name="RayServeRouterWaitHigh",
                severity="warning",
                wait="5m",
                labels=DEPLOYMENT,
                expr=f"{waited} > 0.05\nand {routed} >= {10 * settings.alert_min_events}",
                summary="Requests wait long for a replica.",
                description=(
                    "{{ $value | humanizePercentage }} of the requests to {{ $labels.deployment }} of "
                    f"{{{{ $labels.application }}}} waited longer than {settings.router_wait_ms} ms for a replica."
                ),
                meaning="The router found every replica full, or asks them slowly.",
                impact="Their requests take longer than the work does.",
                diagnose=(
                    (
                        "The wait:",
                        "histogram_quantile(0.95, sum by (deployment, le) "
                        "(rate(ray_serve_request_router_fulfillment_time_ms_bucket[5m])))",
                    ),
                    ("In progress on each replica:", "ray_serve_replica_processing_queries"),
                ),
                mend=("More replicas, or a lower target_ongoing_requests so that the autoscaler adds them sooner.",),
                panel=("servescope-deployment", "Wait for a replica"),
                case=Case(
                    at="15m",
                    fires={
                        of(
                            "ray_serve_request_router_fulfillment_time_ms_bucket",
                            actor_id="x",
                            handle_source="PROXY",
                            le=f"{settings.router_wait_ms}.0",
                        ): "0+9x",
                        of("ray_serve_request_router_fulfillment_time_ms_count", actor_id="x", handle_source="PROXY"): (
                            "0+10x"
                        ),
                    },
                    quiet={
                        of(
                            "ray_serve_request_router_fulfillment_time_ms_bucket",
                            actor_id="x",
                            handle_source="PROXY",
                            le=f"{settings.router_wait_ms}.0",
                        ): "0+9.6x",
                    },
                    labels=WHO,
                ),
                drill="beyond-max-replicas",
            ),
            Alert(
                name="RayServeCappedByMaxReplicas",
                severity="warning",
                wait="5m",
                labels=DEPLOYMENT,
                expr=(
                    "# the gauge of desired replicas shows the excess for 0.3 % of the time: demand is computed\n"
                    f"{demand} / {wanted_each} > 1.1 * {target}\n"
                    "# the autoscaler had ten minutes and did not move\n"
                    f"and {highest} == {lowest}\n"
                    "# replicas that are wanted and missing have an alert of their own\n"
                    f"and {healthy} >= {target}"
                ),
                summary="Demand asks for more replicas than the deployment may have.",
                description=(
                    "Demand on {{ $labels.deployment }} of {{ $labels.application }} would take {{ $value | humanize "
                    "}} replicas, and the autoscaler does not add any."
                ),
                meaning=(
                    "The deployment is at max_replicas, or a custom policy does not follow the default formula "
                    "(requests divided by target_ongoing_requests)."
                ),
                impact="Queues grow, then requests are refused.",
                diagnose=(
                    (
                        "Demand in replicas:",
                        "ray_serve_autoscaling_total_requests / ray_serve_autoscaling_target_ongoing_requests",
                    ),
                    ("Wanted:", "ray_serve_autoscaling_target_replicas"),
                ),
                mend=("Raise max_replicas, with nodes to carry them.",),
                panel=("servescope-deployment", "Demand against replicas"),
                case=Case(
                    at="20m",
                    fires={DEMAND: "12x", WANTED_EACH: "2x", TARGET: "4x", HEALTHY: "4x"},
                    quiet={DEMAND: "8.6x"},
                    labels=WHO,
                ),
                drill="beyond-max-replicas",
            ),
            Alert(
                name="RayServeReplicasNotPlaced",
                severity="warning",
                wait="5m",
                labels=DEPLOYMENT,
                expr=(
                    f"{t.total('sum', pending_by, *DEPLOYMENT)} > 0\n"
                    "# starting takes a while too: the scheduler must say that it has no place\n"
                    f"and on ({settings.cluster_label}) {why_no_place} > 0"
                ),
                summary="Replicas cannot be placed on any node.",
                description=(
                    "{{ $value }} replicas of {{ $labels.deployment }} of {{ $labels.application }} wait for resources "
                    "that no node has free."
                ),
                meaning=(
                    "The replica asks for more CPU, GPU, memory or custom resources than any node has free, or has at "
                    "all (Infeasible)."
                ),
                impact="The deployment runs with fewer replicas than it should, or with none.",
                diagnose=(
                    ("Why no place?", "sum by (Reason) (ray_scheduler_unscheduleable_tasks)"),
                    ("What is free?", 'sum by (Name) (ray_resources{State="AVAILABLE"})'),
                ),
                mend=("Add nodes, ask for less in ray_actor_options, or lower the replicas of another deployment.",),
                panel=("servescope-cluster", "Tasks without a place by reason"),
                case=Case(
                    at="15m",
                    fires={
                        'ray_actors{Source="gcs",State="PENDING_CREATION",Name="ServeReplica:main:D"}': "1x",
                        'ray_scheduler_unscheduleable_tasks{Reason="WaitingForResources"}': "1x",
                    },
                    quiet={'ray_scheduler_unscheduleable_tasks{Reason="WaitingForResources"}': "0x"},
                    labels=WHO,
                ),
                drill="no-resources",
            ),
            Alert(
                name="RayServeReplicasMissing",
                severity="warning",
                wait="15m",
                labels=DEPLOYMENT,
                expr=f"{target} - ({healthy} or 0 * {target}) > 0",
                summary="A deployment has fewer replicas than it should.",
                description=(
                    "{{ $labels.deployment }} of {{ $labels.application }} has lacked {{ $value }} replicas for 15 "
                    "minutes."
                ),
                meaning="Replicas cannot be placed, do not start, or fail their health check.",
                impact="Less capacity than planned.",
                diagnose=(
                    ("Wanted:", "ray_serve_autoscaling_target_replicas"),
                    ("Healthy:", "sum by (application, deployment) (ray_serve_deployment_replica_healthy)"),
                ),
                mend=("See RayServeReplicasNotPlaced, RayServeReplicaStartFailing and RayServeReplicaSlowStart.",),
                panel=("servescope-deployment", "Missing replicas by deployment"),
                case=Case(at="30m", fires={TARGET: "3x", HEALTHY: "2x"}, quiet={HEALTHY: "3x"}, labels=WHO),
                drill="no-resources",
            ),
            Alert(
                name="RayServeScaleFlapping",
                severity="warning",
                wait="",
                labels=DEPLOYMENT,
                expr=(
                    "# both ways: a ramp up or down alone is what autoscaling is for\n"
                    f"{t.total('max', f'resets({changes}[30m])', *DEPLOYMENT)} >= 4\n"
                    f"and {t.total('max', f'changes({changes}[30m]) - resets({changes}[30m])', *DEPLOYMENT)} >= 4"
                ),
                summary="The autoscaler adds and removes replicas again and again.",
                description=(
                    "{{ $labels.deployment }} of {{ $labels.application }} was scaled down {{ $value }} times and up "
                    "as often within 30 minutes."
                ),
                meaning=(
                    "The delays are shorter than the load's rhythm, or target_ongoing_requests is so low that one "
                    "replica more or less swings the decision."
                ),
                impact="Requests wait for replicas that were just removed; cold starts.",
                diagnose=(
                    ("Wanted replicas:", "ray_serve_autoscaling_target_replicas"),
                    (
                        "The decisions themselves, counted from the controller's log, where a log agent runs "
                        "(docs/logs.md):",
                        t.events("servescope_log_events_total", "30m", *DEPLOYMENT, "event", event='=~".+scale"'),
                    ),
                ),
                mend=("Raise downscale_delay_s, or min_replicas to the level between the swings.",),
                panel=("servescope-deployment", "Demand against replicas"),
                case=Case(
                    at="30m",
                    fires={TARGET: " ".join(["1x7 3x7"] * 20), HEALTHY: "9x"},
                    quiet={TARGET: "1x7 3x7 1x7 3x7 1x7 3x7 1x7 3 4 5 6 7 8 9x"},
                    labels=WHO,
                ),
                drill="flapping-load",
            ),
            Alert(
                name="RayServeRequestsHung",
                severity="critical",
                wait="1m",
                labels=DEPLOYMENT,
                expr=(
                    "# event-driven gauges vanish while requests hang: this one is reported again all the time\n"
                    f"{t.total('sum', t.over('min', 'ray_serve_replica_processing_queries', hung), *DEPLOYMENT)} >= 1\n"
                    "# a replica younger than the window cannot have hung that long\n"
                    f"and {t.total('sum', t.ago('ray_serve_replica_processing_queries', hung), *DEPLOYMENT)} >= 1\n"
                    "# of replicas that cannot be scraped nothing is known\n"
                    f"and {t.total('sum', t.now('ray_serve_replica_processing_queries'), *DEPLOYMENT)} >= 1\n"
                    f"unless {finished} > 0"
                ),
                summary="Requests are in progress and none finishes.",
                description=(
                    "{{ $labels.deployment }} of {{ $labels.application }} has worked on {{ $value }} requests for "
                    f"{settings.hung_minutes} minutes and finished none."
                ),
                meaning="A deadlock, a dependency that does not answer and has no timeout, or a blocked event loop.",
                impact="Their requests hang until their own timeout.",
                diagnose=(
                    ("In progress:", "ray_serve_replica_processing_queries"),
                    ("Is the event loop blocked?", "ray_serve_event_loop_tasks"),
                    ("Where does it hang? `ray stack` on the node prints every worker's stack.", ""),
                ),
                mend=("Kill the replica; set request_timeout_s and timeouts on every call that leaves the process.",),
                panel=("servescope-deployment", "Requests out and in progress"),
                case=Case(
                    at="20m",
                    fires={
                        RUNNING: "2x",
                        FINISHED: "7x",
                    },
                    quiet={FINISHED: "7x60 8x"},
                    labels=WHO,
                ),
                drill="hung-requests",
            ),
        ),
    )
