"""Panels that ask the Tempo of the variable `traces`."""

from __future__ import annotations

from dataclasses import replace

import grafanalib.core as gl

from servescope.grafana import panel_json
from servescope.grafana.model import TEMPO, Panel, Query
from servescope.json_types import Json


def trace_table(
    title: str, *, key: str = "", description: str, traceql: str, limit: int = 20, width: int = 8, height: int = 9
) -> Panel:
    """The traces that a TraceQL query finds, at most `limit`; a click on an id opens one."""
    target: Json = {
        "datasource": TEMPO,
        "filters": [],
        "limit": limit,
        "query": traceql,
        "queryType": "traceql",
        "refId": "A",
    }
    panel = panel_json.panel(
        gl.Table,
        title=title,
        key=key,
        description=description,
        unit="none",
        queries=[Query(traceql)],
        width=width,
        height=height,
        options={"cellHeight": "sm", "showHeader": True},
        defaults=panel_json.field_defaults(title),
        overrides=[panel_json.override("Trace ID", {"id": "custom.width", "value": 120})],
    )
    return replace(panel, queries=(), model=panel.model | {"datasource": TEMPO, "targets": [target]})
