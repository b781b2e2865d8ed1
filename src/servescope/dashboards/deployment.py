"""servescope-deployment: what is this deployment doing?"""

from __future__ import annotations

from dataclasses import replace

from servescope import promql
from servescope.dashboards import common
from servescope.dashboards.common import DEPLOYMENT_LEGEND
from servescope.dashboards.rows import logs, traces
from servescope.grafana import layout, panels, variables
from servescope.grafana.layout import Dashboard
from servescope.grafana.model import PALETTE, Column, Panel, Threshold
from servescope.promql import DEPLOYMENT, REPLICA, capacity, rollouts
from servescope.promql.signals import (
    DEPLOYMENT_REQUESTS,
    PROCESSING_LATENCY,
    QUEUED,
    REPLICA_CPU,
    REPLICA_MEMORY,
    REPLICAS,
    ROUTER_WAIT,
    RUNNING,
    SUBMITTED,
    TARGET_REPLICAS,
    Reader,
)
from servescope.settings import Settings

WINDOW = "$__rate_interval"
REPLICA_LEGEND = "{{deployment}} {{replica}}"


def build(settings: Settings, *, recorded: bool = False) -> Dashboard:
    """The dashboard, plain or reading recorded series."""
    r = common.reader(settings, recorded, "application", "deployment")
    return layout.dashboard(
        uid="servescope-deployment",
        title="Ray Serve / Deployment",
        description="What is this deployment doing?",
        rows=[
            panels.row("Now", _now(r)),
            panels.row("Calls", _calls(r)),
            panels.row("Latency", _latency(r)),
            panels.row("Queue and routing", _queue(r)),
            panels.row("Replicas and autoscaling", _replicas(r)),
            panels.row("Lifecycle", _lifecycle(r)),
            panels.row("What changed", _changes(r)),
            panels.row("Resources", _resources(r)),
            panels.row("Batching", _batching(r)),
            panels.row("Multiplexing", _multiplexing(r)),
            panels.row("Each replica", _each_replica(r)),
            panels.row("GPUs", _gpus(r), collapsed=True),
            *logs.deployment_rows(),
            traces.row(r, WINDOW),
        ],
        variables=[
            *common.standard_variables(settings, "application", "deployment", "route", "replica"),
            variables.logs_variable(),
            variables.traces_variable(),
            variables.text_variable("request_id", "Request id"),
        ],
        annotations=common.rollout_marks(settings),
        settings=settings,
    )


def _failed_ratio(r: Reader, by: promql.Labels = ()) -> str:
    return promql.ratio(r.read(DEPLOYMENT_REQUESTS, by, outcome='="error"'), r.read(DEPLOYMENT_REQUESTS, by))


def _histogram_quantile(r: Reader, q: float, histogram: str, *, by: promql.Labels) -> str:
    """A quantile of one of Ray's histograms that nobody records."""
    return promql.quantile(q, promql.total(r.scope.rate(f"{histogram}_bucket", WINDOW), (*by, "le")))


def _counted(r: Reader, counter: str, by: promql.Labels = DEPLOYMENT) -> str:
    """Events in each interval of the graph; zero for a living deployment without any."""
    return promql.or_zero(promql.events(r.scope, counter, by, window="$__interval"), r.scope)


