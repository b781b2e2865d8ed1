"""HAProxy's metrics, where it takes the place of Serve's proxies."""

from __future__ import annotations

from servescope.catalog.labels import APPLICATION
from servescope.catalog.model import COUNTER, GAUGE, HISTOGRAM, Metric, group
from servescope.catalog.remarks import HAPROXY_MODE, INGRESS_ROUTER

HAPROXY = group(
    "HAProxy",
    Metric(
        name="ray_serve_haproxy_process_count",
        kind=GAUGE,
        unit="processes",
        labels=("node_id",),
        help="HAProxy processes on a node.",
        appears=HAPROXY_MODE,
        since="2.60",
        needs=HAPROXY_MODE,
    ),
    Metric(
        name="ray_serve_haproxy_target_mismatch",
        kind=GAUGE,
        unit="targets",
        labels=("node_id",),
        help="Targets (replicas) that differ between HAProxy and the controller.",
        appears=HAPROXY_MODE,
        since="2.60",
        needs=HAPROXY_MODE,
    ),
    Metric(
        name="ray_serve_haproxy_update_latency_s",
        kind=HISTOGRAM,
        unit="s",
        labels=("node_id",),
        help="Time from an update by the controller to the completed reload of HAProxy.",
        appears=HAPROXY_MODE,
        since="2.60",
        needs=HAPROXY_MODE,
    ),
    Metric(
        name="ray_serve_haproxy_ingress_router_requests_total",
        kind=COUNTER,
        unit="requests",
        labels=APPLICATION,
        help="Requests for which HAProxy asked the ingress request router.",
        appears=INGRESS_ROUTER,
        since="2.60",
        needs=INGRESS_ROUTER,
    ),
    Metric(
        name="ray_serve_haproxy_ingress_router_failures_total",
        kind=COUNTER,
        unit="failures",
        labels=(*APPLICATION, "reason"),
        help="Requests to the ingress request router that got no answer.",
        appears=INGRESS_ROUTER,
        since="2.60",
        needs=INGRESS_ROUTER,
    ),
    Metric(
        name="ray_serve_haproxy_ingress_router_truncations_total",
        kind=COUNTER,
        unit="requests",
        labels=APPLICATION,
        help="Requests to the ingress request router whose body was truncated.",
        appears=INGRESS_ROUTER,
        since="2.60",
        needs=INGRESS_ROUTER,
    ),
    Metric(
        name="ray_serve_haproxy_ingress_router_server_mismatch_total",
        kind=COUNTER,
        unit="requests",
        labels=APPLICATION,
        help="Answers of the ingress request router that HAProxy could not apply.",
        appears=INGRESS_ROUTER,
        since="2.60",
        needs=INGRESS_ROUTER,
    ),
    Metric(
        name="ray_serve_haproxy_ingress_router_latency_ms",
        kind=HISTOGRAM,
        unit="ms",
        labels=(*APPLICATION, "outcome"),
        help="Time that the ingress request router took to answer.",
        appears=INGRESS_ROUTER,
        since="2.60",
        needs=INGRESS_ROUTER,
    ),
)
