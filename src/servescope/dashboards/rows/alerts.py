"""What fires: the alerts of Prometheus' rules, and those that Grafana evaluates itself."""

from __future__ import annotations

from servescope import promql
from servescope.dashboards import common
from servescope.grafana import alert_panels, panels
from servescope.grafana.colors import PALETTE
from servescope.grafana.model import Column, Link, Panel
from servescope.promql.signals import Reader

# A table sorts texts by the alphabet, and by it critical, info, warning is not the order of urgency: the severities are
# numbered, and the numbers are shown as words.
_SEVERITIES = (
    ("1", "critical", PALETTE.failing),
    ("2", "warning", PALETTE.at_risk),
    ("3", "info", PALETTE.neutral),
)


def firing(reader: Reader, *, width: int, here: bool = False, **matchers: str) -> Panel:
    """The alerts that fire; `matchers` narrow them to those of one deployment (`here`)."""
    by = ("severity", "alertname", *reader.settings.cluster_key, "application", "deployment")
    runbook = reader.settings.runbook("${__value.text}")
    to_runbook = (Link("Open the runbook", runbook),) if "://" in runbook else ()
    expr = promql.total(reader.select("ALERTS", alertstate='="firing"', **matchers), by, "count")
    for rank, name, _ in _SEVERITIES:
        expr = f'label_replace({expr}, "severity", "{rank}", "severity", "{name}")'
    whose = (
        "of the selected deployments and their applications" if here else "for all applications, whichever is selected"
    )
    return panels.table(
        "Firing alerts",
        description=(
            f"Alerts of the bundled rules that fire now, {whose}, the most urgent first. "
            + (
                ""
                if here
                else "ServescopeWatchdog always fires: if it is missing, Prometheus does not evaluate the rules. "
            )
            + "Each alert has a runbook of the same name. Alerts that Grafana evaluates are not in Prometheus: see the "
            "last row of the overview."
        ),
        queries=[panels.query(expr)],
        columns=[
            Column("severity", "Severity", states=_SEVERITIES),
            Column("alertname", "Alert", links=to_runbook),
            *common.cluster_columns(reader.settings),
            Column("application", "Application"),
            Column("deployment", "Deployment"),
            Column("Value #A", "Instances", unit="none"),
        ],
        sort_by="Severity",
        descending=False,
        width=width,
        height=6,
        absent="an alert that fires for what is selected" if here else "",
    )


def managed() -> Panel:
    """The alerts that Grafana evaluates, for those who took alerts/grafana."""
    return alert_panels.alert_list(
        "Alerts in Grafana",
        description=(
            "Alerts that Grafana itself evaluates, firing or in error: the copies of the bundled rules from "
            "alerts/grafana, and any others. Empty for those who have the rules in Prometheus."
        ),
    )
