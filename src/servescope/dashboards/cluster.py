"""servescope-cluster: are the nodes, the controller, the proxies and the GCS healthy?"""

from __future__ import annotations

from servescope import promql
from servescope.dashboards import common
from servescope.dashboards.rows import logs
from servescope.grafana import layout, panels, variables
from servescope.grafana.colors import PALETTE
from servescope.grafana.layout import Dashboard
from servescope.grafana.model import Column, Panel, Threshold
from servescope.promql.signals import NODE_CPU, NODE_DISK, NODE_MEMORY, Reader
from servescope.settings import Settings

WINDOW = "$__rate_interval"
NODE: promql.Labels = ("instance",)
NEEDS_GPU = "a GPU on a node"
NEEDS_HAPROXY = "HAProxy mode (RAY_SERVE_ENABLE_HA_PROXY=1)"


def build(settings: Settings, *, recorded: bool = False) -> Dashboard:
    """The dashboard, plain or reading recorded series."""
    r = common.reader(settings, recorded, "instance")
    # Serve's controller and the GCS live on one node; choosing nodes must not hide them.
    whole = common.reader(settings, recorded)
    return layout.dashboard(
        uid="servescope-cluster",
        title="Ray Serve / Cluster",
        description="Are the nodes, the controller, the proxies and the GCS healthy?",
        rows=[
            panels.row("Now", _now(whole)),
            panels.row("Nodes", _nodes(r)),
            panels.row("What Ray hands out", _resources(whole)),
            panels.row("Controller", _controller(whole)),
            panels.row("Proxies", _proxies(whole)),
            panels.row("GCS and failures", _gcs(whole)),
            panels.row("GPUs", _gpus(r, whole), collapsed=True),
            panels.row("HAProxy", _haproxy(whole), collapsed=True),
            panels.row("Can I believe what I see?", _scrape(r)),
            logs.cluster_row(),
        ],
        variables=[*common.standard_variables(settings, "instance"), variables.logs_variable()],
        annotations=common.rollout_marks(settings),
        settings=settings,
    )


def _quantile(r: Reader, q: float, histogram: str, *, by: promql.Labels = (), **extra: str) -> str:
    return promql.quantile(q, promql.total(r.scope.rate(f"{histogram}_bucket", WINDOW, **extra), (*by, "le")))


def _events(r: Reader, counter: str, by: promql.Labels, *, alive: str) -> str:
    """Events in each interval; zero for every node or cluster that has a series of the gauge `alive`."""
    return (
        f"({promql.events(r.scope, counter, by, window='$__interval')}) or 0 * "
        f"{promql.total(r.select(alive), by, 'group')}"
    )


def _now(r: Reader) -> list[Panel]:
    proxies = r.select("ray_serve_proxy_status")
    healthy = next(code for code, (name, _) in common.PROXY_STATES.items() if name == "HEALTHY")
    loops = promql.total(f"deriv({r.select('ray_serve_controller_num_control_loops')}[{WINDOW}])", (), "max")
    waiting = promql.total(r.select("ray_scheduler_unscheduleable_tasks"))
    return [
        panels.stat(
            "Nodes",
            description=(
                "Nodes that report figures now. A node that died is missing here half a minute later; it also leaves "
                "Ray's discovery file, so its target does not even count as down."
            ),
            unit="none",
            queries=[panels.query(promql.total(r.select("ray_node_cpu_count"), (), "count"))],
            thresholds=(Threshold(None, PALETTE.neutral),),
        ),
        panels.stat(
            "Proxies not healthy",
            description="Proxies whose status is not HEALTHY (starting, draining or unhealthy). Normal is 0.",
            unit="none",
            queries=[panels.query(f"count({proxies} != {healthy}) or 0 * count({proxies})")],
            thresholds=common.ANY_IS_BAD,
        ),
        panels.stat(
            "Control loops",
            description=(
                "Rounds of Serve's controller per second. Around 9 when it idles; near 0 it is stuck, and nothing is "
                "deployed, scaled or replaced."
            ),
            unit="ops",
            queries=[panels.query(loops)],
            thresholds=(Threshold(None, PALETTE.failing), Threshold(0.5, PALETTE.neutral)),
        ),
        panels.stat(
            "Tasks without a place",
            description=(
                "Tasks and actors that no node can take now, replicas of Serve among them. Above 0 for more than a "
                "minute means that the cluster is too small or that somebody asks for what no node has."
            ),
            unit="none",
            queries=[panels.query(waiting)],
            thresholds=common.ANY_IS_RISKY,
        ),
        panels.stat(
            "Fullest disk",
            description=(
                "The fullest disk that holds Ray's temporary directory. Ray never deletes the logs of old sessions and "
                "stops placing objects at 95 %."
            ),
            unit="percentunit",
            queries=[panels.query(r.read(NODE_DISK))],
            thresholds=common.UTILIZATION,
        ),
        panels.stat(
            "Fullest memory",
            description="The node with the least memory left. Ray's memory monitor kills workers at 95 %.",
            unit="percentunit",
            queries=[panels.query(r.read(NODE_MEMORY))],
            thresholds=common.UTILIZATION,
        ),
    ]


