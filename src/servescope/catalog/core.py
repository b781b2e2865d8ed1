"""Metrics of Ray's core: scheduling, GCS, autoscaler, dashboard."""

from __future__ import annotations

from servescope.catalog.model import COUNTER, GAUGE, HISTOGRAM, Metric, Origin, Source, group
from servescope.catalog.remarks import FIRST_NON_ZERO

SCHEDULING = group(
    "Actors, tasks and scheduling",
    Metric(
        name="ray_resources",
        kind=GAUGE,
        unit="units",
        labels=("Name", "State"),
        help="Logical resources by state, USED or AVAILABLE.",
    ),
    Metric(
        name="ray_actors",
        kind=GAUGE,
        unit="actors",
        labels=("State", "Name", "Source", "JobId"),
        help="Actors by state; Serve's replicas are named ServeReplica:<application>:<deployment>.",
        trap='Counted twice, by the GCS and by the executors: select Source="gcs".',
    ),
    Metric(
        name="ray_tasks",
        kind=GAUGE,
        unit="tasks",
        labels=("State", "Name", "Source", "IsRetry", "JobId"),
        help="Tasks by state.",
        trap="Task names include replica ids, which makes this the largest core metric.",
    ),
    Metric(
        name="ray_scheduler_unscheduleable_tasks",
        kind=GAUGE,
        unit="tasks",
        labels=("Reason",),
        help="Unschedulable tasks and actors by reason: WaitingForResources, Infeasible, WaitingForWorkers, ...",
    ),
    Metric(
        name="ray_scheduler_tasks", kind=GAUGE, unit="tasks", labels=("State",), help="Tasks in the scheduler by state."
    ),
    Metric(
        name="ray_scheduler_failed_worker_startup_total",
        kind=GAUGE,
        unit="failures",
        labels=("Reason",),
        help="Worker processes that failed to start.",
        trap="A gauge in spite of its name.",
    ),
    Metric(
        name="ray_scheduler_placement_time_ms",
        kind=HISTOGRAM,
        unit="ms",
        labels=("WorkloadType",),
        help="Time to place a task or actor on a node.",
        since="2.54",
    ),
    Metric(
        name="ray_worker_register_time_ms",
        kind=HISTOGRAM,
        unit="ms",
        labels=(),
        help="Time until a new worker process was ready.",
    ),
    Metric(
        name="ray_internal_num_infeasible_scheduling_classes",
        kind=GAUGE,
        unit="kinds",
        labels=(),
        help="Scheduling classes (kinds of task) that no node can fit.",
    ),
    Metric(
        name="ray_unintentional_worker_failures_total",
        kind=COUNTER,
        unit="crashes",
        labels=(),
        help="Worker processes that exited unexpectedly.",
        appears="first crash",
        trap=FIRST_NON_ZERO,
    ),
    Metric(
        name="ray_node_manager_unexpected_worker_failure_total",
        kind=COUNTER,
        unit="crashes",
        labels=("Type", "Name"),
        help="Worker processes that exited unexpectedly, by actor or task name.",
        appears="first crash",
        trap=f"{FIRST_NON_ZERO} Names include replica ids: unbounded cardinality.",
        since="2.60",
    ),
    Metric(
        name="ray_memory_manager_worker_eviction_total",
        kind=COUNTER,
        unit="kills",
        labels=("Type", "Name"),
        help="Workers that the memory monitor killed (OOM kills).",
        appears="first kill",
        trap=FIRST_NON_ZERO,
        needs="an out-of-memory kill",
    ),
)

_GAVE_UP = (
    "The GCS tries to connect to its node's agent for the first 30 s only: if the agent starts later, the GCS exports "
    "nothing until it is restarted."
)

