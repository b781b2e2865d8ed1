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
        help="CPU utilization, 0 to 100.",
        trap="Like every ray_node_* it stops on all nodes while the GCS is down.",
    ),
    Metric(name="ray_node_cpu_count", kind=GAUGE, unit="cores", labels=(), help="CPUs of the node."),
    Metric(
        name="ray_node_mem_used",
        kind=GAUGE,
        unit="bytes",
        labels=(),
        help="Memory in use, of the container where it has a limit.",
    ),
    Metric(
        name="ray_node_mem_total",
        kind=GAUGE,
        unit="bytes",
        labels=(),
        help="Memory of the node, or the container's limit.",
    ),
    Metric(name="ray_node_mem_available", kind=GAUGE, unit="bytes", labels=(), help="Available memory."),
    Metric(
        name="ray_node_mem_shared_bytes",
        kind=GAUGE,
        unit="bytes",
        labels=(),
        help="Shared memory, object store included.",
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
        help="Used space on the disk that holds Ray's temporary directory.",
    ),
    Metric(
        name="ray_node_disk_free",
        kind=GAUGE,
        unit="bytes",
        labels=(),
        help="Free space on the disk that holds Ray's temporary directory.",
    ),
    Metric(
        name="ray_node_disk_utilization_percentage",
        kind=GAUGE,
        unit="percent",
        labels=(),
        help="Utilization of the disk that holds Ray's temporary directory, 0 to 100.",
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
        help="Bytes sent per second, loopback excluded.",
    ),
    Metric(
        name="ray_node_network_receive_speed",
        kind=GAUGE,
        unit="bytes per second",
        labels=(),
        help="Bytes received per second, loopback excluded.",
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
        help="GPU utilization: share of time in which the GPU was busy, 0 to 100.",
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
        help="Free GPU memory.",
        appears="nodes with a GPU",
        needs=A_GPU,
        newer_labels={"GpuUuid": "2.60"},
    ),
    Metric(
        name="ray_node_gpu_power_milliwatts",
        kind=GAUGE,
        unit="mW",
        labels=_GPU_LABELS,
        help="Power draw of a GPU.",
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
    "Component ray::ServeReplica:<application>:<deployment> with an empty pid is the sum of that deployment's "
    "replicas on the node."
)

_NO_GPU_LABELS = "Ray declares GPU labels for it but never sets them."

PROCESSES = group(
    "Processes",
    Metric(
        name="ray_component_cpu_percentage",
        kind=GAUGE,
        unit="percent",
        labels=_PROCESS,
        help="CPU use of a process; 100 is one core.",
        trap=_SUM_OF_REPLICAS,
        since="2.40",
    ),
    # Ray 2.54 exports rss_mb, uss_mb and mem_shared_bytes.
    Metric(
        name="ray_component_rss_bytes",
        kind=GAUGE,
        unit="bytes",
        labels=_PROCESS,
        help="Resident memory of a process (RSS).",
        trap=_SUM_OF_REPLICAS,
        since="2.60",
    ),
    Metric(
        name="ray_component_uss_bytes",
        kind=GAUGE,
        unit="bytes",
        labels=_PROCESS,
        help="Memory unique to the process (USS).",
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
        help="GPU time of a process; 100 is one GPU.",
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
        help="Memory of objects by location: MMAP_SHM, MMAP_DISK, SPILLED, WORKER_HEAP.",
        trap="For WORKER_HEAP only the WorkerId label distinguishes workers.",
    ),
    Metric(
        name="ray_object_store_used_memory", kind=GAUGE, unit="bytes", labels=(), help="Object store memory in use."
    ),
    Metric(
        name="ray_object_store_available_memory", kind=GAUGE, unit="bytes", labels=(), help="Free object store memory."
    ),
    Metric(
        name="ray_object_store_fallback_memory",
        kind=GAUGE,
        unit="bytes",
        labels=(),
        help="Memory of objects that were allocated on disk because shared memory was full (fallback allocation).",
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