def _nodes(r: Reader) -> list[Panel]:
    head = promql.total(r.select("ray_node_cpu_count"), ("instance", "RayNodeType"), "max")
    spilled = promql.total(r.select("ray_object_store_memory", Location='="SPILLED"'), NODE)
    shared = promql.total(r.select("ray_object_store_memory", Location='="MMAP_SHM"'), NODE)
    # Proxies and the controller add the method that they run, the dashboard its modules; together they are one process
    # each, or one program.
    own = r.select("ray_component_cpu_percentage", Component='!~"ray::(SERVE_REPLICA|ServeReplica|IDLE).*"')
    program = f"(?:ray::)?([^.]*?)(?:_[A-Z][A-Za-z]*)?{promql.METHOD}"
    own = f'label_replace({own}, "program", "$1", "Component", "{program}")'
    return [
        panels.table(
            "Nodes now",
            description="One line for each node that reports.",
            queries=[
                panels.query(head),
                panels.query(r.read(NODE_CPU, NODE)),
                panels.query(r.read(NODE_MEMORY, NODE)),
                panels.query(r.read(NODE_DISK, NODE)),
            ],
            columns=[
                Column("instance", "Node"),
                Column("RayNodeType", "Type"),
                Column("Value #A", "CPUs", unit="none"),
                Column("Value #B", "CPU", unit="percentunit", thresholds=common.UTILIZATION),
                Column("Value #C", "Memory", unit="percentunit", thresholds=common.UTILIZATION),
                Column("Value #D", "Disk", unit="percentunit", thresholds=common.UTILIZATION),
            ],
            sort_by="Memory",
        ),
        panels.timeseries(
            "CPU",
            description="Share of each node's CPU time in use.",
            unit="percentunit",
            queries=[panels.query(r.read(NODE_CPU, NODE), "{{instance}}")],
            width=12,
            min=0,
            max=1,
            thresholds=common.UTILIZATION,
        ),
        panels.timeseries(
            "Memory",
            description=(
                "Share of each node's memory in use (of the container's limit where there is one). At 95 % Ray kills "
                "workers."
            ),
            unit="percentunit",
            queries=[panels.query(r.read(NODE_MEMORY, NODE), "{{instance}}")],
            min=0,
            max=1,
            thresholds=common.UTILIZATION,
        ),
        panels.timeseries(
            "Disk",
            description="Share of the disk under Ray's temporary directory in use.",
            unit="percentunit",
            queries=[panels.query(r.read(NODE_DISK, NODE), "{{instance}}")],
            min=0,
            max=1,
            thresholds=common.UTILIZATION,
        ),
        panels.timeseries(
            "Object store",
            description=(
                "Shared memory held by objects, and objects spilled to disk because it was full. Large requests, "
                "answers and weights pass through here; spilling makes them slow."
            ),
            unit="bytes",
            queries=[panels.query(shared, "{{instance}} memory"), panels.query(spilled, "{{instance}} spilled")],
            min=0,
            colors={"/spilled$/": PALETTE.at_risk},
        ),
        panels.timeseries(
            "Network",
            description="Bytes per second in and out of each node, loopback not counted.",
            unit="Bps",
            queries=[
                panels.query(promql.total(r.select("ray_node_network_receive_speed"), NODE, "max"), "{{instance}} in"),
                panels.query(promql.total(r.select("ray_node_network_send_speed"), NODE, "max"), "{{instance}} out"),
            ],
            min=0,
        ),
        panels.timeseries(
            "Disk traffic",
            description="Bytes per second read from and written to the node's disks.",
            unit="Bps",
            queries=[
                panels.query(promql.total(r.select("ray_node_disk_io_read_speed"), NODE, "max"), "{{instance}} read"),
                panels.query(
                    promql.total(r.select("ray_node_disk_io_write_speed"), NODE, "max"),
                    "{{instance}} written",
                ),
            ],
            min=0,
        ),
        panels.timeseries(
            "Ray's own processes",
            description=(
                "CPU of raylet, GCS, agents, proxies and the controller, apart from replicas. 100 % is one core."
            ),
            unit="percent",
            queries=[panels.query(promql.total(own, ("program",)), "{{program}}")],
            min=0,
        ),
    ]


