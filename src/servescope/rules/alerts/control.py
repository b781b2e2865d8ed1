"""The control plane: controller, proxies, event loops, the head, and metrics that stopped coming."""

from __future__ import annotations

from servescope.rules import series
from servescope.rules.alert import Alert, Case, Group
from servescope.rules.expressions import Expressions
from servescope.settings import Settings

PROXY_LABELS = ("node_ip_address",)
# What has reported within this time and no longer does is gone; what was gone for longer is nobody's news.
SEEN_WITHIN = "30m"


def build(settings: Settings) -> Group:
    """The alerts of this group, in the order of the rule file."""
    exprs = Expressions(settings)
    return Group(
        name="control",
        title="Control plane",
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
        for_="1m",
        labels=(),
        expr=(
            f"{proxies_alive}\n"
            "# the counter is a gauge, and it vanishes 20 s after the loop stands still\n"
            f"unless {exprs.controller_turns('2m')}"
        ),
        summary="Serve's controller does not turn.",
        description="The controller has finished no round for two minutes, while proxies still run.",
        meaning=(
            "The controller is dead, restarting, or stuck in a round. It decides scaling, health checks and "
            "deploys; requests go on through the proxies meanwhile."
        ),
        impact="None at first; a replica that dies now is not replaced, and nothing scales.",
        diagnosis=(
            ("Rounds:", "max by (actor_id) (ray_serve_controller_num_control_loops)"),
            ("Is the head alive? See RayClusterHeadGone and RayClusterGcsGone.", ""),
            ("What does it do? `ray stack` on the head prints its stack.", ""),
        ),
        mitigation=(
            "Ray restarts a dead controller by itself within seconds; a stuck one must be killed "
            "(`ServeController` in the Ray dashboard's actors).",
        ),
        panel=("servescope-cluster", "Control loops per second"),
        case=Case(
            at="15m",
            # What only the controller reports goes with it: its applications are not gone.
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
    # Each loop by itself: a replica has three, and two that idle would hide the one that is blocked.
    lag_labels = ("application", "deployment", "component", "loop_type")
    family = "ray_serve_event_loop_scheduling_latency_ms"
    lag = exprs.slow_share(family, 500, "5m", *lag_labels)
    turns = exprs.events(f"{family}_count", "5m", *lag_labels)
    user_loop = {"component": "replica", "loop_type": "user_code"}
    bucket = series.deployment_series(f"{family}_bucket", **user_loop, actor_id="r", le="500")
    count = series.deployment_series(f"{family}_count", **user_loop, actor_id="r")
    return Alert(
        name="RayServeEventLoopLag",
        severity="warning",
        for_="2m",
        labels=lag_labels,
        expr=(f"{lag} > 0.2\n# one late turn while a process starts is no lag\nand {turns} >= 5"),
        summary="An event loop is blocked.",
        description=(
            "{{ $value | humanizePercentage }} of the turns of the {{ $labels.loop_type }} event loop of "
            "{{ $labels.component }} {{ $labels.deployment }} came more than half a second late."
        ),
        meaning=(
            "Code that does not await (CPU work, blocking I/O, time.sleep) holds the loop that also serves "
            "the other requests and the health check."
        ),
        impact="All requests of that process stall together.",
        diagnosis=(
            (
                "How late?",
                "histogram_quantile(0.99, sum by (component, deployment, loop_type, le) "
                "(rate(ray_serve_event_loop_scheduling_latency_ms_bucket[5m])))",
            ),
        ),
        mitigation=(
            "Move blocking work into a thread (`asyncio.to_thread`) or a deployment of its own; lower "
            "max_ongoing_requests.",
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
        for_="1m",
        labels=PROXY_LABELS,
        expr=(
            f"({exprs.total('max', exprs.now('ray_serve_proxy_status'), *PROXY_LABELS)} < 2\n"
            "# UNHEALTHY is replaced at once and seldom seen: what lasts is a proxy that does not come up\n"
            f"or {exprs.total('max', exprs.now('ray_serve_proxy_status'), *PROXY_LABELS)} == 3)\n"
            "# a controller that has just come back calls each proxy STARTING\n"
            f"and on ({exprs.settings.cluster_label}) {exprs.controller_lasts()}"
        ),
        summary="A proxy is unhealthy, or does not start.",
        description=(
            "The controller has reported the proxy on {{ $labels.node_ip_address }} as STARTING or UNHEALTHY "
            "for a minute."
        ),
        meaning=(
            "The proxy does not answer the controller's checks: it is overloaded, stuck or dead, or its port is taken."
        ),
        impact="Requests through that node fail or hang until the load balancer takes it out.",
        diagnosis=(
            ("Status of each proxy:", "ray_serve_proxy_status"),
            (
                "Is its event loop late?",
                'sum by (instance) (rate(ray_serve_event_loop_scheduling_latency_ms_bucket{component="proxy", '
                'le=~"500([.]0)?"}[5m]))',
            ),
        ),
        mitigation=("Serve replaces it; if it stays, kill the proxy actor and read `logs/serve/proxy_<ip>.log`.",),
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
        for_="2m",
        labels=PROXY_LABELS,
        expr=(
            f"({was_there}\n"
            f"unless {exprs.total('group', exprs.now('ray_serve_proxy_status'), *PROXY_LABELS)}\n"
            "# a proxy whose node has no replica left is drained, then taken away\n"
            f"unless {worst_status} >= 4\n"
            "# a node that is gone has an alert of its own\n"
            f"and {exprs.total('group', node_alive, *PROXY_LABELS)})\n"
            "# the controller reports the proxies: without it nothing is known of them\n"
            f"and on ({exprs.settings.cluster_label}) {exprs.controller_turns('2m')}"
        ),
        summary="A node has lost its proxy.",
        description=(
            "{{ $labels.node_ip_address }} had a proxy within the last 30 minutes and has none now, although "
            "the node is alive."
        ),
        meaning="The proxy actor cannot be started: its port is taken, or the node is out of resources.",
        impact="Nothing answers on that node's port.",
        diagnosis=(("Status of each proxy:", "ray_serve_proxy_status"),),
        mitigation=("Look for 'Failed to bind' in `logs/serve/proxy_<ip>.log`; free the port.",),
        panel=("servescope-cluster", "Proxy status"),
        case=Case(
            at="20m",
            fires={series.HEAD_CPU: "10x", series.STATUS_OF_PROXY: "2x20", series.CONTROL_LOOPS: "0+100x"},
            quiet={series.STATUS_OF_PROXY: "2x20 4x10"},
            labels={"node_ip_address": "10.0.0.1"},
        ),
        no_drill="Serve restarts a killed proxy within seconds, and a proxy that cannot come back (its port "
        "taken) is one that never reports: the unit test carries it",
    )


def long_poll_slow(exprs: Expressions) -> Alert:
    late_news = exprs.slow_share("ray_serve_long_poll_latency_ms", 5000, "5m")
    news = exprs.events("ray_serve_long_poll_latency_ms_count", "5m")
    return Alert(
        name="RayServeLongPollSlow",
        severity="warning",
        for_="10m",
        labels=(),
        expr=(
            f"{late_news} > 0.25\n"
            "# few updates are no share; a client that comes new counts as late: such a burst has left "
            "the window in time\n"
            f"and {news} >= 10"
        ),
        summary="News from the controller reaches proxies and handles late.",
        description="{{ $value | humanizePercentage }} of the controller's updates took longer than 5 s to arrive.",
        meaning=(
            "Proxies and handles learn of new and dead replicas by long poll; a busy controller or network delays it."
        ),
        impact="Requests go to replicas that are gone, new ones stay idle.",
        diagnosis=(
            (
                "By namespace:",
                "histogram_quantile(0.95, sum by (namespace, le) (rate(ray_serve_long_poll_latency_ms_bucket[5m])))",
            ),
            ("How long is a round of the controller?", "ray_serve_controller_control_loop_duration_s"),
        ),
        mitigation=("Fewer deployments or slower scaling on one controller; give the head node CPU of its own.",),
        panel=("servescope-cluster", "Long-poll update latency p95"),
        case=Case(
            at="20m",
            fires={
                series.series("ray_serve_long_poll_latency_ms_bucket", namespace="a", le="5000"): "0+0.7x",
                series.series("ray_serve_long_poll_latency_ms_count", namespace="a"): "0+1x",
            },
            quiet={series.series("ray_serve_long_poll_latency_ms_bucket", namespace="a", le="5000"): "0+0.8x"},
        ),
        no_drill="a controller that is late by five seconds stands still for longer before it is late: the "
        "unit test carries it",
    )


def head_gone(exprs: Expressions) -> Alert:
    head = {"IsHeadNode": '="true"'}
    return Alert(
        name="RayClusterHeadGone",
        severity="critical",
        for_="1m",
        labels=(),
        expr=(
            f"({exprs.total('group', exprs.over('last', 'ray_node_cpu_utilization', SEEN_WITHIN, **head))}\n"
            f"unless {exprs.total('group', exprs.now('ray_node_cpu_utilization', **head))})\n"
            "# silence of a whole cluster has an alert of its own\n"
            f"and {exprs.cluster_lives()}"
        ),
        summary="The head node reports nothing any more.",
        description="The head's metrics stopped within the last 30 minutes, while other nodes still report.",
        meaning=(
            "The head is down or cut off; or the GCS alone is, without which no node tells of itself. Without "
            "GCS fault tolerance the other nodes end within about a minute."
        ),
        impact=(
            "With fault tolerance none at first: proxies and replicas on workers go on, nothing scales or "
            "heals. Without it everything stops."
        ),
        diagnosis=(("Which nodes report?", "ray_node_cpu_utilization"), ("Which targets fail?", "up == 0")),
        mitigation=("Bring the head back; with an external Redis (GCS fault tolerance) the workers reconnect.",),
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
        for_="1m",
        labels=(),
        expr=(
            f"({exprs.total('group', exprs.over('last', 'ray_gcs_actors_count', SEEN_WITHIN))}\n"
            f"unless {exprs.total('group', exprs.now('ray_gcs_actors_count'))})\n"
            f"and {exprs.cluster_lives()}"
        ),
        summary="The GCS reports nothing any more.",
        description="The GCS' own metrics stopped within the last 30 minutes, while nodes still report.",
        meaning="The GCS process is dead or hangs, or the head is gone.",
        impact="No new actor can start: nothing scales or heals. Requests go on while their processes live.",
        diagnosis=(
            ("Does it answer? `curl <head>:8265/api/gcs_healthz`.", ""),
            (
                "It answers and has just been restarted: `Failed to establish connection to the event+metrics "
                "exporter agent` in `logs/gcs_server.out` tells that the node's agent took longer than 30 s to "
                "start. Ray then exports nothing of the GCS until its next start.",
                "",
            ),
            (
                "Storage operations before it went:",
                "sum by (Operation) (rate(ray_gcs_storage_operation_count_total[5m]))",
            ),
        ),
        mitigation=("Read `logs/gcs_server.out` on the head; restart the head, or let GCS fault tolerance do so.",),
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
    return Alert(
        name="RayClusterMetricsGone",
        severity="critical",
        for_="2m",
        labels=(),
        expr=(
            "# absent() is blind when one of two clusters goes: each cluster is held against its own past\n"
            f"{exprs.total('group', exprs.over('last', 'ray_node_cpu_utilization', SEEN_WITHIN))}\n"
            f"unless {exprs.cluster_lives()}"
        ),
        summary="A cluster reports nothing any more.",
        description="No node of the cluster {{ $labels."
        + exprs.settings.cluster_label
        + " }} has reported for two minutes; it did within the last 30 minutes.",
        meaning=(
            "The cluster is down or was removed, or Prometheus cannot reach or find it. All other alerts of "
            "this cluster are blind now. It ends by itself 30 minutes after the last sample."
        ),
        impact="Unknown: look at once whether the service answers.",
        diagnosis=(("Do targets fail?", "up == 0"), ("Are there targets at all? Prometheus, Status, Targets.", "")),
        mitigation=(
            "Bring the cluster or the scrape back; a cluster removed on purpose needs a silence of 30 minutes.",
        ),
        panel=("servescope-cluster", "Scrape targets up"),
        case=Case(
            at="20m",
            fires={series.HEAD_CPU: "10x20", series.node_cpu("n9", ray_io_cluster="b", ip="10.0.1.1"): "5x"},
            quiet={series.HEAD_CPU: "10x20 _x6 10x"},
        ),
        drill="kill-head",
    )


def no_ray_metrics(exprs: Expressions) -> Alert:
    return Alert(
        name="ServescopeNoRayMetrics",
        severity="critical",
        for_="5m",
        labels=(),
        expr=(
            f"absent({exprs.scope.select('ray_node_cpu_utilization')})\n"
            f"and absent({exprs.scope.select('ray_object_store_memory')})"
        ),
        summary="Prometheus has no metrics of Ray at all.",
        description="No series of any Ray cluster has arrived for five minutes.",
        meaning="No target is found or none answers: the discovery file, the PodMonitor or the network.",
        impact="Unknown: every other alert is blind.",
        diagnosis=(("Do targets fail?", "up == 0"),),
        mitigation=("Mend the scrape configuration; `curl <node>:8080/metrics` shows whether Ray exports.",),
        panel=("servescope-cluster", "Scrape targets up"),
        case=Case(at="1h", fires={series.HEAD_CPU: "10x20"}, quiet={series.HEAD_CPU: "10x200 _x10 10x"}, cluster=""),
        drill="kill-head",
    )


def target_down(exprs: Expressions) -> Alert:
    of_ray = exprs.total("group", exprs.over("last", "ray_node_cpu_utilization", SEEN_WITHIN), "job", "instance")
    return Alert(
        name="ServescopeTargetDown",
        severity="warning",
        for_="5m",
        labels=("job", "instance"),
        expr=(
            f"{exprs.total('max', exprs.over('max', 'up', exprs.hold), 'job', 'instance')} == 0\n"
            "# of Ray's targets only: those that showed Ray's metrics\n"
            f"and {of_ray}"
        ),
        summary="A node's metrics cannot be scraped.",
        description="{{ $labels.instance }} is in the discovery and has not answered a scrape for five minutes.",
        meaning=(
            "The node's agent is dead or too slow (scrape_timeout), or the node is gone and still listed. A "
            "node that Ray knows to be dead leaves the discovery file and does not show here."
        ),
        impact="None; what happens on that node is not seen.",
        diagnosis=(("Scrape time:", "scrape_duration_seconds"),),
        mitigation=("`curl <node>:8080/metrics`; an answer of 500 means RAY_enable_open_telemetry=0.",),
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
        for_="5m",
        labels=(),
        expr=(
            f"{exprs.total('group', exprs.over('last', 'servescope_exporter_up', SEEN_WITHIN))}\n"
            f"unless {exprs.total('group', exprs.now('servescope_exporter_up') + ' == 1')}"
        ),
        summary="The state exporter is gone or cannot read Serve.",
        description="servescope_exporter_up has not been 1 for five minutes.",
        meaning="The exporter is stopped, or the dashboard of Ray (port 8265) does not answer it.",
        impact="None; alerts that compare with configured limits are silent meanwhile.",
        diagnosis=(
            ("Its own word:", "servescope_exporter_up"),
            ("Age of its data:", "servescope_exporter_data_age_seconds"),
        ),
        mitigation=("Restart the exporter; check that it may reach `<head>:8265/api/serve/applications/`.",),
        panel=("servescope-cluster", "Scrape targets up"),
        case=Case(at="20m", fires={"servescope_exporter_up": "1x20"}, quiet={"servescope_exporter_up": "1x20 _x12 1x"}),
        drill="stop-exporter",
        needs="the servescope exporter: silent where it was never there",
    )


def exporter_stale(exprs: Expressions) -> Alert:
    return Alert(
        name="ServescopeExporterStale",
        severity="warning",
        for_="2m",
        labels=(),
        expr=f"{exprs.total('max', exprs.now('servescope_exporter_data_age_seconds'))} > 120",
        summary="The state exporter shows an old state.",
        description="What the exporter tells is {{ $value | humanizeDuration }} old.",
        meaning="The exporter keeps the last state while Serve's API does not answer.",
        impact="None; limits and status may be out of date.",
        diagnosis=(("Its own word:", "servescope_exporter_up"),),
        mitigation=("See whether the head's dashboard answers: `curl <head>:8265/api/version`.",),
        panel=("servescope-cluster", "Scrape targets up"),
        case=Case(at="20m", fires={series.EXPORTER_DATA_AGE: "0+15x"}, quiet={series.EXPORTER_DATA_AGE: "119x"}),
        drill="kill-head-ft",
        needs="the servescope exporter",
    )


def watchdog(exprs: Expressions) -> Alert:
    return Alert(
        name="ServescopeWatchdog",
        severity="info",
        for_="",
        labels=(),
        expr="vector(1)",
        summary="Alerts are evaluated and delivered.",
        description="This alert always fires: send it to something that complains when it stops.",
        meaning="It proves the way from Prometheus through Alertmanager to a receiver.",
        impact="None.",
        diagnosis=(("Which rules fire?", 'ALERTS{alertstate="firing"}'),),
        mitigation=("Route it to a dead man's switch.",),
        panel=("servescope-cluster", "Scrape targets up"),
        case=Case(at="5m", fires={}, quiet={}, cluster=""),
        drill="nothing",
    )
