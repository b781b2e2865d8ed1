"""servescope-overview: is anything wrong, in which application, and since when?"""

from __future__ import annotations

from dataclasses import replace

from servescope import promql
from servescope.dashboards import common, slo
from servescope.dashboards.rows import alerts
from servescope.grafana import layout, panels
from servescope.grafana.colors import PALETTE
from servescope.grafana.layout import Dashboard
from servescope.grafana.model import Column, Panel, Threshold
from servescope.promql import APPLICATION, DEPLOYMENT, capacity, rollouts
from servescope.promql.signals import (
    APPLICATION_LATENCY,
    DEPLOYMENT_REQUESTS,
    FAILED_CALLS,
    HEALTH_CHECK_FAILURES,
    PROCESSING_LATENCY,
    QUEUED,
    REPLICA_STARTS,
    REPLICAS,
    REQUESTS,
    TARGET_REPLICAS,
    Reader,
)
from servescope.settings import Settings

_NO_SESSION = "an application that accepts WebSockets"


def build(settings: Settings, *, recorded: bool = False) -> Dashboard:
    """The dashboard, plain or reading recorded series."""
    reader = common.reader(settings, recorded, "application")
    return layout.dashboard(
        uid="servescope-overview",
        title="Ray Serve / Overview",
        description="Is anything wrong, in which application, and since when?",
        first_look=(
            "Firing alerts at the top left: what is critical is first. Beside it what was changed last, and the SLOs "
            "that burn fastest. Then the figures: the first two are red where an application or a deployment is not "
            "healthy. The timelines name it and show since when; in the table the application with the highest error "
            "ratio is on top. Click its name."
        ),
        rows=[
            panels.row(
                "Health",
                [
                    alerts.firing(common.reader(settings, recorded), width=10),
                    _changes(reader),
                    slo.state(settings.cluster_label),
                    *_health(reader),
                ],
            ),
            panels.row("Traffic", _traffic(reader)),
            panels.row("Deployments", _deployments(reader)),
            panels.row("Traffic in detail", _traffic_in_detail(reader), collapsed=True),
            panels.row("Deployments in detail", _deployments_in_detail(reader), collapsed=True),
            panels.row("Events", _events(reader), collapsed=True),
            panels.row("gRPC", _grpc(reader), collapsed=True),
            panels.row("WebSocket", _sessions(reader), collapsed=True),
            panels.row("Alerts managed by Grafana", [alerts.managed()], collapsed=True),
        ],
        variables=common.standard_variables(settings, "application"),
        annotations=common.rollout_marks(settings, "application"),
        settings=settings,
    )


def _p95(reader: Reader) -> str:
    return reader.quantile(0.95, APPLICATION_LATENCY, APPLICATION)


def _in_flight_share(reader: Reader) -> str:
    return common.by_deployment(capacity.in_flight_share(reader), "max")


def _in_trouble(reader: Reader, status: str, by: promql.Labels) -> str:
    """How many applications or deployments are UNKNOWN, DEPLOY_FAILED or UNHEALTHY; 0 when Serve reports none."""
    worst = promql.total(reader.select(status), (*reader.settings.cluster_key, *by), "min")
    return f"count({worst} <= {common.TROUBLE_CODE}) or 0 * count({worst})"


