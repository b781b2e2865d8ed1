"""The figures that recording rules record and dashboards read: each is defined once and read in two ways.

A plain panel computes the figure from Ray's own series; the recorded variant reads the series that our recording rule
wrote. Both come from the same `Signal`, so they cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, replace

from servescope import promql
from servescope.errors import ServescopeError
from servescope.promql import DEPLOYMENT, Labels, Scope, scaling
from servescope.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Signal:
    """A figure that a recording rule records: how it is computed from Ray's series, and the name of the recorded one.

    `inner(scope, window)` gives one series for each stored series; `op` brings them down to the cluster label and
    `labels`. A panel may ask for fewer labels, never for more. `over_clusters` totals the clusters where `op` does
    not: two clusters that want two replicas each want four. What is recorded within a step of a graph is averaged, or
    brought together by `over`: a code has no average. A signal with `finer` is recorded from that one's record, right
    after it, in the same group; one with `of_records` from records of its own group that come before it. One with a
    `counter` is not read but counted: it records how many events the counter saw in each minute, first ones included,
    and a graph sums them (`Reader.events`). What costs much is recorded every `every_s` seconds at most. `SIGNALS`
    holds all of them, in the rule file's order.
    """

    record: str
    labels: Labels
    unit: str
    help: str
    inner: Callable[[Scope, str], str]
    op: str = "sum"
    over_clusters: str = ""
    over: str = "avg"
    finer: Signal | None = None
    of_records: Callable[[Scope, Settings], str] | None = None
    counter: str = ""
    every_s: int = 0

    def interval_s(self, settings: Settings) -> int:
        """How often it is recorded, seconds."""
        return max(self.every_s, settings.recording_interval_s)

    @property
    def group(self) -> str:
        """The rule group: what one series is of, such as `serve_deployment`, or of the finer signal; events apart."""
        level = (self.finer or self).record.partition(":")[0]
        return f"{level}.events" if self.counter else level

    def name(self, settings: Settings) -> str:
        """The name of the recorded series; that of a rate contains its window: `serve_route:requests:rate1m`."""
        return self.record + (settings.rate_window if self.record.endswith(":rate") else "")


@dataclass(frozen=True)
class Reader:
    """Reads signals for one dashboard: from Ray's own series, or from recorded ones.

    `kept` is what leaves series out before they are added up, such as `and on (application) topk(...)`.
    """

    settings: Settings
    scope: Scope
    _: KW_ONLY
    recorded: bool = False
    window: str = "$__rate_interval"
    kept: str = ""

    def recorded_window(self, signal: Signal) -> str:
        """How much of a record a step reads: the step, since what is recorded is a rate or a level already.

        Records that are further apart than scrapes are read over `$__rate_interval`, which holds one of them.
        """
        spaced = signal.interval_s(self.settings) > self.settings.scrape_interval_s
        return "$__interval" if self.window == "$__rate_interval" and not spaced else self.window

    def read(self, signal: Signal, by: Labels = (), **extra: str) -> str:
        """The signal by some of its labels; `extra` adds matchers on labels that the signal keeps.

        Raises:
            ServescopeError: a label in `by` or `extra` is not one that the signal keeps.
        """
        kept = {*signal.labels, *self.settings.cluster_key}
        for label in (*by, *extra):
            if label not in kept:
                raise ServescopeError(f"{signal.record} keeps no label {label!r}; it keeps {', '.join(sorted(kept))}")
        scope = self.scope.narrowed(**extra)
        if self.recorded:
            inner = (
                f"{signal.over}_over_time({replace(self, scope=scope)._record(signal)}[{self.recorded_window(signal)}])"
            )
        else:
            inner = signal.inner(scope, self.window)
        if self.kept:
            inner = f"({inner}) {self.kept}"
        if signal.over_clusters and not set(self.settings.cluster_key) <= set(by):
            each = promql.total(inner, (*self.settings.cluster_key, *signal.labels), signal.op)
            return promql.total(each, by, signal.over_clusters)
        return promql.total(inner, by, signal.op)

    @property
    def each(self) -> Labels:
        """The labels of one deployment of one cluster: what figures that are compared or multiplied must share."""
        return (*self.settings.cluster_key, *DEPLOYMENT)

    def events(self, signal: Signal, by: Labels) -> str:
        """The events of a signal's counter in each step of a graph; recorded ones are there once a minute."""
        if self.recorded:
            return promql.total(f"sum_over_time({self._record(signal)}[$__interval])", by)
        return promql.events(self.scope, signal.counter, by, window="$__interval")

    def events_over_range(self, signal: Signal, by: Labels, *, at: str = "") -> str:
        """The events of a signal's counter in the graph's whole range; at the range's end with `at=" @ end()"`."""
        if self.recorded:
            return promql.total(f"sum_over_time({self._record(signal)}[$__range]{at})", by)
        return promql.over_range(promql.events(self.scope, signal.counter, by, window="$__interval"), at=at)

    def _record(self, signal: Signal) -> str:
        kept = {*signal.labels, *self.settings.cluster_key}
        inside = ", ".join(f"{label}{text}" for label, text in self.scope.matchers.items() if label in kept)
        return f"{signal.name(self.settings)}{{{inside}}}"

    def quantile(self, level: float, buckets: Signal, by: Labels = (), **extra: str) -> str:
        """A quantile of a bucket signal, in the signal's unit; level 0.95 is the p95."""
        return promql.quantile(level, self.read(buckets, (*by, "le"), **extra))

    def select(self, sample: str, **extra: str) -> str:
        """A selector of one of Ray's own series in the dashboard's scope, for figures that nobody records."""
        return self.scope.select(sample, **extra)


