"""Serve's metrics of its own work: autoscaling, lifecycle, controller, event loops."""

from __future__ import annotations

from servescope.catalog.labels import (
    AUTOSCALING_ONLY,
    BORN_AT_1,
    DEPLOYMENT,
    GROWS,
    LOOP,
    NO_REPLICA_SINCE_260,
    REPLICA,
    VANISHES,
)
from servescope.catalog.model import COUNTER, GAUGE, HISTOGRAM, Metric, group

AUTOSCALING = group(
    "Autoscaling",
    Metric(
        name="ray_serve_autoscaling_target_replicas",
        kind=GAUGE,
        unit="replicas",
        labels=DEPLOYMENT,
        help="Replicas that the controller wants.",
        appears="every deployment, also those with a fixed num_replicas",
        since="2.54",
    ),
    Metric(
        name="ray_serve_autoscaling_desired_replicas",
        kind=GAUGE,
        unit="replicas",
        labels=DEPLOYMENT,
        help="The policy's decision before the bounds, after the delays.",
        appears=AUTOSCALING_ONLY,
        trap=(
            "At max_replicas it shows the excess for one tick in upscale_delay_s (0.3 % of the time at 30 s): an "
            "alert on desired above target never fires. Demand is total_requests / target_ongoing_requests."
        ),
        since="2.54",
    ),
    Metric(
        name="ray_serve_autoscaling_total_requests",
        kind=GAUGE,
        unit="requests",
        labels=DEPLOYMENT,
        help="Requests that the autoscaler sees: its input.",
        appears=AUTOSCALING_ONLY,
        since="2.54",
    ),
    Metric(
        name="ray_serve_autoscaling_target_ongoing_requests",
        kind=GAUGE,
        unit="requests",
        labels=DEPLOYMENT,
        help="The configured number of requests that each replica should carry.",
        appears=AUTOSCALING_ONLY,
        since="2.60",
    ),
    Metric(
        name="ray_serve_autoscaling_policy_execution_time_ms",
        kind=GAUGE,
        unit="ms",
        labels=(*DEPLOYMENT, "policy_scope"),
        help="Time that the autoscaling policy took.",
        appears=AUTOSCALING_ONLY,
        since="2.54",
    ),
    Metric(
        name="ray_serve_autoscaling_handle_metrics_delay_ms",
        kind=HISTOGRAM,
        unit="ms",
        labels=DEPLOYMENT,
        help="Age of the callers' figures when they reach the controller.",
        appears=AUTOSCALING_ONLY,
        trap="A gauge in 2.54, with one more label.",
        since="2.60",
    ),
    Metric(
        name="ray_serve_autoscaling_replica_metrics_delay_ms",
        kind=HISTOGRAM,
        unit="ms",
        labels=DEPLOYMENT,
        help="Age of the replicas' figures when they reach the controller.",
        appears="record_autoscaling_stats defined, or RAY_SERVE_COLLECT_AUTOSCALING_METRICS_ON_HANDLE=0",
        trap="A gauge in 2.54, with one more label.",
        since="2.60",
    ),
    Metric(
        name="ray_serve_user_autoscaling_stats_latency_ms",
        kind=HISTOGRAM,
        unit="ms",
        labels=REPLICA,
        help="Time that the user's record_autoscaling_stats took.",
        appears="record_autoscaling_stats defined",
        since="2.54",
    ),
    Metric(
        name="ray_serve_record_autoscaling_stats_failed_total",
        kind=COUNTER,
        unit="errors",
        labels=(*REPLICA, "exception_name"),
        help="Calls of record_autoscaling_stats that raised or came too late.",
        appears="first such failure",
        trap=BORN_AT_1,
        since="2.54",
        needs="a record_autoscaling_stats that fails",
    ),
    Metric(
        name="ray_serve_num_compacted_nodes_total",
        kind=COUNTER,
        unit="nodes",
        labels=(),
        help="Nodes that the controller emptied to save them.",
        appears="node compaction in use",
        trap=BORN_AT_1,
        since="2.60",
        needs="node compaction",
    ),
)

