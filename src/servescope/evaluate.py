"""Ask a Prometheus what the panels of a dashboard would show, by Grafana's own rules for variables and macros.

The live tests, the demo's summary and the previews stand on this, so it reads the very JSON that Grafana imports.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import httpx

from servescope.dashboards import all_dashboards
from servescope.errors import ServescopeError
from servescope.panels import Dashboard
from servescope.settings import Settings
from servescope.templating import Scope, Selection, rate_interval

_LABEL_VALUES = re.compile(r"label_values\((?:(.*),\s*)?(\w+)\)", re.DOTALL)


class Prometheus:
    """A small client of Prometheus' HTTP API, for reading only.

    Every method raises ServescopeError with one line when the server cannot be reached or refuses the query.
    """

    program: ClassVar[str] = "Prometheus"  # who answers at the address, for those lines

    def __init__(self, url: str, timeout_s: float = 30.0) -> None:
        self.url = url.rstrip("/")
        self._client = httpx.Client(base_url=self.url, timeout=timeout_s)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> Prometheus:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def query(self, expression: str, at: float | None = None) -> list[dict[str, Any]]:
        """An instant query. Returns Prometheus' vector: `[{"metric": {...}, "value": [unix seconds, "text"]}]`."""
        parameters = {"query": expression} | ({} if at is None else {"time": f"{at:.3f}"})
        result = self._get("/api/v1/query", parameters)
        if result["resultType"] == "scalar":
            return [{"metric": {}, "value": result["result"]}]
        series: list[dict[str, Any]] = result["result"]
        return series

    def query_range(self, expression: str, start: float, end: float, step_s: float) -> list[dict[str, Any]]:
        """A range query. Returns Prometheus' matrix: `[{"metric": {...}, "values": [[unix seconds, "text"], ...]}]`."""
        parameters = {
            "query": expression,
            "start": f"{start:.3f}",
            "end": f"{end:.3f}",
            "step": f"{step_s:g}",
        }
        series: list[dict[str, Any]] = self._get("/api/v1/query_range", parameters)["result"]
        return series

    def label_values(self, label: str, selector: str | None, start: float, end: float) -> list[str]:
        """The values of a label among the series that a selector finds in a time range, sorted."""
        parameters = {"start": f"{start:.3f}", "end": f"{end:.3f}"} | ({"match[]": selector} if selector else {})
        values: list[str] = self._get(f"/api/v1/label/{label}/values", parameters)
        return sorted(values)

    def alerting_rules(self) -> dict[str, dict[str, str]]:
        """The annotations of every alerting rule that the server has loaded, by the alert's name."""
        groups = self._get("/api/v1/rules", {"type": "alert"})["groups"]
        return {rule["name"]: rule.get("annotations", {}) for group in groups for rule in group["rules"]}

    def version(self) -> str:
        """The server's own version; "" where it does not tell, as other servers with the same API may not."""
        try:
            return str(self._get("/api/v1/status/buildinfo", {}).get("version", ""))
        except ServescopeError:
            return ""

    def _get(self, path: str, parameters: dict[str, str]) -> Any:
        try:
            # POST keeps long expressions out of the URL; the label endpoint knows GET only.
            if path.startswith("/api/v1/query"):
                response = self._client.post(path, data=parameters)
            else:
                response = self._client.get(path, params=parameters)
            body = response.json()
        except httpx.HTTPError as error:
            raise ServescopeError(
                f"{self.url}: {self.program} does not answer ({error or type(error).__name__})"
            ) from error
        except ValueError as error:
            raise ServescopeError(
                f"{self.url}: answers, but not as {self.program} does ({response.status_code})"
            ) from error
        if not isinstance(body, dict) or body.get("status") != "success":
            reason = body.get("error", "no reason given") if isinstance(body, dict) else "no JSON object"
            raise ServescopeError(f"{self.url}: {self.program} refuses the query: {reason}")
        return body["data"]


@dataclass(frozen=True)
class Window:
    """A time range as Grafana would draw it. Times in unix seconds, the step and the scrape interval in seconds."""

    start: float
    end: float
    step_s: int = 15
    scrape_interval_s: int = 15

    @staticmethod
    def last(seconds: float, scrape_interval_s: int = 15) -> Window:
        """The range that ends now, with the scrape interval as its step."""
        now = time.time()
        return Window(now - seconds, now, scrape_interval_s, scrape_interval_s)

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
    chosen: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Selection]:
    """What each variable of a dashboard holds when it is opened: All, or the first value; the data source left out.

    `chosen` maps a variable's name to the chosen values and overrides that.

    Raises:
        ServescopeError: Prometheus does not answer, or a variable asks something else than `label_values`.
    """
    selections: dict[str, Selection] = {}
    for variable in dashboard["templating"]["list"]:
        name = variable["name"]
        if variable["type"] == "datasource":
            continue
        multi = bool(variable.get("multi") or variable.get("includeAll"))
        if chosen and chosen.get(name) and list(chosen[name]) != ["$__all"]:
            selections[name] = Selection(tuple(chosen[name]), multi)
            continue
        if variable["type"] == "query":
            scope = Scope(selections, window.macros())
            options = tuple(variable_options(variable, prometheus, window, scope))
        else:
            options = (str(variable.get("current", {}).get("value", "")),)
        if variable.get("includeAll"):
            selections[name] = Selection(options, multi, True, variable.get("allValue") or "")
        else:
            selections[name] = Selection(options[:1] or ("",), multi)
    return selections