def _now(r: Reader) -> list[Panel]:
    missing = promql.total(promql.replica_gap(r.read(TARGET_REPLICAS, DEPLOYMENT), r.read(REPLICAS, DEPLOYMENT)))
    return [
        panels.stat(
            "Calls",
            description="Calls that the replicas finish per second, failed ones counted.",
            unit="reqps",
            queries=[panels.query(r.read(DEPLOYMENT_REQUESTS))],
            thresholds=(Threshold(None, PALETTE.neutral),),
        ),
        panels.stat(
            "Failed share",
            description=(
                "Share of calls that ended in an exception. HTTP errors raised on purpose (HTTPException) and "
                "rejected requests are no exceptions to Serve; see the overview for those."
            ),
            unit="percentunit",
            queries=[panels.query(_failed_ratio(r))],
            thresholds=common.ERROR_RATIO,
        ),
        panels.stat(
            "Processing p95",
            description="95 % of calls took at most this long in the replica, waiting not included.",
            unit="ms",
            queries=[panels.query(r.quantile(0.95, PROCESSING_LATENCY))],
            thresholds=(Threshold(None, PALETTE.neutral),),
        ),
        panels.stat(
            "Waiting",
            description="Requests that wait in proxies and handles for a replica with room.",
            unit="short",
            queries=[panels.query(r.read(QUEUED))],
            thresholds=common.ANY_IS_RISKY,
        ),
        panels.stat(
            "In progress",
            description="Requests that the replicas are working on now.",
            unit="short",
            queries=[panels.query(r.read(RUNNING))],
            thresholds=(Threshold(None, PALETTE.neutral),),
        ),
        panels.stat(
            "Missing replicas",
            description="Replicas wanted and not healthy. Normal is 0 but for the minute after a scale-up.",
            unit="none",
            queries=[panels.query(missing)],
            thresholds=common.ANY_IS_RISKY,
        ),
    ]


def _calls(r: Reader) -> list[Panel]:
    routed = r.scope.narrowed(route='=~"$route"')
    by_route = ("application", "deployment", "route")
    failures = promql.events(
        r.scope, "ray_serve_deployment_error_counter_total", ("deployment", "exception_type"), window="$__interval"
    )
    return [
        panels.timeseries(
            "Calls by outcome",
            description="Calls finished per second: those that returned (blue) and those that raised (red).",
            unit="reqps",
            queries=[
                panels.query(r.read(DEPLOYMENT_REQUESTS, (), outcome='="ok"'), "ok"),
                panels.query(r.read(DEPLOYMENT_REQUESTS, (), outcome='="error"'), "error"),
            ],
            stack=True,
            colors={"ok": PALETTE.neutral, "error": PALETTE.failing},
            links=(logs.TO_LOGS,),
        ),
        panels.timeseries(
            "Calls by deployment",
            description="Calls finished per second for each deployment, failed ones counted.",
            unit="reqps",
            queries=[panels.query(r.read(DEPLOYMENT_REQUESTS, DEPLOYMENT), DEPLOYMENT_LEGEND)],
        ),
        panels.timeseries(
            "Failed share by deployment",
            description="Share of each deployment's calls that ended in an exception. Absent while nobody calls it.",
            unit="percentunit",
            queries=[panels.query(_failed_ratio(r, DEPLOYMENT), DEPLOYMENT_LEGEND)],
            min=0,
            thresholds=common.ERROR_RATIO,
        ),
        panels.timeseries(
            "Failed calls by exception",
            description=(
                "Exceptions in each interval, the first of a kind counted. RayTaskError(X) means that a deployment "
                "further down raised X; CancelledError is a client or a timeout that gave up. Ray before 2.60 does "
                "not name them."
            ),
            unit="short",
            queries=[panels.query(failures, "{{deployment}} {{exception_type}}")],
            bars=True,
        ),
        panels.timeseries(
            "Calls by route",
            description=(
                "Calls finished per second by the route that the client asked for, also in deployments further down."
            ),
            unit="reqps",
            queries=[
                panels.query(
                    promql.total(promql.deployment_requests(routed, WINDOW), by_route),
                    "{{deployment}} {{route}}",
                )
            ],
        ),
        panels.timeseries(
            "Calls asked of handles",
            description=(
                "Calls that other deployments and the proxies made per second, by the deployment called. More calls "
                "asked for than finished means that they pile up or are rejected."
            ),
            unit="reqps",
            queries=[
                panels.query(
                    promql.total(r.scope.rate("ray_serve_num_router_requests_total", WINDOW), DEPLOYMENT),
                    DEPLOYMENT_LEGEND,
                )
            ],
        ),
    ]


