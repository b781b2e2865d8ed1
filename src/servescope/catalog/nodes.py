"""What Ray's agents export of nodes, GPUs, processes and the object store."""

from __future__ import annotations

from servescope.catalog.model import GAUGE, Metric, Origin, group
from servescope.catalog.remarks import A_GPU, GAUGE_THAT_GROWS

NODES = group(
    "Nodes",
    Metric(
        name="ray_node_cpu_utilization",
        kind=GAUGE,
        unit="percent",
        labels=(),
        help="CPU time in use, 0 to 100.",
        trap="As every ray_node_* it stops on all nodes while the GCS is away.",
    ),
    Metric(name="ray_node_cpu_count", kind=GAUGE, unit="cores", labels=(), help="CPUs of the node."),
    Metric(
        name="ray_node_mem_used",
        kind=GAUGE,
        unit="bytes",
        labels=(),
        help="Memory in use, of the container where there is a limit.",
    ),
    Metric(
        name="ray_node_mem_total",
        kind=GAUGE,
        unit="bytes",
        labels=(),
        help="Memory of the node, or the container's limit.",
    ),
    Metric(name="ray_node_mem_available", kind=GAUGE, unit="bytes", labels=(), help="Memory that is free to use."),
    Metric(
        name="ray_node_mem_shared_bytes",
        kind=GAUGE,
        unit="bytes",
        labels=(),
        help="Shared memory, the object store in it.",
    ),
    Metric(
        name="ray_node_mem_used_host",
        kind=GAUGE,
        unit="bytes",
        labels=(),
        help="Memory in use on the host.",
        since="2.60",
    ),
    Metric(
        name="ray_node_mem_total_host", kind=GAUGE, unit="bytes", labels=(), help="Memory of the host.", since="2.60"
    ),
    Metric(
        name="ray_node_disk_usage",
        kind=GAUGE,
        unit="bytes",
        labels=(),
        help="Disk in use under Ray's temporary directory.",
    ),
    Metric(
        name="ray_node_disk_free",
        kind=GAUGE,
        unit="bytes",
        labels=(),
        help="Disk free under Ray's temporary directory.",
    ),
    Metric(
        name="ray_node_disk_utilization_percentage",
        kind=GAUGE,
        unit="percent",
        labels=(),
        help="Share of that disk in use, 0 to 100.",
    ),
    Metric(
        name="ray_node_disk_io_read",
        kind=GAUGE,
        unit="bytes",
        labels=(),
        help="Bytes read from disk.",
        trap=GAUGE_THAT_GROWS,
    ),
    Metric(
        name="ray_node_disk_io_write",
        kind=GAUGE,
        unit="bytes",
        labels=(),
        help="Bytes written to disk.",
        trap=GAUGE_THAT_GROWS,
    ),
    Metric(
        name="ray_node_disk_io_read_speed",
        kind=GAUGE,
        unit="bytes per second",
        labels=(),
        help="Bytes read from disk per second.",
    ),
    Metric(
        name="ray_node_disk_io_write_speed",
        kind=GAUGE,
        unit="bytes per second",
        labels=(),
        help="Bytes written to disk per second.",
    ),
    Metric(
        name="ray_node_disk_read_iops", kind=GAUGE, unit="operations per second", labels=(), help="Reads per second."
    ),
    Metric(
        name="ray_node_disk_write_iops", kind=GAUGE, unit="operations per second", labels=(), help="Writes per second."
    ),
    Metric(
        name="ray_node_network_sent", kind=GAUGE, unit="bytes", labels=(), help="Bytes sent.", trap=GAUGE_THAT_GROWS
    ),
    Metric(
        name="ray_node_network_received",
        kind=GAUGE,
        unit="bytes",
        labels=(),
        help="Bytes received.",
        trap=GAUGE_THAT_GROWS,
    ),
    Metric(
        name="ray_node_network_send_speed",
        kind=GAUGE,
        unit="bytes per second",
        labels=(),
        help="Bytes sent per second, loopback not counted.",
    ),
    Metric(
        name="ray_node_network_receive_speed",
        kind=GAUGE,
        unit="bytes per second",
        labels=(),
        help="Bytes received per second, loopback not counted.",
    ),
    origin=Origin.NODE,
)

_GPU_LABELS = ("GpuIndex", "GpuDeviceName", "GpuUuid")