def variable_options(variable: Mapping[str, Any], prometheus: Prometheus, window: Window, scope: Scope) -> list[str]:
    """The values that a query variable offers.

    Raises:
        ServescopeError: Prometheus does not answer, or the variable asks something else than `label_values`.
    """
    query = variable["query"]["query"] if isinstance(variable["query"], dict) else variable["query"]
    match = _LABEL_VALUES.fullmatch(query.strip())
    if match is None:
        raise ServescopeError(f"variable {variable['name']}: cannot read the query {query!r}")
    selector = scope.promql(match.group(1)) if match.group(1) else None
    return prometheus.label_values(match.group(2), selector, window.start, window.end)


def panels(dashboard: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every panel of a dashboard's JSON that is not a row, those of collapsed rows too."""
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            yield from panel.get("panels", [])
        else:
            yield panel


@dataclass(frozen=True)
class Series:
    """One series of an answer: its labels and its points (unix seconds, value), NaN kept."""

    labels: dict[str, str]
    points: list[tuple[float, float]]


@dataclass(frozen=True)
class TargetAnswer:
    """What one target got, with the expression as it was sent."""

    ref: str
    expression: str
    legend: str
    series: list[Series]

    @property
    def answered(self) -> int:
        """How many series have at least one figure that is not NaN."""
        return sum(any(value == value for _, value in series.points) for series in self.series)


def ask(panel: Mapping[str, Any], prometheus: Prometheus, window: Window, scope: Scope) -> list[TargetAnswer]:
    """Run the Prometheus targets of one panel: a range query each, or one at the window's end where it is instant.

    Raises:
        ServescopeError: Prometheus does not answer or refuses a query.
    """
    answers = []
    for target in panel.get("targets", []):
        if target["datasource"]["type"] != "prometheus":
            continue  # logs and traces
        expression = scope.promql(target["expr"])
        if target.get("instant"):
            found = [(series["metric"], [series["value"]]) for series in prometheus.query(expression, window.end)]
        else:
            matrix = prometheus.query_range(expression, window.start, window.end, window.step_s)
            found = [(series["metric"], series["values"]) for series in matrix]
        series = [Series(labels, [(float(at), float(value)) for at, value in points]) for labels, points in found]
        answers.append(TargetAnswer(target["refId"], expression, target.get("legendFormat", ""), series))
    return answers


@dataclass(frozen=True)
class Answer:
    """What one target of one panel got: `series` counts those with at least one figure that is not NaN."""

    panel: str
    ref: str
    expression: str
    series: int


def evaluate(
    dashboard: Mapping[str, Any],
    prometheus: Prometheus,
    window: Window,
    chosen: Mapping[str, Sequence[str]] | None = None,
) -> list[Answer]:
    """Run every Prometheus target of a dashboard over a window and count the series that answer."""
    scope = Scope(select_variables(dashboard, prometheus, window, chosen), window.macros())
    return [
        Answer(panel["title"], answer.ref, answer.expression, answer.answered)
        for panel in panels(dashboard)
        for answer in ask(panel, prometheus, window, scope)
    ]


@dataclass(frozen=True)
class DashboardCheck:
    """How much of a dashboard is alive: panels that query, panels with data, and those that should have but have not.

    `excused` are panels without data that need what a plain machine lacks, with the reason.
    """

    uid: str
    title: str
    panels: int
    with_data: int
    missing: tuple[str, ...]
    excused: tuple[tuple[str, str], ...]


def check_dashboards(
    prometheus_url: str, settings: Settings, *, recorded: bool = False, minutes: float = 5
) -> list[DashboardCheck]:
    """Check every dashboard against a live Prometheus.

    Raises:
        ServescopeError: Prometheus cannot be reached or refuses a query.
    """
    window = Window.last(60 * minutes, settings.scrape_interval_s)
    with Prometheus(prometheus_url) as prometheus:
        return [check_board(board, prometheus, window) for board in all_dashboards(settings, recorded=recorded)]


def check_board(board: Dashboard, prometheus: Prometheus, window: Window) -> DashboardCheck:
    """Check one dashboard against a live Prometheus.

    Raises:
        ServescopeError: Prometheus cannot be reached or refuses a query.
    """
    alive: dict[str, bool] = {}
    for answer in evaluate(board.to_json(), prometheus, window):
        alive[answer.panel] = alive.get(answer.panel, False) or answer.series > 0
    reasons = {panel.title: panel.absent for panel in board.panels if panel.absent}
    dead = [title for title, has_data in alive.items() if not has_data]
    return DashboardCheck(
        board.uid,
        board.title,
        len(alive),
        sum(alive.values()),
        tuple(title for title in dead if title not in reasons),
        tuple((title, reasons[title]) for title in dead if title in reasons),
    )
