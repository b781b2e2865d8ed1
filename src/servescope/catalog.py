"""The metric catalogue: every Ray metric that the bundle knows, as plain data.

Measured on Ray 2.60.0 and compared with 2.54.1, 2.40.0 and 2.9.3. Expressions are built from it, a test fails on a name
that is not in it, and a live test fails on an entry that a real Serve no longer exports.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from servescope.errors import ServescopeError


class Kind(str, Enum):
    """How a metric must be queried."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Source(str, Enum):
    """Which endpoint exports a metric."""

    NODE_AGENT = "node agent"  # one on each node, --metrics-export-port (8080)
    AUTOSCALER = "autoscaler"  # on the head, 44217
    DASHBOARD = "dashboard"  # on the head, 44227
    EXPORTER = "servescope exporter"  # ours: what Serve's REST API knows, 9475
    COLLECTOR = "OpenTelemetry Collector"  # what it counts of Serve's spans, 8889
    PROMETHEUS = "Prometheus"  # Prometheus writes it itself
    BLACKBOX = "blackbox exporter"  # probes from outside
    LOG_AGENT = (
        "log agent"  # Fluent Bit or the Collector: its own metrics, and what it counts in the logs (docs/logs.md)
    )


class Origin(Enum):
    """Which labels every sample of a kind of process carries besides the metric's own."""

    WORKER = ("Component", "NodeAddress", "WorkerId", "SessionName", "Version")  # Serve, raylet and GCS
    NODE = ("ip", "IsHeadNode", "RayNodeType", "SessionName", "Version")
    PROCESS = ("ip", "SessionName", "Version")
    HEAD = ("SessionName", "Version")
    DASHBOARD = ("Component", "ip", "pid", "SessionName", "Version")
    NONE = ()


# Ray adds three labels that say nothing; prometheus.yml drops them, a Prometheus of somebody else's may not.
OTEL_SCOPE_LABELS = ("otel_scope_name", "otel_scope_version", "otel_scope_schema_url")


@dataclass(frozen=True)
class Metric:
    """One metric.

    `name` is the exported name: counters with `_total`, histograms without `_bucket` and `_count`. `labels` are its
    own, besides those of its origin. `since` is the first Ray version that exports this name with this kind.
    `appears` says what makes it appear or vanish, `needs` what a plain machine with default settings lacks to see
    it ("" when an ordinary live test triggers it). `newer_labels` and `older_labels` map a label to the first Ray
    version that has it, or that no longer has it.
    """

    name: str
    kind: Kind
    unit: str
    labels: tuple[str, ...]
    help: str
    appears: str = "always"
    trap: str = ""
    since: str = "2.40"
    needs: str = ""
    event_driven: bool = False
    newer_labels: Mapping[str, str] = field(default_factory=dict)
    older_labels: Mapping[str, str] = field(default_factory=dict)
    group: str = ""
    source: Source = Source.NODE_AGENT
    origin: Origin = Origin.WORKER


COUNTER, GAUGE, HISTOGRAM = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM

APPLICATION_STATUS = {
    0: "UNKNOWN",
    1: "DEPLOY_FAILED",
    2: "UNHEALTHY",
    3: "NOT_STARTED",
    4: "DELETING",
    5: "DEPLOYING",
    6: "RUNNING",
}
DEPLOYMENT_STATUS = {
    0: "UNKNOWN",
    1: "DEPLOY_FAILED",
    2: "UNHEALTHY",
    3: "UPDATING",
    4: "UPSCALING",
    5: "DOWNSCALING",
    6: "HEALTHY",
}
PROXY_STATUS = {1: "STARTING", 2: "HEALTHY", 3: "UNHEALTHY", 4: "DRAINING", 5: "DRAINED"}

# Bounds of Ray's histograms by default; RAY_SERVE_REQUEST_LATENCY_BUCKETS_MS changes the first.
LATENCY_BUCKETS_MS = (
    *(1, 2, 5, 10, 20, 50, 100, 200, 300, 400, 500, 1000, 2000, 5000, 10000),
    *(60000, 120000, 300000, 600000),
)
STARTUP_BUCKETS_MS = (*(5, 20, 50, 100, 250, 500, 1000, 2000, 5000, 10000, 20000, 30000, 60000, 120000, 240000),)

_APP = ("application",)
_INGRESS = ("application", "method", "route", "status_code")
_INGRESS_ERROR = ("application", "error_code", "method", "route")
_DEPLOYMENT = ("application", "deployment")
_REPLICA = ("application", "deployment", "replica")
_REPLICA_ROUTE = (*_REPLICA, "route")
_BATCH = (*_DEPLOYMENT, "function_name", "replica")
_HANDLE = ("actor_id", *_DEPLOYMENT, "handle")
_ROUTER = ("actor_id", *_DEPLOYMENT, "handle_source")
_LOOP = ("actor_id", *_DEPLOYMENT, "component", "loop_type")
_PROXY = ("node_id", "node_ip_address")
_NO_REPLICA_SINCE_260 = {"replica": "2.60"}

_BORN_AT_1 = "Its series are born at 1, so increase() misses the first event; use promql.events."
_VANISHES = "event-driven: vanishes 20 s after its last change"
_AUTOSCALING_ONLY = "autoscaling deployments only"
_GAP = "No bucket bound between 10 s and 60 s: quantiles of slow requests are interpolated across that gap."
_HAPROXY = "HAProxy mode (RAY_SERVE_ENABLE_HA_PROXY=1)"
_INGRESS_ROUTER = "HAProxy mode with an ingress request router"
_GPU = "a GPU"
_GROWS = "Exported as a gauge although it only grows."


def _group(
    title: str, *metrics: Metric, source: Source = Source.NODE_AGENT, origin: Origin = Origin.WORKER
) -> tuple[Metric, ...]:
    """The metrics of one heading, which share an endpoint and an origin."""
    return tuple(
        Metric(**{**metric.__dict__, "group": title, "source": source, "origin": origin}) for metric in metrics
    )