def _health(reader: Reader) -> list[Panel]:
    each = (*reader.settings.cluster_key, *APPLICATION)
    return [
        panels.stat(
            "Unhealthy applications",
            description=(
                "Number of applications whose status is DEPLOY_FAILED, UNHEALTHY or UNKNOWN. Normal is 0. An "
                "application that failed to deploy returns 503 on its route, while the proxies' own health check still "
                "succeeds."
            ),
            unit="none",
            queries=[panels.query(_in_trouble(reader, "ray_serve_application_status", APPLICATION))],
            width=6,
            height=3,
            thresholds=common.ANY_IS_BAD,
            links=(common.to_panel("servescope-overview", "Application status", "application"),),
        ),
        panels.stat(
            "Unhealthy deployments",
            description=(
                "Number of deployments whose status is DEPLOY_FAILED, UNHEALTHY or UNKNOWN. Normal is 0. A replica "
                "that crashes and recovers within a few seconds does not change the status: see Replica starts below."
            ),
            unit="none",
            queries=[panels.query(_in_trouble(reader, "ray_serve_deployment_status", DEPLOYMENT))],
            width=6,
            height=3,
            thresholds=common.ANY_IS_BAD,
            links=(common.to_panel("servescope-overview", "Deployment status", "application"),),
        ),
        panels.stat(
            "Requests",
            description="Requests per second that all proxies answered, HTTP and gRPC, failed requests included.",
            unit="reqps",
            queries=[panels.query(reader.read(REQUESTS))],
            width=6,
            height=3,
            thresholds=(Threshold(None, PALETTE.neutral),),
            links=(common.to_panel("servescope-overview", "Requests by outcome", "application"),),
        ),
        panels.stat(
            "Error ratio",
            description=(
                "Share of requests that ended in a 5xx, back-pressure by 503 included. 4xx responses and disconnected "
                "clients (499) are not errors. Amber from 0.1 %, red from 1 %."
            ),
            unit="percentunit",
            queries=[panels.query(common.error_ratio(reader))],
            width=6,
            height=3,
            thresholds=common.ERROR_RATIO,
            links=(common.to_panel("servescope-overview", "Error ratio by application", "application"),),
        ),
        panels.stat(
            "Back-pressure",
            description=(
                "Share of requests that Serve rejected because a queue was full (503, or 429 where the deployment is "
                "configured so). Normal is 0. Above 0 clients are being rejected: add replicas or raise the limits."
            ),
            unit="percentunit",
            queries=[panels.query(common.outcome_ratio(reader, "shed"))],
            width=6,
            height=3,
            thresholds=common.ERROR_RATIO,
            links=(common.to_panel("servescope-overview", "Non-success responses by status code", "application"),),
        ),
        panels.stat(
            "Latency p95",
            description=(
                "95 % of requests were answered within this time, measured at the proxy, for all outcomes. The value "
                "is interpolated within one histogram bucket, and Ray has no bucket bound between 10 s and 60 s."
            ),
            unit="ms",
            queries=[panels.query(reader.quantile(0.95, APPLICATION_LATENCY))],
            width=6,
            height=3,
            thresholds=(Threshold(None, PALETTE.neutral),),
            links=(common.to_panel("servescope-overview", "Latency p95 by application", "application"),),
        ),
        panels.stat(
            "Queued requests",
            description=(
                "Requests that wait in proxies and handles because no replica can accept them. Short waits are normal; "
                "a value that stays above 0 means that the load exceeds the capacity of the replicas."
            ),
            unit="short",
            queries=[panels.query(reader.read(QUEUED))],
            width=6,
            height=3,
            thresholds=common.NEUTRAL,
            links=(common.to_panel("servescope-overview", "Queued requests by deployment", "application"),),
        ),
        panels.stat(
            "Missing replicas",
            description=(
                "Target replicas that are not healthy yet, summed over all deployments. Normal is 0, except for about "
                "a minute after a scale-up."
            ),
            unit="none",
            queries=[panels.query(promql.total(capacity.missing_replicas(reader)))],
            width=6,
            height=3,
            thresholds=common.NEUTRAL,
            links=(common.to_panel("servescope-overview", "Autoscaling state", "application"),),
        ),
        panels.state_timeline(
            "Application status",
            description=(
                "Status of each application as Serve's controller reports it. Applications that are RUNNING share one "
                "green band. Outages shorter than the ten-second report interval are not visible."
            ),
            queries=common.not_at_rest(
                promql.total(reader.select("ray_serve_application_status"), APPLICATION, "min"),
                common.code(common.APPLICATION_STATES, "RUNNING"),
                "{{application}}",
            ),
            states=common.APPLICATION_STATES,
            width=10,
            height=8,
        ),
        panels.table(
            "Applications",
            description="Current state of each application, by cluster. Click a name to open its deployments.",
            queries=[
                panels.query(reader.read(REQUESTS, each)),
                panels.query(common.error_ratio(reader, each)),
                panels.query(reader.quantile(0.95, APPLICATION_LATENCY, each)),
                panels.query(reader.read(REPLICAS, each)),
                panels.query(promql.total(capacity.missing_replicas(reader), each)),
                panels.query(reader.read(QUEUED, each)),
            ],
            columns=[
                *common.cluster_columns(reader.settings),
                Column("application", "Application", links=(common.to_deployment("${__value.text}"),)),
                Column("Value #A", "Requests", unit="reqps", decimals=1),
                Column("Value #B", "Error ratio", unit="percentunit", thresholds=common.ERROR_RATIO),
                Column("Value #C", "Latency p95", unit="ms"),
                Column("Value #D", "Replicas", unit="none"),
                Column("Value #E", "Missing", unit="none"),
                Column("Value #F", "Queued", unit="none"),
            ],
            sort_by="Error ratio",
            width=14,
            height=8,
        ),
    ]


