"""What it costs to open our dashboards, plain and recorded, and Ray's own, over the same data.

    python -m tests.bench.dashboards                              # all; writes the section of docs/benchmarks.md
    SIZES="10 100" RANGES=1h BOARDS=overview python -m ...        # some: prints every panel
    QUICK=1 ...                                                   # 10 deployments, blocks by promtool: without Go

A part writes its section with WRITE=1 alone.

Every query of every panel and annotation is asked once of a real Prometheus, filled in as Grafana does on a graph of
1,100 pixels, and the server says how many samples it touched. It counts nothing within a subquery, and it counts at
each step what it evaluates once, for the whole range. Both are made good, since ours have such and Ray's do not. Counts
are exact and repeat; seconds and CPU are of this machine. A dashboard that takes longer than BUDGET_S seconds is cut
short, and the table says so.

The blocks stay in .bench (tests/bench/fleet.py).
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from servescope.dashboards import all_dashboards
from servescope.errors import ServescopeError
from servescope.grafana.templating import Interpolation, Selection, interval
from servescope.promql.durations import milliseconds
from servescope.report.queries import Window, panels_of
from servescope.settings import Settings
from tests.bench import rules, sections, serve_series
from tests.bench.asking import Answer, Server
from tests.bench.fleet import Fleet
from tests.bench.serve_series import ServeCluster

REPLICAS = 10
PIXELS = 1100
BEFORE_S = 360  # data before the range, for the first windows
BUDGET_S = float(os.environ.get("BUDGET_S") or 240)
RANGES = {10: ("1h", "6h", "24h"), 100: ("1h", "6h", "24h"), 1000: ("1h",)}
LONG = ("overview", "deployment", "Ray")  # what is asked over more than an hour
APPLICATION, DEPLOYMENT = "app-0001", serve_series.MODEL
LATENCY = re.compile(r"latency_ms_bucket")
# Drawn as lines or bars: more than some twenty cannot be told apart. A timeline of states has pages of twenty bands.
PLOTS = {"timeseries", "bargauge", "barchart", "graph"}


@dataclass(frozen=True)
class Board:
    """A dashboard as Grafana imports it, and what is chosen in its variables: All in those not named."""

    name: str
    document: Mapping[str, Any]
    chosen: Mapping[str, str]

    def selections(self) -> dict[str, Selection]:
        """The choice in each variable."""
        made = {}
        for variable in self.document["templating"]["list"]:
            name = variable["name"]
            if name in self.chosen:
                made[name] = Selection(values=(self.chosen[name],))
            elif variable["type"] != "datasource":
                made[name] = Selection(values=(), everything=True, all_value=variable.get("allValue") or ".*")
        return made


@dataclass(frozen=True)
class Asked:
    """One query of a panel or an annotation, and what it cost."""

    panel: str
    kind: str
    expression: str
    answer: Answer | None  # None where the budget was spent
    cpu_s: float = 0


@dataclass(frozen=True)
class Opened:
    """A dashboard that was opened once."""

    board: str
    range: str
    size: str
    queries: list[Asked]

    @property
    def answered(self) -> list[tuple[Asked, Answer]]:
        """The queries that were asked, with their answers."""
        return [(asked, asked.answer) for asked in self.queries if asked.answer]

    @property
    def samples(self) -> int:
        """What all queries read."""
        return sum(answer.touched for _, answer in self.answered)

    @property
    def counted(self) -> int:
        """The same as the server counts it."""
        return sum(answer.samples for _, answer in self.answered)

    @property
    def latency_samples(self) -> int:
        """What the queries of latency quantiles read."""
        return sum(answer.touched for asked, answer in self.answered if LATENCY.search(asked.expression))

    @property
    def bytes(self) -> int:
        """All answers."""
        return sum(answer.bytes for _, answer in self.answered)

    @property
    def plots(self) -> dict[str, int]:
        """How many lines or bars each plot has."""
        drawn = {title: [a.lines for q, a in panel if q.kind in PLOTS] for title, panel in self.panels}
        return {title: sum(lines) for title, lines in drawn.items() if lines}

    @property
    def lines(self) -> int:
        """The most lines in one plot."""
        return max(self.plots.values())

    @property
    def panels(self) -> list[tuple[str, list[tuple[Asked, Answer]]]]:
        """Each panel with its queries."""
        grouped = groupby(self.answered, key=lambda found: found[0].panel)
        return [(title, list(found)) for title, found in grouped]

    @property
    def slowest(self) -> tuple[str, float]:
        """The panel that cost most, and the CPU of its queries."""
        return max(((title, sum(q.cpu_s for q, _ in found)) for title, found in self.panels), key=lambda one: one[1])

    @property
    def failed(self) -> list[tuple[Asked, str]]:
        """The queries that the server refused or gave up, and what it said."""
        return [(asked, answer.error) for asked, answer in self.answered if answer.error]


def boards() -> list[Board]:
    """Ours, and Ray's where Ray is installed."""
    one = {"application": APPLICATION, "deployment": DEPLOYMENT}
    found = [
        Board(f"{board.uid.removeprefix('servescope-')} {'recorded' if recorded else 'plain'}", board.to_json(), one)
        for recorded in (True, False)
        for board in all_dashboards(Settings(), recorded=recorded)
        if board.uid != "servescope-slo"  # its series come from a team's own objectives
    ]
    # Only the deployment dashboard is of one: the others show all.
    return [board if "deployment" in board.name else replace(board, chosen={}) for board in found] + rays_boards()


