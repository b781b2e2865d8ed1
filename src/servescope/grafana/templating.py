"""Grafana's own rules for the contents of a dashboard: variables, intervals, time ranges, legends, repeats.

The live tests, the snapshot and the preview read the very JSON that Grafana imports, so they must fill it in as
Grafana does. Sources: Grafana's documentation of variable syntax, of the Prometheus data source's template variables,
of time range controls, and of repeated panels and rows.
"""

from __future__ import annotations

import copy
import json
import re
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from servescope.errors import ServescopeError

# `$name`, `${name}`, `${name:format}` and the deprecated `[[name]]`; `$1` is no variable.
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_]\w*)(?::(\w+))?\}|([A-Za-z_]\w*))|\[\[([A-Za-z_]\w*)(?::(\w+))?\]\]")
_LEGEND = re.compile(r"\{\{\s*(.+?)\s*\}\}")
_REGEX_SPECIAL = re.compile(r"[\\$^*{}\[\]'+?.()|]")

# Grafana's steps for $__interval: the first bound above the wish decides. Seconds.
_ROUNDED = (
    (0.015, 0.01),
    (0.035, 0.02),
    (0.075, 0.05),
    (0.15, 0.1),
    (0.35, 0.2),
    (0.75, 0.5),
    (1.5, 1),
    (3.5, 2),
    (7.5, 5),
    (12.5, 10),
    (17.5, 15),
    (25, 20),
    (45, 30),
    (90, 60),
    (210, 120),
    (450, 300),
    (750, 600),
    (1050, 900),
    (1500, 1200),
    (2700, 1800),
    (5400, 3600),
    (9000, 7200),
    (16200, 10800),
    (32400, 21600),
    (86400, 43200),
    (604800, 86400),
    (1814400, 604800),
    (3628800, 2592000),
)
_LONGEST_STEP_S = 31536000


def round_interval(seconds: float) -> float:
    """The step that Grafana takes for a wished one, in seconds."""
    return next((step for bound, step in _ROUNDED if seconds < bound), _LONGEST_STEP_S)


def interval(range_s: float, max_points: int, min_step_s: float) -> float:
    """`$__interval` in seconds: the range over the points that fit, rounded, never below the scrape interval."""
    return max(min_step_s, round_interval(range_s / max_points))


def rate_interval(interval_s: float, scrape_interval_s: float) -> float:
    """`$__rate_interval` in seconds: at least four scrapes, so that a rate survives a failed one."""
    return max(interval_s + scrape_interval_s, 4 * scrape_interval_s)