def _changes(reader: Reader) -> Panel:
    return panels.table(
        "Recent changes",
        description=(
            "Deployments whose configuration or code changed in the time range, the latest first. What the change did "
            "to errors and times is on the deployment dashboard."
        ),
        queries=[panels.query(f"1000 * {rollouts.last_change(reader.scope)}")],
        columns=[
            *common.cluster_columns(reader.settings),
            common.APPLICATION_COLUMN,
            Column("deployment", "Deployment", links=(common.ROW_TO_DEPLOYMENT,)),
            Column("Value #A", "Changed", unit="dateTimeFromNow"),
        ],
        sort_by="Changed",
        width=7,
        height=6,
        absent="a deploy in the time range",
    )


def _traffic(reader: Reader) -> list[Panel]:
    return [
        panels.timeseries(
            "Requests by outcome",
            description=(
                "Requests per second that the proxies answered, by outcome. Blue is success; red (5xx) and amber "
                "(back-pressure) are failures of the service; grey and violet are caused by clients. A WebSocket "
                "session counts once, when it ends, by its close code: 1000 and 1001 are success, 1011 to 1014 "
                "errors, 1005 and 1006 a client that disconnected. A stream that breaks after its first byte is a "
                "success here, because its status was sent before (with Ray 2.54 an error): see Failed calls."
            ),
            unit="reqps",
            queries=common.outcome_queries(reader),
            width=6,
            stack=True,
            colors=common.outcome_colors(reader.settings),
        ),
        panels.timeseries(
            "Error ratio by application",
            description=(
                "Share of each application's requests that ended in a 5xx. No data while an application has no traffic."
            ),
            unit="percentunit",
            queries=[panels.query(common.largest(common.error_ratio(reader, APPLICATION)), "{{application}}")],
            width=6,
            min=0,
            thresholds=common.ERROR_RATIO,
            links=(common.to_deployment(),),
        ),
        panels.timeseries(
            "Latency",
            description=(
                "Time from a request's arrival at the proxy to the end of its answer. p50 is the median request, p99 "
                "is exceeded by one request in a hundred. Precision is limited by the histogram buckets: Ray has no "
                "bound between 10 s and 60 s. WebSocket sessions are left out: see WebSocket session length."
            ),
            unit="ms",
            queries=common.quantile_queries(reader, APPLICATION_LATENCY),
            width=6,
            min=0,
        ),
        panels.timeseries(
            "Latency p95 by application",
            description="95 % of each application's requests were answered within this time, measured at the proxy.",
            unit="ms",
            queries=[panels.query(common.largest_first(reader, _p95, APPLICATION), "{{application}}")],
            width=6,
            min=0,
            links=(common.to_deployment(),),
        ),
    ]


def _traffic_in_detail(reader: Reader) -> list[Panel]:
    buckets = reader.read(APPLICATION_LATENCY, ("le",))
    not_answered = reader.read(REQUESTS, ("application", "status_code"), status_code=f'!~"{promql.SUCCESS_CODES}"')
    return [
        panels.timeseries(
            "Requests by application",
            description="Requests per second that the proxies answered, by application, failed requests included.",
            unit="reqps",
            queries=[panels.query(common.largest(reader.read(REQUESTS, APPLICATION)), "{{application}}")],
            links=(common.to_deployment(),),
        ),
        panels.heatmap(
            "Latency distribution",
            description=(
                "Requests per second in each latency bucket. Two bands mean two kinds of request; a band that rises "
                "means that all requests slow down."
            ),
            unit="ms",
            target=panels.query(buckets),
            width=8,
        ),
        panels.timeseries(
            "Non-success responses by status code",
            description=(
                "Responses per second that were not a success, by application and status code. 404, 405 and 422 are "
                "client errors; 408 is Serve's request timeout; 429 and 503 are back-pressure (503 also when no "
                "replica is available); 499 is a client that disconnected. Four digits are the close code of a "
                "WebSocket: 1005 and 1006 a client that left without one, 1011 to 1014 an error of the service, 1008 "
                "and 3000 or more what the application says of its client."
            ),
            unit="reqps",
            queries=[panels.query(common.largest(not_answered), "{{application}} {{status_code}}")],
            width=12,
        ),
        panels.timeseries(
            "Unmatched and probe traffic",
            description=(
                "Requests that belong to no application: health probes, route listings, and paths that match no route "
                "prefix (404, no route in the legend). Scanners and clients with a wrong URL are visible only here."
            ),
            unit="reqps",
            queries=[
                panels.query(
                    reader.read(REQUESTS, ("route", "status_code"), application='=""'), "{{status_code}} {{route}}"
                )
            ],
            width=12,
        ),
    ]


