"""Nodes: failures, draining, disks, memory, object store, GPUs."""

from __future__ import annotations

from servescope.promql import figures
from servescope.promql.figures import MINUTE
from servescope.rules import series
from servescope.rules.alert import Alert, Case, Group
from servescope.rules.expressions import Expressions
from servescope.rules.remarks import NO_DRILL_WITHOUT_GPU

GPU_LABELS = ("instance", "GpuIndex")


def node_series(metric: str, labels: str = "") -> str:
    """A series of one node."""
    more = f",{labels}" if labels else ""
    return f'{metric}{{ip="10.0.0.1",instance="n1"{more}}}'


def build(exprs: Expressions) -> Group:
    """The alerts of this group, in the order of the rule file."""
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
    lost = exprs.read(figures.NODE_FAILURES)
    stopped = exprs.read(figures.STOPPED_NODES)
    return Alert(
        name="RayClusterNodeLost",
        severity="warning",
        owner="platform",
        for_="",
        labels=(),
        expr=f"{lost}\n# nodes removed by the autoscaler are counted as dead too\n- ({stopped} or 0 * {lost}) > 0",
        summary="A node failed.",
        description="The GCS declared {{ $value }} nodes dead in the last 10 minutes.",
        meaning=(
            "The node or its raylet ended without draining, or was disconnected. A dead node is removed "
            "from the service discovery file, so `up` does not show it."
        ),
        impact="Requests on its replicas fail; capacity is reduced until replicas start elsewhere.",
        diagnosis=(
            ("Active nodes:", "sum(ray_cluster_active_nodes)"),
            ("Are replicas missing? See RayServeReplicasMissing.", ""),
        ),
        mitigation=("Check the machine; the autoscaler replaces a preempted spot node.",),
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
        owner="platform",
        for_="15m",
        every_s=MINUTE,
        labels=("node_ip_address",),
        expr=exprs.total("group", exprs.now("ray_serve_proxy_status") + " == 4", "node_ip_address"),
        summary="A node has been draining for too long.",
        description="The proxy on {{ $labels.node_ip_address }} has been DRAINING for 15 minutes.",
        meaning="The node is to be removed and still has requests in flight, or nothing removes it.",
        impact="None.",
        diagnosis=(("Requests in flight on that proxy:", "max_over_time(ray_serve_num_ongoing_http_requests[1m])"),),
        mitigation=("End the long streams that keep the node busy, or wait.",),
        panel=("servescope-cluster", "Proxy status"),
        case=Case(
            at="30m",
            fires={series.STATUS_OF_PROXY: "2x8 4x"},
            quiet={series.STATUS_OF_PROXY: "2x8 4x50 5x"},
            labels={"node_ip_address": "10.0.0.1"},
        ),
        no_drill=(
            "it takes a node whose last replica has left and a request that does not end; covered by the unit test"
        ),
    )


