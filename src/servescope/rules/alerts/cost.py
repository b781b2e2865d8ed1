"""What costs more than it should: too many replicas for too long, reserved and idle GPUs, floods of traffic."""

from __future__ import annotations

from servescope.promql import DEPLOYMENT
from servescope.rules.alert import Alert, Case, Group
from servescope.rules.alerts.nodes import GPU, GPU_TEST, node
from servescope.rules.alerts.saturation import HEALTHY, TARGET, WHO, of
from servescope.rules.alerts.users import http
from servescope.rules.expressions import Expressions
from servescope.settings import Settings

# How long the last sample counts where an alert waits for an hour or two: minutes without metrics do not begin it anew.
HOLD = "5m"


def build(settings: Settings) -> Group:
    """The group."""
    t = Expressions(settings)
    target = t.total("max", t.over("last", "ray_serve_autoscaling_target_replicas", HOLD), *DEPLOYMENT)
    usual = t.total(
        "max", f"avg_over_time({t.scope.select('ray_serve_autoscaling_target_replicas')}[1d] offset 1h)", *DEPLOYMENT
    )
    known = t.total("group", t.ago("ray_serve_autoscaling_target_replicas", "1d"), *DEPLOYMENT)
    least = t.total("max", t.over("last", "servescope_deployment_min_replicas", HOLD), *DEPLOYMENT)
    most = t.total("max", t.over("last", "servescope_deployment_max_replicas", HOLD), *DEPLOYMENT)
    gpu_use = t.total("max", t.over("max", "ray_node_gpus_utilization", "15m"), "instance")
    reserved = t.total("sum", t.over("last", "ray_resources", HOLD, Name='="GPU"', State='="USED"'), "instance")
    traffic = t.requests("5m", "application")
    requests = t.scope.select("ray_serve_num_http_requests_total", application='!=""')
    now = t.total("sum", f"rate({requests}[5m])", "application")
    before = t.total("sum", f"rate({requests}[1h] offset 10m)", "application")
    return Group(
        "cost",
        "Cost and floods",
        (
            Alert(
                name="RayServeReplicasAboveUsual",
                severity="info",
                wait="30m",
                labels=DEPLOYMENT,
                expr=(
                    f"{target} > {settings.replicas_above_usual:g} * {usual}\n"
                    f"# one more replica is no surprise\n"
                    f"and {target} >= {usual} + 3\n"
                    f"# a deployment younger than a day has no usual level\n"
                    f"and {known}"
                ),
                summary="A deployment runs far more replicas than usual.",
                description=(
                    "{{ $labels.deployment }} of {{ $labels.application }} wants {{ $value }} replicas, more than "
                    f"{settings.replicas_above_usual:g} times its average of the last day."
                ),
                meaning=(
                    "More demand, slower replicas (each does less, so more are wanted), or a changed configuration."
                ),
                impact="None; the bill grows.",
                diagnose=(
                    ("Demand:", "ray_serve_autoscaling_total_requests"),
                    (
                        "Did the work get slower?",
                        "histogram_quantile(0.95, sum by (deployment, le) "
                        "(rate(ray_serve_deployment_processing_latency_ms_bucket[5m])))",
                    ),
                ),
                mend=("Slower: see the deployment's latency. More demand: see RayServeTrafficFlood.",),
                panel=("servescope-deployment", "Replicas wanted and healthy"),
                case=Case(
                    at="26h",
                    fires={TARGET: "2x6000 8x190 _x16 8x", HEALTHY: "8x"},
                    quiet={TARGET: "2x6000 6x"},
                    labels=WHO,
                ),
                no_drill="it compares with the day before: the unit test carries it",
            ),
            Alert(
                name="RayServeAtMaxReplicas",
                severity="info",
                wait="2h",
                labels=DEPLOYMENT,
                expr=f"{target} >= {most}\n# a range of one is a fixed size\nand {most} > {least}",
                summary="A deployment has been at max_replicas for hours.",
                description=(
                    "{{ $labels.deployment }} of {{ $labels.application }} has wanted its maximum of {{ $value }} "
                    "replicas for two hours."
                ),
                meaning="There is no room left for a peak, and the most that it may cost is being spent.",
                impact="None yet; the next peak queues.",
                diagnose=(
                    (
                        "Demand in replicas:",
                        "ray_serve_autoscaling_total_requests / ray_serve_autoscaling_target_ongoing_requests",
                    ),
                    ("The limit:", "servescope_deployment_max_replicas"),
                ),
                mend=("Raise max_replicas, or make the work cheaper.",),
                panel=("servescope-deployment", "Demand against replicas"),
                case=Case(
                    at="3h",
                    fires={
                        TARGET: "4x310 _x16 4x",
                        HEALTHY: "4x",
                        of("servescope_deployment_max_replicas"): "4x",
                        of("servescope_deployment_min_replicas"): "1x",
                    },
                    quiet={TARGET: "3x"},
                    labels=WHO,
                ),
                drill="hours-at-max",
                needs="the servescope exporter (the limit is in no metric of Ray's)",
            ),
            Alert(
                name="RayGpuIdleReserved",
                severity="info",
                wait="1h",
                labels=("instance",),
                expr=(
                    f"{gpu_use} < {settings.gpu_idle_percent}\n"
                    "# only what somebody has reserved is wasted\n"
                    f"and {reserved} > 0"
                ),
                summary="Reserved GPUs are idle.",
                description=(
                    "The busiest GPU of {{ $labels.instance }} was at {{ $value }} % for an hour while GPUs are "
                    "reserved."
                ),
                meaning="Replicas hold GPUs and have no work, or their work runs on the CPU.",
                impact="None; GPUs cost.",
                diagnose=(
                    ("Reserved:", 'ray_resources{Name="GPU"}'),
                    ("Which replicas?", "sum by (application, deployment) (ray_serve_deployment_replica_healthy)"),
                ),
                mend=(
                    "Lower min_replicas, share a GPU between replicas (num_gpus below 1), or find why it is not used.",
                ),
                panel=("servescope-cluster", "GPU use"),
                case=Case(
                    at="90m",
                    fires={
                        node("ray_node_gpus_utilization", GPU): f"{settings.gpu_idle_percent - 1}x",
                        'ray_resources{Name="GPU",State="USED",instance="n1"}': "1x150 _x12 1x",
                    },
                    quiet={node("ray_node_gpus_utilization", GPU): f"0x300 {settings.gpu_idle_percent} 0x"},
                    labels={"instance": "n1"},
                ),
                no_drill=GPU_TEST,
            ),
            Alert(
                name="RayServeTrafficFlood",
                severity="info",
                wait="2m",
                labels=("application",),
                expr=(
                    f"{now} > {settings.traffic_above_usual:g} * {before}\n"
                    f"# of a quiet application any traffic is many times the usual\n"
                    f"and {traffic} >= {100 * settings.alert_min_events}"
                ),
                summary="An application gets far more traffic than usual.",
                description=(
                    "{{ $labels.application }} gets {{ $value | humanize }} requests per second, more than "
                    f"{settings.traffic_above_usual:g} times what it got in the hour before."
                ),
                meaning=(
                    "A launch, a retry storm, a scanner or a test. It says why the others fire, and why replicas "
                    "multiply."
                ),
                impact="None by itself.",
                diagnose=(
                    (
                        "Which route?",
                        "topk(10, sum by (application, route) (rate(ray_serve_num_http_requests_total[5m])))",
                    ),
                    (
                        "Do clients retry after errors?",
                        "sum by (application, status_code) (rate(ray_serve_num_http_requests_total[5m]))",
                    ),
                ),
                mend=("Limit it before Serve; a max_queued_requests keeps what is admitted quick.",),
                panel=("servescope-overview", "Requests by application"),
                case=Case(
                    at="2h",
                    fires={http("200"): "0+30x400 12000+3000x"},
                    quiet={http("200"): "0+1000x400 400000+3000x"},
                    labels={"application": "main"},
                ),
                drill="flood",
            ),
        ),
    )
