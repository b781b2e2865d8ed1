"""Headroom: load compared with limits, and the autoscaler's decisions."""

from __future__ import annotations

from servescope import promql
from servescope.dashboards import common
from servescope.dashboards.capacity.limits import REACH, at_ceiling, reachable
from servescope.dashboards.common import DEPLOYMENT_LEGEND
from servescope.grafana import panels
from servescope.grafana.model import Column, Panel
from servescope.promql import capacity, cost
from servescope.promql.signals import QUEUED, REPLICAS, TARGET_REPLICAS, Reader
from servescope.settings import Settings


def room(reader: Reader, everything: Reader, settings: Settings) -> list[Panel]:
    """Current values, and a row for each deployment."""
    return [
        panels.stat(
            "Busiest deployment",
            description=(
                "Concurrency utilization of the deployment nearest to its limit: requests executing on its healthy "
                "replicas as a share of replicas x max_ongoing_requests. At 100 % new requests queue."
            ),
            unit="percentunit",
            queries=[panels.query(promql.total(capacity.in_flight_share(reader), (), "max"))],
            thresholds=common.UTILIZATION,
            links=(common.to_panel("servescope-capacity", "Concurrency utilization", "application", "deployment"),),
            min=0,
            max=1,
        ),
        panels.stat(
            "Max queue utilization",
            description=(
                "Highest queue utilization: requests queued in one caller as a share of max_queued_requests. At 100 % "
                "that caller's requests are rejected. Deployments without a limit are not included."
            ),
            unit="percentunit",
            queries=[panels.query(promql.total(capacity.queue_share(reader), (), "max"))],
            thresholds=common.UTILIZATION,
            links=(common.to_panel("servescope-capacity", "Queue utilization", "application", "deployment"),),
            min=0,
            max=1,
        ),
        panels.stat(
            "Capped by max_replicas",
            description="Number of deployments whose required replicas exceed max_replicas. Normal is 0.",
            unit="none",
            queries=[panels.query(capacity.capped(reader))],
            thresholds=common.ANY_IS_RISKY,
            links=(
                common.to_panel(
                    "servescope-capacity", "Required replicas and max_replicas", "application", "deployment"
                ),
            ),
        ),
        panels.stat(
            "Replicas failing to start",
            description=(
                "Number of deployments that have been missing replicas for two minutes: the replicas are "
                "unschedulable, or their constructor fails or takes longer than that. Autoscaling state below shows "
                "which. Normal is 0."
            ),
            unit="none",
            queries=[
                panels.query(
                    capacity.count(
                        f"({capacity.autoscaling_state(reader)}) >= {capacity.FAILING}",
                        capacity.limit(reader, "target_replicas"),
                    )
                )
            ],
            thresholds=common.ANY_IS_BAD,
            links=(common.to_panel("servescope-capacity", "Autoscaling state", "application", "deployment"),),
        ),
        panels.stat(
            "CPU demand at max_replicas",
            description=(
                "CPUs that all deployments, selected or not, would reserve at max_replicas (or num_replicas), as a "
                f"share of those that the cluster {REACH}. Above 100 % the last replicas would be unschedulable."
            ),
            unit="percentunit",
            queries=[
                panels.query(
                    f"{promql.total(at_ceiling(everything, 'replica_cpus'))} / {reachable(reader, settings, 'CPU')}"
                )
            ],
            width=8,
            thresholds=common.UTILIZATION,
            links=(common.to_panel("servescope-capacity", "CPUs: reserved, at max_replicas, cluster total"),),
            min=0,
            max=1,
        ),
        panels.table(
            "Deployments",
            description=(
                "Current capacity of each deployment, one row each. Demand is the number of required replicas; it is "
                "empty for a fixed num_replicas, which is not autoscaled."
            ),
            queries=[
                panels.query(capacity.in_flight_share(reader)),
                panels.query(capacity.queue_share(reader)),
                panels.query(reader.read(QUEUED, reader.each)),
                panels.query(reader.read(REPLICAS, reader.each)),
                panels.query(reader.read(TARGET_REPLICAS, reader.each)),
                panels.query(capacity.demand(reader)),
                panels.query(capacity.limit(reader, "min_replicas")),
                panels.query(capacity.most_replicas(reader)),
            ],
            columns=[
                *common.cluster_columns(reader.settings),
                common.APPLICATION_COLUMN,
                Column("deployment", "Deployment", links=(common.ROW_TO_DEPLOYMENT,)),
                Column("Value #A", "In flight", unit="percentunit", thresholds=common.UTILIZATION),
                Column("Value #B", "Queue", unit="percentunit", thresholds=common.UTILIZATION),
                Column("Value #C", "Queued", unit="none"),
                Column("Value #D", "Replicas", unit="none"),
                Column("Value #E", "Target", unit="none"),
                Column("Value #F", "Demand", unit="none", decimals=1),
                Column("Value #G", "Min", unit="none"),
                Column("Value #H", "Max", unit="none"),
            ],
            sort_by="In flight",
            width=24,
        ),
    ]


