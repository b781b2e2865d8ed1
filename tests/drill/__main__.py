"""`make drill`: break a live Serve in every way of faults.py, and hold what Alertmanager was told against it.

FAULTS=a,b runs a part (the page goes to .servescope/drill/), RUNS=3 repeats. Exits with 1 on a missed or false alert.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence

import httpx
import psutil
from rich.console import Console

from demo import ROOT
from servescope.errors import ServescopeError
from servescope.files import write_all
from tests.bench.sections import machine
from tests.drill import world
from tests.drill.faults import DESIGNS, FAULTS, Fault, Heal
from tests.drill.judge import Trial, false_alarms, median_detection_s
from tests.drill.report import Result, page
from tests.drill.watch import Watch
from tests.drill.world import World

DEFAULT_BASE = 29000
STAGGER_S = 15
out = Console(highlight=False, markup=False, soft_wrap=True)


def chosen(names: str) -> list[Fault]:
    """The faults of that comma-separated list; all of them for "".

    Raises:
        ServescopeError: there is no such fault.
    """
    if not names:
        return list(FAULTS)
    known = {fault.name: fault for fault in FAULTS}
    wanted = [name.strip() for name in names.split(",")]
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise ServescopeError(f"FAULTS: no fault {', '.join(unknown)}; there are {', '.join(known)}")
    return [fault for fault in FAULTS if fault.name in wanted]


def run_once(faults: Sequence[Fault], base: int, say: Callable[[str], None]) -> Result:
    """Every world that these faults need, one after another."""
    began = time.monotonic()
    result = Result(machine=machine(["ray"]))
    stolen = stolen_s()
    for name, design in DESIGNS.items():
        own = [fault for fault in faults if fault.world == name]
        if not own:
            continue
        say(f"world {name}: {', '.join(fault.name for fault in own)}")
        applications = [app for fault in own for app in fault.apps]
        first = {app.name for fault in own if not fault.arrives for app in fault.apps if app.at_once}
        with (
            World(design, applications, first=first, base=base, say=say) as place,
            Watch(place.alertmanager_url, say) as watch,
        ):
            trials = run_phases(own, place, watch, say=say)
            result.trials += trials
            result.false_alarms += false_alarms(trials, watch.seen())
            result.figures[name] = place.figures()
            say(f"requests by status: {_by_status(place)}")
    result.minutes = (time.monotonic() - began) / 60
    # What the host gives to others is missing here, and no priority gets it back.
    result.machine += f" The host took {stolen_s() - stolen:.0f} s of processor time away."
    return result


def stolen_s() -> float:
    """Processor time that the host gave to other machines since the boot, seconds; 0 where it does not tell."""
    return float(getattr(psutil.cpu_times(), "steal", 0.0))


def run_phases(faults: Sequence[Fault], place: World, watch: Watch, *, say: Callable[[str], None]) -> list[Trial]:
    """Break what belongs to a phase side by side, heal each when all was seen or its time is up, and go on."""
    begun = time.monotonic()
    came: dict[str, float] = {}
    trials: list[Trial] = []
    broken: list[tuple[Trial, Heal]] = []
    for phase in sorted({fault.phase for fault in faults}):
        arriving = [fault for fault in faults if came.get(fault.name) is None and 0 < fault.arrives <= phase]
        place.arrive(app.name for fault in arriving for app in fault.apps)
        came.update({fault.name: time.monotonic() for fault in arriving})
        own = [fault for fault in faults if fault.phase == phase]
        quiet = max(came.get(fault.name, begun) + fault.before_s for fault in own) - time.monotonic()
        if quiet > 0:
            say(f"{quiet:.0f} s more of quiet time first")
            time.sleep(quiet)
        for number, fault in enumerate(own):
            time.sleep(STAGGER_S if number else 0)  # what starts replicas must not do so all at once
            say(f"breaks: {fault.name}: {fault.how}")
            trial = Trial(fault=fault, broke=time.monotonic())
            trials.append(trial)
            broken.append((trial, fault.breaks(place)))
        ending = [(trial, heal) for trial, heal in broken if (trial.fault.until or trial.fault.phase) <= phase]
        _heal_in_turn(ending, trials, watch, say=say)
        broken = [pair for pair in broken if pair not in ending]
        _tidy([trial.fault for trial, _ in ending], place)
        for trial, _ in ending:
            if trial.fault.resolves_s:
                trial.unresolved = _await_end(trial, watch)
    _heal_in_turn(broken, trials, watch, say=say)  # in a part of the drill, the phase that would end it may be missing
    for trial in trials:
        trial.look(watch.seen())
    return trials


def _heal_in_turn(
    open_: Sequence[tuple[Trial, Heal]], trials: Sequence[Trial], watch: Watch, *, say: Callable[[str], None]
) -> None:
    def over(trial: Trial) -> bool:
        passed = time.monotonic() - trial.broke
        longest = max([expect.within_s for expect in trial.fault.must], default=0)
        return passed >= trial.fault.watch_s and (not trial.missed or passed > longest)

    left = list(open_)
    while left:
        time.sleep(1)
        for trial in trials:
            trial.look(watch.seen())
        for trial, heal in [pair for pair in left if over(pair[0])]:
            say(f"heals: {trial.fault.name}; missed: {', '.join(trial.missed) or 'nothing'}")
            heal()
            left.remove((trial, heal))


def _tidy(faults: Sequence[Fault], place: World) -> None:
    """Let settle what was healed; two cores must carry what breaks next."""
    if any(fault.everywhere for fault in faults):
        return
    place.calm(app.name for fault in faults if fault.stays for app in fault.apps)
    place.leave([app.name for fault in faults if not fault.stays for app in fault.apps])


def _await_end(trial: Trial, watch: Watch) -> list[str]:
    """What of the fault's own alerts still fires when its time to resolve is up."""
    own = {*trial.fault.may, *(expect.alert for expect in trial.fault.must)}
    deadline = time.monotonic() + trial.fault.resolves_s
    while True:
        left = [str(seen) for seen in watch.firing() if seen.alert in own and seen.begun[-1] >= trial.broke]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(1)


