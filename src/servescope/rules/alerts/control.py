"""The control plane: controller, proxies, event loops, head and GCS, and missing metrics."""

from __future__ import annotations

from servescope import promql
from servescope.promql import figures
from servescope.promql.figures import MINUTE, MINUTES
from servescope.rules import series
from servescope.rules.alert import Alert, Case, Group
from servescope.rules.expressions import RUNNING, Expressions

PROXY_LABELS = ("node_ip_address",)
# What has reported within this time and no longer does is missing; what has been missing for longer raises nothing.
SEEN_WITHIN = "30m"


def build(exprs: Expressions) -> Group:
    """The alerts of this group, in the order of the rule file."""
    return Group(
        name="control",
        title="Control plane and monitoring",
        alerts=(
            controller_stalled(exprs),
            event_loop_lag(exprs),
            proxy_unhealthy(exprs),
            proxy_missing(exprs),
            long_poll_slow(exprs),
            head_gone(exprs),
            gcs_gone(exprs),
            metrics_gone(exprs),
            no_ray_metrics(exprs),
            target_down(exprs),
            exporter_down(exprs),
            exporter_stale(exprs),
            watchdog(exprs),
        ),
    )


def controller_stalled(exprs: Expressions) -> Alert:
    proxies_alive = exprs.total(
        "group",
        exprs.scope.rate("ray_serve_event_loop_monitoring_iterations_total", "2m", component='="proxy"') + " > 0",
    )
    return Alert(
        name="RayServeControllerStalled",
        severity="critical",
        owner="platform",
        for_="1m",
        labels=(),
        expr=(
            f"{proxies_alive}\n"
            "# this counter is exported as a gauge, which ends 20 s after the control loop stops\n"
            f"unless {exprs.controller_runs('2m')}"
        ),
        summary="The Serve controller's control loop is stalled.",
        description="The Serve controller has completed no control loop for 2 minutes, while proxies are running.",
        meaning=(
            "The controller is dead, restarting, or stuck in a control loop. It runs autoscaling, health "
            "checks and deploys; the proxies keep serving requests meanwhile."
        ),
        impact="None at first; replicas that die are not replaced, and autoscaling stops.",
        diagnosis=(
            ("Control loops completed:", "max by (actor_id) (ray_serve_controller_num_control_loops)"),
            ("Is the head alive? See RayClusterHeadGone and RayClusterGcsGone.", ""),
            ("Where is it stuck? `ray stack` on the head prints its stack.", ""),
        ),
        mitigation=(
            (
                "If it is stuck, kill the controller (`ServeController` among the actors of the Ray "
                "dashboard); Ray restarts a dead one within seconds."
            ),
        ),
        panel=("servescope-cluster", "Control loops per second"),
        case=Case(
            at="15m",
            # What only the controller reports ends with it; its applications still run.
            fires={
                series.CONTROL_LOOPS: "0+100x20",
                series.PROXY_HEARTBEAT: "0+3x",
                series.STATUS_OF_APPLICATION: "6x20",
                series.http_requests("404", "", ""): "0+5x",
            },
            quiet={
                series.series("ray_serve_controller_num_control_loops", actor_id="c2"): "_x16 0+90x",
                series.STATUS_OF_APPLICATION: "6x",
            },
        ),
        drill="kill-controller",
    )


