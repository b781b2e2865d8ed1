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
        help="Targets that HAProxy and the controller disagree about.",
        appears=HAPROXY_MODE,
        since="2.60",
        needs=HAPROXY_MODE,
    ),
    Metric(
        name="ray_serve_haproxy_update_latency_s",
        kind=HISTOGRAM,
        unit="s",
        labels=("node_id",),
        help="Time from the controller's news to the finished reload.",
        appears=HAPROXY_MODE,
        since="2.60",
        needs=HAPROXY_MODE,
    ),
    Metric(
        name="ray_serve_haproxy_ingress_router_requests_total",
        kind=COUNTER,
        unit="requests",
        labels=APPLICATION,
        help="Requests that HAProxy asked the ingress router about.",
        appears=INGRESS_ROUTER,
        since="2.60",
        needs=INGRESS_ROUTER,
    ),
    Metric(
        name="ray_serve_haproxy_ingress_router_failures_total",
        kind=COUNTER,
        unit="failures",
        labels=(*APPLICATION, "reason"),
        help="Such requests without an answer.",
        appears=INGRESS_ROUTER,
        since="2.60",
        needs=INGRESS_ROUTER,
    ),
    Metric(
        name="ray_serve_haproxy_ingress_router_truncations_total",
        kind=COUNTER,
        unit="requests",
        labels=APPLICATION,
        help="Such requests whose body was cut.",
        appears=INGRESS_ROUTER,
        since="2.60",
        needs=INGRESS_ROUTER,
    ),
    Metric(
        name="ray_serve_haproxy_ingress_router_server_mismatch_total",
        kind=COUNTER,
        unit="requests",
        labels=APPLICATION,
        help="Such answers that HAProxy could not follow.",
        appears=INGRESS_ROUTER,
        since="2.60",
        needs=INGRESS_ROUTER,
    ),
    Metric(
        name="ray_serve_haproxy_ingress_router_latency_ms",
        kind=HISTOGRAM,
        unit="ms",
        labels=(*APPLICATION, "outcome"),
        help="Time that the ingress router took.",
        appears=INGRESS_ROUTER,
        since="2.60",
        needs=INGRESS_ROUTER,
    ),
)
