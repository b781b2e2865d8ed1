"""The figures that alerts judge: each is defined once and read in two ways.

A plain alert computes the figure from Ray's own series; the recorded form reads the series that a rule of the alerts'
groups recorded. Both come from the same `Figure`, so they cannot drift apart. Counts are recorded over the whole window
of the alert, not in pieces to be summed: nothing is lost when an evaluation is missed, and the first events of new
series are in them (`promql.increase`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from servescope import promql
from servescope.catalog import replica_names
from servescope.catalog.values import APPLICATION_STATUS, DEPLOYMENT_STATUS
from servescope.promql import DEPLOYMENT, REPLICA, Labels, Scope, rollouts
from servescope.settings import Settings

UPDATING = next(code for code, name in DEPLOYMENT_STATUS.items() if name == "UPDATING")
DELETING = next(code for code, name in APPLICATION_STATUS.items() if name == "DELETING")

# Above this an event loop's iteration is late, and an update of the long poll: bounds of Ray's buckets, milliseconds.
LATE_ITERATION_MS = 500
LATE_UPDATE_MS = 5000

# How seldom what changes slowly is evaluated, seconds: what is judged over minutes, and what costs most. The longer one
# is less than the five minutes for which Prometheus takes a sample for the current one: a store may show one late.
MINUTE, MINUTES = 60, 240


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure of alerts, and the rule that records it.

    `inner(scope, settings, offset)` is its expression from Ray's series, as it was `offset` ago ("" is now); `op`
    brings it down to the cluster's labels and `labels`. An alert may ask for fewer labels, never for more. It is
    recorded in the alerts' group `group`, at most every `every_s` seconds.
    """

    record: str
    labels: Labels
    group: str
    help: str
    inner: Callable[[Scope, Settings, str], str]
    every_s: int = 0
    op: str = "sum"


def bound(milliseconds: int) -> str:
    """The matcher of one bucket bound, in the notation of Prometheus 2 and of 3."""
    return f'=~"{milliseconds}([.]0)?"'


def _offset(offset: str) -> str:
    return f" offset {offset}" if offset else ""


def _events(*counters: str, window: str, **extra: str) -> Callable[[Scope, Settings, str], str]:
    """Events of counters in a window, first ones counted."""

    def inner(scope: Scope, settings: Settings, offset: str) -> str:
        hold = settings.rate_window
        return " or ".join(
            promql.increase(scope, counter, window, hold=hold, ended=offset, **extra) for counter in counters
        )

    return inner


def _within(family: str, bound_of: Callable[[Settings], int], window: str, **extra: str) -> Callable[..., str]:
    """Observations of a histogram that are no larger than a bound, exact where the bound is one of its buckets'."""

    def inner(scope: Scope, settings: Settings, offset: str) -> str:
        return _events(f"{family}_bucket", window=window, le=bound(bound_of(settings)), **extra)(
            scope, settings, offset
        )

    return inner


_REQUESTS = ("ray_serve_num_http_requests_total", "ray_serve_num_grpc_requests_total")
_OF_APPLICATIONS = {"application": '!=""'}  # probes and unmatched paths have none
_TIMED = {**_OF_APPLICATIONS, "method": promql.NO_SESSIONS}
_LATENCY = "ray_serve_http_request_latency_ms"
_ROUTING = "ray_serve_request_router_fulfillment_time_ms"
_LOOP = "ray_serve_event_loop_scheduling_latency_ms"
_UPDATES = "ray_serve_long_poll_latency_ms"
_PROCESSING = "ray_serve_deployment_processing_latency_ms"
_STARTUP = "ray_serve_replica_startup_latency_ms"

LOOP: Labels = (*DEPLOYMENT, "component", "loop_type")


def _requests(window: str, *, group: str = "users", every_s: int = 0) -> Figure:
    return Figure(
        record=f"serve_route:requests:increase{window}",
        labels=("application", "route", "status_code"),
        group=group,
        help=f"Requests that the proxies answered in {window}, HTTP and gRPC, by status code.",
        inner=_events(*_REQUESTS, window=window, **_OF_APPLICATIONS),
        every_s=every_s,
    )