LIFECYCLE = group(
    "Replica lifecycle",
    Metric(
        name="ray_serve_deployment_replica_starts_total",
        kind=COUNTER,
        unit="starts",
        labels=REPLICA,
        help="Replicas started, one new series for each.",
        appears="first start of a replica",
        trap=(
            f"{BORN_AT_1} sum(increase()) was 0 after three starts. The replica tells it: one that dies within the "
            "report interval is never counted (of 48 starts 2 were), so count "
            "ray_serve_replica_startup_latency_ms_count."
        ),
    ),
    Metric(
        name="ray_serve_replica_startup_latency_ms",
        kind=HISTOGRAM,
        unit="ms",
        labels=DEPLOYMENT,
        help="Time from a replica's creation until it was ready.",
        appears="first start",
        since="2.54",
        older_labels=NO_REPLICA_SINCE_260,
    ),
    Metric(
        name="ray_serve_replica_initialization_latency_ms",
        kind=HISTOGRAM,
        unit="ms",
        labels=DEPLOYMENT,
        help="Time that a replica's constructor took.",
        appears="first start",
        since="2.54",
        older_labels=NO_REPLICA_SINCE_260,
    ),
    Metric(
        name="ray_serve_replica_reconfigure_latency_ms",
        kind=HISTOGRAM,
        unit="ms",
        labels=DEPLOYMENT,
        help="Time that reconfiguring took.",
        appears="a user_config change",
        since="2.54",
        older_labels=NO_REPLICA_SINCE_260,
    ),
    Metric(
        name="ray_serve_replica_shutdown_duration_ms",
        kind=HISTOGRAM,
        unit="ms",
        labels=DEPLOYMENT,
        help="Time from the signal to stop until the replica was gone.",
        appears="a replica stopped",
        since="2.54",
        older_labels=NO_REPLICA_SINCE_260,
    ),
    Metric(
        name="ray_serve_health_check_latency_ms",
        kind=HISTOGRAM,
        unit="ms",
        labels=DEPLOYMENT,
        help="Time that a health check took.",
        since="2.54",
        older_labels=NO_REPLICA_SINCE_260,
    ),
    Metric(
        name="ray_serve_health_check_failures_total",
        kind=COUNTER,
        unit="failures",
        labels=REPLICA,
        help="Failed health checks; a crashed replica counts as one.",
        appears="first failure",
        trap=f"{BORN_AT_1} Without the replica label when high-cardinality tags are off.",
        since="2.54",
    ),
)

CONTROLLER = group(
    "Controller",
    Metric(
        name="ray_serve_controller_num_control_loops",
        kind=GAUGE,
        unit="loops",
        labels=("actor_id",),
        help="Rounds of the controller since it started; about nine a second when idle.",
        trap=f"{GROWS} Use deriv(); rate() would hide nothing but Prometheus knows it as a gauge.",
    ),
    *(
        Metric(name=f"ray_serve_controller_{part}_duration_s", kind=GAUGE, unit="s", labels=(), help=text)
        for part, text in (
            ("control_loop", "Time of the controller's last round."),
            ("deployment_state_update", "Part of the round spent on deployments."),
            ("application_state_update", "Part of the round spent on applications."),
            ("proxy_state_update", "Part of the round spent on proxies."),
            ("node_update", "Part of the round spent on nodes."),
            ("sleep", "Time that the controller slept after its last round."),
        )
    ),
)

LOOPS = group(
    "Event loops and long poll",
    Metric(
        name="ray_serve_event_loop_scheduling_latency_ms",
        kind=HISTOGRAM,
        unit="ms",
        labels=LOOP,
        help="How late an event loop gets its turn; component says whose, loop_type which.",
        appears="after five seconds of a process's life",
        since="2.54",
    ),
    Metric(
        name="ray_serve_event_loop_monitoring_iterations_total",
        kind=COUNTER,
        unit="iterations",
        labels=LOOP,
        help="A heartbeat of each event loop.",
        since="2.54",
    ),
    Metric(
        name="ray_serve_event_loop_tasks",
        kind=GAUGE,
        unit="tasks",
        labels=LOOP,
        help="Tasks pending on an event loop.",
        since="2.54",
    ),
    Metric(
        name="ray_serve_long_poll_latency_ms",
        kind=HISTOGRAM,
        unit="ms",
        labels=("namespace",),
        help="Time from a change in the controller until a client had it.",
        appears="first update of a namespace",
        trap=(
            "One namespace for each deployment unless RAY_SERVE_COMPACT_LONG_POLL_METRIC_TAGS=1. A new client is told "
            "what changed up to two minutes before, and that counts as latency."
        ),
        since="2.54",
    ),
    Metric(
        name="ray_serve_long_poll_host_transmission_counter_total",
        kind=COUNTER,
        unit="messages",
        labels=("namespace_or_state",),
        help="Messages that the controller sent to its clients.",
        appears="first update of a namespace",
    ),
    Metric(
        name="ray_serve_long_poll_pending_clients",
        kind=GAUGE,
        unit="clients",
        labels=("namespace",),
        help="Clients that wait for news from the controller.",
        appears=VANISHES,
        since="2.54",
        event_driven=True,
    ),
)
