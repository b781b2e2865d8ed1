"""The control plane: controller, proxies, event loops, the head, and metrics that stopped coming."""

from __future__ import annotations

from servescope.rules.alert import Alert, Case, Group
from servescope.rules.alerts.saturation import of
from servescope.rules.alerts.users import LOOPS, STATUS, http
from servescope.rules.expressions import Expressions
from servescope.settings import Settings

PROXY = 'ray_serve_proxy_status{node_id="x",node_ip_address="10.0.0.1"}'
HEARTBEAT = 'ray_serve_event_loop_monitoring_iterations_total{component="proxy",loop_type="main",actor_id="p1"}'
NODE = 'ray_node_cpu_utilization{ip="10.0.0.1",IsHeadNode="true",RayNodeType="head"}'
GCS = 'ray_gcs_actors_count{State="Created",Component="gcs_server"}'


def build(settings: Settings) -> Group:
    """The group."""
    t = Expressions(settings)
    cluster = settings.cluster_label
    turning = t.controller_turns("2m")
    proxies_alive = t.total(
        "group", t.scope.rate("ray_serve_event_loop_monitoring_iterations_total", "2m", component='="proxy"') + " > 0"
    )
    # Each loop by itself: a replica has three, and two that idle would hide the one that is blocked.
    lag_labels = ("application", "deployment", "component", "loop_type")
    lag = t.slow_share("ray_serve_event_loop_scheduling_latency_ms", 500, "5m", *lag_labels)
    proxy_labels = ("node_ip_address",)
    node_alive = f'label_replace({t.now("ray_node_cpu_utilization")}, "node_ip_address", "$1", "ip", "(.*)")'
    late_news = t.slow_share("ray_serve_long_poll_latency_ms", 5000, "5m")
    news = t.events("ray_serve_long_poll_latency_ms_count", "5m")
    head = {"IsHeadNode": '="true"'}
    seen = "30m"
    return Group(
        "control",
        "Control plane",
        (
            Alert(
                name="RayServeControllerStalled",
                severity="critical",
                wait="1m",
                labels=(),
                expr=(
                    f"{proxies_alive}\n"
                    "# the counter is a gauge, and it vanishes 20 s after the loop stands still\n"
                    f"unless {turning}"
                ),
                summary="Serve's controller does not turn.",
                description="The controller has finished no round for two minutes, while proxies still run.",
                meaning=(
                    "The controller is dead, restarting, or stuck in a round. It decides scaling, health checks and "
                    "deploys; requests go on through the proxies meanwhile."
                ),
                impact="None at first; a replica that dies now is not replaced, and nothing scales.",
                diagnose=(
                    ("Rounds:", "max by (actor_id) (ray_serve_controller_num_control_loops)"),
                    ("Is the head alive? See RayClusterHeadGone and RayClusterGcsGone.", ""),
                    ("What does it do? `ray stack` on the head prints its stack.", ""),
                ),
                mend=(
                    "Ray restarts a dead controller by itself within seconds; a stuck one must be killed "
                    "(`ServeController` in the Ray dashboard's actors).",
                ),
                panel=("servescope-cluster", "Control loops per second"),
                case=Case(
                    at="15m",
                    # What only the controller reports goes with it: its applications are not gone.
                    fires={LOOPS: "0+100x20", HEARTBEAT: "0+3x", STATUS: "6x20", http("404", "", ""): "0+5x"},
                    quiet={'ray_serve_controller_num_control_loops{actor_id="c2"}': "_x16 0+90x", STATUS: "6x"},
                ),
                drill="kill-controller",
            ),
            Alert(
                name="RayServeEventLoopLag",
                severity="warning",
                wait="2m",
                labels=lag_labels,
                expr=(
                    f"{lag} > 0.2\n"
                    "# one late turn while a process starts is no lag\n"
                    f"and {t.events('ray_serve_event_loop_scheduling_latency_ms_count', '5m', *lag_labels)} >= 5"
                ),
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
                diagnose=(
                    (
                        "How late?",
                        "histogram_quantile(0.99, sum by (component, deployment, loop_type, le) "
                        "(rate(ray_serve_event_loop_scheduling_latency_ms_bucket[5m])))",
                    ),
                ),
                mend=(
                    "Move blocking work into a thread (`asyncio.to_thread`) or a deployment of its own; lower "
                    "max_ongoing_requests.",
                ),
                panel=("servescope-deployment", "Event loop lag p99"),
                case=Case(
                    at="15m",
                    fires={
                        of(
                            "ray_serve_event_loop_scheduling_latency_ms_bucket",
                            component="replica",
                            loop_type="user_code",
                            actor_id="r",
                            le="500",
                        ): "0+2x",
                        of(
                            "ray_serve_event_loop_scheduling_latency_ms_count",
                            component="replica",
                            loop_type="user_code",
                            actor_id="r",
                        ): "0+3x",
                    },
                    quiet={
                        of(
                            "ray_serve_event_loop_scheduling_latency_ms_bucket",
                            component="replica",
                            loop_type="user_code",
                            actor_id="r",
                            le="500",
                        ): "0+2.45x",
                    },
                    labels={"application": "main", "deployment": "D", "component": "replica", "loop_type": "user_code"},
                ),
                drill="blocked-loop",
            ),
            Alert(
                name="RayServeProxyUnhealthy",
                severity="critical",
                wait="1m",
                labels=proxy_labels,
                expr=(
                    f"({t.total('max', t.now('ray_serve_proxy_status'), *proxy_labels)} < 2\n"
                    "# UNHEALTHY is replaced at once and seldom seen: what lasts is a proxy that does not come up\n"
                    f"or {t.total('max', t.now('ray_serve_proxy_status'), *proxy_labels)} == 3)\n"
                    "# a controller that has just come back calls each proxy STARTING\n"
                    f"and on ({cluster}) {t.controller_lasts()}"
                ),
                summary="A proxy is unhealthy, or does not start.",
                description=(
                    "The controller has reported the proxy on {{ $labels.node_ip_address }} as STARTING or UNHEALTHY "
                    "for a minute."
                ),
                meaning=(
                    "The proxy does not answer the controller's checks: it is overloaded, stuck or dead, or its port "
                    "is taken."
                ),
                impact="Requests through that node fail or hang until the load balancer takes it out.",
                diagnose=(
                    ("Status of each proxy:", "ray_serve_proxy_status"),
                    (
                        "Is its event loop late?",
                        'sum by (instance) (rate(ray_serve_event_loop_scheduling_latency_ms_bucket{component="proxy", '
                        'le=~"500([.]0)?"}[5m]))',
                    ),
                ),
                mend=("Serve replaces it; if it stays, kill the proxy actor and read `logs/serve/proxy_<ip>.log`.",),
                panel=("servescope-cluster", "Proxy status"),
                case=Case(
                    at="10m",
                    fires={PROXY: "2x10 3 1x3 3 1x", LOOPS: "0+100x"},
                    quiet={PROXY: "2x30 1x3 2x"},
                    labels={"node_ip_address": "10.0.0.1"},
                ),
                drill="kill-proxy",
            ),
            Alert(
                name="RayServeProxyMissing",
                severity="warning",
                wait="2m",
                labels=proxy_labels,
                expr=(
                    f"({t.total('group', t.over('last', 'ray_serve_proxy_status', seen), *proxy_labels)}\n"
                    f"unless {t.total('group', t.now('ray_serve_proxy_status'), *proxy_labels)}\n"
                    "# a proxy whose node has no replica left is drained, then taken away\n"
                    f"unless {t.total('max', t.over('max', 'ray_serve_proxy_status', seen), *proxy_labels)} >= 4\n"
                    "# a node that is gone has an alert of its own\n"
                    f"and {t.total('group', node_alive, *proxy_labels)})\n"
                    "# the controller reports the proxies: without it nothing is known of them\n"
                    f"and on ({cluster}) {turning}"
                ),
                summary="A node has lost its proxy.",
                description=(
                    "{{ $labels.node_ip_address }} had a proxy within the last 30 minutes and has none now, although "
                    "the node is alive."
                ),
                meaning="The proxy actor cannot be started: its port is taken, or the node is out of resources.",
                impact="Nothing answers on that node's port.",
                diagnose=(("Status of each proxy:", "ray_serve_proxy_status"),),
                mend=("Look for 'Failed to bind' in `logs/serve/proxy_<ip>.log`; free the port.",),
                panel=("servescope-cluster", "Proxy status"),
                case=Case(
                    at="20m",
                    fires={NODE: "10x", PROXY: "2x20", LOOPS: "0+100x"},
                    quiet={PROXY: "2x20 4x10"},
                    labels={"node_ip_address": "10.0.0.1"},
                ),
                no_drill="Serve restarts a killed proxy within seconds, and a proxy that cannot come back (its port "
                "taken) is one that never reports: the unit test carries it",
            ),
            Alert(
                name="RayServeLongPollSlow",
                severity="warning",
                wait="10m",
                labels=(),
                expr=(
                    f"{late_news} > 0.25\n"
                    "# few updates are no share; a client that comes new counts as late: such a burst has left "
                    "the window "
                    "in time\n"
                    f"and {news} >= 10"
                ),
                summary="News from the controller reaches proxies and handles late.",
                description=(
                    "{{ $value | humanizePercentage }} of the controller's updates took longer than 5 s to arrive."
                ),
                meaning=(
                    "Proxies and handles learn of new and dead replicas by long poll; a busy controller or network "
                    "delays it."
                ),
                impact="Requests go to replicas that are gone, new ones stay idle.",
                diagnose=(
                    (
                        "By namespace:",
                        "histogram_quantile(0.95, sum by (namespace, le) "
                        "(rate(ray_serve_long_poll_latency_ms_bucket[5m])))",
                    ),
                    ("How long is a round of the controller?", "ray_serve_controller_control_loop_duration_s"),
                ),
                mend=("Fewer deployments or slower scaling on one controller; give the head node CPU of its own.",),
                panel=("servescope-cluster", "News from controller to clients p95"),
                case=Case(
                    at="20m",
                    fires={
                        'ray_serve_long_poll_latency_ms_bucket{namespace="a",le="5000"}': "0+0.7x",
                        'ray_serve_long_poll_latency_ms_count{namespace="a"}': "0+1x",
                    },
                    quiet={'ray_serve_long_poll_latency_ms_bucket{namespace="a",le="5000"}': "0+0.8x"},
                ),
                no_drill="a controller that is late by five seconds stands still for longer before it is late: the "
                "unit test carries it",
            ),
            Alert(
                name="RayClusterHeadGone",
                severity="critical",
                wait="1m",
                labels=(),
                expr=(
                    f"({t.total('group', t.over('last', 'ray_node_cpu_utilization', seen, **head))}\n"
                    f"unless {t.total('group', t.now('ray_node_cpu_utilization', **head))})\n"
                    "# silence of a whole cluster has an alert of its own\n"
                    f"and {t.cluster_lives()}"
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
                diagnose=(
                    ("Which nodes report?", "ray_node_cpu_utilization"),
                    ("Which targets fail?", "up == 0"),
                ),
                mend=("Bring the head back; with an external Redis (GCS fault tolerance) the workers reconnect.",),
                panel=("servescope-cluster", "Nodes now"),
                case=Case(
                    at="20m",
                    fires={
                        NODE: "10x20",
                        'ray_node_cpu_utilization{ip="10.0.0.2",IsHeadNode="false",instance="n2"}': "10x",
                    },
                    quiet={NODE: "10x20 _x3 10x"},
                ),
                drill="kill-head",
            ),
            Alert(
                name="RayClusterGcsGone",
                severity="critical",
                wait="1m",
                labels=(),
                expr=(
                    f"({t.total('group', t.over('last', 'ray_gcs_actors_count', seen))}\n"
                    f"unless {t.total('group', t.now('ray_gcs_actors_count'))})\n"
                    f"and {t.cluster_lives()}"
                ),
                summary="The GCS reports nothing any more.",
                description="The GCS' own metrics stopped within the last 30 minutes, while nodes still report.",
                meaning="The GCS process is dead or hangs, or the head is gone.",
                impact="No new actor can start: nothing scales or heals. Requests go on while their processes live.",
                diagnose=(
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
                mend=("Read `logs/gcs_server.out` on the head; restart the head, or let GCS fault tolerance do so.",),
                panel=("servescope-cluster", "GCS storage operations"),
                case=Case(
                    at="20m",
                    fires={GCS: "5x20", NODE: "10x20", 'ray_object_store_memory{instance="n2"}': "1x"},
                    quiet={GCS: "5x20 _x3 5x", NODE: "10x"},
                    also=("RayClusterHeadGone",),
                ),
                drill="kill-head-ft",
            ),
            Alert(
                name="RayClusterMetricsGone",
                severity="critical",
                wait="2m",
                labels=(),
                expr=(
                    "# absent() is blind when one of two clusters goes: each cluster is held against its own past\n"
                    f"{t.total('group', t.over('last', 'ray_node_cpu_utilization', seen))}\n"
                    f"unless {t.cluster_lives()}"
                ),
                summary="A cluster reports nothing any more.",
                description="No node of the cluster {{ $labels."
                + cluster
                + " }} has reported for two minutes; it did within the last 30 minutes.",
                meaning=(
                    "The cluster is down or was removed, or Prometheus cannot reach or find it. All other alerts of "
                    "this cluster are blind now. It ends by itself 30 minutes after the last sample."
                ),
                impact="Unknown: look at once whether the service answers.",
                diagnose=(
                    ("Do targets fail?", "up == 0"),
                    ("Are there targets at all? Prometheus, Status, Targets.", ""),
                ),
                mend=(
                    "Bring the cluster or the scrape back; a cluster removed on purpose needs a silence of 30 minutes.",
                ),
                panel=("servescope-cluster", "Targets that answer"),
                case=Case(
                    at="20m",
                    fires={
                        NODE: "10x20",
                        'ray_node_cpu_utilization{ray_io_cluster="b",ip="10.0.1.1",instance="n9"}': "5x",
                    },
                    quiet={NODE: "10x20 _x6 10x"},
                ),
                drill="kill-head",
            ),
            Alert(
                name="ServescopeNoRayMetrics",
                severity="critical",
                wait="5m",
                labels=(),
                expr=(
                    f"absent({t.scope.select('ray_node_cpu_utilization')})\n"
                    f"and absent({t.scope.select('ray_object_store_memory')})"
                ),
                summary="Prometheus has no metrics of Ray at all.",
                description="No series of any Ray cluster has arrived for five minutes.",
                meaning="No target is found or none answers: the discovery file, the PodMonitor or the network.",
                impact="Unknown: every other alert is blind.",
                diagnose=(("Do targets fail?", "up == 0"),),
                mend=("Mend the scrape configuration; `curl <node>:8080/metrics` shows whether Ray exports.",),
                panel=("servescope-cluster", "Targets that answer"),
                case=Case(
                    at="1h",
                    fires={NODE: "10x20"},
                    quiet={NODE: "10x200 _x10 10x"},
                    cluster="",
                ),
                drill="kill-head",
            ),
            Alert(
                name="ServescopeTargetDown",
                severity="warning",
                wait="5m",
                labels=("job", "instance"),
                expr=(
                    f"{t.total('max', t.over('max', 'up', t.hold), 'job', 'instance')} == 0\n"
                    "# of Ray's targets only: those that showed Ray's metrics\n"
                    f"and {t.total('group', t.over('last', 'ray_node_cpu_utilization', seen), 'job', 'instance')}"
                ),
                summary="A node's metrics cannot be scraped.",
                description=(
                    "{{ $labels.instance }} is in the discovery and has not answered a scrape for five minutes."
                ),
                meaning=(
                    "The node's agent is dead or too slow (scrape_timeout), or the node is gone and still listed. A "
                    "node that Ray knows to be dead leaves the discovery file and does not show here."
                ),
                impact="None; what happens on that node is not seen.",
                diagnose=(("Scrape time:", "scrape_duration_seconds"),),
                mend=("`curl <node>:8080/metrics`; an answer of 500 means RAY_enable_open_telemetry=0.",),
                panel=("servescope-cluster", "Targets that answer"),
                case=Case(
                    at="15m",
                    fires={
                        'up{instance="n1",job="ray"}': "1x20 0x",
                        NODE: "10x20",
                        'ray_node_cpu_utilization{ip="10.0.0.2",instance="n2"}': "10x",
                    },
                    quiet={NODE: "10x", 'up{instance="n1",job="ray"}': "1x20 0x15 1x"},
                    labels={"instance": "n1", "job": "ray"},
                    also=("RayClusterHeadGone",),
                ),
                drill="kill-head",
            ),
            Alert(
                name="ServescopeExporterDown",
                severity="warning",
                wait="5m",
                labels=(),
                expr=(
                    f"{t.total('group', t.over('last', 'servescope_exporter_up', seen))}\n"
                    f"unless {t.total('group', t.now('servescope_exporter_up') + ' == 1')}"
                ),
                summary="The state exporter is gone or cannot read Serve.",
                description="servescope_exporter_up has not been 1 for five minutes.",
                meaning="The exporter is stopped, or the dashboard of Ray (port 8265) does not answer it.",
                impact="None; alerts that compare with configured limits are silent meanwhile.",
                diagnose=(
                    ("Its own word:", "servescope_exporter_up"),
                    ("Age of its data:", "servescope_exporter_data_age_seconds"),
                ),
                mend=("Restart the exporter; check that it may reach `<head>:8265/api/serve/applications/`.",),
                panel=("servescope-cluster", "Targets that answer"),
                case=Case(
                    at="20m", fires={"servescope_exporter_up": "1x20"}, quiet={"servescope_exporter_up": "1x20 _x12 1x"}
                ),
                drill="stop-exporter",
                needs="the servescope exporter: silent where it was never there",
            ),
            Alert(
                name="ServescopeExporterStale",
                severity="warning",
                wait="2m",
                labels=(),
                expr=f"{t.total('max', t.now('servescope_exporter_data_age_seconds'))} > 120",
                summary="The state exporter shows an old state.",
                description="What the exporter tells is {{ $value | humanizeDuration }} old.",
                meaning="The exporter keeps the last state while Serve's API does not answer.",
                impact="None; limits and status may be out of date.",
                diagnose=(("Its own word:", "servescope_exporter_up"),),
                mend=("See whether the head's dashboard answers: `curl <head>:8265/api/version`.",),
                panel=("servescope-cluster", "Targets that answer"),
                case=Case(
                    at="20m",
                    fires={"servescope_exporter_data_age_seconds": "0+15x"},
                    quiet={"servescope_exporter_data_age_seconds": "119x"},
                ),
                drill="kill-head-ft",
                needs="the servescope exporter",
            ),
            Alert(
                name="ServescopeWatchdog",
                severity="info",
                wait="",
                labels=(),
                expr="vector(1)",
                summary="Alerts are evaluated and delivered.",
                description="This alert always fires: send it to something that complains when it stops.",
                meaning="It proves the way from Prometheus through Alertmanager to a receiver.",
                impact="None.",
                diagnose=(("Which rules fire?", 'ALERTS{alertstate="firing"}'),),
                mend=("Route it to a dead man's switch.",),
                panel=("servescope-cluster", "Targets that answer"),
                case=Case(at="5m", fires={}, quiet={}, cluster=""),
                drill="nothing",
            ),
        ),
    )
