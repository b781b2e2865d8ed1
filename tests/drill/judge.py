"""What a run has shown: which expected alerts came and when, and which came that nobody expected."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.drill.faults import Expect, Fault
from tests.drill.watch import Seen

ALWAYS = ("ServescopeWatchdog",)  # it fires because nothing is wrong


@dataclass(kw_only=True)
class Trial:
    """One fault in one run. `broke` is when (monotonic seconds); `detected` maps each expected alert to seconds."""

    fault: Fault
    broke: float
    detected: dict[str, float] = field(default_factory=dict)
    also: set[str] = field(default_factory=set)  # what fired besides and may
    unresolved: list[str] = field(default_factory=list)

    @property
    def missed(self) -> list[str]:
        """Expected alerts that did not come in time."""
        return [expect.alert for expect in self.fault.must if expect.alert not in self.detected]

    def look(self, seen: Sequence[Seen]) -> None:
        """Take note of the expected alerts that have come."""
        for expect in self.fault.must:
            times = [at - self.broke for one in seen if fits(self.fault, expect, one) for at in one.begun]
            if expect.alert in ALWAYS:
                times = [max(0.0, at) for at in times]
            in_time = [at for at in times if 0 <= at <= expect.within_s]
            if in_time:
                self.detected[expect.alert] = min(in_time)
        expected = {expect.alert for expect in self.fault.must}
        self.also = {
            one.alert
            for one in seen
            if one.alert in self.fault.may and one.alert not in expected and of(self.fault, one)
            if one.begun[-1] >= self.broke
        }


def of(fault: Fault, seen: Seen) -> bool:
    """Whether the alert speaks of the fault's own applications, or of the cluster."""
    application = seen.labels.get("application")
    own = application is None or application in {app.name for app in fault.apps}
    return own or fault.everywhere or seen.alert in fault.anywhere


def fits(fault: Fault, expect: Expect, seen: Seen) -> bool:
    """Whether it is the alert that was expected."""
    own = seen.labels.get("application") in {None, *(app.name for app in fault.apps)}
    return seen.alert == expect.alert and own and expect.labels.items() <= seen.labels.items()


def false_alarms(trials: Sequence[Trial], seen: Sequence[Seen]) -> list[str]:
    """The alerts that came while no fault that had begun explains them."""
    found = []
    for one in seen:
        if one.alert in ALWAYS:
            continue
        for at in one.begun:
            explained = any(
                trial.broke <= at
                and of(trial.fault, one)
                and one.alert in {*trial.fault.may, *(expect.alert for expect in trial.fault.must)}
                for trial in trials
            )
            if not explained:
                found.append(f"{one} after {at - min((t.broke for t in trials), default=at):.0f} s")
    return found


def median_detection_s(trials: Sequence[Trial]) -> float | None:
    """The median over every expected alert that came, without the one that always fires."""
    times = [at for trial in trials for alert, at in trial.detected.items() if alert not in ALWAYS]
    return statistics.median(times) if times else None
