"""The content of each panel of a dashboard, from its JSON and Prometheus' results, as plain data that a page can draw.

Texts are unescaped here; the page escapes them. Times are unix milliseconds.
"""

from __future__ import annotations

import math
import re
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from servescope.grafana import colors, templating, units
from servescope.grafana.colors import CLASSIC_PALETTE
from servescope.grafana.templating import Interpolation
from servescope.json_types import Json
from servescope.report.model import View
from servescope.report.queries import Series, TargetAnswer, Window

MOST_SERIES = 60  # more are neither readable nor small; the panel says how many it omits


def view(
    panel: Mapping[str, Any],
    answers: Sequence[TargetAnswer],
    window: Window,
    *,
    scope: Interpolation,
    identity: str,
    failure: str = "",
) -> View:
    """Build what one panel shows; `failure` is why there are no answers."""
    place = panel["gridPos"]
    result = View(
        id=identity,
        kind=panel["type"],
        title=scope.title(panel["title"]),
        description=panel.get("description", ""),
        width=place["w"],
        height=place["h"],
        queries=[answer.expression for answer in answers],
    )
    if failure:
        result.empty = f"No answer: {failure}"
        return result
    if panel["type"] == "text":
        result.markdown = scope.title(panel["options"]["content"])
        return result
    elsewhere = sorted({target["datasource"]["type"] for target in panel.get("targets", [])} - {"prometheus"})
    if elsewhere:
        result.empty = f"In Grafana only: queries {' and '.join(elsewhere).title()}"
        return result
    build = _BUILDERS.get(panel["type"])
    if build is None:
        result.empty = f"Not supported here: panel type {panel['type']}"
        return result
    build(result, PanelData(panel=panel, answers=answers, window=window))
    if not (result.figure or result.items or result.cells):
        reason = panel.get("fieldConfig", {}).get("defaults", {}).get("noValue", "")
        result.empty = f"No data: {reason}" if reason else "No data"
    return result


# ---------------------------------------------------------------------------------------------------------------------
# Field configuration


def settings_of(panel: Mapping[str, Any], name: str) -> Json:
    """The field configuration of one series or column: the defaults with the overrides that match its name.

    Shape: as Grafana's `fieldConfig.defaults`, with `custom.x` as keys of its own.
    """
    config = panel.get("fieldConfig", {})
    defaults = dict(config.get("defaults", {}))
    result = {f"custom.{key}": value for key, value in defaults.pop("custom", {}).items()} | defaults
    for override in config.get("overrides", []):
        matcher = override["matcher"]
        if matcher["id"] == "byRegexp":
            matches = re.search(matcher["options"].strip("/"), name) is not None
        else:
            matches = matcher["options"] == name
        if matches:
            result |= {item["id"]: item.get("value") for item in override["properties"]}
    return result


def threshold_color(config: Mapping[str, Any], value: float) -> str:
    """The colour of the last step at or below the value."""
    chosen = ""
    for step in config.get("thresholds", {}).get("steps", []):
        if step["value"] is None or value >= step["value"]:
            chosen = step["color"]
    return colors.css(chosen)


def mapped(config: Mapping[str, Any], value: float) -> tuple[str, str] | None:
    """Text and colour of a value by the value mappings; None if none matches."""
    for mapping in config.get("mappings", []):
        if mapping["type"] == "value":
            found = mapping["options"].get(f"{value:g}")
            if found:
                return found.get("text", ""), colors.css(found.get("color", ""))
        if mapping["type"] == "range":
            options = mapping["options"]
            low, high = options.get("from"), options.get("to")
            if (low is None or value >= low) and (high is None or value <= high):
                return options["result"].get("text", ""), colors.css(options["result"].get("color", ""))
    return None


@dataclass(frozen=True)
class NamedSeries:
    """A series with its name and its field configuration."""

    name: str
    series: Series
    config: Json


