"""servescope-overview: is anything wrong, in which application, and since when?"""

from __future__ import annotations

from dataclasses import replace

from servescope import limits, panels, promql
from servescope.dashboards import common, slo
from servescope.panels import PALETTE, Column, Dashboard, Link, Panel, Threshold
from servescope.promql import APPLICATION, DEPLOYMENT
from servescope.settings import Settings
from servescope.signals import (
    DEPLOYMENT_REQUESTS,
    PROCESSING_LATENCY,
    QUEUED,
    REPLICAS,
    REQUEST_LATENCY,
    REQUESTS,
    TARGET_REPLICAS,
    Reader,
)


def build(settings: Settings, *, recorded: bool = False) -> Dashboard:
    """The dashboard, plain or reading recorded series."""
    r = common.reader(settings, recorded, "application")
    return panels.dashboard(
        uid="servescope-overview",
        title="Ray Serve / Overview",
        description="Is anything wrong, in which application, and since when?",
        rows=[
            panels.row(
                "Is anything wrong?",
                [*_health(r), _alerts(common.reader(settings, recorded)), slo.state(settings.cluster_label)],
            ),
            panels.row("Traffic", _traffic(r)),
            panels.row("Deployments", _deployments(r)),
            panels.row("What happened", _events(r)),
            panels.row("gRPC", _grpc(r), collapsed=True),
        ],
        variables=common.variables(settings, "application"),
        annotations=common.rollouts(settings),
        settings=settings,
    )


def _in_trouble(r: Reader, status: str, by: promql.Labels) -> str:
    """How many applications or deployments are UNKNOWN, DEPLOY_FAILED or UNHEALTHY; 0 when Serve reports none."""
    worst = promql.total(r.select(status), (r.settings.cluster_label, *by), "min")
    return f"count({worst} <= {common.TROUBLE_CODE}) or 0 * count({worst})"


def _missing_replicas(r: Reader, by: promql.Labels) -> str:
    return promql.replica_gap(r.read(TARGET_REPLICAS, by), r.read(REPLICAS, by))


