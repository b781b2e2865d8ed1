"""servescope-overview: is anything wrong, in which application, and since when?"""

from __future__ import annotations

from dataclasses import replace

from servescope import promql
from servescope.dashboards import common, slo
from servescope.grafana import layout, panels
from servescope.grafana.colors import PALETTE
from servescope.grafana.layout import Dashboard
from servescope.grafana.model import Column, Link, Panel, Threshold
from servescope.promql import APPLICATION, DEPLOYMENT, capacity
from servescope.promql.signals import (
    DEPLOYMENT_REQUESTS,
    PROCESSING_LATENCY,
    QUEUED,
    REPLICAS,
    REQUEST_LATENCY,
    REQUESTS,
    TARGET_REPLICAS,
    Reader,
)
from servescope.settings import Settings


def build(settings: Settings, *, recorded: bool = False) -> Dashboard:
    """The dashboard, plain or reading recorded series."""
    reader = common.reader(settings, recorded, "application")
    return layout.dashboard(
        uid="servescope-overview",
        title="Ray Serve / Overview",
        description="Is anything wrong, in which application, and since when?",
        rows=[
            panels.row(
                "Health",
                [*_health(reader), _alerts(common.reader(settings, recorded)), slo.state(settings.cluster_label)],
            ),
            panels.row("Traffic", _traffic(reader)),
            panels.row("Deployments", _deployments(reader)),
            panels.row("Events", _events(reader)),
            panels.row("gRPC", _grpc(reader), collapsed=True),
        ],
        variables=common.standard_variables(settings, "application"),
        annotations=common.rollout_marks(settings),
        settings=settings,
    )


def _in_trouble(reader: Reader, status: str, by: promql.Labels) -> str:
    """How many applications or deployments are UNKNOWN, DEPLOY_FAILED or UNHEALTHY; 0 when Serve reports none."""
    worst = promql.total(reader.select(status), (reader.settings.cluster_label, *by), "min")
    return f"count({worst} <= {common.TROUBLE_CODE}) or 0 * count({worst})"


def _missing_replicas(reader: Reader, by: promql.Labels) -> str:
    return promql.replica_gap(reader.read(TARGET_REPLICAS, by), reader.read(REPLICAS, by))


