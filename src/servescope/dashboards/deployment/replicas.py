"""Replicas: how many and why, their starts and failures, and each of them."""

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
    HEALTH_CHECK_FAILURES,
    PROCESSING_LATENCY,
    REPLICA_STARTS,
    REPLICAS,
    STARTUP_LATENCY,
    TARGET_REPLICAS,
    Reader,
)


def autoscaling(reader: Reader) -> list[Panel]:
    """Target and healthy replicas, and the autoscaler's input."""
    scales = promql.total(reader.select("ray_serve_autoscaling_total_requests"), DEPLOYMENT, "max")
    return [
        panels.state_timeline(
            "Autoscaling state",
            description=common.WHY,
            queries=[panels.query(common.by_deployment(capacity.autoscaling_state(reader), "max"), DEPLOYMENT_LEGEND)],
            states=common.WHY_STATES,
            width=24,
            height=4,
        ),
        panels.timeseries(
            "Required and target replicas",
            description=(
                "Required replicas (requests that the autoscaler counts, divided by target_ongoing_requests) and "
                "healthy replicas (both solid); target replicas, min_replicas and max_replicas (dashed). Required "
                "replicas above a target that does not change mean max_replicas, a delay, or a custom policy; healthy "
                "replicas below the target are starting or fail to start."
            ),
            unit="short",
            queries=[
                panels.query(common.by_deployment(capacity.demand(reader), "sum"), f"{DEPLOYMENT_LEGEND} demand"),
                panels.query(f"{reader.read(REPLICAS, DEPLOYMENT)} and {scales}", f"{DEPLOYMENT_LEGEND} healthy"),
                panels.query(f"{reader.read(TARGET_REPLICAS, DEPLOYMENT)} and {scales}", f"{DEPLOYMENT_LEGEND} target"),
                panels.query(
                    common.by_deployment(capacity.limit(reader, "min_replicas"), "sum"), f"{DEPLOYMENT_LEGEND} min"
                ),
                panels.query(
                    common.by_deployment(capacity.limit(reader, "max_replicas"), "sum"), f"{DEPLOYMENT_LEGEND} max"
                ),
            ],
            width=12,
            min=0,
            dashed=("/(target|min|max)$/",),
        ),
        panels.timeseries(
            "Concurrency utilization",
            description=(
                "Requests executing on the healthy replicas as a share of their capacity (replicas x "
                "max_ongoing_requests). At 100 % new requests queue."
            ),
            unit="percentunit",
            queries=[panels.query(common.by_deployment(capacity.in_flight_share(reader), "max"), DEPLOYMENT_LEGEND)],
            width=12,
            min=0,
            thresholds=common.UTILIZATION,
        ),
    ]