def rays_boards() -> list[Board]:
    """The dashboards of Serve that Ray itself writes for Grafana."""
    module = "ray.dashboard.modules.metrics.grafana_dashboard_factory"
    if importlib.util.find_spec("ray") is None:
        print("bench: Ray is not installed, so its own dashboards are not measured", flush=True)
        return []
    factory = importlib.import_module(module)
    whole, _ = factory.generate_serve_grafana_dashboard()
    deployment, _ = factory.generate_serve_deployment_grafana_dashboard()
    one = {"Application": APPLICATION, "Deployment": DEPLOYMENT}
    return [Board("Ray Serve", json.loads(whole), {}), Board("Ray Serve Deployment", json.loads(deployment), one)]


def queries(board: Board, window: Window) -> Iterator[tuple[str, str, str, bool]]:
    """Panel, its kind, the query filled in, and whether it asks for an instant."""
    scope = Interpolation(board.selections(), window.macros())
    for panel in panels_of(board.document):
        for target in panel.get("targets", []):
            source = target.get("datasource") or {}
            if isinstance(source, dict) and source.get("type", "prometheus") != "prometheus":
                continue
            yield panel["title"], panel["type"], scope.promql(target["expr"]), bool(target.get("instant"))
    for annotation in board.document.get("annotations", {}).get("list", []):
        if annotation.get("expr"):
            yield f"annotation {annotation['name']}", "annotation", scope.promql(annotation["expr"]), False


def opened(board: Board, server: Server, fleet: Fleet, span: str) -> Opened:
    """Open a dashboard over a range (`1h`) that ends with the data."""
    length_s = round(milliseconds(span) / 1000)
    step = round(interval(length_s, PIXELS, serve_series.SCRAPE_S))
    window = Window(fleet.end - length_s, fleet.end, step_s=step)
    found: dict[tuple[str, bool], tuple[Answer, float]] = {}
    asked = []
    for panel, kind, expression, instant in queries(board, window):
        key = expression, instant
        if key not in found and sum(answer.seconds for answer, _ in found.values()) < BUDGET_S:
            found[key] = _asked(server, expression, instant, window)
        answer, cpu_s = found.get(key, (None, 0))
        asked.append(Asked(panel, kind, expression, answer, cpu_s))
    return Opened(board.name, span, fleet.name, asked)


def _asked(server: Server, expression: str, instant: bool, window: Window) -> tuple[Answer, float]:
    before = server.cpu_seconds()
    if instant:
        answer = server.at(expression, round(window.end))
    else:
        answer = server.over(expression, start=round(window.start), end=round(window.end), step=window.step_s)
    cpu_s = server.cpu_seconds() - before
    start, end = round(window.end if instant else window.start), round(window.end)
    touched = server.touched(expression, answer.samples, start=start, end=end, step=window.step_s)
    return replace(answer, touched=touched), cpu_s


def measure(size: int, spans: Iterable[str], only: Iterable[str] = ()) -> Iterator[Opened]:
    """Every dashboard at one size."""
    shipped = rules.documents(rules.SHIPPED)
    for span in spans:
        fleet = Fleet(ServeCluster(size, REPLICAS), round(milliseconds(span) / 1000) + BEFORE_S, by_text=rules.QUICK)
        with fleet.server(shipped) as server:
            for board in boards():
                wanted = [*only] or [*(LONG if span != "1h" else ("",))]
                if any(word in board.name for word in wanted):
                    yield opened(board, server, fleet, span)


# ---------------------------------------------------------------------------------------------------------------------
# What is said of it