def load(reader: Reader) -> list[Panel]:
    """Utilization of the limits over time."""
    link = (common.SERIES_TO_DEPLOYMENT,)
    # A load that falls or is constant never reaches it, and beyond a day the extrapolation means nothing.
    growth = f"(deriv(({capacity.demand(reader)})[10m:30s]) > 0)"
    left = f"(clamp_min({capacity.limit(reader, 'max_replicas')} - {capacity.demand(reader)}, 0) / {growth}) < 86400"
    return [
        panels.timeseries(
            "Concurrency utilization",
            description=(
                "Requests executing on the healthy replicas as a share of their capacity (replicas x "
                "max_ongoing_requests). Above 80 % bursts queue; autoscaling keeps it near target_ongoing_requests / "
                "max_ongoing_requests."
            ),
            unit="percentunit",
            queries=[
                panels.query(
                    common.largest(common.by_deployment(capacity.in_flight_share(reader), "max")), DEPLOYMENT_LEGEND
                )
            ],
            min=0,
            thresholds=common.UTILIZATION,
            links=link,
        ),
        panels.timeseries(
            "Queue utilization",
            description=(
                "Longest queue of a single caller as a share of max_queued_requests, which applies to each caller on "
                "its own. At 100 % requests are rejected with 503 or 429. Not shown without a limit (-1)."
            ),
            unit="percentunit",
            queries=[
                panels.query(
                    common.largest(common.by_deployment(capacity.queue_share(reader), "max")), DEPLOYMENT_LEGEND
                )
            ],
            min=0,
            thresholds=common.UTILIZATION,
            links=link,
        ),
        panels.timeseries(
            "Time to max_replicas",
            description=(
                "Time until the required replicas exceed max_replicas, if the load keeps growing as in the last ten "
                "minutes. No data means that the load does not grow, or that the limit is more than a day away."
            ),
            unit="s",
            queries=[panels.query(common.largest(common.by_deployment(left, "min")), DEPLOYMENT_LEGEND)],
            min=0,
            absent="a load that grows towards max_replicas",
        ),
    ]


def autoscaling(reader: Reader) -> list[Panel]:
    """Required replicas, target, min_replicas and max_replicas."""
    demand = common.by_deployment(capacity.demand(reader), "sum")
    limit = common.by_deployment(capacity.limit(reader, "max_replicas"), "sum")
    least = capacity.limit(reader, "min_replicas")
    lowest = common.by_deployment(least, "sum")
    scaled = common.by_deployment(f"{reader.read(TARGET_REPLICAS, reader.each)} and {least}", "sum")
    why = common.by_deployment(capacity.autoscaling_state(reader), "max")
    return [
        panels.state_timeline(
            "Autoscaling state",
            description=common.WHY_OTHERS,
            queries=common.not_at_rest(why, capacity.STEADY, DEPLOYMENT_LEGEND),
            states=common.WHY_STATES,
            links=(common.SERIES_TO_DEPLOYMENT,),
        ),
        panels.timeseries(
            "Required replicas and max_replicas",
            description=(
                "Required replicas (total requests / target_ongoing_requests) and max_replicas (dashed). Normal is "
                "below the limit."
            ),
            unit="short",
            queries=[
                panels.query(common.largest(demand, most=10), f"{DEPLOYMENT_LEGEND} demand"),
                panels.query(common.largest(limit, among=demand, most=10), f"{DEPLOYMENT_LEGEND} max"),
            ],
            width=7,
            min=0,
            dashed=("/max$/",),
        ),
        panels.timeseries(
            "Target and min_replicas",
            description=(
                "Target replicas and min_replicas (dashed) of autoscaled deployments. A target that stays at "
                "min_replicas is worth its cost only if starting a replica takes too long."
            ),
            unit="short",
            queries=[
                panels.query(common.largest(scaled, most=10), f"{DEPLOYMENT_LEGEND} target"),
                panels.query(common.largest(lowest, among=scaled, most=10), f"{DEPLOYMENT_LEGEND} min"),
            ],
            width=7,
            min=0,
            dashed=("/min$/",),
        ),
        panels.table(
            "Idle time between peaks",
            description=(
                "Idle time is the mean time per peak, over the time range, in which the load required no more than "
                "min_replicas. A downscale delay slightly below the idle time is the worst case: replicas stay idle "
                "through most of it, and still start again for every peak, which is visible as changes of the target. "
                "Set downscale_delay_s above the idle time or far below it."
            ),
            queries=[
                panels.query(cost.mean_idle_seconds(reader)),
                panels.query(capacity.limit(reader, "downscale_delay_seconds")),
                panels.query(
                    promql.total(
                        f"changes({reader.select('servescope_deployment_target_replicas')}[$__range])",
                        reader.each,
                        "max",
                    )
                ),
            ],
            columns=[
                *common.cluster_columns(reader.settings),
                common.APPLICATION_COLUMN,
                common.DEPLOYMENT_COLUMN,
                Column("Value #A", "Idle time", unit="s"),
                Column("Value #B", "Downscale delay", unit="s"),
                Column("Value #C", "Changes of target", unit="none"),
            ],
            sort_by="Changes of target",
            width=10,
        ),
    ]
