"""Queries Prometheus for what dashboards showed in a time range, and returns a `Report` of plain data."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from servescope.clients.http import Unavailable
from servescope.clients.prometheus import Prometheus
from servescope.dashboards import all_dashboards
from servescope.errors import ServescopeError
from servescope.grafana import colors, dashboard_json, templating
from servescope.grafana.templating import Interpolation, PlacedPanel, Selection
from servescope.json_types import Json
from servescope.pages import runbooks
from servescope.report import collected, views
from servescope.report.collected import Collected, NotHere
from servescope.report.missing import Missing
from servescope.report.model import Board, FiredAlert, Mark, Report, Section, View
from servescope.report.queries import Choices, Series, TargetAnswer, Window, ask, select_variables
from servescope.settings import Settings

MOST_POINTS = 240  # per line: as many as a panel a third of a screen wide can show
QUERIES_AT_ONCE = 4
TIMEOUT_S = 300.0  # for all queries of a page
NOTHING = Collected()


class RequestError(ServescopeError):
    """A request for a time range or a row that cannot be: the reader's mistake, not the server's."""


def load_dashboards(settings: Settings, folder: Path | None, wanted: Sequence[str] = ()) -> list[Json]:
    """The dashboards' JSON, from a directory or bundled; `wanted` are uids, with or without `servescope-`.

    Raises:
        ServescopeError: the directory has none, a file is not a dashboard, or no dashboard has a wanted uid.
    """
    if folder is None:
        found = [board.to_json() for board in all_dashboards(settings)]
    else:
        found = []
        for path in sorted(folder.glob("*.json")):
            try:
                document = json.loads(path.read_text(encoding="utf-8"))
                # NaN, infinity and halves of surrogate pairs, which the page could not hold.
                json.dumps(document, ensure_ascii=False, allow_nan=False).encode()
                found.append(dashboard_json.checked(document))
            except (OSError, ValueError, RecursionError) as error:
                raise ServescopeError(f"{path}: not a Grafana dashboard ({type(error).__name__}: {error})") from error
            except ServescopeError as error:
                raise ServescopeError(f"{path}: not a Grafana dashboard ({error})") from error
        if not found:
            raise ServescopeError(f"{folder}: no dashboards (*.json) found")
    if not wanted:
        return found
    chosen = []
    for name in wanted:
        matching = [board for board in found if board["uid"] in (name, f"servescope-{name}")]
        if not matching:
            raise ServescopeError(f"no dashboard {name!r}; available: {', '.join(board['uid'] for board in found)}")
        chosen += matching
    return chosen


def window_of(start: float, end: float, *, scrape_interval_s: int, most_points: int = MOST_POINTS) -> Window:
    """The range on Grafana's steps: whole seconds that do not move between two refreshes.

    Raises:
        RequestError: the end is not after the start.
    """
    if not start < end:
        raise RequestError("--from is not before --to: the time range is empty")
    step = max(1, round(templating.interval(end - start, most_points, scrape_interval_s)))
    first = math.floor(start / step) * step
    return Window(
        first, max(math.floor(end / step) * step, first + step), step_s=step, scrape_interval_s=scrape_interval_s
    )


Progress = Callable[[int, int, str], None]


def collect(
    prometheus: Prometheus,
    dashboards: Sequence[Json],
    window: Window,
    *,
    settings: Settings,
    chosen: Choices | None = None,
    progress: Progress = lambda done, total, what: None,
    every: bool = False,
    with_panels: bool = True,
    timeout_s: float = TIMEOUT_S,
    evidence: Collected = NOTHING,
) -> Report:
    """Query Prometheus for everything on the dashboards. `progress` gets the panels done, their total, and the latest.

    With `every`, a dashboard of one deployment is one of all of them. `with_panels=False` leaves the rows empty;
    `collect_row` fills one. The results of failed queries, and of those that are not sent within `timeout_s` seconds,
    are left out; the report's `problems` name them.

    Raises:
        Unavailable: no query was answered.
        ServescopeError: a chosen variable is on no dashboard.

    """
    known = {variable["name"] for board in dashboards for variable in board["templating"]["list"]}
    for name in chosen or {}:
        if name not in known:
            raise ServescopeError(
                f"--var {name}: no such variable; available: {', '.join(sorted(known - {'datasource'}))}"
            )
    total = sum(
        len(panel.get("panels", [])) or panel["type"] != "row" for board in dashboards for panel in board["panels"]
    )
    done = 0

    def panel_done(what: str) -> None:
        nonlocal done
        done += 1
        progress(done, max(total, done), what)

    missing = Missing()
    with prometheus.round(timeout_s) as asked:
        with ThreadPoolExecutor(QUERIES_AT_ONCE) as pool:
            boards = [
                _BoardQueries.begin(
                    prometheus,
                    dashboard,
                    window,
                    chosen=chosen,
                    every=every,
                    pool=pool,
                    missing=missing,
                    panel_done=panel_done,
                    collected=evidence,
                ).board(with_panels=with_panels)
                for dashboard in dashboards
            ]
        alerts = None
        with missing.part("alerts"):
            alerts = fired_alerts(prometheus, window, settings, missing=missing)
        report = Report(
            window=window,
            created=time.time(),
            source=prometheus.url,
            boards=boards,
            alerts=alerts or [],
            alerts_known=alerts is not None,
            versions=versions(prometheus, window, missing=missing),
        )
    if missing.reason and not asked.answered:
        raise Unavailable(missing.reason)
    report.problems += [*missing.lines(), *(f"{prometheus.url}: partial answer: {text}" for text in asked.warnings)]
    return report


def collect_row(
    prometheus: Prometheus,
    dashboard: Json,
    number: int,
    *,
    window: Window,
    chosen: Choices | None = None,
    timeout_s: float = TIMEOUT_S,
    evidence: Collected = NOTHING,
) -> tuple[Section, list[str]]:
    """Query Prometheus for one row of a dashboard, counted from 0; each repetition of a row counts.

    Returns the row, and why answers may be incomplete. A panel whose query fails says so itself.

    Raises:
        RequestError: the dashboard has fewer rows.
        ServescopeError: no query was answered.
    """
    missing = Missing()
    with prometheus.round(timeout_s) as asked, ThreadPoolExecutor(QUERIES_AT_ONCE) as pool:
        board = _BoardQueries.begin(
            prometheus, dashboard, window, chosen=chosen, pool=pool, missing=missing, collected=evidence
        )
        rows = list(templating.rows(dashboard, board.selections))
        if not 0 <= number < len(rows):
            raise RequestError(f"{dashboard['uid']}: no row {number}; it has {len(rows)}")
        row, panels = rows[number]
        section = board.section(number, row, panels)()
    if missing.reason and not asked.answered:
        raise Unavailable(missing.reason)
    return section, [f"{prometheus.url}: partial answer: {text}" for text in asked.warnings]


@dataclass(frozen=True, kw_only=True)
class _BoardQueries:
    """One dashboard whose queries run in a thread pool, for one window and one set of variable values."""

    prometheus: Prometheus
    dashboard: Json
    window: Window
    selections: Mapping[str, Selection]
    pool: ThreadPoolExecutor
    missing: Missing
    panel_done: Callable[[str], None]
    collected: Collected

    @staticmethod
    def begin(
        prometheus: Prometheus,
        dashboard: Json,
        window: Window,
        *,
        chosen: Choices | None,
        pool: ThreadPoolExecutor,
        missing: Missing,
        every: bool = False,
        panel_done: Callable[[str], None] = lambda what: None,
        collected: Collected = NOTHING,
    ) -> _BoardQueries:
        """Query the values of the dashboard's variables; everything else depends on them."""
        return _BoardQueries(
            prometheus=prometheus,
            dashboard=dashboard,
            window=window,
            selections=select_variables(dashboard, prometheus, window, chosen=chosen, missing=missing, every=every),
            pool=pool,
            missing=missing,
            panel_done=panel_done,
            collected=collected,
        )

    @property
    def scope(self) -> Interpolation:
        """The variables of the dashboard's queries and titles."""
        return Interpolation(self.selections, self.window.macros())

    def board(self, *, with_panels: bool) -> Board:
        """The whole dashboard. All its queries are sent before the first response is awaited."""
        marks = self.pool.submit(self.marks)
        waiting = [
            self.section(number, row, panels, with_panels=with_panels)
            for number, (row, panels) in enumerate(templating.rows(self.dashboard, self.selections))
        ]
        return Board(
            uid=self.dashboard["uid"],
            title=self.dashboard["title"],
            description=self.dashboard.get("description", ""),
            sections=[section() for section in waiting],
            marks=marks.result(),
            selections=self.selections,
            options={},
        )

    def section(
        self, number: int, row: PlacedPanel, panels: Sequence[PlacedPanel], *, with_panels: bool = True
    ) -> Callable[[], Section]:
        """Start the queries of a row; the returned function waits for them. Without panels it is their place only."""
        uid = self.dashboard["uid"]
        drawn: list[Future[View]] = [
            self.pool.submit(self.view, placed, f"{uid}-{number}-{place}")
            for place, placed in enumerate(panels if with_panels else ())
        ]
        title = self.scope.narrowed(row.chosen).title(row.model["title"])
        collapsed = bool(row.model.get("collapsed"))
        ids = (placed.model.get("id") for placed in panels)  # dashboards of others may lack some
        numbers = [number for number in ids if type(number) is int]
        return lambda: Section(title, [view.result() for view in drawn], collapsed, numbers=numbers)

    def view(self, placed: PlacedPanel, identity: str) -> View:
        """Query one panel."""
        scope = self.scope.narrowed(placed.chosen)
        answers: list[TargetAnswer] = []
        failure = lacking = ""
        found = None
        with self.missing.part(f"{self.dashboard['title']} / {scope.title(placed.model['title'])}"):
            try:
                if views.asks_elsewhere(placed.model):
                    found = collected.answer(placed.model, self.collected, window=self.window, scope=scope)
                else:
                    answers = ask(placed.model, self.prometheus, window=self.window, scope=scope)
            except NotHere as error:
                lacking = str(error)
            except ServescopeError as error:
                failure = str(error)
                raise
        view = views.view(
            placed.model,
            answers,
            self.window,
            scope=scope,
            identity=identity,
            failure=failure,
            found=found,
            lacking=lacking,
        )
        self.panel_done(f"{self.dashboard['title']} / {view.title}")
        return view

    def marks(self) -> list[Mark]:
        """The dashboard's annotations: every non-zero value is one; adjacent ones are merged."""
        marks = []
        for annotation in self.dashboard.get("annotations", {}).get("list", []):
            if not annotation.get("enable") or "expr" not in annotation:
                continue
            window = self.window
            with self.missing.part(f"annotation {annotation['name']}"):
                for series in self.prometheus.query_range(
                    self.scope.promql(annotation["expr"]), start=window.start, end=window.end, step_s=window.step_s
                ):
                    marks += _marks_of(annotation, series, window)
        return sorted(marks, key=lambda mark: (mark.start, mark.title, mark.text))


