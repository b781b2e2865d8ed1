"""Dashboards: rows of panels on Grafana's grid, as the JSON that Grafana imports."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import grafanalib.core as gl
from grafanalib._gen import DashboardEncoder

from servescope.errors import ServescopeError
from servescope.grafana.model import COLUMNS, PROMETHEUS, SCHEMA_VERSION, Annotation, Json, Panel, Row, Variable
from servescope.promql.layout import lay_out
from servescope.settings import Settings


def _annotations(annotations: Sequence[Annotation]) -> list[Json]:
    built_in = {
        "builtIn": 1,
        "datasource": {"type": "grafana", "uid": "-- Grafana --"},
        "enable": True,
        "hide": True,
        "iconColor": "rgba(0, 211, 255, 1)",
        "name": "Annotations & Alerts",
        "type": "dashboard",
    }
    return [
        built_in,
        *(
            {
                "datasource": PROMETHEUS,
                "enable": True,
                "expr": lay_out(annotation.expr),
                "hide": False,
                "iconColor": annotation.color,
                "name": annotation.name,
                "step": "15s",
                "textFormat": annotation.text,
                "titleFormat": annotation.title,
            }
            for annotation in annotations
        ),
    ]


# ---------------------------------------------------------------------------------------------------------------------
# Dashboards


@dataclass(frozen=True, kw_only=True)
class Dashboard:
    """A dashboard, ready to be written."""

    uid: str
    title: str
    description: str
    rows: tuple[Row, ...]
    variables: tuple[Variable, ...]
    annotations: tuple[Annotation, ...]
    settings: Settings
    tags: tuple[str, ...] = field(default=("servescope", "ray-serve"))

    @property
    def panels(self) -> list[Panel]:
        """Every panel, those of collapsed rows too."""
        return [panel for row in self.rows for panel in row.panels]

    def to_json(self) -> Json:
        """The document that Grafana imports."""
        frame = gl.Dashboard(
            title=self.title,
            uid=self.uid,
            description=self.description,
            tags=list(self.tags),
            time=gl.Time(self.settings.dashboard_from, "now"),
            timezone="browser",
        )
        data: Json = json.loads(json.dumps(frame.to_json_data(), cls=DashboardEncoder))
        document = {key: data[key] for key in ("description", "tags", "time", "timezone", "title", "uid")}
        types = sorted({panel.type for panel in self.panels})
        document |= {
            "__requires": [
                {"id": "grafana", "name": "Grafana", "type": "grafana", "version": "10.0.0"},
                {"id": "prometheus", "name": "Prometheus", "type": "datasource", "version": "1.0.0"},
                # Loki and Tempo are not required: without them the rows of logs stay shut and empty.
                *({"id": kind, "name": kind, "type": "panel", "version": ""} for kind in types),
            ],
            "annotations": {"list": _annotations(self.annotations)},
            "editable": False,
            "fiscalYearStartMonth": 0,
            "graphTooltip": 1,
            "id": None,
            "links": [
                {
                    "asDropdown": True,
                    "icon": "external link",
                    "includeVars": True,
                    "keepTime": True,
                    "tags": ["servescope"],
                    "targetBlank": False,
                    "title": "Ray Serve dashboards",
                    "tooltip": "",
                    "type": "dashboards",
                    "url": "",
                }
            ],
            "panels": list(_layout(self.rows)),
            "refresh": self.settings.dashboard_refresh,
            "schemaVersion": SCHEMA_VERSION,
            "templating": {"list": [variable.model for variable in self.variables]},
            "timepicker": {},
            "version": 1,
            "weekStart": "",
        }
        return document

    def dumps(self) -> str:
        """The document as text, the same bytes each time."""
        return json.dumps(self.to_json(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def dashboard(
    *,
    uid: str,
    title: str,
    description: str,
    rows: Sequence[Row],
    variables: Sequence[Variable],
    settings: Settings,
    annotations: Sequence[Annotation] = (),
) -> Dashboard:
    """A dashboard of rows; titles of panels are unique in it, so that tests, links and readers can name one."""
    seen: set[str] = set()
    for panel in (panel for row in rows for panel in row.panels):
        if panel.title in seen:
            raise ServescopeError(f"dashboard {uid}: two panels are called {panel.title!r}")
        seen.add(panel.title)
    return Dashboard(
        uid=uid,
        title=title,
        description=description,
        rows=tuple(rows),
        variables=tuple(variables),
        annotations=tuple(annotations),
        settings=settings,
    )


def _readable(model: Json) -> Json:
    """A panel with its PromQL over lines, as Grafana's editor shows it; LogQL and TraceQL stay as they are."""
    targets = [
        target | {"expr": lay_out(target["expr"])} if target["datasource"] == PROMETHEUS else target
        for target in model["targets"]
    ]
    return model | {"targets": targets}


def _layout(rows: Sequence[Row]) -> Iterator[Json]:
    """Panels in their places: left to right by width, a new line when the next does not fit, never one over another."""
    y = 0
    next_id = 1
    for r in rows:
        row_id, y = next_id, y + 1
        next_id += 1
        placed = []
        x = line_height = 0
        top = y
        for panel in r.panels:
            if x + panel.width > COLUMNS:
                x, top, line_height = 0, top + line_height, 0
            place = {"h": panel.height, "w": panel.width, "x": x, "y": top}
            placed.append(_readable(panel.model) | {"gridPos": place, "id": next_id})
            next_id += 1
            x += panel.width
            line_height = max(line_height, panel.height)
        frame = gl.RowPanel(title=r.title, collapsed=r.collapsed)
        yield {
            "collapsed": r.collapsed,
            "gridPos": {"h": 1, "w": COLUMNS, "x": 0, "y": y - 1},
            "id": row_id,
            "panels": placed if r.collapsed else [],
            "title": frame.title,
            "type": "row",
        }
        if not r.collapsed:
            yield from placed
            y = top + line_height
