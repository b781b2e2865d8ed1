"""The parts of a panel's JSON that all kinds share, in the form that Grafana 10 to 13 reads.

grafanalib gives each panel and variable its frame. What Grafana has learnt since version 9 (data links, thresholds with
a true null, float limits, the heatmap's and the table's new model) is laid over it; what Grafana has since dropped is
left out.
"""

from __future__ import annotations

import json
import string
from collections.abc import Mapping, Sequence
from typing import Any

import grafanalib.core as gl

from servescope.errors import ServescopeError
from servescope.grafana.colors import PALETTE
from servescope.grafana.model import COLUMNS, PANEL_TYPES, PROMETHEUS, Column, Link, Panel, Query, Threshold
from servescope.grafana.units import UNITS
from servescope.json_types import Json

# What of grafanalib's frame Grafana still reads; the rest is legacy or null.
_FRAME_KEYS = ("title", "type", "datasource", "transformations")

NOT_HIDDEN: Json = {"legend": False, "tooltip": False, "viz": False}
NO_LEGEND: Json = {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": False}
LAST_VALUE: Json = {"calcs": ["lastNotNull"], "fields": "", "values": False}
CURRENT_VALUE: Json = {"calcs": ["last"], "fields": "", "values": False}

# The version whose form the panels have. Grafana takes a panel without one for 6.1 and migrates it: a ratio's axis
# would then run from 0 to 100 %.
PLUGIN_VERSION = "10.0.0"

# The narrowest that Grafana makes a column, in pixels; its own 150 hides the last figures of a table.
_FIGURE_WIDTH = 70
NAME_WIDTH = 105

# Stands for NaN on a store that leaves NaN out of its answers, as VictoriaMetrics does: below every figure, and flat in
# a sparkline.
NOTHING = -1e-9


def plain(element: Any) -> Json:
    """An element of grafanalib, and what it holds, as plain data."""
    data: Json = json.loads(json.dumps(element.to_json_data(), default=lambda inner: inner.to_json_data()))
    return data


def panel(
    kind: type[gl.Panel],
    *,
    title: str,
    key: str,
    description: str,
    unit: str,
    queries: Sequence[Query],
    width: int,
    height: int,
    absent: str = "",
    options: Json,
    defaults: Json,
    overrides: Sequence[Json] = (),
    transformations: Sequence[Json] = (),
    query_format: str = "time_series",
) -> Panel:
    """A panel of one of grafanalib's kinds that asks Prometheus.

    `key` is "" for a panel that has kept its first title (model.Panel). `options`, `defaults` and `overrides` are
    Grafana's `options`, `fieldConfig.defaults` and `fieldConfig.overrides`.

    Raises:
        ServescopeError: it lacks a title, a description or a query, its unit or type is unknown, or it fits no grid.
    """
    source = PROMETHEUS if queries else None
    frame = plain(kind(title=title, dataSource=source, transformations=list(transformations)))
    model = {key: frame[key] for key in _FRAME_KEYS if frame.get(key)}
    if model["type"] not in PANEL_TYPES:
        raise ServescopeError(f"panel {title!r}: type {model['type']!r} is not in the allow-list")
    if not title:
        raise ServescopeError("a panel without a title")
    if model["type"] != "text":
        if not description:
            raise ServescopeError(f"panel {title!r}: no description; say how to read it and what is normal")
        if not queries:
            raise ServescopeError(f"panel {title!r}: no query")
        check_unit(title, unit)
    if not 1 <= width <= COLUMNS or height < 1:
        raise ServescopeError(f"panel {title!r}: {width} x {height} does not fit a grid of {COLUMNS} columns")
    if absent:
        description = f"{description} No data without: {absent}."
    model |= {
        "description": description,
        "options": options,
        "fieldConfig": {"defaults": defaults, "overrides": list(overrides)},
        "pluginVersion": PLUGIN_VERSION,
        "targets": [_target(query, ref_id(index), query_format) for index, query in enumerate(queries)],
    }
    return Panel(
        title=title,
        key=key or title,
        description=description,
        unit=unit,
        queries=tuple(queries),
        width=width,
        height=height,
        absent=absent,
        model=model,
    )


def _target(query: Query, ref: str, query_format: str) -> Json:
    return {
        "datasource": PROMETHEUS,
        "editorMode": "code",
        **({"exemplar": True} if query.exemplar else {}),
        "expr": query.expr,
        "format": query_format,
        "instant": query.instant,
        "legendFormat": query.legend or "__auto",
        "range": not query.instant,
        "refId": ref,
    }


def ref_id(index: int) -> str:
    """Grafana's letters for the targets of a panel: A to Z, then AA and so on."""
    letters = string.ascii_uppercase
    return letters[index] if index < 26 else letters[index // 26 - 1] + letters[index % 26]


def check_unit(title: str, unit: str) -> None:
    """Refuse a unit that is not in the table: a typing error would show as a number without unit."""
    if unit not in UNITS:
        raise ServescopeError(f"panel {title!r}: {unit!r} is not one of the units {', '.join(sorted(UNITS))}")


# ---------------------------------------------------------------------------------------------------------------------
# Field configuration


def field_defaults(
    title: str,
    unit: str = "none",
    *,
    color_mode: str = "thresholds",
    thresholds: Sequence[Threshold] = (),
    links: Sequence[Link] = (),
    absent: str = "",
    custom: Json | None = None,
    mappings: Sequence[Json] = (),
) -> Json:
    """`fieldConfig.defaults` of a panel; `custom` holds the options of its kind."""
    steps = thresholds or (Threshold(None, PALETTE.neutral),)
    return {
        "color": {"mode": color_mode},
        "links": links_json(links),
        "mappings": list(mappings),
        "thresholds": thresholds_json(title, steps),
        "unit": unit,
        **no_value(absent),
        **({"custom": custom} if custom else {}),
    }


def nothing(text: str) -> Json:
    """The mapping of what is no figure, null or NaN, to a word in grey."""
    result = {"color": PALETTE.muted, "index": 0, "text": text}
    return {"options": {"match": "null+nan", "result": result}, "type": "special"}


def instead_of_nothing(text: str) -> Json:
    """The same of NOTHING; a range, because a figure is compared with a text else."""
    result = {"color": PALETTE.muted, "index": 1, "text": text}
    return {"options": {"from": 2 * NOTHING, "to": NOTHING / 2, "result": result}, "type": "range"}


def states_json(states: Mapping[str, tuple[str, str]]) -> Json:
    """The mapping of values to their texts and colours."""
    options = {
        value: {"color": color, "index": index, "text": name}
        for index, (value, (name, color)) in enumerate(states.items())
    }
    return {"options": options, "type": "value"}


def no_value(absent: str) -> Json:
    """What Grafana writes while there is no data, where a panel has a reason for that."""
    return {"noValue": f"needs {absent}"} if absent else {}


def thresholds_json(title: str, thresholds: Sequence[Threshold]) -> Json:
    """Thresholds at absolute values.

    Raises:
        ServescopeError: the first has a value, or a later one does not rise.
    """
    values = [step.value for step in thresholds]
    rising = [value for value in values[1:] if value is not None]
    if values[0] is not None or len(rising) != len(values) - 1 or rising != sorted(rising):
        raise ServescopeError(f"panel {title!r}: thresholds start with None and rise from there")
    return {"mode": "absolute", "steps": [{"color": step.color, "value": step.value} for step in thresholds]}


def links_json(links: Sequence[Link]) -> list[Json]:
    """Data links, which open in the same tab."""
    return [{"title": link.title, "url": link.url, "targetBlank": False} for link in links]


def override(name: str, *properties: Json) -> Json:
    """What holds for the series or column of this name, or of a name that fits `/regex/`."""
    by_regex = len(name) > 1 and name.startswith("/") and name.endswith("/")
    matcher = {"id": "byRegexp" if by_regex else "byName", "options": name}
    return {"matcher": matcher, "properties": list(properties)}


def only_columns(columns: Sequence[Column]) -> list[Json]:
    """The transformations that show these columns of a table, in this order, under their titles, and no others."""
    return [
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


def table_options(sort_by: str, *, descending: bool = True) -> Json:
    """Options of a table that is sorted by the column of this title, largest first."""
    return {"cellHeight": "sm", "showHeader": True, "sortBy": [{"desc": descending, "displayName": sort_by}]}


def table_cells(*, filterable: bool) -> Json:
    """How a table's cells look, and whether a reader can filter and inspect them."""
    return {
        "align": "auto",
        "cellOptions": {"type": "auto"},
        "filterable": filterable,
        "inspect": filterable,
        "minWidth": _FIGURE_WIDTH,
    }