@dataclass(frozen=True, kw_only=True)
class PanelData:
    """The input of a panel: its JSON, the results of its targets, and their window."""

    panel: Mapping[str, Any]
    answers: Sequence[TargetAnswer]
    window: Window

    def named(self) -> list[NamedSeries]:
        """Every series with a value, in the order of targets, named by its legend."""
        result = []
        for answer in self.answers:
            for series in sorted(answer.series, key=lambda series: sorted(series.labels.items())):
                if _figures(series):
                    name = templating.legend(answer.legend, series.labels, self.panel["title"])
                    result.append(NamedSeries(name, series, settings_of(self.panel, name)))
        return result


def _figures(series: Series) -> list[float]:
    return [value for _, value in series.points if not math.isnan(value)]


def last(series: Series) -> float:
    """The last value that is not NaN; there must be one."""
    return _figures(series)[-1]


def short(value: float) -> float | None:
    """A value for the page: four digits are more than a screen shows; JSON has no NaN."""
    if not math.isfinite(value):
        return None
    rounded = float(f"{value:.4g}")
    return int(rounded) if rounded == int(rounded) else rounded


def on_grid(series: Series, window: Window) -> list[float | None]:
    """The points on the window's steps, None where there is no value."""
    count = round((window.end - window.start) / window.step_s) + 1
    values: list[float | None] = [None] * count
    for at, value in series.points:
        index = round((at - window.start) / window.step_s)
        if 0 <= index < count:
            values[index] = short(value)
    return values


def _grid(window: Window) -> Json:
    count = round((window.end - window.start) / window.step_s) + 1
    return {"t0": round(window.start * 1000), "dt": round(window.step_s * 1000), "n": count}


# ---------------------------------------------------------------------------------------------------------------------
# Panel types


def _timeseries(result: View, data: PanelData) -> None:
    found = data.named()
    if not found:
        return
    if len(found) > MOST_SERIES:
        result.note = f"{MOST_SERIES} of {len(found)} series are shown, those with the highest values."
        found = sorted(found, key=lambda item: -max(_figures(item.series)))[:MOST_SERIES]
    defaults = settings_of(data.panel, "")
    unit = defaults.get("unit", "")
    bars = defaults.get("custom.drawStyle") == "bars"
    stacked = defaults.get("custom.stacking", {}).get("mode") == "normal"
    traces = []
    for index, item in enumerate(found):
        paint = item.config.get("color", {})
        tone = (
            colors.css(paint["fixedColor"])
            if paint.get("mode") == "fixed"
            else CLASSIC_PALETTE[index % len(CLASSIC_PALETTE)]
        )
        trace: Json = {"name": item.name, "color": tone, "y": on_grid(item.series, data.window)}
        if item.config.get("custom.lineStyle", {}).get("fill") == "dash":
            trace["dash"] = True
        if not bars and item.config.get("custom.fillOpacity"):
            trace["fill"] = item.config["custom.fillOpacity"] / 100
        traces.append(trace)
        figures = _figures(item.series)
        places = item.config.get("decimals")
        result.legend.append(
            {
                "name": item.name,
                "color": tone,
                "last": units.format_value(figures[-1], unit, places),
                "max": units.format_value(max(figures), unit, places),
                "trace": index,
                "highest": max(figures),
            }
        )
    sorting = data.panel["options"].get("legend", {})
    if sorting.get("sortBy") == "Max":
        result.legend.sort(key=lambda entry: entry["highest"], reverse=bool(sorting.get("sortDesc")))
    lines = []
    if defaults.get("custom.thresholdsStyle", {}).get("mode", "off") != "off":
        steps = defaults.get("thresholds", {}).get("steps", [])
        lines = [
            {"y": step["value"], "color": colors.css(step["color"])} for step in steps if step["value"] is not None
        ]
    low, high = _extent(traces, stacked)
    figure = {"type": "bars" if bars else "lines", "stacked": stacked, "unit": _hover(unit), "lines": lines}
    low = defaults["min"] if defaults.get("min") is not None else min(low, 0 if low >= 0 and low < high / 4 else low)
    top = defaults["max"] if defaults.get("max") is not None else high
    # A threshold far above the data would flatten them; a near one is worth the space.
    top = max([top, *(line["y"] for line in lines if line["y"] <= 2 * top)])
    figure["ticks"] = _ticks(low, top, unit, whole=bars)
    result.figure = figure | _grid(data.window) | {"traces": traces}