REQUESTS_2M = _requests("2m")
REQUESTS_5M = _requests("5m")
REQUESTS_10M = _requests("10m", group="rollout", every_s=MINUTE)
REQUESTS_30M = _requests("30m", every_s=MINUTE)

PROBE_ERRORS = Figure(
    record="serve_proxy:probe_errors:increase2m",
    labels=("NodeAddress",),
    group="users",
    help="Health probes that a proxy answered with a 5xx in two minutes.",
    inner=_events("ray_serve_num_http_requests_total", window="2m", route='="/-/healthz"', status_code='=~"5.."'),
)
UNMATCHED = Figure(
    record="serve_cluster:unmatched_requests:increase5m",
    labels=(),
    group="users",
    help="Requests for paths that match no route, in five minutes.",
    inner=_events(
        "ray_serve_num_http_requests_total", window="5m", application='=""', route='=""', status_code='="404"'
    ),
)
TIMED_REQUESTS = Figure(
    record="serve_application:timed_requests:increase10m",
    labels=("application",),
    group="users",
    help="HTTP requests with a latency in ten minutes: all but WebSocket sessions.",
    inner=_events(f"{_LATENCY}_count", window="10m", **_TIMED),
    every_s=MINUTE,
)
FAST_REQUESTS = Figure(
    record="serve_application:fast_requests:increase10m",
    labels=("application",),
    group="users",
    help="Those of them that took no longer than the setting latency_ms.",
    inner=_within(_LATENCY, lambda settings: settings.latency_ms, "10m", **_TIMED),
    every_s=MINUTE,
)
LATENCY_BUCKETS = Figure(
    record="serve_application:request_latency_ms_bucket:rate10m",
    labels=("application", "le"),
    group="rollout",
    help="Latency buckets of HTTP requests over ten minutes, without WebSocket sessions.",
    inner=lambda scope, settings, offset: f"rate({scope.select(f'{_LATENCY}_bucket', **_TIMED)}[10m]{_offset(offset)})",
    every_s=MINUTE,
)

ROUTED = Figure(
    record="serve_deployment:routed_requests:increase5m",
    labels=DEPLOYMENT,
    group="saturation",
    help="Requests for which a router found a replica, in five minutes.",
    inner=_events(f"{_ROUTING}_count", window="5m"),
    every_s=MINUTE,
)
ROUTED_FAST = Figure(
    record="serve_deployment:fast_routed_requests:increase5m",
    labels=DEPLOYMENT,
    group="saturation",
    help="Those of them that waited no longer than the setting router_wait_ms.",
    inner=_within(_ROUTING, lambda settings: settings.router_wait_ms, "5m"),
    every_s=MINUTE,
)


def _finished(scope: Scope, settings: Settings, offset: str) -> str:
    """With 0 where replicas execute calls: what is not recorded yet must not pass for none."""
    by = (*settings.cluster_key, *DEPLOYMENT)
    gauge = scope.select("ray_serve_replica_processing_queries")
    executing = f"last_over_time({gauge}[{settings.rate_window}]{_offset(offset)})"
    finished = _events(f"{_PROCESSING}_count", window=f"{settings.hung_minutes}m")(scope, settings, offset)
    return f"{promql.total(finished, by)} or 0 * {promql.total(executing, by)}"


FINISHED_WHILE_HUNG = Figure(
    record="serve_deployment:finished_calls:increase_hung",
    labels=DEPLOYMENT,
    group="users",  # before the alert of saturation that reads it every 15 s
    help="Calls that replicas finished in the minutes of the setting hung_minutes.",
    inner=_finished,
    every_s=30,  # a critical alert waits for it
)

HEALTH_CHECK_FAILURES = Figure(
    record="serve_deployment:health_check_failures:increase15m",
    labels=DEPLOYMENT,
    group="replicas",
    help="Failed health checks in fifteen minutes.",
    inner=_events("ray_serve_health_check_failures_total", window="15m"),
)


