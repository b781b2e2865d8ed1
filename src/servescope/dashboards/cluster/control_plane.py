"""The control plane: controller, proxies, GCS, HAProxy."""

from __future__ import annotations

from servescope import promql
from servescope.dashboards import common
from servescope.dashboards.cluster.figures import NODE, events
from servescope.dashboards.common import WINDOW, histogram_quantile
from servescope.grafana import panels
from servescope.grafana.model import Panel
from servescope.promql.signals import LONG_POLL_LATENCY, Reader

NEEDS_HAPROXY = "HAProxy mode (RAY_SERVE_ENABLE_HA_PROXY=1)"


def controller(reader: Reader) -> list[Panel]:
    """Serve's controller: its control loop and its long-poll updates to proxies and handles."""

    def part(name: str) -> str:
        return promql.total(reader.select(f"ray_serve_controller_{name}_duration_s"), (), "max")

    lag = promql.total(
        reader.scope.rate(
            "ray_serve_event_loop_scheduling_latency_ms_bucket",
            WINDOW,
            component='=~"controller|proxy|unknown"',
        ),
        ("component", "loop_type", "le"),
    )
    pending = promql.lasting(reader.scope, "ray_serve_long_poll_pending_clients", WINDOW)
    return [
        panels.timeseries(
            "Control loop duration",
            description=(
                "Duration of one iteration of the controller's control loop. Above a second, scaling and health checks "
                "are late."
            ),
            unit="s",
            queries=[panels.query(part("control_loop"), "total")],
            min=0,
        ),
        panels.timeseries(
            "Control loop duration by part",
            description=(
                "Where an iteration of the control loop spends its time. Deployments and applications grow with the "
                "number of replicas."
            ),
            unit="s",
            queries=[
                panels.query(part("deployment_state_update"), "deployments"),
                panels.query(part("application_state_update"), "applications"),
                panels.query(part("proxy_state_update"), "proxies"),
                panels.query(part("node_update"), "nodes"),
            ],
            min=0,
        ),
        panels.timeseries(
            "Control loops per second",
            description=(
                "Iterations of the controller's control loop per second. Around 9 when idle; near 0 the controller is "
                "stalled."
            ),
            unit="ops",
            queries=[
                panels.query(
                    promql.total(
                        f"deriv({reader.select('ray_serve_controller_num_control_loops')}[{WINDOW}])",
                        (reader.settings.cluster_label,),
                        "max",
                    ),
                    "loops",
                )
            ],
            min=0,
        ),
        panels.timeseries(
            "Long-poll update latency p95",
            description=(
                "Time until an update of routes, replicas or configuration reaches proxies and handles from the "
                "controller. While it is late, requests are sent to replicas that no longer exist."
            ),
            unit="ms",
            queries=[panels.query(reader.quantile(0.95, LONG_POLL_LATENCY), "p95")],
            min=0,
        ),
        panels.timeseries(
            "Long-poll pending clients",
            description=(
                "Highest number of proxies and handles in the interval that waited for an update from the controller."
            ),
            unit="short",
            queries=[panels.query(promql.total(pending), "clients")],
            min=0,
        ),
        panels.timeseries(
            "Event loop lag p99",
            description=(
                "How late the event loops of controller and proxies run their tasks. Hundreds of milliseconds in a "
                "proxy delay every request on that node."
            ),
            unit="ms",
            queries=[panels.query(promql.quantile(0.99, lag), "{{component}} {{loop_type}}")],
            min=0,
        ),
    ]


def proxies(reader: Reader) -> list[Panel]:
    """The proxy on each node."""
    requests = promql.total(promql.ingress_requests(reader.scope, WINDOW), NODE)
    ongoing = promql.lasting(reader.scope, "ray_serve_num_ongoing_http_requests", WINDOW)
    process = reader.select("ray_component_rss_bytes", Component=f'=~"ray::ProxyActor{promql.METHOD}"')
    stopped = promql.events(reader.scope, "ray_serve_proxy_shutdown_duration_ms_bucket", ("le",), window="$__interval")
    return [
        panels.state_timeline(
            "Proxy status",
            description=(
                "Status of the proxy on each node. Normal is HEALTHY, which shares one band; DRAINING is normal while "
                "a node is being removed."
            ),
            queries=common.not_at_rest(
                promql.total(reader.select("ray_serve_proxy_status"), ("node_ip_address",), "min"),
                common.code(common.PROXY_STATES, "HEALTHY"),
                "{{node_ip_address}}",
            ),
            states=common.PROXY_STATES,
            width=12,
        ),
        panels.timeseries(
            "Requests by proxy",
            description=(
                "Requests per second that the proxy on each node answered. Uneven lines mean that the load balancer in "
                "front is uneven."
            ),
            unit="reqps",
            queries=[panels.query(common.largest(requests), "{{instance}}")],
            width=12,
        ),
        panels.timeseries(
            "Requests in flight at the proxies",
            description=(
                "Highest number of HTTP requests in each proxy in the interval, accepted and not yet answered. Ray "
                "drops this series when the value does not change for 20 s, even with requests in flight: use the "
                "deployment dashboard to find stuck requests."
            ),
            unit="short",
            queries=[panels.query(common.largest(promql.total(ongoing, ("node_ip_address",))), "{{node_ip_address}}")],
            min=0,
        ),
        panels.timeseries(
            "Proxy memory",
            description=(
                "Resident memory of the proxy on each node. Unlimited growth is a memory leak or a growing queue."
            ),
            unit="bytes",
            queries=[panels.query(common.largest(promql.total(process, NODE)), "{{instance}}")],
            min=0,
        ),
        panels.timeseries(
            "Proxy shutdown time p95",
            description="Time that proxies took to drain and stop, p95 over the whole time range.",
            unit="ms",
            queries=[panels.query(promql.quantile(0.95, promql.over_range(stopped)), "p95")],
            min=0,
            absent="a proxy that was stopped (a node that was drained)",
        ),
    ]


