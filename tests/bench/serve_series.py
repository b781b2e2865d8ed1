"""The series that a Ray 2.60 Serve cluster exports, for any number of deployments and replicas.

Families, labels and bucket bounds are those of the scrapes in tests/fixtures/metrics and of the catalogue. Only
families that a dashboard or a rule reads are made, ours and Ray's; no `_sum`, since nobody reads one.

Two deployments make an application, an ingress that calls a model, each with the same number of replicas and two
routes. 50 replicas run on a node; four proxies take traffic, as behind a load balancer. Half of the deployments scale
by themselves, a fifth of the models batch, a twentieth multiplexes, one application in fifty is also called by gRPC,
and in one of five 2 % of the requests end in 500.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

Labels = Mapping[str, str]

LATENCY_MS = (1, 2, 5, 10, 20, 50, 100, 200, 300, 400, 500, 1000, 2000, 5000, 10000, 60000, 120000, 300000, 600000)
START_MS = (5, 20, 50, 100, 250, 500, 1000, 2000, 5000, 10000, 20000, 30000, 60000, 120000, 240000)
LOOP_MS = (1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000)
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
BATCH_PERCENT = (5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99, 100)
SPAN_S = (0.002, 0.004, 0.006, 0.008, 0.01, 0.05, 0.1, 0.2, 0.4, 0.8, 1, 1.4, 2, 5, 10, 15)
HEALTH_MS = (1, 10, 100, 1000, 10000)

CLUSTER = {"ray_io_cluster": "prod"}
SESSION = {"SessionName": "session_2026-11-29_10-00-00_000000_1", "Version": "2.60.0"}
EXPORTER = {"job": "servescope", "instance": "exporter:9475", **CLUSTER}
TRACES = {"job": "traces", "instance": "otel-collector:8889", **CLUSTER}
INGRESS, MODEL = "Gateway:v1.2", "LLMServer:qwen-0.5b"  # names as users have them
PROXIES = 4
REPLICAS_OF_A_NODE = 50
SCRAPE_S = 15
SCRAPED_AFTER_S = 5  # a scrape never falls on the whole minute at which somebody asks
WAVE_S, PHASES = 97, 7


@dataclass(frozen=True)
class Row:
    """One series over time.

    `kind` is "c" for a counter, a + b * seconds rounded down, "i" for a gauge of whole numbers and "g" for any other: a
    with a wave of height b. It has a sample every `interval_s`, the first `delay_s` after the start.
    """

    kind: str
    a: float
    b: float
    labels: Labels
    interval_s: int = SCRAPE_S
    delay_s: int = SCRAPED_AFTER_S

    @property
    def line(self) -> str:
        """The row as tests/bench/blocks/main.go reads it."""
        labels = "\t".join(f"{name}\x01{value}" for name, value in self.labels.items())
        return f"{self.kind}\t{self.a:.12g}\t{self.b:.12g}\t{self.interval_s}\t{self.delay_s}\t{labels}\n"

    def value(self, seconds: float, phase: int) -> float:
        """The value so many seconds after the start."""
        if self.kind == "c":
            return math.floor(self.a + self.b * seconds)
        value = self.a + (self.b * math.sin(seconds / WAVE_S + phase) if self.b else 0)
        return round(value) if self.kind == "i" else value


def counter(name: str, labels: Labels, rate: float, begun: float = 1000) -> Iterator[Row]:
    """A counter at a constant rate per second."""
    yield Row("c", begun, rate, {"__name__": name, **labels})


def whole(name: str, labels: Labels, level: float, wave: float = 0) -> Iterator[Row]:
    """A gauge of whole numbers."""
    yield Row("i", level, wave, {"__name__": name, **labels})


def gauge(name: str, labels: Labels, level: float, wave: float = 0) -> Iterator[Row]:
    """Any other gauge."""
    yield Row("g", level, wave, {"__name__": name, **labels})


def histogram(
    name: str,
    labels: Labels,
    bounds: tuple[float, ...],
    *,
    rate: float,
    median: float,
    text: Callable[[float], str] = str,
) -> Iterator[Row]:
    """Buckets and count of events at a constant rate whose sizes are lognormal."""
    for bound, share in _shares(bounds, median):
        yield from counter(f"{name}_bucket", {"le": text(float(bound)), **labels}, rate * share, round(5000 * share))
    yield from counter(f"{name}_bucket", {"le": "+Inf", **labels}, rate, 5000)
    yield from counter(f"{name}_count", labels, rate, 5000)


@lru_cache
def _shares(bounds: tuple[float, ...], median: float) -> tuple[tuple[float, float], ...]:
    return tuple((bound, 0.5 * (1 + math.erf(math.log(bound / median) / math.sqrt(2)))) for bound in bounds)


def identity(*parts: object, length: int = 8) -> str:
    """A name as Ray draws one at random: always the same for the same parts."""
    return hashlib.blake2s("/".join(map(str, parts)).encode()).hexdigest()[:length]


@dataclass(frozen=True)
class Caller:
    """Who calls a deployment: a proxy or a replica, with a handle of its own."""

    node: int
    actor: str
    source: str
    handle: str


@dataclass(frozen=True)
class Deployment:
    """One deployment of an application; its `number` counts all deployments."""

    application_number: int
    application: str
    name: str
    number: int
    routes: tuple[str, ...]

    @property
    def ingress(self) -> bool:
        """Whether the proxies call it."""
        return self.name == INGRESS

    @property
    def labels(self) -> Labels:
        """What Serve's metrics call it."""
        return {"application": self.application, "deployment": self.name}

    @property
    def scales(self) -> bool:
        """Whether it has an autoscaling configuration."""
        return self.number % 4 >= 2

    @property
    def batches(self) -> bool:
        """Whether its replicas batch requests."""
        return not self.ingress and self.application_number % 5 == 1

    @property
    def multiplexes(self) -> bool:
        """Whether its replicas load models on demand."""
        return not self.ingress and self.application_number % 20 == 2

    def actor(self, replica: int) -> str:
        """The id of a replica's actor."""
        return identity(*self.labels.values(), replica, "actor", length=12)