def _starts(window: str, *, every_s: int = 0) -> Figure:
    return Figure(
        record=f"serve_deployment:replica_starts:increase{window}",
        labels=DEPLOYMENT,
        group="replicas",
        # As the controller counts them: a replica that crashes at once never reports its own start.
        help=f"Replicas that the controller saw start in {window}.",
        inner=_events(f"{_STARTUP}_count", window=window),
        every_s=every_s,
    )


STARTS_15M = _starts("15m")
STARTS_30M = _starts("30m", every_s=MINUTE)
FAST_STARTS = Figure(
    record="serve_deployment:fast_replica_starts:increase30m",
    labels=DEPLOYMENT,
    group="replicas",
    help="Those of half an hour that took no longer than the setting slow_start_ms.",
    inner=_within(_STARTUP, lambda settings: settings.slow_start_ms, "30m"),
    every_s=MINUTE,
)


def _ended_replicas(scope: Scope, settings: Settings, offset: str) -> str:
    hold = settings.rate_window
    by = (*settings.cluster_key, *DEPLOYMENT)

    def ended(at: str) -> str:
        dead = scope.select("ray_actors", Source='="gcs"', State='="DEAD"', Name=f'=~"{replica_names.ACTOR}"')
        return promql.replica_actors(f"last_over_time({dead}[{hold}]{at})", by)

    now, then = ended(_offset(offset)), f"{_offset(offset)} offset 10m" if offset else " offset 10m"
    # The first that ends has no earlier sample; but a Prometheus that has just started must not count old events.
    watched = promql.total(
        f"last_over_time({scope.select('ray_node_cpu_utilization')}[{hold}]{then})", settings.cluster_key, "group"
    )
    before = f"({ended(then)} or (0 * {now} and on ({', '.join(settings.cluster_key)}) {watched}))"
    return f"{now} - {before}"


ENDED_REPLICAS = Figure(
    record="serve_deployment:ended_replicas:increase10m",
    labels=DEPLOYMENT,
    group="replicas",
    help="Replicas that ended in ten minutes, however they did, as the GCS counts dead actors.",
    inner=_ended_replicas,
)
CALLS = Figure(
    record="serve_replica:calls:increase10m",
    labels=REPLICA,
    group="replicas",
    help="Calls that a replica finished in ten minutes, failed ones included.",
    inner=_events(f"{_PROCESSING}_count", window="10m"),
    every_s=MINUTE,
)
FAILED_CALLS = Figure(
    record="serve_replica:failed_calls:increase10m",
    labels=REPLICA,
    group="replicas",
    help="Calls of a replica that raised in ten minutes.",
    inner=_events("ray_serve_deployment_error_counter_total", window="10m"),
    every_s=MINUTE,
)


def _processing_time(level: float, window: str, labels: Labels) -> Callable[[Scope, Settings, str], str]:
    def inner(scope: Scope, settings: Settings, offset: str) -> str:
        buckets = f"rate({scope.select(f'{_PROCESSING}_bucket')}[{window}]{_offset(offset)})"
        return promql.quantile(level, promql.total(buckets, (*settings.cluster_key, *labels, "le")))

    return inner


PROCESSING_P95 = Figure(
    record="serve_replica:processing_latency_ms:p95_10m",
    labels=REPLICA,
    group="replicas",
    help="Processing time of a replica's calls over ten minutes, p95.",
    inner=_processing_time(0.95, "10m", REPLICA),
    every_s=MINUTES,
    op="max",
)
PROCESSING_P99 = Figure(
    record="serve_deployment:processing_latency_ms:p99_30m",
    labels=DEPLOYMENT,
    group="rollout",
    help="Processing time of a deployment's calls over half an hour, p99.",
    inner=_processing_time(0.99, "30m", DEPLOYMENT),
    every_s=MINUTES,
    op="max",
)
CALLS_30M = Figure(
    record="serve_deployment:calls:increase30m",
    labels=DEPLOYMENT,
    group="rollout",
    help="Calls that a deployment's replicas finished in half an hour, failed ones included.",
    inner=_events(f"{_PROCESSING}_count", window="30m"),
    every_s=MINUTES,
)


