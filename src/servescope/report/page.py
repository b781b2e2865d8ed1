"""A report as a page of HTML: `render` makes a whole one, `render_row` a row for the preview."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib import resources
from typing import Any

from servescope.clients.model import LogRecord
from servescope.json_types import Json
from servescope.report import collected, views
from servescope.report.collected import Answer
from servescope.report.model import FiredAlert, Report, Section
from servescope.report.queries import Window
from servescope.report.waterfall import Waterfall

_RELATIVE_LINK = re.compile(r"\[([^\]\n]+)\]\((?![a-z]+:|#)[^)\n]*\)")


def script_json(data: Any) -> str:
    """JSON that is safe in a script element: no `<` can end it, and no line separator breaks it."""
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
    """The plotting library as shipped by plotly."""
    from plotly.offline import get_plotlyjs

    text: str = get_plotlyjs()
    return text.replace("</script", "<\\/script")


@cache
def asset(name: str) -> str:
    """A file of the page."""
    return (resources.files("servescope.report") / "assets" / name).read_text(encoding="utf-8")


@cache
def _environment() -> Any:
    import jinja2
    from markdown_it import MarkdownIt
    from markupsafe import Markup

    # `html: False` escapes HTML in the Markdown.
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(asset),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Links between pages of the repository are dead on this page: only their text stays.
    environment.filters["markdown"] = lambda text: Markup(markdown.render(_RELATIVE_LINK.sub(r"\1", text)))
    environment.filters["script_json"] = lambda data: Markup(script_json(data))
    environment.filters["when"] = lambda ms: time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(ms / 1000))
    environment.filters["when_ms"] = lambda ms: (
        f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(ms / 1000))}.{int(ms) % 1000:03}"
    )
    environment.filters["first_line"] = lambda text: text.partition("\n")[0]
    environment.filters["more_lines"] = lambda text: text.partition("\n")[2]
    environment.filters["last_line"] = lambda text: text.strip().rpartition("\n")[2][:500]
    environment.filters["reason"] = _reason
    environment.filters["line_count"] = lambda text: text.count("\n") + 1
    environment.filters["trace_link"] = collected.trace_link
    environment.filters["request_link"] = collected.request_link
    environment.filters["minutes"] = _minutes
    environment.filters["since"] = _since
    return environment


def _reason(message: str) -> str:
    """The line of a failure's message that says why: Ray's messages are tracebacks, whose last line does."""
    lines = message.strip().splitlines() or [""]
    return (lines[-1] if 'File "' in message else lines[0])[:500]


def _minutes(ms: float) -> str:
    return f"{ms / 60000:.0f} min" if ms >= 60000 else f"{ms / 1000:.0f} s"


def _since(alert: FiredAlert, window: Window) -> str:
    """In which state an alert is, and since when: `firing since 10:02:15 (3 min)`; the latest time where it is over."""
    state = alert.state(round(window.end * 1000))
    start, end, _ = [run for run in alert.runs if run[2] == ("firing" if alert.firing_from else "pending")][-1]
    moment = partial(time.strftime, "%H:%M:%S" if window.end - window.start <= 86400 else "%Y-%m-%d %H:%M")
    begin = moment(time.gmtime(start / 1000))
    if end < round(window.end * 1000):
        return f"{'fired' if state == 'resolved' else 'was pending'} {begin} to {moment(time.gmtime(end / 1000))}"
    before = "before " if start <= round(window.start * 1000) else ""
    return f"{state} since {before}{begin} ({_minutes(end - start)})"


def content_security_policy(*, live: bool) -> str:
    """What a page may load and run: its own scripts by their hashes, nothing from another server.

    The preview's pages may ask the preview; plots set styles of their own. Plotly's heatmaps are images in the page.
    """
    own = "'self'" if live else _script_hash(plotly_js())
    rules = {
        "default-src": "'none'",
        "script-src": f"{own} {_script_hash(asset('report.js'))}",
        "style-src": "'unsafe-inline'",
        "img-src": "data: blob:",
        "base-uri": "'none'",
        "form-action": "'self'" if live else "'none'",
    } | ({"connect-src": "'self'", "frame-ancestors": "'none'"} if live else {})
    return "; ".join(f"{name} {sources}" for name, sources in rules.items())


@cache
def _script_hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@dataclass(frozen=True, kw_only=True)
class Live:
    """Fields of the preview's pages only: links, and the refresh interval (seconds, 0 for none)."""

    start: str
    end: str
    boards: Sequence[tuple[str, str]]
    refresh_s: int
    asked: bool = True  # whether the reader chose the time range; else links leave it to the page that they lead to
    all_there_is: str = ""  # the range in words where it is short because Prometheus has no older samples
    query: str = ""
    row_query: str = ""  # the query for the rows of this page
    texts: Sequence[tuple[str, str]] = ()  # variables that are typed in, with their values
    traced: bool = False  # whether a point in a plot leads to traces


