"""Calls to the deployment: rate, outcome, processing time and queues."""

from __future__ import annotations

from servescope import promql
from servescope.dashboards import common
from servescope.dashboards.common import DEPLOYMENT_LEGEND, WINDOW, histogram_quantile
from servescope.dashboards.deployment.figures import failed_ratio
from servescope.dashboards.rows import logs
from servescope.grafana import panels
from servescope.grafana.colors import PALETTE
from servescope.grafana.model import Panel, Threshold
from servescope.promql import DEPLOYMENT, capacity
from servescope.promql.signals import (
    DEPLOYMENT_REQUESTS,
    PROCESSING_LATENCY,
    QUEUED,
    ROUTER_WAIT,
    RUNNING,
    SUBMITTED,
    Reader,
)


def now(reader: Reader) -> list[Panel]:
    """Current values."""
    missing = promql.total(capacity.missing_replicas(reader))
    return [
        panels.stat(
            "Calls",
            description="Calls per second that the replicas finished, failed calls included.",
            unit="reqps",
            queries=[panels.query(reader.read(DEPLOYMENT_REQUESTS))],
            thresholds=(Threshold(None, PALETTE.neutral),),
            links=(common.to_panel("servescope-deployment", "Calls by outcome", "application", "deployment"),),
        ),
        panels.stat(
            "Error ratio",
            description=(
                "Share of calls that ended in an exception. Serve does not count an HTTPException raised by the "
                "application or a rejected request as an exception: see the overview for those."
            ),
            unit="percentunit",
            queries=[panels.query(failed_ratio(reader))],
            thresholds=common.ERROR_RATIO,
            links=(common.to_panel("servescope-deployment", "Failed calls by exception", "application", "deployment"),),
        ),
        panels.stat(
            "Processing time p95",
            description="95 % of calls took at most this long in the replica, time in the queue excluded.",
            unit="ms",
            queries=[panels.query(reader.quantile(0.95, PROCESSING_LATENCY))],
            thresholds=(Threshold(None, PALETTE.neutral),),
            links=(common.to_panel("servescope-deployment", "Processing time", "application", "deployment"),),
        ),
        panels.stat(
            "Queued",
            description="Requests that wait in proxies and handles until a replica accepts them. Normal is near 0.",
            unit="short",
            queries=[panels.query(reader.read(QUEUED))],
            thresholds=common.NEUTRAL,
            links=(common.to_panel("servescope-deployment", "Queued requests", "application", "deployment"),),
        ),
        panels.stat(
            "Executing",
            description="Requests that the replicas are executing now.",
            unit="short",
            queries=[panels.query(reader.read(RUNNING))],
            thresholds=(Threshold(None, PALETTE.neutral),),
            links=(common.to_panel("servescope-deployment", "Concurrency utilization", "application", "deployment"),),
        ),
        panels.stat(
            "Missing replicas",
            description=(
                "Target replicas that are not healthy. Normal is 0, except for about a minute after a scale-up."
            ),
            unit="none",
            queries=[panels.query(missing)],
            thresholds=common.NEUTRAL,
            links=(common.to_panel("servescope-deployment", "Autoscaling state", "application", "deployment"),),
        ),
    ]


def calls(reader: Reader) -> list[Panel]:
    """Calls by outcome and exception."""
    failures = promql.events(
        reader.scope, "ray_serve_deployment_error_counter_total", ("deployment", "exception_type"), window="$__interval"
    )
    return [
        panels.timeseries(
            "Calls by outcome",
            description="Calls finished per second: successful (blue) and ended in an exception (red).",
            unit="reqps",
            queries=[
                panels.query(reader.read(DEPLOYMENT_REQUESTS, (), outcome='="ok"'), "ok"),
                panels.query(reader.read(DEPLOYMENT_REQUESTS, (), outcome='="error"'), "error"),
            ],
            width=12,
            stack=True,
            colors={"ok": PALETTE.neutral, "error": PALETTE.failing},
            links=(logs.TO_LOGS,),
        ),
        panels.timeseries(
            "Failed calls by exception",
            description=(
                "Exceptions in each interval by type, the first of a type included. RayTaskError(X) means that a "
                "downstream deployment raised X; CancelledError means a client that disconnected or a timeout. Ray "
                "before 2.60 does not export the type."
            ),
            unit="short",
            queries=[panels.query(failures, "{{deployment}} {{exception_type}}")],
            width=12,
            bars=True,
        ),
    ]


