"""The first row, cluster health now, and the last, the health of the monitoring."""

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
    """Current values."""
    proxies = reader.select("ray_serve_proxy_status")
    healthy = next(code for code, (name, _) in common.PROXY_STATES.items() if name == "HEALTHY")
    loops = promql.total(f"deriv({reader.select('ray_serve_controller_num_control_loops')}[{WINDOW}])", (), "max")
    waiting = promql.total(reader.select("ray_scheduler_unscheduleable_tasks"))
    return [
        panels.stat(
            "Nodes",
            description=(
                "Nodes that export metrics now. A dead node disappears within half a minute; it also leaves Ray's "
                "service discovery file, so its target is not even reported as down."
            ),
            unit="none",
            queries=[panels.query(promql.total(reader.select("ray_node_cpu_count"), (), "count"))],
            thresholds=(Threshold(None, PALETTE.neutral),),
            links=(common.to_panel("servescope-cluster", "Node details"),),
        ),
        panels.stat(
            "Unhealthy proxies",
            description="Proxies whose status is not HEALTHY (starting, draining or unhealthy). Normal is 0.",
            unit="none",
            queries=[panels.query(f"count({proxies} != {healthy}) or 0 * count({proxies})")],
            thresholds=common.ANY_IS_BAD,
            links=(common.to_panel("servescope-cluster", "Proxy status"),),
        ),
        panels.stat(
            "Control loops",
            description=(
                "Iterations of the controller's control loop per second. Around 9 when idle; near 0 the controller is "
                "stalled, and nothing is deployed, scaled or replaced."
            ),
            unit="ops",
            queries=[panels.query(loops)],
            thresholds=(Threshold(None, PALETTE.failing), Threshold(0.5, PALETTE.neutral)),
            links=(common.to_panel("servescope-cluster", "Control loop duration"),),
        ),
        panels.stat(
            "Unschedulable tasks",
            description=(
                "Tasks and actors, Serve replicas included, that no node has the resources for now. Above 0 for more "
                "than a minute means that the cluster is too small, or that a request exceeds what any node has."
            ),
            unit="none",
            queries=[panels.query(waiting)],
            thresholds=common.ANY_IS_RISKY,
            links=(common.to_panel("servescope-cluster", "Unschedulable tasks by reason"),),
        ),
        panels.stat(
            "Max disk utilization",
            description=(
                "Highest utilization of a disk that holds Ray's temporary directory. Ray never deletes logs of old "
                "sessions and stops storing objects at 95 %."
            ),
            unit="percentunit",
            queries=[panels.query(reader.read(NODE_DISK))],
            thresholds=common.UTILIZATION,
            links=(common.to_panel("servescope-cluster", "Disk"),),
            min=0,
            max=1,
        ),
        panels.stat(
            "Max memory utilization",
            description="Highest memory utilization of a node. Ray's memory monitor kills workers at 95 %.",
            unit="percentunit",
            queries=[panels.query(reader.read(NODE_MEMORY))],
            thresholds=common.UTILIZATION,
            links=(common.to_panel("servescope-cluster", "Memory"),),
            min=0,
            max=1,
        ),
    ]


def scrapes(reader: Reader) -> list[Panel]:
    """Whether Prometheus scrapes what the panels show."""
    ray = {"job": '=~"ray.*"'}
    return [
        panels.timeseries(
            "Scrape targets up",
            description=(
                "1 while Prometheus can scrape a target of the Ray job. The series of a dead node ends instead of "
                "falling to 0, because the node leaves the service discovery file."
            ),
            unit="short",
            queries=[
                panels.query(
                    common.largest(promql.total(reader.select("up", **ray), NODE, "min"), smallest=True), "{{instance}}"
                )
            ],
            min=0,
            max=1,
        ),
        panels.timeseries(
            "Scrape duration",
            description="Duration of each scrape. Near the scrape timeout, samples are lost.",
            unit="s",
            queries=[
                panels.query(
                    common.largest(promql.total(reader.select("scrape_duration_seconds", **ray), NODE, "max")),
                    "{{instance}}",
                )
            ],
            min=0,
        ),
        panels.timeseries(
            "Series per target",
            description=(
                "Samples in each scrape. Ray never drops the series of dead replicas, so this grows with every replica "
                "restart until the node's agent restarts."
            ),
            unit="short",
            queries=[
                panels.query(
                    common.largest(promql.total(reader.select("scrape_samples_scraped", **ray), NODE, "max")),
                    "{{instance}}",
                )
            ],
            min=0,
        ),
    ]
