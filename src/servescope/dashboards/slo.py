"""servescope-slo: how much error budget is left, and how fast does it burn?"""

from __future__ import annotations

from dataclasses import replace

from servescope.dashboards import common
from servescope.grafana import layout, panels, variables
from servescope.grafana.colors import PALETTE
from servescope.grafana.layout import Dashboard
from servescope.grafana.model import Column, Panel, Threshold
from servescope.promql import APPLICATION
from servescope.promql.signals import REQUESTS, Reader
from servescope.promql.slo_series import RECORDED
from servescope.settings import Settings

LEGEND = "{{slo}} {{sli}}"
BUDGET = (Threshold(None, PALETTE.failing), Threshold(0.0, PALETTE.at_risk), Threshold(0.25, PALETTE.neutral))
# The burn rates of the paging alerts over 30 days: 6 and 14.4.
BURN = (Threshold(None, PALETTE.neutral), Threshold(1, PALETTE.at_risk), Threshold(6, PALETTE.failing))
ABSENT = "an SLO (generate its rules with `servescope rules --slo slo.yaml` and wait five minutes)"


def build(settings: Settings, *, recorded: bool = False) -> Dashboard:
    """The dashboard; SLOs are always recorded, so the two variants differ in the requests only."""
    reader = common.reader(settings, recorded)
    cluster = settings.cluster_label
    slo = variables.label_variable(
        "slo", "SLO", f'label_values(serve_slo:objective:ratio{{{cluster}=~"$cluster"}}, slo)', all_value="..*"
    )
    return layout.dashboard(
        uid="servescope-slo",
        title="Ray Serve / SLO",
        description="How much error budget is left, and how fast does it burn?",
        opens_at="now-7d",
        first_look=(
            "The table on the left: the objective that burns fastest is on top, amber where its budget shrinks faster "
            "than it may, red where it pages. Beside it, when the budget was spent: a step is an incident, a slope is "
            "a constant loss. The causes are in the last row."
        ),
        rows=[
            panels.row("Error budget", _budget(cluster)),
            panels.row("Burn rate", _burn(cluster)),
            panels.row("Causes", _causes(cluster, reader)),
        ],
        variables=[*common.standard_variables(settings), slo],
        annotations=common.rollout_marks(settings),
        settings=settings,
    )


def _read(cluster: str, name: str, chosen: str = ', slo=~"$slo"') -> str:
    """A recorded figure by SLO and indicator; the worst of the selected clusters."""
    assert name in RECORDED
    op = "min" if "left" in name or "exhaustion" in name else "max"
    return f'{op} by (slo, sli) ({name}{{{cluster}=~"$cluster"{chosen}}})'


def state(cluster: str) -> Panel:
    """All objectives, one row each, for all applications: for the overview."""
    return panels.table(
        "SLO status",
        description=(
            "One row for each service level objective, for all applications: the share of its error budget that "
            "remains (below 0 it is overspent) and the burn rate over the last hour (1 spends the budget exactly in "
            "the SLO's window)."
        ),
        queries=[
            panels.query(_read(cluster, "serve_slo:error_budget_left:ratio", "")),
            panels.query(_read(cluster, "serve_slo:burn_rate:ratio1h", "")),
        ],
        columns=[
            Column("slo", "SLO", links=(common.to_slo(),)),
            Column("sli", "Indicator"),
            Column("Value #A", "Budget remaining", unit="percentunit", decimals=1, thresholds=BUDGET),
            Column("Value #B", "Burn rate", unit="none", decimals=1, thresholds=BURN),
        ],
        sort_by="Burn rate",
        width=7,
        height=6,
        absent=ABSENT,
    )