@dataclass(frozen=True)
class ServeCluster:
    """A cluster with so many deployments of so many replicas each."""

    deployments: int
    replicas: int

    @property
    def applications(self) -> int:
        """Each has two deployments."""
        return max(1, self.deployments // 2)

    @property
    def nodes(self) -> int:
        """The head among them."""
        return max(2, -(-self.deployments * self.replicas // REPLICAS_OF_A_NODE))

    @property
    def proxies(self) -> int:
        """How many take traffic."""
        return min(PROXIES, self.nodes)

    def rows(self) -> Iterator[Row]:
        """Every series of the cluster; no two are the same."""
        yield from self._control()
        for node in range(self.nodes):
            yield from self._node(node)
        for number in range(self.applications):
            yield from self._application(number)

    def _node_of(self, deployment: int, replica: int) -> int:
        return (deployment * self.replicas + replica) % self.nodes

    # -----------------------------------------------------------------------------------------------------------------
    # Applications

    def _application(self, number: int) -> Iterator[Row]:
        name = f"app-{number:04d}"
        yield from whole("ray_serve_application_status", {**_worker(0), "application": name}, 6)
        routes = (f"/{name}/predict", f"/{name}/items/{{id}}")
        for proxy in range(self.proxies):
            for route in routes:
                yield from _requests({**_worker(proxy), "application": name, "method": "POST", "route": route}, number)
            if number % 50 == 0:
                method = {"method": "/pkg.Service/Predict", "route": name, "status_code": "OK"}
                labels = {**_worker(proxy), "application": name, **method}
                yield from counter("ray_serve_num_grpc_requests_total", labels, 1)
                yield from histogram("ray_serve_grpc_request_latency_ms", labels, LATENCY_MS, rate=1, median=60)
        for which, deployment in enumerate((INGRESS, MODEL)):
            yield from self._deployment(Deployment(number, name, deployment, 2 * number + which, routes))

    def _deployment(self, it: Deployment) -> Iterator[Row]:
        yield from self._of_controller(it)
        yield from self._of_exporter(it)
        yield from _of_traces(it)
        for caller in self._callers(it):
            yield from _of_caller(it, caller)
        for replica in range(self.replicas):
            yield from self._replica(it, replica)
        source = {"Component": "gcs_server", "JobId": "", "Source": "gcs", "State": "ALIVE"}
        yield from whole("ray_actors", {**_worker(0), **source, "Name": _actor_name(it)}, self.replicas)

    def _callers(self, it: Deployment) -> list[Caller]:
        """Every proxy calls an ingress, every replica of the ingress calls the model."""
        if it.ingress:
            return [
                Caller(proxy, identity("proxy", proxy, length=12), "PROXY", f"handle-{identity(it.application, proxy)}")
                for proxy in range(self.proxies)
            ]
        return [
            Caller(
                self._node_of(it.number - 1, replica),
                identity(it.application, INGRESS, replica, "actor", length=12),
                "REPLICA",
                identity(it.application, INGRESS, replica, "handle"),
            )
            for replica in range(self.replicas)
        ]

    def _of_controller(self, it: Deployment) -> Iterator[Row]:
        labels = {**_worker(0), **it.labels}
        yield from whole("ray_serve_deployment_status", labels, 6)
        yield from whole("ray_serve_autoscaling_target_replicas", labels, self.replicas)
        checks = 0.1 * self.replicas
        yield from histogram("ray_serve_health_check_latency_ms", labels, LATENCY_MS, rate=checks, median=3)
        for what in ("startup_latency", "initialization_latency", "shutdown_duration"):
            yield from histogram(f"ray_serve_replica_{what}_ms", labels, START_MS, rate=0.0003, median=3000)
        if it.scales:
            yield from whole("ray_serve_autoscaling_desired_replicas", labels, self.replicas)
            yield from whole("ray_serve_autoscaling_total_requests", labels, 12, 1)
            yield from whole("ray_serve_autoscaling_target_ongoing_requests", labels, 2)
            policy = {**labels, "policy_scope": "deployment"}
            yield from gauge("ray_serve_autoscaling_policy_execution_time_ms", policy, 0.05, 0.01)
            delay = "ray_serve_autoscaling_handle_metrics_delay_ms"
            yield from histogram(delay, labels, LATENCY_MS, rate=0.1, median=40)

    def _of_exporter(self, it: Deployment) -> Iterator[Row]:
        labels = {**EXPORTER, **it.labels}
        limits = {
            "target_replicas": self.replicas,
            "max_ongoing_requests": 5,
            "max_queued_requests": 100,
            "graceful_shutdown_timeout_seconds": 20,
            "health_check_period_seconds": 10,
            "health_check_timeout_seconds": 30,
            "replica_cpus": 1,
            "replica_gpus": 0,
            "replica_memory_bytes": 0,
            "backpressure_status_code": 503,
            "rolling_update_percentage": 0.2,
            "unplaced_replicas": 0,
        }
        scaling = {
            "min_replicas": 1,
            "max_replicas": 2 * self.replicas,
            "target_ongoing_requests": 2,
            "upscale_delay_seconds": 30,
            "downscale_delay_seconds": 600,
        }
        limits |= scaling if it.scales else {"configured_replicas": self.replicas}
        for what, value in limits.items():
            yield from gauge(f"servescope_deployment_{what}", labels, value)
        fingerprint = {"fingerprint": identity(*it.labels.values(), length=12)}
        yield from whole("servescope_deployment_config_info", {**labels, **fingerprint}, 1)
        for state in ("STARTING", "RUNNING", "STOPPING"):
            running = self.replicas if state == "RUNNING" else 0
            yield from whole("servescope_deployment_replicas", {**labels, "state": state}, running)
        market = {**labels, "market_type": "unknown"}
        yield from whole("servescope_deployment_market_replicas", market, self.replicas)
        yield from whole("servescope_deployment_status", {**labels, "status": "HEALTHY"}, 1)

    def _replica(self, it: Deployment, replica: int) -> Iterator[Row]:
        node = self._node_of(it.number, replica)
        name = {"replica": identity(*it.labels.values(), replica)}
        labels = {**_worker(node), **it.labels, **name}
        for route in it.routes:
            routed = {**labels, "route": route}
            median = 75 if it.ingress else 60
            latency = "ray_serve_deployment_processing_latency_ms"
            yield from histogram(latency, routed, LATENCY_MS, rate=2, median=median)
            yield from counter("ray_serve_deployment_request_counter_total", routed, 2)
            yield from gauge("ray_serve_deployment_max_processing_latency_ms", routed, 400, 100)
        if it.application_number % 5 == 0:
            error = "RayTaskError(ValueError)" if it.ingress else "ValueError"
            failed = {**labels, "route": it.routes[0], "exception_type": error}
            yield from counter("ray_serve_deployment_error_counter_total", failed, 0.05)
        yield from whole("ray_serve_replica_processing_queries", labels, 2, 1)
        yield from gauge("ray_serve_replica_utilization_percent", labels, 40, 5)
        yield from whole("ray_serve_deployment_replica_healthy", {**_worker(0), **it.labels, **name}, 1)
        yield from _loops(it, replica, _worker(node))
        if it.batches:
            yield from _batching(labels)
        if it.multiplexes:
            yield from _multiplexing(labels)
        heap = {"Location": "WORKER_HEAP", "ObjectState": "", "WorkerId": it.actor(replica)}
        yield from whole("ray_object_store_memory", {**_worker(node), **heap}, 0)
        if all(self._node_of(it.number, other) != node for other in range(replica)):
            yield from _processes(it, node)

    # -----------------------------------------------------------------------------------------------------------------
    # Nodes and head

    def _node(self, node: int) -> Iterator[Row]:
        worker = _worker(node)
        yield from _hardware(node)
        yield from _raylet(node)
        processes = ("raylet", "agent", "ray::DashboardAgent", "ray::RuntimeEnvAgent")
        for process in (*processes, "ray::ProxyActor") if node < self.proxies else processes:
            labels = {**_process(node), "Component": process, "pid": ""}
            yield from gauge("ray_component_cpu_percentage", labels, 3, 1)
            yield from whole("ray_component_rss_bytes", labels, 100_000_000, 1_000_000)
        if node < self.proxies:
            place = {"node_id": identity("node", node, length=56), "node_ip_address": _address(node)}
            yield from whole("ray_serve_proxy_status", {**_worker(0), **place}, 2)
            yield from whole("ray_serve_num_ongoing_http_requests", {**worker, **place}, 10, 5)
            for loop in ("main", "router"):
                yield from _loop(worker, identity("proxy", node, length=12), "proxy", loop=loop)
            for route in ("/-/healthz", "/-/routes"):
                labels = {**worker, "application": "", "method": "GET", "route": route, "status_code": "200"}
                yield from counter("ray_serve_num_http_requests_total", labels, 0.2)
                yield from histogram("ray_serve_http_request_latency_ms", labels, LATENCY_MS, rate=0.2, median=2)
        yield from _target("ray", f"{_address(node)}:8080", 5000)

    def _control(self) -> Iterator[Row]:
        head = _worker(0)
        for part in (
            "control_loop",
            "deployment_state_update",
            "application_state_update",
            "proxy_state_update",
            "node_update",
        ):
            yield from gauge(f"ray_serve_controller_{part}_duration_s", head, 0.05, 0.01)
        controller = identity("controller", length=12)
        yield from counter("ray_serve_controller_num_control_loops", {**head, "actor_id": controller}, 9)
        yield from _loop(head, controller, "controller", loop="main")
        for namespace in ("ROUTE_TABLE", "GLOBAL_LOGGING_CONFIG"):
            yield from _long_poll({**head, "namespace": f"LongPollNamespace.{namespace}"})
        yield from self._gcs({**head, "Component": "gcs_server"})
        yield from self._autoscaler()
        yield from whole("servescope_exporter_up", EXPORTER, 1)
        yield from gauge("servescope_exporter_data_age_seconds", EXPORTER, 3, 2)
        for job, instance in (("ray", f"{_address(0)}:44217"), ("ray", f"{_address(0)}:44227")):
            yield from _target(job, instance, 500)
        for target in (EXPORTER, TRACES):
            yield from _target(target["job"], target["instance"], 500)

    def _gcs(self, labels: Labels) -> Iterator[Row]:
        for state, number in (("ALIVE", self.deployments * self.replicas), ("DEAD", 0)):
            yield from whole("ray_gcs_actors_count", {**labels, "State": state}, number)
        for operation in ("Put", "Get", "Delete", "MultiGet", "GetAll", "Exists"):
            yield from counter("ray_gcs_storage_operation_count_total", {**labels, "Operation": operation}, 5)
        yield from histogram("ray_health_check_rpc_latency_ms", labels, HEALTH_MS, rate=10, median=2)
        yield from whole("ray_running_jobs", labels, 1)
        yield from counter("ray_unintentional_worker_failures_total", labels, 0.0001)
        for number in range(5):
            yield from gauge("ray_io_context_event_loop_lag_ms", {**labels, "Name": f"gcs_{number}"}, 0.2, 0.1)

    def _autoscaler(self) -> Iterator[Row]:
        labels = {"job": "ray", "instance": f"{_address(0)}:44217", **CLUSTER, **SESSION}
        for kind in ("head", "worker"):
            yield from whole("autoscaler_active_nodes", {**labels, "NodeType": kind}, self.nodes)
            yield from whole("autoscaler_pending_nodes", {**labels, "NodeType": kind}, 0)
        for resource in ("CPU", "GPU"):
            yield from whole("autoscaler_cluster_resources", {**labels, "resource": resource}, 64 * self.nodes)
        yield from counter("autoscaler_stopped_nodes_total", labels, 0)


def _address(node: int) -> str:
    return f"10.0.{node // 250}.{node % 250 + 1}"


def _worker(node: int) -> Labels:
    """The labels that a node's agent gives to what its workers report."""
    address = _address(node)
    where = {"instance": f"{address}:8080", "NodeAddress": address, "Component": "core_worker"}
    return {"job": "ray", **CLUSTER, **where, **SESSION}


def _process(node: int) -> Labels:
    return {"job": "ray", "instance": f"{_address(node)}:8080", "ip": _address(node), **CLUSTER, **SESSION}


def _actor_name(it: Deployment) -> str:
    return f"ServeReplica:{it.application}:{it.name}"


def _requests(labels: Labels, application_number: int) -> Iterator[Row]:
    """What a proxy counts of one route."""
    failing = application_number % 5 == 0
    for status, rate in (("200", 5), ("500", 0.1)) if failing else (("200", 5),):
        answered = {**labels, "status_code": status}
        yield from counter("ray_serve_num_http_requests_total", answered, rate)
        yield from histogram("ray_serve_http_request_latency_ms", answered, LATENCY_MS, rate=rate, median=80)
    if failing:
        yield from counter("ray_serve_num_http_error_requests_total", {**labels, "error_code": "500"}, 0.1)


def _of_traces(it: Deployment) -> Iterator[Row]:
    """What the Collector counts of the spans of a deployment, and of who calls it."""
    service = f"{it.application}.{it.name}"
    spans = {
        **TRACES,
        **it.labels,
        "service_name": service,
        "span_kind": "SPAN_KIND_SERVER",
        "span_name": "replica_handle_request",
        "status_code": "STATUS_CODE_UNSET",
    }
    yield from counter("traces_spanmetrics_calls_total", spans, 5)
    yield from histogram("traces_spanmetrics_latency", spans, SPAN_S, rate=5, median=0.05, text="{:g}".format)
    client = "serve-proxy" if it.ingress else f"{it.application}.{INGRESS}"
    edge = {**TRACES, "client": client, "server": service, "connection_type": "", "failed": "false"}
    yield from counter("traces_service_graph_request_total", edge, 5)
    server = "traces_service_graph_request_server_seconds"
    yield from histogram(server, edge, SPAN_S, rate=5, median=0.05, text="{:g}".format)


def _of_caller(it: Deployment, caller: Caller) -> Iterator[Row]:
    worker = _worker(caller.node)
    labels = {**worker, **it.labels, "actor_id": caller.actor}
    handle = {"handle": caller.handle}
    source = {"handle_source": caller.source}
    for route in it.routes:
        yield from counter("ray_serve_num_router_requests_total", {**labels, **handle, "route": route}, 5)
    yield from whole("ray_serve_deployment_queued_queries", {**labels, **handle}, 1, 1)
    yield from whole("ray_serve_num_ongoing_requests_at_replicas", {**labels, **handle}, 3, 2)
    scheduling = {**labels, **source, "app": it.application}
    yield from whole("ray_serve_num_scheduling_tasks", scheduling, 1, 1)
    yield from whole("ray_serve_num_scheduling_tasks_in_backoff", scheduling, 0)
    wait = "ray_serve_request_router_fulfillment_time_ms"
    yield from histogram(wait, {**labels, **source}, LATENCY_MS, rate=5, median=2)
    arguments = "ray_serve_router_args_resolution_latency_ms"
    yield from histogram(arguments, {**labels, **handle}, LATENCY_MS, rate=5, median=0.5)
    who = f"Deployment(name='{it.name}', app='{it.application}')"
    for namespace in ("DEPLOYMENT_TARGETS", "DEPLOYMENT_CONFIG"):
        key = {"namespace": f"(LongPollNamespace.{namespace}, {who})", "WorkerId": caller.actor}
        yield from _long_poll({**worker, **key})


def _long_poll(labels: Labels) -> Iterator[Row]:
    yield from histogram("ray_serve_long_poll_latency_ms", labels, LATENCY_MS, rate=0.001, median=5)


def _loops(it: Deployment, replica: int, worker: Labels) -> Iterator[Row]:
    """The event loops of a replica; one of an ingress has that of its router too."""
    for loop in ("main", "user_code"):
        yield from _loop({**worker, **it.labels}, it.actor(replica), "replica", loop=loop)
    if it.ingress:
        nobody = {"application": "", "deployment": ""}
        yield from _loop({**worker, **nobody}, it.actor(replica), "replica", loop="router")


def _loop(worker: Labels, actor: str, component: str, *, loop: str) -> Iterator[Row]:
    labels = {**worker, "actor_id": actor, "component": component, "loop_type": loop}
    yield from histogram("ray_serve_event_loop_scheduling_latency_ms", labels, LOOP_MS, rate=0.2, median=2)
    yield from counter("ray_serve_event_loop_monitoring_iterations_total", labels, 0.2)


def _batching(replica: Labels) -> Iterator[Row]:
    labels = {**replica, "function_name": "handle_batch"}
    yield from histogram("ray_serve_actual_batch_size", labels, BATCH_SIZES, rate=1, median=4)
    yield from histogram("ray_serve_batch_utilization_percent", labels, BATCH_PERCENT, rate=1, median=50)
    yield from histogram("ray_serve_batch_wait_time_ms", labels, LATENCY_MS, rate=1, median=5)
    yield from histogram("ray_serve_batch_execution_time_ms", labels, LATENCY_MS, rate=1, median=40)
    yield from counter("ray_serve_batches_processed_total", labels, 1)
    yield from whole("ray_serve_batch_queue_length", labels, 2, 1)


def _multiplexing(labels: Labels) -> Iterator[Row]:
    yield from counter("ray_serve_multiplexed_get_model_requests_counter_total", labels, 2)
    yield from counter("ray_serve_multiplexed_models_load_counter_total", labels, 0.01)
    yield from counter("ray_serve_multiplexed_models_unload_counter_total", labels, 0.01)
    yield from histogram("ray_serve_multiplexed_model_load_latency_ms", labels, LATENCY_MS, rate=0.01, median=900)
    yield from histogram("ray_serve_multiplexed_model_unload_latency_ms", labels, LATENCY_MS, rate=0.01, median=90)
    yield from whole("ray_serve_num_multiplexed_models", labels, 3)
    for model in ("m0", "m1", "m2"):
        yield from whole("ray_serve_registered_multiplexed_model_id", {**labels, "model_id": model}, 1)


def _processes(it: Deployment, node: int) -> Iterator[Row]:
    """What a node reports of all processes of one deployment together."""
    labels = {**_process(node), "Component": f"ray::{_actor_name(it)}", "pid": ""}
    yield from gauge("ray_component_cpu_percentage", labels, 30, 10)
    yield from whole("ray_component_rss_bytes", labels, 300_000_000, 5_000_000)
    actors = {**_worker(node), "JobId": "01000000", "Name": _actor_name(it), "Source": "executor"}
    for state in ("ALIVE_IDLE", "ALIVE_RUNNING_TASKS"):
        yield from whole("ray_actors", {**actors, "State": state}, 1)


def _hardware(node: int) -> Iterator[Row]:
    role = (
        {"IsHeadNode": "true", "RayNodeType": "head"} if node == 0 else {"IsHeadNode": "false", "RayNodeType": "worker"}
    )
    labels = {**_process(node), **role}
    for what, value in (("cpu_count", 64), ("mem_total", 2.5e11)):
        yield from gauge(f"ray_node_{what}", labels, value)
    moving = {
        "cpu_utilization": 40,
        "mem_used": 1e11,
        "mem_available": 1.5e11,
        "disk_usage": 4e11,
        "disk_free": 6e11,
        "disk_utilization_percentage": 40,
        "disk_io_read_speed": 1e6,
        "disk_io_write_speed": 2e6,
        "network_receive_speed": 3e6,
        "network_send_speed": 3e6,
    }
    for what, value in moving.items():
        yield from gauge(f"ray_node_{what}", labels, value, value / 20)


def _raylet(node: int) -> Iterator[Row]:
    labels = {**_worker(node), "Component": "raylet"}
    stored: Iterable[tuple[str, str, float]] = (
        ("SPILLED", "", 0),
        ("MMAP_DISK", "UNSEALED", 1e6),
        ("MMAP_DISK", "SEALED", 1e6),
        ("MMAP_SHM", "SEALED", 1e6),
        ("MMAP_SHM", "UNSEALED", 1e6),
    )
    for location, state, size in stored:
        objects = {**labels, "Location": location, "ObjectState": state, "WorkerId": ""}
        yield from whole("ray_object_store_memory", objects, size)
    for resource in ("CPU", "memory", "object_store_memory"):
        for state in ("USED", "AVAILABLE"):
            yield from whole("ray_resources", {**labels, "Name": resource, "State": state}, 32)
    waiting = ("RESOURCES", "PLASMA_MEMORY", "REMOTE_RESOURCES", "WORKERS")
    for reason in (*(f"WAITING_FOR_{what}" for what in waiting), "JOB_CONFIG_NOT_READY"):
        yield from whole("ray_scheduler_unscheduleable_tasks", {**labels, "Reason": reason}, 0)
    for number in range(4):
        yield from gauge("ray_io_context_event_loop_lag_ms", {**labels, "Name": f"io_{number}"}, 0.2, 0.1)


def _target(job: str, instance: str, samples: int) -> Iterator[Row]:
    """What Prometheus says of a scrape itself."""
    labels = {"job": job, "instance": instance, **CLUSTER}
    yield from whole("up", labels, 1)
    yield from gauge("scrape_duration_seconds", labels, 0.3, 0.1)
    yield from whole("scrape_samples_scraped", labels, samples)