def _extent(traces: Sequence[Json], stacked: bool) -> tuple[float, float]:
    """Lowest and highest value; of the sums if stacked."""
    if stacked:
        sums = [sum(v for v in column if v is not None) for column in zip(*(t["y"] for t in traces), strict=True)]
        return min(sums), max(sums)
    values = [v for trace in traces for v in trace["y"] if v is not None]
    return (min(values), max(values)) if values else (0, 0)


def _ticks(low: float, high: float, unit: str, *, whole: bool = False) -> list[tuple[float, str]]:
    if high <= low:
        high = low + (1 if low == 0 else abs(low) / 2)
    if whole and low == 0:
        high = max(high, 4)  # counts of events are integers
    return units.ticks(low, high, unit)


def _hover(unit: str) -> Json:
    """How the page's script formats a value of this unit: d3 format and suffix."""
    known = units.unit_of(unit)
    return {"format": known.hover_format, "suffix": known.hover_suffix}


def _stat(result: View, data: PanelData) -> None:
    found = data.named()
    for item in found:
        value = last(item.series)
        text = mapped(item.config, value)
        spark = on_grid(item.series, data.window) if data.panel["options"].get("graphMode") == "area" else []
        result.items.append(
            {
                "name": item.name if len(found) > 1 else "",
                "value": text[0]
                if text
                else units.format_value(value, item.config.get("unit", ""), None, now=data.window.end),
                "color": (text and text[1]) or threshold_color(item.config, value),
                "spark": spark_path(spark),
            }
        )


def spark_path(values: Sequence[float | None], width: int = 100, height: int = 30) -> str:
    """The SVG path of a line without axes over a box; gaps stay gaps."""
    drawn = [value for value in values if value is not None]
    if len(drawn) < 2:
        return ""
    low, high = min(0, *drawn), max(drawn)
    spread = (high - low) or 1
    parts = []
    pen = "M"
    for index, value in enumerate(values):
        if value is None:
            pen = "M"
            continue
        x = index / (len(values) - 1) * width
        parts.append(f"{pen}{x:.1f} {height - (value - low) / spread * (height - 2) - 1:.1f}")
        pen = "L"
    return "".join(parts)


def _bargauge(result: View, data: PanelData) -> None:
    found = sorted(data.named(), key=lambda item: -last(item.series))
    if not found:
        return
    highest = max(last(item.series) for item in found)
    for item in found:
        value = last(item.series)
        low = item.config.get("min") or 0
        high = item.config["max"] if item.config.get("max") is not None else highest
        share = (value - low) / (high - low) if high > low else 0
        text = units.format_value(value, item.config.get("unit", ""))
        result.items.append(
            {
                "name": item.name,
                "value": text,
                "color": threshold_color(item.config, value),
                "share": round(100 * min(max(share, 0), 1), 1),
                "links": [
                    link | {"url": fill_value(link.get("url", ""), value, text, at=item.series.points[-1][0])}
                    for link in item.config.get("links") or []
                ],
                "labels": item.series.labels,
            }
        )


def _state_timeline(result: View, data: PanelData) -> None:
    found = data.named()
    if not found:
        return
    runs: list[list[Any]] = []
    seen: dict[str, str] = {}
    for row, item in enumerate(found):
        for start, end, value in runs_of(on_grid(item.series, data.window), data.window):
            text, tone = mapped(item.config, value) or (
                units.format_value(value, item.config.get("unit", "")),
                threshold_color(item.config, value),
            )
            seen[text] = tone
            runs.append([row, start, end, text, tone])
    result.figure = {
        "type": "states",
        "rows": [item.name for item in found],
        "runs": runs,
        "from": round(data.window.start * 1000),
        "to": round(data.window.end * 1000),
    }
    result.legend = [{"name": text, "color": tone, "last": "", "max": ""} for text, tone in seen.items()]


