"""Panels that ask the Loki of the variable `logs`: lines, and figures counted from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import grafanalib.core as gl

from servescope.grafana import panel_json, panels
from servescope.grafana.model import LOKI, Column, Panel, Query


def logs(title: str, *, key: str = "", description: str, expr: str, width: int = 24, height: int = 12) -> Panel:
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
    panel = panel_json.panel(
        gl.Logs,
        title=title,
        key=key,
        description=description,
        unit="none",
        queries=[Query(expr)],
        width=width,
        height=height,
        options=options,
        defaults={},
    )
    return _from_loki(panel)


def log_timeseries(
    title: str,
    *,
    key: str = "",
    description: str,
    queries: Sequence[Query],
    width: int = 12,
    height: int = 8,
    colors: Mapping[str, str] | None = None,
) -> Panel:
    """Bars of lines counted by Loki, in each interval of the graph."""
    bars = panels.timeseries(
        title,
        key=key,
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
    key: str = "",
    description: str,
    queries: Sequence[Query],
    columns: Sequence[Column],
    sort_by: str,
    width: int = 12,
    height: int = 8,
) -> Panel:
    """A table as `panels.table` makes it, of figures that Loki counts."""
    table = panels.table(
        title,
        key=key,
        description=description,
        queries=queries,
        columns=columns,
        sort_by=sort_by,
        width=width,
        height=height,
    )
    # As they are written: LogQL has no NaN, and no word for infinity by which panels.table keeps NaN out.
    return _from_loki(replace(table, queries=tuple(replace(query, instant=True) for query in queries)))


def log_lines_table(
    title: str,
    *,
    key: str = "",
    description: str,
    expr: str,
    columns: Sequence[Column],
    width: int = 24,
    height: int = 10,
) -> Panel:
    """Lines of Loki as a table, one column for each label or field named; its cells can carry links."""
    fields = {"id": "extractFields", "options": {"format": "json", "replace": False, "source": "labels"}}
    links = [(column.title, panel_json.links_json(column.links)) for column in columns if column.links]
    panel = panel_json.panel(
        gl.Table,
        title=title,
        key=key,
        description=description,
        unit="none",
        queries=[Query(expr)],
        width=width,
        height=height,
        options=panel_json.table_options(columns[0].title),
        defaults=panel_json.field_defaults(title, custom=panel_json.table_cells(filterable=True)),
        overrides=[panel_json.override(name, {"id": "links", "value": links_of}) for name, links_of in links],
        transformations=[fields, *panel_json.only_columns(columns)],
    )
    return _from_loki(panel)


def _from_loki(panel: Panel) -> Panel:
    """The same panel with its queries asked of Loki."""
    targets = [
        {
            "datasource": LOKI,
            "editorMode": "code",
            "expr": query.expr,
            "legendFormat": query.legend,
            "queryType": "instant" if query.instant else "range",
            "refId": panel_json.ref_id(index),
        }
        for index, query in enumerate(panel.queries)
    ]
    model = panel.model | {"datasource": LOKI, "targets": targets}
    return replace(panel, queries=(), log_queries=panel.queries, model=model)