def _latency(r: Reader) -> list[Panel]:
    routed = r.scope.narrowed(route='=~"$route"')
    by_route = promql.total(
        routed.rate("ray_serve_deployment_processing_latency_ms_bucket", WINDOW),
        ("deployment", "route", "le"),
    )
    longest = promql.total(r.select("ray_serve_deployment_max_processing_latency_ms"), DEPLOYMENT, "max")
    return [
        panels.timeseries(
            "Processing time",
            description=(
                "Time that replicas spend on a call, failed ones included, waiting not. Exact only to the bucket."
            ),
            unit="ms",
            queries=[panels.query(r.quantile(q, PROCESSING_LATENCY), f"p{100 * q:g}") for q in common.QUANTILES],
            min=0,
        ),
        panels.timeseries(
            "Processing time p95 by deployment",
            description=(
                "95 % of each deployment's calls took at most this long in the replica. A caller's time holds the "
                "time of what it calls: the culprit is the lowest deployment that moved."
            ),
            unit="ms",
            queries=[panels.query(r.quantile(0.95, PROCESSING_LATENCY, DEPLOYMENT), DEPLOYMENT_LEGEND)],
            min=0,
        ),
        panels.heatmap(
            "Processing time distribution",
            description="How many calls per second fell into each bucket.",
            unit="ms",
            target=panels.query(r.read(PROCESSING_LATENCY, ("le",))),
            width=8,
        ),
        panels.timeseries(
            "Processing time p95 by route",
            description="95 % of calls for each route took at most this long, by deployment.",
            unit="ms",
            queries=[panels.query(promql.quantile(0.95, by_route), "{{deployment}} {{route}}")],
            width=12,
            min=0,
        ),
        panels.timeseries(
            "Longest call",
            description="The longest call of the last minute, exact, not from buckets. Ray has it since 2.60.",
            unit="ms",
            queries=[panels.query(longest, DEPLOYMENT_LEGEND)],
            width=12,
            min=0,
        ),
    ]


def _queue(r: Reader) -> list[Panel]:
    routing = promql.lasting(r.scope, "ray_serve_num_scheduling_tasks", WINDOW)
    backing_off = promql.lasting(r.scope, "ray_serve_num_scheduling_tasks_in_backoff", WINDOW)
    return [
        panels.timeseries(
            "Waiting requests",
            description="Requests that wait in proxies and handles, by the deployment that they wait for.",
            unit="short",
            queries=[panels.query(r.read(QUEUED, DEPLOYMENT), DEPLOYMENT_LEGEND)],
            min=0,
        ),
        panels.timeseries(
            "Waiting requests of the fullest caller",
            description=(
                "max_queued_requests (dashed, where there is one) is a limit for each caller (each proxy and each "
                "handle), so this is the one to hold against it: at the limit that caller's requests are turned away."
            ),
            unit="short",
            queries=[
                panels.query(capacity.fullest_caller(r), DEPLOYMENT_LEGEND),
                panels.query(capacity.queue_limit(r), f"{DEPLOYMENT_LEGEND} limit"),
            ],
            min=0,
            dashed=("/limit$/",),
        ),
        panels.timeseries(
            "Wait for a replica",
            description=(
                "Time from the routing of a request until a replica took it. Near 0 is normal; it grows when all "
                "replicas are at max_ongoing_requests."
            ),
            unit="ms",
            queries=[panels.query(r.quantile(q, ROUTER_WAIT), f"p{100 * q:g}") for q in common.QUANTILES],
            min=0,
        ),
        panels.timeseries(
            "Requests out and in progress",
            description=(
                "Handed to replicas by callers (grey) and worked on by replicas (blue). A lasting difference means "
                "that answers are on their way or replicas are stuck."
            ),
            unit="short",
            queries=[panels.query(r.read(RUNNING), "in progress"), panels.query(r.read(SUBMITTED), "handed over")],
            min=0,
            colors={"in progress": PALETTE.neutral, "handed over": PALETTE.muted},
        ),
        panels.timeseries(
            "Routing tasks",
            description=(
                "The most routing tasks that callers had at once in the interval, and how many of them were backing "
                "off because every replica was full. Ray drops these series when nothing changes, also while requests "
                "hang."
            ),
            unit="short",
            queries=[
                panels.query(promql.total(routing, DEPLOYMENT), f"{DEPLOYMENT_LEGEND} routing"),
                panels.query(promql.total(backing_off, DEPLOYMENT), f"{DEPLOYMENT_LEGEND} backing off"),
            ],
            min=0,
        ),
        panels.timeseries(
            "Wait for arguments p95",
            description=(
                "Time that calls spent waiting for the results of other calls passed to them, before they were "
                "routed. Ray has it since 2.60."
            ),
            unit="ms",
            queries=[
                panels.query(
                    _histogram_quantile(r, 0.95, "ray_serve_router_args_resolution_latency_ms", by=DEPLOYMENT),
                    DEPLOYMENT_LEGEND,
                )
            ],
            min=0,
        ),
    ]


