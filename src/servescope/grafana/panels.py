"""The house layer over grafanalib: panels in domain words, in the form that Grafana 10 to 13 reads.

Dashboards call this module and never grafanalib. grafanalib gives the panels, variables and the dashboard their frame;
what Grafana has learnt since version 9 (data links, the heatmap's and the table's new model, thresholds with a true
null, legends that can be hidden, float limits) is laid over it here, and what Grafana has since dropped is left out.

    panels.dashboard(
        uid="servescope-example", title="Example", description="What is asked?", settings=settings,
        variables=[panels.datasource_variable()],
        rows=[panels.row("Now", [
            panels.timeseries(
                "Requests", "Requests answered per second.", "reqps",
                [panels.query("sum(rate(ray_serve_num_http_requests_total[$__rate_interval]))", "all")],
            ),
        ])],
    ).dumps()
"""

from __future__ import annotations

import json
import string
from collections.abc import Mapping, Sequence
from dataclasses import replace

import grafanalib.core as gl
from grafanalib._gen import DashboardEncoder

from servescope.errors import ServescopeError
from servescope.grafana.colors import PALETTE
from servescope.grafana.model import (
    COLUMNS,
    LOKI,
    PANEL_TYPES,
    PROMETHEUS,
    RATES,
    TEMPO,
    Column,
    Link,
    Panel,
    Query,
    Row,
    Threshold,
)
from servescope.grafana.units import UNITS
from servescope.json_types import Json

# ---------------------------------------------------------------------------------------------------------------------
# Panels


def query(expr: str, legend: str = "", *, instant: bool = False, exemplar: bool = False) -> Query:
    """A target."""
    return Query(expr, legend, instant=instant, exemplar=exemplar)


def row(title: str, panels: Sequence[Panel], *, collapsed: bool = False) -> Row:
    """A row."""
    return Row(title, tuple(panels), collapsed)


def timeseries(
    title: str,
    *,
    description: str,
    unit: str,
    queries: Sequence[Query],
    width: int = 8,
    height: int = 8,
    min: float | None = None,
    max: float | None = None,
    stack: bool = False,
    bars: bool = False,
    thresholds: Sequence[Threshold] = (),
    colors: Mapping[str, str] | None = None,
    dashed: Sequence[str] = (),
    links: Sequence[Link] = (),
    absent: str = "",
) -> Panel:
    """Lines over time, or bars for counted events. `colors` and `dashed` name series by legend or by `/regex/`."""
    custom = {
        "axisCenteredZero": False,
        "axisColorMode": "text",
        "axisLabel": "",
        "axisPlacement": "auto",
        "barAlignment": 0,
        "drawStyle": "bars" if bars else "line",
        "fillOpacity": 70 if bars else 30 if stack else 8,
        "gradientMode": "none",
        "hideFrom": {"legend": False, "tooltip": False, "viz": False},
        "insertNulls": False,
        "lineInterpolation": "linear",
        "lineWidth": 1,
        "pointSize": 4,
        "scaleDistribution": {"type": "linear"},
        "showPoints": "never" if bars else "auto",
        # A gap is a fact: nothing is drawn across it.
        "spanNulls": False,
        "stacking": {"group": "A", "mode": "normal" if stack or bars else "none"},
        "thresholdsStyle": {"mode": "dashed" if thresholds else "off"},
    }
    defaults = _defaults(unit, thresholds=thresholds, links=links, absent=absent, color="palette-classic") | {
        "custom": custom
    }
    # A rate that does not start at zero makes a ripple look like a fall.
    if min is not None or bars or stack or unit in RATES:
        defaults["min"] = 0 if min is None else min
    if max is not None:
        defaults["max"] = max
    overrides = [
        _override(name, {"id": "color", "value": {"fixedColor": color, "mode": "fixed"}})
        for name, color in (colors or {}).items()
    ] + [
        _override(
            name,
            {"id": "custom.lineStyle", "value": {"dash": [8, 6], "fill": "dash"}},
            {"id": "custom.fillOpacity", "value": 0},
        )
        for name in dashed
    ]
    options = {
        # A legend of many series scrolls: those that matter stand on top.
        "legend": {
            "calcs": ["lastNotNull", "max"],
            "displayMode": "table",
            "placement": "bottom",
            "showLegend": True,
            "sortBy": "Max",
            "sortDesc": True,
        },
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    frame = gl.TimeSeries(title=title, dataSource=PROMETHEUS, unit=unit)
    return _panel(
        frame,
        title=title,
        description=description,
        unit=unit,
        queries=queries,
        width=width,
        height=height,
        absent=absent,
        options=options,
        defaults=defaults,
        overrides=overrides,
    )


def stat(
    title: str,
    *,
    description: str,
    unit: str,
    queries: Sequence[Query],
    width: int = 4,
    height: int = 4,
    thresholds: Sequence[Threshold] = (),
    links: Sequence[Link] = (),
    absent: str = "",
) -> Panel:
    """One figure as it is now, over the line of how it came there."""
    options = {
        "colorMode": "value",
        "graphMode": "area",
        "justifyMode": "auto",
        "orientation": "auto",
        "percentChangeColorMode": "standard",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "showPercentChange": False,
        "textMode": "auto",
        "wideLayout": True,
    }
    defaults = _defaults(unit, thresholds=thresholds, links=links, absent=absent, color="thresholds")
    frame = gl.Stat(title=title, dataSource=PROMETHEUS, format=unit)
    return _panel(
        frame,
        title=title,
        description=description,
        unit=unit,
        queries=queries,
        width=width,
        height=height,
        absent=absent,
        options=options,
        defaults=defaults,
        overrides=[],
    )


def bar_gauge(
    title: str,
    *,
    description: str,
    unit: str,
    queries: Sequence[Query],
    width: int = 8,
    height: int = 8,
    min: float | None = 0,
    max: float | None = None,
    thresholds: Sequence[Threshold] = (),
    links: Sequence[Link] = (),
    absent: str = "",
) -> Panel:
    """A bar for each series as it is now: for the top of a list."""
    options = {
        "displayMode": "basic",
        "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": False},
        "maxVizHeight": 300,
        "minVizHeight": 16,
        "minVizWidth": 8,
        "namePlacement": "auto",
        "orientation": "horizontal",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "showUnfilled": True,
        "sizing": "auto",
        "valueMode": "color",
    }
    defaults = _defaults(unit, thresholds=thresholds, links=links, absent=absent, color="thresholds")
    defaults |= {key: value for key, value in (("min", min), ("max", max)) if value is not None}
    frame = gl.BarGauge(title=title, dataSource=PROMETHEUS, format=unit)
    return _panel(
        frame,
        title=title,
        description=description,
        unit=unit,
        queries=queries,
        width=width,
        height=height,
        absent=absent,
        options=options,
        defaults=defaults,
        overrides=[],
    )