def event_loop_lag(exprs: Expressions) -> Alert:
    # Each event loop separately: a replica has three, and two idle ones would hide a blocked one.
    family = "ray_serve_event_loop_scheduling_latency_ms"
    # One late iteration during startup is no lag.
    lag = exprs.share_beyond(figures.PUNCTUAL_ITERATIONS, figures.ITERATIONS, *figures.LOOP, least=5)
    user_loop = {"component": "replica", "loop_type": "user_code"}
    bucket = series.deployment_series(f"{family}_bucket", **user_loop, actor_id="r", le=f"{figures.LATE_ITERATION_MS}")
    count = series.deployment_series(f"{family}_count", **user_loop, actor_id="r")
    return Alert(
        name="RayServeEventLoopLag",
        severity="warning",
        owner="application",
        for_="2m",
        every_s=MINUTE,
        labels=figures.LOOP,
        expr=f"{lag} > 0.2",
        summary="An event loop is blocked.",
        description=(
            "{{ $value | humanizePercentage }} of the iterations of the {{ $labels.loop_type }} event "
            "loop of {{ $labels.component }} {{ $labels.deployment }} ran more than 500 ms late."
        ),
        meaning=(
            "Code that does not await (CPU-bound work, blocking I/O, time.sleep) blocks the event loop, "
            "which also serves the other requests and the health check."
        ),
        impact="All requests of that process stall together.",
        diagnosis=(
            (
                "Event loop lag p99:",
                "histogram_quantile(0.99, sum by (component, deployment, loop_type, le) "
                "(rate(ray_serve_event_loop_scheduling_latency_ms_bucket[5m])))",
            ),
        ),
        mitigation=(
            (
                "Move blocking work into a thread (`asyncio.to_thread`) or into its own deployment; lower "
                "max_ongoing_requests."
            ),
        ),
        panel=("servescope-deployment", "Event loop lag p99"),
        case=Case(
            at="15m",
            fires={bucket: "0+2x", count: "0+3x"},
            quiet={bucket: "0+2.45x"},
            labels={**series.THE_DEPLOYMENT, **user_loop},
        ),
        drill="blocked-loop",
    )


def proxy_unhealthy(exprs: Expressions) -> Alert:
    return Alert(
        name="RayServeProxyUnhealthy",
        severity="critical",
        owner="platform",
        for_="1m",
        labels=PROXY_LABELS,
        expr=(
            f"({exprs.total('max', exprs.now('ray_serve_proxy_status'), *PROXY_LABELS)} < 2\n"
            "# an UNHEALTHY proxy is replaced at once; what lasts is a proxy that does not start\n"
            f"or {exprs.total('max', exprs.now('ray_serve_proxy_status'), *PROXY_LABELS)} == 3)\n"
            "# a controller that has just restarted reports every proxy as STARTING\n"
            f"and on ({exprs.key}) {exprs.controller_lasts()}"
        ),
        summary="A proxy is unhealthy or does not start.",
        description=(
            "The controller has reported the proxy on {{ $labels.node_ip_address }} as STARTING or "
            "UNHEALTHY for 1 minute."
        ),
        meaning=(
            "The proxy does not respond to the controller's health checks: it is overloaded, stuck or "
            "dead, or its port is in use."
        ),
        impact="Requests through that node fail or hang until the load balancer removes it.",
        diagnosis=(
            ("Status of each proxy:", "ray_serve_proxy_status"),
            (
                "Is its event loop lagging?",
                'sum by (instance) (rate(ray_serve_event_loop_scheduling_latency_ms_bucket{component="proxy", '
                'le=~"500([.]0)?"}[5m]))',
            ),
        ),
        mitigation=("If Serve does not replace it, kill the proxy actor and read `logs/serve/proxy_<ip>.log`.",),
        panel=("servescope-cluster", "Proxy status"),
        case=Case(
            at="10m",
            fires={series.STATUS_OF_PROXY: "2x10 3 1x3 3 1x", series.CONTROL_LOOPS: "0+100x"},
            quiet={series.STATUS_OF_PROXY: "2x30 1x3 2x"},
            labels={"node_ip_address": "10.0.0.1"},
        ),
        drill="kill-proxy",
    )