GPUS = group(
    "GPUs",
    Metric(
        name="ray_node_gpus_utilization",
        kind=GAUGE,
        unit="percent",
        labels=_GPU_LABELS,
        help="Time in which a GPU had work, 0 to 100.",
        appears="nodes with a GPU",
        needs=A_GPU,
        newer_labels={"GpuUuid": "2.60"},
    ),
    Metric(
        name="ray_node_gpus_available",
        kind=GAUGE,
        unit="GPUs",
        labels=_GPU_LABELS,
        help="GPUs of the node.",
        appears="nodes with a GPU",
        needs=A_GPU,
        newer_labels={"GpuUuid": "2.60"},
    ),
    Metric(
        name="ray_node_gram_used",
        kind=GAUGE,
        unit="MB",
        labels=_GPU_LABELS,
        help="GPU memory in use.",
        appears="nodes with a GPU",
        needs=A_GPU,
        newer_labels={"GpuUuid": "2.60"},
    ),
    Metric(
        name="ray_node_gram_available",
        kind=GAUGE,
        unit="MB",
        labels=_GPU_LABELS,
        help="GPU memory free.",
        appears="nodes with a GPU",
        needs=A_GPU,
        newer_labels={"GpuUuid": "2.60"},
    ),
    Metric(
        name="ray_node_gpu_power_milliwatts",
        kind=GAUGE,
        unit="mW",
        labels=_GPU_LABELS,
        help="Power that a GPU draws.",
        appears="nodes with a GPU",
        needs=A_GPU,
        newer_labels={"GpuUuid": "2.60"},
    ),
    Metric(
        name="ray_node_gpu_temperature_celsius",
        kind=GAUGE,
        unit="°C",
        labels=_GPU_LABELS,
        help="Temperature of a GPU.",
        appears="nodes with a GPU",
        needs=A_GPU,
        newer_labels={"GpuUuid": "2.60"},
    ),
    origin=Origin.NODE,
)

_PROCESS = ("Component", "pid")

_SUM_OF_REPLICAS = (
    "Component ray::ServeReplica:<application>:<deployment> with an empty pid holds the sum of that deployment's "
    "replicas on the node."
)

_NO_GPU_LABELS = "Ray declares the labels of the GPU for it and never sets them."

PROCESSES = group(
    "Processes",
    Metric(
        name="ray_component_cpu_percentage",
        kind=GAUGE,
        unit="percent",
        labels=_PROCESS,
        help="CPU of a process, 100 is one core.",
        trap=_SUM_OF_REPLICAS,
        since="2.40",
    ),
    # Ray 2.54 exports rss_mb, uss_mb and mem_shared_bytes.
    Metric(
        name="ray_component_rss_bytes",
        kind=GAUGE,
        unit="bytes",
        labels=_PROCESS,
        help="Resident memory of a process.",
        trap=_SUM_OF_REPLICAS,
        since="2.60",
    ),
    Metric(
        name="ray_component_uss_bytes",
        kind=GAUGE,
        unit="bytes",
        labels=_PROCESS,
        help="Memory that only this process holds.",
        trap=_SUM_OF_REPLICAS,
        since="2.60",
    ),
    Metric(
        name="ray_component_shared_bytes",
        kind=GAUGE,
        unit="bytes",
        labels=_PROCESS,
        help="Memory shared with other processes.",
        trap=_SUM_OF_REPLICAS,
        since="2.60",
    ),
    Metric(
        name="ray_component_num_fds",
        kind=GAUGE,
        unit="files",
        labels=_PROCESS,
        help="Open file descriptors of a process.",
        trap=_SUM_OF_REPLICAS,
        since="2.40",
    ),
    Metric(
        name="ray_component_gpu_percentage",
        kind=GAUGE,
        unit="percent",
        labels=("Component",),
        help="GPU time of a process, 100 is one GPU.",
        appears="processes while they use a GPU",
        needs=A_GPU,
        trap=_NO_GPU_LABELS,
    ),
    Metric(
        name="ray_component_gpu_memory_mb",
        kind=GAUGE,
        unit="MB",
        labels=("Component",),
        help="GPU memory of a process.",
        appears="processes on a GPU",
        needs=A_GPU,
        trap=_NO_GPU_LABELS,
    ),
    origin=Origin.PROCESS,
)

OBJECTS = group(
    "Object store",
    Metric(
        name="ray_object_store_memory",
        kind=GAUGE,
        unit="bytes",
        labels=("Location", "ObjectState"),
        help="Memory of objects by where they are: MMAP_SHM, MMAP_DISK, SPILLED, WORKER_HEAP.",
        trap="For WORKER_HEAP the WorkerId is the only label that tells workers apart.",
    ),
    Metric(
        name="ray_object_store_used_memory", kind=GAUGE, unit="bytes", labels=(), help="Object store memory in use."
    ),
    Metric(
        name="ray_object_store_available_memory", kind=GAUGE, unit="bytes", labels=(), help="Object store memory free."
    ),
    Metric(
        name="ray_object_store_fallback_memory",
        kind=GAUGE,
        unit="bytes",
        labels=(),
        help="Objects that had to go to disk at once.",
    ),
    Metric(
        name="ray_object_store_num_local_objects", kind=GAUGE, unit="objects", labels=(), help="Objects on the node."
    ),
    Metric(
        name="ray_spill_manager_objects",
        kind=GAUGE,
        unit="objects",
        labels=("State",),
        help="Objects pinned, being spilled or restored.",
    ),
    Metric(
        name="ray_spill_manager_objects_bytes",
        kind=GAUGE,
        unit="bytes",
        labels=("State",),
        help="Bytes of those objects.",
    ),
)
