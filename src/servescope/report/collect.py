"""A self-contained page of dashboards, alerts, traces and logs for a time range: what is left of an incident.

`collect` asks Prometheus and gives a `Report` of plain data; `render` makes the page. The preview stands on both.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import metadata, resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

from servescope.clients.prometheus import Prometheus
from servescope.dashboards import all_dashboards
from servescope.errors import ServescopeError
from servescope.grafana import templating
from servescope.grafana.templating import Interpolation, Selection
from servescope.pages import runbooks
from servescope.report import views
from servescope.report.evidence import Logs, Traces
from servescope.report.queries import Series, Window, ask, select_variables
from servescope.report.views import View
from servescope.settings import Settings

Json = dict[str, Any]
Chosen = Mapping[str, Sequence[str]]

MOST_POINTS = 240  # on a line: as many as a panel of a third of a screen can show
QUERIES_AT_ONCE = 4
_RELATIVE_LINK = re.compile(r"\[([^\]\n]+)\]\((?![a-z]+:|#)[^)\n]*\)")


@dataclass(frozen=True)
class Section:
    """A row of a dashboard with its panels."""

    title: str
    panels: list[View]
    collapsed: bool


@dataclass(frozen=True, kw_only=True)
class Mark:
    """An annotation: unix milliseconds from and to (the same for a moment)."""

    title: str
    text: str
    color: str
    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Board:
    """A dashboard with all its panels as they were in the window."""

    uid: str
    title: str
    description: str
    sections: list[Section]
    marks: list[Mark]
    selections: Mapping[str, Selection]
    options: dict[str, Sequence[str]]  # what could be chosen for each variable


@dataclass(frozen=True, kw_only=True)
class FiredAlert:
    """An alert that was pending or firing in the window: its labels, what it says, and when it was in which state."""

    name: str
    severity: str
    labels: str
    summary: str
    runbook_url: str  # "" where it is no address that works from anywhere
    runbook: str  # the page in Markdown, "" for an alert that is not ours
    runs: list[tuple[int, int, str]]  # unix milliseconds from and to, "pending" or "firing"

    @property
    def firing_from(self) -> int | None:
        """When it fired first, unix milliseconds."""
        return min((start for start, _, state in self.runs if state == "firing"), default=None)


@dataclass(kw_only=True)
class Report:
    """Everything on the page."""

    window: Window
    created: float
    source: str
    boards: list[Board]
    alerts: list[FiredAlert]
    versions: dict[str, str]
    traces: Traces | None = None
    logs: Logs | None = None
    problems: list[str] = field(default_factory=list)


def load_dashboards(settings: Settings, folder: Path | None, wanted: Sequence[str] = ()) -> list[Json]:
    """The dashboards' JSON, from a folder or built in; `wanted` names uids, with or without `servescope-`.

    Raises:
        ServescopeError: the folder holds none, a file is no dashboard, or no dashboard has a wanted uid.
    """
    if folder is None:
        found = [board.to_json() for board in all_dashboards(settings)]
    else:
        found = []
        for path in sorted(folder.glob("*.json")):
            try:
                document = json.loads(path.read_text(encoding="utf-8"))
                found.append({key: document[key] for key in ("uid", "title", "panels", "templating")} | document)
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise ServescopeError(
                    f"{path}: not a dashboard of Grafana ({type(error).__name__}: {error})"
                ) from error
        if not found:
            raise ServescopeError(f"{folder}: no dashboards (*.json) there")
    if not wanted:
        return found
    chosen = []
    for name in wanted:
        matching = [board for board in found if board["uid"] in (name, f"servescope-{name}")]
        if not matching:
            raise ServescopeError(f"no dashboard {name!r}; there are: {', '.join(board['uid'] for board in found)}")
        chosen += matching
    return chosen


def window_of(start: float, end: float, *, scrape_interval_s: int, most_points: int = MOST_POINTS) -> Window:
    """The range on Grafana's steps: whole seconds that do not move between two refreshes.

    Raises:
        ServescopeError: the end is not after the start.
    """
    if not start < end:
        raise ServescopeError("--from is not before --to: there is no time range between them")
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
    chosen: Chosen | None = None,
    progress: Progress = lambda done, total, what: None,
    with_panels: bool = True,
) -> Report:
    """Ask Prometheus for everything on the dashboards. `progress` hears of panels done, of how many, and the latest.

    `with_panels=False` leaves the rows empty: `collect_row` fills one.

    Raises:
        ServescopeError: Prometheus does not answer, or refuses a query.
    """
    known = {variable["name"] for board in dashboards for variable in board["templating"]["list"]}
    for name in chosen or {}:
        if name not in known:
            raise ServescopeError(
                f"--var {name}: no such variable; there are: {', '.join(sorted(known - {'datasource'}))}"
            )
    total = sum(len(panel.get("panels", [])) or panel["type"] != "row" for b in dashboards for panel in b["panels"])
    done = 0

    def one_done(what: str) -> None:
        nonlocal done
        done += 1
        progress(done, max(total, done), what)

    with ThreadPoolExecutor(QUERIES_AT_ONCE) as pool:
        boards = [
            _board(prometheus, board, window, chosen=chosen, pool=pool, one_done=one_done, with_panels=with_panels)
            for board in dashboards
        ]
    return Report(
        window=window,
        created=time.time(),
        source=prometheus.url,
        boards=boards,
        alerts=fired_alerts(prometheus, window, settings),
        versions=versions(prometheus, window),
    )


def collect_row(
    prometheus: Prometheus, dashboard: Json, number: int, *, window: Window, chosen: Chosen | None = None
) -> Section:
    """Ask Prometheus for one row of a dashboard, counted from 0 with each repeated row by itself.

    Raises:
        ServescopeError: Prometheus does not answer, refuses a query, or the dashboard has fewer rows.
    """
    selections = select_variables(dashboard, prometheus, window, chosen=chosen)
    scope = Interpolation(selections, window.macros())
    rows = list(templating.rows(dashboard, selections))
    if not 0 <= number < len(rows):
        raise ServescopeError(f"{dashboard['uid']}: no row {number}; there are {len(rows)}")
    with ThreadPoolExecutor(QUERIES_AT_ONCE) as pool:
        row, panels = rows[number]
        section = _section(
            prometheus,
            dashboard,
            number,
            row=row,
            panels=panels,
            window=window,
            scope=scope,
            pool=pool,
            one_done=lambda what: None,
        )
        return section()


def _board(
    prometheus: Prometheus,
    dashboard: Json,
    window: Window,
    *,
    chosen: Chosen | None,
    pool: ThreadPoolExecutor,
    one_done: Callable[[str], None],
    with_panels: bool,
) -> Board:
    selections = select_variables(dashboard, prometheus, window, chosen=chosen)
    scope = Interpolation(selections, window.macros())
    marks = pool.submit(_marks, prometheus, dashboard, window, scope=scope)
    waiting = [
        _section(
            prometheus,
            dashboard,
            number,
            row=row,
            panels=panels if with_panels else [],
            window=window,
            scope=scope,
            pool=pool,
            one_done=one_done,
        )
        for number, (row, panels) in enumerate(templating.rows(dashboard, selections))
    ]
    return Board(
        uid=dashboard["uid"],
        title=dashboard["title"],
        description=dashboard.get("description", ""),
        sections=[section() for section in waiting],
        marks=marks.result(),
        selections=selections,
        options={},
    )


def _section(
    prometheus: Prometheus,
    dashboard: Json,
    number: int,
    *,
    row: templating.PlacedPanel,
    panels: Sequence[templating.PlacedPanel],
    window: Window,
    scope: Interpolation,
    pool: ThreadPoolExecutor,
    one_done: Callable[[str], None],
) -> Callable[[], Section]:
    """Start on the queries of a row; what is returned waits for them."""

    def draw(placed: templating.PlacedPanel, identity: str) -> View:
        local = scope.narrowed(placed.chosen)
        view = views.view(
            placed.model,
            ask(placed.model, prometheus, window=window, scope=local),
            window,
            scope=local,
            identity=identity,
        )
        one_done(f"{dashboard['title']} / {view.title}")
        return view

    drawn = [pool.submit(draw, placed, f"{dashboard['uid']}-{number}-{p}") for p, placed in enumerate(panels)]
    title = scope.narrowed(row.chosen).title(row.model["title"])
    return lambda: Section(title, [view.result() for view in drawn], bool(row.model.get("collapsed")))


def _marks(prometheus: Prometheus, dashboard: Json, window: Window, *, scope: Interpolation) -> list[Mark]:
    """The dashboard's annotations: every figure that is not zero marks; those without a gap between are one."""
    marks = []
    for annotation in dashboard.get("annotations", {}).get("list", []):
        if not annotation.get("enable") or "expr" not in annotation:
            continue
        for series in prometheus.query_range(
            scope.promql(annotation["expr"]), start=window.start, end=window.end, step_s=window.step_s
        ):
            runs: list[list[float]] = []
            for at, text in series["values"]:
                if float(text) == 0 or text == "NaN":
                    continue
                if runs and at - runs[-1][1] <= window.step_s:
                    runs[-1][1] = at
                else:
                    runs.append([at, at])
            for start, end in runs:
                marks.append(
                    Mark(
                        title=templating.legend(
                            annotation.get("titleFormat", ""), series["metric"], annotation["name"]
                        ),
                        text=templating.legend(annotation.get("textFormat", ""), series["metric"], ""),
                        color=views.color(annotation.get("iconColor", "blue")),
                        start=round(start * 1000),
                        end=round(end * 1000),
                    )
                )
    return sorted(marks, key=lambda mark: (mark.start, mark.title, mark.text))