def table(
    title: str,
    *,
    description: str,
    queries: Sequence[Query],
    columns: Sequence[Column],
    sort_by: str,
    width: int = 12,
    height: int = 8,
    absent: str = "",
) -> Panel:
    """A line for each set of labels, a column for each query, the rest hidden; sorted by a column, largest first."""
    if sort_by not in {column.title for column in columns}:
        raise ServescopeError(f"panel {title!r}: sort_by names no column: {sort_by!r}")
    if len(queries) == 1:
        # Grafana leaves the letter away where there is one query: both names, so that neither version loses the column.
        columns = [c for column in columns for c in _both_names(column)]
    overrides = []
    for column in columns:
        if column.unit:
            _known_unit(title, column.unit)
        properties: list[Json] = []
        if column.unit:
            properties.append({"id": "unit", "value": column.unit})
        if column.decimals is not None:
            properties.append({"id": "decimals", "value": column.decimals})
        if column.thresholds:
            properties.append({"id": "thresholds", "value": _thresholds(title, column.thresholds)})
            properties.append({"id": "custom.cellOptions", "value": {"type": "color-text"}})
        if column.links:
            properties.append({"id": "links", "value": _links(column.links)})
        if properties and column.field != "Value":
            overrides.append(_override(column.title, *properties))
    transformations: list[Json] = [
        {"id": "merge", "options": {}},
        {
            "id": "filterFieldsByName",
            "options": {"include": {"names": [column.field for column in columns]}},
        },
        {
            "id": "organize",
            "options": {
                "excludeByName": {},
                "includeByName": {},
                "indexByName": {column.field: index for index, column in enumerate(columns)},
                "renameByName": {column.field: column.title for column in columns},
            },
        },
    ]
    options = {"cellHeight": "sm", "showHeader": True, "sortBy": [{"desc": True, "displayName": sort_by}]}
    defaults = _defaults("none", thresholds=(), links=(), absent=absent, color="thresholds")
    defaults["custom"] = {"align": "auto", "cellOptions": {"type": "auto"}, "filterable": False, "inspect": False}
    frame = gl.Table(title=title, dataSource=PROMETHEUS, transformations=transformations)
    instant = [Query(q.expr, q.legend, instant=True) for q in queries]
    return _panel(
        frame,
        title=title,
        description=description,
        unit="none",
        queries=instant,
        width=width,
        height=height,
        absent=absent,
        options=options,
        defaults=defaults,
        overrides=overrides,
    )


