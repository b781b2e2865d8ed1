"""Cost: too many replicas for too long, idle GPUs that are reserved, traffic surges."""

from __future__ import annotations

from servescope.promql import DEPLOYMENT, figures
from servescope.promql.figures import MINUTE, MINUTES
from servescope.rules import series
from servescope.rules.alert import Alert, Case, Group
from servescope.rules.expressions import Expressions
from servescope.rules.remarks import NEEDS_EXPORTER_FOR_LIMITS, NO_DRILL_WITHOUT_GPU

# How long the last sample counts where `for` is an hour or more: minutes without metrics do not reset it.
HOLD = "5m"


def build(exprs: Expressions) -> Group:
    """The alerts of this group, in the order of the rule file."""
    return Group(
        name="cost",
        title="Cost and traffic surges",
        alerts=(replicas_above_usual(exprs), at_max_replicas(exprs), gpu_idle_reserved(exprs), traffic_flood(exprs)),
    )


def target_replicas(exprs: Expressions) -> str:
    """Target replicas by deployment; the last sample counts for minutes."""
    return exprs.total("max", exprs.over("last", "ray_serve_autoscaling_target_replicas", HOLD), *DEPLOYMENT)


def replicas_above_usual(exprs: Expressions) -> Alert:
    exprs = exprs.by_service
    usual = exprs.total(
        "max",
        f"avg_over_time({exprs.scope.select('ray_serve_autoscaling_target_replicas')}[1d] offset 1h)",
        *DEPLOYMENT,
    )
    known = exprs.total("group", exprs.ago("ray_serve_autoscaling_target_replicas", "1d"), *DEPLOYMENT)
    return Alert(
        name="RayServeReplicasAboveUsual",
        severity="info",
        owner="application",
        for_="30m",
        every_s=MINUTES,
        labels=DEPLOYMENT,
        expr=(
            f"{target_replicas(exprs)} > {exprs.settings.replicas_above_usual:g} * {usual}\n"
            f"# ignore a difference of one or two replicas\n"
            f"and {target_replicas(exprs)} >= {usual} + 3\n"
            f"# a deployment younger than a day has no baseline\n"
            f"and {known}"
        ),
        summary="The replica count is far above its baseline.",
        description=(
            f"{{{{ $labels.application }}}}/{{{{ $labels.deployment }}}} has a target of {{{{ $value }}}} "
            f"replicas, more than {exprs.settings.replicas_above_usual:g} times its average of the last "
            f"day."
        ),
        meaning=(
            "Traffic has grown, replicas are slower (so that more are required), or the configuration has changed."
        ),
        impact="None for users; the cost grows.",
        diagnosis=(
            ("Total requests:", "ray_serve_autoscaling_total_requests"),
            (
                "Has processing slowed down?",
                "histogram_quantile(0.95, sum by (deployment, le) "
                "(rate(ray_serve_deployment_processing_latency_ms_bucket[5m])))",
            ),
        ),
        mitigation=(
            "If processing slowed down, follow the deployment's latency; if traffic grew, see RayServeTrafficFlood.",
        ),
        panel=("servescope-deployment", "Target and healthy replicas"),
        case=Case(
            at="26h",
            fires={series.TARGET_REPLICAS: "2x6000 8x190 _x16 8x", series.HEALTHY_REPLICA: "8x"},
            quiet={series.TARGET_REPLICAS: "2x6000 6x"},
            labels=series.THE_DEPLOYMENT,
        ),
        judged="usual",
        no_drill="it compares with the previous day; covered by the unit test",
    )


def at_max_replicas(exprs: Expressions) -> Alert:
    least = exprs.total("max", exprs.over("last", "servescope_deployment_min_replicas", HOLD), *DEPLOYMENT)
    most = exprs.total("max", exprs.over("last", "servescope_deployment_max_replicas", HOLD), *DEPLOYMENT)
    return Alert(
        name="RayServeAtMaxReplicas",
        severity="info",
        owner="application",
        for_="2h",
        every_s=MINUTE,
        labels=DEPLOYMENT,
        expr=f"{target_replicas(exprs)} >= {most}\n# ignore deployments of a fixed size\nand {most} > {least}",
        summary="The deployment has been at max_replicas for hours.",
        description=(
            "{{ $labels.application }}/{{ $labels.deployment }} has been at max_replicas ({{ $value }}) for 2 hours."
        ),
        meaning="There is no capacity left for a peak, and the deployment runs at its maximum cost.",
        impact="None yet; the next peak will queue.",
        diagnosis=(
            (
                "Required replicas:",
                "ray_serve_autoscaling_total_requests / ray_serve_autoscaling_target_ongoing_requests",
            ),
            ("The limit:", "servescope_deployment_max_replicas"),
        ),
        mitigation=("Raise max_replicas, or reduce the processing time per request.",),
        panel=("servescope-deployment", "Required and target replicas"),
        case=Case(
            at="3h",
            fires={
                series.TARGET_REPLICAS: "4x310 _x16 4x",
                series.HEALTHY_REPLICA: "4x",
                series.deployment_series("servescope_deployment_max_replicas"): "4x",
                series.deployment_series("servescope_deployment_min_replicas"): "1x",
            },
            quiet={series.TARGET_REPLICAS: "3x"},
            labels=series.THE_DEPLOYMENT,
        ),
        drill="hours-at-max",
        needs=NEEDS_EXPORTER_FOR_LIMITS,
    )