_REQUESTS_AT_THE_PROXY = _group(
    "Requests at the proxy",
    Metric(
        "ray_serve_num_http_requests_total",
        COUNTER,
        "requests",
        _INGRESS,
        "HTTP requests that a proxy has answered, whatever the answer.",
        "first request of a route and status",
        'Traffic that belongs to no application has application="": probes of /-/healthz, /-/routes, unmatched 404s. '
        "Under HAProxy the route is the application's prefix.",
    ),
    Metric(
        "ray_serve_num_http_error_requests_total",
        COUNTER,
        "requests",
        _INGRESS_ERROR,
        "HTTP requests answered with 4xx or 5xx.",
        "first such request",
        "Holds every 404, 408, 422 and 499: no measure of the service's own failures.",
    ),
    Metric(
        "ray_serve_num_deployment_http_error_requests_total",
        COUNTER,
        "requests",
        (*_DEPLOYMENT, "error_code", "method", "route"),
        "HTTP requests answered with 4xx or 5xx, by the ingress deployment.",
        "first such request",
        "Holds every 4xx, like its sibling of the whole application.",
    ),
    Metric(
        "ray_serve_http_request_latency_ms",
        HISTOGRAM,
        "ms",
        _INGRESS,
        "Time from an HTTP request's arrival at the proxy to its answer.",
        "first request of a route and status",
        _GAP,
    ),
    Metric(
        "ray_serve_num_ongoing_http_requests",
        GAUGE,
        "requests",
        _PROXY,
        "HTTP requests that a proxy has in hand.",
        _VANISHES,
        "Absent while requests hang: with three requests stuck for 55 s it was gone after 26 s.",
        event_driven=True,
    ),
    Metric(
        "ray_serve_num_grpc_requests_total",
        COUNTER,
        "requests",
        _INGRESS,
        "gRPC requests that a proxy has answered; status_code holds the status name, route the application.",
        "first gRPC request",
        needs="a gRPC ingress with traffic",
    ),
    Metric(
        "ray_serve_num_grpc_error_requests_total",
        COUNTER,
        "requests",
        _INGRESS_ERROR,
        "gRPC requests whose status was not OK.",
        "first such request",
        _BORN_AT_1,
        needs="a gRPC ingress with traffic",
    ),
    Metric(
        "ray_serve_num_deployment_grpc_error_requests_total",
        COUNTER,
        "requests",
        (*_DEPLOYMENT, "error_code", "method", "route"),
        "gRPC requests whose status was not OK, by the ingress deployment.",
        "first such request",
        _BORN_AT_1,
        needs="a gRPC ingress with traffic",
    ),
    Metric(
        "ray_serve_grpc_request_latency_ms",
        HISTOGRAM,
        "ms",
        _INGRESS,
        "Time from a gRPC request's arrival at the proxy to its answer.",
        "first gRPC request",
        _GAP,
        needs="a gRPC ingress with traffic",
    ),
    Metric(
        "ray_serve_num_ongoing_grpc_requests",
        GAUGE,
        "requests",
        _PROXY,
        "gRPC requests that a proxy has in hand.",
        _VANISHES,
        event_driven=True,
        needs="a gRPC ingress with traffic",
    ),
    Metric(
        "ray_serve_proxy_status",
        GAUGE,
        "status code",
        _PROXY,
        "Status of the proxy on each node: 1 STARTING, 2 HEALTHY, 3 UNHEALTHY, 4 DRAINING, 5 DRAINED.",
        since="2.54",
    ),
    Metric(
        "ray_serve_proxy_shutdown_duration_ms",
        HISTOGRAM,
        "ms",
        _PROXY,
        "Time that a proxy took to drain and stop.",
        "a proxy was stopped",
        since="2.54",
        needs="a proxy that was stopped",
    ),
)

_DEPLOYMENTS = _group(
    "Deployments and replicas",
    Metric(
        "ray_serve_application_status",
        GAUGE,
        "status code",
        _APP,
        "Status of each application: 0 UNKNOWN, 1 DEPLOY_FAILED, 2 UNHEALTHY, 3 NOT_STARTED, 4 DELETING, 5 DEPLOYING, "
        "6 RUNNING.",
        trap="Outages shorter than the ten-second report interval never show.",
        since="2.54",
    ),
    Metric(
        "ray_serve_deployment_status",
        GAUGE,
        "status code",
        _DEPLOYMENT,
        "Status of each deployment: 0 UNKNOWN, 1 DEPLOY_FAILED, 2 UNHEALTHY, 3 UPDATING, 4 UPSCALING, 5 DOWNSCALING, "
        "6 HEALTHY.",
        trap="A crash that healed within three seconds stayed 6 in every scrape; look at replica starts.",
        since="2.54",
    ),
    Metric(
        "ray_serve_deployment_request_counter_total",
        COUNTER,
        "calls",
        _REPLICA_ROUTE,
        "Calls that a replica has finished without an exception.",
        "first such call",
        "Leaves every failure out; add the error counter. An HTTPException raised by the code and a rejected request "
        "count as success.",
    ),
    Metric(
        "ray_serve_deployment_error_counter_total",
        COUNTER,
        "calls",
        (*_REPLICA_ROUTE, "exception_type"),
        "Calls that ended in an exception.",
        "first such call",
        f"{_BORN_AT_1} A failure further down shows in each caller too, as RayTaskError(...).",
        newer_labels={"exception_type": "2.60"},
    ),
    Metric(
        "ray_serve_deployment_processing_latency_ms",
        HISTOGRAM,
        "ms",
        _REPLICA_ROUTE,
        "Time that a replica spent on a call, success or not; waiting is not in it.",
        "first call",
        f"{_GAP} The largest Serve family: 22 series for each route and replica.",
    ),
    Metric(
        "ray_serve_deployment_max_processing_latency_ms",
        GAUGE,
        "ms",
        _REPLICA_ROUTE,
        "The longest call of the last 60 s, exact.",
        "first call; reported every 10 s",
        since="2.60",
    ),
    Metric(
        "ray_serve_replica_processing_queries",
        GAUGE,
        "requests",
        _REPLICA,
        "Requests that a replica is working on.",
        trap="Reported again all the time, so it stays while requests hang: use it for saturation.",
    ),
    Metric(
        "ray_serve_replica_utilization_percent",
        GAUGE,
        "percent",
        _REPLICA,
        "Share of a replica's capacity (max_ongoing_requests) that user code filled over 600 s.",
        "first call that finished",
        "A ten-minute window that counts a call only when it has finished: too slow for alerting.",
        since="2.60",
    ),
    Metric(
        "ray_serve_deployment_replica_healthy",
        GAUGE,
        "replicas",
        _REPLICA,
        "1 for a replica that passes its health check, 0 for one that does not.",
        trap="With RAY_SERVE_CONTROLLER_METRICS_INCLUDE_HIGH_CARDINALITY_TAGS=0 it has no replica label and holds the "
        "number of healthy replicas: sum it by deployment, which is right in both. A dead replica's series stays for "
        "about 34 s.",
    ),
)