def fired_alerts(prometheus: Prometheus, window: Window, settings: Settings) -> list[FiredAlert]:
    """The alerts that were pending or firing in the window, those that fired first on top; the watchdog left out."""
    rules = prometheus.alerting_rules()
    pages = {path.stem: text for path, text in runbooks.pages(runbooks.all_groups(settings)).items()}
    states: dict[tuple[tuple[str, str], ...], list[tuple[int, int, str]]] = {}
    for series in prometheus.query_range("ALERTS", start=window.start, end=window.end, step_s=window.step_s):
        labels = dict(series["metric"])
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
                summary=annotations.get("summary", ""),
                runbook_url=url if url.startswith(("http://", "https://")) else "",
                runbook=pages.get(name, ""),
                runs=sorted(runs),
            )
        )
    return sorted(result, key=lambda alert: (alert.firing_from or math.inf, alert.runs[0][0], alert.name))


def versions(prometheus: Prometheus, window: Window) -> dict[str, str]:
    """What ran: servescope, Prometheus, Ray."""
    ray = {
        series["metric"].get("Version", "")
        for series in prometheus.query(
            f"last_over_time(ray_serve_application_status[{window.macros()['__range']}])", window.end
        )
    }
    found = {"servescope": metadata.version("servescope"), "Prometheus": prometheus.version()}
    return found | ({"Ray": ", ".join(sorted(ray - {""}))} if ray - {""} else {})


