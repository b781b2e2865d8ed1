"""The row of traces: metrics of all spans from the Collector, with exemplars that open a trace, and the traces of a
deployment in Tempo. Collapsed, so that it sends no query where there is neither.
"""

from __future__ import annotations

from servescope import promql
from servescope.grafana import panels, trace_panels
from servescope.grafana.model import Column, Row
from servescope.promql import Scope
from servescope.promql.signals import Reader

EDGE = "traces_service_graph_request"
ABSENT = "spans (servescope.tracing in Serve and the Collector, docs/tracing.md)"

# The replica's span of a request; the proxy and the router have spans of their own.
HANDLED = {"span_kind": '="SPAN_KIND_SERVER"', "span_name": '=~"replica_handle_request.*"'}
DEPLOYMENT = 'resource.serve.application=~"${application:pipe}" && resource.serve.deployment=~"${deployment:pipe}"'


def row(reader: Reader, window: str) -> Row:
    """For servescope-deployment."""
    handled = reader.scope.narrowed(**HANDLED)
    made = promql.total(_edges(reader, "total", window), ("client", "server"))
    failed = promql.total(_edges(reader, "failed_total", window), ("client", "server"))
    times = promql.total(_edges(reader, "server_seconds_bucket", window), ("client", "server", "le"))
    latency = promql.total(handled.rate("traces_spanmetrics_latency_bucket", window), ("deployment", "le"))
    calls = promql.total(handled.rate("traces_spanmetrics_calls_total", window), ("deployment", "status_code"))
    return panels.row(
        "Traces",
        [
            panels.timeseries(
                "Span duration with exemplars",
                description=(
                    "p95 and p50 of the replicas' spans. Each dot is an exemplar, one request: click it to open its "
                    "trace. Spans are counted before the Collector samples; only requests whose trace is kept have an "
                    "exemplar."
                ),
                unit="s",
                queries=[
                    panels.query(promql.quantile(0.95, latency), "{{deployment}} p95", exemplar=True),
                    panels.query(promql.quantile(0.5, latency), "{{deployment}} p50"),
                ],
                width=12,
                absent=ABSENT,
            ),
            panels.timeseries(
                "Spans by status",
                description=(
                    "Requests that replicas handled per second, by span status: ERROR is an exception or a 5xx. The "
                    "sum equals Calls by outcome above."
                ),
                unit="reqps",
                queries=[panels.query(calls, "{{deployment}} {{status_code}}")],
                width=12,
                absent=ABSENT,
            ),
            trace_panels.trace_table(
                "Failed traces",
                description="Latest traces that contain a failed span of this deployment.",
                traceql=f"{{ {DEPLOYMENT} && status = error }}",
            ),
            trace_panels.trace_table(
                "Slow traces",
                description="Latest traces in which this deployment took longer than one second.",
                traceql=f"{{ {DEPLOYMENT} && kind = server && duration > 1s }}",
            ),
            trace_panels.trace_table(
                "Traces",
                description=(
                    "Latest traces through this deployment: all failed and slow ones, and a sample of the others."
                ),
                traceql=f"{{ {DEPLOYMENT} && kind = server }}",
            ),
            panels.table(
                "Calls between services",
                description=(
                    "Service graph of this application as a table: calls to its deployments, from serve-proxy or "
                    "another deployment, and calls that they make. The "
                    "duration is measured in the service that is called. Grafana draws the same graph in Explore, tab "
                    "Service Graph of the Tempo data source."
                ),
                queries=[
                    panels.query(made, instant=True),
                    panels.query(promql.ratio(failed, made), instant=True),
                    panels.query(promql.quantile(0.95, times), instant=True),
                ],
                columns=[
                    Column("client", "From"),
                    Column("server", "To"),
                    Column("Value #A", "Calls", unit="reqps", decimals=1),
                    Column("Value #B", "Failed", unit="percentunit", decimals=1),
                    Column("Value #C", "p95", unit="s", decimals=3),
                ],
                sort_by="Calls",
                width=24,
                absent=ABSENT,
            ),
        ],
        collapsed=True,
    )


def _edges(reader: Reader, sample: str, window: str) -> str:
    """The edges of the service graph that begin or end in the dashboard's application.

    Its labels are names of services, `<application>.<deployment>`.
    """
    graph = Scope.of(reader.settings, {reader.settings.cluster_label: '=~"$cluster"'})
    ours = '=~"$application[.].*"'
    return " or ".join(graph.rate(f"{EDGE}_{sample}", window, **{end: ours}) for end in ("server", "client"))