def _health(reader: Reader) -> list[Panel]:
    return [
        panels.stat(
            "Unhealthy applications",
            description=(
                "Applications whose status is DEPLOY_FAILED, UNHEALTHY or UNKNOWN now. Normal is 0. An application "
                "that failed to deploy answers 503 on its route while the proxies' own health check stays green."
            ),
            unit="none",
            queries=[panels.query(_in_trouble(reader, "ray_serve_application_status", APPLICATION))],
            width=6,
            height=3,
            thresholds=common.ANY_IS_BAD,
        ),
        panels.stat(
            "Unhealthy deployments",
            description=(
                "Deployments whose status is DEPLOY_FAILED, UNHEALTHY or UNKNOWN now. Normal is 0. A crash that heals "
                "within a few seconds never shows here: look at replica starts below."
            ),
            unit="none",
            queries=[panels.query(_in_trouble(reader, "ray_serve_deployment_status", DEPLOYMENT))],
            width=6,
            height=3,
            thresholds=common.ANY_IS_BAD,
        ),
        panels.stat(
            "Requests",
            description="Requests answered per second by all proxies, HTTP and gRPC, failures counted.",
            unit="reqps",
            queries=[panels.query(reader.read(REQUESTS))],
            width=6,
            height=3,
            thresholds=(Threshold(None, PALETTE.neutral),),
        ),
        panels.stat(
            "Error ratio",
            description=(
                "Share of requests that ended in a 5xx (back-pressure by 503 among them). 4xx and clients that went "
                "away do not count. Amber from 0.1 %, red from 1 %."
            ),
            unit="percentunit",
            queries=[panels.query(common.error_ratio(reader))],
            width=6,
            height=3,
            thresholds=common.ERROR_RATIO,
        ),
        panels.stat(
            "Back-pressure",
            description=(
                "Share of requests turned away because a queue was full (503, or 429 where the deployment says so). "
                "Anything above 0 means that callers are being refused: add replicas or raise the limits."
            ),
            unit="percentunit",
            queries=[panels.query(common.outcome_ratio(reader, "shed"))],
            width=6,
            height=3,
            thresholds=common.ERROR_RATIO,
        ),
        panels.stat(
            "Latency p95",
            description=(
                "95 % of requests were answered within this time, measured at the proxy, every outcome counted. The "
                "figure is interpolated inside one bucket, and Ray has no bucket between 10 s and 60 s."
            ),
            unit="ms",
            queries=[panels.query(reader.quantile(0.95, REQUEST_LATENCY))],
            width=6,
            height=3,
            thresholds=(Threshold(None, PALETTE.neutral),),
        ),
        panels.stat(
            "Queued requests",
            description=(
                "Requests that wait in proxies and handles because no replica has room. Brief waits are normal; a "
                "figure that stays above 0 means demand exceeds what the replicas may take."
            ),
            unit="short",
            queries=[panels.query(reader.read(QUEUED))],
            width=6,
            height=3,
            thresholds=common.ANY_IS_RISKY,
        ),
        panels.stat(
            "Missing replicas",
            description=(
                "Replicas that the controller wants and that are not healthy yet, in all deployments. Normal is 0 but "
                "for the minute after a scale-up."
            ),
            unit="none",
            queries=[panels.query(promql.total(_missing_replicas(reader, DEPLOYMENT)))],
            width=6,
            height=3,
            thresholds=common.ANY_IS_RISKY,
        ),
        panels.state_timeline(
            "Application status",
            description=(
                "What Serve's controller says of each application. Green is RUNNING. Outages shorter than the report "
                "interval of ten seconds do not show."
            ),
            queries=[
                panels.query(
                    promql.total(reader.select("ray_serve_application_status"), APPLICATION, "min"),
                    "{{application}}",
                )
            ],
            states=common.APPLICATION_STATES,
            width=10,
            height=8,
        ),
        panels.table(
            "Applications",
            description="One line for each application, as it is now. Follow the name to its deployments.",
            queries=[
                panels.query(reader.read(REQUESTS, APPLICATION)),
                panels.query(common.error_ratio(reader, APPLICATION)),
                panels.query(reader.quantile(0.95, REQUEST_LATENCY, APPLICATION)),
                panels.query(reader.read(REPLICAS, APPLICATION)),
                panels.query(promql.total(_missing_replicas(reader, DEPLOYMENT), APPLICATION)),
                panels.query(reader.read(QUEUED, APPLICATION)),
            ],
            columns=[
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


def _alerts(reader: Reader) -> Panel:
    """Alerts of nodes and clusters name no application, so the application variable does not narrow them."""
    by = ("severity", "alertname", "application", "deployment")
    runbook = reader.settings.runbook("${__value.text}")
    to_runbook = (Link("Open the runbook", runbook),) if "://" in runbook else ()
    return panels.table(
        "Firing alerts",
        description=(
            "What our alert rules say now, whatever application is chosen. ServescopeWatchdog always fires: without "
            "that line no rule is evaluated. The name is that of the runbook page."
        ),
        queries=[panels.query(promql.total(reader.select("ALERTS", alertstate='="firing"'), by, "count"))],
        columns=[
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


def _traffic(reader: Reader) -> list[Panel]:
    buckets = reader.read(REQUEST_LATENCY, ("le",))
    not_answered = reader.read(REQUESTS, ("application", "status_code"), status_code='!~"[123]..|OK"')
    return [
        panels.timeseries(
            "Requests by outcome",
            description=(
                "Every request that the proxies answered, by how it ended. Blue is good; red (5xx) and amber "
                "(back-pressure) are the service's doing; grey and violet are the clients'."
            ),
            unit="reqps",
            queries=common.outcome_queries(reader),
            stack=True,
            colors=common.outcome_colors(reader.settings),
        ),
        panels.timeseries(
            "Requests by application",
            description="Requests answered per second for each application, failures counted.",
            unit="reqps",
            queries=[panels.query(reader.read(REQUESTS, APPLICATION), "{{application}}")],
            links=(common.to_deployment(),),
        ),
        panels.timeseries(
            "Error ratio by application",
            description=(
                "Share of each application's requests that ended in a 5xx. Absent while an application has no traffic."
            ),
            unit="percentunit",
            queries=[panels.query(common.error_ratio(reader, APPLICATION), "{{application}}")],
            min=0,
            thresholds=common.ERROR_RATIO,
            links=(common.to_deployment(),),
        ),
        panels.timeseries(
            "Latency",
            description=(
                "Time from a request's arrival at the proxy to its answer. p50 is what most users feel, p99 what one "
                "in a hundred feels. Exact only to the bucket: between 10 s and 60 s Ray has no bound."
            ),
            unit="ms",
            queries=common.quantile_queries(reader, REQUEST_LATENCY),
            min=0,
        ),
        panels.timeseries(
            "Latency p95 by application",
            description="95 % of each application's requests were answered within this time.",
            unit="ms",
            queries=[panels.query(reader.quantile(0.95, REQUEST_LATENCY, APPLICATION), "{{application}}")],
            min=0,
            links=(common.to_deployment(),),
        ),
        panels.heatmap(
            "Latency distribution",
            description=(
                "How many requests per second fell into each latency bucket. Two bands mean two kinds of request; a "
                "band that climbs means that everything slows down."
            ),
            unit="ms",
            target=panels.query(buckets),
            width=8,
        ),
        panels.timeseries(
            "Non-success responses by status code",
            description=(
                "Everything that was not a success: 404, 405 and 422 are the client's; 408 is Serve's request "
                "timeout; 429 and 503 are full queues (503 also means that no replica is there); 499 is a client that "
                "went away."
            ),
            unit="reqps",
            queries=[panels.query(not_answered, "{{application}} {{status_code}}")],
            width=12,
        ),
        panels.timeseries(
            "Unmatched and probe traffic",
            description=(
                "Requests that belong to no application: health probes, route listings, and paths that match nothing "
                "(404, no route in the legend). Scanners and clients with a wrong URL show here and nowhere else."
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


def _grpc(reader: Reader) -> list[Panel]:
    return [
        panels.timeseries(
            "gRPC requests by status",
            description="Requests per second at the gRPC proxies, by status name.",
            unit="reqps",
            queries=[
                panels.query(
                    promql.total(
                        reader.scope.rate("ray_serve_num_grpc_requests_total", "$__rate_interval"),
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


def _deployments(reader: Reader) -> list[Panel]:
    over_range = replace(reader, window="$__range")
    failed_in_a_step = promql.events(
        reader.scope, "ray_serve_deployment_error_counter_total", DEPLOYMENT, window="$__interval"
    )
    failed = promql.or_zero(promql.over_range(failed_in_a_step), reader.scope)
    p95 = over_range.quantile(0.95, PROCESSING_LATENCY, DEPLOYMENT)
    return [
        panels.state_timeline(
            "Deployment status",
            description=(
                f"What Serve's controller says of each deployment. {common.CHANGES} Outages shorter than ten seconds "
                "do not show."
            ),
            queries=[
                panels.query(
                    promql.total(reader.select("ray_serve_deployment_status"), DEPLOYMENT, "min"),
                    common.DEPLOYMENT_LEGEND,
                )
            ],
            states=common.DEPLOYMENT_STATES,
            width=24,
            height=8,
            links=(common.SERIES_TO_DEPLOYMENT,),
        ),
        panels.bar_gauge(
            "Top deployments by failed calls",
            description=(
                "Calls that ended in an exception during the whole time range, first failures counted: the ten "
                "deployments with the most. A failure deep down shows in each caller above it too."
            ),
            unit="short",
            queries=[panels.query(f"topk(10, {failed})", common.DEPLOYMENT_LEGEND, instant=True)],
            thresholds=common.ANY_IS_BAD,
            links=(common.SERIES_TO_DEPLOYMENT,),
        ),
        panels.bar_gauge(
            "Top deployments by latency (p95)",
            description=(
                "95 % of calls took at most this long in the replica, over the whole time range: the ten slowest "
                "deployments. A caller's time holds that of what it calls."
            ),
            unit="ms",
            queries=[panels.query(f"topk(10, {p95})", common.DEPLOYMENT_LEGEND, instant=True)],
            thresholds=(Threshold(None, PALETTE.neutral),),
            links=(common.SERIES_TO_DEPLOYMENT,),
        ),
        panels.bar_gauge(
            "Top deployments by queue length",
            description="Requests waiting for each deployment now: the ten with the most.",
            unit="short",
            queries=[
                panels.query(f"topk(10, {reader.read(QUEUED, DEPLOYMENT)})", common.DEPLOYMENT_LEGEND, instant=True)
            ],
            thresholds=common.ANY_IS_RISKY,
            links=(common.SERIES_TO_DEPLOYMENT,),
        ),
        panels.timeseries(
            "Concurrency utilization by deployment",
            description=(
                "Requests in progress against what the healthy replicas take at once (replicas x "
                "max_ongoing_requests). At 100 % new requests wait. The capacity dashboard tells what to do."
            ),
            unit="percentunit",
            queries=[panels.query(capacity.in_flight_share(reader), common.DEPLOYMENT_LEGEND)],
            width=10,
            min=0,
            thresholds=common.UTILIZATION,
            links=(common.SERIES_TO_DEPLOYMENT,),
        ),
        panels.state_timeline(
            "Autoscaling state",
            description=common.WHY,
            queries=[panels.query(capacity.autoscaling_state(reader), common.DEPLOYMENT_LEGEND)],
            states=common.WHY_STATES,
            width=10,
            links=(common.SERIES_TO_DEPLOYMENT,),
        ),
        panels.stat(
            "Capped by max_replicas",
            description=(
                "Deployments whose load asks for more replicas than max_replicas allows now. Normal is 0. Raise the "
                "ceiling, or shed load on purpose: see the capacity dashboard."
            ),
            unit="none",
            queries=[panels.query(capacity.capped(reader))],
            width=4,
            height=8,
            thresholds=common.ANY_IS_RISKY,
        ),
        panels.timeseries(
            "Calls by deployment",
            description=(
                "Calls that replicas finished per second, failed ones counted (Ray's own request counter leaves "
                "them out)."
            ),
            unit="reqps",
            queries=[panels.query(reader.read(DEPLOYMENT_REQUESTS, DEPLOYMENT), common.DEPLOYMENT_LEGEND)],
            links=(common.SERIES_TO_DEPLOYMENT,),
        ),
        panels.timeseries(
            "Queued requests by deployment",
            description="Requests waiting in proxies and handles for a replica of each deployment.",
            unit="short",
            queries=[panels.query(reader.read(QUEUED, DEPLOYMENT), common.DEPLOYMENT_LEGEND)],
            min=0,
            links=(common.SERIES_TO_DEPLOYMENT,),
        ),
        panels.timeseries(
            "Target and healthy replicas",
            description=(
                "All deployments together: what the controller wants (dashed) and what passes its health check. A gap "
                "that stays means that replicas cannot be placed or do not start."
            ),
            unit="short",
            queries=[
                panels.query(reader.read(REPLICAS), "healthy"),
                panels.query(promql.total(reader.read(TARGET_REPLICAS, DEPLOYMENT)), "target"),
            ],
            min=0,
            dashed=("target",),
            colors={"healthy": PALETTE.neutral, "target": PALETTE.muted},
        ),
    ]


def _events(reader: Reader) -> list[Panel]:
    def counted(counter: str) -> str:
        return promql.or_zero(promql.events(reader.scope, counter, DEPLOYMENT, window="$__interval"), reader.scope)

    return [
        panels.timeseries(
            "Replica starts",
            description=(
                "Replicas started in each interval, first starts counted. Expected at a deploy or a scale-up; anything "
                "else is a replica that died and was replaced."
            ),
            unit="short",
            queries=[panels.query(counted("ray_serve_replica_startup_latency_ms_count"), common.DEPLOYMENT_LEGEND)],
            bars=True,
            links=(common.SERIES_TO_DEPLOYMENT,),
        ),
        panels.timeseries(
            "Health check failures",
            description="Failed health checks of replicas in each interval, the first one counted. Normal is 0.",
            unit="short",
            queries=[panels.query(counted("ray_serve_health_check_failures_total"), common.DEPLOYMENT_LEGEND)],
            bars=True,
            links=(common.SERIES_TO_DEPLOYMENT,),
        ),
        panels.timeseries(
            "Failed calls",
            description="Calls that ended in an exception in each interval, the first one counted.",
            unit="short",
            queries=[panels.query(counted("ray_serve_deployment_error_counter_total"), common.DEPLOYMENT_LEGEND)],
            bars=True,
            links=(common.SERIES_TO_DEPLOYMENT,),
        ),
    ]
