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
# The paces of the paging pairs over 30 days: 6 and 14.4 times what the budget allows.
BURN = (Threshold(None, PALETTE.neutral), Threshold(1, PALETTE.at_risk), Threshold(6, PALETTE.failing))
ABSENT = "objectives: generate rules with `servescope rules --slo slo.yaml`, and let three minutes pass"


def build(settings: Settings, *, recorded: bool = False) -> Dashboard:
    """The dashboard; SLOs are always recorded, so the two variants differ in the requests only."""
    reader = common.reader(settings, recorded)
    cluster = settings.cluster_label
    slo = variables.label_variable(
        "slo", "SLO", f'label_values(serve_slo:objective:ratio{{{cluster}=~"$cluster"}}, slo)', all_value=".+"
    )
    return layout.dashboard(
        uid="servescope-slo",
        title="Ray Serve / SLO",
        description="How much error budget is left, and how fast does it burn?",
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
    """A recorded figure by SLO and indicator; the worst of the clusters where several are chosen."""
    assert name in RECORDED
    op = "min" if "left" in name or "exhaustion" in name else "max"
    return f'{op} by (slo, sli) ({name}{{{cluster}=~"$cluster"{chosen}}})'


def state(cluster: str) -> Panel:
    """Every promise in one line, whatever application is chosen: for the overview."""
    return panels.table(
        "SLO status",
        description=(
            "One line for each service level objective: the share of its error budget that is left (below 0 is "
            "overspent) and the pace of the last hour (1 spends the budget exactly in its window)."
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
        width=8,
        height=6,
        absent=ABSENT,
    )


def _budget(cluster: str) -> list[Panel]:
    return [
        panels.table(
            "Objectives",
            description=(
                "One line for each promise: the share of good requests that was promised, what is left of the error "
                "budget (1 is untouched, below 0 is overspent), the pace of the last hour (1 spends the budget "
                "exactly in its window) and the time until it is spent at that pace. No time means that nothing was "
                "spent in the hour."
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
                "Share of the error budget that is left in the SLO's window, which rolls: it recovers as old errors "
                "leave. Below 0 the promise is broken."
            ),
            unit="percentunit",
            queries=[panels.query(_read(cluster, "serve_slo:error_budget_left:ratio"), LEGEND)],
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
                "Pace of the last hour against what the budget allows: 1 spends it in its window exactly; over 30 days "
                "14.4 for an hour and 6 for six hours wake somebody, 3 for a day and 1 for three days open a ticket."
            ),
            unit="none",
            queries=[panels.query(_read(cluster, "serve_slo:burn_rate:ratio1h"), LEGEND)],
            min=0,
            thresholds=BURN,
            absent=ABSENT,
        ),
        panels.timeseries(
            "Error ratio over 5m and 1h",
            description=(
                "Failed, refused or slow requests by the promise: the short window shows the trouble now, the long one "
                "what it adds up to."
            ),
            unit="percentunit",
            queries=[
                panels.query(_read(cluster, "serve_slo:error_ratio:ratio5m"), f"{LEGEND} 5m"),
                panels.query(_read(cluster, "serve_slo:error_ratio:ratio1h"), f"{LEGEND} 1h"),
            ],
            min=0,
            absent=ABSENT,
        ),
        panels.timeseries(
            "Error ratio over 6h and 3d",
            description=(
                "The windows of slow burns: a small share that nobody notices and that spends the budget all the same."
            ),
            unit="percentunit",
            queries=[
                panels.query(_read(cluster, "serve_slo:error_ratio:ratio6h"), f"{LEGEND} 6h"),
                panels.query(_read(cluster, "serve_slo:error_ratio:ratio3d"), f"{LEGEND} 3d"),
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
            description="How many requests broke the promise in the hour before each point.",
            unit="short",
            queries=[panels.query(_read(cluster, "serve_slo:errors:events1h"), LEGEND)],
            min=0,
            absent=ABSENT,
        ),
        panels.timeseries(
            "Error ratio by application",
            description="Share of each application's requests that ended in a 5xx, promise or not.",
            unit="percentunit",
            queries=[panels.query(common.error_ratio(reader, APPLICATION), "{{application}}")],
            min=0,
            thresholds=common.ERROR_RATIO,
            links=(common.to_deployment(),),
        ),
        panels.timeseries(
            "Requests by application",
            description="Requests answered per second: with little traffic few failures are a large share.",
            unit="reqps",
            queries=[panels.query(reader.read(REQUESTS, APPLICATION), "{{application}}")],
            links=(common.to_deployment(),),
        ),
    ]
