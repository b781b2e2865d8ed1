"""servescope-cluster: are the nodes, the controller, the proxies and the GCS healthy?"""

from __future__ import annotations

from servescope import panels, promql
from servescope.dashboards import common, logs
from servescope.panels import PALETTE, Column, Dashboard, Panel, Threshold
from servescope.settings import Settings
from servescope.signals import NODE_CPU, NODE_DISK, NODE_MEMORY, Reader

WINDOW = "$__rate_interval"
NODE: promql.Labels = ("instance",)
NEEDS_GPU = "a GPU on a node"
NEEDS_HAPROXY = "HAProxy mode (RAY_SERVE_ENABLE_HA_PROXY=1)"


def build(settings: Settings, *, recorded: bool = False) -> Dashboard:
    """The dashboard, plain or reading recorded series."""
    r = common.reader(settings, recorded, "instance")
    # Serve's controller and the GCS live on one node; choosing nodes must not hide them.
    whole = common.reader(settings, recorded)
    return panels.dashboard(
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
        variables=[*common.variables(settings, "instance"), panels.logs_variable()],
        annotations=common.rollouts(settings),
        settings=settings,
    )


def _quantile(r: Reader, q: float, histogram: str, by: promql.Labels = (), **extra: str) -> str:
    return promql.quantile(q, promql.total(r.scope.rate(f"{histogram}_bucket", WINDOW, **extra), (*by, "le")))


def _events(r: Reader, counter: str, by: promql.Labels, alive: str) -> str:
    """Events in each interval; zero for every node or cluster that has a series of the gauge `alive`."""
    return f"({promql.events(r.scope, counter, by, '$__interval')}) or 0 * {promql.total(r.select(alive), by, 'group')}"


