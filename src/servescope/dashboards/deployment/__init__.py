"""servescope-deployment: what is this deployment doing?"""

from __future__ import annotations

from servescope.dashboards import common
from servescope.dashboards.deployment import models, replicas, requests, resources
from servescope.dashboards.rows import alerts, logs, traces
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
        first_look=(
            "Firing alerts of this deployment and its application, and beside them what its last change did to errors "
            "and times. Then the figures: red is a share of failed calls. Below, in the order of questions: do calls "
            "fail, are they slow, do they wait, are there enough replicas, do replicas start or die? Each row has its "
            "details in a closed row of the same name. The deployment with the most errors is chosen until you choose "
            "another."
        ),
        rows=[
            panels.row(
                "Current state",
                [
                    alerts.firing(
                        reader,
                        width=10,
                        here=True,
                        # Alerts of the whole application have no deployment.
                        deployment='=~"$deployment|"',
                    ),
                    *replicas.changes(reader),
                    *requests.now(reader),
                ],
            ),
            panels.row("Calls", requests.calls(reader)),
            panels.row("Latency", requests.latency(reader)),
            panels.row("Queue and routing", requests.queue(reader)),
            panels.row("Replicas and autoscaling", replicas.autoscaling(reader)),
            panels.row("Lifecycle", replicas.lifecycle(reader)),
            panels.row("Calls in detail", requests.calls_in_detail(reader), collapsed=True),
            panels.row("Latency in detail", requests.latency_in_detail(reader), collapsed=True),
            panels.row("Queue and routing in detail", requests.queue_in_detail(reader), collapsed=True),
            panels.row("Autoscaling in detail", replicas.autoscaling_in_detail(reader), collapsed=True),
            panels.row("Lifecycle in detail", replicas.lifecycle_in_detail(reader), collapsed=True),
            panels.row("Resources", resources.processes(reader), collapsed=True),
            panels.row("Batching", models.batching(reader), collapsed=True),
            panels.row("Multiplexing", models.multiplexing(reader), collapsed=True),
            panels.row("By replica", replicas.each_replica(reader), collapsed=True),
            panels.row("GPUs", resources.gpus(reader), collapsed=True),
            *logs.deployment_rows(),
            traces.row(reader, common.WINDOW),
        ],
        variables=[
            *common.deployment_variables(settings),
            variables.logs_variable(),
            variables.traces_variable(),
            variables.text_variable("request_id", "Request ID"),
        ],
        annotations=common.rollout_marks(settings, "application"),
        settings=settings,
    )