def gpu_idle_reserved(exprs: Expressions) -> Alert:
    gpu_use = exprs.total("max", exprs.over("max", "ray_node_gpus_utilization", "15m"), "instance")
    reserved = exprs.total("sum", exprs.over("last", "ray_resources", HOLD, Name='="GPU"', State='="USED"'), "instance")
    return Alert(
        name="RayGpuIdleReserved",
        severity="info",
        owner="application",
        for_="1h",
        every_s=MINUTE,
        labels=("instance",),
        expr=(f"{gpu_use} < {exprs.settings.gpu_idle_percent}\n# only reserved GPUs are wasted\nand {reserved} > 0"),
        summary="Reserved GPUs are idle.",
        description=(
            "The busiest GPU on {{ $labels.instance }} has been at {{ $value }} % utilization for 1 hour "
            "while GPUs are reserved."
        ),
        meaning="Replicas reserve GPUs and have no work, or do their work on the CPU.",
        impact="None for users; idle GPUs cost money.",
        diagnosis=(
            ("Reserved GPUs:", 'ray_resources{Name="GPU"}'),
            ("Which replicas?", "sum by (application, deployment) (ray_serve_deployment_replica_healthy)"),
        ),
        mitigation=(
            (
                "Lower min_replicas, share a GPU between replicas (num_gpus below 1), or find out why the "
                "GPU is not used."
            ),
        ),
        panel=("servescope-cluster", "GPU utilization"),
        case=Case(
            at="90m",
            fires={
                series.gpu_series("ray_node_gpus_utilization"): f"{exprs.settings.gpu_idle_percent - 1}x",
                series.series("ray_resources", Name="GPU", State="USED", instance="n1"): "1x150 _x12 1x",
            },
            quiet={series.gpu_series("ray_node_gpus_utilization"): f"0x300 {exprs.settings.gpu_idle_percent} 0x"},
            labels={"instance": "n1"},
        ),
        no_drill=NO_DRILL_WITHOUT_GPU,
    )


def traffic_flood(exprs: Expressions) -> Alert:
    exprs = exprs.by_service
    traffic = exprs.read(figures.REQUESTS_5M, "application")
    requests = exprs.scope.select("ray_serve_num_http_requests_total", application='!=""')
    now = exprs.total("sum", f"rate({requests}[5m])", "application")
    before = exprs.total("sum", f"rate({requests}[1h] offset 10m)", "application")
    known = exprs.total("group", exprs.ago("ray_serve_application_status", "70m"), "application")
    return Alert(
        name="RayServeTrafficFlood",
        severity="info",
        owner="application",
        for_="2m",
        every_s=MINUTE,
        labels=("application",),
        expr=(
            f"{now} > {exprs.settings.traffic_above_usual:g} * {before}\n"
            f"# ignore surges of applications with low traffic\n"
            f"and {traffic} >= {100 * exprs.settings.alert_min_events}\n"
            f"# an application, or a Prometheus, younger than that hour has no usual traffic\n"
            f"and {known}"
        ),
        summary="Traffic surge: the application receives far more requests than usual.",
        description=(
            f"Application {{{{ $labels.application }}}} receives {{{{ $value | humanize }}}} requests per "
            f"second, more than {exprs.settings.traffic_above_usual:g} times the rate of the hour before."
        ),
        meaning=(
            "A launch, a retry storm, a scanner or a load test. It explains why other alerts fire and "
            "why replicas scale up."
        ),
        impact="None by itself.",
        diagnosis=(
            ("Which route?", "topk(10, sum by (application, route) (rate(ray_serve_num_http_requests_total[5m])))"),
            (
                "Do clients retry after errors?",
                "sum by (application, status_code) (rate(ray_serve_num_http_requests_total[5m]))",
            ),
        ),
        mitigation=(
            (
                "Rate-limit the traffic in front of Serve; max_queued_requests keeps the latency of accepted "
                "requests low."
            ),
        ),
        panel=("servescope-overview", "Requests by application"),
        case=Case(
            at="2h",
            fires={series.http_requests("200"): "0+30x400 12000+3000x", series.STATUS_OF_APPLICATION: "6x"},
            quiet={series.http_requests("200"): "0+1000x400 400000+3000x"},
            labels=series.THE_APPLICATION,
        ),
        judged="usual",
        drill="flood",
    )
