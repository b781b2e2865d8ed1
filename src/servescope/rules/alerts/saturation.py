"""Too much to do: queues, full replicas, and a scale that does not follow."""

from __future__ import annotations

from servescope.promql import DEPLOYMENT
from servescope.rules import series
from servescope.rules.alert import Alert, Case, Group
from servescope.rules.expressions import Expressions
from servescope.rules.remarks import NEEDS_EXPORTER_FOR_LIMITS
from servescope.settings import Settings


def build(settings: Settings) -> Group:
    """The alerts of this group, in the order of the rule file."""
    exprs = Expressions(settings)
    return Group(
        name="saturation",
        title="Too much to do",
        alerts=(
            queue_growing(exprs),
            queue_near_limit(exprs),
            replicas_saturated(exprs),
            router_wait_high(exprs),
            capped_by_max_replicas(exprs),
            replicas_not_placed(exprs),
            replicas_missing(exprs),
            scale_flapping(exprs),
            requests_hung(exprs),
        ),
    )


def scale_unchanged(exprs: Expressions) -> str:
    """Deployments whose wanted replicas have not changed for ten minutes."""
    highest = exprs.total("max", exprs.over("max", "ray_serve_autoscaling_target_replicas", "10m"), *DEPLOYMENT)
    lowest = exprs.total("min", exprs.over("min", "ray_serve_autoscaling_target_replicas", "10m"), *DEPLOYMENT)
    return f"{highest} == {lowest}"