_HANDLES = _group(
    "Handles and routing",
    Metric(
        "ray_serve_handle_request_counter_total",
        COUNTER,
        "calls",
        (*_DEPLOYMENT, "handle", "route"),
        "Calls made through a deployment handle.",
        "first call through a handle",
        "Its handle label reads application#deployment#id, elsewhere it is the bare id.",
    ),
    Metric(
        "ray_serve_num_router_requests_total",
        COUNTER,
        "calls",
        (*_HANDLE, "route"),
        "Calls that a router has taken in, from proxies and from handles.",
        "first call",
    ),
    Metric(
        "ray_serve_deployment_queued_queries",
        GAUGE,
        "requests",
        _HANDLE,
        "Requests that wait in one caller for a replica of a deployment.",
        "after the first call of a caller",
        "max_queued_requests holds for each caller: compare the fullest caller with it, not the sum.",
    ),
    Metric(
        "ray_serve_num_ongoing_requests_at_replicas",
        GAUGE,
        "requests",
        _HANDLE,
        "Requests that one caller has handed to replicas and whose answer is outstanding.",
        "after the first call of a caller",
    ),
    Metric(
        "ray_serve_num_scheduling_tasks",
        GAUGE,
        "tasks",
        (*_ROUTER, "app"),
        "Routing tasks of a router.",
        _VANISHES,
        event_driven=True,
    ),
    Metric(
        "ray_serve_num_scheduling_tasks_in_backoff",
        GAUGE,
        "tasks",
        (*_ROUTER, "app"),
        "Routing tasks that wait before they try again, because every replica was full.",
        _VANISHES,
        event_driven=True,
    ),
    Metric(
        "ray_serve_request_router_fulfillment_time_ms",
        HISTOGRAM,
        "ms",
        _ROUTER,
        "Time that a request waited before a replica took it.",
        "first call",
        _GAP,
        since="2.54",
    ),
    Metric(
        "ray_serve_request_router_queue_len",
        GAUGE,
        "requests",
        (*_ROUTER, "replica_id"),
        "What a router believes about the requests on each replica.",
        _VANISHES,
        "Names the replica in replica_id, where others say replica.",
        since="2.54",
        event_driven=True,
    ),
    Metric(
        "ray_serve_router_args_resolution_latency_ms",
        HISTOGRAM,
        "ms",
        _HANDLE,
        "Time that a call waited for the results of other calls passed to it.",
        "first call",
        since="2.60",
    ),
    Metric(
        "ray_serve_reserved_slots_active",
        GAUGE,
        "slots",
        _HANDLE,
        "Replica slots reserved through the choose_replica API.",
        "for 20 s after a router starts, then while choose_replica is in use",
        since="2.60",
        event_driven=True,
        needs="the choose_replica API",
    ),
    Metric(
        "ray_serve_routing_stats_delay_ms",
        HISTOGRAM,
        "ms",
        _DEPLOYMENT,
        "Age of a replica's routing statistics when they reach the controller.",
        "record_routing_stats defined",
        since="2.54",
        older_labels=_NO_REPLICA_SINCE_260,
    ),
    Metric(
        "ray_serve_routing_stats_error_total",
        COUNTER,
        "errors",
        (*_REPLICA, "error_type"),
        "Failed or late attempts to read a replica's routing statistics.",
        "first such failure",
        _BORN_AT_1,
        since="2.54",
        needs="a record_routing_stats that fails",
    ),
)

_AUTOSCALING = _group(
    "Autoscaling",
    Metric(
        "ray_serve_autoscaling_target_replicas",
        GAUGE,
        "replicas",
        _DEPLOYMENT,
        "Replicas that the controller wants.",
        "every deployment, also those with a fixed num_replicas",
        since="2.54",
    ),
    Metric(
        "ray_serve_autoscaling_desired_replicas",
        GAUGE,
        "replicas",
        _DEPLOYMENT,
        "The policy's decision before the bounds, after the delays.",
        _AUTOSCALING_ONLY,
        "At max_replicas it shows the excess for one tick in upscale_delay_s (0.3 % of the time at 30 s): an alert on "
        "desired above target never fires. Demand is total_requests / target_ongoing_requests.",
        since="2.54",
    ),
    Metric(
        "ray_serve_autoscaling_total_requests",
        GAUGE,
        "requests",
        _DEPLOYMENT,
        "Requests that the autoscaler sees: its input.",
        _AUTOSCALING_ONLY,
        since="2.54",
    ),
    Metric(
        "ray_serve_autoscaling_target_ongoing_requests",
        GAUGE,
        "requests",
        _DEPLOYMENT,
        "The configured number of requests that each replica should carry.",
        _AUTOSCALING_ONLY,
        since="2.60",
    ),
    Metric(
        "ray_serve_autoscaling_policy_execution_time_ms",
        GAUGE,
        "ms",
        (*_DEPLOYMENT, "policy_scope"),
        "Time that the autoscaling policy took.",
        _AUTOSCALING_ONLY,
        since="2.54",
    ),
    Metric(
        "ray_serve_autoscaling_handle_metrics_delay_ms",
        HISTOGRAM,
        "ms",
        _DEPLOYMENT,
        "Age of the callers' figures when they reach the controller.",
        _AUTOSCALING_ONLY,
        "A gauge in 2.54, with one more label.",
        since="2.60",
    ),
    Metric(
        "ray_serve_autoscaling_replica_metrics_delay_ms",
        HISTOGRAM,
        "ms",
        _DEPLOYMENT,
        "Age of the replicas' figures when they reach the controller.",
        "record_autoscaling_stats defined, or RAY_SERVE_COLLECT_AUTOSCALING_METRICS_ON_HANDLE=0",
        "A gauge in 2.54, with one more label.",
        since="2.60",
    ),
    Metric(
        "ray_serve_user_autoscaling_stats_latency_ms",
        HISTOGRAM,
        "ms",
        _REPLICA,
        "Time that the user's record_autoscaling_stats took.",
        "record_autoscaling_stats defined",
        since="2.54",
    ),
    Metric(
        "ray_serve_record_autoscaling_stats_failed_total",
        COUNTER,
        "errors",
        (*_REPLICA, "exception_name"),
        "Calls of record_autoscaling_stats that raised or came too late.",
        "first such failure",
        _BORN_AT_1,
        since="2.54",
        needs="a record_autoscaling_stats that fails",
    ),
    Metric(
        "ray_serve_num_compacted_nodes_total",
        COUNTER,
        "nodes",
        (),
        "Nodes that the controller emptied to save them.",
        "node compaction in use",
        _BORN_AT_1,
        since="2.60",
        needs="node compaction",
    ),
)