def _sessions(reader: Reader) -> list[Panel]:
    ended = reader.read(REQUESTS, ("application", "status_code"), method=promql.SESSIONS)
    lasted = reader.scope.rate("ray_serve_http_request_latency_ms_bucket", common.WINDOW, method=promql.SESSIONS)
    median, p95 = (promql.quantile(level, promql.total(lasted, ("application", "le"))) for level in (0.5, 0.95))
    return [
        panels.timeseries(
            "WebSocket sessions ended",
            description=(
                "WebSocket sessions that ended, per second, by application and close code: 1000 and 1001 are a normal "
                "end, 1005 and 1006 a client that left without a code, 1011 to 1014 errors of the service, as is 500: "
                "a handler that raised, or did not catch the WebSocketDisconnect of a client that left. Sessions that "
                "are open do not show: Serve counts a session when it ends, under the application's route prefix."
            ),
            unit="reqps",
            queries=[panels.query(common.largest(ended), "{{application}} {{status_code}}")],
            width=12,
            height=6,
            absent=_NO_SESSION,
        ),
        panels.timeseries(
            "WebSocket session length",
            description=(
                "How long the WebSocket sessions lasted that ended: the median, and what 95 % did not exceed. The "
                "longest bucket of Ray ends at 10 minutes."
            ),
            unit="ms",
            queries=[
                panels.query(common.largest(median, among=p95, most=10), "{{application}} p50"),
                panels.query(common.largest(p95, most=10), "{{application}} p95"),
            ],
            min=0,
            width=12,
            height=6,
            absent=_NO_SESSION,
        ),
    ]


def _grpc(reader: Reader) -> list[Panel]:
    return [
        panels.timeseries(
            "gRPC requests by status",
            description="gRPC requests per second at the proxies, by application and gRPC status.",
            unit="reqps",
            queries=[
                panels.query(
                    common.largest(
                        promql.total(
                            reader.scope.rate("ray_serve_num_grpc_requests_total", "$__rate_interval"),
                            ("application", "status_code"),
                        )
                    ),
                    "{{application}} {{status_code}}",
                )
            ],
            width=24,
            height=6,
            absent="a gRPC ingress with traffic",
        ),
    ]


def _deployments(reader: Reader) -> list[Panel]:
    failed = promql.or_zero(reader.events_over_range(FAILED_CALLS, DEPLOYMENT), reader.scope)
    return [
        panels.state_timeline(
            "Deployment status",
            description=(
                f"Status of each deployment as Serve's controller reports it. {common.CHANGES} Deployments that are "
                f"HEALTHY share one green band. Outages shorter than ten seconds are not visible."
            ),
            queries=common.not_at_rest(
                promql.total(reader.select("ray_serve_deployment_status"), DEPLOYMENT, "min"),
                common.code(common.DEPLOYMENT_STATES, "HEALTHY"),
                common.DEPLOYMENT_LEGEND,
            ),
            states=common.DEPLOYMENT_STATES,
            width=24,
            height=8,
            links=(common.SERIES_TO_DEPLOYMENT,),
        ),
        panels.bar_gauge(
            "Top deployments by failed calls",
            description=(
                "Calls that ended in an exception over the whole time range, first failures included: the ten "
                "deployments with the most. A failure in a downstream deployment is also counted in each of its "
                "callers."
            ),
            unit="short",
            queries=[panels.query(f"topk(10, {failed})", common.DEPLOYMENT_LEGEND, instant=True)],
            width=12,
            thresholds=common.ANY_IS_BAD,
            links=(common.SERIES_TO_DEPLOYMENT,),
        ),
        panels.state_timeline(
            "Autoscaling state",
            description=common.WHY_OTHERS,
            queries=common.not_at_rest(
                common.by_deployment(capacity.autoscaling_state(reader), "max"),
                capacity.STEADY,
                common.DEPLOYMENT_LEGEND,
            ),
            states=common.WHY_STATES,
            width=12,
            links=(common.SERIES_TO_DEPLOYMENT,),
        ),
    ]


