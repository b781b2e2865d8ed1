"""What one round of the recording rules and the alert rules costs, at 10, 100 and 1,000 deployments of 10 replicas.

    python -m tests.bench.rules                              # all sizes; writes the section of docs/benchmarks.md
    SIZES="10 100" python -m tests.bench.rules               # some sizes: prints, writes nothing without WRITE=1
    RULES="old/recording.yml old/alerts.yml" SIZES=1000 ...  # other rule files
    BENCH_PROMETHEUS=.tools/prometheus3 ...                  # one server only
    QUICK=1 ...                                              # 10 deployments, whose blocks promtool makes: without Go

Every expression is asked once of a real Prometheus, at the same instant of the same data. That takes the engine and the
blocks that a server's own evaluation takes, needs no clock, and a second run over other rules is of the same data; what
it leaves out is writing the result, a few microseconds for each series. The CPU is that of the server's process from
before a query until after it, garbage collection and HTTP included: the figure to compare on a busy machine, where the
seconds of the clock say little.

The blocks stay in .bench (tests/bench/fleet.py). Records hold what their rule gives at the end of the data.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from servescope.errors import ServescopeError
from tests.bench import budget, fleet, sections
from tests.bench.asking import Answer, Server
from tests.bench.fleet import Fleet
from tests.bench.serve_series import ServeCluster

SHIPPED = ("alerts/servescope-recording.yml", "alerts/servescope-alerts.yml")
PLAIN = ("alerts/plain/servescope-alerts.yml",)
SIZES = (10, 100, 1000)
REPLICAS = 10
SECONDS = 66 * 60  # an hour, and what the first windows look back
SLOWEST = 10
QUICK = bool(os.environ.get("QUICK"))
WRITE = bool(os.environ.get("WRITE"))


@dataclass(frozen=True)
class Rule:
    """One rule and what it cost."""

    name: str
    records: bool
    expression: str
    answer: Answer
    cpu_s: float


@dataclass(frozen=True)
class Group:
    """A rule group in one round."""

    name: str
    interval_s: int
    rules: list[Rule]

    @property
    def cpu_s(self) -> float:
        """What the server used for it."""
        return sum(rule.cpu_s for rule in self.rules)

    @property
    def seconds(self) -> float:
        """What its rules took, one after the other."""
        return sum(rule.answer.seconds for rule in self.rules)

    @property
    def samples(self) -> int:
        """What its rules touched."""
        return sum(rule.answer.samples for rule in self.rules)

    @property
    def written(self) -> int:
        """The series that its recording rules write."""
        return sum(rule.answer.lines for rule in self.rules if rule.records)

    @property
    def share(self) -> float:
        """Of one core, over time."""
        return self.cpu_s / self.interval_s

    @property
    def slowest(self) -> Rule:
        """The rule that cost most."""
        return max(self.rules, key=lambda rule: rule.cpu_s)


@dataclass(frozen=True)
class Round:
    """All groups of some rule files at one size on one server."""

    size: str
    files: str
    version: str
    groups: list[Group]

    @property
    def rules(self) -> list[Rule]:
        """Of all groups, those that cost most first."""
        return sorted((r for group in self.groups for r in group.rules), key=lambda r: (-r.cpu_s, -r.answer.seconds))

    @property
    def failing(self) -> list[Rule]:
        """Rules that the server refuses to evaluate."""
        return [rule for rule in self.rules if rule.answer.error]


def documents(paths: Iterable[str]) -> list[dict[str, Any]]:
    """Rule files as Prometheus reads them."""
    return [yaml.safe_load(Path(path).read_text(encoding="utf-8")) for path in paths]


def evaluate(server: Server, rules: fleet.Rules, end: int) -> list[Group]:
    """One round, group by group."""
    groups = (group for document in rules for group in document["groups"])
    return [
        Group(group["name"], fleet.seconds(group), [_rule(server, rule, end) for rule in group["rules"]])
        for group in groups
    ]


def _rule(server: Server, rule: Mapping[str, Any], end: int) -> Rule:
    name = rule.get("record") or rule["alert"]
    before = server.cpu_seconds()
    answer = server.at(rule["expr"], end)
    return Rule(name, "record" in rule, rule["expr"], answer, server.cpu_seconds() - before)


def measure(files: Mapping[str, fleet.Rules], size: int, program: str) -> list[Round]:
    """One round of each of some sets of rules at one size; the records are those of the first set."""
    whole = Fleet(ServeCluster(size, REPLICAS), SECONDS, by_text=QUICK)
    with whole.server(next(iter(files.values())), program=program) as server:
        server.at('count({__name__=~"ray_serve.*"})', whole.end)  # warms it up
        return [
            Round(whole.name, name, server.version, evaluate(server, rules, whole.end)) for name, rules in files.items()
        ]


# ---------------------------------------------------------------------------------------------------------------------
# What is said of it


def by_group(one: Round) -> str:
    """The table of one round."""
    rows = [
        (
            group.name.removeprefix("servescope."),
            f"{group.interval_s} s",
            str(len(group.rules)),
            f"{group.seconds:.2f}",
            f"{group.cpu_s:.2f}",
            f"{group.samples:,}",
            f"{group.written:,}",
            f"{group.share:.1%}",
            f"{group.slowest.name} {group.slowest.cpu_s:.2f}",
        )
        for group in one.groups
    ]
    total = (
        f"{sum(group.seconds for group in one.groups):.2f}",
        f"{sum(group.cpu_s for group in one.groups):.2f}",
        f"{sum(group.samples for group in one.groups):,}",
        f"{sum(group.written for group in one.groups):,}",
        f"{sum(group.share for group in one.groups):.1%}",
    )
    rows.append(("**sum**", "", str(len(one.rules)), *total, ""))
    head = (
        "group",
        "interval",
        "rules",
        "seconds",
        "CPU s",
        "samples",
        "series written",
        "share of a core",
        "costliest rule, CPU s",
    )
    return sections.table(head, rows)


def slowest(one: Round) -> str:
    """The rules that cost most, and those that fail."""
    rows = [
        (
            rule.name,
            f"{rule.cpu_s:.2f}",
            f"{rule.answer.seconds:.2f}",
            f"{rule.answer.samples:,}",
            f"{rule.answer.peak:,}",
            rule.answer.error,
        )
        for rule in [*one.rules[:SLOWEST], *(r for r in one.failing if r not in one.rules[:SLOWEST])]
    ]
    return sections.table(("rule", "CPU s", "seconds", "samples", "peak", "error"), rows)


def longest(rules: fleet.Rules) -> str:
    """The longest expression, in characters."""
    every = [rule for document in rules for group in document["groups"] for rule in group["rules"]]
    most = max(every, key=lambda rule: len(rule["expr"]))
    return f"{most.get('record') or most['alert']}, {len(most['expr']):,} characters"


def programs() -> list[str]:
    """The servers to measure on: the installed one, and Prometheus 3 where it is there."""
    if named := os.environ.get("BENCH_PROMETHEUS"):
        return [named]
    three = str(fleet.PROMETHEUS3)
    if not shutil.which(three):
        print(f"bench: {three} is missing, so Prometheus 3 is not measured (scripts/setup.sh prometheus3)", flush=True)
        return ["prometheus"]
    return ["prometheus", three]


def main() -> None:
    """Measure and print; write the section if everything was measured."""
    sizes = [10] if QUICK else [int(size) for size in os.environ.get("SIZES", "").split()]
    paths = os.environ.get("RULES", "").split()
    files = {" ".join(paths): documents(paths)} if paths else {"shipped": documents(SHIPPED), "plain": documents(PLAIN)}
    about = sections.machine(("servescope",))
    rounds = []
    for size in sizes or SIZES:
        for program in programs():
            begun = time.monotonic()
            for one in measure(files, size, program):
                rounds.append(one)
                print(f"### {heading(one)}\n\n{by_group(one)}\n\n{slowest(one)}\n", flush=True)
            print(f"{time.monotonic() - begun:.0f} s, with the data\n", flush=True)
    for name, rules in files.items():
        print(f"Longest expression, {name}: {longest(rules)}.")
    if WRITE or not (sizes or paths or os.environ.get("BENCH_PROMETHEUS")):
        budget.write(about, rounds)
        sections.write("rules", section(about, files, rounds))


def heading(one: Round) -> str:
    """What a round is of."""
    return f"{one.size} deployments x replicas, {one.files}, Prometheus {one.version}"


def summary(one: Round) -> tuple[str, ...]:
    """A line of the table of all rounds."""
    most = one.rules[0]
    return (
        one.size,
        one.files,
        one.version,
        str(len(one.rules)),
        f"{sum(group.cpu_s for group in one.groups):.2f}",
        f"{sum(group.samples for group in one.groups):,}",
        f"{sum(group.written for group in one.groups):,}",
        f"{sum(group.share for group in one.groups):.1%}",
        str(len(one.failing)),
        f"{most.name} {most.cpu_s:.2f}",
    )


SUMMARY = (
    "size",
    "rules",
    "Prometheus",
    "number",
    "CPU s",
    "samples",
    "series",
    "share of a core",
    "fail",
    "costliest, CPU s",
)


def section(about: str, files: Mapping[str, fleet.Rules], rounds: list[Round]) -> str:
    """The section of docs/benchmarks.md."""
    shipped = [one for one in rounds if one.files == "shipped"]
    lengths = "; ".join(f"{name}: {longest(rules)}" for name, rules in files.items())
    return "\n\n".join(
        (
            f"""## Rules

One round of all rules over the series of a Serve cluster with so many deployments and replicas: each expression is
asked once of each server, at the end of {SECONDS // 60} minutes of data. *Shipped* are the recording rules and the
alerts that read records; *plain* the alerts that read Ray's series alone (`alerts/plain`). The share of a core is the
CPU of each group's round over its interval.

{about} Longest expression, {lengths}.""",
            sections.table(SUMMARY, map(summary, rounds)),
            *(f"### {heading(one)}\n\n{by_group(one)}" for one in shipped),
        )
    )


if __name__ == "__main__":
    try:
        main()
    except ServescopeError as error:
        sys.exit(f"bench: {error}")
