"""What a fault may cost an agent, and the known deviations from what is promised."""

from __future__ import annotations

from dataclasses import dataclass

from tests.drill.logs.faults import KILLS, SAID_NOTHING, Outcome


@dataclass(frozen=True, kw_only=True)
class Bound:
    """What a fault may cost an agent: lines lost, lines twice (None: all that were written), memory in MiB, all of it
    or without mapped files (0: any), and what may be `wrong`.

    `why` is the reason where that is more than what is promised: a known deviation, which docs/logs.md shows.
    """

    lost: int = 0
    twice: int | None = 0
    mib: int = 0
    own_mib: int = 0
    wrong: str = ""
    why: str = ""


def after_kills(times: int, kind: str) -> Bound:
    """What kills may cost where one file is open: each of them its pending record, and what was not yet ticked off.

    For Fluent Bit that is at most a chunk of 2 MB, some 2,000 lines.
    """
    if kind == "otelcol":
        why = "it saves its position only at the end of a file; lines read since then are sent again"
        return Bound(lost=times, twice=None, why=why)
    return Bound(lost=times, twice=times * 2000)


IN_FIVE_MINUTES = Bound(mib=100)
DEVIATIONS: dict[tuple[str, str], Bound] = {
    ("rotation while it is down", "fluent-bit"): Bound(
        lost=3200, why="it does not read rotated files: what is rotated while it is down is lost"
    ),
    ("output down for 5 min", "otelcol"): Bound(
        own_mib=100,
        why="its queue file is mapped into memory as a whole; the system reclaims these pages when it needs them",
    ),
    ("an unreadable directory, as its owner", "otelcol"): Bound(
        wrong=SAID_NOTHING, why="the file_log receiver reports it at log level debug only, and in no metric"
    ),
}


def bound(fault: str, kind: str) -> Bound:
    """What a fault may cost an agent; nothing where nothing is said of it."""
    usual = {
        "kill -9 and start, eight times": after_kills(KILLS, kind),
        "output down for 5 min": IN_FIVE_MINUTES,
    }
    return DEVIATIONS.get((fault, kind)) or usual.get(fault, Bound())


def breaches(outcome: Outcome, allowed: Bound) -> list[str]:
    """Where an outcome is worse than what is allowed."""
    found = []
    if outcome.lost > allowed.lost:
        found.append(f"{outcome.lost:,} lost, {allowed.lost:,} allowed")
    twice = outcome.written if allowed.twice is None else allowed.twice
    if outcome.duplicated > twice:
        found.append(f"{outcome.duplicated:,} twice, {twice:,} allowed")
    if allowed.mib and outcome.mib > allowed.mib:
        found.append(f"{outcome.mib} MiB of memory, {allowed.mib} allowed")
    if allowed.own_mib and outcome.own_mib > allowed.own_mib:
        found.append(f"{outcome.own_mib} MiB of memory without mapped files, {allowed.own_mib} allowed")
    if outcome.wrong and outcome.wrong != allowed.wrong:
        found.append(outcome.wrong)
    return found
