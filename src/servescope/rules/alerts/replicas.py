"""Replicas that crash, fail to start, start slowly, or do worse than their peers."""

from __future__ import annotations

from servescope.promql import DEPLOYMENT, REPLICA, figures
from servescope.promql.figures import MINUTE, MINUTES
from servescope.rules import series
from servescope.rules.alert import Alert, Case, Group
from servescope.rules.expressions import Expressions


def build(exprs: Expressions) -> Group:
    """The alerts of this group, in the order of the rule file."""
    return Group(
        name="replicas",
        title="Replicas",
        alerts=(
            replica_crash_looping(exprs),
            health_check_failing(exprs),
            replica_start_failing(exprs),
            replica_slow_start(exprs),
            replica_error_outlier(exprs),
            replica_latency_outlier(exprs),
        ),
    )


def health_check_failures(exprs: Expressions) -> str:
    """Failed health checks of the last 15 minutes, by deployment."""
    return exprs.read(figures.HEALTH_CHECK_FAILURES, *DEPLOYMENT)


def finished_calls(exprs: Expressions) -> str:
    """Calls that each replica completed in ten minutes, failed ones included."""
    return exprs.read(figures.CALLS, *REPLICA)


def replicas_alive(exprs: Expressions) -> str:
    """Running replicas. Ray keeps exporting the counters of one that a rollout removed; its gauges end."""
    return exprs.total("group", exprs.now("ray_serve_replica_processing_queries"), *REPLICA)


def above_peers(exprs: Expressions, expression: str) -> str:
    """The comparison of each replica's figure with three times the lower quartile of its deployment."""
    # The lower quartile: with two replicas, one of them bad, a median would be half of the bad one's figure.
    cluster_and_deployment = ", ".join(exprs.by(*DEPLOYMENT))
    quartile = f"quantile by ({cluster_and_deployment}) (0.25, {expression})"
    return f"> on ({cluster_and_deployment}) group_left () (3 * {quartile})"


def replica_crash_looping(exprs: Expressions) -> Alert:
    starts = exprs.read(figures.STARTS_15M, *DEPLOYMENT)
    return Alert(
        name="RayServeReplicaCrashLooping",
        severity="critical",
        owner="application",
        for_="",
        labels=DEPLOYMENT,
        expr=(
            f"{health_check_failures(exprs)} >= 3\n"
            "# and replaced each time: a deploy or scale-up starts replicas too, but without failed health checks\n"
            f"and {starts} >= 3"
        ),
        summary="Replicas are crash-looping.",
        description=(
            "{{ $labels.application }}/{{ $labels.deployment }} lost {{ $value }} replicas in the last 15 minutes."
        ),
        meaning=(
            "The process crashes (native code, os._exit, out of memory), or its health check fails until "
            "Serve kills it. Each death counts as one failed health check."
        ),
        impact="Requests on a crashing replica fail; capacity fluctuates.",
        diagnosis=(
            ("Replica starts in the last 15 minutes:", starts),
            (
                (
                    "Did they crash, or did the controller kill them as unhealthy? Counted from its log, where a "
                    "log agent runs (docs/logs.md):"
                ),
                exprs.events("servescope_log_events_total", "15m", *DEPLOYMENT, "event", event='=~"replica_.+"'),
            ),
            ("Does Ray kill workers for memory? See RayClusterOomKills.", ""),
            ("Last output: `logs/worker-*.err` of the dead replica's pid.", ""),
        ),
        mitigation=("Roll back to the previous version; if one input causes the crash, reject that input.",),
        panel=("servescope-deployment", "Replica starts"),
        case=Case(
            at="20m",
            fires={
                series.deployment_series("ray_serve_replica_startup_latency_ms_count"): "1x20 2x3 3x3 4x",
                **{series.failed_health_checks(f"r{i}"): f"_x{24 + 4 * i} 1x" for i in range(3)},
            },
            quiet={series.failed_health_checks("r2"): "_x"},
            labels=series.THE_DEPLOYMENT,
            also=("RayServeHealthCheckFailing",),
        ),
        drill="crash-loop",
    )