def _both_names(column: Column) -> tuple[Column, ...]:
    return (column, replace(column, field="Value")) if column.field == "Value #A" else (column,)


def state_timeline(
    title: str,
    *,
    description: str,
    queries: Sequence[Query],
    states: Mapping[int, tuple[str, str]],
    width: int = 24,
    height: int = 8,
    links: Sequence[Link] = (),
    absent: str = "",
) -> Panel:
    """A band for each series, coloured by state; `states` maps a value to its name and colour."""
    options = {
        "alignValue": "left",
        "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": False},
        "mergeValues": True,
        "rowHeight": 0.8,
        "showValue": "auto",
        "tooltip": {"mode": "single", "sort": "none"},
    }
    defaults = _defaults("none", thresholds=(), links=links, absent=absent, color="thresholds")
    defaults["custom"] = {
        "fillOpacity": 75,
        "hideFrom": {"legend": False, "tooltip": False, "viz": False},
        "lineWidth": 0,
    }
    defaults["mappings"] = [
        {
            "options": {
                str(value): {"color": color, "index": index, "text": name}
                for index, (value, (name, color)) in enumerate(states.items())
            },
            "type": "value",
        }
    ]
    frame = gl.StateTimeline(title=title, dataSource=PROMETHEUS)
    return _panel(
        frame,
        title=title,
        description=description,
        unit="none",
        queries=queries,
        width=width,
        height=height,
        absent=absent,
        options=options,
        defaults=defaults,
        overrides=[],
    )


def heatmap(
    title: str, *, description: str, unit: str, target: Query, width: int = 12, height: int = 8, absent: str = ""
) -> Panel:
    """Buckets of one of Ray's histograms over time; the query keeps `le`, the unit is that of its bounds."""
    options = {
        "calculate": False,
        "cellGap": 1,
        "cellValues": {"unit": "reqps"},
        "color": {
            "exponent": 0.5,
            "fill": "dark-orange",
            "mode": "scheme",
            "reverse": False,
            "scale": "exponential",
            "scheme": "Blues",
            "steps": 64,
        },
        "exemplars": {"color": "rgba(255,0,255,0.7)"},
        "filterValues": {"le": 1e-9},
        "legend": {"show": True},
        "rowsFrame": {"layout": "auto"},
        "showValue": "never",
        "tooltip": {"mode": "single", "showColorScale": False, "yHistogram": False},
        "yAxis": {"axisPlacement": "left", "reverse": False, "unit": unit},
    }
    _known_unit(title, unit)
    defaults: Json = {
        "custom": {
            "hideFrom": {"legend": False, "tooltip": False, "viz": False},
            "scaleDistribution": {"type": "linear"},
        }
    }
    if absent:
        defaults["noValue"] = _no_value(absent)
    frame = gl.Heatmap(title=title, dataSource=PROMETHEUS)
    targets = [Query(target.expr, "{{le}}", instant=target.instant)]
    return _panel(
        frame,
        title=title,
        description=description,
        unit=unit,
        queries=targets,
        width=width,
        height=height,
        absent=absent,
        options=options,
        defaults=defaults,
        overrides=[],
        form="heatmap",
    )


def text(title: str, *, markdown: str, width: int = 24, height: int = 3) -> Panel:
    """A few words in Markdown."""
    frame = gl.Text(title=title, content=markdown)
    options = {"code": {"language": "plaintext"}, "content": markdown, "mode": "markdown"}
    return _panel(
        frame,
        title=title,
        description="",
        unit="",
        queries=[],
        width=width,
        height=height,
        absent="",
        options=options,
        defaults={},
        overrides=[],
    )