def _replicas(r: Reader) -> list[Panel]:
    scales = promql.total(r.select("ray_serve_autoscaling_total_requests"), DEPLOYMENT, "max")
    per_replica = promql.total(r.select("ray_serve_replica_processing_queries"), REPLICA, "max")
    return [
        panels.timeseries(
            "Replicas wanted and healthy",
            description="What the controller wants (dashed) and what passes its health check, by deployment.",
            unit="short",
            queries=[
                panels.query(r.read(REPLICAS, DEPLOYMENT), f"{DEPLOYMENT_LEGEND} healthy"),
                panels.query(r.read(TARGET_REPLICAS, DEPLOYMENT), f"{DEPLOYMENT_LEGEND} wanted"),
            ],
            min=0,
            dashed=("/wanted$/",),
        ),
        panels.timeseries(
            "Missing replicas by deployment",
            description=(
                "Wanted and not healthy. A spike at a scale-up is normal; a plateau means that they cannot be placed "
                "or do not come up."
            ),
            unit="short",
            queries=[
                panels.query(
                    promql.replica_gap(r.read(TARGET_REPLICAS, DEPLOYMENT), r.read(REPLICAS, DEPLOYMENT)),
                    DEPLOYMENT_LEGEND,
                )
            ],
            min=0,
        ),
        panels.timeseries(
            "Demand against replicas",
            description=(
                "The autoscaler's input: requests seen divided by target_ongoing_requests, which is how many replicas "
                "the load asks for, and the healthy replicas (both solid); the target that it decided on, "
                "min_replicas and max_replicas (dashed). Demand above a target that does not move means max_replicas, "
                "a delay, or a custom policy; healthy below the target means that replicas start, or do not come up."
            ),
            unit="short",
            queries=[
                panels.query(capacity.demand(r), f"{DEPLOYMENT_LEGEND} demand"),
                panels.query(f"{r.read(REPLICAS, DEPLOYMENT)} and {scales}", f"{DEPLOYMENT_LEGEND} healthy"),
                panels.query(f"{r.read(TARGET_REPLICAS, DEPLOYMENT)} and {scales}", f"{DEPLOYMENT_LEGEND} target"),
                panels.query(capacity.limit(r, "min_replicas"), f"{DEPLOYMENT_LEGEND} min"),
                panels.query(capacity.limit(r, "max_replicas"), f"{DEPLOYMENT_LEGEND} max"),
            ],
            min=0,
            dashed=("/(target|min|max)$/",),
        ),
        panels.state_timeline(
            "Why not at rest?",
            description=common.WHY,
            queries=[panels.query(capacity.autoscaling_state(r), DEPLOYMENT_LEGEND)],
            states=common.WHY_STATES,
            width=16,
        ),
        panels.timeseries(
            "In flight share",
            description=(
                "Requests in progress against what the healthy replicas take at once (replicas x max_ongoing_requests)."
            ),
            unit="percentunit",
            queries=[panels.query(capacity.in_flight_share(r), DEPLOYMENT_LEGEND)],
            min=0,
            thresholds=common.UTILIZATION,
        ),
        panels.timeseries(
            "Requests in progress per replica",
            description=(
                "The busiest and the average replica. The autoscaler steers the average towards "
                "target_ongoing_requests; max_ongoing_requests is the limit (both dashed). A busiest replica far "
                "above the average means uneven routing."
            ),
            unit="short",
            queries=[
                panels.query(promql.total(per_replica, DEPLOYMENT, "max"), f"{DEPLOYMENT_LEGEND} busiest"),
                panels.query(promql.total(per_replica, DEPLOYMENT, "avg"), f"{DEPLOYMENT_LEGEND} average"),
                panels.query(
                    promql.total(r.select("ray_serve_autoscaling_target_ongoing_requests"), DEPLOYMENT, "max"),
                    f"{DEPLOYMENT_LEGEND} target",
                ),
                panels.query(capacity.limit(r, "max_ongoing_requests"), f"{DEPLOYMENT_LEGEND} limit"),
            ],
            min=0,
            dashed=("/(target|limit)$/",),
        ),
        panels.timeseries(
            "Busy share of replicas",
            description=(
                "Share of the replicas' capacity (max_ongoing_requests) that user code filled over the last ten "
                "minutes. Slow by design and blind to calls that have not finished: good for sizing, not for "
                "alerting. Since 2.60."
            ),
            unit="percent",
            queries=[
                panels.query(
                    promql.total(r.select("ray_serve_replica_utilization_percent"), DEPLOYMENT, "avg"),
                    DEPLOYMENT_LEGEND,
                )
            ],
            min=0,
        ),
        panels.timeseries(
            "Autoscaler's delay",
            description=(
                "How old the figures are when they reach the controller (p95), and how long the policy takes. Seconds "
                "here mean that the controller is too busy to scale in time."
            ),
            unit="ms",
            queries=[
                panels.query(
                    _histogram_quantile(r, 0.95, "ray_serve_autoscaling_handle_metrics_delay_ms", by=DEPLOYMENT),
                    f"{DEPLOYMENT_LEGEND} data p95",
                ),
                panels.query(
                    promql.total(r.select("ray_serve_autoscaling_policy_execution_time_ms"), DEPLOYMENT, "max"),
                    f"{DEPLOYMENT_LEGEND} policy",
                ),
            ],
            min=0,
        ),
    ]


