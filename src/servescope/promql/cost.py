"""Figures of cost: prices, replica hours, idle time, spot nodes, traffic surges."""

from __future__ import annotations

from servescope import promql
from servescope.promql.capacity import demand, limit, most_replicas, reserved_replicas
from servescope.promql.signals import Reader
from servescope.settings import Settings


def hourly_cost(reader: Reader, settings: Settings, replicas: str) -> str:
    """What a number of replicas costs in an hour, by the price table of the settings."""
    gpus = f"{limit(reader, 'replica_gpus')} * {settings.price_per_gpu_hour:g}"
    cpus = f"{limit(reader, 'replica_cpus')} * {settings.price_per_cpu_hour:g}"
    return f"({replicas} * ({gpus} + {cpus}))"


# Sums over the dashboard's range take one value a minute, so that sixty of them are an hour.
MINUTES = "[$__range:1m]"


def hours(figure: str) -> str:
    """A figure for each hour, summed over the dashboard's range."""
    return f"sum_over_time(({figure}){MINUTES}) / 60"


def mean_idle_seconds(reader: Reader) -> str:
    """Mean idle time between peaks: seconds in which the load asked for no more than min_replicas, over the peaks.

    Of the dashboard's range; all of that time where there was no peak.
    """
    low = f"({demand(reader)} <= bool {limit(reader, 'min_replicas')}){MINUTES}"
    return f"60 * sum_over_time({low}) / clamp_min(ceil(changes({low}) / 2), 1)"


def spot_share(reader: Reader) -> str:
    """Share of each deployment's replicas on spot nodes, 0 to 1, among those on nodes with a known market type."""
    known = promql.total(reader.select("servescope_deployment_market_replicas", market_type='!="unknown"'), reader.each)
    spot = promql.total(reader.select("servescope_deployment_market_replicas", market_type='="spot"'), reader.each)
    return promql.ratio(spot, known)


def usual_replicas(reader: Reader) -> str:
    """Replicas that a deployment usually has: the median of the last day."""
    return f"quantile_over_time(0.5, ({reserved_replicas(reader)})[1d:1m])"


def surge_replica_hours(reader: Reader) -> str:
    """Replica hours of a traffic surge: those that the last hour had above the usual level."""
    return f"clamp_min(avg_over_time(({reserved_replicas(reader)})[1h:1m]) - {usual_replicas(reader)}, 0)"


def surge_replica_hours_limit(reader: Reader) -> str:
    """The most surge replica hours that an hour can have, since max_replicas allows no more."""
    return f"clamp_min({most_replicas(reader)} - {usual_replicas(reader)}, 0)"
