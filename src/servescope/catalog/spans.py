"""Metrics that the OpenTelemetry Collector makes from Serve's spans."""

from __future__ import annotations

from servescope.catalog.model import COUNTER, HISTOGRAM, Metric, Origin, Source, group

_SPAN = ("application", "deployment", "service_name", "span_kind", "span_name", "status_code", "exemplars")

_EDGE = ("client", "server", "connection_type", "failed")

_COUNTED_ONCE = (
    "Every span is counted once. The label `exemplars` is whether its trace is kept; only then there are exemplars."
)

# The names of Tempo's metrics generator, which Grafana's service map asks for. Counted before anything is sampled away.
SPANS = group(
    "Spans",
    Metric(
        name="traces_spanmetrics_calls_total",
        kind=COUNTER,
        unit="spans",
        labels=_SPAN,
        help="Spans by service, name, kind and status; application and deployment are those of the replica.",
        appears="first span",
        trap=_COUNTED_ONCE,
        since="2.55",
    ),
    Metric(
        name="traces_spanmetrics_latency",
        kind=HISTOGRAM,
        unit="s",
        labels=_SPAN,
        help="Duration of spans.",
        appears="first span",
        trap=_COUNTED_ONCE,
        since="2.55",
    ),
    Metric(
        name="traces_service_graph_request_total",
        kind=COUNTER,
        unit="calls",
        labels=_EDGE,
        help="Calls from one service to another.",
        appears="first call between services",
        since="2.55",
    ),
    Metric(
        name="traces_service_graph_request_failed_total",
        kind=COUNTER,
        unit="calls",
        labels=_EDGE,
        help="Failed calls from one service to another.",
        appears="first failed call",
        since="2.55",
    ),
    Metric(
        name="traces_service_graph_request_server_seconds",
        kind=HISTOGRAM,
        unit="s",
        labels=_EDGE,
        help="Duration of calls, measured in the service that is called.",
        appears="first call between services",
        since="2.55",
    ),
    Metric(
        name="traces_service_graph_request_client_seconds",
        kind=HISTOGRAM,
        unit="s",
        labels=_EDGE,
        help="Duration of calls, measured in the caller.",
        appears="first call between services",
        trap=(
            "Serve's span of the caller ends when a replica has been chosen: this is the routing time, not the "
            "duration of the call."
        ),
        since="2.55",
    ),
    source=Source.COLLECTOR,
    origin=Origin.NONE,
)
