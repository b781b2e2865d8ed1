"""Seventy minutes of an invented Ray Serve, with figures that can be worked out by hand.

One cluster with two nodes and four deployments: shop/Front and shop/Model have traffic, lab/Quiet has none, and
bad/Broken fails to deploy. Counters grow by the same amount in each scrape, and every observation of a histogram lies
between 100 and 200 of its unit (0.1 and 0.2 for seconds), so that its p95 is 195. A real Prometheus answers the
dashboards' queries over it.

The ranges of `WINDOWS` are worlds: `live` ends with the last sample, `died` ends 50 minutes after it, and in `empty`
nothing has been scraped for hours.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import product

from servescope import catalog
from servescope.catalog.model import Kind, Metric
from servescope.dashboards import all_dashboards
from servescope.errors import ServescopeError
from servescope.promql.slo_series import RECORDED
from servescope.report.queries import Window, panels_of
from servescope.settings import Settings

SETTINGS = Settings()
SCRAPE_S = 15
START = 1_760_400_000  # unix seconds; any multiple of 15 will do
END = START + 70 * 60
CHANGED = END - 30 * 60  # a deploy of shop/Front, three minutes of UPDATING
FAILED = END - 20 * 60  # from here on bad/Broken is DEPLOY_FAILED

WINDOWS = {
    "live": Window(END - 3600, END, step_s=SCRAPE_S),
    "died": Window(END - 600, END + 3000, step_s=SCRAPE_S),
    "empty": Window(END + 36000, END + 39600, step_s=SCRAPE_S),
}

DEPLOYMENTS = (("shop", "Front"), ("shop", "Model"), ("lab", "Quiet"), ("bad", "Broken"))
BUSY = "shop"
CODES = {"200": 9.0, "404": 0.25, "429": 0.25, "499": 0.25, "500": 0.25}  # requests per second of shop

# What a label may say; the others say "x".
_VALUES: Mapping[str, tuple[str, ...]] = {
    "status_code": tuple(CODES),
    "method": ("GET",),
    "route": ("/",),
    "instance": ("10.0.0.1:8080", "10.0.0.2:8080"),
    "node_ip_address": ("10.0.0.1", "10.0.0.2"),
    "Name": ("CPU",),
    "event": ("replica_crashed",),
    "market_type": ("spot", "on-demand"),
    "Location": ("MMAP_SHM", "SPILLED"),
}
_SAID = {
    "ray_resources": {"Name": ("CPU", "GPU", "memory"), "State": ("USED", "AVAILABLE")},
    "ray_actors": {"Name": ("ServeReplica:shop:Front",), "Source": ("gcs",), "State": ("ALIVE",)},
    "ray_component_": {"Component": tuple(f"ray::ServeReplica:{a}:{d}" for a, d in DEPLOYMENTS[:3])},
    "servescope_deployment_replicas": {"state": ("RUNNING",)},
    "traces_spanmetrics_": {"span_kind": ("SPAN_KIND_SERVER",), "span_name": ("replica_handle_request Front",)},
    "traces_service_graph_": {"client": ("serve-proxy",), "server": ("shop.Front",)},
    "ray_serve_event_loop_": {"component": ("replica", "controller"), "loop_type": ("user_code",)},
}
_OF_ORIGIN = {"ray_io_context_": {"Component": "gcs"}}
_PER_NODE = ("ray_node_", "ray_component_", "ray_object_store", "scrape_", "up", "ray_serve_haproxy")

# Gauges; the others say 1. `{}` is a deployment's or an application's name by which the figure differs.
_GAUGES: Mapping[str, float | Mapping[str, float]] = {
    "ray_serve_replica_processing_queries": {"Front": 4, "Model": 2, "Quiet": 0},
    "ray_serve_deployment_queued_queries": {"Front": 3, "Model": 0, "Quiet": 0},
    "ray_serve_num_ongoing_requests_at_replicas": {"Front": 8, "Model": 4, "Quiet": 0},
    "ray_serve_autoscaling_target_replicas": {"Front": 2, "Model": 2, "Quiet": 1, "Broken": 1},
    "servescope_deployment_target_replicas": {"Front": 2, "Model": 2, "Quiet": 1, "Broken": 1},
    "servescope_deployment_configured_replicas": {"Front": 2, "Model": 2, "Quiet": 1, "Broken": 1},
    "servescope_deployment_replicas": {"Front": 2, "Model": 2, "Quiet": 1, "Broken": 0},
    "servescope_deployment_unplaced_replicas": {"Broken": 1, "Front": 0, "Model": 0, "Quiet": 0},
    "ray_serve_autoscaling_total_requests": {"Front": 6, "Model": 4, "Quiet": 0, "Broken": 0},
    "ray_serve_autoscaling_target_ongoing_requests": 2.0,
    "servescope_deployment_target_ongoing_requests": 2.0,
    "servescope_deployment_max_ongoing_requests": 5.0,
    "servescope_deployment_max_queued_requests": 10.0,
    "servescope_deployment_min_replicas": 1.0,
    "servescope_deployment_max_replicas": 2.0,
    "servescope_deployment_upscale_delay_seconds": 30.0,
    "servescope_deployment_downscale_delay_seconds": 600.0,
    "servescope_deployment_graceful_shutdown_timeout_seconds": 20.0,
    "servescope_deployment_replica_cpus": 1.0,
    "servescope_deployment_replica_gpus": 0.5,
    "servescope_exporter_data_age_seconds": 2.0,
    "ray_serve_proxy_status": 2.0,
    "ray_serve_deployment_max_processing_latency_ms": 200.0,
    "ray_serve_replica_utilization_percent": 40.0,
    "ray_node_cpu_count": 8.0,
    "ray_node_cpu_utilization": 25.0,
    "ray_node_mem_total": 16e9,
    "ray_node_mem_used": 4e9,
    "ray_node_disk_utilization_percentage": 50.0,
    "ray_node_gram_used": 4000.0,
    "ray_node_gram_available": 12000.0,
    "ray_node_gpus_utilization": 30.0,
    "ray_node_gpu_temperature_celsius": 60.0,
    "ray_node_gpu_power_milliwatts": 120000.0,
    "ray_component_cpu_percentage": 50.0,
    "ray_component_rss_bytes": 1024.0**3,
    "ray_component_gpu_percentage": 30.0,
    "ray_component_gpu_memory_mb": 2000.0,
    "ray_object_store_memory": 1024.0**2,
    "ray_resources": 8.0,
    "ray_scheduler_unscheduleable_tasks": 0.0,
    "autoscaler_pending_nodes": 0.0,
    "autoscaler_recently_failed_nodes": 0.0,
    "ray_serve_haproxy_target_mismatch": 0.0,
}

ALERTS = (
    {"alertname": "RayServeDeployFailed", "severity": "critical", "application": "bad", "deployment": "Broken"},
    {"alertname": "RayServeErrorRatioHigh", "severity": "warning", "application": "shop"},
    {"alertname": "ServescopeWatchdog", "severity": "info"},
)

# Recorded figures of two objectives: shop spends its budget, lab has not spent anything.
_SLO = {
    "serve_slo:objective:ratio": (0.99, 0.99),
    "serve_slo:error_budget_left:ratio": (0.2, 1.0),
    "serve_slo:burn_rate:ratio1h": (2.0, 0.0),
    "serve_slo:error_ratio:ratio5m": (0.02, 0.0),
    "serve_slo:error_ratio:ratio1h": (0.02, 0.0),
    "serve_slo:error_ratio:ratio6h": (0.02, 0.0),
    "serve_slo:error_ratio:ratio3d": (0.02, 0.0),
    "serve_slo:errors:events1h": (720.0, 0.0),
    "serve_slo:requests:events1h": (36000.0, 0.0),
    "serve_slo:time_to_exhaustion:seconds": (86400.0, None),
}


def samples() -> set[str]:
    """The names of all samples of the catalogue that the dashboards and their recording rules read."""
    boards = [board.to_json() for board in all_dashboards(SETTINGS)]
    texts = [t["expr"] for board in boards for panel in panels_of(board) for t in panel["targets"] if "expr" in t]
    texts += [mark["expr"] for board in boards for mark in board["annotations"]["list"] if "expr" in mark]
    names = set()
    for name in {name for text in texts for name in re.findall(r"[a-zA-Z_:][a-zA-Z0-9_:]*", text)}:
        try:
            catalog.metric_of_sample(name)
        except ServescopeError:
            continue
        names.add(name)
    return names - {"ALERTS"}


def _label_sets(metric: Metric, sample: str) -> Iterator[dict[str, str]]:
    own = next((said for prefix, said in _SAID.items() if sample.startswith(prefix)), {})
    labels = [label for label in metric.labels if label not in ("le", "application", "deployment", "replica")]
    nodes = sample.startswith(_PER_NODE) and "instance" not in labels
    places: list[dict[str, str]] = [{"instance": node} for node in _VALUES["instance"]] if nodes else [{}]
    if "replica" in metric.labels:
        serve = [
            {"application": a, "deployment": d, "replica": f"{d}-{n}"} for a, d in DEPLOYMENTS[:3] for n in range(2)
        ]
    elif "deployment" in metric.labels:
        serve = [{"application": a, "deployment": d} for a, d in DEPLOYMENTS]
        if sample.startswith(("traces_", "ray_serve_event_loop")):
            serve = serve[:1]
    elif "application" in metric.labels:
        serve = [{"application": a} for a in dict.fromkeys(a for a, _ in DEPLOYMENTS)]
        if "status_code" in labels:  # what proxies answer for no application at all
            serve.append({})
    else:
        serve = [{}]
    choices = [own.get(label) or _VALUES.get(label, ("x",)) for label in labels]
    for place, who, values in product(places, serve, product(*choices)):
        found = {"instance": "10.0.0.1:8080", **place, **who, **dict(zip(labels, values, strict=True))}
        if sample.startswith("ray_node_cpu_count"):
            found["RayNodeType"] = "head" if found["instance"] == "10.0.0.1:8080" else "worker"
        found |= next((more for prefix, more in _OF_ORIGIN.items() if sample.startswith(prefix)), {})
        yield {"ray_io_cluster": "blue", "job": "ray", **found}


def _pace(sample: str, labels: Mapping[str, str]) -> float:
    """How much a counter grows in a second."""
    if labels.get("application", BUSY) != BUSY:
        return 0.0
    if sample.startswith(("ray_serve_num_http_requests", "ray_serve_http_request_latency")):
        return CODES[labels["status_code"]]
    if "grpc" in sample or sample.startswith("traces_service_graph_request_failed"):
        return 0.0
    if "error_counter" in sample or "failure" in sample or "failed" in sample or "eviction" in sample:
        return 0.0 if labels.get("deployment") == "Model" else 0.25
    return 5.0


def _gauge(sample: str, labels: Mapping[str, str], t: int) -> float | None:
    deployment, application = labels.get("deployment", ""), labels.get("application", "")
    if sample == "ray_serve_application_status":
        return (1 if t >= FAILED else 5) if application == "bad" else 6
    if sample == "ray_serve_deployment_status":
        if deployment == "Broken":
            return 1 if t >= FAILED else 3
        return 3 if deployment == "Front" and CHANGED <= t < CHANGED + 180 else 6
    if sample == "servescope_deployment_config_info":
        return 1
    if sample == "ray_serve_controller_num_control_loops":
        return 9.0 * (t - START)
    figure = _GAUGES.get(sample, 1.0)
    if isinstance(figure, Mapping):
        return figure.get(deployment)
    return figure


def _written(sample: str, labels: Mapping[str, str]) -> str:
    pairs = ",".join(f'{name}="{value}"' for name, value in labels.items())
    return f"{sample}{{{pairs}}}"


def _series(metric: Metric, sample: str, labels: dict[str, str]) -> Iterator[str]:
    times = range(START, END + 1, SCRAPE_S)
    if metric.kind is Kind.GAUGE:
        if sample == "servescope_deployment_config_info":
            for t in times:
                new = labels["deployment"] == "Front" and t >= CHANGED
                yield f"{_written(sample, labels | {'fingerprint': 'b' if new else 'a'})} 1 {t}\n"
            return
        for t in times:
            figure = _gauge(sample, labels, t)
            if figure is not None:
                yield f"{_written(sample, labels)} {figure:g} {t}\n"
        return
    pace = _pace(sample, labels)
    bounds = [""]
    if sample.endswith("_bucket"):
        small = metric.unit in ("s", "seconds")
        bounds = ["0.1", "0.2", "+Inf"] if small else ["100", "200", "+Inf"]
    for bound in bounds:
        held = 0.0 if bound in ("0.1", "100") else pace
        text = _written(sample, labels | ({"le": bound} if bound else {}))
        yield from (f"{text} {100 + held * (t - START):.9g} {t}\n" for t in times)


def lines() -> Iterator[str]:
    """The world as OpenMetrics text."""
    for sample in sorted(samples()):
        metric = catalog.metric_of_sample(sample)
        for labels in _label_sets(metric, sample):
            yield from _series(metric, sample, labels)
    times = range(START, END + 1, SCRAPE_S)
    for alert in ALERTS:
        text = _written("ALERTS", {"alertstate": "firing", "ray_io_cluster": "blue", **alert})
        yield from (f"{text} 1 {t}\n" for t in times)
    assert set(_SLO) <= RECORDED.keys()
    for name, figures in _SLO.items():
        for slo, figure in zip(("shop", "lab"), figures, strict=True):
            if figure is not None:
                text = _written(name, {"ray_io_cluster": "blue", "slo": slo, "sli": "availability"})
                yield from (f"{text} {figure:g} {t}\n" for t in times)
    yield "# EOF\n"
