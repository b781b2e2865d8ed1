"""The matrix of a drill, as a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from servescope.rules import alerts
from tests.drill import pace
from tests.drill.judge import ALWAYS, Trial, median_detection_s


@dataclass(kw_only=True)
class Result:
    """One run: its trials, its false positives, the load on Prometheus by cluster, and the machine."""

    trials: list[Trial] = field(default_factory=list)
    false_alarms: list[str] = field(default_factory=list)
    figures: dict[str, dict[str, float]] = field(default_factory=dict)
    minutes: float = 0
    machine: str = ""

    @property
    def good(self) -> bool:
        """Whether every expected alert came, nothing else did, and what should resolve by itself resolved."""
        return not self.false_alarms and not any(trial.missed or trial.unresolved for trial in self.trials)


def page(results: Sequence[Result], command: str, whole: bool) -> str:
    """The page, in Markdown."""
    trials = [trial for result in results for trial in result.trials]
    median = median_detection_s(trials)
    expected = sum(len(trial.fault.must) for trial in trials)
    missed = sum(len(trial.missed) for trial in trials)
    wrong = sum(len(result.false_alarms) for result in results)
    interval = pace.SETTINGS.scrape_interval_s / pace.SCALE
    lines = [
        "# Fault injection (the drill)",
        "",
        f"Written by `{command}`{'' if whole else ', a part of the drill'}; do not edit. A fault injection test: each "
        "of these faults is injected into a live Ray Serve on two nodes, monitored by a Prometheus with the rules of "
        "`alerts/` and an Alertmanager. Every duration (ranges, offsets, `for`, scrape and evaluation interval, "
        f"staleness, Ray's report intervals) is divided by {pace.SCALE:g}, so Prometheus scrapes every {interval:g} s "
        f"and five minutes are {300 / pace.SCALE:g} s. Expressions and thresholds are unchanged, except that a start "
        f"counts as slow from {pace.SETTINGS.slow_start_ms / 1000:g} s on. Times are seconds of the drill, from the "
        "fault to the alert at Alertmanager; multiply them by the factor for real ones.",
        "",
        f"Runs: {len(results)}, {' and '.join(f'{result.minutes:.0f}' for result in results)} minutes. Expected alerts "
        f"fired: {expected - missed} of {expected}. False positives: {wrong}. Median time to detect: "
        f"{'-' if median is None else f'{median:.0f} s'}.",
        "",
        *(f"- run {i}: {result.machine}" for i, result in enumerate(results, 1)),
        "",
        "| fault | injected fault | expected alert | fired after, s | in time | also fired, as allowed |",
        "|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(trial.fault.name for trial in trials):
        lines += _rows([trial for trial in trials if trial.fault.name == name])
    lines += ["", "## False positives", ""]
    lines += [f"- run {i}: {line}" for i, result in enumerate(results, 1) for line in result.false_alarms] or ["None."]
    lines += ["", "## Not resolved", ""]
    lines += [
        f"- run {i}: {trial.fault.name}: {line}"
        for i, result in enumerate(results, 1)
        for trial in result.trials
        for line in trial.unresolved
    ] or ["None: every alert that should resolve after recovery did."]
    lines += ["", "## Load on Prometheus", "", "| run | cluster | figure | value |", "|---|---|---|---|"]
    lines += [
        f"| {i} | {name} | {figure} | {value:.3g} |"
        for i, result in enumerate(results, 1)
        for name, figures in result.figures.items()
        for figure, value in figures.items()
    ]
    lines += ["", "## Alerts without a drill", "", "Each of these has a promtool test instead.", ""]
    lines += ["| alert | why it has no drill |", "|---|---|"]
    lines += [f"| {a.name} | {a.no_drill} |" for a in alerts.all_alerts(pace.SETTINGS) if a.no_drill]
    return "\n".join(lines) + "\n"


def _rows(trials: Sequence[Trial]) -> list[str]:
    fault = trials[0].fault
    also = sorted({alert for trial in trials for alert in trial.also})
    if not fault.must:
        return [f"| `{fault.name}` | {fault.how} | none | | {'yes' if not also else ''} | {', '.join(also)} |"]
    rows = []
    for i, expect in enumerate(fault.must):
        times = [trial.detected.get(expect.alert) for trial in trials]
        shown = ", ".join("missed" if at is None else f"{at:.0f}" for at in times)
        if expect.alert in ALWAYS:
            shown = "always fires"
        in_time = "yes" if None not in times else "**no**"
        first = (f"`{fault.name}`", fault.how) if i == 0 else ("", "")
        rows.append(
            f"| {first[0]} | {first[1]} | {expect.alert} (within {expect.within_s:g}) | {shown} | {in_time} | "
            f"{', '.join(also) if i == 0 else ''} |"
        )
    return rows