# ---------------------------------------------------------------------------------------------------------------------
# The page


def script_json(data: Any) -> str:
    """JSON that may stand in a script element: no `<` can end it, and no line separator breaks it."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return (
        text.replace("<", "\\u003c")
        .replace(">", "\\u003e")
        .replace("&", "\\u0026")
        .replace("\u2028", "\\u2028")
        .replace("\u2029", "\\u2029")
    )


@cache
def plotly_js() -> str:
    """The plotting library, as plotly ships it."""
    from plotly.offline import get_plotlyjs

    text: str = get_plotlyjs()
    return text.replace("</script", "<\\/script")


@cache
def asset(name: str) -> str:
    """A file of the page."""
    return (resources.files("servescope") / "page" / name).read_text(encoding="utf-8")


@cache
def _environment() -> Any:
    import jinja2
    from markdown_it import MarkdownIt
    from markupsafe import Markup

    # `html: False` escapes what looks like HTML in the Markdown.
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(asset),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Links between pages of the repository lead nowhere from this one: their text stays.
    environment.filters["markdown"] = lambda text: Markup(markdown.render(_RELATIVE_LINK.sub(r"\1", text)))
    environment.filters["script_json"] = lambda data: Markup(script_json(data))
    environment.filters["when"] = lambda ms: time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(ms / 1000))
    environment.filters["minutes"] = lambda ms: f"{ms / 60000:.0f} min" if ms >= 60000 else f"{ms / 1000:.0f} s"
    return environment


@dataclass(frozen=True, kw_only=True)
class Live:
    """What only the preview's pages have: where they lead, and how often they come anew (seconds, 0 for never)."""

    start: str
    end: str
    boards: Sequence[tuple[str, str]]
    refresh_s: int
    query: str = ""
    row_query: str = ""  # asks for the rows of this very page


def render(report: Report, title: str, live: Live | None = None) -> str:
    """The page. A snapshot carries the plotting library in itself; the preview serves it at /plotly.js."""
    plots = _plots([section for board in report.boards for section in board.sections])
    text: str = (
        _environment()
        .get_template("report.html.j2")
        .render(
            report=report,
            title=title,
            live=live,
            css=_markup(asset("report.css")),
            js=_markup(asset("report.js")),
            plotly=_markup(plotly_js()) if live is None else "",
            plots=plots,
            marks={board.uid: [vars(mark) for mark in board.marks] for board in report.boards},
            link=partial(_link, uids={board.uid for board in report.boards}, live=live),
            digest=hashlib.sha256(plotly_js().encode()).hexdigest()[:12],
        )
    )
    return text


def render_row(section: Section, uid: str, live: Live) -> Json:
    """A row for a page of the preview: `html` of its panels, and what the page's script draws in them (`plots`)."""
    template = _environment().get_template("panels.html.j2")
    html = template.render(section=section, uid=uid, link=partial(_link, uids=(), live=live))
    return {"html": html, "plots": _plots([section])}


def _plots(sections: Sequence[Section]) -> Json:
    return {view.id: view.figure for section in sections for view in section.panels if view.figure}


def _markup(text: str) -> Any:
    from markupsafe import Markup

    return Markup(text)


def _link(
    item: Mapping[str, Any],
    fields: Mapping[str, Any],
    labels: Mapping[str, str],
    *,
    uids: Collection[str],
    live: Live | None,
) -> str:
    """Where a data link leads: to the other dashboard's preview, or to its place on this page; "" for nowhere."""
    url = views.fill_link(item["url"], fields, labels)
    if url.startswith(("http://", "https://")):
        return url
    if not url.startswith("/d/"):
        return ""
    path, _, query = url.partition("?")
    uid = path.removeprefix("/d/").split("/")[0]
    if live is not None:
        kept = [part for part in query.split("&") if part.startswith("var-") and "$" not in part]
        return f"/d/{uid}?" + "&".join([*kept, f"from={quote(live.start)}", f"to={quote(live.end)}"])
    return f"#{uid}" if uid in uids else ""
