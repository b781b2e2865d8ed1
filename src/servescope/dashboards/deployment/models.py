"""What Serve does for models: dynamic batching and multiplexing."""

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
                "Requests in a batch, median and p95, from buckets that double in width. Ones throughout mean that the "
                "batch wait is too short for the load, or that nothing calls concurrently."
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
                "How full batches are against max_batch_size (median). Always full means that a larger batch may pay."
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
                "How long requests wait for their batch to fill, and how long it then takes. Waiting much longer than "
                "executing means that batch_wait_timeout_s is too generous."
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
                "The most requests that waited for a batch in the interval, all replicas together. Ray drops this "
                "series while nothing changes."
            ),
            unit="short",
            queries=[panels.query(promql.total(queue, by), legend)],
            width=12,
            min=0,
        ),
    ]


def multiplexing(reader: Reader) -> list[Panel]:
    """Models loaded, asked for and thrown out."""
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
                "Share of calls whose model was already on the replica. Low means that models are loaded over and "
                "over: raise max_num_models_per_replica or add replicas."
            ),
            unit="percentunit",
            queries=[panels.query(f"1 - {promql.ratio(loaded, asked)}", DEPLOYMENT_LEGEND)],
            min=0,
            max=1,
        ),
        panels.timeseries(
            "Models loaded per replica",
            description="Models that each replica holds.",
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
            description="How long it takes to bring a model onto a replica, and to take one off.",
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
            description="Models loaded and unloaded per second. Both high and equal is thrashing.",
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
            description="On how many replicas each model is loaded now, the twenty most spread ones.",
            unit="short",
            queries=[panels.query(f"topk(20, {models})", "{{deployment}} {{model_id}}", instant=True)],
            width=12,
            thresholds=(Threshold(None, PALETTE.neutral),),
        ),
    ]