def _handed_out(r: Reader, resource: str) -> str:
    used = promql.total(r.select("ray_resources", Name=f'="{resource}"', State='="USED"'))
    return promql.ratio(used, promql.total(r.select("ray_resources", Name=f'="{resource}"')))


def _resources(r: Reader) -> list[Panel]:
    actors = promql.total(r.select("ray_actors", Source='="gcs"', Name='=~"ServeReplica:.*"'), ("State",))
    return [
        panels.timeseries(
            "Handed out",
            description=(
                "Share of the cluster's logical CPUs and memory that Ray promised to replicas and tasks. It says "
                "nothing about how busy they are; at 100 % the next replica waits."
            ),
            unit="percentunit",
            queries=[panels.query(_handed_out(r, "CPU"), "CPU"), panels.query(_handed_out(r, "memory"), "memory")],
            min=0,
            max=1,
        ),
        panels.timeseries(
            "Tasks without a place by reason",
            description=(
                "Why tasks and actors wait: for resources (the cluster is full), infeasible (no node can ever take "
                "them), for a worker process to start, for memory."
            ),
            unit="short",
            queries=[
                panels.query(promql.total(r.select("ray_scheduler_unscheduleable_tasks"), ("Reason",)), "{{Reason}}")
            ],
            min=0,
        ),
        panels.timeseries(
            "Replica actors by state",
            description=(
                "Serve's replicas as Ray's actors. PENDING_CREATION that stays means that they cannot be placed."
            ),
            unit="short",
            queries=[panels.query(actors, "{{State}}")],
            min=0,
        ),
        panels.timeseries(
            "Autoscaler's nodes",
            description="Nodes that run and that the cluster autoscaler is starting.",
            unit="short",
            queries=[
                panels.query(promql.total(r.select("autoscaler_active_nodes")), "running"),
                panels.query(promql.total(r.select("autoscaler_pending_nodes")), "starting"),
            ],
            min=0,
            width=12,
        ),
        panels.timeseries(
            "Nodes that failed to start",
            description="Nodes that the cluster autoscaler lost recently, by type.",
            unit="short",
            queries=[
                panels.query(promql.total(r.select("autoscaler_recently_failed_nodes"), ("NodeType",)), "{{NodeType}}")
            ],
            min=0,
            absent="a node that the autoscaler lost",
            width=12,
        ),
    ]


def _controller(r: Reader) -> list[Panel]:
    def part(name: str) -> str:
        return promql.total(r.select(f"ray_serve_controller_{name}_duration_s"), (), "max")

    lag = promql.total(
        r.scope.rate(
            "ray_serve_event_loop_scheduling_latency_ms_bucket",
            WINDOW,
            component='=~"controller|proxy|unknown"',
        ),
        ("component", "loop_type", "le"),
    )
    pending = promql.lasting(r.scope, "ray_serve_long_poll_pending_clients", WINDOW)
    return [
        panels.timeseries(
            "Control loop",
            description=(
                "How long one round of the controller takes. Above a second, scaling and health checks come late."
            ),
            unit="s",
            queries=[panels.query(part("control_loop"), "whole round")],
            min=0,
        ),
        panels.timeseries(
            "Parts of the control loop",
            description="Where the round goes: deployments and applications grow with the number of replicas.",
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
            description="Rounds per second. Near 0 the controller is stuck.",
            unit="ops",
            queries=[
                panels.query(
                    promql.total(
                        f"deriv({r.select('ray_serve_controller_num_control_loops')}[{WINDOW}])",
                        (r.settings.cluster_label,),
                        "max",
                    ),
                    "loops",
                )
            ],
            min=0,
        ),
        panels.timeseries(
            "News from controller to clients p95",
            description=(
                "How long routes, replicas and configuration take from the controller to proxies and handles. A late "
                "message means requests sent to replicas that are gone."
            ),
            unit="ms",
            queries=[panels.query(_quantile(r, 0.95, "ray_serve_long_poll_latency_ms"), "p95")],
            min=0,
        ),
        panels.timeseries(
            "Clients waiting for news",
            description="Proxies and handles that listen to the controller: the most in the interval.",
            unit="short",
            queries=[panels.query(promql.total(pending), "clients")],
            min=0,
        ),
        panels.timeseries(
            "Event loop lag p99",
            description=(
                "How late the event loops of controller and proxies get their turn. Hundreds of milliseconds in a "
                "proxy delay every request on that node."
            ),
            unit="ms",
            queries=[panels.query(promql.quantile(0.99, lag), "{{component}} {{loop_type}}")],
            min=0,
        ),
    ]