def row(one: Opened) -> tuple[str, ...]:
    """A line of the table."""
    cut = len(one.queries) - len(one.answered)
    more = "> " if cut or one.failed else ""
    title, cpu_s = one.slowest
    return (
        one.board,
        str(len(one.panels)),
        f"{len(one.queries)}" + (f" ({cut} not asked)" if cut else ""),
        f"{more}{one.samples:,}",
        f"{more}{one.counted:,}",
        f"{max(answer.peak for _, answer in one.answered):,}",
        f"{sum(answer.seconds for _, answer in one.answered):.1f}",
        f"{sum(asked.cpu_s for asked, _ in one.answered):.1f}",
        f"{one.lines:,}",
        f"{one.bytes / 1e6:.1f}",
        str(len(one.failed)),
        f"{title} {cpu_s:.2f}",
    )


HEAD = (
    "dashboard",
    "panels",
    "queries",
    "samples read",
    "counted by the server",
    "peak",
    "seconds",
    "CPU s",
    "most lines in a plot",
    "MB of answers",
    "fail",
    "costliest panel, CPU s",
)


def ratios(found: Iterable[Opened]) -> list[str]:
    """By how many times fewer samples ours touch than Ray's."""
    by_name = {one.board: one for one in found}
    pairs = (("overview recorded", "Ray Serve"), ("deployment recorded", "Ray Serve Deployment"))
    said = []
    for ours, theirs in pairs:
        if {ours, theirs} <= by_name.keys():
            a, b = by_name[ours], by_name[theirs]
            least = "at least " if len(b.answered) < len(b.queries) or b.failed else ""
            said.append(
                f"{theirs} over {ours}: {least}{b.samples / a.samples:.0f} times the samples, "
                f"{least}{b.latency_samples / max(a.latency_samples, 1):.0f} times in queries of latency, "
                f"{b.bytes / a.bytes:.1f} times the bytes."
            )
    return said


def each_panel(one: Opened) -> str:
    """Every panel of a dashboard, the costliest first."""
    rows = [
        (
            title,
            f"{sum(q.cpu_s for q, _ in panel):.2f}",
            f"{sum(a.seconds for _, a in panel):.2f}",
            f"{sum(a.touched for _, a in panel):,}",
            f"{sum(a.samples for _, a in panel):,}",
            f"{max(a.peak for _, a in panel):,}",
            str(sum(a.lines for _, a in panel)),
            "; ".join(a.error for _, a in panel if a.error),
        )
        for title, panel in one.panels
    ]
    rows.sort(key=lambda row: -float(row[1]))
    return sections.table(("panel", "CPU s", "seconds", "samples read", "counted", "peak", "lines", "error"), rows)


def section(about: str, found: list[Opened]) -> str:
    """The section of docs/benchmarks.md."""
    parts = [
        f"""## Dashboards

Each dashboard opened once over a Serve cluster with so many deployments and replicas: every query of its panels, those
in collapsed rows too, and of its annotations, on a graph of {PIXELS:,} pixels. Ours read Ray's series (plain) or what
the recording rules wrote (recorded); *Ray Serve* and *Ray Serve Deployment* are those that Ray writes for Grafana. The
deployment dashboards show one deployment, the others all. A dashboard is cut short after {BUDGET_S:g} s. Prometheus
counts nothing within a subquery, and counts at each step what it evaluates once: *samples read* is without these two
errors.

{about}"""
    ]
    for (size, span), group in groupby(found, key=lambda one: (one.size, one.range)):
        opened_boards = list(group)
        parts.append(f"### {size} deployments x replicas, {span}")
        parts.append(sections.table(HEAD, map(row, opened_boards)))
        parts += ratios(opened_boards)
    return "\n\n".join(parts)


def main() -> None:
    """Measure and print; write the section if everything was measured."""
    sizes = [10] if rules.QUICK else [int(size) for size in os.environ.get("SIZES", "").split()]
    spans, only = (
        ["1h"] if rules.QUICK else os.environ.get("RANGES", "").split(),
        os.environ.get("BOARDS", "").split(","),
    )
    about = sections.machine(("servescope", "ray") if importlib.util.find_spec("ray") else ("servescope",))
    found = []
    for size in sizes or RANGES:
        for one in measure(size, spans or RANGES[size], [word for word in only if word]):
            found.append(one)
            print(f"{one.size}, {one.range}", *row(one), sep=" | ", flush=True)
            if any(only):
                print(each_panel(one), flush=True)
    for _, group in groupby(found, key=lambda one: (one.size, one.range)):
        print(*ratios(group), sep="\n")
    if rules.WRITE or not (sizes or spans or any(only)):
        sections.write("dashboards", section(about, found))


if __name__ == "__main__":
    try:
        main()
    except ServescopeError as error:
        sys.exit(f"bench: {error}")
