"""The row of traces: what the Collector counts of all spans, with exemplars that open a trace, and what Tempo holds of
a deployment. Collapsed, so that nothing is asked where there is neither.
"""

from __future__ import annotations

from servescope import promql
from servescope.grafana import panels, trace_panels
from servescope.grafana.model import Column, Row
from servescope.promql import Scope
from servescope.promql.signals import Reader

EDGE = "traces_service_graph_request"
ABSENT = "spans: servescope.tracing in Serve and the Collector (docs/tracing.md)"

# The replica's span of a request; the proxy and the router have spans of their own.
HANDLED = {"span_kind": '="SPAN_KIND_SERVER"', "span_name": '=~"replica_handle_request.*"'}
DEPLOYMENT = 'resource.serve.application=~"${application:regex}" && resource.serve.deployment=~"${deployment:regex}"'


def row(reader: Reader, window: str) -> Row:
    """For servescope-deployment."""
    handled = reader.scope.narrowed(**HANDLED)
    # Its labels are services; which of them belong to this dashboard's application, a name cannot tell.
    graph = Scope(reader.settings.cluster_label, {reader.settings.cluster_label: '=~"$cluster"'})
    made = promql.total(graph.rate(f"{EDGE}_total", window), ("client", "server"))
    failed = promql.total(graph.rate(f"{EDGE}_failed_total", window), ("client", "server"))
    times = promql.total(graph.rate(f"{EDGE}_server_seconds_bucket", window), ("client", "server", "le"))
    latency = promql.total(handled.rate("traces_spanmetrics_latency_bucket", window), ("deployment", "le"))
    calls = promql.total(handled.rate("traces_spanmetrics_calls_total", window), ("deployment", "status_code"))
    return panels.row(
        "Traces",
        [
            panels.timeseries(
                "Span duration with exemplars",
                description=(
                    "p95 and p50 of the replicas' spans. Each dot is an exemplar, one request: a click opens its "
                    "trace. Spans are counted before the Collector samples; only requests whose trace is kept give a "
                    "dot."
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
                    "Requests that replicas handled, by the status of their span: ERROR is an exception or a 5xx. The "
                    "sum agrees with Calls by outcome above."
                ),
                unit="reqps",
                queries=[panels.query(calls, "{{deployment}} {{status_code}}")],
                width=12,
                absent=ABSENT,
            ),
            trace_panels.trace_table(
                "Failed traces",
                description="The latest traces with a failed span of this deployment.",
                traceql=f"{{ {DEPLOYMENT} && status = error }}",
            ),
            trace_panels.trace_table(
                "Slow traces",
                description="Traces in which this deployment took over a second.",
                traceql=f"{{ {DEPLOYMENT} && kind = server && duration > 1s }}",
            ),
            trace_panels.trace_table(
                "Traces",
                description=(
                    "The latest traces through this deployment: all that failed or were slow, and a share of the rest."
                ),
                traceql=f"{{ {DEPLOYMENT} && kind = server }}",
            ),
            panels.table(
                "Calls between services",
                description=(
                    "Who calls whom: serve-proxy and the deployments. The time is that of the called. Grafana "
                    "draws the same as a map in Explore, tab Service Graph of the Tempo."
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
