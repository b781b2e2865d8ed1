"""Nodes: lost or draining ones, disks, memory, object store, GPUs."""

from __future__ import annotations

from servescope.rules import series
from servescope.rules.alert import Alert, Case, Group
from servescope.rules.expressions import Expressions
from servescope.rules.remarks import NO_DRILL_WITHOUT_GPU
from servescope.settings import Settings

GPU_LABELS = ("instance", "GpuIndex")


def node_series(metric: str, labels: str = "") -> str:
    """A series of one node."""
    more = f",{labels}" if labels else ""
    return f'{metric}{{ip="10.0.0.1",instance="n1"{more}}}'


def build(settings: Settings) -> Group:
    """The alerts of this group, in the order of the rule file."""
    exprs = Expressions(settings)
    return Group(
        name="nodes",
        title="Nodes and GPUs",
        alerts=(
            node_lost(exprs),
            node_draining(exprs),
            disk_filling(exprs),
            disk_full(exprs),
            memory_high(exprs),
            oom_kills(exprs),
            object_store_spilling(exprs),
            gpu_memory_full(exprs),
            gpu_hot(exprs),
        ),
    )


def disk_percent(exprs: Expressions) -> str:
    """How full the disk with Ray's temporary directory is, 0 to 100, by node."""
    return exprs.total("max", exprs.now("ray_node_disk_utilization_percentage"), "instance")


def node_lost(exprs: Expressions) -> Alert:
    lost = exprs.events("ray_node_failure_total", "10m")
    stopped = exprs.events("autoscaler_stopped_nodes_total", "15m")
    return Alert(
        name="RayClusterNodeLost",
        severity="warning",
        for_="",
        labels=(),
        expr=(
            f"{lost}\n# nodes that the autoscaler takes away are counted as dead too\n- ({stopped} or 0 * {lost}) > 0"
        ),
        summary="A node was lost.",
        description="The GCS declared {{ $value }} nodes dead within the last ten minutes.",
        meaning=(
            "The node or its raylet ended without being drained, or was cut off. A dead node leaves the "
            "discovery file, so `up` says nothing."
        ),
        impact="Requests on its replicas fail; capacity is lost until replicas start elsewhere.",
        diagnosis=(
            ("Nodes that are up:", "sum(ray_cluster_active_nodes)"),
            ("Replicas that are missing: see RayServeReplicasMissing.", ""),
        ),
        mitigation=("Look at the machine; a preempted spot node is replaced by the autoscaler.",),
        panel=("servescope-cluster", "Node failures"),
        case=Case(
            at="20m",
            fires={series.series("ray_node_failure_total", Component="gcs_server"): "_x60 1x"},
            quiet={"autoscaler_stopped_nodes_total": "3x55 4x"},
        ),
        drill="kill-node",
    )


def node_draining(exprs: Expressions) -> Alert:
    return Alert(
        name="RayClusterNodeDraining",
        severity="info",
        for_="15m",
        labels=("node_ip_address",),
        expr=exprs.total("group", exprs.now("ray_serve_proxy_status") + " == 4", "node_ip_address"),
        summary="A node has been draining for long.",
        description="The proxy on {{ $labels.node_ip_address }} has been DRAINING for 15 minutes.",
        meaning="The node is to be taken away and still has requests, or nobody takes it.",
        impact="None.",
        diagnosis=(("Requests in that proxy:", "max_over_time(ray_serve_num_ongoing_http_requests[1m])"),),
        mitigation=("Long streams hold a node: end them, or wait.",),
        panel=("servescope-cluster", "Proxy status"),
        case=Case(
            at="30m",
            fires={series.STATUS_OF_PROXY: "2x8 4x"},
            quiet={series.STATUS_OF_PROXY: "2x8 4x50 5x"},
            labels={"node_ip_address": "10.0.0.1"},
        ),
        no_drill="it takes a node whose last replica has left and a request that does not end: the unit test "
        "carries it",
    )


def disk_filling(exprs: Expressions) -> Alert:
    disk = disk_percent(exprs)
    free = exprs.scope.select("ray_node_disk_free")
    used = series.node_series("ray_node_disk_utilization_percentage")
    return Alert(
        name="RayClusterDiskFilling",
        severity="warning",
        for_="5m",
        labels=("instance",),
        expr=(
            f"{disk} > {100 * exprs.settings.disk_ratio:g}\n"
            "# or full within a day at the pace of the last six hours\n"
            f"or {disk} > 60\n"
            f"and {exprs.total('min', f'{free} + 4 * delta({free}[6h])', 'instance')} < 0"
        ),
        summary="A node's disk is filling.",
        description=(
            "The disk with Ray's temporary directory on {{ $labels.instance }} is {{ $value | humanize }} % full."
        ),
        meaning=(
            "Ray never deletes old sessions, and logs, spilled objects and core dumps lie there too. At 95 % "
            "Ray places no more work on the node."
        ),
        impact="None yet.",
        diagnosis=(
            ("Free:", "ray_node_disk_free"),
            ("What is it? `du -xh --max-depth=2 /tmp/ray | sort -h | tail` on the node.", ""),
        ),
        mitigation=("Delete old `/tmp/ray/session_*` folders, never the one that `session_latest` names.",),
        panel=("servescope-cluster", "Disk"),
        case=Case(
            at="15m",
            fires={used: f"{100 * exprs.settings.disk_ratio + 1:g}x"},
            quiet={used: f"{100 * exprs.settings.disk_ratio:g}x"},
            labels={"instance": "n1"},
        ),
        drill="full-disk",
    )