def _lifecycle(r: Reader) -> list[Panel]:
    def startup(histogram: str) -> str:
        """Starts are rare and each makes a new series, so they are counted as events over the whole time range."""
        in_a_step = promql.events(r.scope, f"{histogram}_bucket", (*DEPLOYMENT, "le"), window="$__interval")
        return promql.quantile(0.95, promql.over_range(in_a_step))

    return [
        panels.timeseries(
            "Replica starts",
            description=(
                "Replicas started in each interval. Expected at a deploy or a scale-up; anything else replaced a "
                "dead one."
            ),
            unit="short",
            queries=[panels.query(_counted(r, "ray_serve_replica_startup_latency_ms_count"), DEPLOYMENT_LEGEND)],
            bars=True,
        ),
        panels.timeseries(
            "Health check failures",
            description="Failed health checks in each interval, the first one counted. Normal is 0.",
            unit="short",
            queries=[panels.query(_counted(r, "ray_serve_health_check_failures_total"), DEPLOYMENT_LEGEND)],
            bars=True,
        ),
        panels.timeseries(
            "Events told by the logs",
            description=(
                "Crashed and unhealthy replicas, scaling, and back-pressure by the deployment that dropped the call, "
                "counted by the log agent in each interval: a second witness for what the other panels show."
            ),
            unit="short",
            queries=[
                panels.query(
                    promql.events(r.scope, "servescope_log_events_total", (*DEPLOYMENT, "event"), window="$__interval"),
                    f"{DEPLOYMENT_LEGEND} {{{{event}}}}",
                )
            ],
            bars=True,
            absent="a log agent (docs/logs.md)",
        ),
        panels.timeseries(
            "Health check time p95",
            description=(
                "How long check_health takes. Near health_check_timeout_s replicas are killed although they work."
            ),
            unit="ms",
            queries=[
                panels.query(
                    _histogram_quantile(r, 0.95, "ray_serve_health_check_latency_ms", by=DEPLOYMENT),
                    DEPLOYMENT_LEGEND,
                )
            ],
            min=0,
        ),
        panels.table(
            "Start and stop times (p95)",
            description=(
                "Over the whole time range: from creation to ready, the constructor's part of it, reconfiguring after "
                "a user_config change, and shutting down. Empty cells did not happen in the range. A start slower "
                "than upscale_delay_s means that scaling lags behind the load."
            ),
            queries=[
                panels.query(startup("ray_serve_replica_startup_latency_ms")),
                panels.query(startup("ray_serve_replica_initialization_latency_ms")),
                panels.query(startup("ray_serve_replica_reconfigure_latency_ms")),
                panels.query(startup("ray_serve_replica_shutdown_duration_ms")),
            ],
            columns=[
                common.APPLICATION_COLUMN,
                common.DEPLOYMENT_COLUMN,
                Column("Value #A", "Start", unit="ms"),
                Column("Value #B", "Constructor", unit="ms"),
                Column("Value #C", "Reconfigure", unit="ms"),
                Column("Value #D", "Shutdown", unit="ms"),
            ],
            sort_by="Start",
            width=16,
        ),
        panels.state_timeline(
            "Status",
            description=(
                "What the controller says of the deployment. Green is HEALTHY, blue a change under way, red a failure."
            ),
            queries=[
                panels.query(
                    promql.total(r.select("ray_serve_deployment_status"), DEPLOYMENT, "min"),
                    DEPLOYMENT_LEGEND,
                )
            ],
            states=common.DEPLOYMENT_STATES,
            width=24,
        ),
    ]


