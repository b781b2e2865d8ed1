"""The dashboards: one module each, listed here in the order in which the person on call opens them."""

from __future__ import annotations

from servescope.dashboards import capacity, cluster, deployment, overview, slo
from servescope.grafana.layout import Dashboard
from servescope.settings import Settings

_MODULES = (overview, deployment, capacity, slo, cluster)


def all_dashboards(settings: Settings, *, recorded: bool = False) -> list[Dashboard]:
    """Build every dashboard; `recorded` gives the variant that reads the recorded series."""
    return [module.build(settings, recorded=recorded) for module in _MODULES]
