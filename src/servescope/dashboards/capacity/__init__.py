"""servescope-capacity: how much room is left, and what does it cost? Needs the state exporter."""

from __future__ import annotations

from servescope.dashboards import common
from servescope.dashboards.capacity import advice, limits, room, spending
from servescope.grafana import layout, panels
from servescope.grafana.layout import Dashboard
from servescope.settings import Settings


def build(settings: Settings, *, recorded: bool = False) -> Dashboard:
    """The dashboard, plain or reading recorded series."""
    reader = common.reader(settings, recorded, "application", "deployment")
    everything = common.reader(settings, recorded)  # all deployments share the cluster
    return layout.dashboard(
        uid="servescope-capacity",
        title="Ray Serve / Capacity",
        description="How much room is left, and what does it cost?",
        opens_at="now-24h",
        first_look=(
            "The figures of the first row: amber means that a deployment is near its limit or capped by max_replicas, "
            "red that replicas do not start. The table below names it: the deployment nearest to its limit is on top. "
            "What to change is in Configuration, what it costs in Hours and cost."
        ),
        rows=[
            panels.row("Headroom", room.room(reader, everything, settings)),
            panels.row("Load and limits", room.load(reader)),
            panels.row("Autoscaling", room.autoscaling(reader)),
            panels.row("Configuration", advice.settings_tables(reader)),
            panels.row("Hours and cost", spending.hours_and_cost(reader, settings)),
            panels.row("Cluster resources", limits.cluster(reader, settings)),
            panels.row("GPUs", limits.gpus(reader, everything, settings), collapsed=True),
        ],
        variables=common.standard_variables(settings, "application", "deployment"),
        annotations=common.rollout_marks(settings, "application"),
        settings=settings,
    )