def _changes(r: Reader) -> list[Panel]:
    window = replace(r, window="10m")
    failed, p95 = _failed_ratio(window, DEPLOYMENT), window.quantile(0.95, PROCESSING_LATENCY, DEPLOYMENT)
    before, after = rollouts.before_last_change, rollouts.after_last_change
    return [
        panels.table(
            "What changed last",
            description=(
                "Deployments whose configuration or code changed in the time range, when it last did, and ten minutes "
                "before against ten minutes after. After is empty until the ten minutes are over. A rollout that takes "
                "longer leaves old replicas in the second figure."
            ),
            queries=[
                panels.query(f"1000 * {rollouts.last_change(r.scope)}"),
                panels.query(before(r.scope, failed)),
                panels.query(after(r.scope, failed, "10m")),
                panels.query(before(r.scope, p95)),
                panels.query(after(r.scope, p95, "10m")),
            ],
            columns=[
                common.APPLICATION_COLUMN,
                common.DEPLOYMENT_COLUMN,
                Column("Value #A", "Changed", unit="dateTimeFromNow"),
                Column("Value #B", "Failed before", unit="percentunit"),
                Column("Value #C", "Failed after", unit="percentunit", thresholds=common.ERROR_RATIO),
                Column("Value #D", "p95 before", unit="ms"),
                Column("Value #E", "p95 after", unit="ms"),
            ],
            sort_by="Changed",
            width=24,
            absent="a deploy in the time range",
        ),
    ]


def _resources(r: Reader) -> list[Panel]:
    lag = promql.total(
        r.scope.rate("ray_serve_event_loop_scheduling_latency_ms_bucket", WINDOW),
        (*DEPLOYMENT, "loop_type", "le"),
    )
    return [
        panels.timeseries(
            "CPU",
            description="CPU cores that the replica processes use, all replicas of the deployment together.",
            unit="short",
            queries=[panels.query(r.read(REPLICA_CPU, DEPLOYMENT), DEPLOYMENT_LEGEND)],
            min=0,
        ),
        panels.timeseries(
            "Memory",
            description=(
                "Resident memory of the replica processes, all replicas together; shared pages count once for each."
            ),
            unit="bytes",
            queries=[panels.query(r.read(REPLICA_MEMORY, DEPLOYMENT), DEPLOYMENT_LEGEND)],
            min=0,
        ),
        panels.timeseries(
            "Event loop lag p99",
            description=(
                "How late the event loop of the replica gets its turn; user_code is the one that runs your async "
                "methods. Tens of milliseconds mean that something blocks it: move that work to a thread or a sync "
                "method."
            ),
            unit="ms",
            queries=[panels.query(promql.quantile(0.99, lag), f"{DEPLOYMENT_LEGEND} {{{{loop_type}}}}")],
            min=0,
        ),
    ]


