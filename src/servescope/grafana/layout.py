"""Dashboards: rows of panels on Grafana's grid, as the JSON that Grafana imports."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import grafanalib.core as gl

from servescope.errors import ServescopeError
from servescope.grafana import panel_json
from servescope.grafana.model import COLUMNS, PROMETHEUS, SCHEMA_VERSION, Annotation, Panel, Row, Variable
from servescope.json_types import Json
from servescope.promql.layout import lay_out
from servescope.settings import Settings

_ANNOTATION_STEP = "60s"


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
                # Up to this distance Grafana 10 takes samples for one region: a rollout is one, not a mark a sample.
                "step": _ANNOTATION_STEP,
                # The form that Grafana 12 and later read.
                "target": {"expr": lay_out(annotation.expr), "interval": _ANNOTATION_STEP, "refId": "Anno"},
                "textFormat": annotation.text,
                "titleFormat": annotation.title,
            }
            for annotation in annotations
        ),
    ]


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
    first_look: str = ""  # what a person on call reads in the first ten seconds, for the docs
    opens_at: str = ""  # the start of the range on which it opens; "" for that of the settings
    tags: tuple[str, ...] = field(default=("servescope", "ray-serve"))

    @property
    def panels(self) -> list[Panel]:
        """Every panel, those of collapsed rows too."""
        return [panel for row in self.rows for panel in row.panels]

    @property
    def open_panels(self) -> list[Panel]:
        """The panels of rows that are open at first."""
        return [panel for row in self.rows if not row.collapsed for panel in row.panels]

    @property
    def opening_range(self) -> str:
        """The start of the range on which it opens, in Grafana's syntax; the end is now."""
        return self.opens_at or self.settings.dashboard_from

    def to_json(self) -> Json:
        """The document that Grafana imports."""
        frame = gl.Dashboard(
            title=self.title,
            uid=self.uid,
            description=self.description,
            tags=list(self.tags),
            time=gl.Time(self.opening_range, "now"),
            timezone="browser",
        )
        data = panel_json.plain(frame)
        document = {key: data[key] for key in ("description", "tags", "time", "timezone", "title", "uid")}
        types = sorted({panel.type for panel in self.panels})
        document |= {
            "__requires": [
                {"id": "grafana", "name": "Grafana", "type": "grafana", "version": "10.0.0"},
                {"id": "prometheus", "name": "Prometheus", "type": "datasource", "version": "1.0.0"},
                # Loki and Tempo are not required: without them the rows of logs stay collapsed and empty.
                *({"id": kind, "name": kind, "type": "panel", "version": ""} for kind in types),
            ],
            "annotations": {"list": _annotations(self.annotations)},
            "editable": True,
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
            "panels": list(_layout(self.uid, self.rows)),
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
    first_look: str = "",
    opens_at: str = "",
) -> Dashboard:
    """A dashboard of rows; titles of panels are unique in it, so that tests, links and readers can name one.

    Raises:
        ServescopeError: two panels have the same title, or two panels or rows the same id.
    """
    seen: set[str] = set()
    for panel in (panel for row in rows for panel in row.panels):
        if panel.title in seen:
            raise ServescopeError(f"dashboard {uid}: two panels are called {panel.title!r}")
        seen.add(panel.title)
    _check_ids(uid, rows)
    return Dashboard(
        uid=uid,
        title=title,
        description=description,
        rows=tuple(rows),
        variables=tuple(variables),
        annotations=tuple(annotations),
        settings=settings,
        first_look=first_look,
        opens_at=opens_at,
    )


_LARGEST_ID = 2**31 - 1


def panel_id(uid: str, panel: Panel) -> int:
    """The panel's id on the dashboard of this uid: from its key, not from its place, so that links to it last."""
    return panel_id_of(uid, panel.key)


def panel_id_of(uid: str, key: str) -> int:
    """The id of the panel of this key, for a link that is made before the panel."""
    return _id(f"{uid}/panel/{key}")


def row_id(uid: str, row: Row) -> int:
    """The row's id on the dashboard of this uid; a row and a panel may have the same key."""
    return _id(f"{uid}/row/{row.key}")


def _id(text: str) -> int:
    """A number from 1 to 2^31-1, the same for the same text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % _LARGEST_ID + 1


def _check_ids(uid: str, rows: Sequence[Row]) -> None:
    owners: dict[int, str] = {}
    for row in rows:
        named = [(row_id(uid, row), f"row {row.title!r}")]
        named += [(panel_id(uid, panel), f"panel {panel.title!r}") for panel in row.panels]
        for number, name in named:
            if number in owners:
                raise ServescopeError(
                    f"dashboard {uid}: {owners[number]} and {name} have the same id; give the newer one another key"
                )
            owners[number] = name


def _readable(model: Json) -> Json:
    """A panel with its PromQL over lines, as Grafana's editor shows it; LogQL and TraceQL stay as they are."""
    targets = [
        target | {"expr": lay_out(target["expr"])} if target["datasource"] == PROMETHEUS else target
        for target in model["targets"]
    ]
    return model | {"targets": targets}


def _layout(uid: str, rows: Sequence[Row]) -> Iterator[Json]:
    """Panels in their places: left to right by width, a new line when the next does not fit, never one over another."""
    y = 0
    for row in rows:
        y += 1
        placed = []
        x = line_height = 0
        top = y
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, top, line_height = 0, top + line_height, 0
            place = {"h": panel.height, "w": panel.width, "x": x, "y": top}
            placed.append(_readable(panel.model) | {"gridPos": place, "id": panel_id(uid, panel)})
            x += panel.width
            line_height = max(line_height, panel.height)
        yield {
            "collapsed": row.collapsed,
            "gridPos": {"h": 1, "w": COLUMNS, "x": 0, "y": y - 1},
            "id": row_id(uid, row),
            "panels": placed if row.collapsed else [],
            "title": row.title,
            "type": "row",
        }
        if not row.collapsed:
            yield from placed
            y = top + line_height
