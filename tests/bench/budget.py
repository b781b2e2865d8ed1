"""What the rules' intervals cost: the table of docs/scale.md, from the rounds that tests/bench/rules.py measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench import sections

if TYPE_CHECKING:
    from tests.bench.rules import Group, Round

PAGE = Path("docs/scale.md")
INTERVALS_S = (15, 30, 60)

# The parts of the budget: which groups, and whether a setting changes their interval.
PARTS: tuple[tuple[str, Callable[[str], bool], bool], ...] = (
    ("recording rules (`recording_interval_s`)", lambda name: name.startswith(("serve_", "ray_")), True),
    ("alerts that act within minutes (`alert_interval_s`)", lambda name: "." not in name, True),
    ("alerts that judge over minutes, every 60 s", lambda name: name.endswith(".60s"), False),
    ("quantiles of each replica, every 240 s", lambda name: name == "replicas.240s", False),
    ("other alerts every 240 s", lambda name: name.endswith(".240s"), False),
)


def write(about: str, rounds: Sequence[Round]) -> None:
    """Put the table into the page."""
    of_fleets = [
        one for one in rounds if one.files == "shipped" and one.version.startswith("2.") and one.size != "10 x 10"
    ]
    texts = [_table(one) for one in of_fleets]
    sections.write("budget", "\n\n".join((f"{HEADING}\n\n{about}", *texts)), PAGE)


HEADING = """## What the intervals allow

Share of one core that Prometheus spends on the rules, if both settings have this value (`make bench BENCHES=rules`)."""


def _table(one: Round) -> str:
    rows = []
    sums = dict.fromkeys(INTERVALS_S, 0.0)
    left = list(one.groups)
    for title, holds, changes in PARTS:
        groups = [group for group in left if holds(group.name.removeprefix("servescope."))]
        left = [group for group in left if group not in groups]
        shares = {interval: sum(_share(group, interval, changes=changes) for group in groups) for interval in sums}
        for interval, share in shares.items():
            sums[interval] += share
        cpu_s = sum(group.cpu_s for group in groups)
        rows.append((title, f"{cpu_s:.2f}", *(f"{share:.1%}" for share in shares.values())))
    assert not left, left
    rows.append(("**sum**", "", *(f"{share:.1%}" for share in sums.values())))
    head = (f"{one.size} deployments x replicas", "CPU s a round", *(f"{interval} s" for interval in INTERVALS_S))
    return sections.table(head, rows)


def _share(group: Group, interval_s: int, *, changes: bool) -> float:
    """Of a core; what has an interval of its own, and a longer one than the setting, keeps it."""
    return group.cpu_s / (max(interval_s, group.interval_s) if changes else group.interval_s)
