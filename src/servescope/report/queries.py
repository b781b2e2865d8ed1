"""Queries Prometheus for the panels of a dashboard, by Grafana's own rules for variables and macros.

The live tests, the demo's summary and the preview use it on the same JSON that Grafana imports.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import KW_ONLY, dataclass
from typing import Any

from servescope.clients.prometheus import Prometheus
from servescope.errors import ServescopeError
from servescope.grafana.templating import Interpolation, Selection, rate_interval
from servescope.report.missing import Missing

# The chosen values of each variable of a dashboard, by its name.
Choices = Mapping[str, Sequence[str]]

_LABEL_VALUES = re.compile(r"label_values\((?:(.*),\s*)?(\w+)\)", re.DOTALL)
_QUERY_RESULT = re.compile(r"query_result\((.*)\)", re.DOTALL)


@dataclass(frozen=True)
class Window:
    """A time range as Grafana would draw it. Times in unix seconds, the step and the scrape interval in seconds."""

    start: float
    end: float
    _: KW_ONLY
    step_s: int = 15
    scrape_interval_s: int = 15

    @staticmethod
    def last(seconds: float, scrape_interval_s: int = 15) -> Window:
        """The range that ends now, with the scrape interval as its step."""
        now = time.time()
        return Window(now - seconds, now, step_s=scrape_interval_s, scrape_interval_s=scrape_interval_s)

    def macros(self) -> dict[str, str]:
        """Grafana's duration macros."""
        range_s = max(1, round(self.end - self.start))
        return {
            "__rate_interval": f"{rate_interval(self.step_s, self.scrape_interval_s):g}s",
            "__interval": f"{self.step_s}s",
            "__interval_ms": f"{self.step_s * 1000}",
            "__range": f"{range_s}s",
            "__range_s": f"{range_s}",
            "__range_ms": f"{range_s * 1000}",
            "__from": f"{self.start * 1000:.0f}",
            "__to": f"{self.end * 1000:.0f}",
        }


def select_variables(
    dashboard: Mapping[str, Any],
    prometheus: Prometheus,
    window: Window,
    *,
    chosen: Choices | None = None,
    missing: Missing | None = None,
    every: bool = False,
) -> dict[str, Selection]:
    """The initial value of each variable of a dashboard: All, or the first value; without the data source.

    With `every` all values are selected where several can be: a dashboard of one deployment then is one of all of them.
    `chosen` maps a variable's name to the chosen values and overrides that. Where `missing` is given, a variable whose
    values cannot be had holds all values, as far as a query can say so, and is noted there.

    Raises:
        ServescopeError: Prometheus is unreachable, or a variable's query is not `label_values`.
    """
    selections: dict[str, Selection] = {}
    options: tuple[str, ...]
    for variable in dashboard["templating"]["list"]:
        name = variable["name"]
        if variable["type"] == "datasource":
            continue
        multi = bool(variable.get("multi") or variable.get("includeAll"))
        if chosen and chosen.get(name) and list(chosen[name]) != ["$__all"]:
            selections[name] = Selection(values=tuple(chosen[name]), multi=multi)
            continue
        if variable["type"] == "query":
            scope = Interpolation(selections, window.macros())
            options = ()
            known = False
            with missing.part(f"values of {name}") if missing else nullcontext():
                options = tuple(variable_options(variable, prometheus, window=window, scope=scope))
                known = True
            if not known:
                selections[name] = Selection(values=(), multi=multi, everything=True, all_value=".*")
                continue
        else:
            options = (str(variable.get("current", {}).get("value", "")),)
        if variable.get("includeAll"):
            selections[name] = Selection(
                values=options, multi=multi, everything=True, all_value=variable.get("allValue") or ""
            )
        else:
            selections[name] = Selection(values=(options if every and multi else options[:1]) or ("",), multi=multi)
    return selections


def variable_options(
    variable: Mapping[str, Any], prometheus: Prometheus, *, window: Window, scope: Interpolation
) -> list[str]:
    """The options of a query variable, in Grafana's order.

    Raises:
        ServescopeError: Prometheus is unreachable, or the query is neither `label_values` nor `query_result`.
    """
    query = variable["query"]["query"] if isinstance(variable["query"], dict) else variable["query"]
    if vector := _QUERY_RESULT.fullmatch(query.strip()):
        found = prometheus.query(scope.promql(vector.group(1)), window.end)
        return _captured(variable.get("regex") or "", [_as_text(series) for series in found])
    match = _LABEL_VALUES.fullmatch(query.strip())
    if match is None:
        raise ServescopeError(f"variable {variable['name']}: unsupported query {query!r}")
    selector = scope.promql(match.group(1)) if match.group(1) else None
    return prometheus.label_values(match.group(2), selector, start=window.start, end=window.end)


def _as_text(series: Mapping[str, Any]) -> str:
    """An entry of a vector as Grafana lists it: name, labels, value and time."""
    labels = ",".join(f'{label}="{value}"' for label, value in series["metric"].items() if label != "__name__")
    at, value = series["value"]
    return f"{series['metric'].get('__name__', '')}{{{labels}}} {value} {at * 1000:.0f}"


def _captured(regex: str, texts: Sequence[str]) -> list[str]:
    """What a variable's regex, `/.../`, takes of each text: its first group, else all of it; each once."""
    pattern = re.compile(regex.strip("/")) if regex else None
    found: dict[str, None] = {}
    for text in texts:
        match = pattern.search(text) if pattern else None
        if pattern is None:
            found[text] = None
        elif match:
            found[match.group(1) if pattern.groups else match.group(0)] = None
    return list(found)


def panels_of(dashboard: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every panel of a dashboard's JSON except rows, including those in collapsed rows."""
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            yield from panel.get("panels", [])
        else:
            yield panel


@dataclass(frozen=True)
class Series:
    """One series of a result: its labels and points (unix seconds, value), NaN kept."""

    labels: dict[str, str]
    points: list[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class TargetAnswer:
    """The result of one target, with the expression as sent."""

    ref: str
    expression: str
    legend: str
    series: list[Series]

    @property
    def series_with_data(self) -> int:
        """How many series have a value that is not NaN."""
        return sum(any(not math.isnan(value) for _, value in series.points) for series in self.series)


def ask(
    panel: Mapping[str, Any], prometheus: Prometheus, *, window: Window, scope: Interpolation
) -> list[TargetAnswer]:
    """Run the Prometheus targets of one panel: a range query each, or an instant query at the window's end.

    Raises:
        ServescopeError: Prometheus is unreachable or rejects a query.
    """
    answers = []
    for target in panel.get("targets", []):
        if target["datasource"]["type"] != "prometheus":
            continue  # logs and traces
        expression = scope.promql(target["expr"])
        if target.get("instant"):
            found = [(series["metric"], [series["value"]]) for series in prometheus.query(expression, window.end)]
        else:
            matrix = prometheus.query_range(expression, start=window.start, end=window.end, step_s=window.step_s)
            found = [(series["metric"], series["values"]) for series in matrix]
        series = [Series(labels, [(float(at), float(value)) for at, value in points]) for labels, points in found]
        answers.append(
            TargetAnswer(
                ref=target["refId"], expression=expression, legend=target.get("legendFormat", ""), series=series
            )
        )
    return answers