# ---------------------------------------------------------------------------------------------------------------------
# Variables


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What is chosen for one variable.

    `values` are the chosen values, or every option where All is chosen; `all_value` is the variable's own text for All
    where All is chosen and the variable has one; `multi` is whether several can be selected.
    """

    values: tuple[str, ...]
    multi: bool = True
    everything: bool = False
    all_value: str = ""

    @property
    def text(self) -> str:
        """What Grafana writes into titles."""
        return "All" if self.everything else " + ".join(self.values)

    def format(self, name: str) -> str:
        """The selection in one of Grafana's formats.

        Raises:
            ServescopeError: the format is none of Grafana's that a text can hold.
        """
        if name not in _FORMATS:
            raise ServescopeError(f"variable format {name!r} is not known; known: {', '.join(sorted(_FORMATS))}")
        if name == "text":
            return self.text
        if self.everything and self.all_value:
            return self.all_value  # Grafana inserts a custom All value unchanged
        return _FORMATS[name](self.values)

    @property
    def promql(self) -> str:
        """How the Prometheus data source writes it: escaped text, or an escaped regular expression."""
        if self.everything and self.all_value:
            return self.all_value
        if not self.multi:
            return "".join(_escape_text(value) for value in self.values)
        escaped = [escape_regex(value) for value in self.values]
        return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"


def escape_regex(value: str) -> str:
    """A value as a regular expression inside a double-quoted PromQL string."""
    return _REGEX_SPECIAL.sub(lambda m: "\\" * (4 if m[0] == "\\" else 2) + ("" if m[0] == "\\" else m[0]), value)


def _escape_text(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')


def _join(values: Sequence[str], separator: str, form: str = "{}") -> str:
    return separator.join(form.format(value) for value in values)


def _plain_regex(values: Sequence[str]) -> str:
    escaped = [re.sub(r"[\\^$.*+?()\[\]{}|/]", lambda m: "\\" + m[0], value) for value in values]
    return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"


_FORMATS: dict[str, Callable[[Sequence[str]], str]] = {
    "csv": lambda values: _join(values, ","),
    "doublequote": lambda values: ",".join('"' + value.replace('"', '\\"') + '"' for value in values),
    "glob": lambda values: values[0] if len(values) == 1 else "{" + ",".join(values) + "}",
    "json": lambda values: json.dumps(list(values), separators=(",", ":")),
    "percentencode": lambda values: urllib.parse.quote(
        values[0] if len(values) == 1 else "{" + ",".join(values) + "}", safe="~"
    ),
    "pipe": lambda values: _join(values, "|"),
    "raw": lambda values: _join(values, ","),
    "regex": _plain_regex,
    "singlequote": lambda values: ",".join("'" + value.replace("'", "\\'") + "'" for value in values),
    "text": lambda values: _join(values, " + "),
}


def interpolate(
    text: str,
    values: Mapping[str, str],
    formatted: Callable[[str, str], str | None] = lambda name, form: None,
) -> str:
    """Replace variables by their values; names that are not known stay, as `$1` must in label_replace.

    `formatted` is asked with name and format where a reference names a format; None falls back to the plain value.
    """

    def replaced(match: re.Match[str]) -> str:
        name = match.group(1) or match.group(3) or match.group(4)
        form = match.group(2) or match.group(5)
        if form and (special := formatted(name, form)) is not None:
            return special
        return values.get(name, match.group(0))

    return _VARIABLE.sub(replaced, text)


@dataclass(frozen=True)
class Interpolation:
    """What queries, titles and links of one panel may refer to: selections by variable, and macros by name."""

    selections: Mapping[str, Selection]
    macros: Mapping[str, str]

    def promql(self, text: str) -> str:
        """Fill in a query."""
        values = {name: selection.promql for name, selection in self.selections.items()} | dict(self.macros)
        return interpolate(text, values, self._formatted)

    def title(self, text: str) -> str:
        """Fill in a title."""
        values = {name: selection.text for name, selection in self.selections.items()} | dict(self.macros)
        return interpolate(text, values, self._formatted)

    def narrowed(self, chosen: Mapping[str, str]) -> Interpolation:
        """The scope of a repeated panel: one value for each variable that it repeats by."""
        narrow = {name: Selection(values=(value,)) for name, value in chosen.items()}
        return Interpolation({**self.selections, **narrow}, self.macros)

    def _formatted(self, name: str, form: str) -> str | None:
        if name not in self.selections:
            return None
        if form == "queryparam":
            selection = self.selections[name]
            values = ("$__all",) if selection.everything else selection.values
            return "&".join(f"var-{name}={urllib.parse.quote(value, safe='')}" for value in values)
        return self.selections[name].format(form)


# ---------------------------------------------------------------------------------------------------------------------
# Time

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_RELATIVE = re.compile(r"now((?:[+-]\d+[smhdwMy])*)(?:/([smhdwMy]))?")


def parse_time(text: str, now: float, *, end: bool = False, what: str = "time") -> float:
    """A point in time in Grafana's relative syntax (`now-6h`, `-1h`, `now-1d/d`), ISO 8601, or unix time.

    Unix time is in seconds or, from 12 digits on as Grafana writes it, in milliseconds.

    `/d` rounds to the start of the day in UTC, to its end where `end` is set. ISO times without an offset are UTC.
    Returns unix seconds.

    Raises:
        ServescopeError: none of these, or a time outside of the years 1 to 9999.
    """
    try:
        return _parsed_time(text, now, end=end, what=what)
    except (ValueError, OverflowError):
        raise ServescopeError(f"{what}: {_shortened(text)} is not between the years 1 and 9999") from None


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}...")


def _parsed_time(text: str, now: float, *, end: bool, what: str) -> float:
    stripped = text.strip()
    relative = _RELATIVE.fullmatch(stripped if stripped.startswith("now") else f"now{stripped}")
    if relative and (stripped.startswith("now") or stripped[:1] in ("-", "+")):
        moment = datetime.fromtimestamp(now, timezone.utc)
        for sign, amount, unit in re.findall(r"([+-])(\d+)([smhdwMy])", relative.group(1)):
            moment = _moved(moment, int(amount) * (1 if sign == "+" else -1), unit)
        if relative.group(2):
            start = _floor(moment, relative.group(2))
            moment = _moved(start, 1, relative.group(2)) - timedelta(milliseconds=1) if end else start
        return moment.timestamp()
    if re.fullmatch(r"[0-9]{12,14}", stripped):
        return int(stripped) / 1000
    if re.fullmatch(r"[0-9]{9,11}([.][0-9]+)?", stripped):
        return float(stripped)
    try:
        moment = datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", stripped))
    except ValueError:
        raise ServescopeError(
            f"{what}: {_shortened(text)} is neither relative (now-1h, now-1d/d) nor ISO 8601 (2026-01-31T12:00:00Z) "
            "nor unix seconds"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()


def _moved(moment: datetime, amount: int, unit: str) -> datetime:
    if unit in _UNITS_S:
        return moment + timedelta(seconds=amount * _UNITS_S[unit])
    months = moment.year * 12 + moment.month - 1 + amount * (12 if unit == "y" else 1)
    first = moment.replace(year=months // 12, month=months % 12 + 1, day=1)
    following = (first.replace(day=28) + timedelta(days=4)).replace(day=1)
    return first.replace(day=min(moment.day, (following - timedelta(days=1)).day))


def _floor(moment: datetime, unit: str) -> datetime:
    if unit == "w":
        moment -= timedelta(days=moment.weekday())
    cleared = {"s": 0, "m": 1, "h": 2, "d": 3, "w": 3, "M": 4, "y": 5}[unit]
    names = ("microsecond", "second", "minute", "hour", "day", "month")
    fields = {name: 1 if name in ("day", "month") else 0 for name in names[: cleared + 1]}
    return moment.replace(**fields)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------------------------------
# Legends


def legend(form: str, metric: Mapping[str, str], expression: str) -> str:
    """The name of a series: `{{label}}` filled in, a label that it lacks left empty.

    `__auto` and an empty format give the labels as PromQL writes them, and the expression where there are none.
    """
    if form and form != "__auto":
        return _LEGEND.sub(lambda match: metric.get(match.group(1), ""), form)
    name = metric.get("__name__", "")
    labels = ", ".join(f'{label}="{value}"' for label, value in sorted(metric.items()) if label != "__name__")
    return f"{name}{{{labels}}}" if labels else name or expression


# ---------------------------------------------------------------------------------------------------------------------
# Rows and repeats


@dataclass(frozen=True)
class PlacedPanel:
    """A row or a panel in its place, and the value of each variable that it repeats by."""

    model: dict[str, Any]
    chosen: Mapping[str, str]


def rows(
    dashboard: Mapping[str, Any], selections: Mapping[str, Selection]
) -> Iterator[tuple[PlacedPanel, list[PlacedPanel]]]:
    """Every row with its panels, repeats expanded: a row once for each value, panels side by side or below each other.

    Panels before the first row come under a row without a title.
    """
    current: dict[str, Any] = {"title": "", "type": "row", "collapsed": False}
    members: list[dict[str, Any]] = []
    groups = [(current, members)]
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            members = list(panel.get("panels", []))
            groups.append((panel, members))
        else:
            members.append(panel)
    for row, panels in groups:
        if not panels and not row["title"]:
            continue
        for chosen in _each(row, selections):
            yield (
                PlacedPanel(row, chosen),
                [placed for panel in panels for placed in _repeated(panel, selections, chosen)],
            )


def _each(model: Mapping[str, Any], selections: Mapping[str, Selection]) -> list[dict[str, str]]:
    name = model.get("repeat")
    if not name or name not in selections:
        return [{}]
    return [{name: value} for value in selections[name].values]


def _repeated(
    panel: dict[str, Any], selections: Mapping[str, Selection], of_row: Mapping[str, str]
) -> Iterator[PlacedPanel]:
    choices = [{}] if panel.get("repeat") in of_row else _each(panel, selections)
    across = panel.get("repeatDirection", "h") == "h"
    # Grafana spreads repeats over the whole width, at most maxPerRow (4) beside each other.
    width = max(24 // max(len(choices), 1), 24 // panel.get("maxPerRow", 4)) if across else panel["gridPos"]["w"]
    for index, chosen in enumerate(choices):
        model = panel
        if panel.get("repeat") and chosen:
            model = copy.deepcopy(panel)
            per_line = max(1, 24 // width)
            place = model["gridPos"]
            if across:
                line, column = divmod(index, per_line)
                place |= {"x": column * width, "y": place["y"] + line * place["h"], "w": width}
            else:
                place["y"] += index * place["h"]
        yield PlacedPanel(model, {**of_row, **chosen})