def queue_growing(exprs: Expressions) -> Alert:
    queue = exprs.total("sum", exprs.over("avg", "ray_serve_deployment_queued_queries", "5m"), *DEPLOYMENT)
    queue_before = exprs.total(
        "sum", f"avg_over_time({exprs.scope.select('ray_serve_deployment_queued_queries')}[5m] offset 5m)", *DEPLOYMENT
    )
    return Alert(
        name="RayServeQueueGrowing",
        severity="warning",
        for_="5m",
        labels=DEPLOYMENT,
        expr=(
            f"{queue} > 1.2 * {queue_before}\n"
            "# a queue that empties now and then is doing its work\n"
            "and "
            f"{exprs.total('max', exprs.over('min', 'ray_serve_deployment_queued_queries', '5m'), *DEPLOYMENT)} >= 1\n"
            "# while replicas are being added, growth is being dealt with\n"
            f"and {scale_unchanged(exprs)}"
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
        diagnosis=(
            ("Waiting:", "sum by (application, deployment) (ray_serve_deployment_queued_queries)"),
            ("Wanted replicas:", "ray_serve_autoscaling_target_replicas"),
        ),
        mitigation=(
            "Raise num_replicas or max_replicas; lower target_ongoing_requests if replicas are busy below it.",
        ),
        panel=("servescope-deployment", "Queued requests"),
        case=Case(
            at="20m",
            fires={series.QUEUED_REQUESTS: "1+1x", series.TARGET_REPLICAS: "2x", series.HEALTHY_REPLICA: "2x"},
            quiet={series.QUEUED_REQUESTS: "40x"},
            labels=series.THE_DEPLOYMENT,
        ),
        drill="beyond-max-replicas",
    )


def queue_near_limit(exprs: Expressions) -> Alert:
    fullest = exprs.total("max", exprs.over("min", "ray_serve_deployment_queued_queries", exprs.hold), *DEPLOYMENT)
    limit = exprs.total("max", exprs.now("servescope_deployment_max_queued_requests"), *DEPLOYMENT)
    return Alert(
        name="RayServeQueueNearLimit",
        severity="warning",
        for_="1m",
        labels=DEPLOYMENT,
        expr=f"{fullest} / ({limit} > 0) > 0.8",
        summary="A caller's queue is nearly full.",
        description=(
            "The fullest caller of {{ $labels.deployment }} of {{ $labels.application }} uses "
            "{{ $value | humanizePercentage }} of max_queued_requests."
        ),
        meaning="max_queued_requests holds for each caller (each proxy and each handle), not for their sum.",
        impact="None yet; beyond the limit requests are refused.",
        diagnosis=(
            ("The fullest caller:", "max by (application, deployment) (ray_serve_deployment_queued_queries)"),
            ("The limit:", "servescope_deployment_max_queued_requests"),
        ),
        mitigation=("More replicas, or a higher max_queued_requests.",),
        panel=("servescope-deployment", "Longest queue of a single caller"),
        case=Case(
            at="10m",
            fires={series.QUEUED_REQUESTS: "9x", series.MAX_QUEUED_REQUESTS: "10x"},
            quiet={series.QUEUED_REQUESTS: "8x"},
            labels=series.THE_DEPLOYMENT,
        ),
        drill="burst",
        needs=NEEDS_EXPORTER_FOR_LIMITS,
    )


def replicas_saturated(exprs: Expressions) -> Alert:
    running = exprs.total("sum", exprs.over("avg", "ray_serve_replica_processing_queries", "5m"), *DEPLOYMENT)
    max_ongoing = exprs.total("max", exprs.now("servescope_deployment_max_ongoing_requests"), *DEPLOYMENT)
    return Alert(
        name="RayServeReplicasSaturated",
        severity="warning",
        for_="5m",
        labels=DEPLOYMENT,
        expr=f"{running} / ({exprs.healthy_replicas()} * {max_ongoing} > 0) >= 0.95",
        summary="All replicas are as full as they may be.",
        description=(
            "Replicas of {{ $labels.deployment }} of {{ $labels.application }} carry "
            "{{ $value | humanizePercentage }} of max_ongoing_requests."
        ),
        meaning="Each replica works on max_ongoing_requests at once; whatever comes on top waits.",
        impact="They wait for a place.",
        diagnosis=(
            ("In progress on each replica:", "ray_serve_replica_processing_queries"),
            ("The limit:", "servescope_deployment_max_ongoing_requests"),
        ),
        mitigation=("More replicas; a higher max_ongoing_requests only if a replica has resources left.",),
        panel=("servescope-deployment", "Executing requests per replica"),
        case=Case(
            at="15m",
            fires={
                series.requests_in_progress(): "10x",
                series.HEALTHY_REPLICA: "1x",
                series.finished_calls(): "0+10x",
                series.MAX_ONGOING_REQUESTS: "10x",
            },
            quiet={series.requests_in_progress(): "9x"},
            labels=series.THE_DEPLOYMENT,
        ),
        drill="beyond-max-replicas",
        needs=NEEDS_EXPORTER_FOR_LIMITS,
    )


def router_wait_high(exprs: Expressions) -> Alert:
    waited = exprs.slow_share(
        "ray_serve_request_router_fulfillment_time_ms", exprs.settings.router_wait_ms, "5m", *DEPLOYMENT
    )
    routed = exprs.events("ray_serve_request_router_fulfillment_time_ms_count", "5m", *DEPLOYMENT)
    return Alert(
        name="RayServeRouterWaitHigh",
        severity="warning",
        for_="5m",
        labels=DEPLOYMENT,
        expr=f"{waited} > 0.05\nand {routed} >= {10 * exprs.settings.alert_min_events}",
        summary="Requests wait long for a replica.",
        description=(
            "{{ $value | humanizePercentage }} of the requests to {{ $labels.deployment }} of "
            f"{{{{ $labels.application }}}} waited longer than {exprs.settings.router_wait_ms} ms for a replica."
        ),
        meaning="The router found every replica full, or asks them slowly.",
        impact="Their requests take longer than the work does.",
        diagnosis=(
            (
                "The wait:",
                "histogram_quantile(0.95, sum by (deployment, le) "
                "(rate(ray_serve_request_router_fulfillment_time_ms_bucket[5m])))",
            ),
            ("In progress on each replica:", "ray_serve_replica_processing_queries"),
        ),
        mitigation=("More replicas, or a lower target_ongoing_requests so that the autoscaler adds them sooner.",),
        panel=("servescope-deployment", "Router wait"),
        case=Case(
            at="15m",
            fires={
                series.routing_time_bucket(f"{exprs.settings.router_wait_ms}.0"): "0+9x",
                series.ROUTED_REQUESTS: "0+10x",
            },
            quiet={series.routing_time_bucket(f"{exprs.settings.router_wait_ms}.0"): "0+9.6x"},
            labels=series.THE_DEPLOYMENT,
        ),
        drill="beyond-max-replicas",
    )


def capped_by_max_replicas(exprs: Expressions) -> Alert:
    # A controller that was replaced leaves its own series in the window: the sum would count the demand twice.
    demand = exprs.total("max", exprs.over("avg", "ray_serve_autoscaling_total_requests", "5m"), *DEPLOYMENT)
    wanted_each = (
        f"({exprs.total('max', exprs.now('ray_serve_autoscaling_target_ongoing_requests'), *DEPLOYMENT)} or "
        f"{exprs.total('max', exprs.now('servescope_deployment_target_ongoing_requests'), *DEPLOYMENT)})"
    )
    return Alert(
        name="RayServeCappedByMaxReplicas",
        severity="warning",
        for_="5m",
        labels=DEPLOYMENT,
        expr=(
            "# the gauge of desired replicas shows the excess for 0.3 % of the time: demand is computed\n"
            f"{demand} / {wanted_each} > 1.1 * {exprs.target_replicas()}\n"
            "# the autoscaler had ten minutes and did not move\n"
            f"and {scale_unchanged(exprs)}\n"
            "# replicas that are wanted and missing have an alert of their own\n"
            f"and {exprs.healthy_replicas()} >= {exprs.target_replicas()}"
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
        diagnosis=(
            (
                "Demand in replicas:",
                "ray_serve_autoscaling_total_requests / ray_serve_autoscaling_target_ongoing_requests",
            ),
            ("Wanted:", "ray_serve_autoscaling_target_replicas"),
        ),
        mitigation=("Raise max_replicas, with nodes to carry them.",),
        panel=("servescope-deployment", "Required and target replicas"),
        case=Case(
            at="20m",
            fires={
                series.TOTAL_REQUESTS: "12x",
                series.TARGET_ONGOING_REQUESTS: "2x",
                series.TARGET_REPLICAS: "4x",
                series.HEALTHY_REPLICA: "4x",
            },
            quiet={series.TOTAL_REQUESTS: "8.6x"},
            labels=series.THE_DEPLOYMENT,
        ),
        drill="beyond-max-replicas",
    )


def replicas_not_placed(exprs: Expressions) -> Alert:
    pending = exprs.now(
        "ray_actors", Source='="gcs"', State='=~"PENDING_CREATION|DEPENDENCIES_UNREADY"', Name='=~"ServeReplica:.+:.+"'
    )
    why_no_place = exprs.total(
        "sum", exprs.now("ray_scheduler_unscheduleable_tasks", Reason='=~"Infeasible|WaitingFor.*Resources"')
    )
    return Alert(
        name="RayServeReplicasNotPlaced",
        severity="warning",
        for_="5m",
        labels=DEPLOYMENT,
        expr=(
            f"{exprs.actors_by_deployment(pending)} > 0\n"
            "# starting takes a while too: the scheduler must say that it has no place\n"
            f"and on ({exprs.settings.cluster_label}) {why_no_place} > 0"
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
        diagnosis=(
            ("Why no place?", "sum by (Reason) (ray_scheduler_unscheduleable_tasks)"),
            ("What is free?", 'sum by (Name) (ray_resources{State="AVAILABLE"})'),
        ),
        mitigation=("Add nodes, ask for less in ray_actor_options, or lower the replicas of another deployment.",),
        panel=("servescope-cluster", "Unschedulable tasks by reason"),
        case=Case(
            at="15m",
            fires={
                series.replica_actors("PENDING_CREATION"): "1x",
                series.series("ray_scheduler_unscheduleable_tasks", Reason="WaitingForResources"): "1x",
            },
            quiet={series.series("ray_scheduler_unscheduleable_tasks", Reason="WaitingForResources"): "0x"},
            labels=series.THE_DEPLOYMENT,
        ),
        drill="no-resources",
    )


def replicas_missing(exprs: Expressions) -> Alert:
    return Alert(
        name="RayServeReplicasMissing",
        severity="warning",
        for_="15m",
        labels=DEPLOYMENT,
        expr=f"{exprs.target_replicas()} - ({exprs.healthy_replicas()} or 0 * {exprs.target_replicas()}) > 0",
        summary="A deployment has fewer replicas than it should.",
        description=(
            "{{ $labels.deployment }} of {{ $labels.application }} has lacked {{ $value }} replicas for 15 minutes."
        ),
        meaning="Replicas cannot be placed, do not start, or fail their health check.",
        impact="Less capacity than planned.",
        diagnosis=(
            ("Wanted:", "ray_serve_autoscaling_target_replicas"),
            ("Healthy:", "sum by (application, deployment) (ray_serve_deployment_replica_healthy)"),
        ),
        mitigation=("See RayServeReplicasNotPlaced, RayServeReplicaStartFailing and RayServeReplicaSlowStart.",),
        panel=("servescope-deployment", "Missing replicas by deployment"),
        case=Case(
            at="30m",
            fires={series.TARGET_REPLICAS: "3x", series.HEALTHY_REPLICA: "2x"},
            quiet={series.HEALTHY_REPLICA: "3x"},
            labels=series.THE_DEPLOYMENT,
        ),
        drill="no-resources",
    )


def scale_flapping(exprs: Expressions) -> Alert:
    target = exprs.scope.select("ray_serve_autoscaling_target_replicas")
    return Alert(
        name="RayServeScaleFlapping",
        severity="warning",
        for_="",
        labels=DEPLOYMENT,
        expr=(
            "# both ways: a ramp up or down alone is what autoscaling is for\n"
            f"{exprs.total('max', f'resets({target}[30m])', *DEPLOYMENT)} >= 4\n"
            f"and {exprs.total('max', f'changes({target}[30m]) - resets({target}[30m])', *DEPLOYMENT)} >= 4"
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
        diagnosis=(
            ("Wanted replicas:", "ray_serve_autoscaling_target_replicas"),
            (
                "The decisions themselves, counted from the controller's log, where a log agent runs (docs/logs.md):",
                exprs.events("servescope_log_events_total", "30m", *DEPLOYMENT, "event", event='=~".+scale"'),
            ),
        ),
        mitigation=("Raise downscale_delay_s, or min_replicas to the level between the swings.",),
        panel=("servescope-deployment", "Required and target replicas"),
        case=Case(
            at="30m",
            fires={series.TARGET_REPLICAS: " ".join(["1x7 3x7"] * 20), series.HEALTHY_REPLICA: "9x"},
            quiet={series.TARGET_REPLICAS: "1x7 3x7 1x7 3x7 1x7 3x7 1x7 3 4 5 6 7 8 9x"},
            labels=series.THE_DEPLOYMENT,
        ),
        drill="flapping-load",
    )


def requests_hung(exprs: Expressions) -> Alert:
    hung = f"{exprs.settings.hung_minutes}m"
    finished = exprs.events("ray_serve_deployment_processing_latency_ms_count", hung, *DEPLOYMENT)
    return Alert(
        name="RayServeRequestsHung",
        severity="critical",
        for_="1m",
        labels=DEPLOYMENT,
        expr=(
            "# event-driven gauges vanish while requests hang: this one is reported again all the time\n"
            f"{exprs.total('sum', exprs.over('min', 'ray_serve_replica_processing_queries', hung), *DEPLOYMENT)} >= 1\n"
            "# a replica younger than the window cannot have hung that long\n"
            f"and {exprs.total('sum', exprs.ago('ray_serve_replica_processing_queries', hung), *DEPLOYMENT)} >= 1\n"
            "# of replicas that cannot be scraped nothing is known\n"
            f"and {exprs.total('sum', exprs.now('ray_serve_replica_processing_queries'), *DEPLOYMENT)} >= 1\n"
            f"unless {finished} > 0"
        ),
        summary="Requests are in progress and none finishes.",
        description=(
            "{{ $labels.deployment }} of {{ $labels.application }} has worked on {{ $value }} requests for "
            f"{exprs.settings.hung_minutes} minutes and finished none."
        ),
        meaning="A deadlock, a dependency that does not answer and has no timeout, or a blocked event loop.",
        impact="Their requests hang until their own timeout.",
        diagnosis=(
            ("In progress:", "ray_serve_replica_processing_queries"),
            ("Is the event loop blocked?", "ray_serve_event_loop_tasks"),
            ("Where does it hang? `ray stack` on the node prints every worker's stack.", ""),
        ),
        mitigation=("Kill the replica; set request_timeout_s and timeouts on every call that leaves the process.",),
        panel=("servescope-deployment", "Requests in flight (sent / executing)"),
        case=Case(
            at="20m",
            fires={series.requests_in_progress(): "2x", series.finished_calls(): "7x"},
            quiet={series.finished_calls(): "7x60 8x"},
            labels=series.THE_DEPLOYMENT,
        ),
        drill="hung-requests",
    )