def disk_full(exprs: Expressions) -> Alert:
    return Alert(
        name="RayClusterDiskFull",
        severity="critical",
        for_="1m",
        labels=("instance",),
        expr=f"{disk_percent(exprs)} >= 95",
        summary="A node's disk is full.",
        description=(
            "The disk with Ray's temporary directory on {{ $labels.instance }} is {{ $value | humanize }} % full."
        ),
        meaning="From 95 % on Ray places no more actors and tasks there (local_fs_capacity_threshold).",
        impact="New replicas cannot start there; writing logs and spilling objects fails.",
        diagnosis=(("Free:", "ray_node_disk_free"),),
        mitigation=("As RayClusterDiskFilling says, now.",),
        panel=("servescope-cluster", "Disk"),
        case=Case(
            at="10m",
            fires={series.node_series("ray_node_disk_utilization_percentage"): "95x"},
            quiet={series.node_series("ray_node_disk_utilization_percentage"): "94.9x"},
            labels={"instance": "n1"},
            also=("RayClusterDiskFilling",),
            quiet_also=("RayClusterDiskFilling",),
        ),
        drill="full-disk",
    )


def memory_high(exprs: Expressions) -> Alert:
    memory = exprs.total("max", f"{exprs.now('ray_node_mem_used')} / {exprs.now('ray_node_mem_total')}", "instance")
    return Alert(
        name="RayClusterMemoryHigh",
        severity="warning",
        for_="5m",
        labels=("instance",),
        expr=f"{memory} > {exprs.settings.memory_ratio:g}",
        summary="A node's memory is nearly full.",
        description="{{ $value | humanizePercentage }} of the memory of {{ $labels.instance }} is in use.",
        meaning="At 95 % Ray's memory monitor kills workers.",
        impact="None yet; a killed replica drops its requests.",
        diagnosis=(
            ("Who holds it?", "topk(10, ray_component_rss_bytes)"),
            ("The object store:", "ray_object_store_used_memory"),
        ),
        mitigation=(
            "Give replicas `memory` in ray_actor_options so that fewer are placed on a node; find what grows.",
        ),
        panel=("servescope-cluster", "Memory"),
        case=Case(
            at="15m",
            fires={
                series.node_series("ray_node_mem_used"): f"{100 * exprs.settings.memory_ratio + 1:g}x",
                series.node_series("ray_node_mem_total"): "100x",
            },
            quiet={series.node_series("ray_node_mem_used"): f"{100 * exprs.settings.memory_ratio:g}x"},
            labels={"instance": "n1"},
        ),
        no_drill="filling the memory of the machine that runs the drill would end the drill: the unit test carries it",
    )


def oom_kills(exprs: Expressions) -> Alert:
    evicted = series.series(
        "ray_memory_manager_worker_eviction_total",
        Type="MemoryManager.ActorEviction.Total",
        Name="x",
        NodeAddress="10.0.0.1",
    )
    killed = exprs.events("ray_memory_manager_worker_eviction_total", "15m", "NodeAddress")
    return Alert(
        name="RayClusterOomKills",
        severity="warning",
        for_="",
        labels=("NodeAddress",),
        expr=f"{killed} > 0",
        summary="Ray killed workers to save memory.",
        description="The memory monitor killed {{ $value }} workers on {{ $labels.NodeAddress }} within 15 minutes.",
        meaning=(
            "The node's memory passed 95 % (RAY_memory_usage_threshold); Ray kills the worker that is "
            "cheapest to try again."
        ),
        impact="The requests of a killed replica fail.",
        diagnosis=(
            (
                "Who was killed?",
                "topk(10, last_over_time(ray_memory_manager_worker_eviction_total[1m]) unless "
                "last_over_time(ray_memory_manager_worker_eviction_total[1m] offset 15m))",
            ),
            ("Memory by component:", "topk(10, ray_component_rss_bytes)"),
        ),
        mitigation=("Fewer or smaller replicas on a node; find the one that grows.",),
        panel=("servescope-cluster", "OOM-killed workers"),
        case=Case(at="20m", fires={evicted: "_x60 1x"}, quiet={evicted: "1x"}, labels={"NodeAddress": "10.0.0.1"}),
        drill="oom-kill",
    )