def runs_of(values: Sequence[float | None], window: Window) -> list[tuple[int, int, float]]:
    """Runs of equal values: start and end in unix milliseconds, value. A point lasts until the next step."""
    result: list[tuple[int, int, float]] = []
    for index, value in enumerate(values):
        if value is None:
            continue
        start = round((window.start + index * window.step_s) * 1000)
        end = min(start + round(window.step_s * 1000), round(window.end * 1000))
        if result and result[-1][2] == value and result[-1][1] == start:
            result[-1] = (result[-1][0], end, value)
        elif end > start:
            result.append((start, end, value))
    return result


def _heatmap(result: View, data: PanelData) -> None:
    by_bound = {
        float(series.labels["le"]): on_grid(series, data.window)
        for answer in data.answers
        for series in answer.series
        if "le" in series.labels
    }
    bounds = sorted(by_bound)
    if not bounds:
        return
    # Buckets are cumulative: a bucket's own count is the difference to the one below.
    rows: list[list[float | None]] = []
    below: list[float | None] = [0] * len(by_bound[bounds[0]])
    for bound in bounds:
        now = by_bound[bound]
        differences = [None if n is None else max(0, n - (b or 0)) for n, b in zip(now, below, strict=True)]
        rows.append([short(d) if d is not None and d > 1e-9 else None for d in differences])
        below = now
    used = [index for index, row in enumerate(rows) if any(row)]
    if not used:
        return
    first, final = max(0, used[0] - 1), min(len(rows) - 1, used[-1] + 1)
    unit = data.panel["options"]["yAxis"].get("unit", "")
    names = ["over" if bound == float("inf") else units.format_value(bound, unit) for bound in bounds]
    result.figure = {
        "type": "heatmap",
        "unit": _hover(data.panel["options"]["cellValues"]["unit"]),
        "names": names[first : final + 1],
        "z": rows[first : final + 1],
    } | _grid(data.window)


def _table(result: View, data: PanelData) -> None:
    records = merge(data.answers)
    names, records = organize(data.panel.get("transformations", []), records)
    for order in reversed(data.panel.get("options", {}).get("sortBy", [])):
        records = _sorted_by(order["displayName"], records, descending=order.get("desc", False))
    result.columns = names
    for record in records:
        line = []
        for name in names:
            config = settings_of(data.panel, name)
            value = record.get(name)
            cell = {"text": value if isinstance(value, str) else "", "number": False, "color": "", "links": []}
            if isinstance(value, (int, float)):
                text = mapped(config, value)
                unit = config.get("unit", "")
                cell["text"] = (
                    text[0] if text else units.format_value(value, unit, config.get("decimals"), now=data.window.end)
                )
                cell["number"] = True
                if "color" in str(config.get("custom.cellOptions", {}).get("type", "")):
                    cell["color"] = (text and text[1]) or threshold_color(config, value)
            cell["links"] = [
                link
                | {
                    "url": fill_value(link.get("url", ""), value, str(cell["text"]), at=data.window.end),
                    "fields": record,
                }
                for link in config.get("links") or []
            ]
            line.append(cell)
        result.cells.append(line)


def _sorted_by(
    key: str, records: Sequence[dict[str, str | float]], *, descending: bool
) -> list[dict[str, str | float]]:
    """Records by one column: NaN, which compares with nothing, and those without a figure come last either way."""
    missing = [record for record in records if record.get(key) is None]
    unknown = [record for record in records if _is_nan(record.get(key))]
    figures = [record for record in records if record.get(key) is not None and not _is_nan(record[key])]
    figures.sort(key=lambda record: (isinstance(record[key], str), record[key]), reverse=descending)
    return figures + unknown + missing


