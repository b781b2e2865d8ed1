"""Input series of promtool's tests, named by what they measure.

A series is a key of `Case.fires` and `Case.quiet`: a metric with its labels. The generator of the tests adds the
cluster label, `instance` and `job` where they are missing.
"""

from __future__ import annotations

# The application and the deployment of the tests.
THE_APPLICATION = {"application": "main"}
THE_DEPLOYMENT = {**THE_APPLICATION, "deployment": "D"}

# Its one route.
_REQUEST = {**THE_APPLICATION, "route": "/", "method": "GET"}


def series(metric: str, **labels: str) -> str:
    """A series as promtool reads it."""
    text = ",".join(f'{name}="{value}"' for name, value in labels.items())
    return f"{metric}{{{text}}}"


def deployment_series(metric: str, **labels: str) -> str:
    """A series of the deployment."""
    return series(metric, **THE_DEPLOYMENT, **labels)


def node_series(metric: str, **labels: str) -> str:
    """A series of one node, as its agent reports it."""
    return series(metric, ip="10.0.0.1", instance="n1", **labels)


def gpu_series(metric: str) -> str:
    """A series of the one GPU of that node."""
    return node_series(metric, GpuIndex="0", GpuDeviceName="H100")


def http_requests(status_code: str, route: str = "/", application: str = "main") -> str:
    """The proxies' count of requests by status code; probes and unmatched paths have the application ""."""
    return series(
        "ray_serve_num_http_requests_total",
        **{**_REQUEST, "application": application, "route": route},
        status_code=status_code,
    )


def http_latency_bucket(bound_ms: int | str) -> str:
    """One bucket of the latency at the proxies; the last bound is "+Inf"."""
    return series("ray_serve_http_request_latency_ms_bucket", **_REQUEST, status_code="200", le=str(bound_ms))


def processing_bucket(bound_ms: int | str, *, replica: str = "r1") -> str:
    """One bucket of a replica's processing time."""
    return deployment_series(
        "ray_serve_deployment_processing_latency_ms_bucket", replica=replica, route="/", le=str(bound_ms)
    )


def routing_time_bucket(bound_ms: int | str) -> str:
    """One bucket of the time until a proxy's router found a replica."""
    return deployment_series(
        "ray_serve_request_router_fulfillment_time_ms_bucket", actor_id="x", handle_source="PROXY", le=str(bound_ms)
    )


def finished_calls(replica: str = "r1") -> str:
    """A replica's count of finished calls."""
    return deployment_series("ray_serve_deployment_processing_latency_ms_count", replica=replica, route="/")


def failed_calls(replica: str = "r1") -> str:
    """A replica's count of calls that raised."""
    return deployment_series("ray_serve_deployment_error_counter_total", replica=replica, route="/")


def failed_health_checks(replica: str = "r1") -> str:
    """A replica's count of failed health checks."""
    return deployment_series("ray_serve_health_check_failures_total", replica=replica)


def requests_in_progress(replica: str = "r1") -> str:
    """A replica's requests in flight."""
    return deployment_series("ray_serve_replica_processing_queries", replica=replica)


def replica_actors(state: str) -> str:
    """The deployment's replicas in a state of Ray's actors, as the GCS counts them."""
    return series("ray_actors", Source="gcs", State=state, Name="ServeReplica:main:D")


def node_cpu(instance: str, **labels: str) -> str:
    """The CPU use of another node than the head: what shows that a node reports."""
    return series("ray_node_cpu_utilization", **labels, instance=instance)


HTTP_LATENCY_COUNT = series("ray_serve_http_request_latency_ms_count", **_REQUEST, status_code="200")

STATUS_OF_APPLICATION = series("ray_serve_application_status", **THE_APPLICATION)
STATUS_OF_DEPLOYMENT = deployment_series("ray_serve_deployment_status")
STATUS_OF_PROXY = series("ray_serve_proxy_status", node_id="x", node_ip_address="10.0.0.1")

TARGET_REPLICAS = deployment_series("ray_serve_autoscaling_target_replicas")
HEALTHY_REPLICA = deployment_series("ray_serve_deployment_replica_healthy", replica="r1")
TARGET_ONGOING_REQUESTS = deployment_series("ray_serve_autoscaling_target_ongoing_requests")
TOTAL_REQUESTS = deployment_series("ray_serve_autoscaling_total_requests")
QUEUED_REQUESTS = deployment_series("ray_serve_deployment_queued_queries", handle="h1", actor_id="x")
MAX_ONGOING_REQUESTS = deployment_series("servescope_deployment_max_ongoing_requests")
MAX_QUEUED_REQUESTS = deployment_series("servescope_deployment_max_queued_requests")

ROUTED_REQUESTS = deployment_series(
    "ray_serve_request_router_fulfillment_time_ms_count", actor_id="x", handle_source="PROXY"
)

CONTROL_LOOPS = series("ray_serve_controller_num_control_loops", actor_id="c1")
PROXY_HEARTBEAT = series(
    "ray_serve_event_loop_monitoring_iterations_total", component="proxy", loop_type="main", actor_id="p1"
)
HEAD_CPU = series("ray_node_cpu_utilization", ip="10.0.0.1", IsHeadNode="true", RayNodeType="head")
GCS_ACTORS = series("ray_gcs_actors_count", State="Created", Component="gcs_server")
TARGET_UP = series("up", instance="n1", job="ray")
EXPORTER_DATA_AGE = "servescope_exporter_data_age_seconds"

# What every running cluster reports: without it the alerts on missing metrics would rightly fire in every test.
LIVING_CLUSTER = {HEAD_CPU: "10x", GCS_ACTORS: "5x", TARGET_UP: "1x"}
