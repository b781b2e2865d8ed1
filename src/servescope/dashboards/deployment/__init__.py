"""servescope-deployment: what is this deployment doing?"""

from __future__ import annotations

from servescope.dashboards import common
from servescope.dashboards.deployment import models, replicas, requests, resources
from servescope.dashboards.rows import logs, traces
from servescope.grafana import layout, panels, variables
from servescope.grafana.layout import Dashboard
from servescope.settings import Settings


def build(settings: Settings, *, recorded: bool = False) -> Dashboard:
    """The dashboard, plain or reading recorded series."""
    reader = common.reader(settings, recorded, "application", "deployment")
    return layout.dashboard(
        uid="servescope-deployment",
        title="Ray Serve / Deployment",
        description="What is this deployment doing?",
        rows=[
            panels.row("Current state", requests.now(reader)),
            panels.row("Calls", requests.calls(reader)),
            panels.row("Latency", requests.latency(reader)),
            panels.row("Queue and routing", requests.queue(reader)),
            panels.row("Replicas and autoscaling", replicas.autoscaling(reader)),
            panels.row("Lifecycle", replicas.lifecycle(reader)),
            panels.row("Deploys", replicas.changes(reader)),
            panels.row("Resources", resources.processes(reader)),
            panels.row("Batching", models.batching(reader)),
            panels.row("Multiplexing", models.multiplexing(reader)),
            panels.row("By replica", replicas.each_replica(reader)),
            panels.row("GPUs", resources.gpus(reader), collapsed=True),
            *logs.deployment_rows(),
            traces.row(reader, common.WINDOW),
        ],
        variables=[
            *common.standard_variables(settings, "application", "deployment", "route", "replica"),
            variables.logs_variable(),
            variables.traces_variable(),
            variables.text_variable("request_id", "Request ID"),
        ],
        annotations=common.rollout_marks(settings),
        settings=settings,
    )
