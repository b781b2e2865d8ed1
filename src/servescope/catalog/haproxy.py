"""HAProxy's metrics, where it takes the place of Serve's proxies."""

from __future__ import annotations

from servescope.catalog.labels import APP, HAPROXY, INGRESS_ROUTER
from servescope.catalog.model import COUNTER, GAUGE, HISTOGRAM, Metric, group

HAPROXY_METRICS = group(
    "HAProxy",
    Metric(
        name="ray_serve_haproxy_process_count",
        kind=GAUGE,
        unit="processes",
        labels=("node_id",),
        help="HAProxy processes on a node.",
        appears=HAPROXY,
        since="2.60",
        needs=HAPROXY,
    ),
    Metric(
        name="ray_serve_haproxy_target_mismatch",
        kind=GAUGE,
        unit="targets",
        labels=("node_id",),
        help="Targets that HAProxy and the controller disagree about.",
        appears=HAPROXY,
        since="2.60",
        needs=HAPROXY,
    ),
    Metric(
        name="ray_serve_haproxy_update_latency_s",
        kind=HISTOGRAM,
        unit="s",
        labels=("node_id",),
        help="Time from the controller's news to the finished reload.",
        appears=HAPROXY,
        since="2.60",
        needs=HAPROXY,
    ),
    *(
        Metric(
            name=f"ray_serve_haproxy_ingress_router_{name}",
            kind=kind,
            unit=unit,
            labels=labels,
            help=text,
            appears=INGRESS_ROUTER,
            since="2.60",
            needs=INGRESS_ROUTER,
        )
        for name, kind, unit, labels, text in (
            (
                "requests_total",
                COUNTER,
                "requests",
                APP,
                "Requests that HAProxy asked the ingress router about.",
            ),
            ("failures_total", COUNTER, "failures", (*APP, "reason"), "Such requests without an answer."),
            ("truncations_total", COUNTER, "requests", APP, "Such requests whose body was cut."),
            (
                "server_mismatch_total",
                COUNTER,
                "requests",
                APP,
                "Such answers that HAProxy could not follow.",
            ),
            ("latency_ms", HISTOGRAM, "ms", (*APP, "outcome"), "Time that the ingress router took."),
        )
    ),
)