def _deployed(scope: Scope, settings: Settings, offset: str) -> str:
    # An application that is being deleted is reported as UPDATING too; the service's other cluster may be updating.
    each = (*settings.cluster_key, "application")
    deploying = (
        f"{scope.select('ray_serve_deployment_status')} == {UPDATING} "
        f"unless on ({', '.join(each)}) {scope.select('ray_serve_application_status')} == {DELETING}"
    )
    # The subquery's step is the scrape interval: a longer one could miss a rollout of seconds. Serve reports its states
    # every ten seconds, so that a rollout can begin and end between two reports: then only the exporter saw it.
    updating = promql.total(
        f"max_over_time(({deploying})[30m:{settings.scrape_interval_s}s]{_offset(offset)})", each, "group"
    )
    changed = rollouts.changed(scope, "30m", each, hold=settings.rate_window)
    return f"({updating} or {changed})"


DEPLOYED = Figure(
    record="serve_application:deployed:last30m",
    labels=("application",),
    group="rollout",
    help="1 for applications with a deploy in the last half hour.",
    inner=_deployed,
    every_s=MINUTE,
    op="group",
)

ITERATIONS = Figure(
    record="serve_loop:iterations:increase5m",
    labels=LOOP,
    group="control",
    help="Iterations of an event loop's monitor in five minutes.",
    inner=_events(f"{_LOOP}_count", window="5m"),
    every_s=MINUTE,
)
PUNCTUAL_ITERATIONS = Figure(
    record="serve_loop:punctual_iterations:increase5m",
    labels=LOOP,
    group="control",
    help=f"Those of them that ran no more than {LATE_ITERATION_MS} ms late.",
    inner=_within(_LOOP, lambda settings: LATE_ITERATION_MS, "5m"),
    every_s=MINUTE,
)
UPDATES = Figure(
    record="serve_cluster:long_poll_updates:increase5m",
    labels=(),
    group="control",
    help="Updates by long poll in five minutes.",
    inner=_events(f"{_UPDATES}_count", window="5m"),
    every_s=MINUTES,
)
FAST_UPDATES = Figure(
    record="serve_cluster:fast_long_poll_updates:increase5m",
    labels=(),
    group="control",
    help=f"Those of them that took no longer than {LATE_UPDATE_MS / 1000:g} s.",
    inner=_within(_UPDATES, lambda settings: LATE_UPDATE_MS, "5m"),
    every_s=MINUTES,
)

NODE_FAILURES = Figure(
    record="ray_cluster:node_failures:increase10m",
    labels=(),
    group="nodes",
    help="Nodes that the GCS declared dead in ten minutes, those that the autoscaler removed among them.",
    inner=_events("ray_node_failure_total", window="10m"),
)
STOPPED_NODES = Figure(
    record="ray_cluster:stopped_nodes:increase15m",
    labels=(),
    group="nodes",
    help="Nodes that the autoscaler removed in fifteen minutes.",
    inner=_events("autoscaler_stopped_nodes_total", window="15m"),
)

FIGURES: tuple[Figure, ...] = (
    REQUESTS_2M,
    REQUESTS_5M,
    REQUESTS_10M,
    REQUESTS_30M,
    PROBE_ERRORS,
    UNMATCHED,
    TIMED_REQUESTS,
    FAST_REQUESTS,
    LATENCY_BUCKETS,
    ROUTED,
    ROUTED_FAST,
    FINISHED_WHILE_HUNG,
    HEALTH_CHECK_FAILURES,
    STARTS_15M,
    STARTS_30M,
    FAST_STARTS,
    ENDED_REPLICAS,
    CALLS,
    FAILED_CALLS,
    PROCESSING_P95,
    PROCESSING_P99,
    CALLS_30M,
    DEPLOYED,
    ITERATIONS,
    PUNCTUAL_ITERATIONS,
    UPDATES,
    FAST_UPDATES,
    NODE_FAILURES,
    STOPPED_NODES,
)
