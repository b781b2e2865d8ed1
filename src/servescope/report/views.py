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
from servescope.report.collected import Answer
from servescope.report.display import displayed, is_nan, settings_of, threshold_color
from servescope.report.model import View
from servescope.report.queries import Series, TargetAnswer, Window

MOST_SERIES = 60  # more are neither readable nor small; the panel says how many it omits


def asks_elsewhere(panel: Mapping[str, Any]) -> bool:
    """Whether a panel asks a store of logs or traces."""
    return any(target["datasource"]["type"] != "prometheus" for target in panel.get("targets", []))


def view(
    panel: Mapping[str, Any],
    answers: Sequence[TargetAnswer],
    window: Window,
    *,
    scope: Interpolation,
    identity: str,
    failure: str = "",
    found: Answer | None = None,
    lacking: str = "",
) -> View:
    """Build what one panel shows; `failure` is why there are no answers.

    A panel of logs or traces shows what was `found` in files, or what is `lacking` for that.
    """
    place = panel["gridPos"]
    result = View(
        id=identity,
        number=panel.get("id", 0),
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
    if panel["type"] == "alertlist":
        result.empty = "Alerts that Grafana itself evaluates; this page is made without Grafana"
        return result
    if asks_elsewhere(panel):
        if found is None:
            result.empty = f"Not here: {lacking or 'this query'}"
            return result
        result.queries, result.note = [], found.note
        if not any(answer.series for answer in found.series):
            result.lines, result.columns, result.cells = found.lines, found.columns, found.cells
            if not (found.lines or found.cells):
                result.empty = "None in this time range"
            return result
        answers = found.series
    build = _BUILDERS.get(panel["type"])
    if build is None:
        result.empty = f"Not supported here: panel type {panel['type']}"
        return result
    build(result, PanelData(panel=panel, answers=answers, window=window))
    if not (result.figure or result.items or result.cells or result.empty):
        reason = panel.get("fieldConfig", {}).get("defaults", {}).get("noValue", "")
        result.empty = f"No data: {reason}" if reason else "No data"
    return result


# ---------------------------------------------------------------------------------------------------------------------
# Field configuration


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
        return [item for item in self.all() if _figures(item.series)]

    def all(self) -> list[NamedSeries]:
        """Every series, also of NaN: those of a range by their labels, those of a moment as Prometheus sorted them."""
        result = []
        for answer in self.answers:
            series_of = answer.series
            if any(len(series.points) > 1 for series in series_of):
                series_of = sorted(series_of, key=lambda series: sorted(series.labels.items()))
            for series in series_of:
                if series.points:
                    # Grafana takes the field's name where the legend is empty.
                    name = templating.legend(answer.legend, series.labels, self.panel["title"]) or "Value"
                    result.append(NamedSeries(name, series, settings_of(self.panel, name)))
        return result


def _figures(series: Series) -> list[float]:
    return [value for _, value in series.points if not math.isnan(value)]


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
            else palette_color(item.name, index, by_name=str(paint.get("mode", "")).endswith("by-name"))
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


def palette_color(name: str, index: int, *, by_name: bool) -> str:
    """The colour of a series that has none of its own: by its place, or the same for a name on every panel."""
    if by_name:
        index = 0
        for character in name:
            index = (31 * index + ord(character)) & 0xFFFFFFFF
    return CLASSIC_PALETTE[index % len(CLASSIC_PALETTE)]


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


def reduced(config_of_panel: Mapping[str, Any], series: Series) -> float | None:
    """The figure of a stat or a bar: its last one, or the last that is a number, as the panel says."""
    calcs = config_of_panel.get("reduceOptions", {}).get("calcs") or ["lastNotNull"]
    if calcs[0] == "last":
        return series.points[-1][1]
    figures = _figures(series)
    return figures[-1] if figures else None


def _without_figures(data: PanelData) -> str:
    """What a stat or a bar gauge without any series says."""
    text, _ = displayed(settings_of(data.panel, ""), None, now=data.window.end)
    return text or "No data"


def _stat(result: View, data: PanelData) -> None:
    found = data.all()
    for item in found:
        text, tone = displayed(item.config, reduced(data.panel["options"], item.series), now=data.window.end)
        spark = on_grid(item.series, data.window) if data.panel["options"].get("graphMode") == "area" else []
        result.items.append(
            {
                "name": item.name if len(found) > 1 else "",
                "value": text,
                "color": tone,
                "spark": spark_path(spark, low=item.config.get("min"), high=item.config.get("max")),
                "links": item.config.get("links") or [],
                "labels": item.series.labels,
            }
        )
    if not found:
        result.empty = _without_figures(data)


def spark_path(
    values: Sequence[float | None],
    *,
    width: int = 100,
    height: int = 30,
    low: float | None = None,
    high: float | None = None,
) -> str:
    """The SVG path of a line without axes over a box, from the lowest to the highest value or the given limits."""
    drawn = [value for value in values if value is not None]
    if len(drawn) < 2:
        return ""
    low = min(drawn) if low is None else low
    high = max(drawn) if high is None else high
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
    found = [(item, reduced(data.panel["options"], item.series)) for item in data.all()]
    highest = max((value for _, value in found if value is not None), default=0)
    for item, value in found:
        low = item.config.get("min") or 0
        high = item.config["max"] if item.config.get("max") is not None else highest
        share = ((value or 0) - low) / (high - low) if high > low else 0
        text, tone = displayed(item.config, value, now=data.window.end)
        result.items.append(
            {
                "name": item.name,
                "value": text,
                "color": tone,
                "share": round(100 * min(max(share, 0), 1), 1),
                "links": [
                    link | {"url": fill_value(link.get("url", ""), value, text, at=item.series.points[-1][0])}
                    for link in item.config.get("links") or []
                ],
                "labels": item.series.labels,
            }
        )
    if not found:
        result.empty = _without_figures(data)


def _state_timeline(result: View, data: PanelData) -> None:
    found = data.named()
    if not found:
        return
    runs: list[list[Any]] = []
    seen: dict[str, str] = {}
    for row, item in enumerate(found):
        for start, end, value in runs_of(on_grid(item.series, data.window), data.window):
            text, tone = _band(data.panel, item.config, value, now=data.window.end)
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


def _band(panel: Mapping[str, Any], config: Mapping[str, Any], value: float, *, now: float) -> tuple[str, str]:
    """Text and colour of a band.

    Where bands are merged and coloured by thresholds, Grafana writes the threshold's range and ignores the mappings.
    """
    if not (panel["options"].get("mergeValues") and config.get("color", {}).get("mode") == "thresholds"):
        return displayed(config, value, now=now)
    steps = config.get("thresholds", {}).get("steps", [])
    reached = [index for index, step in enumerate(steps) if step["value"] is None or value >= step["value"]]
    place = reached[-1] if reached else 0
    low, high = ((steps[at]["value"] if at < len(steps) else None) for at in (place, place + 1))
    text = ("-∞" if low is None else f"{low:g}") + ("+" if high is None else f" - {high:g}")
    return text, threshold_color(config, value)


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
    names = ["+Inf" if bound == float("inf") else units.format_value(bound, unit) for bound in bounds]
    result.figure = {
        "type": "heatmap",
        "unit": _hover(data.panel["options"]["cellValues"]["unit"]),
        "names": names[first : final + 1],
        "z": rows[first : final + 1],
    } | _grid(data.window)


def _table(result: View, data: PanelData) -> None:
    records = merge(data.answers)
    figures = [f"Value #{answer.ref}" for answer in data.answers] if records and len(data.answers) > 1 else []
    names, records = organize(data.panel.get("transformations", []), records, figures)
    for order in reversed(data.panel.get("options", {}).get("sortBy", [])):
        records = _sorted_by(order["displayName"], records, descending=order.get("desc", False))
    result.columns = names
    # An empty cell is aligned as the figures of its column are.
    numeric = {name for record in records for name, value in record.items() if isinstance(value, (int, float))}
    for record in records:
        line = []
        for name in names:
            config = settings_of(data.panel, name)
            value = record.get(name)
            text, tone = displayed(config, value, now=data.window.end)
            colored = "color" in str(config.get("custom.cellOptions", {}).get("type", ""))
            cell: Json = {"text": text, "number": name in numeric, "color": tone if colored else "", "links": []}
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
    unknown = [record for record in records if is_nan(record.get(key))]
    figures = [record for record in records if record.get(key) is not None and not is_nan(record[key])]
    figures.sort(key=lambda record: (isinstance(record[key], str), record[key]), reverse=descending)
    return figures + unknown + missing


def merge(answers: Sequence[TargetAnswer]) -> list[dict[str, str | float]]:
    """Grafana's `merge` of table frames: one record for each set of matching labels, a value for each query.

    A record with fewer labels joins every record that matches it.
    """
    alone = len(answers) == 1
    records: list[dict[str, str | float]] = []
    for answer in answers:
        fresh: list[dict[str, str | float]] = []
        # A frame has a column for each label of any of its series; the others are empty there.
        names = sorted({name for series in answer.series for name in series.labels})
        for series in answer.series:
            value = series.points[-1][1]
            labels: dict[str, str | float] = {name: series.labels.get(name, "") for name in names}
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
    transformations: Sequence[Mapping[str, Any]],
    records: Sequence[dict[str, str | float]],
    figures: Sequence[str] = (),
) -> tuple[list[str], list[dict[str, str | float]]]:
    """Grafana's `filterFieldsByName` and `organize`: selection, order and names of the fields.

    `figures` are the columns of queries: one that no record has a figure of stays as well.
    """
    names: list[str] = list(dict.fromkeys([*(name for record in records for name in record), *figures]))
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
