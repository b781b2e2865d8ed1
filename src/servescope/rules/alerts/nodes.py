"""Nodes: lost or draining ones, disks, memory, object store, GPUs."""

from __future__ import annotations

from servescope.rules.alert import Alert, Case, Group
from servescope.rules.expressions import Expressions
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
    t = Expressions(settings)
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
                name="RayClusterNodeLost",
                severity="warning",
                wait="",
                labels=(),
                expr=(
                    f"{lost}\n"
                    "# nodes that the autoscaler takes away are counted as dead too\n"
                    f"- ({stopped} or 0 * {lost}) > 0"
                ),
                summary="A node was lost.",
                description="The GCS declared {{ $value }} nodes dead within the last ten minutes.",
                meaning=(
                    "The node or its raylet ended without being drained, or was cut off. A dead node leaves the "
                    "discovery file, so `up` says nothing."
                ),
                impact="Requests on its replicas fail; capacity is lost until replicas start elsewhere.",
                diagnose=(
                    ("Nodes that are up:", "sum(ray_cluster_active_nodes)"),
                    ("Replicas that are missing: see RayServeReplicasMissing.", ""),
                ),
                mend=("Look at the machine; a preempted spot node is replaced by the autoscaler.",),
                panel=("servescope-cluster", "Node failures"),
                case=Case(
                    at="20m",
                    fires={'ray_node_failure_total{Component="gcs_server"}': "_x60 1x"},
                    quiet={"autoscaler_stopped_nodes_total": "3x55 4x"},
                ),
                drill="kill-node",
            ),
            Alert(
                name="RayClusterNodeDraining",
                severity="info",
                wait="15m",
                labels=proxy_labels,
                expr=f"{t.total('group', t.now('ray_serve_proxy_status') + ' == 4', *proxy_labels)}",
                summary="A node has been draining for long.",
                description="The proxy on {{ $labels.node_ip_address }} has been DRAINING for 15 minutes.",
                meaning="The node is to be taken away and still has requests, or nobody takes it.",
                impact="None.",
                diagnose=(("Requests in that proxy:", "max_over_time(ray_serve_num_ongoing_http_requests[1m])"),),
                mend=("Long streams hold a node: end them, or wait.",),
                panel=("servescope-cluster", "Proxy status"),
                case=Case(
                    at="30m",
                    fires={'ray_serve_proxy_status{node_id="x",node_ip_address="10.0.0.1"}': "2x8 4x"},
                    quiet={'ray_serve_proxy_status{node_id="x",node_ip_address="10.0.0.1"}': "2x8 4x50 5x"},
                    labels={"node_ip_address": "10.0.0.1"},
                ),
                no_drill="it takes a node whose last replica has left and a request that does not end: the unit test "
                "carries it",
            ),
            Alert(
                name="RayClusterDiskFilling",
                severity="warning",
                wait="5m",
                labels=("instance",),
                expr=(
                    f"{disk} > {100 * settings.disk_ratio:g}\n"
                    "# or full within a day at the pace of the last six hours\n"
                    f"or {disk} > 60\n"
                    f"and {t.total('min', f'{free} + 4 * delta({free}[6h])', 'instance')} < 0"
                ),
                summary="A node's disk is filling.",
                description=(
                    "The disk with Ray's temporary directory on {{ $labels.instance }} is {{ $value | humanize }} % "
                    "full."
                ),
                meaning=(
                    "Ray never deletes old sessions, and logs, spilled objects and core dumps lie there too. At 95 % "
                    "Ray places no more work on the node."
                ),
                impact="None yet.",
                diagnose=(
                    ("Free:", "ray_node_disk_free"),
                    ("What is it? `du -xh --max-depth=2 /tmp/ray | sort -h | tail` on the node.", ""),
                ),
                mend=("Delete old `/tmp/ray/session_*` folders, never the one that `session_latest` names.",),
                panel=("servescope-cluster", "Disk"),
                case=Case(
                    at="15m",
                    fires={node("ray_node_disk_utilization_percentage"): f"{100 * settings.disk_ratio + 1:g}x"},
                    quiet={node("ray_node_disk_utilization_percentage"): f"{100 * settings.disk_ratio:g}x"},
                    labels={"instance": "n1"},
                ),
                drill="full-disk",
            ),
            Alert(
                name="RayClusterDiskFull",
                severity="critical",
                wait="1m",
                labels=("instance",),
                expr=f"{disk} >= 95",
                summary="A node's disk is full.",
                description=(
                    "The disk with Ray's temporary directory on {{ $labels.instance }} is {{ $value | humanize }} % "
                    "full."
                ),
                meaning="From 95 % on Ray places no more actors and tasks there (local_fs_capacity_threshold).",
                impact="New replicas cannot start there; writing logs and spilling objects fails.",
                diagnose=(("Free:", "ray_node_disk_free"),),
                mend=("As RayClusterDiskFilling says, now.",),
                panel=("servescope-cluster", "Disk"),
                case=Case(
                    at="10m",
                    fires={node("ray_node_disk_utilization_percentage"): "95x"},
                    quiet={node("ray_node_disk_utilization_percentage"): "94.9x"},
                    labels={"instance": "n1"},
                    also=("RayClusterDiskFilling",),
                    quiet_also=("RayClusterDiskFilling",),
                ),
                drill="full-disk",
            ),
            Alert(
                name="RayClusterMemoryHigh",
                severity="warning",
                wait="5m",
                labels=("instance",),
                expr=f"{memory} > {settings.memory_ratio:g}",
                summary="A node's memory is nearly full.",
                description="{{ $value | humanizePercentage }} of the memory of {{ $labels.instance }} is in use.",
                meaning="At 95 % Ray's memory monitor kills workers.",
                impact="None yet; a killed replica drops its requests.",
                diagnose=(
                    ("Who holds it?", "topk(10, ray_component_rss_bytes)"),
                    ("The object store:", "ray_object_store_used_memory"),
                ),
                mend=(
                    "Give replicas `memory` in ray_actor_options so that fewer are placed on a node; find what grows.",
                ),
                panel=("servescope-cluster", "Memory"),
                case=Case(
                    at="15m",
                    fires={
                        node("ray_node_mem_used"): f"{100 * settings.memory_ratio + 1:g}x",
                        node("ray_node_mem_total"): "100x",
                    },
                    quiet={node("ray_node_mem_used"): f"{100 * settings.memory_ratio:g}x"},
                    labels={"instance": "n1"},
                ),
                no_drill="filling the memory of the machine that runs the drill would end the drill: the unit test "
                "carries it",
            ),
            Alert(
                name="RayClusterOomKills",
                severity="warning",
                wait="",
                labels=("NodeAddress",),
                expr=f"{killed} > 0",
                summary="Ray killed workers to save memory.",
                description=(
                    "The memory monitor killed {{ $value }} workers on {{ $labels.NodeAddress }} within 15 minutes."
                ),
                meaning=(
                    "The node's memory passed 95 % (RAY_memory_usage_threshold); Ray kills the worker that is "
                    "cheapest to try again."
                ),
                impact="The requests of a killed replica fail.",
                diagnose=(
                    (
                        "Who was killed?",
                        "topk(10, last_over_time(ray_memory_manager_worker_eviction_total[1m]) unless "
                        "last_over_time(ray_memory_manager_worker_eviction_total[1m] offset 15m))",
                    ),
                    ("Memory by component:", "topk(10, ray_component_rss_bytes)"),
                ),
                mend=("Fewer or smaller replicas on a node; find the one that grows.",),
                panel=("servescope-cluster", "Workers killed for memory"),
                case=Case(
                    at="20m",
                    fires={
                        'ray_memory_manager_worker_eviction_total{Type="MemoryManager.ActorEviction.Total",Name="x",'
                        'NodeAddress="10.0.0.1"}': "_x60 1x"
                    },
                    quiet={
                        'ray_memory_manager_worker_eviction_total{Type="MemoryManager.ActorEviction.Total",Name="x",'
                        'NodeAddress="10.0.0.1"}': "1x"
                    },
                    labels={"NodeAddress": "10.0.0.1"},
                ),
                drill="oom-kill",
            ),
            Alert(
                name="RayClusterObjectStoreSpilling",
                severity="warning",
                wait="5m",
                labels=("instance",),
                expr=(
                    f"{spilled_now} > 0\n"
                    "# what was spilled once and lies there is no trouble\n"
                    f"and {spilled_now} > {spilled_before}"
                ),
                summary="The object store spills to disk.",
                description=(
                    "{{ $value | humanize1024 }}B of objects of {{ $labels.instance }} lie on disk, and it grows."
                ),
                meaning=(
                    "More objects are alive than the object store holds; reading them back takes time and fills the "
                    "disk."
                ),
                impact="Calls that pass large arguments or results get slow.",
                diagnose=(
                    ("By place:", "sum by (Location) (ray_object_store_memory)"),
                    ("Who owns them? `ray memory`.", ""),
                ),
                mend=(
                    "Pass smaller objects between deployments, drop references sooner, or enlarge the object store.",
                ),
                panel=("servescope-cluster", "Object store"),
                case=Case(
                    at="30m",
                    fires={node("ray_object_store_memory", 'Location="SPILLED",ObjectState="SEALED"'): "0+1000000x"},
                    quiet={node("ray_object_store_memory", 'Location="SPILLED",ObjectState="SEALED"'): "9000000x"},
                    labels={"instance": "n1"},
                ),
                drill="spill",
            ),
            Alert(
                name="RayGpuMemoryFull",
                severity="warning",
                wait="10m",
                labels=GPU_LABELS,
                expr=f"{gpu_memory} > {settings.gpu_memory_ratio:g}",
                summary="A GPU's memory is full.",
                description=(
                    "{{ $value | humanizePercentage }} of the memory of GPU {{ $labels.GpuIndex }} of "
                    "{{ $labels.instance }} is in use."
                ),
                meaning="The next larger batch or longer input may not fit. LLM engines fill 90 % on purpose.",
                impact="Requests that need more fail with an out-of-memory error.",
                diagnose=(("By process:", "topk(10, ray_component_gpu_memory_mb)"),),
                mend=("Smaller batches, fewer models on a replica, or one replica on a GPU.",),
                panel=("servescope-cluster", "GPU memory"),
                case=Case(
                    at="20m",
                    fires={node("ray_node_gram_used", GPU): "98x", node("ray_node_gram_available", GPU): "2x"},
                    quiet={node("ray_node_gram_used", GPU): "97x", node("ray_node_gram_available", GPU): "3x"},
                    labels={"instance": "n1", "GpuIndex": "0"},
                ),
                no_drill=GPU_TEST,
            ),
            Alert(
                name="RayGpuHot",
                severity="warning",
                wait="5m",
                labels=GPU_LABELS,
                expr=(
                    f"{t.total('max', t.now('ray_node_gpu_temperature_celsius'), *GPU_LABELS)} > {settings.gpu_celsius}"
                ),
                summary="A GPU is hot.",
                description="GPU {{ $labels.GpuIndex }} of {{ $labels.instance }} is at {{ $value }} °C.",
                meaning="Near its limit a GPU slows itself down.",
                impact="Everything on it gets slower.",
                diagnose=(("Power:", "ray_node_gpu_power_milliwatts"), ("Use:", "ray_node_gpus_utilization")),
                mend=("Look at the machine's cooling; move load away.",),
                panel=("servescope-cluster", "GPU temperature"),
                case=Case(
                    at="15m",
                    fires={node("ray_node_gpu_temperature_celsius", GPU): f"{settings.gpu_celsius + 1}x"},
                    quiet={node("ray_node_gpu_temperature_celsius", GPU): f"{settings.gpu_celsius}x"},
                    labels={"instance": "n1", "GpuIndex": "0"},
                ),
                no_drill="needs a GPU, and a hot one: the unit test carries it",
            ),
        ),
    )
