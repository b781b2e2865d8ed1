"""Figures of cost: prices, replica hours, idle time, spot nodes, traffic surges."""

from __future__ import annotations

from servescope import promql
from servescope.promql import DEPLOYMENT
from servescope.promql.capacity import demand, limit, most_replicas, reserved_replicas
from servescope.promql.signals import Reader
from servescope.settings import Settings


def hourly_cost(r: Reader, settings: Settings, replicas: str) -> str:
    """What a number of replicas costs in an hour, by the price table of the settings."""
    return (
        f"({replicas} * ({limit(r, 'replica_gpus')} * {settings.price_per_gpu_hour:g} + {limit(r, 'replica_cpus')} * "
        f"{settings.price_per_cpu_hour:g}))"
    )


# Sums over the dashboard's range take one value a minute, so that sixty of them are an hour.
MINUTES = "[$__range:1m]"


def hours(figure: str) -> str:
    """A figure for each hour, summed over the dashboard's range."""
    return f"sum_over_time(({figure}){MINUTES}) / 60"


def pause(r: Reader) -> str:
    """Seconds in the dashboard's range for which the load asked for no more than min_replicas, for each of its peaks.

    The whole time where there was no peak.
    """
    low = f"({demand(r)} <= bool {limit(r, 'min_replicas')}){MINUTES}"
    return f"60 * sum_over_time({low}) / clamp_min(ceil(changes({low}) / 2), 1)"


def spot_share(r: Reader) -> str:
    """Share of each deployment's replicas on spot nodes, 0 to 1, among those on nodes that tell how they are paid."""
    known = promql.total(r.select("servescope_deployment_market_replicas", market_type='!="unknown"'), DEPLOYMENT)
    spot = promql.total(r.select("servescope_deployment_market_replicas", market_type='="spot"'), DEPLOYMENT)
    return promql.ratio(spot, known)


def usual_replicas(r: Reader) -> str:
    """Replicas that a deployment usually has: the median of the last day."""
    return f"quantile_over_time(0.5, ({reserved_replicas(r)})[1d:1m])"


def flood(r: Reader) -> str:
    """Replica hours that the last hour had above the usual level."""
    return f"clamp_min(avg_over_time(({reserved_replicas(r)})[1h:1m]) - {usual_replicas(r)}, 0)"


def flood_at_most(r: Reader) -> str:
    """Replica hours above the usual level that an hour can have, since max_replicas allows no more."""
    return f"clamp_min({most_replicas(r)} - {usual_replicas(r)}, 0)"