def render(report: Report, title: str, live: Live | None = None) -> str:
    """The page. A snapshot embeds the plotting library; the preview serves it at /plotly.js."""
    plots = _plots([section for board in report.boards for section in board.sections])
    text: str = (
        _environment()
        .get_template("report.html.j2")
        .render(
            report=report,
            alerts=_by_state(report),
            title=title,
            live=live,
            css=_markup(asset("report.css")),
            js=_markup(asset("report.js")),
            plotly=_markup(plotly_js()) if live is None else "",
            policy=content_security_policy(live=False) if live is None else "",
            plots=plots,
            marks={board.uid: [vars(mark) for mark in board.marks] for board in report.boards},
            link=partial(_link, uids={board.uid for board in report.boards}, live=live),
            digest=hashlib.sha256(plotly_js().encode()).hexdigest()[:12],
        )
    )
    return text


def render_row(section: Section, uid: str, live: Live, *, problems: Sequence[str] = ()) -> Json:
    """A row for a page of the preview: `html` of its panels, and what the page's script draws in them (`plots`).

    `problems` are shown above the panels, a line each.
    """
    template = _environment().get_template("panels.html.j2")
    link = partial(_link, uids=(), live=live)
    html = template.render(section=section, uid=uid, link=link, problems=problems, live=live)
    return {"html": html, "plots": _plots([section])}


def render_evidence(
    title: str,
    *,
    waterfalls: Sequence[Waterfall] = (),
    table: Answer | None = None,
    lines: Sequence[LogRecord] = (),
    problems: Sequence[str] = (),
) -> str:
    """A page of the preview on traces and log lines: waterfalls, a table, or lines."""
    text: str = (
        _environment()
        .get_template("trace.html.j2")
        .render(
            title=title,
            css=_markup(asset("report.css")),
            waterfalls=waterfalls,
            table=table,
            lines=lines,
            problems=problems,
        )
    )
    return text


def _by_state(report: Report) -> dict[str, list[FiredAlert]]:
    groups: dict[str, list[FiredAlert]] = {"firing": [], "resolved": [], "pending": [], "passed": []}
    for alert in report.alerts:
        groups[alert.state(round(report.window.end * 1000))].append(alert)
    return groups


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
    """The target of a data link: the other dashboard's preview, or its section on this page; "" for none.

    Where the link names a panel, so does the fragment, and the page's script opens and shows it.
    """
    url = views.fill_link(item["url"], fields, labels)
    if url.startswith(("/trace/", "/request/")):
        return url if live is not None else ""
    if url.startswith(("http://", "https://")):
        return url
    if not url.startswith("/d/"):
        return ""
    path, _, query = url.partition("?")
    uid = path.removeprefix("/d/").split("/")[0]
    parts = query.split("&")
    panel = next((f"/{part.removeprefix('viewPanel=')}" for part in parts if part.startswith("viewPanel=")), "")
    if live is not None:
        kept = [part for part in parts if part.startswith("var-") and "$" not in part]
        return f"/d/{uid}?" + "&".join([*kept, *filter(None, [live.query])]) + (f"#{uid}{panel}" if panel else "")
    return f"#{uid}{panel}" if uid in uids else ""
