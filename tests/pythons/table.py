"""Python x extra x command, for the console and for docs/compatibility.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

OK, FAILED, NOT_RUN = "ok", "failed", "not run"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a command on a Python."""

    python: str  # 3.12.1, or what was wished for where there is none
    extra: str  # "" for the package without any
    command: str
    state: str  # one of the three above
    reason: str = ""  # one line, where it is not ok


def grid(outcomes: Sequence[Outcome], pythons: Sequence[str]) -> list[list[str]]:
    """Head and rows: extra, command, and the state on each Python, in the order of the outcomes."""
    states = {(one.extra, one.command, one.python): one.state for one in outcomes}
    rows = dict.fromkeys((one.extra, one.command) for one in outcomes)
    return [
        ["extra", "command", *pythons],
        *(
            [extra or "none", command, *(states.get((extra, command, p), NOT_RUN) for p in pythons)]
            for extra, command in rows
        ),
    ]


def as_text(rows: Sequence[Sequence[str]]) -> str:
    """Columns padded with spaces."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def as_markdown(rows: Sequence[Sequence[str]]) -> str:
    """The same as Markdown, commands as code."""
    head, *body = rows
    lines = [head, ["---"] * len(head), *([extra, f"`{command}`", *states] for extra, command, *states in body)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def reasons(outcomes: Iterable[Outcome]) -> list[str]:
    """A line for each failure, and one for each reason why commands were not run on a Python."""
    failures: list[str] = []
    left_out: Counter[tuple[str, str]] = Counter()
    for one in outcomes:
        if one.state == FAILED:
            failures.append(f"{one.python}, {one.extra or 'no extra'}, {one.command}: {one.reason}")
        elif one.state == NOT_RUN:
            left_out[one.python, one.reason] += 1
    return failures + [f"{python}: {count} not run: {reason}" for (python, reason), count in left_out.items()]


def versions(installed: Mapping[str, Mapping[str, str]]) -> str:
    """`httpx 0.28.1, x 1.2 (3.10.13) or 1.3`: each package of {Python: {package: version}}, the commonest version last.

    Only versions that differ from the last one name their Pythons.
    """
    names = sorted({name for packages in installed.values() for name in packages})
    return ", ".join(f"{name} {_version(name, installed)}" for name in names)


def _version(name: str, installed: Mapping[str, Mapping[str, str]]) -> str:
    pythons: dict[str, list[str]] = {}
    for python, packages in installed.items():
        if name in packages:
            pythons.setdefault(packages[name], []).append(python)
    *others, common = sorted(pythons, key=lambda version: len(pythons[version]))
    return " or ".join([*(f"{version} ({', '.join(pythons[version])})" for version in others), common])
