"""Hours and cost by deployment and application."""

from __future__ import annotations

from servescope import promql
from servescope.dashboards import common
from servescope.dashboards.common import DEPLOYMENT_LEGEND
from servescope.grafana import panels
from servescope.grafana.model import Column, Panel
from servescope.promql import APPLICATION, capacity, cost, rollouts
from servescope.promql.signals import DEPLOYMENT_REQUESTS, Reader
from servescope.settings import Settings


def hours_and_cost(reader: Reader, settings: Settings) -> list[Panel]:
    """Hours reserved, idle replicas, traffic surges, and cost where the settings have prices."""
    replicas = capacity.reserved_replicas(reader)
    cpus, gpus = (capacity.reserved(reader, resource, replicas) for resource in ("replica_cpus", "replica_gpus"))
    processing = promql.total(reader.select("ray_serve_replica_processing_queries"), (*reader.each, "replica"), "max")
    there = promql.total(processing, reader.each, "count")
    idle = f"({promql.total(f'{processing} == 0', reader.each, 'count')} or 0 * {there}) / {there}"
    calls = reader.read(DEPLOYMENT_REQUESTS, reader.each)
    money = _money(reader, settings, replicas, calls=calls) if settings.priced else []
    return [
        panels.table(
            "Resource hours by deployment",
            description=(
                "Replica hours in the time range, and the CPU and GPU hours that they reserved, startup and shutdown "
                "included. Idle is the share of replicas without executing requests, among those that report their "
                "load: starting and stopping replicas do not, and count only in the hours. On spot is the share on "
                "spot nodes, where the market type is known."
            ),
            queries=[
                panels.query(cost.hours(replicas)),
                panels.query(cost.hours(cpus)),
                panels.query(cost.hours(gpus)),
                panels.query(f"avg_over_time(({idle}){rollouts.STEPS})"),
                panels.query(f"avg_over_time(({cost.spot_share(reader)}){rollouts.STEPS})"),
            ],
            columns=[
                *common.cluster_columns(reader.settings),
                common.APPLICATION_COLUMN,
                common.DEPLOYMENT_COLUMN,
                Column("Value #A", "Replica hours", unit="none", decimals=2),
                Column("Value #B", "CPU hours", unit="none", decimals=2),
                Column("Value #C", "GPU hours", unit="none", decimals=2),
                Column("Value #D", "Idle", unit="percentunit"),
                Column("Value #E", "Spot share", unit="percentunit"),
            ],
            sort_by="Replica hours",
        ),
        panels.table(
            "Traffic surge: replica-hours above baseline (1h)",
            description=(
                "Replica hours of the last hour above the median of the last day, and the maximum that max_replicas "
                "would have allowed: the worst-case cost of one hour of unwanted traffic."
            ),
            queries=[
                panels.query(cost.surge_replica_hours(reader)),
                panels.query(cost.surge_replica_hours_limit(reader)),
                panels.query(cost.usual_replicas(reader)),
            ],
            columns=[
                *common.cluster_columns(reader.settings),
                common.APPLICATION_COLUMN,
                common.DEPLOYMENT_COLUMN,
                Column("Value #A", "Above baseline", unit="none", decimals=2),
                Column("Value #B", "Possible maximum", unit="none", decimals=2),
                Column("Value #C", "Baseline replicas", unit="none", decimals=1),
            ],
            sort_by="Above baseline",
        ),
        panels.timeseries(
            "Idle replicas",
            description=(
                "Share of each deployment's replicas without executing requests, among those that report their load: "
                "starting and stopping replicas do not. Constantly high means that min_replicas or num_replicas is "
                "above what the load requires."
            ),
            unit="percentunit",
            queries=[panels.query(common.largest(common.by_deployment(idle, "avg")), DEPLOYMENT_LEGEND)],
            min=0,
            max=1,
        ),
        panels.timeseries(
            "CPUs reserved",
            description="CPUs that the replicas of each deployment reserve, used or not.",
            unit="short",
            queries=[panels.query(common.largest(common.by_deployment(cpus, "sum")), DEPLOYMENT_LEGEND)],
            stack=True,
        ),
        panels.timeseries(
            "CPU seconds per 1,000 calls",
            description=(
                "CPU time reserved for 1,000 calls: the cost of a call, independent of prices. It rises when replicas "
                "are idle."
            ),
            unit="s",
            queries=[
                panels.query(
                    common.largest(common.by_deployment(f"1000 * {cpus} / ({calls} > 0)", "max")), DEPLOYMENT_LEGEND
                )
            ],
            min=0,
        ),
        *money,
    ]


def _money(reader: Reader, settings: Settings, replicas: str, *, calls: str) -> list[Panel]:
    an_hour = cost.hourly_cost(reader, settings, replicas)
    return [
        panels.table(
            "Cost by deployment",
            description=(
                f"Cost in the time range, at {settings.price_per_gpu_hour:g} for a GPU hour and "
                f"{settings.price_per_cpu_hour:g} for a CPU hour; the rate is the current one. Surge: the last hour "
                "above the baseline, and the maximum that max_replicas would have allowed."
            ),
            queries=[
                panels.query(cost.hours(an_hour)),
                panels.query(an_hour),
                panels.query(f"1000 * {an_hour} / 3600 / ({calls} > 0)"),
                panels.query(cost.hourly_cost(reader, settings, f"({cost.surge_replica_hours(reader)})")),
                panels.query(cost.hourly_cost(reader, settings, f"({cost.surge_replica_hours_limit(reader)})")),
            ],
            columns=[
                *common.cluster_columns(reader.settings),
                common.APPLICATION_COLUMN,
                common.DEPLOYMENT_COLUMN,
                Column("Value #A", "Cost", unit="none", decimals=2),
                Column("Value #B", "Per hour", unit="none", decimals=2),
                Column("Value #C", "Per 1,000 calls", unit="none", decimals=4),
                Column("Value #D", "Surge", unit="none", decimals=2),
                Column("Value #E", "Surge maximum", unit="none", decimals=2),
            ],
            sort_by="Cost",
            width=16,
        ),
        panels.table(
            "Cost by application",
            description="Cost in the time range; the rate is the current one.",
            queries=[
                panels.query(promql.total(cost.hours(an_hour), (*reader.settings.cluster_key, *APPLICATION))),
                panels.query(promql.total(an_hour, (*reader.settings.cluster_key, *APPLICATION))),
            ],
            columns=[
                *common.cluster_columns(reader.settings),
                common.APPLICATION_COLUMN,
                Column("Value #A", "Cost", unit="none", decimals=2),
                Column("Value #B", "Per hour", unit="none", decimals=2),
            ],
            sort_by="Cost",
            width=8,
        ),
        panels.timeseries(
            "Cost per hour by application",
            description="Cost per hour of the replicas that each application has now.",
            unit="none",
            queries=[panels.query(common.largest(promql.total(an_hour, APPLICATION)), "{{application}}")],
            width=24,
            stack=True,
        ),
    ]