def autoscaling_in_detail(reader: Reader) -> list[Panel]:
    """Each input and output of the autoscaler."""
    per_replica = promql.total(reader.select("ray_serve_replica_processing_queries"), REPLICA, "max")
    return [
        panels.timeseries(
            "Target and healthy replicas",
            description="Target replicas (dashed) and replicas that pass their health check, by deployment.",
            unit="short",
            queries=[
                panels.query(reader.read(REPLICAS, DEPLOYMENT), f"{DEPLOYMENT_LEGEND} healthy"),
                panels.query(reader.read(TARGET_REPLICAS, DEPLOYMENT), f"{DEPLOYMENT_LEGEND} target"),
            ],
            min=0,
            dashed=("/target$/",),
        ),
        panels.timeseries(
            "Missing replicas by deployment",
            description=(
                "Target replicas that are not healthy. A spike at a scale-up is normal; a plateau means that replicas "
                "are unschedulable or fail to start."
            ),
            unit="short",
            queries=[
                panels.query(common.by_deployment(capacity.missing_replicas(reader), "sum"), DEPLOYMENT_LEGEND),
            ],
            min=0,
        ),
        panels.timeseries(
            "Executing requests per replica",
            description=(
                "Requests on the busiest and on the average replica. The autoscaler keeps the average near "
                "target_ongoing_requests; max_ongoing_requests is the limit (both dashed). A busiest replica far above "
                "the average means uneven load balancing."
            ),
            unit="short",
            queries=[
                panels.query(promql.total(per_replica, DEPLOYMENT, "max"), f"{DEPLOYMENT_LEGEND} busiest"),
                panels.query(promql.total(per_replica, DEPLOYMENT, "avg"), f"{DEPLOYMENT_LEGEND} average"),
                panels.query(
                    promql.total(reader.select("ray_serve_autoscaling_target_ongoing_requests"), DEPLOYMENT, "max"),
                    f"{DEPLOYMENT_LEGEND} target",
                ),
                panels.query(
                    common.by_deployment(capacity.limit(reader, "max_ongoing_requests"), "max"),
                    f"{DEPLOYMENT_LEGEND} limit",
                ),
            ],
            min=0,
            dashed=("/(target|limit)$/",),
        ),
        panels.timeseries(
            "Replica utilization",
            description=(
                "Share of the replicas' capacity (max_ongoing_requests) that user code used over the last ten minutes. "
                "It changes slowly and ignores unfinished calls: use it for sizing, not for alerting. Since Ray 2.60."
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
                "Age of the autoscaling metrics when they reach the controller (p95), and the duration of the "
                "autoscaling policy. Seconds here mean that the controller is too busy to scale in time."
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
    return [
        panels.state_timeline(
            "Deployment status",
            description=(
                "Status of the deployment as Serve's controller reports it. Green is HEALTHY, blue a change in "
                "progress, red a failure."
            ),
            queries=[
                panels.query(
                    promql.total(reader.select("ray_serve_deployment_status"), DEPLOYMENT, "min"),
                    DEPLOYMENT_LEGEND,
                )
            ],
            states=common.DEPLOYMENT_STATES,
            width=24,
            height=4,
        ),
        panels.timeseries(
            "Replica starts",
            description=(
                "Replicas started in each interval (recorded: once a minute). Normal during a deploy or a scale-up; "
                "any other start replaced a replica that died."
            ),
            unit="short",
            queries=[panels.query(counted(reader, REPLICA_STARTS), DEPLOYMENT_LEGEND)],
            width=12,
            bars=True,
        ),
        panels.timeseries(
            "Health check failures",
            description=(
                "Failed health checks in each interval (recorded: once a minute), the first one included. Normal is 0."
            ),
            unit="short",
            queries=[panels.query(counted(reader, HEALTH_CHECK_FAILURES), DEPLOYMENT_LEGEND)],
            width=12,
            bars=True,
        ),
    ]


def lifecycle_in_detail(reader: Reader) -> list[Panel]:
    """Health checks, and how long starts and stops take."""

    def startup(histogram: str) -> str:
        """Starts are rare and each makes a new series, so they are counted as events over the whole time range."""
        in_a_step = promql.events(reader.scope, f"{histogram}_bucket", (*reader.each, "le"), window="$__interval")
        return promql.quantile(0.95, promql.over_range(in_a_step))

    return [
        panels.timeseries(
            "Log-derived events",
            description=(
                "Crashed and unhealthy replicas, scale-ups and scale-downs, and back-pressure by the deployment that "
                "dropped the call, as the log agent counted them in each interval. An independent check of the panels "
                "that read Ray's metrics."
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
                "Duration of check_health. Near health_check_timeout_s healthy replicas are killed by the timeout."
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
                "p95 over the whole time range: creation to ready, the constructor's part of it, reconfiguration after "
                "a user_config change, and shutdown. An empty cell means that it did not happen in the range. A "
                "startup slower than upscale_delay_s means that scale-ups lag behind the load."
            ),
            queries=[
                panels.query(promql.quantile(0.95, reader.events_over_range(STARTUP_LATENCY, (*reader.each, "le")))),
                panels.query(startup("ray_serve_replica_initialization_latency_ms")),
                panels.query(startup("ray_serve_replica_reconfigure_latency_ms")),
                panels.query(startup("ray_serve_replica_shutdown_duration_ms")),
            ],
            columns=[
                *common.cluster_columns(reader.settings),
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
    ]


def changes(reader: Reader) -> list[Panel]:
    """The last change of each deployment, before and after."""
    window = replace(reader, window="10m")
    failed, p95 = failed_ratio(window, window.each), window.quantile(0.95, PROCESSING_LATENCY, window.each)
    before, after = rollouts.before_last_change, rollouts.after_last_change
    return [
        panels.table(
            "Last change, before and after",
            description=(
                "Deployments whose configuration or code changed in the time range, the time of the last change, and "
                "their metrics ten minutes before and ten minutes after. The columns for after are empty until the ten "
                "minutes have passed. In a rollout that takes longer, they still include old replicas."
            ),
            queries=[
                panels.query(f"1000 * {rollouts.last_change(reader.scope)}"),
                panels.query(before(reader.scope, failed)),
                panels.query(after(reader.scope, failed, "10m")),
                panels.query(before(reader.scope, p95)),
                panels.query(after(reader.scope, p95, "10m")),
            ],
            columns=[
                *common.cluster_columns(reader.settings),
                common.APPLICATION_COLUMN,
                common.DEPLOYMENT_COLUMN,
                Column("Value #A", "Changed", unit="dateTimeFromNow"),
                Column("Value #B", "Error ratio before", unit="percentunit"),
                Column("Value #C", "Error ratio after", unit="percentunit", thresholds=common.ERROR_RATIO),
                Column("Value #D", "p95 before", unit="ms"),
                Column("Value #E", "p95 after", unit="ms"),
            ],
            sort_by="Changed",
            width=14,
            height=6,
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
            description=(
                "Calls per second that each replica finished. Replicas of one deployment should be about equal."
            ),
            unit="reqps",
            queries=[
                panels.query(
                    common.largest(promql.total(promql.deployment_requests(each.scope, WINDOW), REPLICA)),
                    REPLICA_LEGEND,
                )
            ],
        ),
        panels.timeseries(
            "Processing time p95 by replica",
            description=(
                "95 % of each replica's calls took at most this long. If one replica is far above the others, its node "
                "or its state is bad: restart that replica."
            ),
            unit="ms",
            queries=[
                panels.query(
                    common.largest(promql.quantile(0.95, promql.total(buckets, (*REPLICA, "le")))), REPLICA_LEGEND
                )
            ],
            min=0,
        ),
        panels.timeseries(
            "Failed calls by replica",
            description=(
                "Calls that raised an exception in each interval, the first one included. Replicas without failures "
                "are not shown."
            ),
            unit="short",
            queries=[panels.query(common.largest(failed), REPLICA_LEGEND)],
            bars=True,
        ),
        panels.timeseries(
            "Executing requests by replica",
            description=(
                "Requests that each replica executes now. A replica that stays at max_ongoing_requests and finishes no "
                "calls hangs."
            ),
            unit="short",
            queries=[
                panels.query(
                    common.largest(promql.total(each.select("ray_serve_replica_processing_queries"), REPLICA, "max")),
                    REPLICA_LEGEND,
                )
            ],
            width=12,
            min=0,
        ),
        panels.state_timeline(
            "Health by replica",
            description=(
                "1 while the replica passes its health check. The series of a dead replica ends about half a minute "
                "after its death. Needs Ray's default metric tags."
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