def proxy_missing(exprs: Expressions) -> Alert:
    was_there = exprs.total("group", exprs.over("last", "ray_serve_proxy_status", SEEN_WITHIN), *PROXY_LABELS)
    worst_status = exprs.total("max", exprs.over("max", "ray_serve_proxy_status", SEEN_WITHIN), *PROXY_LABELS)
    node_alive = f'label_replace({exprs.now("ray_node_cpu_utilization")}, "node_ip_address", "$1", "ip", "(.*)")'
    return Alert(
        name="RayServeProxyMissing",
        severity="warning",
        owner="platform",
        for_="2m",
        labels=PROXY_LABELS,
        expr=(
            f"({was_there}\n"
            f"unless {exprs.total('group', exprs.now('ray_serve_proxy_status'), *PROXY_LABELS)}\n"
            "# the proxy of a node without replicas is drained, then removed\n"
            f"unless {worst_status} >= 4\n"
            "# a lost node has its own alert\n"
            f"and {exprs.total('group', node_alive, *PROXY_LABELS)})\n"
            "# the controller reports the proxies: without it their status is unknown\n"
            f"and on ({exprs.key}) {exprs.controller_runs('2m')}"
        ),
        summary="A node has no proxy.",
        description=(
            "Node {{ $labels.node_ip_address }} had a proxy within the last 30 minutes and has none now, "
            "although the node is alive."
        ),
        meaning="The proxy actor cannot start: its port is in use, or the node is out of resources.",
        impact="Nothing listens on that node's Serve port.",
        diagnosis=(("Status of each proxy:", "ray_serve_proxy_status"),),
        mitigation=("Look for 'Failed to bind' in `logs/serve/proxy_<ip>.log`; free the port.",),
        panel=("servescope-cluster", "Proxy status"),
        case=Case(
            at="20m",
            fires={series.HEAD_CPU: "10x", series.STATUS_OF_PROXY: "2x20", series.CONTROL_LOOPS: "0+100x"},
            quiet={series.STATUS_OF_PROXY: "2x20 4x10"},
            labels={"node_ip_address": "10.0.0.1"},
        ),
        no_drill=(
            "Serve restarts a killed proxy within seconds, and a proxy that cannot restart (its port in "
            "use) never reports; covered by the unit test"
        ),
    )


def long_poll_slow(exprs: Expressions) -> Alert:
    # Shares of few updates say nothing. New clients count as late, but such a burst has left the window in time.
    late_updates = exprs.share_beyond(figures.FAST_UPDATES, figures.UPDATES, least=10)
    return Alert(
        name="RayServeLongPollSlow",
        severity="warning",
        owner="platform",
        for_="10m",
        every_s=MINUTES,
        labels=(),
        expr=f"{late_updates} > 0.25",
        summary="Long-poll updates from the controller are delayed.",
        description="{{ $value | humanizePercentage }} of long-poll updates took longer than 5 s to arrive.",
        meaning=(
            "Proxies and handles learn of new and removed replicas by long poll; an overloaded "
            "controller or network delays these updates."
        ),
        impact="Requests are routed to removed replicas, and new replicas stay idle.",
        diagnosis=(
            (
                "Long-poll latency p95 by namespace:",
                "histogram_quantile(0.95, sum by (namespace, le) (rate(ray_serve_long_poll_latency_ms_bucket[5m])))",
            ),
            ("How long does a control loop take?", "ray_serve_controller_control_loop_duration_s"),
        ),
        mitigation=(("Dedicate CPUs of the head node to the controller; run fewer deployments, or scale less often."),),
        panel=("servescope-cluster", "Long-poll update latency p95"),
        case=Case(
            at="20m",
            fires={
                series.series("ray_serve_long_poll_latency_ms_bucket", namespace="a", le="5000"): "0+0.7x",
                series.series("ray_serve_long_poll_latency_ms_count", namespace="a"): "0+1x",
            },
            quiet={series.series("ray_serve_long_poll_latency_ms_bucket", namespace="a", le="5000"): "0+0.8x"},
        ),
        no_drill="a controller delayed by 5 s stalls for longer before that; covered by the unit test",
    )