GCS = group(
    "GCS",
    Metric(
        name="ray_node_failure_total",
        kind=COUNTER,
        unit="nodes",
        labels=(),
        help="Nodes that the GCS declared dead.",
        appears="first dead node",
        trap=FIRST_NON_ZERO,
        needs="a node failure",
    ),
    Metric(
        name="ray_health_check_rpc_latency_ms",
        kind=HISTOGRAM,
        unit="ms",
        labels=(),
        help="Time that nodes took to answer the GCS health check.",
    ),
    Metric(
        name="ray_gcs_actors_count",
        kind=GAUGE,
        unit="actors",
        labels=("State",),
        help="Actors by state, as counted by the GCS.",
        trap=_GAVE_UP,
    ),
    Metric(
        name="ray_gcs_placement_group_count",
        kind=GAUGE,
        unit="groups",
        labels=("State",),
        help="Placement groups by state.",
    ),
    Metric(
        name="ray_gcs_storage_operation_count_total",
        kind=COUNTER,
        unit="operations",
        labels=("Operation",),
        help="GCS storage operations.",
    ),
    Metric(
        name="ray_gcs_storage_operation_latency_ms",
        kind=HISTOGRAM,
        unit="ms",
        labels=("Operation",),
        help="Time of GCS storage operations.",
    ),
    Metric(
        name="ray_io_context_event_loop_lag_ms",
        kind=GAUGE,
        unit="ms",
        labels=("Name",),
        help="Lag of the event loops in GCS and raylet.",
    ),
    Metric(name="ray_running_jobs", kind=GAUGE, unit="jobs", labels=(), help="Running jobs; Serve itself is one."),
)

CLUSTER = group(
    "GCS",
    Metric(
        name="ray_cluster_active_nodes",
        kind=GAUGE,
        unit="nodes",
        labels=("node_type",),
        help="Running nodes by type.",
    ),
    origin=Origin.HEAD,
)

AUTOSCALER = group(
    "Autoscaler",
    Metric(
        name="autoscaler_active_nodes", kind=GAUGE, unit="nodes", labels=("NodeType",), help=("Running nodes, by type.")
    ),
    Metric(
        name="autoscaler_pending_nodes",
        kind=GAUGE,
        unit="nodes",
        labels=("NodeType",),
        help=("Nodes that are being started, by type."),
    ),
    Metric(
        name="autoscaler_recently_failed_nodes",
        kind=GAUGE,
        unit="nodes",
        labels=("NodeType",),
        help="Nodes that failed recently, by type.",
        appears="first failed node",
        needs="a node that failed under the autoscaler",
    ),
    Metric(
        name="autoscaler_cluster_resources",
        kind=GAUGE,
        unit="units",
        labels=("resource",),
        help="CPUs, GPUs and TPUs of the cluster.",
    ),
    Metric(
        name="autoscaler_pending_resources",
        kind=GAUGE,
        unit="units",
        labels=("resource",),
        help="CPUs, GPUs and TPUs of nodes that are being started.",
    ),
    Metric(
        name="autoscaler_update_loop_exceptions_total",
        kind=COUNTER,
        unit="errors",
        labels=(),
        help="Iterations of the autoscaler that raised an exception.",
    ),
    Metric(
        name="autoscaler_failed_create_nodes_total",
        kind=COUNTER,
        unit="nodes",
        labels=(),
        help="Nodes that failed to start.",
    ),
    Metric(name="autoscaler_started_nodes_total", kind=COUNTER, unit="nodes", labels=(), help="Nodes started."),
    Metric(name="autoscaler_stopped_nodes_total", kind=COUNTER, unit="nodes", labels=(), help="Nodes stopped."),
    source=Source.AUTOSCALER,
    origin=Origin.HEAD,
)

DASHBOARD = group(
    "Dashboard",
    Metric(
        name="ray_dashboard_api_requests_count_requests_total",
        kind=COUNTER,
        unit="requests",
        labels=("endpoint", "http_status", "method"),
        help="Requests to Ray's dashboard and REST API.",
    ),
    Metric(
        name="ray_dashboard_api_requests_duration_seconds",
        kind=HISTOGRAM,
        unit="s",
        labels=("endpoint", "http_status"),
        help="Duration of requests to Ray's dashboard and REST API.",
    ),
    Metric(
        name="ray_dashboard_event_loop_lag_seconds",
        kind=GAUGE,
        unit="s",
        labels=(),
        help="Lag of the dashboard's event loop.",
    ),
    source=Source.DASHBOARD,
    origin=Origin.DASHBOARD,
)