def _deployments_in_detail(reader: Reader) -> list[Panel]:
    over_range = replace(reader, window="$__range")
    p95 = over_range.quantile(0.95, PROCESSING_LATENCY, DEPLOYMENT)
    return [
        panels.bar_gauge(
            "Top deployments by latency (p95)",
            description=(
                "95 % of calls took at most this long in the replica, over the whole time range: the ten slowest "
                "deployments. The time of a caller includes the time of the deployments that it calls."
            ),
            unit="ms",
            queries=[panels.query(f"topk(10, ({p95}) > -Inf)", common.DEPLOYMENT_LEGEND, instant=True)],
            thresholds=(Threshold(None, PALETTE.neutral),),
            links=(common.SERIES_TO_DEPLOYMENT,),
        ),
        panels.bar_gauge(
            "Top deployments by queue length",
            description="Requests queued for each deployment now: the ten longest queues.",
            unit="short",
            queries=[
                panels.query(f"topk(10, {reader.read(QUEUED, DEPLOYMENT)})", common.DEPLOYMENT_LEGEND, instant=True)
            ],
            thresholds=common.NEUTRAL,
            links=(common.SERIES_TO_DEPLOYMENT,),
        ),
        panels.timeseries(
            "Concurrency utilization by deployment",
            description=(
                "Requests executing on the healthy replicas as a share of their capacity (replicas x "
                "max_ongoing_requests). At 100 % new requests queue. What to change is on the capacity dashboard."
            ),
            unit="percentunit",
            queries=[
                panels.query(
                    common.largest_first(reader, _in_flight_share, DEPLOYMENT),
                    common.DEPLOYMENT_LEGEND,
                )
            ],
            width=10,
            min=0,
            thresholds=common.UTILIZATION,
            links=(common.SERIES_TO_DEPLOYMENT,),
        ),
        panels.stat(
            "Capped by max_replicas",
            description=(
                "Deployments whose required replicas exceed max_replicas now. Normal is 0. Raise max_replicas or shed "
                "load: see the capacity dashboard."
            ),
            unit="none",
            queries=[panels.query(capacity.capped(reader))],
            width=4,
            height=8,
            thresholds=common.ANY_IS_RISKY,
            links=(common.to_panel("servescope-capacity", "Required replicas and max_replicas", "application"),),
        ),
        panels.timeseries(
            "Calls by deployment",
            description=(
                "Calls per second that replicas finished, failed calls included (Ray's own request counter omits them)."
            ),
            unit="reqps",
            queries=[
                panels.query(common.largest(reader.read(DEPLOYMENT_REQUESTS, DEPLOYMENT)), common.DEPLOYMENT_LEGEND)
            ],
            links=(common.SERIES_TO_DEPLOYMENT,),
        ),
        panels.timeseries(
            "Queued requests by deployment",
            description="Requests queued in proxies and handles, by the deployment that they wait for.",
            unit="short",
            queries=[panels.query(common.largest(reader.read(QUEUED, DEPLOYMENT)), common.DEPLOYMENT_LEGEND)],
            min=0,
            links=(common.SERIES_TO_DEPLOYMENT,),
        ),
        panels.timeseries(
            "Target and healthy replicas",
            description=(
                "Target replicas (dashed) and replicas that pass their health check, summed over all deployments. A "
                "gap that persists means that replicas are unschedulable or fail to start."
            ),
            unit="short",
            queries=[
                panels.query(reader.read(REPLICAS), "healthy"),
                panels.query(reader.read(TARGET_REPLICAS), "target"),
            ],
            min=0,
            dashed=("target",),
            colors={"healthy": PALETTE.neutral, "target": PALETTE.muted},
        ),
    ]


def _events(reader: Reader) -> list[Panel]:
    return [
        panels.timeseries(
            "Replica starts",
            description=(
                "Replicas started in each interval (recorded: once a minute), first starts included. Normal during a "
                "deploy or a scale-up; any other start replaced a replica that died."
            ),
            unit="short",
            queries=common.most_events(reader, REPLICA_STARTS),
            bars=True,
            links=(common.SERIES_TO_DEPLOYMENT,),
        ),
        panels.timeseries(
            "Health check failures",
            description=(
                "Failed replica health checks in each interval (recorded: once a minute), the first one included. "
                "Normal is 0."
            ),
            unit="short",
            queries=common.most_events(reader, HEALTH_CHECK_FAILURES),
            bars=True,
            links=(common.SERIES_TO_DEPLOYMENT,),
        ),
        panels.timeseries(
            "Failed calls",
            description=(
                "Calls that ended in an exception in each interval (recorded: once a minute), the first one included. "
                "Normal is 0."
            ),
            unit="short",
            queries=common.most_events(reader, FAILED_CALLS),
            bars=True,
            links=(common.SERIES_TO_DEPLOYMENT,),
        ),
    ]
