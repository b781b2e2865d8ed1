"""Panels that ask Grafana's own alerting."""

from __future__ import annotations

import grafanalib.core as gl

from servescope.grafana import panel_json
from servescope.grafana.model import Panel


def alert_list(title: str, *, key: str = "", description: str, width: int = 24, height: int = 8) -> Panel:
    """The instances of Grafana-managed alert rules that fire or cannot be evaluated, the most urgent first."""
    options = {
        "alertInstanceLabelFilter": "",
        "alertName": "",
        "dashboardAlerts": False,
        "datasource": "-- Grafana --",
        "groupBy": [],
        "groupMode": "default",
        "maxItems": 50,
        "sortOrder": 3,  # importance
        "stateFilter": {"error": True, "firing": True, "noData": False, "normal": False, "pending": False},
        "viewMode": "list",
    }
    model = {
        "title": title,
        "type": gl.ALERTLIST_TYPE,
        "description": description,
        "options": options,
        "fieldConfig": {"defaults": {}, "overrides": []},
        "pluginVersion": panel_json.PLUGIN_VERSION,
        "targets": [],
    }
    return Panel(
        title=title,
        key=key or title,
        description=description,
        unit="none",
        queries=(),
        width=width,
        height=height,
        absent="",
        model=model,
    )