def _replica_gpu(r: Reader, gauge: str) -> str:
    return promql.total(promql.replica_processes(r.scope, gauge), DEPLOYMENT)


def _gpus(r: Reader) -> list[Panel]:
    return [
        panels.timeseries(
            "GPU use",
            description="GPU time used by the replica processes, all replicas together; 100 % is one full GPU.",
            unit="percent",
            queries=[panels.query(_replica_gpu(r, "ray_component_gpu_percentage"), DEPLOYMENT_LEGEND)],
            width=12,
            min=0,
            absent="a GPU in use by a replica",
        ),
        panels.timeseries(
            "GPU memory",
            description="GPU memory held by the replica processes, all replicas together.",
            unit="decmbytes",
            queries=[panels.query(_replica_gpu(r, "ray_component_gpu_memory_mb"), DEPLOYMENT_LEGEND)],
            width=12,
            min=0,
            absent="a GPU in use by a replica",
        ),
    ]


def _batching(r: Reader) -> list[Panel]:
    by = (*DEPLOYMENT, "function_name")
    legend = "{{deployment}}.{{function_name}}"
    queue = promql.lasting(r.scope, "ray_serve_batch_queue_length", WINDOW)
    batches = promql.total(r.scope.rate("ray_serve_batches_processed_total", WINDOW), by)

    def p(q: float, histogram: str) -> str:
        return _histogram_quantile(r, q, histogram, by=by)

    return [
        panels.timeseries(
            "Batch size",
            description=(
                "Requests in a batch, median and p95, from buckets that double in width. Ones throughout mean that the "
                "batch wait is too short for the load, or that nothing calls concurrently."
            ),
            unit="short",
            queries=[
                panels.query(p(0.5, "ray_serve_actual_batch_size"), f"{legend} p50"),
                panels.query(p(0.95, "ray_serve_actual_batch_size"), f"{legend} p95"),
            ],
            min=0,
        ),
        panels.timeseries(
            "Batch fill",
            description=(
                "How full batches are against max_batch_size (median). Always full means that a larger batch may pay."
            ),
            unit="percent",
            queries=[panels.query(p(0.5, "ray_serve_batch_utilization_percent"), legend)],
            min=0,
            max=100,
        ),
        panels.timeseries(
            "Batches",
            description="Batches executed per second.",
            unit="ops",
            queries=[panels.query(batches, legend)],
            min=0,
        ),
        panels.timeseries(
            "Batch wait and execution p95",
            description=(
                "How long requests wait for their batch to fill, and how long it then takes. Waiting much longer than "
                "executing means that batch_wait_timeout_s is too generous."
            ),
            unit="ms",
            queries=[
                panels.query(p(0.95, "ray_serve_batch_wait_time_ms"), f"{legend} wait"),
                panels.query(p(0.95, "ray_serve_batch_execution_time_ms"), f"{legend} execution"),
            ],
            width=12,
            min=0,
        ),
        panels.timeseries(
            "Batch queue",
            description=(
                "The most requests that waited for a batch in the interval, all replicas together. Ray drops this "
                "series while nothing changes."
            ),
            unit="short",
            queries=[panels.query(promql.total(queue, by), legend)],
            width=12,
            min=0,
        ),
    ]