def logs(title: str, *, description: str, expr: str, width: int = 24, height: int = 12) -> Panel:
    """Lines of Loki, the newest first; a click on one shows its fields."""
    options = {
        "dedupStrategy": "none",
        "enableLogDetails": True,
        "prettifyLogMessage": False,
        "showCommonLabels": False,
        "showLabels": False,
        "showLogContextToggle": False,
        "showTime": True,
        "sortOrder": "Descending",
        "wrapLogMessage": True,
    }
    frame = gl.Logs(title=title, dataSource=LOKI)
    return _log_panel(
        frame,
        title=title,
        description=description,
        unit="none",
        queries=[Query(expr)],
        width=width,
        height=height,
        options=options,
        defaults={},
        overrides=[],
    )


def log_timeseries(
    title: str,
    *,
    description: str,
    queries: Sequence[Query],
    width: int = 12,
    height: int = 8,
    colors: Mapping[str, str] | None = None,
) -> Panel:
    """Bars of lines counted by Loki, in each interval of the graph."""
    bars = timeseries(
        title,
        description=description,
        unit="short",
        queries=queries,
        width=width,
        height=height,
        bars=True,
        colors=colors,
    )
    return _from_loki(bars)


def log_table(
    title: str,
    *,
    description: str,
    queries: Sequence[Query],
    columns: Sequence[Column],
    sort_by: str,
    width: int = 12,
    height: int = 8,
) -> Panel:
    """A table as `table` makes it, of figures that Loki counts."""
    return _from_loki(
        table(
            title,
            description=description,
            queries=queries,
            columns=columns,
            sort_by=sort_by,
            width=width,
            height=height,
        )
    )


def log_lines_table(
    title: str, *, description: str, expr: str, columns: Sequence[Column], width: int = 24, height: int = 10
) -> Panel:
    """Lines of Loki as a table, one column for each label or field named; its cells can carry links."""
    overrides = [_override(c.title, {"id": "links", "value": _links(c.links)}) for c in columns if c.links]
    transformations: list[Json] = [
        {"id": "extractFields", "options": {"format": "json", "replace": False, "source": "labels"}},
        {"id": "filterFieldsByName", "options": {"include": {"names": [column.field for column in columns]}}},
        {
            "id": "organize",
            "options": {
                "excludeByName": {},
                "includeByName": {},
                "indexByName": {column.field: index for index, column in enumerate(columns)},
                "renameByName": {column.field: column.title for column in columns},
            },
        },
    ]
    options = {"cellHeight": "sm", "showHeader": True, "sortBy": [{"desc": True, "displayName": columns[0].title}]}
    defaults = _defaults("none", thresholds=(), links=(), absent="", color="thresholds")
    defaults["custom"] = {"align": "auto", "cellOptions": {"type": "auto"}, "filterable": True, "inspect": True}
    frame = gl.Table(title=title, dataSource=LOKI, transformations=transformations)
    return _log_panel(
        frame,
        title=title,
        description=description,
        unit="none",
        queries=[Query(expr)],
        width=width,
        height=height,
        options=options,
        defaults=defaults,
        overrides=overrides,
    )


def _log_panel(
    frame: gl.Panel,
    *,
    title: str,
    description: str,
    unit: str,
    queries: Sequence[Query],
    width: int,
    height: int,
    options: Json,
    defaults: Json,
    overrides: list[Json],
) -> Panel:
    panel = _panel(
        frame,
        title=title,
        description=description,
        unit=unit,
        queries=queries,
        width=width,
        height=height,
        absent="",
        options=options,
        defaults=defaults,
        overrides=overrides,
    )
    return _from_loki(panel)


def _from_loki(panel: Panel) -> Panel:
    targets = [
        {
            "datasource": LOKI,
            "editorMode": "code",
            "expr": query.expr,
            "legendFormat": query.legend,
            "queryType": "instant" if query.instant else "range",
            "refId": _ref_id(index),
        }
        for index, query in enumerate(panel.queries)
    ]
    model = panel.model | {"datasource": LOKI, "targets": targets}
    return replace(panel, queries=(), log_queries=panel.queries, model=model)


def trace_table(
    title: str, *, description: str, traceql: str, limit: int = 20, width: int = 8, height: int = 9
) -> Panel:
    """The traces that a TraceQL query finds in the Tempo of the variable `traces`; a click on an id opens one."""
    target: Json = {
        "datasource": TEMPO,
        "filters": [],
        "limit": limit,
        "query": traceql,
        "queryType": "traceql",
        "refId": "A",
    }
    options = {"cellHeight": "sm", "showHeader": True}
    overrides = [_override("Trace ID", {"id": "custom.width", "value": 120})]
    defaults = _defaults("none", thresholds=(), links=(), absent="", color="thresholds")
    frame = gl.Table(title=title, dataSource=TEMPO)
    panel = _panel(
        frame,
        title=title,
        description=description,
        unit="none",
        queries=[Query(traceql)],
        width=width,
        height=height,
        absent="",
        options=options,
        defaults=defaults,
        overrides=overrides,
    )
    return replace(panel, queries=(), model=panel.model | {"datasource": TEMPO, "targets": [target]})


