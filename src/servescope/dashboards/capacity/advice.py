"""Tables that show which settings to change."""

from __future__ import annotations

from servescope import promql
from servescope.dashboards import common
from servescope.dashboards.common import DEPLOYMENT_LEGEND
from servescope.grafana import panels
from servescope.grafana.model import Column, Panel
from servescope.promql import DEPLOYMENT, capacity
from servescope.promql.signals import DEPLOYMENT_REQUESTS, PROCESSING_LATENCY, REPLICAS, STARTUP_LATENCY, Reader


def settings_tables(reader: Reader) -> list[Panel]:
    """Targets, limits and delays compared with measurements."""
    share = f"({capacity.limit(reader, 'target_ongoing_requests')} / {capacity.limit(reader, 'max_ongoing_requests')})"
    started = reader.events_over_range(STARTUP_LATENCY, (*reader.each, "le"))
    in_progress = promql.total(
        f"avg_over_time({reader.select('ray_serve_replica_processing_queries')}[$__rate_interval])", reader.each
    )
    calls = reader.read(DEPLOYMENT_REQUESTS, reader.each)
    healthy = f"({reader.read(REPLICAS, reader.each)} > 0)"
    busiest = promql.total(reader.select("ray_serve_replica_processing_queries"), (*reader.each, "replica"), "max")

    mean = common.by_deployment(f"1000 * {in_progress} / ({calls} > 0)", "max")
    p95 = reader.quantile(0.95, PROCESSING_LATENCY, DEPLOYMENT)

    low, high = capacity.TARGET_FAR_BELOW_LIMIT, capacity.TARGET_NEAR_LIMIT

    def advice(condition: str, text: str) -> str:
        return f'label_replace({share} {condition}, "advice", "{text}", "", "")'

    return [
        panels.table(
            "target_ongoing_requests against max_ongoing_requests",
            description=(
                "target_ongoing_requests as a share of max_ongoing_requests, with advice. Normal is about half, "
                "between 30 % and 70 % (Keep), so that a burst has room while the next replica starts. Above (Lower "
                "target: to half of the limit), queues grow before replicas do, and RayServeTargetNearLimit fires. "
                "Below (Lower limit), a replica may get far more than it is planned for. Choose the limit by a load "
                "test: it is the concurrency above which throughput no longer grows."
            ),
            queries=[
                panels.query(
                    " or ".join(
                        (
                            advice(f"> {high}", "Lower target"),
                            advice(f"< {low}", "Lower limit"),
                            advice(f">= {low} <= {high}", "Keep"),
                        )
                    )
                ),
                panels.query(capacity.limit(reader, "target_ongoing_requests")),
                panels.query(capacity.limit(reader, "max_ongoing_requests")),
            ],
            columns=[
                *common.cluster_columns(reader.settings),
                common.APPLICATION_COLUMN,
                common.DEPLOYMENT_COLUMN,
                Column("Value #A", "Share", unit="percentunit"),
                Column("Value #B", "Target", unit="none"),
                Column("Value #C", "Limit", unit="none"),
                Column("advice", "Advice"),
            ],
            sort_by="Share",
        ),
        panels.table(
            "Autoscaling delays and startup times",
            description=(
                "A new replica helps only one upscale delay plus one startup after the load rose: until then requests "
                "must fit into the queues. If the startup takes longer than the upscale delay, scale up earlier: a "
                "lower target_ongoing_requests or a higher min_replicas. Start is the p95 of replica starts in the "
                "time range."
            ),
            queries=[
                panels.query(capacity.limit(reader, "upscale_delay_seconds")),
                panels.query(f"{promql.quantile(0.95, started)} / 1000"),
                panels.query(capacity.limit(reader, "downscale_delay_seconds")),
                panels.query(capacity.limit(reader, "graceful_shutdown_timeout_seconds")),
            ],
            columns=[
                *common.cluster_columns(reader.settings),
                common.APPLICATION_COLUMN,
                common.DEPLOYMENT_COLUMN,
                Column("Value #A", "Upscale delay", unit="s"),
                Column("Value #B", "Start (p95)", unit="s"),
                Column("Value #C", "Downscale delay", unit="s"),
                Column("Value #D", "Shutdown timeout", unit="s"),
            ],
            sort_by="Start (p95)",
        ),
        panels.timeseries(
            "Mean processing time (Little's law)",
            description=(
                "Mean time in the replica (solid), computed as executing requests divided by calls finished per "
                "second, so independent of histogram buckets; and the measured p95 (dashed). Mean far above the p95: "
                "requests hang and have not finished. Mean far below the median: bursts that fall between two reports."
            ),
            unit="ms",
            queries=[
                panels.query(common.largest(mean, most=10), f"{DEPLOYMENT_LEGEND} by Little's law"),
                panels.query(common.largest(p95, among=mean, most=10), f"{DEPLOYMENT_LEGEND} p95"),
            ],
            width=12,
            min=0,
            dashed=("/p95$/",),
        ),
        panels.table(
            "Peak load per replica (24h)",
            description=(
                "Highest load that one replica carried in the last 24 hours, for sizing: calls per second, concurrent "
                "requests on the busiest replica, and max_ongoing_requests."
            ),
            queries=[
                panels.query(f"max_over_time(({calls} / {healthy})[1d:1m])"),
                panels.query(f"max_over_time(({promql.total(busiest, reader.each, 'max')})[1d:1m])"),
                panels.query(capacity.limit(reader, "max_ongoing_requests")),
            ],
            columns=[
                *common.cluster_columns(reader.settings),
                common.APPLICATION_COLUMN,
                common.DEPLOYMENT_COLUMN,
                Column("Value #A", "Calls/s", unit="reqps", decimals=1),
                Column("Value #B", "Concurrency", unit="none"),
                Column("Value #C", "Limit", unit="none"),
            ],
            sort_by="Calls/s",
        ),
    ]