def gcs(reader: Reader) -> list[Panel]:
    """The GCS, and what it declared dead."""
    storage = promql.total(reader.scope.rate("ray_gcs_storage_operation_count_total", WINDOW), ("Operation",))
    lag = promql.total(reader.select("ray_io_context_event_loop_lag_ms"), ("Component",), "max")
    cluster = (reader.settings.cluster_label,)
    return [
        panels.timeseries(
            "Worker crashes",
            description=(
                "Worker processes that exited unexpectedly in each interval, the first one included. Normal is 0."
            ),
            unit="short",
            queries=[
                panels.query(
                    events(reader, "ray_unintentional_worker_failures_total", cluster, alive="ray_running_jobs"),
                    "crashes",
                )
            ],
            bars=True,
        ),
        panels.timeseries(
            "OOM-killed workers",
            description="Workers that Ray's memory monitor killed in each interval, by type. Normal is 0.",
            unit="short",
            queries=[
                panels.query(
                    promql.events(
                        reader.scope, "ray_memory_manager_worker_eviction_total", ("Type",), window="$__interval"
                    ),
                    "{{Type}}",
                )
            ],
            bars=True,
            absent="an out-of-memory kill",
        ),
        panels.timeseries(
            "Node failures",
            description="Nodes that the GCS declared dead in each interval. Normal is 0.",
            unit="short",
            queries=[
                panels.query(promql.events(reader.scope, "ray_node_failure_total", (), window="$__interval"), "nodes")
            ],
            bars=True,
            absent="a node failure",
        ),
        panels.timeseries(
            "Node health check p95",
            description=(
                "How long each node takes to answer the GCS health check. At the failure threshold the GCS declares "
                "the node dead."
            ),
            unit="ms",
            queries=[panels.query(histogram_quantile(reader, 0.95, "ray_health_check_rpc_latency_ms"), "p95")],
            min=0,
        ),
        panels.timeseries(
            "GCS storage operations",
            description="Storage operations (reads and writes) of the GCS per second.",
            unit="ops",
            queries=[panels.query(storage, "{{Operation}}")],
            min=0,
        ),
        panels.timeseries(
            "GCS and raylet event loop lag",
            description=(
                "Highest lag of the event loops in GCS and raylet. Seconds here mean that the whole cluster responds "
                "slowly."
            ),
            unit="ms",
            queries=[panels.query(lag, "{{Component}}")],
            min=0,
        ),
    ]


def haproxy(reader: Reader) -> list[Panel]:
    """HAProxy, where it runs in front of the proxies."""
    return [
        panels.timeseries(
            "HAProxy processes",
            description=(
                "HAProxy processes on each node: normally one, plus one for each reload whose old process still drains."
            ),
            unit="short",
            queries=[
                panels.query(
                    common.largest(promql.total(reader.select("ray_serve_haproxy_process_count"), NODE, "max")),
                    "{{instance}}",
                )
            ],
            min=0,
            absent=NEEDS_HAPROXY,
        ),
        panels.timeseries(
            "HAProxy backend mismatches",
            description="Replicas that differ between HAProxy's backends and the controller. Normal is 0.",
            unit="short",
            queries=[
                panels.query(
                    common.largest(promql.total(reader.select("ray_serve_haproxy_target_mismatch"), NODE, "max")),
                    "{{instance}}",
                )
            ],
            min=0,
            absent=NEEDS_HAPROXY,
        ),
        panels.timeseries(
            "HAProxy update time p95",
            description="Time from an update by the controller to the completed reload of HAProxy.",
            unit="s",
            queries=[panels.query(histogram_quantile(reader, 0.95, "ray_serve_haproxy_update_latency_s"), "p95")],
            min=0,
            absent=NEEDS_HAPROXY,
        ),
    ]