def head_gone(exprs: Expressions) -> Alert:
    head = {"IsHeadNode": '="true"'}
    return Alert(
        name="RayClusterHeadGone",
        severity="critical",
        owner="platform",
        for_="1m",
        labels=(),
        expr=(
            f"({exprs.total('group', exprs.over('last', 'ray_node_cpu_utilization', SEEN_WITHIN, **head))}\n"
            f"unless {exprs.total('group', exprs.now('ray_node_cpu_utilization', **head))})\n"
            "# a silent cluster has its own alert\n"
            f"and {exprs.cluster_lives()}"
        ),
        summary="The head node's metrics are missing.",
        description="The head node's metrics stopped within the last 30 minutes, while other nodes still report.",
        meaning=(
            "The head is down or unreachable; or only the GCS is down, without which no node reports its "
            "metrics. Without GCS fault tolerance the other nodes shut down within about a minute."
        ),
        impact=(
            "With GCS fault tolerance none at first: proxies and replicas on worker nodes keep serving, "
            "but nothing scales or is replaced. Without it everything stops."
        ),
        diagnosis=(("Which nodes report?", "ray_node_cpu_utilization"), ("Which scrape targets are down?", "up == 0")),
        mitigation=("Restart the head node; with an external Redis (GCS fault tolerance) the workers reconnect.",),
        panel=("servescope-cluster", "Node details"),
        case=Case(
            at="20m",
            fires={series.HEAD_CPU: "10x20", series.node_cpu("n2", ip="10.0.0.2", IsHeadNode="false"): "10x"},
            quiet={series.HEAD_CPU: "10x20 _x3 10x"},
        ),
        drill="kill-head",
    )


def gcs_gone(exprs: Expressions) -> Alert:
    return Alert(
        name="RayClusterGcsGone",
        severity="critical",
        owner="platform",
        for_="1m",
        labels=(),
        expr=(
            f"({exprs.total('group', exprs.over('last', 'ray_gcs_actors_count', SEEN_WITHIN))}\n"
            f"unless {exprs.total('group', exprs.now('ray_gcs_actors_count'))})\n"
            f"and {exprs.cluster_lives()}"
        ),
        summary="The GCS metrics are missing.",
        description="The metrics of the GCS stopped within the last 30 minutes, while nodes still report.",
        meaning="The GCS process is dead or hangs, or the head is down.",
        impact=(
            "No actor can start: nothing scales or is replaced. Requests succeed while the existing processes live."
        ),
        diagnosis=(
            ("Does it respond? `curl <head>:8265/api/gcs_healthz`.", ""),
            (
                (
                    "It responds and was just restarted: `Failed to establish connection to the event+metrics "
                    "exporter agent` in `logs/gcs_server.out` means that the node's agent took longer than 30 s "
                    "to start. Ray then exports no GCS metrics until the next restart."
                ),
                "",
            ),
            (
                "Storage operations before it stopped:",
                "sum by (Operation) (rate(ray_gcs_storage_operation_count_total[5m]))",
            ),
        ),
        mitigation=(
            "Restart the head node, or let GCS fault tolerance do so; read `logs/gcs_server.out` on the head.",
        ),
        panel=("servescope-cluster", "GCS storage operations"),
        case=Case(
            at="20m",
            fires={
                series.GCS_ACTORS: "5x20",
                series.HEAD_CPU: "10x20",
                series.series("ray_object_store_memory", instance="n2"): "1x",
            },
            quiet={series.GCS_ACTORS: "5x20 _x3 5x", series.HEAD_CPU: "10x"},
            also=("RayClusterHeadGone",),
        ),
        drill="kill-head-ft",
    )


