"""Saturation: queues, saturated replicas, and autoscaling that does not follow the load."""

from __future__ import annotations

from servescope.catalog import replica_names
from servescope.promql import DEPLOYMENT, figures
from servescope.promql.figures import MINUTE
from servescope.rules import series
from servescope.rules.alert import Alert, Case, Group
from servescope.rules.expressions import Expressions
from servescope.rules.remarks import NEEDS_EXPORTER_FOR_LIMITS


def build(exprs: Expressions) -> Group:
    """The alerts of this group, in the order of the rule file."""
    return Group(
        name="saturation",
        title="Saturation and autoscaling",
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
    """Deployments whose target replicas have not changed for ten minutes."""
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
        owner="application",
        for_="5m",
        every_s=MINUTE,
        labels=DEPLOYMENT,
        expr=(
            f"{queue} > 1.2 * {queue_before}\n"
            "# a queue that drains from time to time is normal\n"
            "and "
            f"{exprs.total('max', exprs.over('min', 'ray_serve_deployment_queued_queries', '5m'), *DEPLOYMENT)} >= 1\n"
            "# ignore growth while the autoscaler is adding replicas\n"
            f"and {scale_unchanged(exprs)}"
        ),
        summary="The queue is growing and no replicas are added.",
        description=(
            "The queue of {{ $labels.application }}/{{ $labels.deployment }} averages {{ $value | "
            "humanize }} requests and has grown over the last 5 minutes; the target replicas have not "
            "changed for 10 minutes."
        ),
        meaning=(
            "Demand exceeds the capacity of the replicas: the replica count is fixed, at max_replicas, "
            "or the autoscaler does not see the queue."
        ),
        impact="Latency grows until the queues are full and requests are rejected.",
        diagnosis=(
            ("Queued requests:", "sum by (application, deployment) (ray_serve_deployment_queued_queries)"),
            ("Target replicas:", "ray_serve_autoscaling_target_replicas"),
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
        owner="application",
        for_="1m",
        labels=DEPLOYMENT,
        expr=f"{fullest} / ({limit} > 0) > 0.8",
        summary="A queue is close to max_queued_requests.",
        description=(
            "The longest queue for {{ $labels.application }}/{{ $labels.deployment }} is at {{ $value | "
            "humanizePercentage }} of max_queued_requests."
        ),
        meaning="max_queued_requests applies to each proxy and each handle separately, not to their sum.",
        impact="None yet; requests beyond the limit are rejected.",
        diagnosis=(
            (
                "The longest queue of a single proxy or handle:",
                "max by (application, deployment) (ray_serve_deployment_queued_queries)",
            ),
            ("The limit:", "servescope_deployment_max_queued_requests"),
        ),
        mitigation=("Add replicas, or raise max_queued_requests.",),
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
        owner="application",
        for_="5m",
        every_s=MINUTE,
        labels=DEPLOYMENT,
        expr=f"{running} / ({exprs.healthy_replicas()} * {max_ongoing} > 0) >= 0.95",
        summary="All replicas are at max_ongoing_requests.",
        description=(
            "The replicas of {{ $labels.application }}/{{ $labels.deployment }} are at {{ $value | "
            "humanizePercentage }} of max_ongoing_requests."
        ),
        meaning="Each replica handles at most max_ongoing_requests at once; further requests queue.",
        impact="Requests queue and latency rises.",
        diagnosis=(
            ("Requests in flight on each replica:", "ray_serve_replica_processing_queries"),
            ("The limit:", "servescope_deployment_max_ongoing_requests"),
        ),
        mitigation=("Add replicas; raise max_ongoing_requests only if the replicas have resources to spare.",),
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
    waited = exprs.share_beyond(
        figures.ROUTED_FAST, figures.ROUTED, *DEPLOYMENT, least=10 * exprs.settings.alert_min_events
    )
    return Alert(
        name="RayServeRouterWaitHigh",
        severity="warning",
        owner="application",
        for_="5m",
        every_s=MINUTE,
        labels=DEPLOYMENT,
        expr=f"{waited} > 0.05",
        summary="Requests wait too long for a replica.",
        description=(
            f"{{{{ $value | humanizePercentage }}}} of requests to {{{{ $labels.application }}}}/{{{{ "
            f"$labels.deployment }}}} waited longer than {exprs.settings.router_wait_ms} ms for a replica."
        ),
        meaning="The router finds every replica at its limit, or its queries to the replicas are slow.",
        impact="Latency exceeds the processing time.",
        diagnosis=(
            (
                "Router wait p95:",
                "histogram_quantile(0.95, sum by (deployment, le) "
                "(rate(ray_serve_request_router_fulfillment_time_ms_bucket[5m])))",
            ),
            ("Requests in flight on each replica:", "ray_serve_replica_processing_queries"),
        ),
        mitigation=("Add replicas, or lower target_ongoing_requests so that the autoscaler scales up earlier.",),
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
    target_each = (
        f"({exprs.total('max', exprs.now('ray_serve_autoscaling_target_ongoing_requests'), *DEPLOYMENT)} or "
        f"{exprs.total('max', exprs.now('servescope_deployment_target_ongoing_requests'), *DEPLOYMENT)})"
    )
    return Alert(
        name="RayServeCappedByMaxReplicas",
        severity="warning",
        owner="application",
        for_="5m",
        every_s=MINUTE,
        labels=DEPLOYMENT,
        expr=(
            "# the gauge of desired replicas shows the excess for 0.3 % of the time: compute the required replicas\n"
            f"{demand} / {target_each} > 1.1 * {exprs.target_replicas()}\n"
            "# the autoscaler has not changed the target for ten minutes\n"
            f"and {scale_unchanged(exprs)}\n"
            "# missing replicas have their own alert\n"
            f"and {exprs.healthy_replicas()} >= {exprs.target_replicas()}"
        ),
        summary="Required replicas exceed max_replicas.",
        description=(
            "The load on {{ $labels.application }}/{{ $labels.deployment }} requires {{ $value | "
            "humanize }} replicas, and the autoscaler does not scale up."
        ),
        meaning=(
            "The deployment is at max_replicas, or a custom autoscaling policy departs from the default "
            "formula (requests divided by target_ongoing_requests)."
        ),
        impact="Queues grow, then requests are rejected.",
        diagnosis=(
            (
                "Required replicas:",
                "ray_serve_autoscaling_total_requests / ray_serve_autoscaling_target_ongoing_requests",
            ),
            ("Target replicas:", "ray_serve_autoscaling_target_replicas"),
        ),
        mitigation=("Raise max_replicas, and provide nodes for the additional replicas.",),
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
        "ray_actors",
        Source='="gcs"',
        State='=~"PENDING_CREATION|DEPENDENCIES_UNREADY"',
        Name=f'=~"{replica_names.ACTOR}"',
    )
    unschedulable = exprs.total(
        "sum", exprs.now("ray_scheduler_unscheduleable_tasks", Reason='=~"Infeasible|WaitingFor.*Resources"')
    )
    return Alert(
        name="RayServeReplicasNotPlaced",
        severity="warning",
        owner="platform",
        for_="5m",
        labels=DEPLOYMENT,
        expr=(
            f"{exprs.actors_by_deployment(pending)} > 0\n"
            "# starting replicas are pending too: require unschedulable tasks\n"
            f"and on ({exprs.key}) {unschedulable} > 0{exprs.unless_starting()}"
        ),
        summary="Replicas are unschedulable.",
        description=(
            "{{ $value }} replicas of {{ $labels.application }}/{{ $labels.deployment }} are pending for "
            "resources that no node has free."
        ),
        meaning=(
            "The replica requests more CPU, GPU, memory or custom resources than any node has free, or "
            "than any node has at all (Infeasible)."
        ),
        impact="The deployment runs with fewer replicas than its target, or with none.",
        diagnosis=(
            ("Why are they unschedulable?", "sum by (Reason) (ray_scheduler_unscheduleable_tasks)"),
            ("Which resources are free?", 'sum by (Name) (ray_resources{State="AVAILABLE"})'),
        ),
        mitigation=("Add nodes, request less in ray_actor_options, or scale down another deployment.",),
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
        judged="start",
        drill="no-resources",
    )


def replicas_missing(exprs: Expressions) -> Alert:
    return Alert(
        name="RayServeReplicasMissing",
        severity="warning",
        owner="application",
        for_="15m",
        every_s=MINUTE,
        labels=DEPLOYMENT,
        expr=(
            f"{exprs.target_replicas()} - ({exprs.healthy_replicas()} or 0 * {exprs.target_replicas()}) > 0"
            f"{exprs.unless_starting()}"
        ),
        summary="The deployment has fewer healthy replicas than its target.",
        description=(
            "{{ $labels.application }}/{{ $labels.deployment }} has been {{ $value }} replicas below its "
            "target for 15 minutes."
        ),
        meaning="Replicas are unschedulable, fail to start, or fail their health check.",
        impact="Less capacity than planned.",
        diagnosis=(
            ("Target replicas:", "ray_serve_autoscaling_target_replicas"),
            ("Healthy replicas:", "sum by (application, deployment) (ray_serve_deployment_replica_healthy)"),
        ),
        mitigation=(
            "See which applies: RayServeReplicasNotPlaced, RayServeReplicaStartFailing or RayServeReplicaSlowStart.",
        ),
        panel=("servescope-deployment", "Missing replicas by deployment"),
        case=Case(
            at="30m",
            fires={series.TARGET_REPLICAS: "3x", series.HEALTHY_REPLICA: "2x"},
            quiet={series.HEALTHY_REPLICA: "3x"},
            labels=series.THE_DEPLOYMENT,
        ),
        judged="start",
        drill="no-resources",
    )


def scale_flapping(exprs: Expressions) -> Alert:
    target = exprs.scope.select("ray_serve_autoscaling_target_replicas")
    return Alert(
        name="RayServeScaleFlapping",
        severity="warning",
        owner="application",
        for_="",
        every_s=MINUTE,
        labels=DEPLOYMENT,
        expr=(
            "# both directions: a ramp up or down alone is normal autoscaling\n"
            f"{exprs.total('max', f'resets({target}[30m])', *DEPLOYMENT)} >= 4\n"
            f"and {exprs.total('max', f'changes({target}[30m]) - resets({target}[30m])', *DEPLOYMENT)} >= 4"
        ),
        summary="The autoscaler is flapping.",
        description=(
            "{{ $labels.application }}/{{ $labels.deployment }} was scaled down {{ $value }} times, and "
            "up as often, in the last 30 minutes."
        ),
        meaning=(
            "The autoscaling delays are shorter than the period of the load, or target_ongoing_requests "
            "is so low that a single replica more or less reverses the decision."
        ),
        impact="Requests wait for replicas that were just removed; frequent cold starts.",
        diagnosis=(
            ("Target replicas:", "ray_serve_autoscaling_target_replicas"),
            (
                "Autoscaling decisions, counted from the controller's log, where a log agent runs (docs/logs.md):",
                exprs.events("servescope_log_events_total", "30m", *DEPLOYMENT, "event", event='=~".+scale"'),
            ),
        ),
        mitigation=("Raise downscale_delay_s, or raise min_replicas to the level between the swings.",),
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
    finished = exprs.read(figures.FINISHED_WHILE_HUNG, *DEPLOYMENT)
    return Alert(
        name="RayServeRequestsHung",
        severity="critical",
        owner="application",
        for_="1m15s",  # longer than a count of what finished holds, which is 0 in the first minute of a session
        labels=DEPLOYMENT,
        expr=(
            "# event-driven gauges go stale while requests hang; this one is reported periodically\n"
            f"{exprs.total('sum', exprs.over('min', 'ray_serve_replica_processing_queries', hung), *DEPLOYMENT)} >= 1\n"
            "# a replica younger than the window cannot have been hung that long\n"
            f"and {exprs.total('sum', exprs.ago('ray_serve_replica_processing_queries', hung), *DEPLOYMENT)} >= 1\n"
            "# ignore replicas that cannot be scraped\n"
            f"and {exprs.total('sum', exprs.now('ray_serve_replica_processing_queries'), *DEPLOYMENT)} >= 1\n"
            f"and {finished} == 0\n"
            "# a WebSocket session may be open for hours, and for the replica it is a call\n"
            f"unless {exprs.ingress_of_sessions()}"
        ),
        summary="Requests are in flight and none complete.",
        description=(
            f"{{{{ $labels.application }}}}/{{{{ $labels.deployment }}}} has had {{{{ $value }}}} "
            f"requests in flight for {exprs.settings.hung_minutes} minutes and completed none."
        ),
        meaning=(
            "A deadlock, a call without a timeout to a dependency that does not respond, or a blocked event loop. The "
            "ingress deployment of an application whose WebSocket sessions have been counted is left out."
        ),
        impact="Requests hang until their clients time out.",
        diagnosis=(
            ("Requests in flight:", "ray_serve_replica_processing_queries"),
            ("Is the event loop blocked?", "ray_serve_event_loop_tasks"),
            ("Where do they hang? `ray stack` on the node prints the stack of every worker.", ""),
        ),
        mitigation=("Kill the replica; set request_timeout_s, and timeouts on every call to another service.",),
        panel=("servescope-deployment", "Requests in flight (sent / executing)"),
        case=Case(
            at="20m",
            fires={series.requests_in_progress(): "2x", series.finished_calls(): "7x"},
            quiet={series.finished_calls(): "7x60 8x"},
            labels=series.THE_DEPLOYMENT,
        ),
        drill="hung-requests",
    )