def _is_nan(value: str | float | None) -> bool:
    return isinstance(value, float) and math.isnan(value)


def merge(answers: Sequence[TargetAnswer]) -> list[dict[str, str | float]]:
    """Grafana's `merge` of table frames: one record for each set of matching labels, a value for each query.

    A record with fewer labels joins every record that matches it.
    """
    alone = len(answers) == 1
    records: list[dict[str, str | float]] = []
    for answer in answers:
        fresh: list[dict[str, str | float]] = []
        for series in answer.series:
            value = series.points[-1][1]
            labels: dict[str, str | float] = dict(series.labels)
            figure: dict[str, str | float] = {f"Value #{answer.ref}": value}
            if alone:  # Grafana then omits the letter
                figure["Value"] = value
            matching = [record for record in records if f"Value #{answer.ref}" not in record and _agree(record, labels)]
            for record in matching:
                record |= labels | figure
            if not matching:
                fresh.append(labels | figure)
        records += fresh
    return records


def _agree(record: Mapping[str, str | float], labels: Mapping[str, str | float]) -> bool:
    shared = [name for name in labels if name in record]
    return all(record[name] == labels[name] for name in shared) and bool(shared or not labels)


def organize(
    transformations: Sequence[Mapping[str, Any]], records: Sequence[dict[str, str | float]]
) -> tuple[list[str], list[dict[str, str | float]]]:
    """Grafana's `filterFieldsByName` and `organize`: selection, order and names of the fields."""
    names: list[str] = list(dict.fromkeys(name for record in records for name in record))
    titles: dict[str, str] = {}
    for step in transformations:
        options = step["options"]
        if step["id"] == "filterFieldsByName":
            wanted = options.get("include", {}).get("names")
            names = [name for name in names if wanted is None or name in wanted]
        elif step["id"] == "organize":
            names = [name for name in names if not options.get("excludeByName", {}).get(name)]
            order = options.get("indexByName", {})
            names.sort(key=lambda name: order.get(name, len(order)))
            titles |= {name: title for name, title in options.get("renameByName", {}).items() if title}
    shown = list(dict.fromkeys(titles.get(name, name) for name in names))
    result = []
    for record in records:
        line: dict[str, str | float] = {}
        for name in names:
            if name in record:
                line.setdefault(titles.get(name, name), record[name])
        result.append(line)
    return shown, result


def fill_link(url: str, fields: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    """A data link with fields and labels filled in; Grafana's own variables stay."""

    def filled(match: re.Match[str]) -> str:
        source = fields if match.group(1) == "data.fields" else labels
        return urllib.parse.quote(str(source.get(match.group(2), "")), safe="")

    return re.sub(r"\$\{__(data\.fields|field\.labels)\.(\w+)\}", filled, url)


def fill_value(url: str, value: str | float | None, text: str, *, at: float) -> str:
    """A data link with the value filled in on which it is: its figure, its text as shown, and its time (unix s)."""
    figure = value if isinstance(value, (int, float)) else math.nan
    filled = {
        "raw": value if isinstance(value, str) else "" if value is None else _as_javascript_writes_it(value),
        "numeric": _as_javascript_writes_it(figure),
        "text": text,
        "time": str(round(at * 1000)),
    }

    def of_value(match: re.Match[str]) -> str:
        return urllib.parse.quote(filled[match.group(1)], safe="")

    return re.sub(r"\$\{__value\.(raw|numeric|text|time)(?::\w+)?\}", of_value, url)


def _as_javascript_writes_it(figure: float) -> str:
    if math.isnan(figure):
        return "NaN"
    if math.isinf(figure):
        return "Infinity" if figure > 0 else "-Infinity"
    return str(int(figure)) if figure == int(figure) else str(figure)


_BUILDERS = {
    "timeseries": _timeseries,
    "stat": _stat,
    "bargauge": _bargauge,
    "state-timeline": _state_timeline,
    "heatmap": _heatmap,
    "table": _table,
}
