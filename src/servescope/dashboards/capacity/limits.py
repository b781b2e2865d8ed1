"""Capacity of the cluster, and what the deployments reserve of it now and at max_replicas."""

from __future__ import annotations

from servescope import promql
from servescope.dashboards import common
from servescope.grafana import panels
from servescope.grafana.colors import PALETTE
from servescope.grafana.model import Panel
from servescope.promql import capacity
from servescope.promql.signals import Reader
from servescope.settings import Settings

REACH = "can have (reachable_cpus and reachable_gpus in the settings; without them, what its nodes have now)"


def at_ceiling(reader: Reader, resource: str) -> str:
    """CPUs or GPUs that the deployments would reserve at max_replicas."""
    return capacity.reserved(reader, resource, capacity.most_replicas(reader))


def reachable(reader: Reader, settings: Settings, resource: str) -> str:
    """Maximum capacity of the cluster: from the settings, since Ray exports no upper bound, or else what it has now."""
    most = settings.reachable_cpus if resource == "CPU" else settings.reachable_gpus
    return f"vector({most:g})" if most else promql.total(reader.select("ray_resources", Name=f'="{resource}"'))


def _against(reader: Reader, settings: Settings, name: str, *, width: int, absent: str = "") -> Panel:
    resource = f"replica_{name.lower()}s"
    now = capacity.reserved(reader, resource, capacity.reserved_replicas(reader))
    return panels.timeseries(
        f"{name}s: reserved, at max_replicas, cluster total",
        description=(
            f"{name}s that the selected deployments reserve now, that they would reserve at max_replicas, and that the "
            f"cluster {REACH} (dashed). Resources of other Ray programs are not included."
        ),
        unit="short",
        queries=[
            panels.query(promql.total(now), "reserved"),
            panels.query(promql.total(at_ceiling(reader, resource)), "at max_replicas"),
            panels.query(reachable(reader, settings, name), "cluster total"),
        ],
        width=width,
        min=0,
        colors={"reserved": PALETTE.neutral, "at max_replicas": PALETTE.at_risk, "cluster total": PALETTE.muted},
        dashed=("cluster total",),
        absent=absent,
    )


def cluster(reader: Reader, settings: Settings) -> list[Panel]:
    """CPUs and market types of the cluster."""
    return [
        _against(reader, settings, "CPU", width=12),
        panels.timeseries(
            "Replicas by market",
            description=(
                "Replicas of the selected deployments by market type of their nodes (node label ray.io/market-type). "
                "Spot nodes can be reclaimed at two minutes' notice: keep replicas of critical deployments on other "
                "nodes. unknown: the node has no such label; set RAY_NODE_MARKET_TYPE when it starts."
            ),
            unit="short",
            queries=[
                panels.query(
                    promql.total(reader.select("servescope_deployment_market_replicas"), ("market_type",)),
                    "{{market_type}}",
                )
            ],
            width=12,
            min=0,
            stack=True,
            colors={"spot": PALETTE.at_risk, "on-demand": PALETTE.neutral, "unknown": PALETTE.muted},
        ),
    ]


def gpus(reader: Reader, everything: Reader, settings: Settings) -> list[Panel]:
    """GPUs of the cluster."""
    asked = promql.total(at_ceiling(everything, "replica_gpus"))
    return [
        panels.stat(
            "GPU demand at max_replicas",
            description=(
                "GPUs that all deployments, selected or not, would reserve at max_replicas, as a share of those that "
                f"the cluster {REACH}. Above 100 % the last replicas would be unschedulable."
            ),
            unit="percentunit",
            queries=[panels.query(f"{asked} / ({reachable(reader, settings, 'GPU')} > 0)")],
            width=8,
            height=8,
            thresholds=common.UTILIZATION,
            absent="a GPU on a node",
            min=0,
            max=1,
            links=(common.to_panel("servescope-capacity", "GPUs: reserved, at max_replicas, cluster total"),),
        ),
        _against(reader, settings, "GPU", width=16, absent="a GPU on a node"),
    ]