def object_store_spilling(exprs: Expressions) -> Alert:
    on_disk = series.node_series("ray_object_store_memory", Location="SPILLED", ObjectState="SEALED")
    spilled = {"Location": '="SPILLED"'}
    spilled_now = exprs.total("sum", exprs.now("ray_object_store_memory", **spilled), "instance")
    spilled_before = exprs.total("sum", exprs.ago("ray_object_store_memory", "10m", **spilled), "instance")
    return Alert(
        name="RayClusterObjectStoreSpilling",
        severity="warning",
        for_="5m",
        labels=("instance",),
        expr=(
            f"{spilled_now} > 0\n"
            "# what was spilled once and lies there is no trouble\n"
            f"and {spilled_now} > {spilled_before}"
        ),
        summary="The object store spills to disk.",
        description="{{ $value | humanize1024 }}B of objects of {{ $labels.instance }} lie on disk, and it grows.",
        meaning=(
            "More objects are alive than the object store holds; reading them back takes time and fills the disk."
        ),
        impact="Calls that pass large arguments or results get slow.",
        diagnosis=(("By place:", "sum by (Location) (ray_object_store_memory)"), ("Who owns them? `ray memory`.", "")),
        mitigation=("Pass smaller objects between deployments, drop references sooner, or enlarge the object store.",),
        panel=("servescope-cluster", "Object store"),
        case=Case(
            at="30m",
            fires={on_disk: "0+1000000x"},
            quiet={on_disk: "9000000x"},
            labels={"instance": "n1"},
        ),
        drill="spill",
    )


def gpu_memory_full(exprs: Expressions) -> Alert:
    gpu_used, gpu_free = exprs.now("ray_node_gram_used"), exprs.now("ray_node_gram_available")
    gpu_memory = exprs.total("max", f"{gpu_used} / ({gpu_used} + {gpu_free})", *GPU_LABELS)
    return Alert(
        name="RayGpuMemoryFull",
        severity="warning",
        for_="10m",
        labels=GPU_LABELS,
        expr=f"{gpu_memory} > {exprs.settings.gpu_memory_ratio:g}",
        summary="A GPU's memory is full.",
        description=(
            "{{ $value | humanizePercentage }} of the memory of GPU {{ $labels.GpuIndex }} of "
            "{{ $labels.instance }} is in use."
        ),
        meaning="The next larger batch or longer input may not fit. LLM engines fill 90 % on purpose.",
        impact="Requests that need more fail with an out-of-memory error.",
        diagnosis=(("By process:", "topk(10, ray_component_gpu_memory_mb)"),),
        mitigation=("Smaller batches, fewer models on a replica, or one replica on a GPU.",),
        panel=("servescope-cluster", "GPU memory"),
        case=Case(
            at="20m",
            fires={series.gpu_series("ray_node_gram_used"): "98x", series.gpu_series("ray_node_gram_available"): "2x"},
            quiet={series.gpu_series("ray_node_gram_used"): "97x", series.gpu_series("ray_node_gram_available"): "3x"},
            labels={"instance": "n1", "GpuIndex": "0"},
        ),
        no_drill=NO_DRILL_WITHOUT_GPU,
    )


def gpu_hot(exprs: Expressions) -> Alert:
    temperature = exprs.total("max", exprs.now("ray_node_gpu_temperature_celsius"), *GPU_LABELS)
    return Alert(
        name="RayGpuHot",
        severity="warning",
        for_="5m",
        labels=GPU_LABELS,
        expr=f"{temperature} > {exprs.settings.gpu_celsius}",
        summary="A GPU is hot.",
        description="GPU {{ $labels.GpuIndex }} of {{ $labels.instance }} is at {{ $value }} °C.",
        meaning="Near its limit a GPU slows itself down.",
        impact="Everything on it gets slower.",
        diagnosis=(("Power:", "ray_node_gpu_power_milliwatts"), ("Use:", "ray_node_gpus_utilization")),
        mitigation=("Look at the machine's cooling; move load away.",),
        panel=("servescope-cluster", "GPU temperature"),
        case=Case(
            at="15m",
            fires={series.gpu_series("ray_node_gpu_temperature_celsius"): f"{exprs.settings.gpu_celsius + 1}x"},
            quiet={series.gpu_series("ray_node_gpu_temperature_celsius"): f"{exprs.settings.gpu_celsius}x"},
            labels={"instance": "n1", "GpuIndex": "0"},
        ),
        no_drill="needs a GPU, and a hot one: the unit test carries it",
    )