def _health(r: Reader) -> list[Panel]:
    return [
        panels.stat(
            "Applications in trouble",
            "Applications whose status is DEPLOY_FAILED, UNHEALTHY or UNKNOWN now. Normal is 0. An application that "
            "failed to deploy answers 503 on its route while the proxies' own health check stays green.",
            "none",
            [panels.query(_in_trouble(r, "ray_serve_application_status", APPLICATION))],
            width=3,
            thresholds=common.ANY_IS_BAD,
        ),
        panels.stat(
            "Deployments in trouble",
            "Deployments whose status is DEPLOY_FAILED, UNHEALTHY or UNKNOWN now. Normal is 0. A crash that heals "
            "within a few seconds never shows here: look at replica starts below.",
            "none",
            [panels.query(_in_trouble(r, "ray_serve_deployment_status", DEPLOYMENT))],
            width=3,
            thresholds=common.ANY_IS_BAD,
        ),
        panels.stat(
            "Requests",
            "Requests answered per second by all proxies, HTTP and gRPC, failures counted.",
            "reqps",
            [panels.query(r.read(REQUESTS))],
            width=3,
            thresholds=(Threshold(None, PALETTE.neutral),),
        ),
        panels.stat(
            "Error ratio",
            "Share of requests that ended in a 5xx (back-pressure by 503 among them). 4xx and clients that went away "
            "do not count. Amber from 0.1 %, red from 1 %.",
            "percentunit",
            [panels.query(common.error_ratio(r))],
            width=3,
            thresholds=common.ERROR_RATIO,
        ),
        panels.stat(
            "Back-pressure",
            "Share of requests turned away because a queue was full (503, or 429 where the deployment says so). "
            "Anything above 0 means that callers are being refused: add replicas or raise the limits.",
            "percentunit",
            [panels.query(common.outcome_ratio(r, "shed"))],
            width=3,
            thresholds=common.ERROR_RATIO,
        ),
        panels.stat(
            "Latency p95",
            "95 % of requests were answered within this time, measured at the proxy, every outcome counted. The figure "
            "is interpolated inside one bucket, and Ray has no bucket between 10 s and 60 s.",
            "ms",
            [panels.query(r.quantile(0.95, REQUEST_LATENCY))],
            width=3,
            thresholds=(Threshold(None, PALETTE.neutral),),
        ),
        panels.stat(
            "Waiting requests",
            "Requests that wait in proxies and handles because no replica has room. Brief waits are normal; a figure "
            "that stays above 0 means demand exceeds what the replicas may take.",
            "short",
            [panels.query(r.read(QUEUED))],
            width=3,
            thresholds=common.ANY_IS_RISKY,
        ),
        panels.stat(
            "Missing replicas",
            "Replicas that the controller wants and that are not healthy yet, in all deployments. Normal is 0 but for "
            "the minute after a scale-up.",
            "none",
            [panels.query(promql.total(_missing_replicas(r, DEPLOYMENT)))],
            width=3,
            thresholds=common.ANY_IS_RISKY,
        ),
        panels.state_timeline(
            "Application status",
            "What Serve's controller says of each application. Green is RUNNING. Outages shorter than the report "
            "interval of ten seconds do not show.",
            [
                panels.query(
                    promql.total(r.select("ray_serve_application_status"), APPLICATION, "min"),
                    "{{application}}",
                )
            ],
            common.APPLICATION_STATES,
            width=10,
            height=8,
        ),
        panels.table(
            "Applications",
            "One line for each application, as it is now. Follow the name to its deployments.",
            [
                panels.query(r.read(REQUESTS, APPLICATION)),
                panels.query(common.error_ratio(r, APPLICATION)),
                panels.query(r.quantile(0.95, REQUEST_LATENCY, APPLICATION)),
                panels.query(r.read(REPLICAS, APPLICATION)),
                panels.query(promql.total(_missing_replicas(r, DEPLOYMENT), APPLICATION)),
                panels.query(r.read(QUEUED, APPLICATION)),
            ],
            [
                Column("application", "Application", links=(common.to_deployment("${__value.text}"),)),
                Column("Value #A", "Requests", unit="reqps", decimals=1),
                Column("Value #B", "Error ratio", unit="percentunit", thresholds=common.ERROR_RATIO),
                Column("Value #C", "Latency p95", unit="ms"),
                Column("Value #D", "Replicas", unit="none"),
                Column("Value #E", "Missing", unit="none", thresholds=common.ANY_IS_RISKY),
                Column("Value #F", "Waiting", unit="none", thresholds=common.ANY_IS_RISKY),
            ],
            sort_by="Error ratio",
            width=14,
            height=8,
        ),
    ]


def _alerts(r: Reader) -> Panel:
    """Alerts of nodes and clusters name no application, so the application variable does not narrow them."""
    by = ("severity", "alertname", "application", "deployment")
    runbooks = r.settings.runbook_url
    to_runbook = (Link("Open the runbook", f"{runbooks}/${{__value.text}}.md"),) if "://" in runbooks else ()
    return panels.table(
        "Firing alerts",
        "What our alert rules say now, whatever application is chosen. ServescopeWatchdog always fires: without that "
        "line no rule is evaluated. The name is that of the runbook page.",
        [panels.query(promql.total(r.select("ALERTS", alertstate='="firing"'), by, "count"))],
        [
            Column("severity", "Severity"),
            Column("alertname", "Alert", links=to_runbook),
            Column("application", "Application"),
            Column("deployment", "Deployment"),
            Column("Value #A", "Instances", unit="none"),
        ],
        sort_by="Severity",
        width=16,
        height=6,
    )