_BATCHING = _group(
    "Batching",
    Metric(
        "ray_serve_actual_batch_size",
        HISTOGRAM,
        "requests",
        _BATCH,
        "Requests in each batch.",
        "first batch",
        "Its mean from _sum was 0.75 in a measurement, although a batch holds at least one.",
        since="2.54",
    ),
    Metric(
        "ray_serve_batch_utilization_percent",
        HISTOGRAM,
        "percent",
        _BATCH,
        "How full each batch was against max_batch_size.",
        "first batch",
        since="2.54",
    ),
    Metric(
        "ray_serve_batches_processed_total",
        COUNTER,
        "batches",
        _BATCH,
        "Batches executed.",
        "first batch",
        since="2.54",
    ),
    Metric(
        "ray_serve_batch_wait_time_ms",
        HISTOGRAM,
        "ms",
        _BATCH,
        "Time that requests waited for their batch to fill.",
        "first batch",
        since="2.54",
    ),
    Metric(
        "ray_serve_batch_execution_time_ms",
        HISTOGRAM,
        "ms",
        _BATCH,
        "Time that a batch took.",
        "first batch",
        since="2.54",
    ),
    Metric(
        "ray_serve_batch_queue_length",
        GAUGE,
        "requests",
        _BATCH,
        "Requests that wait for a batch.",
        _VANISHES,
        since="2.54",
        event_driven=True,
    ),
)

_MULTIPLEXING = _group(
    "Multiplexing",
    Metric(
        "ray_serve_multiplexed_get_model_requests_counter_total",
        COUNTER,
        "calls",
        _REPLICA,
        "Calls that asked for a model.",
        "first such call",
    ),
    Metric(
        "ray_serve_multiplexed_models_load_counter_total",
        COUNTER,
        "models",
        _REPLICA,
        "Models loaded.",
        "first load",
    ),
    Metric(
        "ray_serve_multiplexed_models_unload_counter_total",
        COUNTER,
        "models",
        _REPLICA,
        "Models unloaded.",
        "first unload",
        _BORN_AT_1,
    ),
    Metric(
        "ray_serve_multiplexed_model_load_latency_ms",
        HISTOGRAM,
        "ms",
        _REPLICA,
        "Time to load a model.",
        "first load",
    ),
    Metric(
        "ray_serve_multiplexed_model_unload_latency_ms",
        HISTOGRAM,
        "ms",
        _REPLICA,
        "Time to unload a model.",
        "first unload",
    ),
    Metric(
        "ray_serve_num_multiplexed_models",
        GAUGE,
        "models",
        _REPLICA,
        "Models on a replica.",
        "multiplexed deployments",
    ),
    Metric(
        "ray_serve_registered_multiplexed_model_id",
        GAUGE,
        "1",
        (*_REPLICA, "model_id"),
        "1 while a model is on a replica, 0 after it was unloaded.",
        "multiplexed deployments",
        "Keeps one series for each model ever seen while the replica lives: mind unbounded model ids.",
    ),
)

_LIFECYCLE = _group(
    "Replica lifecycle",
    Metric(
        "ray_serve_deployment_replica_starts_total",
        COUNTER,
        "starts",
        _REPLICA,
        "Replicas started, one new series for each.",
        "first start of a replica",
        f"{_BORN_AT_1} sum(increase()) was 0 after three starts. The replica tells it: one that dies within the report "
        "interval is never counted (of 48 starts 2 were), so count ray_serve_replica_startup_latency_ms_count.",
    ),
    Metric(
        "ray_serve_replica_startup_latency_ms",
        HISTOGRAM,
        "ms",
        _DEPLOYMENT,
        "Time from a replica's creation until it was ready.",
        "first start",
        since="2.54",
        older_labels=_NO_REPLICA_SINCE_260,
    ),
    Metric(
        "ray_serve_replica_initialization_latency_ms",
        HISTOGRAM,
        "ms",
        _DEPLOYMENT,
        "Time that a replica's constructor took.",
        "first start",
        since="2.54",
        older_labels=_NO_REPLICA_SINCE_260,
    ),
    Metric(
        "ray_serve_replica_reconfigure_latency_ms",
        HISTOGRAM,
        "ms",
        _DEPLOYMENT,
        "Time that reconfiguring took.",
        "a user_config change",
        since="2.54",
        older_labels=_NO_REPLICA_SINCE_260,
    ),
    Metric(
        "ray_serve_replica_shutdown_duration_ms",
        HISTOGRAM,
        "ms",
        _DEPLOYMENT,
        "Time from the signal to stop until the replica was gone.",
        "a replica stopped",
        since="2.54",
        older_labels=_NO_REPLICA_SINCE_260,
    ),
    Metric(
        "ray_serve_health_check_latency_ms",
        HISTOGRAM,
        "ms",
        _DEPLOYMENT,
        "Time that a health check took.",
        since="2.54",
        older_labels=_NO_REPLICA_SINCE_260,
    ),
    Metric(
        "ray_serve_health_check_failures_total",
        COUNTER,
        "failures",
        _REPLICA,
        "Failed health checks; a crashed replica counts as one.",
        "first failure",
        f"{_BORN_AT_1} Without the replica label when high-cardinality tags are off.",
        since="2.54",
    ),
)