def _marks_of(annotation: Json, series: Json, window: Window) -> list[Mark]:
    runs: list[list[float]] = []
    for at, text in series["values"]:
        if float(text) == 0 or text == "NaN":
            continue
        if runs and at - runs[-1][1] <= window.step_s:
            runs[-1][1] = at
        else:
            runs.append([at, at])
    return [
        Mark(
            title=templating.legend(annotation.get("titleFormat", ""), series["metric"], annotation["name"]),
            text=templating.legend(annotation.get("textFormat", ""), series["metric"], ""),
            color=colors.css(annotation.get("iconColor", "blue")),
            start=round(start * 1000),
            end=round(end * 1000),
        )
        for start, end in runs
    ]


def fired_alerts(prometheus: Prometheus, window: Window, settings: Settings, *, missing: Missing) -> list[FiredAlert]:
    """The alerts that were pending or firing in the window, first fired first, without the watchdog.

    Raises:
        ServescopeError: Prometheus is unreachable or rejects the query; missing rules are only noted.
    """
    rules: dict[str, dict[str, str]] = {}
    with missing.part("alert summaries"):
        rules = prometheus.alerting_rules()
    pages = {path.stem: text for path, text in runbooks.pages(runbooks.all_groups(settings)).items()}
    states: dict[tuple[tuple[str, str], ...], list[tuple[int, int, str]]] = {}
    for series in prometheus.query_range("ALERTS", start=window.start, end=window.end, step_s=window.step_s):
        labels = {"alertname": "", "alertstate": "firing", **series["metric"]}
        state = labels.pop("alertstate")
        labels.pop("__name__", None)
        points = [(float(at), 1.0) for at, _ in series["values"]]
        grid = views.on_grid(Series(labels, points), window)
        runs = [(start, end, state) for start, end, _ in views.runs_of(grid, window)]
        states.setdefault(tuple(sorted(labels.items())), []).extend(runs)
    result = []
    for key, runs in states.items():
        labels = dict(key)
        name = labels.pop("alertname")
        severity = labels.pop("severity", "")
        if name == "ServescopeWatchdog" or not runs:
            continue
        annotations = rules.get(name, {})
        url = annotations.get("runbook_url", "")
        result.append(
            FiredAlert(
                name=name,
                severity=severity,
                labels=", ".join(f"{label}={value}" for label, value in sorted(labels.items())),
                summary=expanded(annotations.get("summary", ""), dict(key)),
                runbook_url=url if url.startswith(("http://", "https://")) else "",
                runbook=pages.get(name, ""),
                runs=sorted(runs),
            )
        )
    return sorted(result, key=lambda alert: (alert.firing_from or math.inf, alert.runs[0][0], alert.name))


