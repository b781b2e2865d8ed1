"""How much room is left: load against limits, and what the autoscaler makes of it."""

from __future__ import annotations

from servescope import promql
from servescope.dashboards import common
from servescope.dashboards.capacity.limits import REACH, at_ceiling, reachable
from servescope.dashboards.common import DEPLOYMENT_LEGEND
from servescope.grafana import panels
from servescope.grafana.model import Column, Panel
from servescope.promql import DEPLOYMENT, capacity, cost
from servescope.promql.signals import QUEUED, REPLICAS, TARGET_REPLICAS, Reader
from servescope.settings import Settings


def room(reader: Reader, everything: Reader, settings: Settings) -> list[Panel]:
    """The figures of now, and a line for each deployment."""
    return [
        panels.stat(
            "Busiest deployment",
            description=(
                "Requests in progress against what its healthy replicas take at once (replicas x "
                "max_ongoing_requests), for the deployment nearest to its limit. At 100 % new requests wait."
            ),
            unit="percentunit",
            queries=[panels.query(promql.total(capacity.in_flight_share(reader), (), "max"))],
            thresholds=common.UTILIZATION,
        ),
        panels.stat(
            "Fullest queue",
            description=(
                "Requests waiting at one caller against max_queued_requests, for the queue nearest to its limit. At "
                "100 % that caller's requests are turned away. Deployments without a limit do not count."
            ),
            unit="percentunit",
            queries=[panels.query(promql.total(capacity.queue_share(reader), (), "max"))],
            thresholds=common.UTILIZATION,
        ),
        panels.stat(
            "Capped by max_replicas",
            description="Deployments whose load asks for more replicas than max_replicas allows. Normal is 0.",
            unit="none",
            queries=[panels.query(capacity.capped(reader))],
            thresholds=common.ANY_IS_RISKY,
        ),
        panels.stat(
            "Replicas failing to start",
            description=(
                "Deployments that have been short of replicas for two minutes: nowhere to place them, or a constructor "
                "that fails or takes longer than that; Autoscaling state below tells which. Normal is 0."
            ),
            unit="none",
            queries=[
                panels.query(
                    capacity.count(
                        f"{capacity.autoscaling_state(reader)} >= {capacity.NOT_UP}",
                        capacity.limit(reader, "target_replicas"),
                    )
                )
            ],
            thresholds=common.ANY_IS_BAD,
        ),
        panels.stat(
            "CPU demand at max_replicas",
            description=(
                "CPUs that all deployments, chosen or not, would reserve with every replica that max_replicas (or "
                f"num_replicas) allows, against those that the cluster {REACH}. Above 100 % the last ones would "
                "never start."
            ),
            unit="percentunit",
            queries=[
                panels.query(
                    f"{promql.total(at_ceiling(everything, 'replica_cpus'))} / {reachable(reader, settings, 'CPU')}"
                )
            ],
            width=8,
            thresholds=common.UTILIZATION,
        ),
        panels.table(
            "Deployments",
            description=(
                "One line for each deployment, as it is now. Demand is the number of replicas that the load asks for; "
                "empty for a fixed num_replicas, which nothing scales."
            ),
            queries=[
                panels.query(capacity.in_flight_share(reader)),
                panels.query(capacity.queue_share(reader)),
                panels.query(reader.read(QUEUED, DEPLOYMENT)),
                panels.query(reader.read(REPLICAS, DEPLOYMENT)),
                panels.query(reader.read(TARGET_REPLICAS, DEPLOYMENT)),
                panels.query(capacity.demand(reader)),
                panels.query(capacity.limit(reader, "min_replicas")),
                panels.query(capacity.most_replicas(reader)),
            ],
            columns=[
                common.APPLICATION_COLUMN,
                Column("deployment", "Deployment", links=(common.ROW_TO_DEPLOYMENT,)),
                Column("Value #A", "In flight", unit="percentunit", thresholds=common.UTILIZATION),
                Column("Value #B", "Queue", unit="percentunit", thresholds=common.UTILIZATION),
                Column("Value #C", "Waiting", unit="none"),
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
    """Shares of the limits over time."""
    link = (common.SERIES_TO_DEPLOYMENT,)
    # A load that falls or stands still never gets there, and what lies a day ahead is no forecast any more.
    growth = f"(deriv(({capacity.demand(reader)})[10m:30s]) > 0)"
    left = f"(clamp_min({capacity.limit(reader, 'max_replicas')} - {capacity.demand(reader)}, 0) / {growth}) < 86400"
    return [
        panels.timeseries(
            "Concurrency utilization",
            description=(
                "Requests in progress against replicas x max_ongoing_requests. Above 80 % bursts have to wait; "
                "autoscaling keeps it near target_ongoing_requests / max_ongoing_requests."
            ),
            unit="percentunit",
            queries=[panels.query(capacity.in_flight_share(reader), DEPLOYMENT_LEGEND)],
            min=0,
            thresholds=common.UTILIZATION,
            links=link,
        ),
        panels.timeseries(
            "Queue utilization",
            description=(
                "The fullest caller's queue against max_queued_requests, which holds for each caller. At 100 % "
                "requests are turned away with 503 or 429. Without a limit (-1) there is no line."
            ),
            unit="percentunit",
            queries=[panels.query(capacity.queue_share(reader), DEPLOYMENT_LEGEND)],
            min=0,
            thresholds=common.UTILIZATION,
            links=link,
        ),
        panels.timeseries(
            "Time to max_replicas",
            description=(
                "How long until the load asks for more than max_replicas, if it goes on growing as in the last ten "
                "minutes. No line means that it does not grow, or that the ceiling is more than a day away."
            ),
            unit="s",
            queries=[panels.query(left, DEPLOYMENT_LEGEND)],
            min=0,
            absent="a load that grows towards max_replicas",
        ),
    ]


def autoscaling(reader: Reader) -> list[Panel]:
    """Demand, target, floor and ceiling."""
    target = reader.read(TARGET_REPLICAS, DEPLOYMENT)
    return [
        panels.state_timeline(
            "Autoscaling state",
            description=common.WHY,
            queries=[panels.query(capacity.autoscaling_state(reader), DEPLOYMENT_LEGEND)],
            states=common.WHY_STATES,
            links=(common.SERIES_TO_DEPLOYMENT,),
        ),
        panels.timeseries(
            "Required replicas and max_replicas",
            description=(
                "Replicas that the load asks for (total requests / target_ongoing_requests) and max_replicas (dashed)."
            ),
            unit="short",
            queries=[
                panels.query(capacity.demand(reader), f"{DEPLOYMENT_LEGEND} demand"),
                panels.query(capacity.limit(reader, "max_replicas"), f"{DEPLOYMENT_LEGEND} max"),
            ],
            width=7,
            min=0,
            dashed=("/max$/",),
        ),
        panels.timeseries(
            "Target and min_replicas",
            description=(
                "Replicas that the controller wants and min_replicas (dashed), where there is autoscaling. A target "
                "that never leaves the floor pays for itself only if starting a replica takes too long."
            ),
            unit="short",
            queries=[
                panels.query(f"{target} and {capacity.limit(reader, 'min_replicas')}", f"{DEPLOYMENT_LEGEND} target"),
                panels.query(capacity.limit(reader, "min_replicas"), f"{DEPLOYMENT_LEGEND} min"),
            ],
            width=7,
            min=0,
            dashed=("/min$/",),
        ),
        panels.table(
            "Idle time between peaks",
            description=(
                "Pause: how long the load asked for no more than min_replicas, for each peak of the time range. A "
                "delay a little shorter than the pause is the worst of both: replicas wait through most of it, and "
                "every peak pays for their start again, which shows as changes of the target. Raise downscale_delay_s "
                "above the pause, or set it far below."
            ),
            queries=[
                panels.query(cost.mean_idle_seconds(reader)),
                panels.query(capacity.limit(reader, "downscale_delay_seconds")),
                panels.query(
                    promql.total(
                        f"changes({reader.select('servescope_deployment_target_replicas')}[$__range])",
                        DEPLOYMENT,
                        "max",
                    )
                ),
            ],
            columns=[
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