def _multiplexing(r: Reader) -> list[Panel]:
    asked = promql.total(r.scope.rate("ray_serve_multiplexed_get_model_requests_counter_total", WINDOW), DEPLOYMENT)
    loaded = promql.total(r.scope.rate("ray_serve_multiplexed_models_load_counter_total", WINDOW), DEPLOYMENT)
    models = promql.total(
        f"{r.select('ray_serve_registered_multiplexed_model_id')} == 1", ("deployment", "model_id"), "count"
    )
    return [
        panels.timeseries(
            "Model cache hits",
            description=(
                "Share of calls whose model was already on the replica. Low means that models are loaded over and "
                "over: raise max_num_models_per_replica or add replicas."
            ),
            unit="percentunit",
            queries=[panels.query(f"1 - {promql.ratio(loaded, asked)}", DEPLOYMENT_LEGEND)],
            min=0,
            max=1,
        ),
        panels.timeseries(
            "Models loaded per replica",
            description="Models that each replica holds.",
            unit="short",
            queries=[
                panels.query(promql.total(r.select("ray_serve_num_multiplexed_models"), REPLICA, "max"), REPLICA_LEGEND)
            ],
            min=0,
        ),
        panels.timeseries(
            "Model load and unload time p95",
            description="How long it takes to bring a model onto a replica, and to take one off.",
            unit="ms",
            queries=[
                panels.query(
                    _histogram_quantile(r, 0.95, "ray_serve_multiplexed_model_load_latency_ms", by=DEPLOYMENT),
                    f"{DEPLOYMENT_LEGEND} load",
                ),
                panels.query(
                    _histogram_quantile(r, 0.95, "ray_serve_multiplexed_model_unload_latency_ms", by=DEPLOYMENT),
                    f"{DEPLOYMENT_LEGEND} unload",
                ),
            ],
            min=0,
        ),
        panels.timeseries(
            "Model loads and unloads",
            description="Models loaded and unloaded per second. Both high and equal is thrashing.",
            unit="ops",
            queries=[
                panels.query(loaded, f"{DEPLOYMENT_LEGEND} loads"),
                panels.query(
                    promql.total(r.scope.rate("ray_serve_multiplexed_models_unload_counter_total", WINDOW), DEPLOYMENT),
                    f"{DEPLOYMENT_LEGEND} unloads",
                ),
            ],
            width=12,
            min=0,
        ),
        panels.bar_gauge(
            "Replicas holding each model",
            description="On how many replicas each model is loaded now, the twenty most spread ones.",
            unit="short",
            queries=[panels.query(f"topk(20, {models})", "{{deployment}} {{model_id}}", instant=True)],
            width=12,
            thresholds=(Threshold(None, PALETTE.neutral),),
        ),
    ]


def _each_replica(r: Reader) -> list[Panel]:
    each = replace(r, scope=r.scope.narrowed(replica='=~"$replica"'))
    buckets = each.scope.rate("ray_serve_deployment_processing_latency_ms_bucket", WINDOW)
    failed = promql.events(each.scope, "ray_serve_deployment_error_counter_total", REPLICA, window="$__interval")
    return [
        panels.timeseries(
            "Calls by replica",
            description="Calls finished per second by each replica. Replicas of one deployment should be alike.",
            unit="reqps",
            queries=[
                panels.query(promql.total(promql.deployment_requests(each.scope, WINDOW), REPLICA), REPLICA_LEGEND)
            ],
        ),
        panels.timeseries(
            "Processing time p95 by replica",
            description="One replica far above its siblings sits on a bad node or holds a bad state: restart that one.",
            unit="ms",
            queries=[panels.query(promql.quantile(0.95, promql.total(buckets, (*REPLICA, "le"))), REPLICA_LEGEND)],
            min=0,
        ),
        panels.timeseries(
            "Failed calls by replica",
            description=(
                "Calls that raised in each interval, the first one counted; replicas without failures have no line."
            ),
            unit="short",
            queries=[panels.query(failed, REPLICA_LEGEND)],
            bars=True,
        ),
        panels.timeseries(
            "In progress by replica",
            description=(
                "Requests that each replica works on. Stuck at its limit with no calls finishing means that it hangs."
            ),
            unit="short",
            queries=[
                panels.query(
                    promql.total(each.select("ray_serve_replica_processing_queries"), REPLICA, "max"),
                    REPLICA_LEGEND,
                )
            ],
            width=12,
            min=0,
        ),
        panels.state_timeline(
            "Health by replica",
            description=(
                "1 while the replica passes its health check. A dead replica's line ends about half a minute after its "
                "death. Needs Ray's default metric tags."
            ),
            queries=[
                panels.query(
                    promql.total(each.select("ray_serve_deployment_replica_healthy"), REPLICA, "max"),
                    REPLICA_LEGEND,
                )
            ],
            states={0: ("unhealthy", PALETTE.failing), 1: ("healthy", PALETTE.good)},
            width=12,
        ),
    ]
