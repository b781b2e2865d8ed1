"""Dynamic batching and model multiplexing."""

from __future__ import annotations

from servescope import promql
from servescope.dashboards.common import DEPLOYMENT_LEGEND, WINDOW, histogram_quantile
from servescope.dashboards.deployment.figures import REPLICA_LEGEND
from servescope.grafana import panels
from servescope.grafana.colors import PALETTE
from servescope.grafana.model import Panel, Threshold
from servescope.promql import DEPLOYMENT, REPLICA
from servescope.promql.signals import Reader


def batching(reader: Reader) -> list[Panel]:
    """Sizes, waits and queues of `@serve.batch`."""
    by = (*DEPLOYMENT, "function_name")
    legend = "{{deployment}}.{{function_name}}"
    queue = promql.lasting(reader.scope, "ray_serve_batch_queue_length", WINDOW)
    batches = promql.total(reader.scope.rate("ray_serve_batches_processed_total", WINDOW), by)

    def quantile(level: float, histogram: str) -> str:
        return histogram_quantile(reader, level, histogram, by=by)

    return [
        panels.timeseries(
            "Batch size",
            description=(
                "Requests per batch, median and p95, estimated from buckets that double in width. A constant 1 means "
                "that the batch wait timeout is too short for the load, or that calls are not concurrent."
            ),
            unit="short",
            queries=[
                panels.query(quantile(0.5, "ray_serve_actual_batch_size"), f"{legend} p50"),
                panels.query(quantile(0.95, "ray_serve_actual_batch_size"), f"{legend} p95"),
            ],
            min=0,
        ),
        panels.timeseries(
            "Batch utilization",
            description=(
                "Median batch size as a share of max_batch_size. Constantly near 100 % means that a larger "
                "max_batch_size may raise throughput."
            ),
            unit="percent",
            queries=[panels.query(quantile(0.5, "ray_serve_batch_utilization_percent"), legend)],
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
                "How long requests wait for their batch to fill, and how long the batch then takes to execute. A wait "
                "much longer than the execution means that batch_wait_timeout_s is too long."
            ),
            unit="ms",
            queries=[
                panels.query(quantile(0.95, "ray_serve_batch_wait_time_ms"), f"{legend} wait"),
                panels.query(quantile(0.95, "ray_serve_batch_execution_time_ms"), f"{legend} execution"),
            ],
            width=12,
            min=0,
        ),
        panels.timeseries(
            "Batch queue",
            description=(
                "Highest number of requests that waited for a batch in the interval, summed over all replicas. Ray "
                "drops this series while nothing changes."
            ),
            unit="short",
            queries=[panels.query(promql.total(queue, by), legend)],
            width=12,
            min=0,
        ),
    ]


def multiplexing(reader: Reader) -> list[Panel]:
    """Models loaded, requested and unloaded."""
    asked = promql.total(
        reader.scope.rate("ray_serve_multiplexed_get_model_requests_counter_total", WINDOW), DEPLOYMENT
    )
    loaded = promql.total(reader.scope.rate("ray_serve_multiplexed_models_load_counter_total", WINDOW), DEPLOYMENT)
    models = promql.total(
        f"{reader.select('ray_serve_registered_multiplexed_model_id')} == 1", ("deployment", "model_id"), "count"
    )
    return [
        panels.timeseries(
            "Model cache hits",
            description=(
                "Share of calls whose model was already loaded on the replica. Low means that models are loaded "
                "repeatedly: raise max_num_models_per_replica or add replicas."
            ),
            unit="percentunit",
            queries=[panels.query(f"1 - {promql.ratio(loaded, asked)}", DEPLOYMENT_LEGEND)],
            min=0,
            max=1,
        ),
        panels.timeseries(
            "Models loaded per replica",
            description="Number of multiplexed models loaded on each replica.",
            unit="short",
            queries=[
                panels.query(
                    promql.total(reader.select("ray_serve_num_multiplexed_models"), REPLICA, "max"), REPLICA_LEGEND
                )
            ],
            min=0,
        ),
        panels.timeseries(
            "Model load and unload time p95",
            description="Time to load a model onto a replica, and to unload it.",
            unit="ms",
            queries=[
                panels.query(
                    histogram_quantile(reader, 0.95, "ray_serve_multiplexed_model_load_latency_ms", by=DEPLOYMENT),
                    f"{DEPLOYMENT_LEGEND} load",
                ),
                panels.query(
                    histogram_quantile(reader, 0.95, "ray_serve_multiplexed_model_unload_latency_ms", by=DEPLOYMENT),
                    f"{DEPLOYMENT_LEGEND} unload",
                ),
            ],
            min=0,
        ),
        panels.timeseries(
            "Model loads and unloads",
            description="Models loaded and unloaded per second. Both high and about equal is cache thrashing.",
            unit="ops",
            queries=[
                panels.query(loaded, f"{DEPLOYMENT_LEGEND} loads"),
                panels.query(
                    promql.total(
                        reader.scope.rate("ray_serve_multiplexed_models_unload_counter_total", WINDOW), DEPLOYMENT
                    ),
                    f"{DEPLOYMENT_LEGEND} unloads",
                ),
            ],
            width=12,
            min=0,
        ),
        panels.bar_gauge(
            "Replicas holding each model",
            description="Number of replicas on which each model is loaded now: the twenty models on the most replicas.",
            unit="short",
            queries=[panels.query(f"topk(20, {models})", "{{deployment}} {{model_id}}", instant=True)],
            width=12,
            thresholds=(Threshold(None, PALETTE.neutral),),
        ),
    ]