def _now(r: Reader) -> list[Panel]:
    proxies = r.select("ray_serve_proxy_status")
    healthy = next(code for code, (name, _) in common.PROXY_STATES.items() if name == "HEALTHY")
    loops = promql.total(f"deriv({r.select('ray_serve_controller_num_control_loops')}[{WINDOW}])", (), "max")
    waiting = promql.total(r.select("ray_scheduler_unscheduleable_tasks"))
    return [
        panels.stat(
            "Nodes",
            "Nodes that report figures now. A node that died is missing here half a minute later; it also leaves Ray's "
            "discovery file, so its target does not even count as down.",
            "none",
            [panels.query(promql.total(r.select("ray_node_cpu_count"), (), "count"))],
            thresholds=(Threshold(None, PALETTE.neutral),),
        ),
        panels.stat(
            "Proxies not healthy",
            "Proxies whose status is not HEALTHY (starting, draining or unhealthy). Normal is 0.",
            "none",
            [panels.query(f"count({proxies} != {healthy}) or 0 * count({proxies})")],
            thresholds=common.ANY_IS_BAD,
        ),
        panels.stat(
            "Control loops",
            "Rounds of Serve's controller per second. Around 9 when it idles; near 0 it is stuck, and nothing is "
            "deployed, scaled or replaced.",
            "ops",
            [panels.query(loops)],
            thresholds=(Threshold(None, PALETTE.failing), Threshold(0.5, PALETTE.neutral)),
        ),
        panels.stat(
            "Tasks without a place",
            "Tasks and actors that no node can take now, replicas of Serve among them. Above 0 for more than a minute "
            "means that the cluster is too small or that somebody asks for what no node has.",
            "none",
            [panels.query(waiting)],
            thresholds=common.ANY_IS_RISKY,
        ),
        panels.stat(
            "Fullest disk",
            "The fullest disk that holds Ray's temporary directory. Ray never deletes the logs of old sessions and "
            "stops placing objects at 95 %.",
            "percentunit",
            [panels.query(r.read(NODE_DISK))],
            thresholds=common.UTILIZATION,
        ),
        panels.stat(
            "Fullest memory",
            "The node with the least memory left. Ray's memory monitor kills workers at 95 %.",
            "percentunit",
            [panels.query(r.read(NODE_MEMORY))],
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
            "One line for each node that reports.",
            [
                panels.query(head),
                panels.query(r.read(NODE_CPU, NODE)),
                panels.query(r.read(NODE_MEMORY, NODE)),
                panels.query(r.read(NODE_DISK, NODE)),
            ],
            [
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
            "Share of each node's CPU time in use.",
            "percentunit",
            [panels.query(r.read(NODE_CPU, NODE), "{{instance}}")],
            width=12,
            min=0,
            max=1,
            thresholds=common.UTILIZATION,
        ),
        panels.timeseries(
            "Memory",
            "Share of each node's memory in use (of the container's limit where there is one). At 95 % Ray kills "
            "workers.",
            "percentunit",
            [panels.query(r.read(NODE_MEMORY, NODE), "{{instance}}")],
            min=0,
            max=1,
            thresholds=common.UTILIZATION,
        ),
        panels.timeseries(
            "Disk",
            "Share of the disk under Ray's temporary directory in use.",
            "percentunit",
            [panels.query(r.read(NODE_DISK, NODE), "{{instance}}")],
            min=0,
            max=1,
            thresholds=common.UTILIZATION,
        ),
        panels.timeseries(
            "Object store",
            "Shared memory held by objects, and objects spilled to disk because it was full. Large requests, answers "
            "and weights pass through here; spilling makes them slow.",
            "bytes",
            [panels.query(shared, "{{instance}} memory"), panels.query(spilled, "{{instance}} spilled")],
            min=0,
            colors={"/spilled$/": PALETTE.at_risk},
        ),
        panels.timeseries(
            "Network",
            "Bytes per second in and out of each node, loopback not counted.",
            "Bps",
            [
                panels.query(promql.total(r.select("ray_node_network_receive_speed"), NODE, "max"), "{{instance}} in"),
                panels.query(promql.total(r.select("ray_node_network_send_speed"), NODE, "max"), "{{instance}} out"),
            ],
            min=0,
        ),
        panels.timeseries(
            "Disk traffic",
            "Bytes per second read from and written to the node's disks.",
            "Bps",
            [
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
            "CPU of raylet, GCS, agents, proxies and the controller, apart from replicas. 100 % is one core.",
            "percent",
            [panels.query(promql.total(own, ("program",)), "{{program}}")],
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
            "Share of the cluster's logical CPUs and memory that Ray promised to replicas and tasks. It says nothing "
            "about how busy they are; at 100 % the next replica waits.",
            "percentunit",
            [panels.query(_handed_out(r, "CPU"), "CPU"), panels.query(_handed_out(r, "memory"), "memory")],
            min=0,
            max=1,
        ),
        panels.timeseries(
            "Tasks without a place by reason",
            "Why tasks and actors wait: for resources (the cluster is full), infeasible (no node can ever take them), "
            "for a worker process to start, for memory.",
            "short",
            [panels.query(promql.total(r.select("ray_scheduler_unscheduleable_tasks"), ("Reason",)), "{{Reason}}")],
            min=0,
        ),
        panels.timeseries(
            "Replica actors by state",
            "Serve's replicas as Ray's actors. PENDING_CREATION that stays means that they cannot be placed.",
            "short",
            [panels.query(actors, "{{State}}")],
            min=0,
        ),
        panels.timeseries(
            "Autoscaler's nodes",
            "Nodes that run and that the cluster autoscaler is starting.",
            "short",
            [
                panels.query(promql.total(r.select("autoscaler_active_nodes")), "running"),
                panels.query(promql.total(r.select("autoscaler_pending_nodes")), "starting"),
            ],
            min=0,
            width=12,
        ),
        panels.timeseries(
            "Nodes that failed to start",
            "Nodes that the cluster autoscaler lost recently, by type.",
            "short",
            [panels.query(promql.total(r.select("autoscaler_recently_failed_nodes"), ("NodeType",)), "{{NodeType}}")],
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
            "How long one round of the controller takes. Above a second, scaling and health checks come late.",
            "s",
            [panels.query(part("control_loop"), "whole round")],
            min=0,
        ),
        panels.timeseries(
            "Parts of the control loop",
            "Where the round goes: deployments and applications grow with the number of replicas.",
            "s",
            [
                panels.query(part("deployment_state_update"), "deployments"),
                panels.query(part("application_state_update"), "applications"),
                panels.query(part("proxy_state_update"), "proxies"),
                panels.query(part("node_update"), "nodes"),
            ],
            min=0,
        ),
        panels.timeseries(
            "Control loops per second",
            "Rounds per second. Near 0 the controller is stuck.",
            "ops",
            [
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
            "How long routes, replicas and configuration take from the controller to proxies and handles. A late "
            "message means requests sent to replicas that are gone.",
            "ms",
            [panels.query(_quantile(r, 0.95, "ray_serve_long_poll_latency_ms"), "p95")],
            min=0,
        ),
        panels.timeseries(
            "Clients waiting for news",
            "Proxies and handles that listen to the controller: the most in the interval.",
            "short",
            [panels.query(promql.total(pending), "clients")],
            min=0,
        ),
        panels.timeseries(
            "Event loop lag p99",
            "How late the event loops of controller and proxies get their turn. Hundreds of milliseconds in a proxy "
            "delay every request on that node.",
            "ms",
            [panels.query(promql.quantile(0.99, lag), "{{component}} {{loop_type}}")],
            min=0,
        ),
    ]


def _proxies(r: Reader) -> list[Panel]:
    requests = promql.total(promql.ingress_requests(r.scope, WINDOW), NODE)
    ongoing = promql.lasting(r.scope, "ray_serve_num_ongoing_http_requests", WINDOW)
    process = r.select("ray_component_rss_bytes", Component=f'=~"ray::ProxyActor{promql.METHOD}"')
    stopped = promql.events(r.scope, "ray_serve_proxy_shutdown_duration_ms_bucket", ("le",), "$__interval")
    return [
        panels.state_timeline(
            "Proxy status",
            "Status of the proxy on each node. DRAINING is normal while a node is being removed.",
            [
                panels.query(
                    promql.total(r.select("ray_serve_proxy_status"), ("node_ip_address",), "min"),
                    "{{node_ip_address}}",
                )
            ],
            common.PROXY_STATES,
            width=12,
        ),
        panels.timeseries(
            "Requests by proxy",
            "Requests answered per second on each node. Uneven lines mean that the load balancer in front is uneven.",
            "reqps",
            [panels.query(requests, "{{instance}}")],
            width=12,
        ),
        panels.timeseries(
            "Requests in the proxies",
            "The most HTTP requests that each proxy had in hand in the interval. Ray drops this series when the figure "
            "does not change for 20 s, even with requests in hand: see the deployments for what is stuck.",
            "short",
            [panels.query(promql.total(ongoing, ("node_ip_address",)), "{{node_ip_address}}")],
            min=0,
        ),
        panels.timeseries(
            "Memory of the proxies",
            "Resident memory of the proxy on each node. Growth without end is a leak or ever longer queues.",
            "bytes",
            [panels.query(promql.total(process, NODE), "{{instance}}")],
            min=0,
        ),
        panels.timeseries(
            "Time to stop a proxy p95",
            "How long proxies took to drain and stop, over the whole time range.",
            "ms",
            [panels.query(promql.quantile(0.95, promql.over_range(stopped)), "p95")],
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
            "Worker processes that died without being asked to, in each interval, the first one counted.",
            "short",
            [
                panels.query(
                    _events(r, "ray_unintentional_worker_failures_total", cluster, "ray_running_jobs"),
                    "crashes",
                )
            ],
            bars=True,
        ),
        panels.timeseries(
            "Workers killed for memory",
            "Workers that Ray's memory monitor killed, by kind, in each interval.",
            "short",
            [
                panels.query(
                    promql.events(r.scope, "ray_memory_manager_worker_eviction_total", ("Type",), "$__interval"),
                    "{{Type}}",
                )
            ],
            bars=True,
            absent="an out-of-memory kill",
        ),
        panels.timeseries(
            "Node failures",
            "Nodes that the GCS declared dead, in each interval.",
            "short",
            [panels.query(promql.events(r.scope, "ray_node_failure_total", (), "$__interval"), "nodes")],
            bars=True,
            absent="a node failure",
        ),
        panels.timeseries(
            "Node health check p95",
            "How long the GCS waits for each node to answer its health check. At the failure threshold it declares the "
            "node dead.",
            "ms",
            [panels.query(_quantile(r, 0.95, "ray_health_check_rpc_latency_ms"), "p95")],
            min=0,
        ),
        panels.timeseries(
            "GCS storage operations",
            "Reads and writes of the GCS per second.",
            "ops",
            [panels.query(storage, "{{Operation}}")],
            min=0,
        ),
        panels.timeseries(
            "GCS and raylet loop lag",
            "The worst delay of the event loops in GCS and raylet. Seconds here mean that the whole cluster is slow to "
            "react.",
            "ms",
            [panels.query(lag, "{{Component}}")],
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
            "Share of the cluster's GPUs promised to replicas.",
            "percentunit",
            [panels.query(_handed_out(whole, "GPU"), "GPU")],
            width=24,
            min=0,
            max=1,
            absent=NEEDS_GPU,
        ),
        panels.timeseries(
            "GPU use",
            "Share of time in which each GPU had work. Low while replicas wait in line means that the CPU side or the "
            "batching holds it back.",
            "percent",
            [panels.query(promql.total(r.select("ray_node_gpus_utilization"), by, "max"), legend)],
            width=6,
            min=0,
            max=100,
            absent=NEEDS_GPU,
        ),
        panels.timeseries(
            "GPU memory",
            "Share of each GPU's memory in use.",
            "percentunit",
            [panels.query(f"{memory} / ({memory} + {free})", legend)],
            width=6,
            min=0,
            max=1,
            thresholds=common.UTILIZATION,
            absent=NEEDS_GPU,
        ),
        panels.timeseries(
            "GPU temperature",
            "Temperature of each GPU; data centre cards slow down in the eighties.",
            "celsius",
            [panels.query(promql.total(r.select("ray_node_gpu_temperature_celsius"), by, "max"), legend)],
            width=6,
            absent=NEEDS_GPU,
        ),
        panels.timeseries(
            "GPU power",
            "Power that each GPU draws.",
            "watt",
            [panels.query(f"{promql.total(r.select('ray_node_gpu_power_milliwatts'), by, 'max')} / 1000", legend)],
            width=6,
            min=0,
            absent=NEEDS_GPU,
        ),
    ]


def _haproxy(r: Reader) -> list[Panel]:
    return [
        panels.timeseries(
            "HAProxy processes",
            "Processes on each node: one, and one more for each reload that still drains.",
            "short",
            [panels.query(promql.total(r.select("ray_serve_haproxy_process_count"), NODE, "max"), "{{instance}}")],
            min=0,
            absent=NEEDS_HAPROXY,
        ),
        panels.timeseries(
            "Targets out of step",
            "Replicas that HAProxy and the controller disagree about. Normal is 0.",
            "short",
            [panels.query(promql.total(r.select("ray_serve_haproxy_target_mismatch"), NODE, "max"), "{{instance}}")],
            min=0,
            absent=NEEDS_HAPROXY,
        ),
        panels.timeseries(
            "Time to update HAProxy p95",
            "From the controller's news to the finished reload.",
            "s",
            [panels.query(_quantile(r, 0.95, "ray_serve_haproxy_update_latency_s"), "p95")],
            min=0,
            absent=NEEDS_HAPROXY,
        ),
    ]


def _scrape(r: Reader) -> list[Panel]:
    ray = {"job": '=~"ray.*"'}
    return [
        panels.timeseries(
            "Targets that answer",
            "1 while Prometheus can scrape a target of the Ray job. A dead node leaves the discovery file and ends its "
            "line instead of falling to 0.",
            "short",
            [panels.query(promql.total(r.select("up", **ray), NODE, "min"), "{{instance}}")],
            min=0,
            max=1,
        ),
        panels.timeseries(
            "Scrape time",
            "How long each scrape takes. Near the scrape timeout figures start to miss.",
            "s",
            [panels.query(promql.total(r.select("scrape_duration_seconds", **ray), NODE, "max"), "{{instance}}")],
            min=0,
        ),
        panels.timeseries(
            "Series per target",
            "Samples in each scrape. Ray never drops the series of dead replicas, so this grows with every restart "
            "until the node's agent restarts.",
            "short",
            [panels.query(promql.total(r.select("scrape_samples_scraped", **ray), NODE, "max"), "{{instance}}")],
            min=0,
        ),
    ]
