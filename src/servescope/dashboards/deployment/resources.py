"""What the replica processes use: CPU, memory, event loop, GPUs."""

from __future__ import annotations

from servescope import promql
from servescope.dashboards.common import DEPLOYMENT_LEGEND, WINDOW
from servescope.grafana import panels
from servescope.grafana.model import Panel
from servescope.promql import DEPLOYMENT
from servescope.promql.signals import (
    REPLICA_CPU,
    REPLICA_MEMORY,
    Reader,
)


def processes(reader: Reader) -> list[Panel]:
    """CPU, memory and event loops of the replica processes."""
    lag = promql.total(
        reader.scope.rate("ray_serve_event_loop_scheduling_latency_ms_bucket", WINDOW),
        (*DEPLOYMENT, "loop_type", "le"),
    )
    return [
        panels.timeseries(
            "CPU",
            description="CPU cores in use by the replica processes, summed over all replicas of the deployment.",
            unit="short",
            queries=[panels.query(reader.read(REPLICA_CPU, DEPLOYMENT), DEPLOYMENT_LEGEND)],
            min=0,
        ),
        panels.timeseries(
            "Memory",
            description=(
                "Resident memory of the replica processes, summed over all replicas; shared pages count once per "
                "process."
            ),
            unit="bytes",
            queries=[panels.query(reader.read(REPLICA_MEMORY, DEPLOYMENT), DEPLOYMENT_LEGEND)],
            min=0,
        ),
        panels.timeseries(
            "Event loop lag p99",
            description=(
                "How late the replica's event loop runs its tasks; user_code is the loop that runs your async methods. "
                "Tens of milliseconds mean that something blocks the loop: move that work to a thread or a sync method."
            ),
            unit="ms",
            queries=[panels.query(promql.quantile(0.99, lag), f"{DEPLOYMENT_LEGEND} {{{{loop_type}}}}")],
            min=0,
        ),
    ]


def _replica_gpu(reader: Reader, gauge: str) -> str:
    return promql.total(promql.replica_processes(reader.scope, gauge), DEPLOYMENT)


def gpus(reader: Reader) -> list[Panel]:
    """GPU use of the replica processes."""
    return [
        panels.timeseries(
            "GPU utilization",
            description="GPU time in use by the replica processes, summed over all replicas; 100 % is one full GPU.",
            unit="percent",
            queries=[panels.query(_replica_gpu(reader, "ray_component_gpu_percentage"), DEPLOYMENT_LEGEND)],
            width=12,
            min=0,
            absent="a GPU in use by a replica",
        ),
        panels.timeseries(
            "GPU memory",
            description="GPU memory in use by the replica processes, summed over all replicas.",
            unit="decmbytes",
            queries=[panels.query(_replica_gpu(reader, "ray_component_gpu_memory_mb"), DEPLOYMENT_LEGEND)],
            width=12,
            min=0,
            absent="a GPU in use by a replica",
        ),
    ]
