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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import grafanalib.core as gl
from grafanalib._gen import DashboardEncoder

from servescope.errors import ServescopeError
from servescope.settings import Settings

Json = dict[str, Any]

SCHEMA_VERSION = 42  # the last of Grafana's v1 schema; Grafana 10 to 13 read it
COLUMNS = 24

# The panel types that every Grafana from 10 to 13 has built in.
PANEL_TYPES = frozenset({"timeseries", "stat", "table", "state-timeline", "heatmap", "bargauge", "text", "row", "logs"})

# Grafana's unit ids that the bundle uses; a typing error would show as a bare number.
UNITS = frozenset(
    {
        "none",
        "short",
        "reqps",
        "ops",
        "ms",
        "s",
        "percent",
        "percentunit",
        "bytes",
        "decmbytes",
        "Bps",
        "celsius",
        "watt",
        "h",
        "dateTimeFromNow",
    }
)

PROMETHEUS: Json = {"type": "prometheus", "uid": "${datasource}"}
RATES = ("reqps", "ops", "Bps")
LOKI: Json = {"type": "loki", "uid": "${logs}"}
TEMPO: Json = {"type": "tempo", "uid": "${traces}"}


@dataclass(frozen=True)
class Palette:
    """Colours mean one thing each, on every dashboard."""

    failing: str = "red"
    at_risk: str = "orange"
    neutral: str = "blue"
    good: str = "green"
    growing: str = "dark-blue"  # these two are shades of neutral
    shrinking: str = "light-blue"
    muted: str = "#8e8e8e"
    other: str = "purple"


PALETTE = Palette()


@dataclass(frozen=True)
class Query:
    """One PromQL target: the expression, the legend format that names its series, and whether to ask for exemplars."""

    expr: str
    legend: str = ""
    instant: bool = False
    exemplar: bool = False


@dataclass(frozen=True)
class Threshold:
    """A colour from a value on; the first step of a list has no value (None) and holds below the others."""

    value: float | None
    color: str


@dataclass(frozen=True)
class Link:
    """A link from a series or a cell; the url may hold Grafana's variables."""

    title: str
    url: str


@dataclass(frozen=True)
class Column:
    """One column of a table: a label's name, or `Value #A` for the figure of the first query, and so on."""

    field: str
    title: str
    unit: str = ""
    decimals: int | None = None
    thresholds: tuple[Threshold, ...] = ()
    links: tuple[Link, ...] = ()


@dataclass(frozen=True)
class Panel:
    """A panel before it has a place: `model` is its JSON without `id` and `gridPos`.

    `absent` is "" or the reason why the panel may be empty on a plain machine; Grafana shows it while there is no data.
    `queries` are PromQL; a panel of logs has `log_queries` instead, LogQL for the Loki of the variable `logs`.
    """

    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    width: int
    height: int
    absent: str
    model: Json
    log_queries: tuple[Query, ...] = ()

    @property
    def type(self) -> str:
        """Grafana's panel type."""
        kind: str = self.model["type"]
        return kind


@dataclass(frozen=True)
class Row:
    """A titled row of panels; a collapsed one asks Prometheus nothing until somebody opens it."""

    title: str
    panels: tuple[Panel, ...]
    collapsed: bool = False


@dataclass(frozen=True)
class Variable:
    """A template variable as JSON."""

    name: str
    model: Json


@dataclass(frozen=True)
class Annotation:
    """A query whose series mark the graphs wherever they have a value."""

    name: str
    expr: str
    title: str
    text: str
    color: str


# ---------------------------------------------------------------------------------------------------------------------
# Panels


def query(expr: str, legend: str = "", *, instant: bool = False, exemplar: bool = False) -> Query:
    """A target."""
    return Query(expr, legend, instant, exemplar)


def row(title: str, panels: Sequence[Panel], *, collapsed: bool = False) -> Row:
    """A row."""
    return Row(title, tuple(panels), collapsed)