def disk_filling(exprs: Expressions) -> Alert:
    disk = disk_percent(exprs)
    free = exprs.scope.select("ray_node_disk_free")
    used = series.node_series("ray_node_disk_utilization_percentage")
    return Alert(
        name="RayClusterDiskFilling",
        severity="warning",
        owner="platform",
        for_="5m",
        every_s=MINUTE,
        labels=("instance",),
        expr=(
            f"{disk} > {100 * exprs.settings.disk_ratio:g}\n"
            "# or predicted to be full within a day at the rate of the last six hours\n"
            f"or {disk} > 60\n"
            f"and {exprs.total('min', f'{free} + 4 * delta({free}[6h])', 'instance')} < 0"
        ),
        summary="A node's disk is filling up.",
        description=(
            "The disk with Ray's temporary directory on {{ $labels.instance }} is {{ $value | humanize }} % full."
        ),
        meaning=(
            "Ray never deletes old sessions, and logs, spilled objects and core dumps are there too. At "
            "95 % Ray schedules no more work on the node."
        ),
        impact="None yet.",
        diagnosis=(
            ("Free space:", "ray_node_disk_free"),
            ("What uses it? `du -xh --max-depth=2 /tmp/ray | sort -h | tail` on the node.", ""),
        ),
        mitigation=("Delete old `/tmp/ray/session_*` directories, never the one that `session_latest` points to.",),
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
        owner="platform",
        for_="1m",
        labels=("instance",),
        expr=f"{disk_percent(exprs)} >= 95",
        summary="A node's disk is full.",
        description=(
            "The disk with Ray's temporary directory on {{ $labels.instance }} is {{ $value | humanize }} % full."
        ),
        meaning="From 95 % Ray schedules no more actors and tasks there (local_fs_capacity_threshold).",
        impact="New replicas cannot start there; writing logs and spilling objects fails.",
        diagnosis=(("Free space:", "ray_node_disk_free"),),
        mitigation=("Delete old `/tmp/ray/session_*` directories at once, as described under RayClusterDiskFilling.",),
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
        owner="platform",
        for_="5m",
        every_s=MINUTE,
        labels=("instance",),
        expr=f"{memory} > {exprs.settings.memory_ratio:g}",
        summary="A node's memory usage is high.",
        description="{{ $value | humanizePercentage }} of the memory of {{ $labels.instance }} is in use.",
        meaning="At 95 % Ray's memory monitor kills workers.",
        impact="None yet; a killed replica drops its requests.",
        diagnosis=(
            ("Which processes use it?", "topk(10, ray_component_rss_bytes)"),
            ("Object store memory:", "ray_object_store_used_memory"),
        ),
        mitigation=(
            (
                "Find the process whose memory grows; request `memory` in ray_actor_options so that fewer "
                "replicas are scheduled per node."
            ),
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
        no_drill=(
            "exhausting the memory of the machine that runs the drill would end the drill; covered by the unit test"
        ),
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
        owner="platform",
        for_="",
        labels=("NodeAddress",),
        expr=f"{killed} > 0",
        summary="Workers were OOM-killed.",
        description=(
            "Ray's memory monitor killed {{ $value }} workers on {{ $labels.NodeAddress }} in the last 15 minutes."
        ),
        meaning=(
            "The node's memory usage exceeded 95 % (RAY_memory_usage_threshold); Ray kills the worker "
            "that is cheapest to retry."
        ),
        impact="The requests of a killed replica fail.",
        diagnosis=(
            (
                "Which workers were killed?",
                "topk(10, last_over_time(ray_memory_manager_worker_eviction_total[1m]) unless "
                "last_over_time(ray_memory_manager_worker_eviction_total[1m] offset 15m))",
            ),
            ("Memory by component:", "topk(10, ray_component_rss_bytes)"),
        ),
        mitigation=("Schedule fewer or smaller replicas per node; find the process whose memory grows.",),
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
        owner="platform",
        for_="5m",
        every_s=MINUTE,
        labels=("instance",),
        expr=(
            f"{spilled_now} > 0\n"
            "# ignore objects that were spilled earlier and stay on disk\n"
            f"and {spilled_now} > {spilled_before}"
        ),
        summary="The object store is spilling to disk.",
        description=(
            "{{ $value | humanize1024 }}B of objects on {{ $labels.instance }} are spilled to disk, and "
            "the amount is growing."
        ),
        meaning=(
            "More objects are referenced than the object store can hold; restoring them takes time, and "
            "they fill the disk."
        ),
        impact="Calls with large arguments or results slow down.",
        diagnosis=(
            ("Object store by location:", "sum by (Location) (ray_object_store_memory)"),
            ("Who owns the objects? `ray memory`.", ""),
        ),
        mitigation=("Enlarge the object store, pass smaller objects between deployments, or drop references sooner.",),
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
        owner="application",
        for_="10m",
        every_s=MINUTE,
        labels=GPU_LABELS,
        expr=f"{gpu_memory} > {exprs.settings.gpu_memory_ratio:g}",
        summary="A GPU's memory is almost full.",
        description=(
            "{{ $value | humanizePercentage }} of the memory of GPU {{ $labels.GpuIndex }} on {{ "
            "$labels.instance }} is in use."
        ),
        meaning="The next larger batch or longer input may not fit. LLM engines fill 90 % by design.",
        impact="Requests that need more GPU memory fail with an out-of-memory error.",
        diagnosis=(("GPU memory by process:", "topk(10, ray_component_gpu_memory_mb)"),),
        mitigation=("Use smaller batches, fewer models per replica, or one replica per GPU.",),
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
        owner="platform",
        for_="5m",
        every_s=MINUTE,
        labels=GPU_LABELS,
        expr=f"{temperature} > {exprs.settings.gpu_celsius}",
        summary="A GPU's temperature is high.",
        description="GPU {{ $labels.GpuIndex }} on {{ $labels.instance }} is at {{ $value }} °C.",
        meaning="Close to its temperature limit a GPU throttles.",
        impact="All work on that GPU slows down.",
        diagnosis=(("Power draw:", "ray_node_gpu_power_milliwatts"), ("Utilization:", "ray_node_gpus_utilization")),
        mitigation=("Check the machine's cooling; move load to other nodes.",),
        panel=("servescope-cluster", "GPU temperature"),
        case=Case(
            at="15m",
            fires={series.gpu_series("ray_node_gpu_temperature_celsius"): f"{exprs.settings.gpu_celsius + 1}x"},
            quiet={series.gpu_series("ray_node_gpu_temperature_celsius"): f"{exprs.settings.gpu_celsius}x"},
            labels={"instance": "n1", "GpuIndex": "0"},
        ),
        no_drill="needs a GPU at a high temperature; covered by the unit test",
    )