def _budget(cluster: str) -> list[Panel]:
    return [
        panels.table(
            "Objectives",
            description=(
                "One row for each service level objective: the target share of good requests, the remaining error "
                "budget (1 is untouched, below 0 is overspent), the burn rate over the last hour (1 spends the budget "
                "exactly in the SLO's window) and the time to exhaustion at that rate. No time is shown when nothing "
                "was spent in the last hour."
            ),
            queries=[
                panels.query(_read(cluster, "serve_slo:objective:ratio")),
                panels.query(_read(cluster, "serve_slo:error_budget_left:ratio")),
                panels.query(_read(cluster, "serve_slo:burn_rate:ratio1h")),
                panels.query(_read(cluster, "serve_slo:time_to_exhaustion:seconds")),
                panels.query(_read(cluster, "serve_slo:requests:events1h")),
            ],
            columns=[
                Column("slo", "SLO"),
                Column("sli", "Indicator"),
                Column("Value #A", "Objective", unit="percentunit", decimals=2),
                Column("Value #B", "Budget remaining", unit="percentunit", decimals=1, thresholds=BUDGET),
                Column("Value #C", "Burn rate", unit="none", decimals=1, thresholds=BURN),
                Column("Value #D", "Time to exhaustion", unit="s"),
                Column("Value #E", "Requests (1h)", unit="short"),
            ],
            sort_by="Burn rate",
            width=12,
            height=9,
            absent=ABSENT,
        ),
        panels.timeseries(
            "Error budget remaining",
            description=(
                "Share of the error budget that remains in the SLO's rolling window. It recovers as old errors leave "
                "the window. Below 0 the objective is missed."
            ),
            unit="percentunit",
            queries=[
                panels.query(common.largest(_read(cluster, "serve_slo:error_budget_left:ratio"), smallest=True), LEGEND)
            ],
            width=12,
            height=9,
            max=1,
            thresholds=BUDGET,
            absent=ABSENT,
        ),
    ]


def _burn(cluster: str) -> list[Panel]:
    return [
        panels.timeseries(
            "Burn rate",
            description=(
                "How fast the error budget is spent, over the last hour. 1 spends it exactly in its window. Over 30 "
                "days, 14.4 for an hour and 6 for six hours page somebody, 3 for a day and 1 for three days open a "
                "ticket."
            ),
            unit="none",
            queries=[panels.query(common.largest(_read(cluster, "serve_slo:burn_rate:ratio1h")), LEGEND)],
            min=0,
            thresholds=BURN,
            absent=ABSENT,
        ),
        panels.timeseries(
            "Error ratio over 5m and 1h",
            description=(
                "Share of bad requests by the objective's definition: failed, rejected or slow. The 5m window shows "
                "what happens now, the 1h window its accumulated effect."
            ),
            unit="percentunit",
            queries=[
                panels.query(common.largest(_read(cluster, "serve_slo:error_ratio:ratio5m"), most=10), f"{LEGEND} 5m"),
                panels.query(common.largest(_read(cluster, "serve_slo:error_ratio:ratio1h"), most=10), f"{LEGEND} 1h"),
            ],
            min=0,
            absent=ABSENT,
        ),
        panels.timeseries(
            "Error ratio over 6h and 3d",
            description=(
                "Share of bad requests over the long windows. They show slow burns: a small error ratio that is easy "
                "to miss and still spends the budget."
            ),
            unit="percentunit",
            queries=[
                panels.query(common.largest(_read(cluster, "serve_slo:error_ratio:ratio6h"), most=10), f"{LEGEND} 6h"),
                panels.query(common.largest(_read(cluster, "serve_slo:error_ratio:ratio3d"), most=10), f"{LEGEND} 3d"),
            ],
            min=0,
            absent=ABSENT,
        ),
    ]


def _causes(cluster: str, every: Reader) -> list[Panel]:
    reader = replace(every, scope=every.scope.narrowed(application='=~".+"'))  # unmatched requests have no application
    return [
        panels.timeseries(
            "Bad requests per hour",
            description="Number of requests in the hour before each point that did not meet the objective.",
            unit="short",
            queries=[panels.query(common.largest(_read(cluster, "serve_slo:errors:events1h")), LEGEND)],
            min=0,
            absent=ABSENT,
        ),
        panels.timeseries(
            "Error ratio by application",
            description="Share of each application's requests that ended in a 5xx, with or without an objective.",
            unit="percentunit",
            queries=[panels.query(common.largest(common.error_ratio(reader, APPLICATION)), "{{application}}")],
            min=0,
            thresholds=common.ERROR_RATIO,
            links=(common.to_deployment(),),
        ),
        panels.timeseries(
            "Requests by application",
            description=(
                "Requests per second that the proxies answered. With little traffic, a few failures are a large error "
                "ratio."
            ),
            unit="reqps",
            queries=[panels.query(common.largest(reader.read(REQUESTS, APPLICATION)), "{{application}}")],
            links=(common.to_deployment(),),
        ),
    ]