_TEMPLATE = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}", re.DOTALL)
_LABEL = re.compile(r"""(?:\$labels|\.Labels)\.(\w+)(?:\s*\|.*)?|index\s+(?:\$labels|\.Labels)\s+"(\w+)"(?:\s*\|.*)?""")


def expanded(annotation: str, labels: Mapping[str, str]) -> str:
    """An annotation of a rule with the labels of one alert in place of Prometheus' templates.

    Anything else in a template is left out as "…": the value of an alert is not stored, ALERTS is 1 while it is active.
    """

    def of_alert(match: re.Match[str]) -> str:
        label = _LABEL.fullmatch(match[1])
        return labels.get(label[1] or label[2], "") if label else "…"

    return _TEMPLATE.sub(of_alert, annotation)


def versions(prometheus: Prometheus, window: Window, *, missing: Missing) -> dict[str, str]:
    """The versions of servescope, of the store that answers for Prometheus, and of Ray."""
    ray: set[str] = set()
    with missing.part("Ray's version"):
        ray = {
            series["metric"].get("Version", "")
            for series in prometheus.query(
                f"last_over_time(ray_serve_application_status[{window.macros()['__range']}])", window.end
            )
        }
    program, version = prometheus.program_and_version()
    found = {"servescope": metadata.version("servescope"), program: version}
    return found | ({"Ray": ", ".join(sorted(ray - {""}))} if ray - {""} else {})
