"""Who answers: how many replicas and why, their starts and failures, and each of them."""

from __future__ import annotations

from dataclasses import replace

from servescope import promql
from servescope.dashboards import common
from servescope.dashboards.common import DEPLOYMENT_LEGEND, WINDOW, histogram_quantile
from servescope.dashboards.deployment.figures import REPLICA_LEGEND, counted, failed_ratio
from servescope.grafana import panels
from servescope.grafana.colors import PALETTE
from servescope.grafana.model import Column, Panel
from servescope.promql import DEPLOYMENT, REPLICA, capacity, rollouts
from servescope.promql.signals import (
    PROCESSING_LATENCY,
    REPLICAS,
    TARGET_REPLICAS,
    Reader,
)


def autoscaling(reader: Reader) -> list[Panel]:
    """Replicas wanted and healthy, and what the autoscaler sees."""
    scales = promql.total(reader.select("ray_serve_autoscaling_total_requests"), DEPLOYMENT, "max")
    per_replica = promql.total(reader.select("ray_serve_replica_processing_queries"), REPLICA, "max")
    return [
        panels.timeseries(
            "Target and healthy replicas",
            description="What the controller wants (dashed) and what passes its health check, by deployment.",
            unit="short",
            queries=[
                panels.query(reader.read(REPLICAS, DEPLOYMENT), f"{DEPLOYMENT_LEGEND} healthy"),
                panels.query(reader.read(TARGET_REPLICAS, DEPLOYMENT), f"{DEPLOYMENT_LEGEND} wanted"),
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
                    promql.replica_gap(reader.read(TARGET_REPLICAS, DEPLOYMENT), reader.read(REPLICAS, DEPLOYMENT)),
                    DEPLOYMENT_LEGEND,
                )
            ],
            min=0,
        ),
        panels.timeseries(
            "Required and target replicas",
            description=(
                "The autoscaler's input: requests seen divided by target_ongoing_requests, which is how many replicas "
                "the load asks for, and the healthy replicas (both solid); the target that it decided on, "
                "min_replicas and max_replicas (dashed). Demand above a target that does not move means max_replicas, "
                "a delay, or a custom policy; healthy below the target means that replicas start, or do not come up."
            ),
            unit="short",
            queries=[
                panels.query(capacity.demand(reader), f"{DEPLOYMENT_LEGEND} demand"),
                panels.query(f"{reader.read(REPLICAS, DEPLOYMENT)} and {scales}", f"{DEPLOYMENT_LEGEND} healthy"),
                panels.query(f"{reader.read(TARGET_REPLICAS, DEPLOYMENT)} and {scales}", f"{DEPLOYMENT_LEGEND} target"),
                panels.query(capacity.limit(reader, "min_replicas"), f"{DEPLOYMENT_LEGEND} min"),
                panels.query(capacity.limit(reader, "max_replicas"), f"{DEPLOYMENT_LEGEND} max"),
            ],
            min=0,
            dashed=("/(target|min|max)$/",),
        ),
        panels.state_timeline(
            "Autoscaling state",
            description=common.WHY,
            queries=[panels.query(capacity.autoscaling_state(reader), DEPLOYMENT_LEGEND)],
            states=common.WHY_STATES,
            width=16,
        ),
        panels.timeseries(
            "Concurrency utilization",
            description=(
                "Requests in progress against what the healthy replicas take at once (replicas x max_ongoing_requests)."
            ),
            unit="percentunit",
            queries=[panels.query(capacity.in_flight_share(reader), DEPLOYMENT_LEGEND)],
            min=0,
            thresholds=common.UTILIZATION,
        ),
        panels.timeseries(
            "Executing requests per replica",
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
                    promql.total(reader.select("ray_serve_autoscaling_target_ongoing_requests"), DEPLOYMENT, "max"),
                    f"{DEPLOYMENT_LEGEND} target",
                ),
                panels.query(capacity.limit(reader, "max_ongoing_requests"), f"{DEPLOYMENT_LEGEND} limit"),
            ],
            min=0,
            dashed=("/(target|limit)$/",),
        ),
        panels.timeseries(
            "Replica utilization",
            description=(
                "Share of the replicas' capacity (max_ongoing_requests) that user code filled over the last ten "
                "minutes. Slow by design and blind to calls that have not finished: good for sizing, not for "
                "alerting. Since 2.60."
            ),
            unit="percent",
            queries=[
                panels.query(
                    promql.total(reader.select("ray_serve_replica_utilization_percent"), DEPLOYMENT, "avg"),
                    DEPLOYMENT_LEGEND,
                )
            ],
            min=0,
        ),
        panels.timeseries(
            "Autoscaling delay",
            description=(
                "How old the figures are when they reach the controller (p95), and how long the policy takes. Seconds "
                "here mean that the controller is too busy to scale in time."
            ),
            unit="ms",
            queries=[
                panels.query(
                    histogram_quantile(reader, 0.95, "ray_serve_autoscaling_handle_metrics_delay_ms", by=DEPLOYMENT),
                    f"{DEPLOYMENT_LEGEND} data p95",
                ),
                panels.query(
                    promql.total(reader.select("ray_serve_autoscaling_policy_execution_time_ms"), DEPLOYMENT, "max"),
                    f"{DEPLOYMENT_LEGEND} policy",
                ),
            ],
            min=0,
        ),
    ]


