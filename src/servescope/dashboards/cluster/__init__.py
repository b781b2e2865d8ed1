"""servescope-cluster: are the nodes, the controller, the proxies and the GCS healthy?"""

from __future__ import annotations

from servescope.dashboards import common
from servescope.dashboards.cluster import control_plane, health, nodes
from servescope.dashboards.rows import logs
from servescope.grafana import layout, panels, variables
from servescope.grafana.layout import Dashboard
from servescope.settings import Settings


def build(settings: Settings, *, recorded: bool = False) -> Dashboard:
    """The dashboard, plain or reading recorded series."""
    reader = common.reader(settings, recorded, "instance")
    # Serve's controller and the GCS run on one node; selecting nodes must not hide them.
    whole = common.reader(settings, recorded)
    return layout.dashboard(
        uid="servescope-cluster",
        title="Ray Serve / Cluster",
        description="Are the nodes, the controller, the proxies and the GCS healthy?",
        first_look=(
            "The figures of the first row: red is a proxy that is not healthy or a stalled controller, amber "
            "a full disk or memory, or tasks that no node can take. The table below names the node: the fullest is on "
            "top. What died is under GCS and failures."
        ),
        rows=[
            panels.row("Current state", health.now(whole)),
            panels.row("Nodes", nodes.use(reader)),
            panels.row("Resource allocation", nodes.resources(whole)),
            panels.row("Controller", control_plane.controller(whole)),
            panels.row("Proxies", control_plane.proxies(whole)),
            panels.row("GCS and failures", control_plane.gcs(whole)),
            panels.row("GPUs", nodes.gpus(reader, whole), collapsed=True),
            panels.row("HAProxy", control_plane.haproxy(whole), collapsed=True),
            panels.row("Monitoring health", health.scrapes(reader)),
            logs.cluster_row(),
        ],
        variables=[*common.standard_variables(settings, "instance"), variables.logs_variable()],
        annotations=common.rollout_marks(settings),
        settings=settings,
    )