def _traffic(r: Reader) -> list[Panel]:
    buckets = r.read(REQUEST_LATENCY, ("le",))
    not_answered = r.read(REQUESTS, ("application", "status_code"), status_code='!~"[123]..|OK"')
    return [
        panels.timeseries(
            "Requests by outcome",
            "Every request that the proxies answered, by how it ended. Blue is good; red (5xx) and amber "
            "(back-pressure) are the service's doing; grey and violet are the clients'.",
            "reqps",
            common.outcome_queries(r),
            stack=True,
            colors=common.outcome_colors(r.settings),
        ),
        panels.timeseries(
            "Requests by application",
            "Requests answered per second for each application, failures counted.",
            "reqps",
            [panels.query(r.read(REQUESTS, APPLICATION), "{{application}}")],
            links=(common.to_deployment(),),
        ),
        panels.timeseries(
            "Error ratio by application",
            "Share of each application's requests that ended in a 5xx. Absent while an application has no traffic.",
            "percentunit",
            [panels.query(common.error_ratio(r, APPLICATION), "{{application}}")],
            min=0,
            thresholds=common.ERROR_RATIO,
            links=(common.to_deployment(),),
        ),
        panels.timeseries(
            "Latency",
            "Time from a request's arrival at the proxy to its answer. p50 is what most users feel, p99 what one in a "
            "hundred feels. Exact only to the bucket: between 10 s and 60 s Ray has no bound.",
            "ms",
            [panels.query(r.quantile(q, REQUEST_LATENCY), f"p{100 * q:g}") for q in common.QUANTILES],
            min=0,
        ),
        panels.timeseries(
            "Latency p95 by application",
            "95 % of each application's requests were answered within this time.",
            "ms",
            [panels.query(r.quantile(0.95, REQUEST_LATENCY, APPLICATION), "{{application}}")],
            min=0,
            links=(common.to_deployment(),),
        ),
        panels.heatmap(
            "Latency distribution",
            "How many requests per second fell into each latency bucket. Two bands mean two kinds of request; a band "
            "that climbs means that everything slows down.",
            "ms",
            panels.query(buckets),
            width=8,
        ),
        panels.timeseries(
            "Requests not answered well, by status code",
            "Everything that was not a success: 404, 405 and 422 are the client's; 408 is Serve's request timeout; 429 "
            "and 503 are full queues (503 also means that no replica is there); 499 is a client that went away.",
            "reqps",
            [panels.query(not_answered, "{{application}} {{status_code}}")],
            width=12,
        ),
        panels.timeseries(
            "Unmatched and probe traffic",
            "Requests that belong to no application: health probes, route listings, and paths that match nothing (404, "
            "no route in the legend). Scanners and clients with a wrong URL show here and nowhere else.",
            "reqps",
            [panels.query(r.read(REQUESTS, ("route", "status_code"), application='=""'), "{{status_code}} {{route}}")],
            width=12,
        ),
    ]


def _grpc(r: Reader) -> list[Panel]:
    return [
        panels.timeseries(
            "gRPC requests by status",
            "Requests per second at the gRPC proxies, by status name.",
            "reqps",
            [
                panels.query(
                    promql.total(
                        r.scope.rate("ray_serve_num_grpc_requests_total", "$__rate_interval"),
                        ("application", "status_code"),
                    ),
                    "{{application}} {{status_code}}",
                )
            ],
            width=24,
            height=6,
            absent="a gRPC ingress with traffic",
        ),
    ]


