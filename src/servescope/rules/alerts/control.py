"""The control plane: controller, proxies, event loops, the head, and metrics that stopped coming."""

from __future__ import annotations

from servescope.rules.alert import Alert, Case, Group, Terms
from servescope.rules.alerts.saturation import of
from servescope.rules.alerts.users import LOOPS, STATUS, http
from servescope.settings import Settings

PROXY = 'ray_serve_proxy_status{node_id="x",node_ip_address="10.0.0.1"}'
HEARTBEAT = 'ray_serve_event_loop_monitoring_iterations_total{component="proxy",loop_type="main",actor_id="p1"}'
NODE = 'ray_node_cpu_utilization{ip="10.0.0.1",IsHeadNode="true",RayNodeType="head"}'
GCS = 'ray_gcs_actors_count{State="Created",Component="gcs_server"}'


def build(settings: Settings) -> Group:
    """The group."""
    t = Terms(settings)
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
                "RayServeControllerStalled",
                "critical",
                "1m",
                (),
                f"{proxies_alive}\n"
                "# the counter is a gauge, and it vanishes 20 s after the loop stands still\n"
                f"unless {turning}",
                "Serve's controller does not turn.",
                "The controller has finished no round for two minutes, while proxies still run.",
                "The controller is dead, restarting, or stuck in a round. It decides scaling, health checks and "
                "deploys; requests go on through the proxies meanwhile.",
                "None at first; a replica that dies now is not replaced, and nothing scales.",
                (
                    ("Rounds:", "max by (actor_id) (ray_serve_controller_num_control_loops)"),
                    ("Is the head alive? See RayClusterHeadGone and RayClusterGcsGone.", ""),
                    ("What does it do? `ray stack` on the head prints its stack.", ""),
                ),
                (
                    "Ray restarts a dead controller by itself within seconds; a stuck one must be killed "
                    "(`ServeController` in the Ray dashboard's actors).",
                ),
                ("servescope-cluster", "Control loops per second"),
                Case(
                    "15m",
                    # What only the controller reports goes with it: its applications are not gone.
                    {LOOPS: "0+100x20", HEARTBEAT: "0+3x", STATUS: "6x20", http("404", "", ""): "0+5x"},
                    {'ray_serve_controller_num_control_loops{actor_id="c2"}': "_x16 0+90x", STATUS: "6x"},
                ),
                drill="kill-controller",
            ),
            Alert(
                "RayServeEventLoopLag",
                "warning",
                "2m",
                lag_labels,
                f"{lag} > 0.2\n"
                "# one late turn while a process starts is no lag\n"
                f"and {t.events('ray_serve_event_loop_scheduling_latency_ms_count', '5m', *lag_labels)} >= 5",
                "An event loop is blocked.",
                "{{ $value | humanizePercentage }} of the turns of the {{ $labels.loop_type }} event loop of "
                "{{ $labels.component }} {{ $labels.deployment }} came more than half a second late.",
                "Code that does not await (CPU work, blocking I/O, time.sleep) holds the loop that also serves "
                "the other requests and the health check.",
                "All requests of that process stall together.",
                (
                    (
                        "How late?",
                        "histogram_quantile(0.99, sum by (component, deployment, loop_type, le) "
                        "(rate(ray_serve_event_loop_scheduling_latency_ms_bucket[5m])))",
                    ),
                ),
                (
                    "Move blocking work into a thread (`asyncio.to_thread`) or a deployment of its own; lower "
                    "max_ongoing_requests.",
                ),
                ("servescope-deployment", "Event loop lag p99"),
                Case(
                    "15m",
                    {
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
                    {
                        of(
                            "ray_serve_event_loop_scheduling_latency_ms_bucket",
                            component="replica",
                            loop_type="user_code",
                            actor_id="r",
                            le="500",
                        ): "0+2.45x",
                    },
                    {"application": "main", "deployment": "D", "component": "replica", "loop_type": "user_code"},
                ),
                drill="blocked-loop",
            ),
            Alert(
                "RayServeProxyUnhealthy",
                "critical",
                "1m",
                proxy_labels,
                f"({t.total('max', t.now('ray_serve_proxy_status'), *proxy_labels)} < 2\n"
                "# UNHEALTHY is replaced at once and seldom seen: what lasts is a proxy that does not come up\n"
                f"or {t.total('max', t.now('ray_serve_proxy_status'), *proxy_labels)} == 3)\n"
                "# a controller that has just come back calls each proxy STARTING\n"
                f"and on ({cluster}) {t.controller_lasts()}",
                "A proxy is unhealthy, or does not start.",
                "The controller has reported the proxy on {{ $labels.node_ip_address }} as STARTING or UNHEALTHY for a "
                "minute.",
                "The proxy does not answer the controller's checks: it is overloaded, stuck or dead, or its port is "
                "taken.",
                "Requests through that node fail or hang until the load balancer takes it out.",
                (
                    ("Status of each proxy:", "ray_serve_proxy_status"),
                    (
                        "Is its event loop late?",
                        'sum by (instance) (rate(ray_serve_event_loop_scheduling_latency_ms_bucket{component="proxy", '
                        'le=~"500([.]0)?"}[5m]))',
                    ),
                ),
                ("Serve replaces it; if it stays, kill the proxy actor and read `logs/serve/proxy_<ip>.log`.",),
                ("servescope-cluster", "Proxy status"),
                Case(
                    "10m",
                    {PROXY: "2x10 3 1x3 3 1x", LOOPS: "0+100x"},
                    {PROXY: "2x30 1x3 2x"},
                    {"node_ip_address": "10.0.0.1"},
                ),
                drill="kill-proxy",
            ),
            Alert(
                "RayServeProxyMissing",
                "warning",
                "2m",
                proxy_labels,
                f"({t.total('group', t.over('last', 'ray_serve_proxy_status', seen), *proxy_labels)}\n"
                f"unless {t.total('group', t.now('ray_serve_proxy_status'), *proxy_labels)}\n"
                "# a proxy whose node has no replica left is drained, then taken away\n"
                f"unless {t.total('max', t.over('max', 'ray_serve_proxy_status', seen), *proxy_labels)} >= 4\n"
                "# a node that is gone has an alert of its own\n"
                f"and {t.total('group', node_alive, *proxy_labels)})\n"
                "# the controller reports the proxies: without it nothing is known of them\n"
                f"and on ({cluster}) {turning}",
                "A node has lost its proxy.",
                "{{ $labels.node_ip_address }} had a proxy within the last 30 minutes and has none now, although the "
                "node is alive.",
                "The proxy actor cannot be started: its port is taken, or the node is out of resources.",
                "Nothing answers on that node's port.",
                (("Status of each proxy:", "ray_serve_proxy_status"),),
                ("Look for 'Failed to bind' in `logs/serve/proxy_<ip>.log`; free the port.",),
                ("servescope-cluster", "Proxy status"),
                Case(
                    "20m",
                    {NODE: "10x", PROXY: "2x20", LOOPS: "0+100x"},
                    {PROXY: "2x20 4x10"},
                    {"node_ip_address": "10.0.0.1"},
                ),
                no_drill="Serve restarts a killed proxy within seconds, and a proxy that cannot come back (its port "
                "taken) is one that never reports: the unit test carries it",
            ),
            Alert(
                "RayServeLongPollSlow",
                "warning",
                "10m",
                (),
                f"{late_news} > 0.25\n"
                "# few updates are no share; a client that comes new counts as late: such a burst has left the window "
                "in time\n"
                f"and {news} >= 10",
                "News from the controller reaches proxies and handles late.",
                "{{ $value | humanizePercentage }} of the controller's updates took longer than 5 s to arrive.",
                "Proxies and handles learn of new and dead replicas by long poll; a busy controller or network delays "
                "it.",
                "Requests go to replicas that are gone, new ones stay idle.",
                (
                    (
                        "By namespace:",
                        "histogram_quantile(0.95, sum by (namespace, le) "
                        "(rate(ray_serve_long_poll_latency_ms_bucket[5m])))",
                    ),
                    ("How long is a round of the controller?", "ray_serve_controller_control_loop_duration_s"),
                ),
                ("Fewer deployments or slower scaling on one controller; give the head node CPU of its own.",),
                ("servescope-cluster", "News from controller to clients p95"),
                Case(
                    "20m",
                    {
                        'ray_serve_long_poll_latency_ms_bucket{namespace="a",le="5000"}': "0+0.7x",
                        'ray_serve_long_poll_latency_ms_count{namespace="a"}': "0+1x",
                    },
                    {'ray_serve_long_poll_latency_ms_bucket{namespace="a",le="5000"}': "0+0.8x"},
                ),
                no_drill="a controller that is late by five seconds stands still for longer before it is late: the "
                "unit test carries it",
            ),
            Alert(
                "RayClusterHeadGone",
                "critical",
                "1m",
                (),
                f"({t.total('group', t.over('last', 'ray_node_cpu_utilization', seen, **head))}\n"
                f"unless {t.total('group', t.now('ray_node_cpu_utilization', **head))})\n"
                "# silence of a whole cluster has an alert of its own\n"
                f"and {t.cluster_lives()}",
                "The head node reports nothing any more.",
                "The head's metrics stopped within the last 30 minutes, while other nodes still report.",
                "The head is down or cut off; or the GCS alone is, without which no node tells of itself. Without GCS "
                "fault tolerance the other nodes end within about a minute.",
                "With fault tolerance none at first: proxies and replicas on workers go on, nothing scales or heals. "
                "Without it everything stops.",
                (
                    ("Which nodes report?", "ray_node_cpu_utilization"),
                    ("Which targets fail?", "up == 0"),
                ),
                ("Bring the head back; with an external Redis (GCS fault tolerance) the workers reconnect.",),
                ("servescope-cluster", "Nodes now"),
                Case(
                    "20m",
                    {
                        NODE: "10x20",
                        'ray_node_cpu_utilization{ip="10.0.0.2",IsHeadNode="false",instance="n2"}': "10x",
                    },
                    {NODE: "10x20 _x3 10x"},
                ),
                drill="kill-head",
            ),
            Alert(
                "RayClusterGcsGone",
                "critical",
                "1m",
                (),
                f"({t.total('group', t.over('last', 'ray_gcs_actors_count', seen))}\n"
                f"unless {t.total('group', t.now('ray_gcs_actors_count'))})\n"
                f"and {t.cluster_lives()}",
                "The GCS reports nothing any more.",
                "The GCS' own metrics stopped within the last 30 minutes, while nodes still report.",
                "The GCS process is dead or hangs, or the head is gone.",
                "No new actor can start: nothing scales or heals. Requests go on while their processes live.",
                (
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
                ("Read `logs/gcs_server.out` on the head; restart the head, or let GCS fault tolerance do so.",),
                ("servescope-cluster", "GCS storage operations"),
                Case(
                    "20m",
                    {GCS: "5x20", NODE: "10x20", 'ray_object_store_memory{instance="n2"}': "1x"},
                    {GCS: "5x20 _x3 5x", NODE: "10x"},
                    also=("RayClusterHeadGone",),
                ),
                drill="kill-head-ft",
            ),
            Alert(
                "RayClusterMetricsGone",
                "critical",
                "2m",
                (),
                "# absent() is blind when one of two clusters goes: each cluster is held against its own past\n"
                f"{t.total('group', t.over('last', 'ray_node_cpu_utilization', seen))}\n"
                f"unless {t.cluster_lives()}",
                "A cluster reports nothing any more.",
                "No node of the cluster {{ $labels."
                + cluster
                + " }} has reported for two minutes; it did within the last 30 minutes.",
                "The cluster is down or was removed, or Prometheus cannot reach or find it. All other alerts of this "
                "cluster are blind now. It ends by itself 30 minutes after the last sample.",
                "Unknown: look at once whether the service answers.",
                (
                    ("Do targets fail?", "up == 0"),
                    ("Are there targets at all? Prometheus, Status, Targets.", ""),
                ),
                ("Bring the cluster or the scrape back; a cluster removed on purpose needs a silence of 30 minutes.",),
                ("servescope-cluster", "Targets that answer"),
                Case(
                    "20m",
                    {NODE: "10x20", 'ray_node_cpu_utilization{ray_io_cluster="b",ip="10.0.1.1",instance="n9"}': "5x"},
                    {NODE: "10x20 _x6 10x"},
                ),
                drill="kill-head",
            ),
            Alert(
                "ServescopeNoRayMetrics",
                "critical",
                "5m",
                (),
                f"absent({t.scope.select('ray_node_cpu_utilization')})\n"
                f"and absent({t.scope.select('ray_object_store_memory')})",
                "Prometheus has no metrics of Ray at all.",
                "No series of any Ray cluster has arrived for five minutes.",
                "No target is found or none answers: the discovery file, the PodMonitor or the network.",
                "Unknown: every other alert is blind.",
                (("Do targets fail?", "up == 0"),),
                ("Mend the scrape configuration; `curl <node>:8080/metrics` shows whether Ray exports.",),
                ("servescope-cluster", "Targets that answer"),
                Case(
                    "1h",
                    {NODE: "10x20"},
                    {NODE: "10x200 _x10 10x"},
                    cluster="",
                ),
                drill="kill-head",
            ),
            Alert(
                "ServescopeTargetDown",
                "warning",
                "5m",
                ("job", "instance"),
                f"{t.total('max', t.over('max', 'up', t.hold), 'job', 'instance')} == 0\n"
                "# of Ray's targets only: those that showed Ray's metrics\n"
                f"and {t.total('group', t.over('last', 'ray_node_cpu_utilization', seen), 'job', 'instance')}",
                "A node's metrics cannot be scraped.",
                "{{ $labels.instance }} is in the discovery and has not answered a scrape for five minutes.",
                "The node's agent is dead or too slow (scrape_timeout), or the node is gone and still listed. A node "
                "that Ray knows to be dead leaves the discovery file and does not show here.",
                "None; what happens on that node is not seen.",
                (("Scrape time:", "scrape_duration_seconds"),),
                ("`curl <node>:8080/metrics`; an answer of 500 means RAY_enable_open_telemetry=0.",),
                ("servescope-cluster", "Targets that answer"),
                Case(
                    "15m",
                    {
                        'up{instance="n1",job="ray"}': "1x20 0x",
                        NODE: "10x20",
                        'ray_node_cpu_utilization{ip="10.0.0.2",instance="n2"}': "10x",
                    },
                    {NODE: "10x", 'up{instance="n1",job="ray"}': "1x20 0x15 1x"},
                    {"instance": "n1", "job": "ray"},
                    also=("RayClusterHeadGone",),
                ),
                drill="kill-head",
            ),
            Alert(
                "ServescopeExporterDown",
                "warning",
                "5m",
                (),
                f"{t.total('group', t.over('last', 'servescope_exporter_up', seen))}\n"
                f"unless {t.total('group', t.now('servescope_exporter_up') + ' == 1')}",
                "The state exporter is gone or cannot read Serve.",
                "servescope_exporter_up has not been 1 for five minutes.",
                "The exporter is stopped, or the dashboard of Ray (port 8265) does not answer it.",
                "None; alerts that compare with configured limits are silent meanwhile.",
                (
                    ("Its own word:", "servescope_exporter_up"),
                    ("Age of its data:", "servescope_exporter_data_age_seconds"),
                ),
                ("Restart the exporter; check that it may reach `<head>:8265/api/serve/applications/`.",),
                ("servescope-cluster", "Targets that answer"),
                Case("20m", {"servescope_exporter_up": "1x20"}, {"servescope_exporter_up": "1x20 _x12 1x"}),
                drill="stop-exporter",
                needs="the servescope exporter: silent where it was never there",
            ),
            Alert(
                "ServescopeExporterStale",
                "warning",
                "2m",
                (),
                f"{t.total('max', t.now('servescope_exporter_data_age_seconds'))} > 120",
                "The state exporter shows an old state.",
                "What the exporter tells is {{ $value | humanizeDuration }} old.",
                "The exporter keeps the last state while Serve's API does not answer.",
                "None; limits and status may be out of date.",
                (("Its own word:", "servescope_exporter_up"),),
                ("See whether the head's dashboard answers: `curl <head>:8265/api/version`.",),
                ("servescope-cluster", "Targets that answer"),
                Case(
                    "20m",
                    {"servescope_exporter_data_age_seconds": "0+15x"},
                    {"servescope_exporter_data_age_seconds": "119x"},
                ),
                drill="kill-head-ft",
                needs="the servescope exporter",
            ),
            Alert(
                "ServescopeWatchdog",
                "info",
                "",
                (),
                "vector(1)",
                "Alerts are evaluated and delivered.",
                "This alert always fires: send it to something that complains when it stops.",
                "It proves the way from Prometheus through Alertmanager to a receiver.",
                "None.",
                (("Which rules fire?", 'ALERTS{alertstate="firing"}'),),
                ("Route it to a dead man's switch.",),
                ("servescope-cluster", "Targets that answer"),
                Case("5m", {}, {}, cluster=""),
                drill="nothing",
            ),
        ),
    )