# What of grafanalib's frame Grafana still reads; the rest is legacy or null.
_FRAME_KEYS = ("title", "type", "datasource", "transformations")


def _panel(
    frame: gl.Panel,
    *,
    title: str,
    description: str,
    unit: str,
    queries: Sequence[Query],
    width: int,
    height: int,
    absent: str,
    options: Json,
    defaults: Json,
    overrides: list[Json],
    form: str = "time_series",
) -> Panel:
    model: Json = json.loads(json.dumps(frame.to_json_data(), cls=DashboardEncoder))
    model = {key: model[key] for key in _FRAME_KEYS if model.get(key)}
    if model["type"] not in PANEL_TYPES:
        raise ServescopeError(f"panel {title!r}: type {model['type']!r} is not in the allow-list")
    if not title:
        raise ServescopeError("a panel without a title")
    if model["type"] != "text":
        if not description:
            raise ServescopeError(f"panel {title!r}: no description; say how to read it and what is normal")
        if not queries:
            raise ServescopeError(f"panel {title!r}: no query")
        _known_unit(title, unit)
    if not 1 <= width <= COLUMNS or height < 1:
        raise ServescopeError(f"panel {title!r}: {width} x {height} does not fit a grid of {COLUMNS} columns")
    if absent:
        description = f"{description} Empty without: {absent}."
    model["description"] = description
    model["options"] = options
    model["fieldConfig"] = {"defaults": defaults, "overrides": overrides}
    model["targets"] = [
        _target(q, _ref_id(index), "table" if model["type"] == "table" else form) for index, q in enumerate(queries)
    ]
    return Panel(
        title=title,
        description=description,
        unit=unit,
        queries=tuple(queries),
        width=width,
        height=height,
        absent=absent,
        model=model,
    )


def _target(q: Query, ref_id: str, form: str) -> Json:
    return {
        "datasource": PROMETHEUS,
        "editorMode": "code",
        **({"exemplar": True} if q.exemplar else {}),
        "expr": q.expr,
        "format": form,
        "instant": q.instant,
        "legendFormat": q.legend or "__auto",
        "range": not q.instant,
        "refId": ref_id,
    }


def _ref_id(index: int) -> str:
    letters = string.ascii_uppercase
    return letters[index] if index < 26 else letters[index // 26 - 1] + letters[index % 26]


def _known_unit(title: str, unit: str) -> None:
    if unit not in UNITS:
        raise ServescopeError(
            f"panel {title!r}: {unit!r} is not one of the units {', '.join(sorted(UNITS))} (grafana/units.py)"
        )


def _defaults(unit: str, *, thresholds: Sequence[Threshold], links: Sequence[Link], absent: str, color: str) -> Json:
    steps = thresholds or (Threshold(None, PALETTE.neutral),)
    defaults: Json = {
        "color": {"mode": color},
        "links": _links(links),
        "mappings": [],
        "thresholds": _thresholds("", steps),
        "unit": unit,
    }
    if absent:
        defaults["noValue"] = _no_value(absent)
    return defaults


def _no_value(absent: str) -> str:
    return f"needs {absent}"


def _thresholds(title: str, thresholds: Sequence[Threshold]) -> Json:
    values = [step.value for step in thresholds]
    rising = [value for value in values[1:] if value is not None]
    if values[0] is not None or len(rising) != len(values) - 1 or rising != sorted(rising):
        raise ServescopeError(f"panel {title!r}: thresholds start with None and rise from there")
    return {"mode": "absolute", "steps": [{"color": step.color, "value": step.value} for step in thresholds]}


def _links(links: Sequence[Link]) -> list[Json]:
    return [{"title": link.title, "url": link.url, "targetBlank": False} for link in links]


def _override(name: str, *properties: Json) -> Json:
    by_regex = len(name) > 1 and name.startswith("/") and name.endswith("/")
    matcher = {"id": "byRegexp" if by_regex else "byName", "options": name}
    return {"matcher": matcher, "properties": list(properties)}