def health_check_failing(exprs: Expressions) -> Alert:
    return Alert(
        name="RayServeHealthCheckFailing",
        severity="warning",
        owner="application",
        for_="",
        labels=DEPLOYMENT,
        expr=f"# a single failure is a replica that died once and was replaced\n{health_check_failures(exprs)} >= 3",
        summary="Replica health checks fail.",
        description=(
            "{{ $value }} health checks of {{ $labels.application }}/{{ $labels.deployment }} failed in "
            "the last 15 minutes."
        ),
        meaning=(
            "check_health raises or takes longer than health_check_timeout_s; after three consecutive "
            "failures Serve replaces the replica."
        ),
        impact="Requests on a replica that is being replaced may fail.",
        diagnosis=(
            (
                "How long do health checks take?",
                "histogram_quantile(0.95, sum by (deployment, le) "
                "(rate(ray_serve_health_check_latency_ms_bucket[5m])))",
            ),
            ("Is the event loop blocked? See RayServeEventLoopLag.", ""),
        ),
        mitigation=(
            "Fix the health check error in the controller's log; raise health_check_timeout_s if the check is slow.",
        ),
        panel=("servescope-deployment", "Health check failures"),
        case=Case(
            at="20m",
            fires={series.failed_health_checks("r1"): "_x30 1x9 2x9 3x"},
            quiet={series.failed_health_checks("r1"): "_x30 1x9 2x"},
            labels=series.THE_DEPLOYMENT,
        ),
        drill="crash-loop",
    )


def replica_start_failing(exprs: Expressions) -> Alert:
    missing_for_long = (
        f"{exprs.total('max', exprs.over('min', 'ray_serve_autoscaling_target_replicas', '5m'), *DEPLOYMENT)} > "
        f"({exprs.healthy_replicas()} or 0 * {exprs.target_replicas()})"
    )
    ended = exprs.read(figures.ENDED_REPLICAS, *DEPLOYMENT)
    return Alert(
        name="RayServeReplicaStartFailing",
        severity="warning",
        owner="application",
        for_="2m",
        labels=DEPLOYMENT,
        expr=(
            f"{ended} >= 3\n"
            "# scale-down ends replicas too: require missing replicas for the whole window\n"
            f"and {missing_for_long}"
        ),
        summary="Replicas fail to start.",
        description=(
            "{{ $value }} replicas of {{ $labels.application }}/{{ $labels.deployment }} ended in the "
            "last 10 minutes while the deployment is below its target."
        ),
        meaning=(
            "The constructor raises, or the process exits during startup. After a few attempts of a "
            "deploy Serve reports DEPLOY_FAILED; when a running deployment scales up, Serve keeps "
            "retrying."
        ),
        impact="A rollout does not complete, or capacity does not grow.",
        diagnosis=(
            ("Deployment status:", "ray_serve_deployment_status"),
            ("Why? The controller's log holds the traceback of each failed start.", ""),
        ),
        mitigation=(
            "Roll back to the previous version, or fix the constructor, its files or its runtime environment.",
        ),
        panel=("servescope-deployment", "Target and healthy replicas"),
        case=Case(
            at="20m",
            fires={
                series.TARGET_REPLICAS: "2x",
                series.HEALTHY_REPLICA: "1x",
                series.replica_actors("DEAD"): "0x40 1x3 2x3 3x3 4x",
            },
            quiet={series.replica_actors("DEAD"): "0x40 1x3 2x"},
            labels=series.THE_DEPLOYMENT,
            also=("RayServeReplicasMissing",),
            quiet_also=("RayServeReplicasMissing",),
        ),
        drill="failing-constructor",
    )


def replica_slow_start(exprs: Expressions) -> Alert:
    started = series.deployment_series("ray_serve_replica_startup_latency_ms_count")
    started_quickly = series.deployment_series(
        "ray_serve_replica_startup_latency_ms_bucket", le=f"{exprs.settings.slow_start_ms}"
    )
    slow_starts = f"{exprs.read(figures.STARTS_30M, *DEPLOYMENT)} - {exprs.read(figures.FAST_STARTS, *DEPLOYMENT)}"
    return Alert(
        name="RayServeReplicaSlowStart",
        severity="warning",
        owner="application",
        for_="",
        every_s=MINUTE,
        labels=DEPLOYMENT,
        expr=f"{slow_starts} >= 1",
        summary="A replica took too long to start.",
        description=(
            f"{{{{ $value }}}} replicas of {{{{ $labels.application }}}}/{{{{ $labels.deployment }}}} "
            f"took longer than {exprs.settings.slow_start_ms / 1000:g} s to start in the last 30 minutes."
        ),
        meaning="Loading the model, setting up the runtime environment or waiting for a node takes long.",
        impact="Scale-ups and replacements come too late for a traffic surge.",
        diagnosis=(
            (
                "How much of it is the constructor?",
                "histogram_quantile(0.95, sum by (deployment, le) "
                "(rate(ray_serve_replica_initialization_latency_ms_bucket[30m])))",
            ),
        ),
        mitigation=("Cache the model close to the node, bake it into the image, or keep min_replicas above zero.",),
        panel=("servescope-deployment", "Startup and shutdown times (p95)"),
        case=Case(
            at="35m",
            fires={started: "2x40 3x", started_quickly: "2x"},
            quiet={started_quickly: "2x40 3x"},
            labels=series.THE_DEPLOYMENT,
        ),
        drill="slow-start",
    )


