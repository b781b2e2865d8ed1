"""What the rules of objectives cost with 30 days of data, and what 2,000 of them would.

    python -m tests.bench.slo

The counts of minutes and of four minutes of some objectives are written as blocks; each rule that reads them is asked
once, at the end. The rules that count a minute from Ray's series are left out: they read the series of one application.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from servescope.errors import ServescopeError
from servescope.promql import slo_series
from servescope.promql.durations import milliseconds
from servescope.rules.slo import rules as slo_rules
from servescope.rules.slo.objectives import Slo
from servescope.settings import Settings
from tests.bench import fleet, sections
from tests.bench.asking import Answer, Server
from tests.bench.serve_series import Row

OBJECTIVES = 100
WANTED = 2000
DAYS = 30


def main() -> None:
    """Measure and write the section."""
    about = sections.machine(("servescope",))
    slos = [Slo(name=f"slo-{n}", application=f"app-{n}", availability=0.99) for n in range(OBJECTIVES)]
    end = fleet.START + DAYS * 86_400
    with tempfile.TemporaryDirectory(dir=_scratch()) as folder:
        fleet.write_blocks(Path(folder, "data"), [row for slo in slos for row in _rows(slo)], end)
        with fleet.serving(Path(folder, "data"), program="prometheus") as server:
            server.at("count(serve_slo:requests:events1m)", end)
            costs = [(name, interval_s, *_cost(server, rules, end)) for name, interval_s, rules in _rounds(slos)]
            version = server.version
    rows = [
        (
            name,
            f"{interval_s} s",
            f"{samples // OBJECTIVES:,}",
            f"{1000 * cpu / OBJECTIVES:.1f}",
            _share(cpu, interval_s),
        )
        for name, interval_s, samples, cpu in costs
    ]
    head = ("rules", "interval", "samples each", "CPU ms each", f"{WANTED:,} objectives, share of a core")
    sections.write(
        "slo",
        f"""## Objectives

The rules of {OBJECTIVES} objectives of availability, with {DAYS} days of counts, asked once of Prometheus {version};
the share is the CPU of a round over its interval, for {WANTED:,} of them, less that of as many queries of `vector(1)`,
since a server's own rules come without HTTP. Counting a minute from Ray's own series is
not in it.

{about}

{sections.table(head, rows)}""",
    )


def _scratch() -> Path:
    fleet.CACHE.mkdir(exist_ok=True)
    return fleet.CACHE


def _share(cpu_s: float, interval_s: int) -> str:
    return f"{cpu_s / OBJECTIVES * WANTED / interval_s:.1%}"


def _rows(slo: Slo) -> list[Row]:
    """What was recorded of an objective: the counts, and what its other rules read."""

    def row(name: str, value: float, interval_s: int) -> Row:
        labels = {"__name__": name, "slo": slo.name, "sli": "availability", "application": slo.application}
        return Row("g", value, value / 10, labels, interval_s, interval_s)

    rows = []
    for what, each in (("requests", 600), ("errors", 3)):
        rows += [row(f"serve_slo:{what}:events1m", each, 60), row(f"serve_slo:{what}:events4m", 4 * each, 240)]
    others = ("serve_slo:error_ratio:ratio1h", "serve_slo:error_ratio:ratio30d", "serve_slo:error_budget_left:ratio")
    return [*rows, *(row(name, 0.005, 240) for name in (*others, "serve_slo:burn_rate:ratio1h"))]


def _rounds(slos: list[Slo]) -> list[tuple[str, int, list[str]]]:
    """Name, interval in seconds and expressions of the rules that are evaluated together."""
    short, long = [], []
    ratio_30d_of_minutes = []
    for slo in slos:
        every = slo_rules.short_recordings(slo, "availability", Settings())
        short += [expr for name, expr in every if not name.endswith("events1m")]
        long += [expr for _, expr in slo_rules.long_recordings(slo, "availability")]
        selector = f'{{slo="{slo.name}", sli="availability"}}'
        errors, requests = (
            f"sum_over_time(serve_slo:{what}:events1m{selector}[30d])" for what in ("errors", "requests")
        )
        ratio_30d_of_minutes.append(f"{errors} / ({requests} > 0)")
    slow_s = milliseconds(slo_rules.SLOW_EVALUATION) // 1000
    windows = ", ".join(slo_series.SHORT_WINDOWS)
    return [
        (f"every minute: ratios over {windows}", 60, short),
        ("every four minutes: counts, ratios over 1d, 3d and 30d, budget", slow_s, long),
        ("for comparison, not shipped: 30d from minutes, every minute", 60, ratio_30d_of_minutes),
    ]


def _cost(server: Server, expressions: list[str], end: int) -> tuple[int, float]:
    """Samples and seconds of CPU, less those of as many queries of nothing: a server asks itself without HTTP."""
    answers, used = _asked(server, expressions, end)
    used -= _asked(server, ["vector(1)"] * len(expressions), end)[1]
    if failed := [answer.error for answer in answers if answer.error]:
        raise ServescopeError(failed[0])
    if empty := sum(answer.lines == 0 for answer in answers):
        raise ServescopeError(f"{empty} of {len(answers)} rules gave nothing")
    return sum(answer.samples for answer in answers), used


def _asked(server: Server, expressions: list[str], end: int) -> tuple[list[Answer], float]:
    before = server.cpu_seconds()
    answers = [server.at(expression, end) for expression in expressions]
    return answers, server.cpu_seconds() - before


if __name__ == "__main__":
    try:
        main()
    except ServescopeError as error:
        sys.exit(f"bench: {error}")
