"""docs/runbooks: a page for each alert and an index, from the alerts themselves."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import indent

from servescope.pages.markdown import table
from servescope.promql.layout import lay_out
from servescope.rules import alerts
from servescope.rules.alert import OWNERS, Alert, Group
from servescope.rules.slo import rules as slo_rules
from servescope.settings import Settings

_URGENCY = {
    "critical": "critical: users are affected or are about to be; page the person on call",
    "warning": "warning: needs attention during working hours",
    "info": "info: context for other alerts, or advice",
}


def all_groups(settings: Settings) -> list[Group]:
    """Every group that has pages: those of the alert file, and the alert that each SLO gets."""
    return [*alerts.groups(settings), _slo_group()]


def _slo_group() -> Group:
    return Group(name="slo", title="Service level objectives", alerts=(slo_rules.runbook_alert(),))


def pages(groups: list[Group]) -> dict[Path, str]:
    """Every page by path below docs/runbooks."""
    result = {Path("README.md"): _index(groups)}
    for group in groups:
        for alert in group.alerts:
            result[Path(f"{alert.name}.md")] = page(alert)
    return result


def page(alert: Alert) -> str:
    """One alert's page, in the order in which the person on call reads."""
    uid, panel = alert.panel
    lines = [
        f"# {alert.name}",
        "",
        f"**{alert.summary}** {_sentence(_URGENCY[alert.severity])} Who acts: the {OWNERS[alert.owner]}.",
        "",
        "## Impact",
        "",
        alert.impact,
        "",
        "## Meaning",
        "",
        alert.meaning,
        "",
        "## Diagnosis",
        "",
        f"Open the panel [{panel}](../dashboards/{uid}.md#{_anchor(panel)}) on the dashboard `{uid}`; the alert's "
        "`dashboard_url` links to it.",
        "",
    ]
    for number, (question, query) in enumerate(alert.diagnosis, 1):
        lines.append(f"{number}. {question}")
        if query:
            lines += ["", "   ```promql", indent(lay_out(query), "   "), "   ```", ""]
    lines += ["", "## Mitigation", "", *(f"- {step}" for step in alert.mitigation), ""]
    if alert.snippet:
        lines += [f"```{alert.language}", alert.snippet.rstrip("\n"), "```", ""]
    lines += ["## Rule", ""]
    waits = f"It fires after {alert.for_}." if alert.for_ else "It fires immediately."
    lines.append(f"{waits} Needs {alert.needs}." if alert.needs else waits)
    lines += ["", "```promql", lay_out(alert.expr), "```", "", "## Tested by", ""]
    lines.append(f"Drill: `{alert.drill}` (tests/drill/faults.py)." if alert.drill else f"No drill: {alert.no_drill}.")
    lines += ["", "[All alerts](README.md)"]
    text = "\n".join(lines)
    while "\n\n\n" in text:
        text = text.replace("\n\n\n", "\n\n")
    return text + "\n"


def _anchor(title: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w-]", "", title.lower().replace(" ", "-"))


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _index(groups: list[Group]) -> str:
    lines = [
        "# Runbooks",
        "",
        "One page for each alert, generated from `src/servescope/rules`. Severity critical pages the person on call, "
        "warning needs attention during working hours, info gives context. [Alerts](../alerts.md) "
        "lists who acts on each, and what they do first.",
    ]
    for group in groups:
        rows = [(f"[{alert.name}]({alert.name}.md)", alert.severity, alert.summary) for alert in group.alerts]
        lines += ["", f"## {group.title}", "", *table(("alert", "severity", "summary"), rows)]
    return "\n".join(lines) + "\n"