def metrics_gone(exprs: Expressions) -> Alert:
    served = (
        f"{exprs.over('max', 'ray_serve_application_status', SEEN_WITHIN)} == {RUNNING} or "
        f"{exprs.over('max', 'ray_serve_deployment_replica_healthy', SEEN_WITHIN)} > 0"
    )
    service = exprs.settings.service_label
    relieved = ""
    if service:
        other = promql.total(exprs.running(**{service: '!=""'}), (service,), "group")
        relieved = f"\n# KubeRay deletes the old cluster of an upgraded RayService\nunless on ({service}) {other}"
    return Alert(
        name="RayClusterMetricsGone",
        severity="critical",
        owner="platform",
        for_="2m",
        labels=(),
        expr=(
            "# absent() misses one of two clusters: compare each cluster with its own past\n"
            f"{exprs.total('group', exprs.over('last', 'ray_node_cpu_utilization', SEEN_WITHIN))}\n"
            f"unless {exprs.cluster_lives()}\n"
            "# a cluster that never served may end: a RayJob's is deleted with the job\n"
            f"and {exprs.total('group', served)}{relieved}"
        ),
        summary="All metrics of a cluster are missing.",
        description=(
            f"No node of cluster {{{{ $labels.{exprs.settings.cluster_label} }}}} has reported for 2 "
            f"minutes; nodes did within the last 30 minutes."
        ),
        meaning=(
            "The cluster is down or was removed, or Prometheus cannot discover or reach it. All other "
            "alerts for this cluster are blind meanwhile. The alert resolves 30 minutes after the last "
            "sample. It is silent for a cluster in which no application was ever RUNNING, and, where service_label is "
            "set, while another cluster with the same value runs one."
        ),
        impact="Unknown: check at once whether the service responds.",
        diagnosis=(
            ("Which scrape targets are down?", "up == 0"),
            ("Are there targets at all? See Status, Targets in Prometheus.", ""),
        ),
        mitigation=(
            (
                "Restore the cluster or the scrape; if the cluster was removed on purpose, silence the alert "
                "for 30 minutes."
            ),
        ),
        panel=("servescope-cluster", "Scrape targets up"),
        case=Case(
            at="20m",
            fires={
                series.HEAD_CPU: "10x20",
                series.STATUS_OF_APPLICATION: "6x20",
                series.node_cpu("n9", ray_io_cluster="b", ip="10.0.1.1"): "5x",
            },
            quiet={series.STATUS_OF_APPLICATION: "5x20"},
        ),
        drill="kill-head",
        judged="gone",
    )


def no_ray_metrics(exprs: Expressions) -> Alert:
    return Alert(
        name="ServescopeNoRayMetrics",
        severity="critical",
        owner="monitoring",
        for_="5m",
        labels=(),
        expr=(
            f"absent({exprs.scope.select('ray_node_cpu_utilization')})\n"
            f"and absent({exprs.scope.select('ray_object_store_memory')})"
        ),
        summary="Prometheus has no Ray metrics.",
        description="Prometheus has received no series of any Ray cluster for 5 minutes.",
        meaning=(
            "No target is discovered or none responds: the service discovery file, the PodMonitor or the "
            "network is at fault."
        ),
        impact="Unknown: every other alert is blind.",
        diagnosis=(("Which scrape targets are down?", "up == 0"),),
        mitigation=("Fix the scrape configuration; `curl <node>:8080/metrics` shows whether Ray exports metrics.",),
        panel=("servescope-cluster", "Scrape targets up"),
        case=Case(at="1h", fires={series.HEAD_CPU: "10x20"}, quiet={series.HEAD_CPU: "10x200 _x10 10x"}, cluster=""),
        drill="kill-head",
        judged="pipeline",
    )


def target_down(exprs: Expressions) -> Alert:
    of_ray = exprs.total("group", exprs.over("last", "ray_node_cpu_utilization", SEEN_WITHIN), "job", "instance")
    return Alert(
        name="ServescopeTargetDown",
        severity="warning",
        owner="monitoring",
        for_="5m",
        labels=("job", "instance"),
        expr=(
            f"{exprs.total('max', exprs.over('max', 'up', exprs.hold), 'job', 'instance')} == 0\n"
            "# only Ray's targets: those that have exported Ray metrics\n"
            f"and {of_ray}"
        ),
        summary="A scrape target is down.",
        description="{{ $labels.instance }} is a discovered target and has failed every scrape for 5 minutes.",
        meaning=(
            "The node's agent is dead or too slow (scrape_timeout), or the node is gone and still "
            "listed. Nodes that Ray reports as dead are removed from the service discovery file and do "
            "not raise this alert."
        ),
        impact="None for users; that node is not monitored.",
        diagnosis=(("Scrape duration:", "scrape_duration_seconds"),),
        mitigation=("Run `curl <node>:8080/metrics`; a response of 500 means RAY_enable_open_telemetry=0.",),
        panel=("servescope-cluster", "Scrape targets up"),
        case=Case(
            at="15m",
            fires={series.TARGET_UP: "1x20 0x", series.HEAD_CPU: "10x20", series.node_cpu("n2", ip="10.0.0.2"): "10x"},
            quiet={series.HEAD_CPU: "10x", series.TARGET_UP: "1x20 0x15 1x"},
            labels={"instance": "n1", "job": "ray"},
            also=("RayClusterHeadGone",),
        ),
        drill="kill-head",
    )