def _by_status(place: World) -> str:
    counts: dict[str, dict[int, int]] = {}
    for (name, status), count in sorted(place.load.counts.items()):
        counts.setdefault(name, {})[status] = count
    return "; ".join(f"{name} {by}" for name, by in counts.items())


def number_of(name: str, default: int, *, least: int, most: int) -> int:
    """A whole number from the environment.

    Raises:
        ServescopeError: it is none, or out of its bounds.
    """
    text = os.environ.get(name, "") or str(default)
    if not text.isdigit() or not least <= int(text) <= most:
        raise ServescopeError(f"{name}: {text!r} is no number between {least} and {most}")
    return int(text)


def main() -> int:
    """Run the drill; 0 when every expected alert came and no other."""
    reason = world.impossible()
    if reason:
        raise ServescopeError(reason)
    faults = chosen(os.environ.get("FAULTS", ""))
    runs = number_of("RUNS", 1, least=1, most=100)
    base = number_of("PORT_BASE", DEFAULT_BASE, least=1024, most=64000)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    began = time.monotonic()
    lock = threading.Lock()

    def say(line: str) -> None:
        with lock:
            out.print(f"[{time.monotonic() - began:5.0f} s] {line}")

    whole = len(faults) == len(FAULTS)
    target = ROOT / ("docs/drill.md" if whole else ".servescope/drill/part.md")
    command = "make drill" + (f" RUNS={runs}" if runs > 1 else "")
    if not whole:
        command += f" FAULTS={','.join(fault.name for fault in faults)}"
    results: list[Result] = []
    for number in range(1, runs + 1):
        say(f"run {number} of {runs}")
        results.append(run_once(faults, base, say))
        write_all({target: page(results, command, whole)})  # a later run that breaks off loses no earlier one
    out.print(f"the matrix is in {target.relative_to(ROOT)}")
    return _summary(results)


def _summary(results: Sequence[Result]) -> int:
    trials = [trial for result in results for trial in result.trials]
    for trial in trials:
        seen = ", ".join(f"{alert} {at:.0f} s" for alert, at in trial.detected.items()) or "nothing"
        out.print(f"{trial.fault.name}: {seen}; also {', '.join(sorted(trial.also)) or 'nothing'}")
    median = median_detection_s(trials)
    out.print(f"median time to detect: {'-' if median is None else f'{median:.0f} s'}")
    complaints = [f"{trial.fault.name}: {alert} did not fire" for trial in trials for alert in trial.missed]
    complaints += [f"{trial.fault.name}: {line} did not end" for trial in trials for line in trial.unresolved]
    complaints += [f"false positive: {line}" for result in results for line in result.false_alarms]
    for complaint in complaints:
        print(f"drill: {complaint}", file=sys.stderr)
    return 1 if complaints else 0


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ServescopeError, httpx.HTTPError) as error:
        print(f"drill: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("drill: stopped", file=sys.stderr)
        sys.exit(130)