def _gauge(name: str) -> Callable[[Scope, str], str]:
    return lambda scope, window: scope.select(name)


def _buckets(name: str) -> Callable[[Scope, str], str]:
    return lambda scope, window: scope.rate(f"{name}_bucket", window)


def _events(name: str, counter: str, *labels: str, help: str, unit: str) -> Signal:
    """The events of a counter by deployment, in each minute."""
    return Signal(
        record=f"serve_deployment:{name}:events1m",
        labels=(*DEPLOYMENT, *labels),
        unit=unit,
        help=help,
        inner=lambda scope, window: promql.increase(scope, counter, "1m", hold=window),
        counter=counter,
        every_s=60,
    )


REQUESTS = Signal(
    record="serve_route:requests:rate",
    labels=("application", "route", "method", "status_code"),
    unit="requests per second",
    help="Requests that the proxies answered, HTTP and gRPC, all outcomes.",
    inner=promql.ingress_requests,
)
REQUEST_LATENCY = Signal(
    record="serve_route:request_latency_ms_bucket:rate",
    labels=("application", "route", "le"),
    unit="ms",
    help="Latency buckets: time from a request's arrival at the proxy to the end of its answer, all outcomes.",
    inner=promql.ingress_buckets,
)
APPLICATION_LATENCY = Signal(
    record="serve_application:request_latency_ms_bucket:rate",
    labels=("application", "le"),
    unit="ms",
    help="The same latency buckets by application.",
    inner=promql.ingress_buckets,
    finer=REQUEST_LATENCY,
)
DEPLOYMENT_REQUESTS = Signal(
    record="serve_deployment:requests:rate",
    labels=(*DEPLOYMENT, "outcome"),
    unit="requests per second",
    help="Calls that replicas finished, with outcome ok or error.",
    inner=promql.deployment_requests,
)
PROCESSING_LATENCY = Signal(
    record="serve_deployment:processing_latency_ms_bucket:rate",
    labels=(*DEPLOYMENT, "le"),
    unit="ms",
    help="Processing time buckets: time that replicas spent on a call, successful or not.",
    inner=_buckets("ray_serve_deployment_processing_latency_ms"),
)
ROUTER_WAIT = Signal(
    record="serve_deployment:router_wait_ms_bucket:rate",
    labels=(*DEPLOYMENT, "le"),
    unit="ms",
    help="Router wait buckets: time that requests waited until a replica accepted them.",
    inner=_buckets("ray_serve_request_router_fulfillment_time_ms"),
)
QUEUED = Signal(
    record="serve_deployment:queued_requests:sum",
    labels=DEPLOYMENT,
    unit="requests",
    help="Requests queued in the handles and proxies that call this deployment.",
    inner=_gauge("ray_serve_deployment_queued_queries"),
)
RUNNING = Signal(
    record="serve_deployment:running_requests:sum",
    labels=DEPLOYMENT,
    unit="requests",
    help="Requests that replicas are executing.",
    inner=_gauge("ray_serve_replica_processing_queries"),
)
SUBMITTED = Signal(
    record="serve_deployment:submitted_requests:sum",
    labels=DEPLOYMENT,
    unit="requests",
    help="Requests in flight: sent to replicas by callers and not answered.",
    inner=_gauge("ray_serve_num_ongoing_requests_at_replicas"),
)
REPLICAS = Signal(
    record="serve_deployment:replicas_healthy:sum",
    labels=DEPLOYMENT,
    unit="replicas",
    help="Replicas that pass their health check.",
    inner=_gauge("ray_serve_deployment_replica_healthy"),
)
TARGET_REPLICAS = Signal(
    record="serve_deployment:replicas_target:max",
    labels=DEPLOYMENT,
    unit="replicas",
    help="Target replicas: how many the controller wants, fixed or autoscaled.",
    inner=_gauge("ray_serve_autoscaling_target_replicas"),
    op="max",
    over_clusters="sum",
)
MISSING_REPLICAS = Signal(
    record="serve_deployment:replicas_missing:max",
    labels=DEPLOYMENT,
    unit="replicas",
    help="Target replicas that are not healthy.",
    inner=lambda scope, window: scaling.missing(scope),
    op="max",
    over_clusters="sum",
)
DEMAND = Signal(
    record="serve_deployment:replicas_demand:max",
    labels=DEPLOYMENT,
    unit="replicas",
    help="Replicas that the load asks for, by the autoscaler's input and target_ongoing_requests.",
    inner=lambda scope, window: scaling.demand(scope),
    op="max",
    over_clusters="sum",
)
AUTOSCALING_STATE = Signal(
    record="serve_deployment:autoscaling_state:max",
    labels=DEPLOYMENT,
    unit="none",
    help="0 steady, 1 starting, 2 upscale delay, 3 capped by max_replicas, 4 failing to start, 5 unschedulable.",
    inner=lambda scope, window: scaling.state(scope),
    of_records=lambda scope, settings: scaling.state_of_records(
        scope,
        target=TARGET_REPLICAS.name(settings),
        missing=MISSING_REPLICAS.name(settings),
        demand=DEMAND.name(settings),
    ),
    op="max",
    over="max",
)
REPLICA_CPU = Signal(
    record="serve_deployment:cpu_cores:sum",
    labels=DEPLOYMENT,
    unit="cores",
    help="CPU cores in use by the deployment's replica processes.",
    inner=lambda scope, window: f"{promql.replica_processes(scope, 'ray_component_cpu_percentage')} / 100",
)
REPLICA_MEMORY = Signal(
    record="serve_deployment:memory_rss_bytes:sum",
    labels=DEPLOYMENT,
    unit="bytes",
    help="Resident memory of the deployment's replica processes; shared pages count once per process.",
    inner=lambda scope, window: promql.replica_processes(scope, "ray_component_rss_bytes"),
)
LONG_POLL_LATENCY = Signal(
    record="serve_cluster:long_poll_latency_ms_bucket:rate",
    labels=("le",),
    unit="ms",
    help="Long-poll buckets: time until an update from the controller reaches proxies and handles.",
    inner=_buckets("ray_serve_long_poll_latency_ms"),
    every_s=60,
)
FAILED_CALLS = _events(
    "failed_calls",
    "ray_serve_deployment_error_counter_total",
    unit="calls",
    help="Calls that ended in an exception in a minute, as replicas count them.",
)
REPLICA_STARTS = _events(
    "replica_starts",
    "ray_serve_replica_startup_latency_ms_count",
    unit="replicas",
    help="Replicas that started in a minute, as the controller counts them.",
)
STARTUP_LATENCY = _events(
    "startup_latency_ms_bucket",
    "ray_serve_replica_startup_latency_ms_bucket",
    "le",
    unit="ms",
    help="The same by how long the start took: buckets.",
)
HEALTH_CHECK_FAILURES = _events(
    "health_check_failures",
    "ray_serve_health_check_failures_total",
    unit="checks",
    help="Health checks of replicas that failed in a minute.",
)
NODE_CPU = Signal(
    record="ray_node:cpu_utilization:ratio",
    labels=("instance",),
    unit="ratio",
    help="CPU utilization of the node, 0 to 1.",
    inner=lambda scope, window: f"{scope.select('ray_node_cpu_utilization')} / 100",
    op="max",
)
NODE_MEMORY = Signal(
    record="ray_node:memory_utilization:ratio",
    labels=("instance",),
    unit="ratio",
    help="Memory utilization of the node (or of its container), 0 to 1.",
    inner=lambda scope, window: f"{scope.select('ray_node_mem_used')} / {scope.select('ray_node_mem_total')}",
    op="max",
)
NODE_DISK = Signal(
    record="ray_node:disk_utilization:ratio",
    labels=("instance",),
    unit="ratio",
    help="Utilization of the disk that holds Ray's temporary directory, 0 to 1.",
    inner=lambda scope, window: f"{scope.select('ray_node_disk_utilization_percentage')} / 100",
    op="max",
)

SIGNALS: tuple[Signal, ...] = (
    REQUESTS,
    REQUEST_LATENCY,
    APPLICATION_LATENCY,
    DEPLOYMENT_REQUESTS,
    PROCESSING_LATENCY,
    ROUTER_WAIT,
    QUEUED,
    RUNNING,
    SUBMITTED,
    REPLICAS,
    TARGET_REPLICAS,
    MISSING_REPLICAS,
    DEMAND,
    AUTOSCALING_STATE,
    REPLICA_CPU,
    REPLICA_MEMORY,
    FAILED_CALLS,
    REPLICA_STARTS,
    STARTUP_LATENCY,
    HEALTH_CHECK_FAILURES,
    LONG_POLL_LATENCY,
    NODE_CPU,
    NODE_MEMORY,
    NODE_DISK,
)