def exporter_down(exprs: Expressions) -> Alert:
    return Alert(
        name="ServescopeExporterDown",
        severity="warning",
        owner="monitoring",
        for_="5m",
        labels=(),
        expr=(
            f"{exprs.total('group', exprs.over('last', 'servescope_exporter_up', SEEN_WITHIN))}\n"
            f"unless {exprs.total('group', exprs.now('servescope_exporter_up') + ' == 1')}\n"
            "# a silent cluster has its own alert, and its exporter is deleted with it\n"
            f"and {exprs.cluster_lives()}"
        ),
        summary="The state exporter is down or cannot read Serve's state.",
        description="servescope_exporter_up has not been 1 for 5 minutes.",
        meaning="The exporter is not running, or the Ray dashboard (port 8265) does not respond to it.",
        impact="None for users; alerts that compare with configured limits do not fire meanwhile.",
        diagnosis=(
            ("Exporter status:", "servescope_exporter_up"),
            ("Age of its data:", "servescope_exporter_data_age_seconds"),
        ),
        mitigation=("Restart the exporter; check that it can reach `<head>:8265/api/serve/applications/`.",),
        panel=("servescope-cluster", "Scrape targets up"),
        case=Case(at="20m", fires={"servescope_exporter_up": "1x20"}, quiet={"servescope_exporter_up": "1x20 _x12 1x"}),
        drill="stop-exporter",
        needs="the servescope exporter: does not fire where it never ran",
    )


def exporter_stale(exprs: Expressions) -> Alert:
    return Alert(
        name="ServescopeExporterStale",
        severity="warning",
        owner="monitoring",
        for_="2m",
        labels=(),
        expr=f"{exprs.total('max', exprs.now('servescope_exporter_data_age_seconds'))} > 120",
        summary="The state exporter's data is stale.",
        description="The state exporter's data is {{ $value | humanizeDuration }} old.",
        meaning="The exporter keeps serving the last state while Serve's REST API does not respond.",
        impact="None for users; configured limits and status may be outdated.",
        diagnosis=(("Exporter status:", "servescope_exporter_up"),),
        mitigation=("Check that the Ray dashboard on the head responds: `curl <head>:8265/api/version`.",),
        panel=("servescope-cluster", "Scrape targets up"),
        case=Case(at="20m", fires={series.EXPORTER_DATA_AGE: "0+15x"}, quiet={series.EXPORTER_DATA_AGE: "119x"}),
        drill="kill-head-ft",
        needs="the servescope exporter",
    )


def watchdog(exprs: Expressions) -> Alert:
    return Alert(
        name="ServescopeWatchdog",
        severity="info",
        owner="monitoring",
        for_="",
        labels=(),
        expr="vector(1)",
        summary="Alerts are evaluated and delivered.",
        description="This alert always fires: send it to a dead man's switch that notifies when it stops.",
        meaning="It verifies the alerting pipeline from Prometheus through Alertmanager to a receiver.",
        impact="None.",
        diagnosis=(("Which alerts fire?", 'ALERTS{alertstate="firing"}'),),
        mitigation=("Route it to a dead man's switch.",),
        panel=("servescope-cluster", "Scrape targets up"),
        case=Case(at="5m", fires={}, quiet={}, cluster=""),
        drill="nothing",
        judged="pipeline",
    )