def _deployments(r: Reader) -> list[Panel]:
    over_range = replace(r, window="$__range")
    failed_in_a_step = promql.events(r.scope, "ray_serve_deployment_error_counter_total", DEPLOYMENT, "$__interval")
    failed = promql.or_zero(promql.over_range(failed_in_a_step), r.scope)
    p95 = over_range.quantile(0.95, PROCESSING_LATENCY, DEPLOYMENT)
    return [
        panels.state_timeline(
            "Deployment status",
            f"What Serve's controller says of each deployment. {common.CHANGES} Outages "
            "shorter than ten seconds do not show.",
            [
                panels.query(
                    promql.total(r.select("ray_serve_deployment_status"), DEPLOYMENT, "min"),
                    common.DEPLOYMENT_LEGEND,
                )
            ],
            common.DEPLOYMENT_STATES,
            width=24,
            height=8,
            links=(common.SERIES_TO_DEPLOYMENT,),
        ),
        panels.bar_gauge(
            "Most failed calls",
            "Calls that ended in an exception during the whole time range, first failures counted: the ten deployments "
            "with the most. A failure deep down shows in each caller above it too.",
            "short",
            [panels.query(f"topk(10, {failed})", common.DEPLOYMENT_LEGEND, instant=True)],
            thresholds=common.ANY_IS_BAD,
            links=(common.SERIES_TO_DEPLOYMENT,),
        ),
        panels.bar_gauge(
            "Slowest (p95)",
            "95 % of calls took at most this long in the replica, over the whole time range: the ten slowest "
            "deployments. A caller's time holds that of what it calls.",
            "ms",
            [panels.query(f"topk(10, {p95})", common.DEPLOYMENT_LEGEND, instant=True)],
            thresholds=(Threshold(None, PALETTE.neutral),),
            links=(common.SERIES_TO_DEPLOYMENT,),
        ),
        panels.bar_gauge(
            "Longest queues",
            "Requests waiting for each deployment now: the ten with the most.",
            "short",
            [panels.query(f"topk(10, {r.read(QUEUED, DEPLOYMENT)})", common.DEPLOYMENT_LEGEND, instant=True)],
            thresholds=common.ANY_IS_RISKY,
            links=(common.SERIES_TO_DEPLOYMENT,),
        ),
        panels.timeseries(
            "In flight share by deployment",
            "Requests in progress against what the healthy replicas take at once (replicas x max_ongoing_requests). At "
            "100 % new requests wait. The capacity dashboard tells what to do.",
            "percentunit",
            [panels.query(limits.in_flight_share(r), common.DEPLOYMENT_LEGEND)],
            width=10,
            min=0,
            thresholds=common.UTILIZATION,
            links=(common.SERIES_TO_DEPLOYMENT,),
        ),
        panels.state_timeline(
            "Why not at rest?",
            common.WHY,
            [panels.query(limits.why(r), common.DEPLOYMENT_LEGEND)],
            common.WHY_STATES,
            width=10,
            links=(common.SERIES_TO_DEPLOYMENT,),
        ),
        panels.stat(
            "Capped by max_replicas",
            "Deployments whose load asks for more replicas than max_replicas allows now. Normal is 0. Raise the "
            "ceiling, or shed load on purpose: see the capacity dashboard.",
            "none",
            [panels.query(limits.capped(r))],
            width=4,
            height=8,
            thresholds=common.ANY_IS_RISKY,
        ),
        panels.timeseries(
            "Calls by deployment",
            "Calls that replicas finished per second, failed ones counted (Ray's own request counter leaves them out).",
            "reqps",
            [panels.query(r.read(DEPLOYMENT_REQUESTS, DEPLOYMENT), common.DEPLOYMENT_LEGEND)],
            links=(common.SERIES_TO_DEPLOYMENT,),
        ),
        panels.timeseries(
            "Waiting requests by deployment",
            "Requests waiting in proxies and handles for a replica of each deployment.",
            "short",
            [panels.query(r.read(QUEUED, DEPLOYMENT), common.DEPLOYMENT_LEGEND)],
            min=0,
            links=(common.SERIES_TO_DEPLOYMENT,),
        ),
        panels.timeseries(
            "Replicas wanted and healthy",
            "All deployments together: what the controller wants (dashed) and what passes its health check. A gap that "
            "stays means that replicas cannot be placed or do not start.",
            "short",
            [
                panels.query(r.read(REPLICAS), "healthy"),
                panels.query(promql.total(r.read(TARGET_REPLICAS, DEPLOYMENT)), "wanted"),
            ],
            min=0,
            dashed=("wanted",),
            colors={"healthy": PALETTE.neutral, "wanted": PALETTE.muted},
        ),
    ]


def _events(r: Reader) -> list[Panel]:
    def counted(counter: str) -> str:
        return promql.or_zero(promql.events(r.scope, counter, DEPLOYMENT, "$__interval"), r.scope)

    return [
        panels.timeseries(
            "Replica starts",
            "Replicas started in each interval, first starts counted. Expected at a deploy or a scale-up; anything "
            "else is a replica that died and was replaced.",
            "short",
            [panels.query(counted("ray_serve_replica_startup_latency_ms_count"), common.DEPLOYMENT_LEGEND)],
            bars=True,
            links=(common.SERIES_TO_DEPLOYMENT,),
        ),
        panels.timeseries(
            "Health check failures",
            "Failed health checks of replicas in each interval, the first one counted. Normal is 0.",
            "short",
            [panels.query(counted("ray_serve_health_check_failures_total"), common.DEPLOYMENT_LEGEND)],
            bars=True,
            links=(common.SERIES_TO_DEPLOYMENT,),
        ),
        panels.timeseries(
            "Failed calls",
            "Calls that ended in an exception in each interval, the first one counted.",
            "short",
            [panels.query(counted("ray_serve_deployment_error_counter_total"), common.DEPLOYMENT_LEGEND)],
            bars=True,
            links=(common.SERIES_TO_DEPLOYMENT,),
        ),
    ]