def lifecycle(reader: Reader) -> list[Panel]:
    """Starts, stops, health checks and states."""

    def startup(histogram: str) -> str:
        """Starts are rare and each makes a new series, so they are counted as events over the whole time range."""
        in_a_step = promql.events(reader.scope, f"{histogram}_bucket", (*DEPLOYMENT, "le"), window="$__interval")
        return promql.quantile(0.95, promql.over_range(in_a_step))

    return [
        panels.timeseries(
            "Replica starts",
            description=(
                "Replicas started in each interval. Expected at a deploy or a scale-up; anything else replaced a "
                "dead one."
            ),
            unit="short",
            queries=[panels.query(counted(reader, "ray_serve_replica_startup_latency_ms_count"), DEPLOYMENT_LEGEND)],
            bars=True,
        ),
        panels.timeseries(
            "Health check failures",
            description="Failed health checks in each interval, the first one counted. Normal is 0.",
            unit="short",
            queries=[panels.query(counted(reader, "ray_serve_health_check_failures_total"), DEPLOYMENT_LEGEND)],
            bars=True,
        ),
        panels.timeseries(
            "Log-derived events",
            description=(
                "Crashed and unhealthy replicas, scaling, and back-pressure by the deployment that dropped the call, "
                "counted by the log agent in each interval: a second witness for what the other panels show."
            ),
            unit="short",
            queries=[
                panels.query(
                    promql.events(
                        reader.scope, "servescope_log_events_total", (*DEPLOYMENT, "event"), window="$__interval"
                    ),
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
                    histogram_quantile(reader, 0.95, "ray_serve_health_check_latency_ms", by=DEPLOYMENT),
                    DEPLOYMENT_LEGEND,
                )
            ],
            min=0,
        ),
        panels.table(
            "Startup and shutdown times (p95)",
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
            "Deployment status",
            description=(
                "What the controller says of the deployment. Green is HEALTHY, blue a change under way, red a failure."
            ),
            queries=[
                panels.query(
                    promql.total(reader.select("ray_serve_deployment_status"), DEPLOYMENT, "min"),
                    DEPLOYMENT_LEGEND,
                )
            ],
            states=common.DEPLOYMENT_STATES,
            width=24,
        ),
    ]


def changes(reader: Reader) -> list[Panel]:
    """The last change of each deployment, before against after."""
    window = replace(reader, window="10m")
    failed, p95 = failed_ratio(window, DEPLOYMENT), window.quantile(0.95, PROCESSING_LATENCY, DEPLOYMENT)
    before, after = rollouts.before_last_change, rollouts.after_last_change
    return [
        panels.table(
            "Last change, before and after",
            description=(
                "Deployments whose configuration or code changed in the time range, when it last did, and ten minutes "
                "before against ten minutes after. After is empty until the ten minutes are over. A rollout that takes "
                "longer leaves old replicas in the second figure."
            ),
            queries=[
                panels.query(f"1000 * {rollouts.last_change(reader.scope)}"),
                panels.query(before(reader.scope, failed)),
                panels.query(after(reader.scope, failed, "10m")),
                panels.query(before(reader.scope, p95)),
                panels.query(after(reader.scope, p95, "10m")),
            ],
            columns=[
                common.APPLICATION_COLUMN,
                common.DEPLOYMENT_COLUMN,
                Column("Value #A", "Changed", unit="dateTimeFromNow"),
                Column("Value #B", "Error ratio before", unit="percentunit"),
                Column("Value #C", "Error ratio after", unit="percentunit", thresholds=common.ERROR_RATIO),
                Column("Value #D", "p95 before", unit="ms"),
                Column("Value #E", "p95 after", unit="ms"),
            ],
            sort_by="Changed",
            width=24,
            absent="a deploy in the time range",
        ),
    ]


def each_replica(reader: Reader) -> list[Panel]:
    """Calls, times, failures and health by replica."""
    each = replace(reader, scope=reader.scope.narrowed(replica='=~"$replica"'))
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
            "Executing requests by replica",
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