def replica_error_outlier(exprs: Expressions) -> Alert:
    errors = exprs.read(figures.FAILED_CALLS, *REPLICA)
    calls = finished_calls(exprs)
    failing = f"({errors} or 0 * {calls}) / ({calls} > 0 and {replicas_alive(exprs)})"
    return Alert(
        name="RayServeReplicaErrorOutlier",
        severity="warning",
        owner="application",
        for_="5m",
        every_s=MINUTE,
        labels=REPLICA,
        expr=(
            f"({failing} > 0.1)\n"
            "# replicas that all fail equally have no outlier\n"
            f"{above_peers(exprs, failing)}\n"
            f"and {errors} >= {exprs.settings.alert_min_events}"
        ),
        summary="One replica's error ratio is far above its peers.",
        description=(
            "{{ $value | humanizePercentage }} of calls to replica {{ $labels.replica }} of {{ "
            "$labels.application }}/{{ $labels.deployment }} fail, more than three times the ratio of "
            "its peers."
        ),
        meaning=(
            "That process or its node is broken: a stale connection, a full disk, a faulty GPU. The "
            "health check does not detect it."
        ),
        impact="Requests routed to that replica are likely to fail.",
        diagnosis=(("Errors by replica:", "sum by (replica) (rate(ray_serve_deployment_error_counter_total[5m]))"),),
        mitigation=(("Kill that replica (its pid is in the Ray dashboard); extend check_health to detect the fault."),),
        panel=("servescope-deployment", "Failed calls by replica"),
        case=Case(
            at="20m",
            fires={
                series.failed_calls("r1"): "0+5x",
                **{series.finished_calls(replica): "0+10x" for replica in ("r1", "r2", "r3", "r4")},
                **{series.requests_in_progress(replica): "1x" for replica in ("r1", "r2", "r3", "r4")},
            },
            quiet={series.failed_calls(replica): "0+5x" for replica in ("r2", "r3", "r4")},
            labels={**series.THE_DEPLOYMENT, "replica": "r1"},
        ),
        drill="bad-replica",
    )


def replica_latency_outlier(exprs: Expressions) -> Alert:
    replica_p95 = f"({exprs.read(figures.PROCESSING_P95, *REPLICA)} and {replicas_alive(exprs)})"
    return Alert(
        name="RayServeReplicaLatencyOutlier",
        severity="warning",
        owner="application",
        for_="10m",
        every_s=MINUTES,
        labels=REPLICA,
        expr=(
            f"({replica_p95} > 100)\n"
            "# replicas that are all equally slow have no outlier\n"
            f"{above_peers(exprs, replica_p95)}\n"
            f"and {finished_calls(exprs)} >= {5 * exprs.settings.alert_min_events}"
        ),
        summary="One replica's latency is far above its peers.",
        description=(
            "The p95 processing time of replica {{ $labels.replica }} of {{ $labels.application }}/{{ "
            "$labels.deployment }} is {{ $value | humanize }} ms, more than three times that of its "
            "peers."
        ),
        meaning="A noisy neighbor, a throttled CPU or GPU, or a cold cache on this replica alone.",
        impact="Requests routed to that replica are slow; the overall tail latency rises.",
        diagnosis=(
            (
                "Processing time p95 by replica:",
                "histogram_quantile(0.95, sum by (replica, le) "
                "(rate(ray_serve_deployment_processing_latency_ms_bucket[5m])))",
            ),
        ),
        mitigation=("Kill that replica; check CPU, memory and temperature of its node.",),
        panel=("servescope-deployment", "Processing time p95 by replica"),
        case=Case(
            at="30m",
            fires={
                series.processing_bucket(le, replica=replica): values
                for replica, fast in (("r1", "0x"), ("r2", "0+10x"), ("r3", "0+10x"))
                for le, values in (("100", fast), ("1000", "0+10x"), ("+Inf", "0+10x"))
            }
            | {series.finished_calls(replica): "0+10x" for replica in ("r1", "r2", "r3")}
            | {series.requests_in_progress(replica): "1x" for replica in ("r1", "r2", "r3")},
            quiet={series.processing_bucket("100", replica="r2"): "0x"},
            labels={**series.THE_DEPLOYMENT, "replica": "r1"},
        ),
        drill="bad-replica",
    )