def timeseries(
    title: str,
    description: str,
    unit: str,
    queries: Sequence[Query],
    *,
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
    defaults = _defaults(unit, thresholds, links, absent, color="palette-classic") | {"custom": custom}
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
    return _panel(frame, title, description, unit, queries, width, height, absent, options, defaults, overrides)


def stat(
    title: str,
    description: str,
    unit: str,
    queries: Sequence[Query],
    *,
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
    defaults = _defaults(unit, thresholds, links, absent, color="thresholds")
    frame = gl.Stat(title=title, dataSource=PROMETHEUS, format=unit)
    return _panel(frame, title, description, unit, queries, width, height, absent, options, defaults, [])


def bar_gauge(
    title: str,
    description: str,
    unit: str,
    queries: Sequence[Query],
    *,
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
    defaults = _defaults(unit, thresholds, links, absent, color="thresholds")
    defaults |= {key: value for key, value in (("min", min), ("max", max)) if value is not None}
    frame = gl.BarGauge(title=title, dataSource=PROMETHEUS, format=unit)
    return _panel(frame, title, description, unit, queries, width, height, absent, options, defaults, [])


def table(
    title: str,
    description: str,
    queries: Sequence[Query],
    columns: Sequence[Column],
    *,
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
    defaults = _defaults("none", (), (), absent, color="thresholds")
    defaults["custom"] = {"align": "auto", "cellOptions": {"type": "auto"}, "filterable": False, "inspect": False}
    frame = gl.Table(title=title, dataSource=PROMETHEUS, transformations=transformations)
    instant = [Query(q.expr, q.legend, instant=True) for q in queries]
    return _panel(frame, title, description, "none", instant, width, height, absent, options, defaults, overrides)


def _both_names(column: Column) -> tuple[Column, ...]:
    return (column, replace(column, field="Value")) if column.field == "Value #A" else (column,)


def state_timeline(
    title: str,
    description: str,
    queries: Sequence[Query],
    states: Mapping[int, tuple[str, str]],
    *,
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
    defaults = _defaults("none", (), links, absent, color="thresholds")
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
    return _panel(frame, title, description, "none", queries, width, height, absent, options, defaults, [])


def heatmap(
    title: str, description: str, unit: str, target: Query, *, width: int = 12, height: int = 8, absent: str = ""
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
    targets = [Query(target.expr, "{{le}}", target.instant)]
    return _panel(
        frame, title, description, unit, targets, width, height, absent, options, defaults, [], form="heatmap"
    )


def text(title: str, markdown: str, *, width: int = 24, height: int = 3) -> Panel:
    """A few words in Markdown."""
    frame = gl.Text(title=title, content=markdown)
    options = {"code": {"language": "plaintext"}, "content": markdown, "mode": "markdown"}
    return _panel(frame, title, "", "", [], width, height, "", options, {}, [])


def logs(title: str, description: str, expr: str, *, width: int = 24, height: int = 12) -> Panel:
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
    return _log_panel(frame, title, description, "none", [Query(expr)], width, height, options, {}, [])


def log_timeseries(
    title: str,
    description: str,
    queries: Sequence[Query],
    *,
    width: int = 12,
    height: int = 8,
    colors: Mapping[str, str] | None = None,
) -> Panel:
    """Bars of lines counted by Loki, in each interval of the graph."""
    bars = timeseries(title, description, "short", queries, width=width, height=height, bars=True, colors=colors)
    return _from_loki(bars)


def log_table(
    title: str,
    description: str,
    queries: Sequence[Query],
    columns: Sequence[Column],
    *,
    sort_by: str,
    width: int = 12,
    height: int = 8,
) -> Panel:
    """A table as `table` makes it, of figures that Loki counts."""
    return _from_loki(table(title, description, queries, columns, sort_by=sort_by, width=width, height=height))


def log_lines_table(
    title: str, description: str, expr: str, columns: Sequence[Column], *, width: int = 24, height: int = 10
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
    defaults = _defaults("none", (), (), "", color="thresholds")
    defaults["custom"] = {"align": "auto", "cellOptions": {"type": "auto"}, "filterable": True, "inspect": True}
    frame = gl.Table(title=title, dataSource=LOKI, transformations=transformations)
    return _log_panel(frame, title, description, "none", [Query(expr)], width, height, options, defaults, overrides)


def _log_panel(
    frame: gl.Panel,
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
    panel = _panel(frame, title, description, unit, queries, width, height, "", options, defaults, overrides)
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
    title: str, description: str, traceql: str, *, limit: int = 20, width: int = 8, height: int = 9
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
    defaults = _defaults("none", (), (), "", color="thresholds")
    frame = gl.Table(title=title, dataSource=TEMPO)
    panel = _panel(frame, title, description, "none", [Query(traceql)], width, height, "", options, defaults, overrides)
    return replace(panel, queries=(), model=panel.model | {"datasource": TEMPO, "targets": [target]})


# What of grafanalib's frame Grafana still reads; the rest is legacy or null.
_FRAME_KEYS = ("title", "type", "datasource", "transformations")


def _panel(
    frame: gl.Panel,
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
    return Panel(title, description, unit, tuple(queries), width, height, absent, model)


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
        raise ServescopeError(f"panel {title!r}: {unit!r} is not one of the units {', '.join(sorted(UNITS))}")


def _defaults(unit: str, thresholds: Sequence[Threshold], links: Sequence[Link], absent: str, *, color: str) -> Json:
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


# ---------------------------------------------------------------------------------------------------------------------
# Variables and annotations

_VARIABLE_KEYS = ("allValue", "current", "datasource", "hide", "includeAll", "label", "multi", "name", "options")


def datasource_variable() -> Variable:
    """The choice of a Prometheus, so that the file works in any Grafana."""
    return _source_variable("datasource", "prometheus", "Data source")


def _source_variable(name: str, kind: str, title: str) -> Variable:
    template = gl.Template(name=name, type="datasource", query=kind, label=title)
    model = _variable_frame(template)
    del model["datasource"], model["allValue"]
    return Variable(name, model | {"current": {}, "query": kind, "refresh": 1, "regex": ""})


def logs_variable() -> Variable:
    """The choice of a Loki; the rows of logs ask it when they are opened."""
    return _source_variable("logs", "loki", "Logs")


def traces_variable() -> Variable:
    """The choice of a Tempo, for the rows of traces and links to them."""
    return _source_variable("traces", "tempo", "Traces")


def text_variable(name: str, title: str) -> Variable:
    """A box to type into, empty at first."""
    model = _variable_frame(gl.Template(name=name, type="textbox", query="", label=title))
    for key in ("datasource", "allValue", "includeAll", "multi"):
        del model[key]
    empty = {"selected": True, "text": "", "value": ""}
    return Variable(name, model | {"current": empty, "options": [empty], "query": ""})


def label_variable(name: str, title: str, label_values: str, *, all_value: str) -> Variable:
    """A choice among the values of a label; All, the default, is a regular expression. Refreshed with the range."""
    template = gl.Template(
        name=name,
        query=label_values,
        label=title,
        dataSource=PROMETHEUS,
        includeAll=True,
        multi=True,
        allValue=all_value,
    )
    return Variable(
        name,
        _variable_frame(template)
        | {
            "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
            "definition": label_values,
            "query": {"qryType": 1, "query": label_values, "refId": "PrometheusVariableQueryEditor-VariableQuery"},
            "refresh": 2,
            "regex": "",
            "sort": 1,
        },
    )


def _variable_frame(template: gl.Template) -> Json:
    data = json.loads(json.dumps(template.to_json_data(), cls=DashboardEncoder))
    return {key: data[key] for key in _VARIABLE_KEYS} | {"type": data["type"], "skipUrlSync": False}


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
                "expr": annotation.expr,
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


@dataclass(frozen=True)
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
    return Dashboard(uid, title, description, tuple(rows), tuple(variables), tuple(annotations), settings)


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
            placed.append(panel.model | {"gridPos": place, "id": next_id})
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
