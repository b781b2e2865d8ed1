"""Nodes: lost or draining ones, disks, memory, object store, GPUs."""

from __future__ import annotations

from servescope.rules.alert import Alert, Case, Group, Terms
from servescope.settings import Settings

GPU_LABELS = ("instance", "GpuIndex")
GPU_TEST = "needs a GPU: where there is one, tests/live/test_gpu.py fills and idles it; the unit test carries it"
GPU = 'GpuIndex="0",GpuDeviceName="H100"'


def node(metric: str, labels: str = "") -> str:
    """A series of one node."""
    more = f",{labels}" if labels else ""
    return f'{metric}{{ip="10.0.0.1",instance="n1"{more}}}'


def build(settings: Settings) -> Group:
    """The group."""
    t = Terms(settings)
    lost = t.events("ray_node_failure_total", "10m")
    stopped = t.events("autoscaler_stopped_nodes_total", "15m")
    disk = t.total("max", t.now("ray_node_disk_utilization_percentage"), "instance")
    free = t.scope.select("ray_node_disk_free")
    memory = t.total("max", f"{t.now('ray_node_mem_used')} / {t.now('ray_node_mem_total')}", "instance")
    killed = t.events("ray_memory_manager_worker_eviction_total", "15m", "NodeAddress")
    spilled = {"Location": '="SPILLED"'}
    spilled_now = t.total("sum", t.now("ray_object_store_memory", **spilled), "instance")
    spilled_before = t.total("sum", t.ago("ray_object_store_memory", "10m", **spilled), "instance")
    gpu_used, gpu_free = t.now("ray_node_gram_used"), t.now("ray_node_gram_available")
    gpu_memory = t.total("max", f"{gpu_used} / ({gpu_used} + {gpu_free})", *GPU_LABELS)
    proxy_labels = ("node_ip_address",)
    return Group(
        "nodes",
        "Nodes and GPUs",
        (
            Alert(
                "RayClusterNodeLost",
                "warning",
                "",
                (),
                f"{lost}\n"
                "# nodes that the autoscaler takes away are counted as dead too\n"
                f"- ({stopped} or 0 * {lost}) > 0",
                "A node was lost.",
                "The GCS declared {{ $value }} nodes dead within the last ten minutes.",
                "The node or its raylet ended without being drained, or was cut off. A dead node leaves the discovery "
                "file, so `up` says nothing.",
                "Requests on its replicas fail; capacity is lost until replicas start elsewhere.",
                (
                    ("Nodes that are up:", "sum(ray_cluster_active_nodes)"),
                    ("Replicas that are missing: see RayServeReplicasMissing.", ""),
                ),
                ("Look at the machine; a preempted spot node is replaced by the autoscaler.",),
                ("servescope-cluster", "Node failures"),
                Case(
                    "20m",
                    {'ray_node_failure_total{Component="gcs_server"}': "_x60 1x"},
                    {"autoscaler_stopped_nodes_total": "3x55 4x"},
                ),
                drill="kill-node",
            ),
            Alert(
                "RayClusterNodeDraining",
                "info",
                "15m",
                proxy_labels,
                f"{t.total('group', t.now('ray_serve_proxy_status') + ' == 4', *proxy_labels)}",
                "A node has been draining for long.",
                "The proxy on {{ $labels.node_ip_address }} has been DRAINING for 15 minutes.",
                "The node is to be taken away and still has requests, or nobody takes it.",
                "None.",
                (("Requests in that proxy:", "max_over_time(ray_serve_num_ongoing_http_requests[1m])"),),
                ("Long streams hold a node: end them, or wait.",),
                ("servescope-cluster", "Proxy status"),
                Case(
                    "30m",
                    {'ray_serve_proxy_status{node_id="x",node_ip_address="10.0.0.1"}': "2x8 4x"},
                    {'ray_serve_proxy_status{node_id="x",node_ip_address="10.0.0.1"}': "2x8 4x50 5x"},
                    {"node_ip_address": "10.0.0.1"},
                ),
                no_drill="it takes a node whose last replica has left and a request that does not end: the unit test "
                "carries it",
            ),
            Alert(
                "RayClusterDiskFilling",
                "warning",
                "5m",
                ("instance",),
                f"{disk} > {100 * settings.disk_ratio:g}\n"
                "# or full within a day at the pace of the last six hours\n"
                f"or {disk} > 60\n"
                f"and {t.total('min', f'{free} + 4 * delta({free}[6h])', 'instance')} < 0",
                "A node's disk is filling.",
                "The disk with Ray's temporary directory on {{ $labels.instance }} is {{ $value | humanize }} % full.",
                "Ray never deletes old sessions, and logs, spilled objects and core dumps lie there too. At 95 % Ray "
                "places no more work on the node.",
                "None yet.",
                (
                    ("Free:", "ray_node_disk_free"),
                    ("What is it? `du -xh --max-depth=2 /tmp/ray | sort -h | tail` on the node.", ""),
                ),
                ("Delete old `/tmp/ray/session_*` folders, never the one that `session_latest` names.",),
                ("servescope-cluster", "Disk"),
                Case(
                    "15m",
                    {node("ray_node_disk_utilization_percentage"): f"{100 * settings.disk_ratio + 1:g}x"},
                    {node("ray_node_disk_utilization_percentage"): f"{100 * settings.disk_ratio:g}x"},
                    {"instance": "n1"},
                ),
                drill="full-disk",
            ),
            Alert(
                "RayClusterDiskFull",
                "critical",
                "1m",
                ("instance",),
                f"{disk} >= 95",
                "A node's disk is full.",
                "The disk with Ray's temporary directory on {{ $labels.instance }} is {{ $value | humanize }} % full.",
                "From 95 % on Ray places no more actors and tasks there (local_fs_capacity_threshold).",
                "New replicas cannot start there; writing logs and spilling objects fails.",
                (("Free:", "ray_node_disk_free"),),
                ("As RayClusterDiskFilling says, now.",),
                ("servescope-cluster", "Disk"),
                Case(
                    "10m",
                    {node("ray_node_disk_utilization_percentage"): "95x"},
                    {node("ray_node_disk_utilization_percentage"): "94.9x"},
                    {"instance": "n1"},
                    also=("RayClusterDiskFilling",),
                    quiet_also=("RayClusterDiskFilling",),
                ),
                drill="full-disk",
            ),
            Alert(
                "RayClusterMemoryHigh",
                "warning",
                "5m",
                ("instance",),
                f"{memory} > {settings.memory_ratio:g}",
                "A node's memory is nearly full.",
                "{{ $value | humanizePercentage }} of the memory of {{ $labels.instance }} is in use.",
                "At 95 % Ray's memory monitor kills workers.",
                "None yet; a killed replica drops its requests.",
                (
                    ("Who holds it?", "topk(10, ray_component_rss_bytes)"),
                    ("The object store:", "ray_object_store_used_memory"),
                ),
                ("Give replicas `memory` in ray_actor_options so that fewer are placed on a node; find what grows.",),
                ("servescope-cluster", "Memory"),
                Case(
                    "15m",
                    {
                        node("ray_node_mem_used"): f"{100 * settings.memory_ratio + 1:g}x",
                        node("ray_node_mem_total"): "100x",
                    },
                    {node("ray_node_mem_used"): f"{100 * settings.memory_ratio:g}x"},
                    {"instance": "n1"},
                ),
                no_drill="filling the memory of the machine that runs the drill would end the drill: the unit test "
                "carries it",
            ),
            Alert(
                "RayClusterOomKills",
                "warning",
                "",
                ("NodeAddress",),
                f"{killed} > 0",
                "Ray killed workers to save memory.",
                "The memory monitor killed {{ $value }} workers on {{ $labels.NodeAddress }} within 15 minutes.",
                "The node's memory passed 95 % (RAY_memory_usage_threshold); Ray kills the worker that is cheapest to "
                "try again.",
                "The requests of a killed replica fail.",
                (
                    (
                        "Who was killed?",
                        "topk(10, last_over_time(ray_memory_manager_worker_eviction_total[1m]) unless "
                        "last_over_time(ray_memory_manager_worker_eviction_total[1m] offset 15m))",
                    ),
                    ("Memory by component:", "topk(10, ray_component_rss_bytes)"),
                ),
                ("Fewer or smaller replicas on a node; find the one that grows.",),
                ("servescope-cluster", "Workers killed for memory"),
                Case(
                    "20m",
                    {
                        'ray_memory_manager_worker_eviction_total{Type="MemoryManager.ActorEviction.Total",Name="x",'
                        'NodeAddress="10.0.0.1"}': "_x60 1x"
                    },
                    {
                        'ray_memory_manager_worker_eviction_total{Type="MemoryManager.ActorEviction.Total",Name="x",'
                        'NodeAddress="10.0.0.1"}': "1x"
                    },
                    {"NodeAddress": "10.0.0.1"},
                ),
                drill="oom-kill",
            ),
            Alert(
                "RayClusterObjectStoreSpilling",
                "warning",
                "5m",
                ("instance",),
                f"{spilled_now} > 0\n"
                "# what was spilled once and lies there is no trouble\n"
                f"and {spilled_now} > {spilled_before}",
                "The object store spills to disk.",
                "{{ $value | humanize1024 }}B of objects of {{ $labels.instance }} lie on disk, and it grows.",
                "More objects are alive than the object store holds; reading them back takes time and fills the disk.",
                "Calls that pass large arguments or results get slow.",
                (
                    ("By place:", "sum by (Location) (ray_object_store_memory)"),
                    ("Who owns them? `ray memory`.", ""),
                ),
                ("Pass smaller objects between deployments, drop references sooner, or enlarge the object store.",),
                ("servescope-cluster", "Object store"),
                Case(
                    "30m",
                    {node("ray_object_store_memory", 'Location="SPILLED",ObjectState="SEALED"'): "0+1000000x"},
                    {node("ray_object_store_memory", 'Location="SPILLED",ObjectState="SEALED"'): "9000000x"},
                    {"instance": "n1"},
                ),
                drill="spill",
            ),
            Alert(
                "RayGpuMemoryFull",
                "warning",
                "10m",
                GPU_LABELS,
                f"{gpu_memory} > {settings.gpu_memory_ratio:g}",
                "A GPU's memory is full.",
                "{{ $value | humanizePercentage }} of the memory of GPU {{ $labels.GpuIndex }} of "
                "{{ $labels.instance }} is in use.",
                "The next larger batch or longer input may not fit. LLM engines fill 90 % on purpose.",
                "Requests that need more fail with an out-of-memory error.",
                (("By process:", "topk(10, ray_component_gpu_memory_mb)"),),
                ("Smaller batches, fewer models on a replica, or one replica on a GPU.",),
                ("servescope-cluster", "GPU memory"),
                Case(
                    "20m",
                    {node("ray_node_gram_used", GPU): "98x", node("ray_node_gram_available", GPU): "2x"},
                    {node("ray_node_gram_used", GPU): "97x", node("ray_node_gram_available", GPU): "3x"},
                    {"instance": "n1", "GpuIndex": "0"},
                ),
                no_drill=GPU_TEST,
            ),
            Alert(
                "RayGpuHot",
                "warning",
                "5m",
                GPU_LABELS,
                f"{t.total('max', t.now('ray_node_gpu_temperature_celsius'), *GPU_LABELS)} > {settings.gpu_celsius}",
                "A GPU is hot.",
                "GPU {{ $labels.GpuIndex }} of {{ $labels.instance }} is at {{ $value }} °C.",
                "Near its limit a GPU slows itself down.",
                "Everything on it gets slower.",
                (("Power:", "ray_node_gpu_power_milliwatts"), ("Use:", "ray_node_gpus_utilization")),
                ("Look at the machine's cooling; move load away.",),
                ("servescope-cluster", "GPU temperature"),
                Case(
                    "15m",
                    {node("ray_node_gpu_temperature_celsius", GPU): f"{settings.gpu_celsius + 1}x"},
                    {node("ray_node_gpu_temperature_celsius", GPU): f"{settings.gpu_celsius}x"},
                    {"instance": "n1", "GpuIndex": "0"},
                ),
                no_drill="needs a GPU, and a hot one: the unit test carries it",
            ),
        ),
    )
