"""Panels that ask Prometheus, and rows to put them in.

Dashboards call this module, `log_panels` and `trace_panels`, and never grafanalib.

A panel's id is made of its title, so that links to it (`viewPanel=<id>` in alerts, runbooks and bookmarks) survive
panels that are inserted before it. To change a title, keep the first one as the key, and the links continue to work:

    panels.stat("Requests per second", key="Requests", description=...)

    layout.dashboard(
        uid="servescope-example", title="Example", description="What is asked?", settings=settings,
        variables=[variables.datasource_variable()],
        rows=[panels.row("Now", [
            panels.timeseries(
                "Requests", description="Requests answered per second.", unit="reqps",
                queries=[panels.query("sum(rate(ray_serve_num_http_requests_total[$__rate_interval]))", "all")],
            ),
        ])],
    ).dumps()
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import grafanalib.core as gl

from servescope.errors import ServescopeError
from servescope.grafana import panel_json
from servescope.grafana.colors import PALETTE
from servescope.grafana.model import RATES, Column, Link, Panel, Query, Row, Threshold
from servescope.grafana.panel_json import CURRENT_VALUE, LAST_VALUE, NO_LEGEND, NOT_HIDDEN
from servescope.json_types import Json


def query(expr: str, legend: str = "", *, instant: bool = False, exemplar: bool = False) -> Query:
    """A target."""
    return Query(expr, legend, instant=instant, exemplar=exemplar)


def row(title: str, panels: Sequence[Panel], *, key: str = "", collapsed: bool = False) -> Row:
    """A row. One with a new title keeps its first title as `key`, as panels do."""
    return Row(title=title, key=key or title, panels=tuple(panels), collapsed=collapsed)


def timeseries(
    title: str,
    *,
    key: str = "",
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
        "hideFrom": NOT_HIDDEN,
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
    defaults = panel_json.field_defaults(
        title,
        unit,
        # A name has one colour on every panel; by their order, the fifth of a list would have the red of failures.
        color_mode="palette-classic-by-name",
        thresholds=thresholds,
        links=links,
        absent=absent,
        custom=custom,
    )
    # A rate that does not start at zero makes a ripple look like a fall.
    if min is not None or bars or stack or unit in RATES:
        defaults["min"] = 0 if min is None else min
    if max is not None:
        defaults["max"] = max
    overrides = [
        panel_json.override(name, {"id": "color", "value": {"fixedColor": color, "mode": "fixed"}})
        for name, color in (colors or {}).items()
    ] + [
        panel_json.override(
            name,
            {"id": "custom.lineStyle", "value": {"dash": [8, 6], "fill": "dash"}},
            {"id": "custom.fillOpacity", "value": 0},
        )
        for name in dashed
    ]
    options = {
        # A legend of many series scrolls: the important ones are on top.
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
    return panel_json.panel(
        gl.TimeSeries,
        title=title,
        key=key,
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
    key: str = "",
    description: str,
    unit: str,
    queries: Sequence[Query],
    width: int = 4,
    height: int = 4,
    min: float | None = None,
    max: float | None = None,
    thresholds: Sequence[Threshold] = (),
    links: Sequence[Link] = (),
    absent: str = "",
) -> Panel:
    """The current value, over a line of its history; "no data" once the data stop. Its queries keep no labels."""
    options = {
        "colorMode": "value",
        "graphMode": "area",
        "justifyMode": "auto",
        "orientation": "auto",
        "percentChangeColorMode": "standard",
        "reduceOptions": CURRENT_VALUE,
        "showPercentChange": False,
        "textMode": "auto",
        "wideLayout": True,
    }
    word = f"needs {absent}" if absent else "no data"
    nothing = [panel_json.nothing(word), panel_json.instead_of_nothing(word)]
    defaults = panel_json.field_defaults(
        title, unit, thresholds=thresholds, links=links, absent=absent, mappings=nothing
    )
    defaults |= {key: value for key, value in (("min", min), ("max", max)) if value is not None}
    return panel_json.panel(
        gl.Stat,
        title=title,
        key=key,
        description=description,
        unit=unit,
        queries=[replace(query, expr=current(query.expr)) for query in queries],
        width=width,
        height=height,
        absent=absent,
        options=options,
        defaults=defaults,
    )


def current(expr: str) -> str:
    """A figure as it is now, NaN where there is none, and `panel_json.NOTHING` on a store that answers no NaN.

    An answer without a last point would let Grafana show the last one for the whole range. Samples of the last minute
    that are still on their way (remote write) are not missed: the window is at least four scrapes.
    """
    last = f"last_over_time(({expr})[$__rate_interval:$__interval])"
    return f"{last} or vector(NaN) or vector({panel_json.NOTHING:g})"


def bar_gauge(
    title: str,
    *,
    key: str = "",
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
        "legend": NO_LEGEND,
        "maxVizHeight": 300,
        "minVizHeight": 16,
        "minVizWidth": 8,
        "namePlacement": "auto",
        "orientation": "horizontal",
        "reduceOptions": LAST_VALUE,
        "showUnfilled": True,
        "sizing": "auto",
        "valueMode": "color",
    }
    defaults = panel_json.field_defaults(
        title, unit, thresholds=thresholds, links=links, absent=absent, mappings=[panel_json.nothing("no data")]
    )
    defaults |= {key: value for key, value in (("min", min), ("max", max)) if value is not None}
    return panel_json.panel(
        gl.BarGauge,
        title=title,
        key=key,
        description=description,
        unit=unit,
        queries=queries,
        width=width,
        height=height,
        absent=absent,
        options=options,
        defaults=defaults,
    )


def table(
    title: str,
    *,
    key: str = "",
    description: str,
    queries: Sequence[Query],
    columns: Sequence[Column],
    sort_by: str,
    descending: bool = True,
    width: int = 12,
    height: int = 8,
    absent: str = "",
) -> Panel:
    """A line for each set of labels, a column for each query, the rest hidden; sorted by a column, largest first."""
    if sort_by not in {column.title for column in columns}:
        raise ServescopeError(f"panel {title!r}: sort_by names no column: {sort_by!r}")
    sorted_by = {column.field.removeprefix("Value #") for column in columns if column.title == sort_by}
    if len(queries) == 1:
        # Grafana leaves the letter away where there is one query: both names, so that neither version loses the column.
        columns = [named for column in columns for named in _both_names(column)]
    return panel_json.panel(
        gl.Table,
        title=title,
        key=key,
        description=description,
        unit="none",
        queries=[
            replace(query, expr=_comparable(query.expr) if ref in sorted_by else query.expr, instant=True)
            for ref, query in ((panel_json.ref_id(index), query) for index, query in enumerate(queries))
        ],
        width=width,
        height=height,
        absent=absent,
        options=panel_json.table_options(sort_by, descending=descending),
        defaults=panel_json.field_defaults(
            title,
            absent=absent,
            custom=panel_json.table_cells(filterable=False),
            # Else Grafana writes the reason for an empty table into each empty cell.
            mappings=[panel_json.nothing("-")],
        ),
        overrides=_column_overrides(title, columns),
        transformations=[{"id": "merge", "options": {}}, *panel_json.only_columns(columns)],
        query_format="table",
    )


def _comparable(expr: str) -> str:
    """Without NaN, by which Grafana 13 cannot sort: it compares as false with every figure."""
    return f"({expr}) > -Inf"


def _column_overrides(title: str, columns: Sequence[Column]) -> list[Json]:
    overrides = []
    for column in columns:
        if column.unit:
            panel_json.check_unit(title, column.unit)
        properties: list[Json] = []
        if column.unit:
            properties.append({"id": "unit", "value": column.unit})
        if column.decimals is not None:
            properties.append({"id": "decimals", "value": column.decimals})
        if column.thresholds:
            properties.append({"id": "thresholds", "value": panel_json.thresholds_json(title, column.thresholds)})
            properties.append({"id": "custom.cellOptions", "value": {"type": "color-text"}})
        if column.states:
            states = {value: (text, color) for value, text, color in column.states}
            mappings = [panel_json.states_json(states), panel_json.nothing("-")]
            properties.append({"id": "mappings", "value": mappings})
            properties.append({"id": "custom.cellOptions", "value": {"type": "color-text"}})
        if not column.field.startswith("Value") and not column.states:
            properties.append({"id": "custom.minWidth", "value": panel_json.NAME_WIDTH})
        if column.links:
            properties.append({"id": "links", "value": panel_json.links_json(column.links)})
        if properties and column.field != "Value":
            overrides.append(panel_json.override(column.title, *properties))
    return overrides


def _both_names(column: Column) -> tuple[Column, ...]:
    return (column, replace(column, field="Value")) if column.field == "Value #A" else (column,)


def state_timeline(
    title: str,
    *,
    key: str = "",
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
        "legend": NO_LEGEND,
        "mergeValues": True,
        "perPage": 20,
        "rowHeight": 0.8,
        "showValue": "auto",
        "tooltip": {"mode": "single", "sort": "none"},
    }
    custom = {"fillOpacity": 75, "hideFrom": NOT_HIDDEN, "lineWidth": 0}
    mapping = panel_json.states_json({str(value): state for value, state in states.items()})
    defaults = panel_json.field_defaults(title, links=links, absent=absent, custom=custom, mappings=[mapping])
    # In the mode "thresholds" Grafana merges the bands by threshold and ignores the names of the states.
    defaults["color"] = {"fixedColor": PALETTE.neutral, "mode": "fixed"}
    return panel_json.panel(
        gl.StateTimeline,
        title=title,
        key=key,
        description=description,
        unit="none",
        queries=queries,
        width=width,
        height=height,
        absent=absent,
        options=options,
        defaults=defaults,
    )


def heatmap(
    title: str,
    *,
    key: str = "",
    description: str,
    unit: str,
    target: Query,
    width: int = 12,
    height: int = 8,
    absent: str = "",
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
    panel_json.check_unit(title, unit)
    custom = {"hideFrom": NOT_HIDDEN, "scaleDistribution": {"type": "linear"}}
    return panel_json.panel(
        gl.Heatmap,
        title=title,
        key=key,
        description=description,
        unit=unit,
        queries=[Query(target.expr, "{{le}}", instant=target.instant)],
        width=width,
        height=height,
        absent=absent,
        options=options,
        defaults={"custom": custom, **panel_json.no_value(absent)},
        query_format="heatmap",
    )


def text(title: str, *, key: str = "", markdown: str, width: int = 24, height: int = 3) -> Panel:
    """A few words in Markdown."""
    options = {"code": {"language": "plaintext"}, "content": markdown, "mode": "markdown"}
    return panel_json.panel(
        gl.Text,
        title=title,
        key=key,
        description="",
        unit="",
        queries=[],
        width=width,
        height=height,
        options=options,
        defaults={},
    )
