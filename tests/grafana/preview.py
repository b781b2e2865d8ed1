"""What a person reads of a panel in our own preview, in the form of tests/grafana/node/read.cjs."""

from __future__ import annotations

from typing import Any

from servescope.grafana import colors
from servescope.grafana.templating import Interpolation
from servescope.report import views
from servescope.report.views import MOST_SERIES as MOST_SERIES
from tests.grafana.ask import Case

_NAMES = {color.css: name for name, color in colors.COLORS.items()}


def _tone(css: str) -> str:
    return _NAMES.get(css, css) if css else ""


def reading(case: Case) -> Any:
    """The texts and colours of one panel."""
    view = views.view(case.panel, case.answers, case.window, scope=Interpolation({}, {}), identity="p")
    kind = case.panel["type"]
    if kind in ("stat", "bargauge"):
        if view.empty:
            return [{"name": "", "text": view.empty}]
        return [{"name": one["name"], "text": one["value"], "color": _tone(one["color"])} for one in view.items]
    if kind == "table":
        rows = [[{"text": cell["text"], "color": _tone(cell["color"])} for cell in row] for row in view.cells]
        return {"columns": view.columns, "rows": rows}
    if kind == "state-timeline":
        found: dict[int, list[list[str]]] = {}
        for row, _, _, text, tone in view.figure["runs"] if view.figure else []:
            found.setdefault(row, []).append([text, _tone(tone)])
        names = view.figure["rows"] if view.figure else []
        return [{"name": name, "bands": found.get(row, [])} for row, name in enumerate(names)]
    if kind == "heatmap":
        return view.figure["names"] if view.figure else []
    assert kind == "timeseries", kind
    return [
        {
            "name": line["name"],
            "color": "palette-classic-by-name" if line["color"] in colors.CLASSIC_PALETTE else _tone(line["color"]),
            "last": line["last"],
            "max": line["max"],
        }
        for line in view.legend
    ]
