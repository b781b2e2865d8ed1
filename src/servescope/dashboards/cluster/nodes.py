"""The nodes: utilization, resource allocation and GPUs."""

from __future__ import annotations

from servescope import promql
from servescope.dashboards import common
from servescope.dashboards.cluster.figures import NODE
from servescope.grafana import panels
from servescope.grafana.colors import PALETTE
from servescope.grafana.model import Column, Panel
from servescope.promql.signals import NODE_CPU, NODE_DISK, NODE_MEMORY, Reader

NEEDS_GPU = "a GPU on a node"


def use(reader: Reader) -> list[Panel]:
    """CPU, memory, disk, network and object store of each node."""
    node = (*reader.settings.cluster_key, *NODE)
    head = promql.total(reader.select("ray_node_cpu_count"), (*node, "RayNodeType"), "max")
    spilled = promql.total(reader.select("ray_object_store_memory", Location='="SPILLED"'), NODE)
    shared = promql.total(reader.select("ray_object_store_memory", Location='="MMAP_SHM"'), NODE)
    # Proxies and the controller add the method that they run, the dashboard its modules; together they are one process
    # each, or one program.
    own = reader.select("ray_component_cpu_percentage", Component='!~"ray::(SERVE_REPLICA|ServeReplica|IDLE).*"')
    program = f"(?:ray::)?([^.]*?)(?:_[A-Z][A-Za-z]*)?{promql.METHOD}"
    own = f'label_replace({own}, "program", "$1", "Component", "{program}")'
    return [
        panels.table(
            "Node details",
            description="Current resource use, one row for each node that exports metrics.",
            queries=[
                panels.query(head),
                panels.query(reader.read(NODE_CPU, node)),
                panels.query(reader.read(NODE_MEMORY, node)),
                panels.query(reader.read(NODE_DISK, node)),
            ],
            columns=[
                *common.cluster_columns(reader.settings),
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
            description="CPU utilization of each node.",
            unit="percentunit",
            queries=[panels.query(common.largest(reader.read(NODE_CPU, NODE)), "{{instance}}")],
            width=12,
            min=0,
            max=1,
            thresholds=common.UTILIZATION,
        ),
        panels.timeseries(
            "Memory",
            description=(
                "Memory utilization of each node (of the container limit where there is one). Ray kills workers at 95 "
                "%."
            ),
            unit="percentunit",
            queries=[panels.query(common.largest(reader.read(NODE_MEMORY, NODE)), "{{instance}}")],
            min=0,
            max=1,
            thresholds=common.UTILIZATION,
        ),
        panels.timeseries(
            "Disk",
            description=(
                "Utilization of the disk that holds Ray's temporary directory, by node. Ray stops storing objects at "
                "95 %."
            ),
            unit="percentunit",
            queries=[panels.query(common.largest(reader.read(NODE_DISK, NODE)), "{{instance}}")],
            min=0,
            max=1,
            thresholds=common.UTILIZATION,
        ),
        panels.timeseries(
            "Object store",
            description=(
                "Shared memory in use by objects, and objects spilled to disk because the memory was full. Large "
                "requests, responses and model weights pass through it; spilling slows them down."
            ),
            unit="bytes",
            queries=[
                panels.query(common.largest(shared, most=10), "{{instance}} memory"),
                panels.query(common.largest(spilled, most=10), "{{instance}} spilled"),
            ],
            min=0,
            colors={"/spilled$/": PALETTE.at_risk},
        ),
        panels.timeseries(
            "Network",
            description="Bytes per second received and sent by each node, loopback excluded.",
            unit="Bps",
            queries=[
                panels.query(
                    common.largest(_of_node(reader, "ray_node_network_receive_speed"), most=10), "{{instance}} in"
                ),
                panels.query(
                    common.largest(_of_node(reader, "ray_node_network_send_speed"), most=10), "{{instance}} out"
                ),
            ],
            min=0,
        ),
        panels.timeseries(
            "Disk traffic",
            description="Bytes per second read from and written to the disks of each node.",
            unit="Bps",
            queries=[
                panels.query(
                    common.largest(_of_node(reader, "ray_node_disk_io_read_speed"), most=10), "{{instance}} read"
                ),
                panels.query(
                    common.largest(_of_node(reader, "ray_node_disk_io_write_speed"), most=10), "{{instance}} written"
                ),
            ],
            min=0,
        ),
        panels.timeseries(
            "Ray system processes",
            description=(
                "CPU use of raylet, GCS, agents, proxies and the controller, replicas excluded. 100 % is one core."
            ),
            unit="percent",
            queries=[panels.query(promql.total(own, ("program",)), "{{program}}")],
            min=0,
        ),
    ]


def _of_node(reader: Reader, gauge: str) -> str:
    return promql.total(reader.select(gauge), NODE, "max")


def _allocated(reader: Reader, resource: str) -> str:
    used = promql.total(reader.select("ray_resources", Name=f'="{resource}"', State='="USED"'))
    return promql.ratio(used, promql.total(reader.select("ray_resources", Name=f'="{resource}"')))


def resources(reader: Reader) -> list[Panel]:
    """Logical resources, and what is unschedulable."""
    actors = promql.total(reader.select("ray_actors", Source='="gcs"', Name='=~"ServeReplica:.*"'), ("State",))
    return [
        panels.timeseries(
            "CPU and memory allocated",
            description=(
                "Share of the cluster's logical CPUs and memory that Ray has allocated to replicas and tasks. It does "
                "not show how busy they are; at 100 % the next replica is unschedulable."
            ),
            unit="percentunit",
            queries=[
                panels.query(_allocated(reader, "CPU"), "CPU"),
                panels.query(_allocated(reader, "memory"), "memory"),
            ],
            min=0,
            max=1,
        ),
        panels.timeseries(
            "Unschedulable tasks by reason",
            description=(
                "Tasks and actors that wait, by reason: resources (the cluster is full), infeasible (no node can ever "
                "fit them), a worker process that has to start, memory."
            ),
            unit="short",
            queries=[
                panels.query(
                    promql.total(reader.select("ray_scheduler_unscheduleable_tasks"), ("Reason",)), "{{Reason}}"
                )
            ],
            min=0,
        ),
        panels.timeseries(
            "Replica actors by state",
            description=(
                "Serve's replica actors by state. A PENDING_CREATION that persists means that replicas are "
                "unschedulable."
            ),
            unit="short",
            queries=[panels.query(actors, "{{State}}")],
            min=0,
        ),
        panels.timeseries(
            "Autoscaler nodes",
            description="Nodes that run, and nodes that the cluster autoscaler is starting.",
            unit="short",
            queries=[
                panels.query(promql.total(reader.select("autoscaler_active_nodes")), "running"),
                panels.query(promql.total(reader.select("autoscaler_pending_nodes")), "starting"),
            ],
            min=0,
            width=12,
        ),
        panels.timeseries(
            "Node launch failures",
            description="Nodes that recently failed, as the cluster autoscaler reports them, by type. Normal is 0.",
            unit="short",
            queries=[
                panels.query(
                    promql.total(reader.select("autoscaler_recently_failed_nodes"), ("NodeType",)), "{{NodeType}}"
                )
            ],
            min=0,
            absent="a node that failed under the autoscaler",
            width=12,
        ),
    ]


def gpus(reader: Reader, whole: Reader) -> list[Panel]:
    """Use, memory, temperature and power of each GPU."""
    by = ("instance", "GpuIndex")
    legend = "{{instance}} GPU {{GpuIndex}}"
    memory = promql.total(reader.select("ray_node_gram_used"), by, "max")
    free = promql.total(reader.select("ray_node_gram_available"), by, "max")
    return [
        panels.timeseries(
            "GPUs allocated",
            description="Share of the cluster's GPUs that are allocated to replicas and tasks.",
            unit="percentunit",
            queries=[panels.query(_allocated(whole, "GPU"), "GPU")],
            width=24,
            min=0,
            max=1,
            absent=NEEDS_GPU,
        ),
        panels.timeseries(
            "GPU utilization",
            description=(
                "Share of time in which each GPU was busy. Low while requests queue means that the CPU side or the "
                "batching is the bottleneck."
            ),
            unit="percent",
            queries=[
                panels.query(
                    common.largest(promql.total(reader.select("ray_node_gpus_utilization"), by, "max")), legend
                )
            ],
            width=6,
            min=0,
            max=100,
            absent=NEEDS_GPU,
        ),
        panels.timeseries(
            "GPU memory",
            description="Memory utilization of each GPU.",
            unit="percentunit",
            queries=[panels.query(common.largest(f"{memory} / ({memory} + {free})"), legend)],
            width=6,
            min=0,
            max=1,
            thresholds=common.UTILIZATION,
            absent=NEEDS_GPU,
        ),
        panels.timeseries(
            "GPU temperature",
            description="Temperature of each GPU. Data centre cards throttle between 80 and 90 °C.",
            unit="celsius",
            queries=[
                panels.query(
                    common.largest(promql.total(reader.select("ray_node_gpu_temperature_celsius"), by, "max")), legend
                )
            ],
            width=6,
            absent=NEEDS_GPU,
        ),
        panels.timeseries(
            "GPU power",
            description="Power draw of each GPU.",
            unit="watt",
            queries=[
                panels.query(
                    common.largest(f"{promql.total(reader.select('ray_node_gpu_power_milliwatts'), by, 'max')} / 1000"),
                    legend,
                )
            ],
            width=6,
            min=0,
            absent=NEEDS_GPU,
        ),
    ]