def _proxies(r: Reader) -> list[Panel]:
    requests = promql.total(promql.ingress_requests(r.scope, WINDOW), NODE)
    ongoing = promql.lasting(r.scope, "ray_serve_num_ongoing_http_requests", WINDOW)
    process = r.select("ray_component_rss_bytes", Component=f'=~"ray::ProxyActor{promql.METHOD}"')
    stopped = promql.events(r.scope, "ray_serve_proxy_shutdown_duration_ms_bucket", ("le",), window="$__interval")
    return [
        panels.state_timeline(
            "Proxy status",
            description="Status of the proxy on each node. DRAINING is normal while a node is being removed.",
            queries=[
                panels.query(
                    promql.total(r.select("ray_serve_proxy_status"), ("node_ip_address",), "min"),
                    "{{node_ip_address}}",
                )
            ],
            states=common.PROXY_STATES,
            width=12,
        ),
        panels.timeseries(
            "Requests by proxy",
            description=(
                "Requests answered per second on each node. Uneven lines mean that the load balancer in front is "
                "uneven."
            ),
            unit="reqps",
            queries=[panels.query(requests, "{{instance}}")],
            width=12,
        ),
        panels.timeseries(
            "Requests in the proxies",
            description=(
                "The most HTTP requests that each proxy had in hand in the interval. Ray drops this series when the "
                "figure does not change for 20 s, even with requests in hand: see the deployments for what is stuck."
            ),
            unit="short",
            queries=[panels.query(promql.total(ongoing, ("node_ip_address",)), "{{node_ip_address}}")],
            min=0,
        ),
        panels.timeseries(
            "Memory of the proxies",
            description=(
                "Resident memory of the proxy on each node. Growth without end is a leak or ever longer queues."
            ),
            unit="bytes",
            queries=[panels.query(promql.total(process, NODE), "{{instance}}")],
            min=0,
        ),
        panels.timeseries(
            "Time to stop a proxy p95",
            description="How long proxies took to drain and stop, over the whole time range.",
            unit="ms",
            queries=[panels.query(promql.quantile(0.95, promql.over_range(stopped)), "p95")],
            min=0,
            absent="a proxy that was stopped (a node that was drained)",
        ),
    ]


def _gcs(r: Reader) -> list[Panel]:
    storage = promql.total(r.scope.rate("ray_gcs_storage_operation_count_total", WINDOW), ("Operation",))
    lag = promql.total(r.select("ray_io_context_event_loop_lag_ms"), ("Component",), "max")
    cluster = (r.settings.cluster_label,)
    return [
        panels.timeseries(
            "Worker crashes",
            description="Worker processes that died without being asked to, in each interval, the first one counted.",
            unit="short",
            queries=[
                panels.query(
                    _events(r, "ray_unintentional_worker_failures_total", cluster, alive="ray_running_jobs"),
                    "crashes",
                )
            ],
            bars=True,
        ),
        panels.timeseries(
            "Workers killed for memory",
            description="Workers that Ray's memory monitor killed, by kind, in each interval.",
            unit="short",
            queries=[
                panels.query(
                    promql.events(r.scope, "ray_memory_manager_worker_eviction_total", ("Type",), window="$__interval"),
                    "{{Type}}",
                )
            ],
            bars=True,
            absent="an out-of-memory kill",
        ),
        panels.timeseries(
            "Node failures",
            description="Nodes that the GCS declared dead, in each interval.",
            unit="short",
            queries=[panels.query(promql.events(r.scope, "ray_node_failure_total", (), window="$__interval"), "nodes")],
            bars=True,
            absent="a node failure",
        ),
        panels.timeseries(
            "Node health check p95",
            description=(
                "How long the GCS waits for each node to answer its health check. At the failure threshold it "
                "declares the node dead."
            ),
            unit="ms",
            queries=[panels.query(_quantile(r, 0.95, "ray_health_check_rpc_latency_ms"), "p95")],
            min=0,
        ),
        panels.timeseries(
            "GCS storage operations",
            description="Reads and writes of the GCS per second.",
            unit="ops",
            queries=[panels.query(storage, "{{Operation}}")],
            min=0,
        ),
        panels.timeseries(
            "GCS and raylet loop lag",
            description=(
                "The worst delay of the event loops in GCS and raylet. Seconds here mean that the whole cluster is "
                "slow to react."
            ),
            unit="ms",
            queries=[panels.query(lag, "{{Component}}")],
            min=0,
        ),
    ]


