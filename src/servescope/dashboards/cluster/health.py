"""The first and the last question: is anything wrong now, and can the figures be believed?"""

from __future__ import annotations

from servescope import promql
from servescope.dashboards import common
from servescope.dashboards.cluster.figures import NODE
from servescope.dashboards.common import WINDOW
from servescope.grafana import panels
from servescope.grafana.colors import PALETTE
from servescope.grafana.model import Panel, Threshold
from servescope.promql.signals import NODE_DISK, NODE_MEMORY, Reader


def now(reader: Reader) -> list[Panel]:
    """The figures of now."""
    proxies = reader.select("ray_serve_proxy_status")
    healthy = next(code for code, (name, _) in common.PROXY_STATES.items() if name == "HEALTHY")
    loops = promql.total(f"deriv({reader.select('ray_serve_controller_num_control_loops')}[{WINDOW}])", (), "max")
    waiting = promql.total(reader.select("ray_scheduler_unscheduleable_tasks"))
    return [
        panels.stat(
            "Nodes",
            description=(
                "Nodes that report figures now. A node that died is missing here half a minute later; it also leaves "
                "Ray's discovery file, so its target does not even count as down."
            ),
            unit="none",
            queries=[panels.query(promql.total(reader.select("ray_node_cpu_count"), (), "count"))],
            thresholds=(Threshold(None, PALETTE.neutral),),
        ),
        panels.stat(
            "Unhealthy proxies",
            description="Proxies whose status is not HEALTHY (starting, draining or unhealthy). Normal is 0.",
            unit="none",
            queries=[panels.query(f"count({proxies} != {healthy}) or 0 * count({proxies})")],
            thresholds=common.ANY_IS_BAD,
        ),
        panels.stat(
            "Control loops",
            description=(
                "Rounds of Serve's controller per second. Around 9 when it idles; near 0 it is stuck, and nothing is "
                "deployed, scaled or replaced."
            ),
            unit="ops",
            queries=[panels.query(loops)],
            thresholds=(Threshold(None, PALETTE.failing), Threshold(0.5, PALETTE.neutral)),
        ),
        panels.stat(
            "Unschedulable tasks",
            description=(
                "Tasks and actors that no node can take now, replicas of Serve among them. Above 0 for more than a "
                "minute means that the cluster is too small or that somebody asks for what no node has."
            ),
            unit="none",
            queries=[panels.query(waiting)],
            thresholds=common.ANY_IS_RISKY,
        ),
        panels.stat(
            "Fullest disk",
            description=(
                "The fullest disk that holds Ray's temporary directory. Ray never deletes the logs of old sessions and "
                "stops placing objects at 95 %."
            ),
            unit="percentunit",
            queries=[panels.query(reader.read(NODE_DISK))],
            thresholds=common.UTILIZATION,
        ),
        panels.stat(
            "Fullest memory",
            description="The node with the least memory left. Ray's memory monitor kills workers at 95 %.",
            unit="percentunit",
            queries=[panels.query(reader.read(NODE_MEMORY))],
            thresholds=common.UTILIZATION,
        ),
    ]


def scrapes(reader: Reader) -> list[Panel]:
    """Whether Prometheus gets what the panels show."""
    ray = {"job": '=~"ray.*"'}
    return [
        panels.timeseries(
            "Scrape targets up",
            description=(
                "1 while Prometheus can scrape a target of the Ray job. A dead node leaves the discovery file and "
                "ends its line instead of falling to 0."
            ),
            unit="short",
            queries=[panels.query(promql.total(reader.select("up", **ray), NODE, "min"), "{{instance}}")],
            min=0,
            max=1,
        ),
        panels.timeseries(
            "Scrape duration",
            description="How long each scrape takes. Near the scrape timeout figures start to miss.",
            unit="s",
            queries=[
                panels.query(promql.total(reader.select("scrape_duration_seconds", **ray), NODE, "max"), "{{instance}}")
            ],
            min=0,
        ),
        panels.timeseries(
            "Series per target",
            description=(
                "Samples in each scrape. Ray never drops the series of dead replicas, so this grows with every restart "
                "until the node's agent restarts."
            ),
            unit="short",
            queries=[
                panels.query(promql.total(reader.select("scrape_samples_scraped", **ray), NODE, "max"), "{{instance}}")
            ],
            min=0,
        ),
    ]