_CONTROLLER = _group(
    "Controller",
    Metric(
        "ray_serve_controller_num_control_loops",
        GAUGE,
        "loops",
        ("actor_id",),
        "Rounds of the controller since it started; about nine a second when idle.",
        trap=f"{_GROWS} Use deriv(); rate() would hide nothing but Prometheus knows it as a gauge.",
    ),
    *(
        Metric(f"ray_serve_controller_{part}_duration_s", GAUGE, "s", (), text)
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

_LOOPS = _group(
    "Event loops and long poll",
    Metric(
        "ray_serve_event_loop_scheduling_latency_ms",
        HISTOGRAM,
        "ms",
        _LOOP,
        "How late an event loop gets its turn; component says whose, loop_type which.",
        "after five seconds of a process's life",
        since="2.54",
    ),
    Metric(
        "ray_serve_event_loop_monitoring_iterations_total",
        COUNTER,
        "iterations",
        _LOOP,
        "A heartbeat of each event loop.",
        since="2.54",
    ),
    Metric("ray_serve_event_loop_tasks", GAUGE, "tasks", _LOOP, "Tasks pending on an event loop.", since="2.54"),
    Metric(
        "ray_serve_long_poll_latency_ms",
        HISTOGRAM,
        "ms",
        ("namespace",),
        "Time from a change in the controller until a client had it.",
        "first update of a namespace",
        "One namespace for each deployment unless RAY_SERVE_COMPACT_LONG_POLL_METRIC_TAGS=1. A new client is told what "
        "changed up to two minutes before, and that counts as latency.",
        since="2.54",
    ),
    Metric(
        "ray_serve_long_poll_host_transmission_counter_total",
        COUNTER,
        "messages",
        ("namespace_or_state",),
        "Messages that the controller sent to its clients.",
        "first update of a namespace",
    ),
    Metric(
        "ray_serve_long_poll_pending_clients",
        GAUGE,
        "clients",
        ("namespace",),
        "Clients that wait for news from the controller.",
        _VANISHES,
        since="2.54",
        event_driven=True,
    ),
)

_HAPROXY_METRICS = _group(
    "HAProxy",
    Metric(
        "ray_serve_haproxy_process_count",
        GAUGE,
        "processes",
        ("node_id",),
        "HAProxy processes on a node.",
        _HAPROXY,
        since="2.60",
        needs=_HAPROXY,
    ),
    Metric(
        "ray_serve_haproxy_target_mismatch",
        GAUGE,
        "targets",
        ("node_id",),
        "Targets that HAProxy and the controller disagree about.",
        _HAPROXY,
        since="2.60",
        needs=_HAPROXY,
    ),
    Metric(
        "ray_serve_haproxy_update_latency_s",
        HISTOGRAM,
        "s",
        ("node_id",),
        "Time from the controller's news to the finished reload.",
        _HAPROXY,
        since="2.60",
        needs=_HAPROXY,
    ),
    *(
        Metric(
            f"ray_serve_haproxy_ingress_router_{name}",
            kind,
            unit,
            labels,
            text,
            _INGRESS_ROUTER,
            since="2.60",
            needs=_INGRESS_ROUTER,
        )
        for name, kind, unit, labels, text in (
            (
                "requests_total",
                COUNTER,
                "requests",
                _APP,
                "Requests that HAProxy asked the ingress router about.",
            ),
            ("failures_total", COUNTER, "failures", (*_APP, "reason"), "Such requests without an answer."),
            ("truncations_total", COUNTER, "requests", _APP, "Such requests whose body was cut."),
            (
                "server_mismatch_total",
                COUNTER,
                "requests",
                _APP,
                "Such answers that HAProxy could not follow.",
            ),
            ("latency_ms", HISTOGRAM, "ms", (*_APP, "outcome"), "Time that the ingress router took."),
        )
    ),
)

_NODES = _group(
    "Nodes",
    Metric(
        "ray_node_cpu_utilization",
        GAUGE,
        "percent",
        (),
        "CPU time in use, 0 to 100.",
        trap="As every ray_node_* it stops on all nodes while the GCS is away.",
    ),
    Metric("ray_node_cpu_count", GAUGE, "cores", (), "CPUs of the node."),
    Metric("ray_node_mem_used", GAUGE, "bytes", (), "Memory in use, of the container where there is a limit."),
    Metric("ray_node_mem_total", GAUGE, "bytes", (), "Memory of the node, or the container's limit."),
    Metric("ray_node_mem_available", GAUGE, "bytes", (), "Memory that is free to use."),
    Metric("ray_node_mem_shared_bytes", GAUGE, "bytes", (), "Shared memory, the object store in it."),
    Metric("ray_node_mem_used_host", GAUGE, "bytes", (), "Memory in use on the host.", since="2.60"),
    Metric("ray_node_mem_total_host", GAUGE, "bytes", (), "Memory of the host.", since="2.60"),
    Metric("ray_node_disk_usage", GAUGE, "bytes", (), "Disk in use under Ray's temporary directory."),
    Metric("ray_node_disk_free", GAUGE, "bytes", (), "Disk free under Ray's temporary directory."),
    Metric("ray_node_disk_utilization_percentage", GAUGE, "percent", (), "Share of that disk in use, 0 to 100."),
    Metric("ray_node_disk_io_read", GAUGE, "bytes", (), "Bytes read from disk.", trap=_GROWS),
    Metric("ray_node_disk_io_write", GAUGE, "bytes", (), "Bytes written to disk.", trap=_GROWS),
    Metric("ray_node_disk_io_read_speed", GAUGE, "bytes per second", (), "Bytes read from disk per second."),
    Metric("ray_node_disk_io_write_speed", GAUGE, "bytes per second", (), "Bytes written to disk per second."),
    Metric("ray_node_disk_read_iops", GAUGE, "operations per second", (), "Reads per second."),
    Metric("ray_node_disk_write_iops", GAUGE, "operations per second", (), "Writes per second."),
    Metric("ray_node_network_sent", GAUGE, "bytes", (), "Bytes sent.", trap=_GROWS),
    Metric("ray_node_network_received", GAUGE, "bytes", (), "Bytes received.", trap=_GROWS),
    Metric(
        "ray_node_network_send_speed",
        GAUGE,
        "bytes per second",
        (),
        "Bytes sent per second, loopback not counted.",
    ),
    Metric(
        "ray_node_network_receive_speed",
        GAUGE,
        "bytes per second",
        (),
        "Bytes received per second, loopback not counted.",
    ),
    origin=Origin.NODE,
)

_GPU_LABELS = ("GpuIndex", "GpuDeviceName", "GpuUuid")
_GPUS = _group(
    "GPUs",
    *(
        Metric(
            name,
            GAUGE,
            unit,
            _GPU_LABELS,
            text,
            "nodes with a GPU",
            needs=_GPU,
            newer_labels={"GpuUuid": "2.60"},
        )
        for name, unit, text in (
            ("ray_node_gpus_utilization", "percent", "Time in which a GPU had work, 0 to 100."),
            ("ray_node_gpus_available", "GPUs", "GPUs of the node."),
            ("ray_node_gram_used", "MB", "GPU memory in use."),
            ("ray_node_gram_available", "MB", "GPU memory free."),
            ("ray_node_gpu_power_milliwatts", "mW", "Power that a GPU draws."),
            ("ray_node_gpu_temperature_celsius", "°C", "Temperature of a GPU."),
        )
    ),
    origin=Origin.NODE,
)

_PROCESS = ("Component", "pid")
_PROCESSES = _group(
    "Processes",
    *(
        Metric(
            f"ray_component_{name}",
            GAUGE,
            unit,
            _PROCESS,
            text,
            trap="Component ray::ServeReplica:<application>:<deployment> with an empty pid holds the sum of that "
            "deployment's replicas on the node.",
            since=since,
        )
        for name, unit, text, since in (
            ("cpu_percentage", "percent", "CPU of a process, 100 is one core.", "2.40"),
            # Ray 2.54 exports rss_mb, uss_mb and mem_shared_bytes.
            ("rss_bytes", "bytes", "Resident memory of a process.", "2.60"),
            ("uss_bytes", "bytes", "Memory that only this process holds.", "2.60"),
            ("shared_bytes", "bytes", "Memory shared with other processes.", "2.60"),
            ("num_fds", "files", "Open file descriptors of a process.", "2.40"),
        )
    ),
    *(
        Metric(
            f"ray_component_{name}",
            GAUGE,
            unit,
            ("Component",),
            text,
            appears,
            needs=_GPU,
            trap="Ray declares the labels of the GPU for it and never sets them.",
        )
        for name, unit, text, appears in (
            ("gpu_percentage", "percent", "GPU time of a process, 100 is one GPU.", "processes while they use a GPU"),
            ("gpu_memory_mb", "MB", "GPU memory of a process.", "processes on a GPU"),
        )
    ),
    origin=Origin.PROCESS,
)

_OBJECTS = _group(
    "Object store",
    Metric(
        "ray_object_store_memory",
        GAUGE,
        "bytes",
        ("Location", "ObjectState"),
        "Memory of objects by where they are: MMAP_SHM, MMAP_DISK, SPILLED, WORKER_HEAP.",
        trap="For WORKER_HEAP the WorkerId is the only label that tells workers apart.",
    ),
    Metric("ray_object_store_used_memory", GAUGE, "bytes", (), "Object store memory in use."),
    Metric("ray_object_store_available_memory", GAUGE, "bytes", (), "Object store memory free."),
    Metric("ray_object_store_fallback_memory", GAUGE, "bytes", (), "Objects that had to go to disk at once."),
    Metric("ray_object_store_num_local_objects", GAUGE, "objects", (), "Objects on the node."),
    Metric(
        "ray_spill_manager_objects",
        GAUGE,
        "objects",
        ("State",),
        "Objects pinned, being spilled or restored.",
    ),
    Metric("ray_spill_manager_objects_bytes", GAUGE, "bytes", ("State",), "Bytes of those objects."),
)

_SCHEDULING = _group(
    "Actors, tasks and scheduling",
    Metric("ray_resources", GAUGE, "units", ("Name", "State"), "Logical resources, USED and AVAILABLE."),
    Metric(
        "ray_actors",
        GAUGE,
        "actors",
        ("State", "Name", "Source", "JobId"),
        "Actors by state; replicas are named ServeReplica:<application>:<deployment>.",
        trap='Counted by the GCS and by the executors: Source="gcs", or everything counts twice.',
    ),
    Metric(
        "ray_tasks",
        GAUGE,
        "tasks",
        ("State", "Name", "Source", "IsRetry", "JobId"),
        "Tasks by state.",
        trap="Names hold replica ids, which makes it the largest core family.",
    ),
    Metric(
        "ray_scheduler_unscheduleable_tasks",
        GAUGE,
        "tasks",
        ("Reason",),
        "Tasks and actors without a place, and why: WaitingForResources, Infeasible, WaitingForWorkers, ...",
    ),
    Metric("ray_scheduler_tasks", GAUGE, "tasks", ("State",), "Tasks in the scheduler by state."),
    Metric(
        "ray_scheduler_failed_worker_startup_total",
        GAUGE,
        "failures",
        ("Reason",),
        "Worker processes that did not start.",
        trap="A gauge in spite of its name.",
    ),
    Metric(
        "ray_scheduler_placement_time_ms",
        HISTOGRAM,
        "ms",
        ("WorkloadType",),
        "Time to find a place for a task or actor.",
        since="2.54",
    ),
    Metric("ray_worker_register_time_ms", HISTOGRAM, "ms", (), "Time until a new worker process was ready."),
    Metric(
        "ray_internal_num_infeasible_scheduling_classes",
        GAUGE,
        "kinds",
        (),
        "Kinds of task that no node could take.",
    ),
    Metric(
        "ray_unintentional_worker_failures_total",
        COUNTER,
        "crashes",
        (),
        "Worker processes that died without being asked to.",
        "first crash",
        _BORN_AT_1,
    ),
    Metric(
        "ray_node_manager_unexpected_worker_failure_total",
        COUNTER,
        "crashes",
        ("Type", "Name"),
        "The same by actor or task name.",
        "first crash",
        f"{_BORN_AT_1} Names hold replica ids: unbounded.",
        since="2.60",
    ),
    Metric(
        "ray_memory_manager_worker_eviction_total",
        COUNTER,
        "kills",
        ("Type", "Name"),
        "Workers that the memory monitor killed.",
        "first kill",
        _BORN_AT_1,
        needs="an out-of-memory kill",
    ),
)

_GAVE_UP = (
    "The GCS looks for its node's agent for the first 30 s and then gives up for good: where the agent starts slower, "
    "it exports nothing until it is restarted."
)

_GCS = _group(
    "GCS",
    Metric(
        "ray_node_failure_total",
        COUNTER,
        "nodes",
        (),
        "Nodes that the GCS declared dead.",
        "first dead node",
        _BORN_AT_1,
        needs="a node failure",
    ),
    Metric(
        "ray_health_check_rpc_latency_ms",
        HISTOGRAM,
        "ms",
        (),
        "Time that nodes took to answer the GCS' health check.",
    ),
    Metric(
        "ray_gcs_actors_count",
        GAUGE,
        "actors",
        ("State",),
        "Actors by state, as the GCS counts them.",
        trap=_GAVE_UP,
    ),
    Metric("ray_gcs_placement_group_count", GAUGE, "groups", ("State",), "Placement groups by state."),
    Metric(
        "ray_gcs_storage_operation_count_total",
        COUNTER,
        "operations",
        ("Operation",),
        "GCS storage operations.",
    ),
    Metric(
        "ray_gcs_storage_operation_latency_ms",
        HISTOGRAM,
        "ms",
        ("Operation",),
        "Time of GCS storage operations.",
    ),
    Metric(
        "ray_io_context_event_loop_lag_ms",
        GAUGE,
        "ms",
        ("Name",),
        "Delay of the event loops in GCS and raylet.",
    ),
    Metric("ray_running_jobs", GAUGE, "jobs", (), "Jobs that run; Serve itself is one."),
)

_CLUSTER = _group(
    "GCS",
    Metric("ray_cluster_active_nodes", GAUGE, "nodes", ("node_type",), "Nodes that are up, by type."),
    origin=Origin.HEAD,
)

_AUTOSCALER = _group(
    "Autoscaler",
    Metric("autoscaler_active_nodes", GAUGE, "nodes", ("NodeType",), "Nodes that run."),
    Metric("autoscaler_pending_nodes", GAUGE, "nodes", ("NodeType",), "Nodes being started."),
    Metric(
        "autoscaler_recently_failed_nodes",
        GAUGE,
        "nodes",
        ("NodeType",),
        "Nodes that failed lately.",
        "a failed node",
        needs="a node that the autoscaler lost",
    ),
    Metric("autoscaler_cluster_resources", GAUGE, "units", ("resource",), "CPUs, GPUs and TPUs of the cluster."),
    Metric("autoscaler_pending_resources", GAUGE, "units", ("resource",), "The same of nodes being started."),
    Metric(
        "autoscaler_update_loop_exceptions_total",
        COUNTER,
        "errors",
        (),
        "Rounds of the autoscaler that failed.",
    ),
    Metric("autoscaler_failed_create_nodes_total", COUNTER, "nodes", (), "Nodes that could not be started."),
    Metric("autoscaler_started_nodes_total", COUNTER, "nodes", (), "Nodes started."),
    Metric("autoscaler_stopped_nodes_total", COUNTER, "nodes", (), "Nodes stopped."),
    source=Source.AUTOSCALER,
    origin=Origin.HEAD,
)

_DASHBOARD = _group(
    "Dashboard",
    Metric(
        "ray_dashboard_api_requests_count_requests_total",
        COUNTER,
        "requests",
        ("endpoint", "http_status", "method"),
        "Requests to Ray's dashboard and REST API.",
    ),
    Metric(
        "ray_dashboard_api_requests_duration_seconds",
        HISTOGRAM,
        "s",
        ("endpoint", "http_status"),
        "Time that they took.",
    ),
    Metric("ray_dashboard_event_loop_lag_seconds", GAUGE, "s", (), "Delay of the dashboard's event loop."),
    source=Source.DASHBOARD,
    origin=Origin.DASHBOARD,
)

_EXPORTER = _group(
    "State exporter",
    Metric("servescope_application_info", GAUGE, "1", ("application", "route_prefix"), "1; tells the route prefix."),
    Metric(
        "servescope_application_status",
        GAUGE,
        "1",
        ("application", "status"),
        "1 for the application's present status.",
    ),
    Metric(
        "servescope_application_last_deployed_timestamp_seconds",
        GAUGE,
        "s",
        _APP,
        "Unix time of the last deploy that named the application.",
        trap="A deploy moves it for every application of the file, changed or not; the fingerprint tells what changed.",
    ),
    Metric(
        "servescope_deployment_status", GAUGE, "1", (*_DEPLOYMENT, "status"), "1 for the deployment's present status."
    ),
    Metric(
        "servescope_deployment_config_info",
        GAUGE,
        "1",
        (*_DEPLOYMENT, "fingerprint"),
        "1; the fingerprint changes when what was deployed does: the Serve config file, or each deploy by a program.",
        trap="New code behind the same import path and runtime_env changes nothing here, nor for Ray: name the version "
        "in the file's runtime_env.",
    ),
    Metric(
        "servescope_deployment_configured_replicas",
        GAUGE,
        "replicas",
        _DEPLOYMENT,
        "num_replicas of a deployment that does not scale.",
        "deployments with a fixed num_replicas",
    ),
    *(
        Metric(f"servescope_deployment_{name}", GAUGE, unit, _DEPLOYMENT, help, _AUTOSCALING_ONLY, needs=needs)
        for name, unit, help, needs in (
            ("min_replicas", "replicas", "Fewest replicas.", ""),
            ("max_replicas", "replicas", "Most replicas: the ceiling of the load and of the bill.", ""),
            ("initial_replicas", "replicas", "Replicas to start with.", "initial_replicas set"),
            ("target_ongoing_requests", "requests", "Requests that each replica should carry.", ""),
            ("upscale_delay_seconds", "s", "How long demand must be high before replicas are added.", ""),
            ("downscale_delay_seconds", "s", "How long demand must be low before replicas are removed.", ""),
        )
    ),
    *(
        # Ray's REST API tells these from 2.60 on.
        Metric(f"servescope_deployment_{name}", GAUGE, unit, _DEPLOYMENT, help, since="2.60")
        for name, unit, help in (
            ("backpressure_status_code", "HTTP status", "Status of requests turned away because a queue is full."),
            ("rolling_update_percentage", "ratio", "Share of replicas that a rolling update replaces at once, 0 to 1."),
        )
    ),
    *(
        Metric(f"servescope_deployment_{name}", GAUGE, unit, _DEPLOYMENT, help)
        for name, unit, help in (
            ("target_replicas", "replicas", "Replicas that the controller wants."),
            ("max_ongoing_requests", "requests", "Requests that one replica takes at once."),
            ("max_queued_requests", "requests", "Requests that may wait at each caller; -1 is no limit."),
            ("graceful_shutdown_timeout_seconds", "s", "How long a stopping replica may finish its requests."),
            ("health_check_period_seconds", "s", "Time between health checks."),
            ("health_check_timeout_seconds", "s", "How long a health check may take."),
            ("replica_cpus", "CPUs", "CPUs that each replica reserves, its placement group included."),
            ("replica_gpus", "GPUs", "GPUs that each replica reserves, its placement group included."),
            ("replica_memory_bytes", "bytes", "Memory that each replica reserves; 0 when it reserves none."),
        )
    ),
    Metric("servescope_deployment_replicas", GAUGE, "replicas", (*_DEPLOYMENT, "state"), "Replicas by state."),
    Metric(
        "servescope_deployment_unplaced_replicas",
        GAUGE,
        "replicas",
        _DEPLOYMENT,
        "Starting replicas that no node has taken yet: they wait for resources, a node or their runtime environment.",
    ),
    Metric(
        "servescope_deployment_market_replicas",
        GAUGE,
        "replicas",
        (*_DEPLOYMENT, "market_type"),
        "Placed replicas by how their node is paid for, as its label ray.io/market-type says, or unknown.",
    ),
    Metric(
        "servescope_replica_start_time_seconds",
        GAUGE,
        "s",
        (*_REPLICA, "node_ip", "state"),
        "Unix time at which a replica was started.",
        "only with --each-replica",
        needs="the exporter with --each-replica",
    ),
    Metric("servescope_proxies", GAUGE, "proxies", ("status",), "Proxies by status."),
    Metric("servescope_exporter_up", GAUGE, "1", (), "1 if the exporter's last fetch from Ray worked."),
    Metric(
        "servescope_exporter_data_age_seconds",
        GAUGE,
        "s",
        (),
        "Age of the data served: it grows while Ray does not answer.",
        "after the first good fetch",
    ),
    Metric("servescope_exporter_fetch_duration_seconds", GAUGE, "s", (), "Time of the last fetch."),
    Metric("servescope_exporter_fetches_total", COUNTER, "fetches", (), "Fetches, failed ones included."),
    Metric("servescope_exporter_fetch_failures_total", COUNTER, "fetches", ("reason",), "Failed fetches by reason."),
    source=Source.EXPORTER,
    origin=Origin.NONE,
)

_SPAN = ("application", "deployment", "service_name", "span_kind", "span_name", "status_code", "exemplars")
_EDGE = ("client", "server", "connection_type", "failed")
_COUNTED_ONCE = "Every span is counted once; `exemplars` says whether its trace is kept: then the series has exemplars."

# The names of Tempo's metrics generator, which Grafana's service map asks for. Counted before anything is sampled away.
_SPANS = _group(
    "Spans",
    Metric(
        "traces_spanmetrics_calls_total",
        COUNTER,
        "spans",
        _SPAN,
        "Spans by service, name, kind and status; application and deployment are those of the replica.",
        "with the first span",
        _COUNTED_ONCE,
        since="2.55",
    ),
    Metric(
        "traces_spanmetrics_latency",
        HISTOGRAM,
        "s",
        _SPAN,
        "Durations of spans.",
        "with the first span",
        _COUNTED_ONCE,
        since="2.55",
    ),
    Metric(
        "traces_service_graph_request_total",
        COUNTER,
        "calls",
        _EDGE,
        "Calls from one service to another.",
        "with the first call between services",
        since="2.55",
    ),
    Metric(
        "traces_service_graph_request_failed_total",
        COUNTER,
        "calls",
        _EDGE,
        "Calls that failed.",
        "with the first failed call",
        since="2.55",
    ),
    Metric(
        "traces_service_graph_request_server_seconds",
        HISTOGRAM,
        "s",
        _EDGE,
        "Durations of calls as the service called saw them.",
        "with the first call between services",
        since="2.55",
    ),
    Metric(
        "traces_service_graph_request_client_seconds",
        HISTOGRAM,
        "s",
        _EDGE,
        "Durations of calls as the caller saw them.",
        "with the first call between services",
        "Serve's span of the caller ends when a replica has been found: this is the time of routing, not of the call.",
        since="2.55",
    ),
    source=Source.COLLECTOR,
    origin=Origin.NONE,
)

_PROMETHEUS = _group(
    "Prometheus",
    Metric(
        "up",
        GAUGE,
        "1",
        (),
        "1 while a target can be scraped.",
        trap="A dead Ray node leaves the discovery file.",
    ),
    Metric("scrape_duration_seconds", GAUGE, "s", (), "Time of the last scrape."),
    Metric("scrape_samples_scraped", GAUGE, "samples", (), "Samples in the last scrape."),
    Metric(
        "ALERTS",
        GAUGE,
        "1",
        ("alertname", "alertstate", "severity", "application", "deployment"),
        "Pending and firing alerts.",
    ),
    source=Source.PROMETHEUS,
    origin=Origin.NONE,
)

_PROBES = _group(
    "Probes",
    Metric(
        "probe_success",
        GAUGE,
        "1",
        (),
        "1 while a probe of the blackbox exporter succeeds; instance is the probed address.",
        needs="a blackbox exporter that probes /-/healthz",
    ),
    source=Source.BLACKBOX,
    origin=Origin.NONE,
)

_A_LOG_AGENT = "a log agent (docs/logs.md)"
_LOG_AGENTS = _group(
    "Logs",
    Metric(
        "servescope_log_events_total",
        COUNTER,
        "events",
        ("event", "application", "deployment", "component"),
        "Events that only the logs tell: backpressure (by the caller that dropped the call), replica_crash, "
        "replica_unhealthy, upscale, downscale.",
        "with the first such line",
        "A second witness: a line may be late, and an agent that starts counts from zero.",
        needs=_A_LOG_AGENT,
    ),
    Metric(
        "fluentbit_output_dropped_records_total",
        COUNTER,
        "records",
        ("name",),
        "Records that Fluent Bit gave up: refused for good, or pushed out of a full disk buffer.",
        needs=_A_LOG_AGENT,
    ),
    Metric(
        "fluentbit_output_retries_total",
        COUNTER,
        "tries",
        ("name",),
        "Chunks that Fluent Bit could not deliver and will try again; it rises while the backend is away.",
        needs=_A_LOG_AGENT,
    ),
    Metric(
        "fluentbit_logger_logs_total",
        COUNTER,
        "messages",
        ("message_type",),
        "What Fluent Bit says of itself, by severity; an unreadable directory is an error at every scan.",
        needs=_A_LOG_AGENT,
    ),
    Metric(
        "otelcol_exporter_send_failed_log_records",
        COUNTER,
        "records",
        ("exporter",),
        "Records that the Collector gave up, refused by the backend for good; what it tries again does not count.",
        "with the first such record",
        needs=_A_LOG_AGENT,
    ),
    Metric(
        "otelcol_exporter_queue_size",
        GAUGE,
        "requests",
        ("exporter", "data_type"),
        "Requests that wait in the Collector's queue on disk; it rises while the backend is away.",
        needs=_A_LOG_AGENT,
    ),
    source=Source.LOG_AGENT,
    origin=Origin.NONE,
)

METRICS: tuple[Metric, ...] = (
    *_REQUESTS_AT_THE_PROXY,
    *_DEPLOYMENTS,
    *_HANDLES,
    *_AUTOSCALING,
    *_BATCHING,
    *_MULTIPLEXING,
    *_LIFECYCLE,
    *_CONTROLLER,
    *_LOOPS,
    *_HAPROXY_METRICS,
    *_NODES,
    *_GPUS,
    *_PROCESSES,
    *_OBJECTS,
    *_SCHEDULING,
    *_GCS,
    *_CLUSTER,
    *_AUTOSCALER,
    *_DASHBOARD,
    *_EXPORTER,
    *_SPANS,
    *_PROMETHEUS,
    *_PROBES,
    *_LOG_AGENTS,
)

BY_NAME: Mapping[str, Metric] = {metric.name: metric for metric in METRICS}


def metric(name: str) -> Metric:
    """The catalogue's entry of a name.

    Raises:
        ServescopeError: no such entry; the message names the closest one.
    """
    try:
        return BY_NAME[name]
    except KeyError:
        close = difflib.get_close_matches(name, BY_NAME, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ServescopeError(f"{name} is not in the metric catalogue{hint}") from None


def metric_of_sample(sample: str) -> Metric:
    """The entry of a sample's name, where a histogram has samples `x_bucket`, `x_count` and `x_sum`.

    Raises:
        ServescopeError: no such entry.
    """
    family, separator, suffix = sample.rpartition("_")
    if separator and suffix in ("bucket", "count", "sum") and family in BY_NAME:
        histogram = BY_NAME[family]
        if histogram.kind is Kind.HISTOGRAM:
            return histogram
    return metric(sample)


def allowed_labels(entry: Metric) -> frozenset[str]:
    """Every label that a query over the metric may name; the user's cluster label is the caller's to add."""
    labels = {*entry.labels, *entry.older_labels, *entry.origin.value, "job", "instance"}
    if entry.origin is not Origin.NONE:
        labels |= set(OTEL_SCOPE_LABELS)
    if entry.kind is Kind.HISTOGRAM:
        labels.add("le")
    return frozenset(labels)