def calls_in_detail(reader: Reader) -> list[Panel]:
    """Calls by deployment and route."""
    routed = reader.scope.narrowed(route='=~"$route"')
    by_route = ("application", "deployment", "route")
    return [
        panels.timeseries(
            "Calls by deployment",
            description="Calls finished per second by each deployment, failed calls included.",
            unit="reqps",
            queries=[panels.query(reader.read(DEPLOYMENT_REQUESTS, DEPLOYMENT), DEPLOYMENT_LEGEND)],
        ),
        panels.timeseries(
            "Error ratio by deployment",
            description=(
                "Share of each deployment's calls that ended in an exception. No data while a deployment gets no calls."
            ),
            unit="percentunit",
            queries=[panels.query(failed_ratio(reader, DEPLOYMENT), DEPLOYMENT_LEGEND)],
            min=0,
            thresholds=common.ERROR_RATIO,
        ),
        panels.timeseries(
            "Calls by route",
            description=(
                "Calls finished per second by the route of the client's request, in downstream deployments too."
            ),
            unit="reqps",
            queries=[
                panels.query(
                    promql.total(promql.deployment_requests(routed, WINDOW), by_route),
                    "{{deployment}} {{route}}",
                )
            ],
        ),
        panels.timeseries(
            "Handle calls by deployment",
            description=(
                "Calls per second that other deployments and the proxies sent, by the deployment called. More calls "
                "sent than finished means that they queue up or are rejected."
            ),
            unit="reqps",
            queries=[
                panels.query(
                    promql.total(reader.scope.rate("ray_serve_num_router_requests_total", WINDOW), DEPLOYMENT),
                    DEPLOYMENT_LEGEND,
                )
            ],
        ),
    ]


def latency(reader: Reader) -> list[Panel]:
    """Processing times."""
    return [
        panels.timeseries(
            "Processing time",
            description=(
                "Time that replicas spend on a call, failed calls included, time in the queue excluded. Precision is "
                "limited by the histogram buckets. For a replica a WebSocket session is one call that lasts as long "
                "as the session: its metric has no method label, so a deployment of sessions shows their length."
            ),
            unit="ms",
            queries=common.quantile_queries(reader, PROCESSING_LATENCY),
            width=12,
            min=0,
        ),
        panels.heatmap(
            "Processing time distribution",
            description=(
                "Calls per second in each bucket of processing time. Two bands mean two kinds of call; a band that "
                "rises means that all calls slow down."
            ),
            unit="ms",
            target=panels.query(reader.read(PROCESSING_LATENCY, ("le",))),
            width=12,
        ),
    ]


def latency_in_detail(reader: Reader) -> list[Panel]:
    """Processing times by deployment and route, and the longest."""
    routed = reader.scope.narrowed(route='=~"$route"')
    by_route = promql.total(
        routed.rate("ray_serve_deployment_processing_latency_ms_bucket", WINDOW),
        ("deployment", "route", "le"),
    )
    longest = promql.total(reader.select("ray_serve_deployment_max_processing_latency_ms"), DEPLOYMENT, "max")
    return [
        panels.timeseries(
            "Processing time p95 by deployment",
            description=(
                "95 % of each deployment's calls took at most this long in the replica. The time of a caller includes "
                "the time of the deployments that it calls: the cause is the furthest downstream deployment that "
                "slowed down."
            ),
            unit="ms",
            queries=[panels.query(reader.quantile(0.95, PROCESSING_LATENCY, DEPLOYMENT), DEPLOYMENT_LEGEND)],
            min=0,
        ),
        panels.timeseries(
            "Processing time p95 by route",
            description="95 % of calls took at most this long in the replica, by deployment and route.",
            unit="ms",
            queries=[panels.query(promql.quantile(0.95, by_route), "{{deployment}} {{route}}")],
            width=12,
            min=0,
        ),
        panels.timeseries(
            "Maximum processing time",
            description="Longest call of the last minute, exact and not estimated from buckets. Since Ray 2.60.",
            unit="ms",
            queries=[panels.query(longest, DEPLOYMENT_LEGEND)],
            width=12,
            min=0,
        ),
    ]


