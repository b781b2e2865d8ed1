"""Round trip through grafana-foundation-sdk: what its models do not know comes back missing."""

from __future__ import annotations

import json
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

register_default_plugins()

# Keys that the SDK's models (Grafana 10.1) drop although Grafana reads them, each with its reason.
_NEWER = "newer than the SDK's models; Grafana 13's types require it, older Grafanas ignore it"
LOST_WITH_REASON = {
    "__requires": "export format: the SDK models stored dashboards only",
    "annotations.list[].builtIn": "the SDK writes it into a field of its own",
    "annotations.list[].step": "query of a Prometheus annotation, which the SDK's model leaves untyped",
    "annotations.list[].textFormat": "as step",
    "annotations.list[].titleFormat": "as step",
    "annotations.list[].target.expr": "as step",
    "annotations.list[].target.interval": "as step",
    "annotations.list[].target.refId": "as step",
    "panels[].options.maxVizHeight": _NEWER,
    "panels[].options.perPage": _NEWER,
    "panels[].options.namePlacement": _NEWER,
    "panels[].options.percentChangeColorMode": _NEWER,
    "panels[].options.showPercentChange": _NEWER,
    "panels[].panels[].options.maxVizHeight": _NEWER,
    "panels[].panels[].options.namePlacement": _NEWER,
    "panels[].panels[].options.percentChangeColorMode": _NEWER,
    "panels[].panels[].options.perPage": _NEWER,
    "panels[].panels[].options.sizing": _NEWER,
    "panels[].panels[].options.tooltip.showColorScale": _NEWER,
    "panels[].panels[].options.showLogContextToggle": _NEWER,
    "panels[].panels[].options.showPercentChange": _NEWER,
    "panels[].panels[].options.wideLayout": _NEWER,
    "panels[].options.sizing": _NEWER,
    "panels[].options.tooltip.showColorScale": _NEWER,
    "panels[].options.wideLayout": _NEWER,
    "templating.list[].definition": "what the variable editor shows; the SDK leaves it out",
}


def lost_keys(dashboard: dict[str, Any]) -> set[str]:
    """The keys of a dashboard that a round trip loses, as paths without list positions."""
    lost = paths(dashboard) - paths(returned(dashboard))
    return {path for path in lost if path not in LOST_WITH_REASON and not path.startswith("__requires[]")}


def returned(dashboard: dict[str, Any]) -> dict[str, Any]:
    """The dashboard after the round trip."""
    model = Dashboard.from_json(json.loads(json.dumps(dashboard)))
    document: dict[str, Any] = json.loads(JSONEncoder(sort_keys=True).encode(model))
    return document


def paths(node: Any, prefix: str = "") -> set[str]:
    """Every key that has a value, as a path without list positions."""
    found: set[str] = set()
    if isinstance(node, dict):
        for key, value in node.items():
            path = f"{prefix}.{key}" if prefix else key
            if value is not None:
                found.add(path)
            found |= paths(value, path)
    elif isinstance(node, list):
        for item in node:
            found |= paths(item, f"{prefix}[]")
    return found
