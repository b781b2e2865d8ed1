"""Replicas that die, do not start, start slowly, or do worse than their siblings."""

from __future__ import annotations

from servescope import promql
from servescope.promql import DEPLOYMENT, REPLICA
from servescope.rules.alert import Alert, Case, Group
from servescope.rules.alerts.saturation import HEALTHY, TARGET, WHO, of
from servescope.rules.expressions import Expressions, bound
from servescope.settings import Settings


def build(settings: Settings) -> Group:
    """The group."""
    t = Expressions(settings)
    # As the controller counts them: a replica that dies at once never gets to tell of its own start.
    starts = t.events("ray_serve_replica_startup_latency_ms_count", "15m", *DEPLOYMENT)
    failed_checks = t.events("ray_serve_health_check_failures_total", "15m", *DEPLOYMENT)
    missing_for_long = (
        f"{t.total('max', t.over('min', 'ray_serve_autoscaling_target_replicas', '5m'), *DEPLOYMENT)} > "
        f"({t.total('sum', t.now('ray_serve_deployment_replica_healthy'), *DEPLOYMENT)} or 0 * "
        f"{t.total('max', t.now('ray_serve_autoscaling_target_replicas'), *DEPLOYMENT)})"
    )
    dead = {"Source": '="gcs"', "State": '="DEAD"', "Name": '=~"ServeReplica:.+:.+"'}

    def by_deployment(expression: str) -> str:
        for group, label in ((1, "application"), (2, "deployment")):
            expression = f'label_replace({expression}, "{label}", "${group}", "Name", "ServeReplica:(.*):([^:]*)")'
        return t.total("sum", expression, *DEPLOYMENT)

    ended, ended_before = by_deployment(t.now("ray_actors", **dead)), by_deployment(t.ago("ray_actors", "10m", **dead))
    # The first that ends has no earlier figure; but a Prometheus that has just started must not take the past for news.
    watched = t.total("group", t.ago("ray_node_cpu_utilization", "10m"))
    died = f"({ended} - ({ended_before} or (0 * {ended} and on ({settings.cluster_label}) {watched})))"
    quick = bound(settings.slow_start_ms)
    slow_starts = (
        f"{t.events('ray_serve_replica_startup_latency_ms_count', '30m', *DEPLOYMENT)} - "
        f"{t.events('ray_serve_replica_startup_latency_ms_bucket', '30m', *DEPLOYMENT, le=quick)}"
    )

    def errors(*labels: str) -> str:
        return t.events("ray_serve_deployment_error_counter_total", "10m", *labels)

    def calls(*labels: str) -> str:
        return t.events("ray_serve_deployment_processing_latency_ms_count", "10m", *labels)

    # A replica that a rollout took away is no sibling. Ray keeps its counters; its gauges go.
    there = t.total("group", t.now("ray_serve_replica_processing_queries"), *REPLICA)
    failing = f"({errors(*REPLICA)} or 0 * {calls(*REPLICA)}) / ({calls(*REPLICA)} > 0 and {there})"
    p95 = promql.quantile(
        0.95,
        t.total("sum", t.scope.rate("ray_serve_deployment_processing_latency_ms_bucket", "10m"), *REPLICA, "le"),
    )
    replica_p95 = f"({p95} and {there})"

    def siblings(expression: str) -> str:
        # The lower quartile: with two replicas, one of them bad, a median would be half of the bad one's figure.
        cluster_and_deployment = ", ".join(t.by(*DEPLOYMENT))
        quartile = f"quantile by ({cluster_and_deployment}) (0.25, {expression})"
        return f"> on ({cluster_and_deployment}) group_left () (3 * {quartile})"

    return Group(
        "replicas",
        "Replicas",
        (
            Alert(
                name="RayServeReplicaCrashLooping",
                severity="critical",
                wait="",
                labels=DEPLOYMENT,
                expr=(
                    f"{failed_checks} >= 3\n"
                    "# replaced each time: a deploy or a scale-up starts replicas too, but fails no health check\n"
                    f"and {starts} >= 3"
                ),
                summary="Replicas die and are replaced again and again.",
                description=(
                    "{{ $labels.deployment }} of {{ $labels.application }} lost {{ $value }} replicas within 15 "
                    "minutes."
                ),
                meaning=(
                    "The process dies (a crash in native code, os._exit, out of memory), or its health check fails "
                    "until Serve kills it. Each death counts as one failed check."
                ),
                impact="Requests on a dying replica fail; capacity comes and goes.",
                diagnose=(
                    (
                        "Replica starts in the last 15 minutes:",
                        starts,
                    ),
                    (
                        "Did they crash, or did the controller take them down as unhealthy? Counted from its log, "
                        "where a log agent runs (docs/logs.md):",
                        t.events("servescope_log_events_total", "15m", *DEPLOYMENT, "event", event='=~"replica_.+"'),
                    ),
                    ("Does Ray kill for memory? See RayClusterOomKills.", ""),
                    ("Last words: `logs/worker-*.err` of the dead replica's pid.", ""),
                ),
                mend=("Deploy the version before; a crash on one input needs that input fenced off.",),
                panel=("servescope-deployment", "Replica starts"),
                case=Case(
                    at="20m",
                    fires={
                        of("ray_serve_replica_startup_latency_ms_count"): "1x20 2x3 3x3 4x",
                        **{
                            of("ray_serve_health_check_failures_total", replica=f"r{i}"): f"_x{24 + 4 * i} 1x"
                            for i in range(3)
                        },
                    },
                    quiet={of("ray_serve_health_check_failures_total", replica="r2"): "_x"},
                    labels=WHO,
                    also=("RayServeHealthCheckFailing",),
                ),
                drill="crash-loop",
            ),
            Alert(
                name="RayServeHealthCheckFailing",
                severity="warning",
                wait="",
                labels=DEPLOYMENT,
                expr=f"# one failure is a replica that died once and was replaced\n{failed_checks} >= 3",
                summary="Health checks of replicas fail.",
                description=(
                    "{{ $value }} health checks of {{ $labels.deployment }} of {{ $labels.application }} failed "
                    "within 15 minutes."
                ),
                meaning=(
                    "check_health raises or takes longer than health_check_timeout_s; after three failures in a row "
                    "Serve replaces the replica."
                ),
                impact="Requests on a replica that is replaced may fail.",
                diagnose=(
                    (
                        "How long do checks take?",
                        "histogram_quantile(0.95, sum by (deployment, le) "
                        "(rate(ray_serve_health_check_latency_ms_bucket[5m])))",
                    ),
                    ("Is the event loop blocked? See RayServeEventLoopLag.", ""),
                ),
                mend=(
                    "Mend what the check names in the controller's log; raise health_check_timeout_s if it is slow.",
                ),
                panel=("servescope-deployment", "Health check failures"),
                case=Case(
                    at="20m",
                    fires={of("ray_serve_health_check_failures_total", replica="r1"): "_x30 1x9 2x9 3x"},
                    quiet={of("ray_serve_health_check_failures_total", replica="r1"): "_x30 1x9 2x"},
                    labels=WHO,
                ),
                drill="crash-loop",
            ),
            Alert(
                name="RayServeReplicaStartFailing",
                severity="warning",
                wait="2m",
                labels=DEPLOYMENT,
                expr=(
                    f"{died} >= 3\n"
                    "# replicas also end when a deployment shrinks: here replicas must be missing all the while\n"
                    f"and {missing_for_long}"
                ),
                summary="Replicas do not start.",
                description=(
                    "{{ $value }} replicas of {{ $labels.deployment }} of {{ $labels.application }} ended within ten "
                    "minutes while replicas are missing."
                ),
                meaning=(
                    "The constructor raises, or the process ends while it starts. After a few attempts Serve reports "
                    "DEPLOY_FAILED for a deploy; when a running deployment grows it goes on trying."
                ),
                impact="A deploy does not come through, or capacity does not grow.",
                diagnose=(
                    ("What does the controller say?", "ray_serve_deployment_status"),
                    ("Why? The controller's log holds the traceback of each failed start.", ""),
                ),
                mend=("Mend the constructor, its files or its runtime environment; or deploy the version before.",),
                panel=("servescope-deployment", "Replicas wanted and healthy"),
                case=Case(
                    at="20m",
                    fires={
                        TARGET: "2x",
                        HEALTHY: "1x",
                        'ray_actors{Source="gcs",State="DEAD",Name="ServeReplica:main:D"}': "0x40 1x3 2x3 3x3 4x",
                    },
                    quiet={'ray_actors{Source="gcs",State="DEAD",Name="ServeReplica:main:D"}': "0x40 1x3 2x"},
                    labels=WHO,
                    also=("RayServeReplicasMissing",),
                    quiet_also=("RayServeReplicasMissing",),
                ),
                drill="failing-constructor",
            ),
            Alert(
                name="RayServeReplicaSlowStart",
                severity="warning",
                wait="",
                labels=DEPLOYMENT,
                expr=f"{slow_starts} >= 1",
                summary="A replica took long to start.",
                description=(
                    "{{ $value }} replicas of {{ $labels.deployment }} of {{ $labels.application }} took longer than "
                    f"{settings.slow_start_ms / 1000:g} s to start within the last 30 minutes."
                ),
                meaning="Loading the model, pulling the environment or waiting for a node.",
                impact="Scale-ups and replacements come too late for a surge.",
                diagnose=(
                    (
                        "How much of it is the constructor?",
                        "histogram_quantile(0.95, sum by (deployment, le) "
                        "(rate(ray_serve_replica_initialization_latency_ms_bucket[30m])))",
                    ),
                ),
                mend=("Keep the model near the node, bake it into the image, or hold min_replicas above zero.",),
                panel=("servescope-deployment", "Start and stop times (p95)"),
                case=Case(
                    at="35m",
                    fires={
                        of("ray_serve_replica_startup_latency_ms_count"): "2x40 3x",
                        of("ray_serve_replica_startup_latency_ms_bucket", le=f"{settings.slow_start_ms}"): "2x",
                    },
                    quiet={
                        of("ray_serve_replica_startup_latency_ms_bucket", le=f"{settings.slow_start_ms}"): "2x40 3x"
                    },
                    labels=WHO,
                ),
                drill="slow-start",
            ),
            Alert(
                name="RayServeReplicaErrorOutlier",
                severity="warning",
                wait="5m",
                labels=REPLICA,
                expr=(
                    f"({failing} > 0.1)\n"
                    "# all replicas failing alike is no outlier\n"
                    f"{siblings(failing)}\n"
                    f"and {errors(*REPLICA)} >= {settings.alert_min_events}"
                ),
                summary="One replica fails far more often than its siblings.",
                description=(
                    "{{ $value | humanizePercentage }} of the calls of replica {{ $labels.replica }} of "
                    "{{ $labels.deployment }} of {{ $labels.application }} fail, more than three times the share of "
                    "its siblings."
                ),
                meaning=(
                    "That process or its node is broken: a stale connection, a full disk, a sick GPU. Its health check "
                    "does not see it."
                ),
                impact="Every request that lands on it has a good chance to fail.",
                diagnose=(
                    (
                        "Failures by replica:",
                        "sum by (replica) (rate(ray_serve_deployment_error_counter_total[5m]))",
                    ),
                ),
                mend=("Kill that replica (its pid is in the Ray dashboard); let check_health see the fault.",),
                panel=("servescope-deployment", "Failed calls by replica"),
                case=Case(
                    at="20m",
                    fires={
                        of("ray_serve_deployment_error_counter_total", replica="r1", route="/"): "0+5x",
                        of("ray_serve_deployment_processing_latency_ms_count", replica="r1", route="/"): "0+10x",
                        of("ray_serve_deployment_processing_latency_ms_count", replica="r2", route="/"): "0+10x",
                        of("ray_serve_deployment_processing_latency_ms_count", replica="r3", route="/"): "0+10x",
                        of("ray_serve_deployment_processing_latency_ms_count", replica="r4", route="/"): "0+10x",
                        **{of("ray_serve_replica_processing_queries", replica=f"r{i}"): "1x" for i in (1, 2, 3, 4)},
                    },
                    quiet={
                        of("ray_serve_deployment_error_counter_total", replica=f"r{i}", route="/"): "0+5x"
                        for i in (2, 3, 4)
                    },
                    labels={**WHO, "replica": "r1"},
                ),
                drill="bad-replica",
            ),
            Alert(
                name="RayServeReplicaLatencyOutlier",
                severity="warning",
                wait="10m",
                labels=REPLICA,
                expr=(
                    f"{replica_p95}\n"
                    "# all replicas slow alike is no outlier\n"
                    f"{siblings(replica_p95)}\n"
                    f"and {replica_p95} > 100\n"
                    f"and {calls(*REPLICA)} >= {5 * settings.alert_min_events}"
                ),
                summary="One replica is far slower than its siblings.",
                description=(
                    "95 % of the calls of replica {{ $labels.replica }} of {{ $labels.deployment }} of "
                    "{{ $labels.application }} take up to {{ $value | humanize }} ms, three times what its "
                    "siblings take."
                ),
                meaning="A noisy neighbour, a throttled CPU or GPU, or a cache that only this replica lacks.",
                impact="Requests that land on it take long; the tail latency of all rises.",
                diagnose=(
                    (
                        "By replica:",
                        "histogram_quantile(0.95, sum by (replica, le) "
                        "(rate(ray_serve_deployment_processing_latency_ms_bucket[5m])))",
                    ),
                ),
                mend=("Kill that replica; look at its node's CPU, memory and temperature.",),
                panel=("servescope-deployment", "Processing time p95 by replica"),
                case=Case(
                    at="30m",
                    fires={
                        of(
                            "ray_serve_deployment_processing_latency_ms_bucket", replica=replica, route="/", le=le
                        ): values
                        for replica, fast in (("r1", "0x"), ("r2", "0+10x"), ("r3", "0+10x"))
                        for le, values in (("100", fast), ("1000", "0+10x"), ("+Inf", "0+10x"))
                    }
                    | {
                        of("ray_serve_deployment_processing_latency_ms_count", replica=replica, route="/"): "0+10x"
                        for replica in ("r1", "r2", "r3")
                    }
                    | {of("ray_serve_replica_processing_queries", replica=f"r{i}"): "1x" for i in (1, 2, 3)},
                    quiet={
                        of("ray_serve_deployment_processing_latency_ms_bucket", replica="r2", route="/", le="100"): "0x"
                    },
                    labels={**WHO, "replica": "r1"},
                ),
                drill="bad-replica",
            ),
        ),
    )