def _gpus(r: Reader, whole: Reader) -> list[Panel]:
    by = ("instance", "GpuIndex")
    legend = "{{instance}} GPU {{GpuIndex}}"
    memory = promql.total(r.select("ray_node_gram_used"), by, "max")
    free = promql.total(r.select("ray_node_gram_available"), by, "max")
    return [
        panels.timeseries(
            "GPUs handed out",
            description="Share of the cluster's GPUs promised to replicas.",
            unit="percentunit",
            queries=[panels.query(_handed_out(whole, "GPU"), "GPU")],
            width=24,
            min=0,
            max=1,
            absent=NEEDS_GPU,
        ),
        panels.timeseries(
            "GPU use",
            description=(
                "Share of time in which each GPU had work. Low while replicas wait in line means that the CPU side or "
                "the batching holds it back."
            ),
            unit="percent",
            queries=[panels.query(promql.total(r.select("ray_node_gpus_utilization"), by, "max"), legend)],
            width=6,
            min=0,
            max=100,
            absent=NEEDS_GPU,
        ),
        panels.timeseries(
            "GPU memory",
            description="Share of each GPU's memory in use.",
            unit="percentunit",
            queries=[panels.query(f"{memory} / ({memory} + {free})", legend)],
            width=6,
            min=0,
            max=1,
            thresholds=common.UTILIZATION,
            absent=NEEDS_GPU,
        ),
        panels.timeseries(
            "GPU temperature",
            description="Temperature of each GPU; data centre cards slow down in the eighties.",
            unit="celsius",
            queries=[panels.query(promql.total(r.select("ray_node_gpu_temperature_celsius"), by, "max"), legend)],
            width=6,
            absent=NEEDS_GPU,
        ),
        panels.timeseries(
            "GPU power",
            description="Power that each GPU draws.",
            unit="watt",
            queries=[
                panels.query(f"{promql.total(r.select('ray_node_gpu_power_milliwatts'), by, 'max')} / 1000", legend)
            ],
            width=6,
            min=0,
            absent=NEEDS_GPU,
        ),
    ]


def _haproxy(r: Reader) -> list[Panel]:
    return [
        panels.timeseries(
            "HAProxy processes",
            description="Processes on each node: one, and one more for each reload that still drains.",
            unit="short",
            queries=[
                panels.query(promql.total(r.select("ray_serve_haproxy_process_count"), NODE, "max"), "{{instance}}")
            ],
            min=0,
            absent=NEEDS_HAPROXY,
        ),
        panels.timeseries(
            "Targets out of step",
            description="Replicas that HAProxy and the controller disagree about. Normal is 0.",
            unit="short",
            queries=[
                panels.query(promql.total(r.select("ray_serve_haproxy_target_mismatch"), NODE, "max"), "{{instance}}")
            ],
            min=0,
            absent=NEEDS_HAPROXY,
        ),
        panels.timeseries(
            "Time to update HAProxy p95",
            description="From the controller's news to the finished reload.",
            unit="s",
            queries=[panels.query(_quantile(r, 0.95, "ray_serve_haproxy_update_latency_s"), "p95")],
            min=0,
            absent=NEEDS_HAPROXY,
        ),
    ]


def _scrape(r: Reader) -> list[Panel]:
    ray = {"job": '=~"ray.*"'}
    return [
        panels.timeseries(
            "Targets that answer",
            description=(
                "1 while Prometheus can scrape a target of the Ray job. A dead node leaves the discovery file and "
                "ends its line instead of falling to 0."
            ),
            unit="short",
            queries=[panels.query(promql.total(r.select("up", **ray), NODE, "min"), "{{instance}}")],
            min=0,
            max=1,
        ),
        panels.timeseries(
            "Scrape time",
            description="How long each scrape takes. Near the scrape timeout figures start to miss.",
            unit="s",
            queries=[
                panels.query(promql.total(r.select("scrape_duration_seconds", **ray), NODE, "max"), "{{instance}}")
            ],
            min=0,
        ),
        panels.timeseries(
            "Series per target",
            description=(
                "Samples in each scrape. Ray never drops the series of dead replicas, so this grows with every restart "
                "until the node's agent restarts."
            ),
            unit="short",
            queries=[
                panels.query(promql.total(r.select("scrape_samples_scraped", **ray), NODE, "max"), "{{instance}}")
            ],
            min=0,
        ),
    ]
