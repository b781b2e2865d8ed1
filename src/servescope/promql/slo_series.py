"""The series that the recording rules of SLOs write: their names, labels and meaning."""

from __future__ import annotations

# Windows up to six hours are summed from the counts of minutes, every minute; longer ones from those of four minutes.
SHORT_WINDOWS = ("5m", "30m", "1h", "2h", "6h")
LONG_WINDOWS = ("1d", "3d")
RATIO_WINDOWS = (*SHORT_WINDOWS, *LONG_WINDOWS)

LABELS = ("slo", "sli", "application", "deployment", "route")

# Everything that the rules record, with what it is; the dashboard and the lint read from here.
RECORDED = {
    "serve_slo:requests:events1m": "requests of one minute",
    "serve_slo:errors:events1m": "requests of one minute that did not meet the objective",
    "serve_slo:requests:events4m": "requests of the last four minutes, and of earlier minutes not counted in it yet",
    "serve_slo:errors:events4m": "those of them that did not meet the objective",
    "serve_slo:requests:events1h": "requests of the last hour",
    "serve_slo:errors:events1h": "requests of the last hour that did not meet the objective",
    **{f"serve_slo:error_ratio:ratio{w}": f"share of bad requests over {w}" for w in (*RATIO_WINDOWS, "30d")},
    "serve_slo:objective:ratio": "the objective: target share of good requests",
    "serve_slo:error_budget_left:ratio": "share of the error budget that remains, below 0 when it is overspent",
    "serve_slo:burn_rate:ratio1h": "burn rate over the last hour: 1 spends the whole budget in the window exactly",
    "serve_slo:time_to_exhaustion:seconds": "time until the budget is spent, at the burn rate of the last hour",
}
