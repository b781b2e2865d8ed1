"""docs/dashboards: a page for each dashboard and an index, from the dashboards and the alerts themselves."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from servescope.grafana import colors, units
from servescope.grafana.layout import Dashboard
from servescope.grafana.model import Panel, Row
from servescope.json_types import Json
from servescope.promql.layout import lay_out
from servescope.rules.alert import Alert, Group

_KINDS = {
    "timeseries": "Time series",
    "stat": "Stat, current value",
    "bargauge": "Bar gauge, current values",
    "table": "Table, current values",
    "heatmap": "Heatmap",
    "state-timeline": "State timeline",
    "logs": "Log lines, newest first",
    "text": "Text",
    "alertlist": "List of alerts",
}
_LANGUAGES = {"prometheus": "promql", "loki": "logql", "tempo": "traceql"}


def pages(boards: Sequence[Dashboard], groups: Sequence[Group]) -> dict[Path, str]:
    """Every page by path below docs/dashboards; `groups` hold the alerts whose links lead to these panels."""
    alerts: dict[tuple[str, str], list[Alert]] = {}
    for group in groups:
        for alert in group.alerts:
            alerts.setdefault(alert.panel, []).append(alert)
    result = {Path("README.md"): _index(boards)}
    for board in boards:
        result[Path(f"{board.uid}.md")] = page(board, alerts)
    return result


def page(board: Dashboard, alerts: Mapping[tuple[str, str], Sequence[Alert]]) -> str:
    """One dashboard's page: its question, its screenshot, and how to read each panel, row by row."""
    variables = [variable.model["label"] for variable in board.variables]
    marks = [annotation.name for annotation in board.annotations]
    lines = [
        f"# {board.title}",
        "",
        f"**{board.description}**",
        "",
        f"[![{board.title}](../pictures/{board.uid}.png)](../pictures/{board.uid}.png)",
        "",
        f"Import [`{board.uid}.json`](../../dashboards/{board.uid}.json), or the "
        f"[variant](../../dashboards/recorded/{board.uid}.json) that reads recorded series. Variables: "
        f"{', '.join(variables)}.{f' Annotations on every graph: {_listed(marks)}.' if marks else ''}",
        "",
        f"It opens on {_words(board.opening_range)}. Rows: " + ", ".join(f"*{row.title}*" for row in board.rows) + ".",
    ]
    if board.first_look:
        lines += ["", "## In the first ten seconds", "", board.first_look]
    for row in board.rows:
        lines += ["", f"## {row.title}", *_row_note(row)]
        for panel in row.panels:
            lines += ["", *_panel(panel, alerts.get((board.uid, panel.title), ()))]
    lines += ["", "[All dashboards](README.md)"]
    return "\n".join(lines) + "\n"


def _index(boards: Sequence[Dashboard]) -> str:
    lines = [
        "# Dashboards",
        "",
        "How to read each panel, generated from `src/servescope/dashboards` with the default settings. The dashboards "
        "are listed in the order in which the person on call opens them.",
        "",
        "| dashboard | question it answers | panels | of them in rows that are open at first |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| [{board.title}]({board.uid}.md) | {board.description} | {len(board.panels)} | {len(board.open_panels)} |"
        for board in boards
    ]
    lines += [
        "",
        "Colours have one meaning each: red is failing, amber at risk, green good, blue neutral. A gap in a line is a "
        "gap in the data: points across it are not connected. A panel that needs more than a default installation "
        "says what.",
    ]
    return "\n".join(lines) + "\n"


def _row_note(row: Row) -> list[str]:
    return ["", "Collapsed: it sends no query until it is opened."] if row.collapsed else []


def _panel(panel: Panel, alerts: Sequence[Alert]) -> list[str]:
    facts = [_KINDS.get(panel.type, panel.type)]
    if panel.type not in ("table", "state-timeline", "text", "alertlist"):
        facts.append(units.unit_of(panel.unit).words)
    facts += _thresholds(panel)
    lines = [f"### {panel.title}", "", f"*{'; '.join(facts)}.*"]
    if panel.description:
        lines += ["", panel.description]
    if panel.absent:
        lines += ["", f"**No data without** {panel.absent}."]
    states = _states(panel)
    if states:
        lines += ["", f"States: {states}."]
    columns = _columns(panel)
    if columns:
        lines += ["", f"Columns: {', '.join(columns.values())}."]
    if alerts:
        links = [f"[{alert.name}](../runbooks/{alert.name}.md) ({alert.severity})" for alert in alerts]
        lines += ["", f"Alerts that link here: {', '.join(links)}."]
    return lines + _queries(panel)


def _defaults(panel: Panel) -> Json:
    defaults: Json = panel.model["fieldConfig"]["defaults"]
    return defaults


def _thresholds(panel: Panel) -> list[str]:
    """From which value on a colour holds; the first step holds below the others and needs no word."""
    steps = _defaults(panel).get("thresholds", {}).get("steps", [])[1:]
    return [f"{colors.word(step['color'])} from {_value(step['value'], panel.unit)}" for step in steps]


def _value(value: float, unit: str) -> str:
    return f"{value * 100:g} %" if unit == "percentunit" else f"{value:g}"


def _states(panel: Panel) -> str:
    """The names and colours that a state timeline gives its values."""
    if panel.type != "state-timeline":
        return ""
    named = [state for mapping in _defaults(panel).get("mappings", []) for state in mapping["options"].values()]
    return ", ".join(f"{state['text']} ({colors.word(state['color'])})" for state in named)


def _columns(panel: Panel) -> dict[str, str]:
    """A table's column titles by the field that they show; those of a table of traces are Tempo's own."""
    renamed: dict[str, str] = {}
    for transformation in panel.model.get("transformations", ()):
        if transformation["id"] == "organize":
            renamed |= transformation["options"].get("renameByName", {})
    return renamed


def _queries(panel: Panel) -> list[str]:
    targets = panel.model["targets"]
    if not targets:
        return []
    columns = _columns(panel)
    lines = ["", "<details>", f"<summary>{'Queries' if len(targets) > 1 else 'Query'}</summary>"]
    for target in targets:
        name = columns.get(f"Value #{target['refId']}", "")
        if panel.type not in ("table", "heatmap") and target.get("legendFormat", "") not in ("", "__auto"):
            name = target["legendFormat"]
        language = _LANGUAGES[target["datasource"]["type"]]
        text = target["query"] if language == "traceql" else target["expr"]
        text = lay_out(text) if language == "promql" else text
        lines += ["", *([f"`{name}`", ""] if name else []), f"```{language}", text, "```"]
    return [*lines, "", "</details>"]


_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def _words(start: str) -> str:
    """A relative start, `now-6h`, in words: the last 6 hours."""
    match = re.fullmatch(r"now-(\d+)([smhdw])", start)
    if match is None:
        return f"the range from {start}"
    amount, unit = match[1], _UNITS[match[2]]
    return f"the last {unit.removesuffix('s')}" if amount == "1" else f"the last {amount} {unit}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(name.lower() for name in names)