def queue(reader: Reader) -> list[Panel]:
    """Queued requests and routing."""
    return [
        panels.timeseries(
            "Queued requests",
            description="Requests queued in proxies and handles, by the deployment that they wait for.",
            unit="short",
            queries=[panels.query(reader.read(QUEUED, DEPLOYMENT), DEPLOYMENT_LEGEND)],
            width=12,
            min=0,
        ),
        panels.timeseries(
            "Router wait",
            description=(
                "Time from the start of routing until a replica accepted the request. Normal is near 0; it grows when "
                "all replicas are at max_ongoing_requests."
            ),
            unit="ms",
            queries=common.quantile_queries(reader, ROUTER_WAIT),
            width=12,
            min=0,
        ),
    ]


def queue_in_detail(reader: Reader) -> list[Panel]:
    """Callers, requests in flight and routing."""
    routing = promql.lasting(reader.scope, "ray_serve_num_scheduling_tasks", WINDOW)
    backing_off = promql.lasting(reader.scope, "ray_serve_num_scheduling_tasks_in_backoff", WINDOW)
    return [
        panels.timeseries(
            "Longest queue of a single caller",
            description=(
                "Requests queued in the caller (a proxy or a handle) that has the most, and max_queued_requests where "
                "it is set (dashed). The limit applies to each caller on its own: at the limit that caller's requests "
                "are rejected."
            ),
            unit="short",
            queries=[
                panels.query(common.by_deployment(capacity.fullest_caller(reader), "max"), DEPLOYMENT_LEGEND),
                panels.query(common.by_deployment(capacity.queue_limit(reader), "max"), f"{DEPLOYMENT_LEGEND} limit"),
            ],
            min=0,
            dashed=("/limit$/",),
        ),
        panels.timeseries(
            "Requests in flight (sent / executing)",
            description=(
                "Requests that callers sent to replicas (grey) and that replicas execute (blue). A persistent "
                "difference means that responses are in transit or replicas are stuck."
            ),
            unit="short",
            queries=[
                panels.query(reader.read(RUNNING), "in progress"),
                panels.query(reader.read(SUBMITTED), "sent"),
            ],
            min=0,
            colors={"in progress": PALETTE.neutral, "sent": PALETTE.muted},
        ),
        panels.timeseries(
            "Routing tasks",
            description=(
                "Highest number of concurrent routing tasks in the interval, and how many of them backed off because "
                "every replica was full. Ray drops these series when nothing changes, also while requests hang."
            ),
            unit="short",
            queries=[
                panels.query(promql.total(routing, DEPLOYMENT), f"{DEPLOYMENT_LEGEND} routing"),
                panels.query(promql.total(backing_off, DEPLOYMENT), f"{DEPLOYMENT_LEGEND} backing off"),
            ],
            min=0,
        ),
        panels.timeseries(
            "Argument resolution time p95",
            description=(
                "Time that calls waited, before routing, for the results of other calls passed as arguments. Since Ray "
                "2.60."
            ),
            unit="ms",
            queries=[
                panels.query(
                    histogram_quantile(reader, 0.95, "ray_serve_router_args_resolution_latency_ms", by=DEPLOYMENT),
                    DEPLOYMENT_LEGEND,
                )
            ],
            min=0,
        ),
    ]
