"""The set-up of the monitoring: an alert for each of the checks in `rules.setup_checks`."""

from __future__ import annotations

from servescope.promql.figures import MINUTES
from servescope.rules.alert import Alert, Group
from servescope.rules.expressions import Expressions
from servescope.rules.setup_checks import SetupCheck, checks


def build(exprs: Expressions) -> Group:
    """The alerts of this group, in the order of the rule file."""
    return Group(
        name="setup",
        title="Set-up of the monitoring",
        alerts=tuple(_alert(check) for check in checks(exprs)),
    )


def _alert(check: SetupCheck) -> Alert:
    return Alert(
        name=check.alert,
        severity=check.severity,
        owner="monitoring",
        # A rollout, a scrape that fails, a Prometheus that has just started: none of them is a set-up.
        for_="15m",
        every_s=MINUTES,
        labels=check.labels,
        expr=check.expr,
        summary=check.finding,
        description=check.description,
        meaning=check.cause,
        impact=check.effect,
        diagnosis=((check.question, check.query),),
        mitigation=(check.cure, f"[Set-ups](../set-ups.md#{check.page}) has the whole story for your store."),
        snippet=check.snippet,
        language=check.language,
        panel=("servescope-cluster", "Scrape targets up"),
        case=check.case,
        no_drill="it is about how metrics are collected, not about Serve; covered by the unit test",
        needs=check.needs,
    )
