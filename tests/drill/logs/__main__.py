"""`make drill-logs`: every fault against every agent, and what a line costs; writes the tables of docs/logs.md.

    python -m tests.drill.logs                         # everything, about half an hour
    python -m tests.drill.logs --agent otelcol --only kill
    python -m tests.drill.logs --costs                 # what a request writes and what loggers print, from the fixtures

It fails when an agent does worse than bounds.py allows it. Results are kept in .servescope/drill-logs.json with the
program, the machine, the commit and the day, so that a part can be run again by itself; those of another version of the
program, or of another machine, do not enter the tables.
"""

from __future__ import annotations

import argparse
import fcntl
import functools
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from demo import ROOT
from demo.stack.component import find
from tests.drill.logs.agents import Place, Writer, json_line, place_below, text_line
from tests.drill.logs.bounds import bound, breaches
from tests.drill.logs.faults import FAULTS, Outcome, settle
from tests.support.log_cases import FIXTURES, loggers

RESULTS = ROOT / ".servescope/drill-logs.json"
PAGE = ROOT / "docs/logs.md"
AGENTS = {
    "fluent-bit": "Fluent Bit to Loki",
    "fluent-bit-otlp": "Fluent Bit to OTLP",
    "otelcol": "Collector to Loki (OTLP)",
}
FAULT_AGENTS = ("fluent-bit", "otelcol")
LINES = 100_000
SPEED = "lines per second and core"


def throughput(place: Place, kind: str, encoding: str) -> dict[str, Any]:
    """Lines per second of processor time, from files that lie there, with everything on as it is shipped."""
    line = {"JSON": json_line, "text": text_line}[encoding]
    writer = Writer(place.serve_file(), rate=0, line=line, rotate=False)
    writer.write(LINES)
    with place.agent(kind, pin=min(os.sched_getaffinity(0))) as agent:
        begun = time.monotonic()
        outcome = settle(place, agent, writer.count)
        used = agent.watch().cpu_times()
        wall = time.monotonic() - begun
    seconds = used.user + used.system
    return {
        **{"lost": outcome.lost, "cpu_s": round(seconds, 1), "wall_s": round(wall, 1)},
        **{"per_s": round(LINES / seconds), "rss_mib": round(agent.peak_rss / 2**20)},
    }


@functools.cache
def measured_with(kind: str) -> dict[str, str]:
    """The program and the machine: only results of the same ones are comparable."""
    program = "otelcol" if kind == "otelcol" else "fluent-bit"
    path = find(program)
    assert path, program
    words = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout.split()
    name = f"OpenTelemetry Collector {words[-1]}" if kind == "otelcol" else f"Fluent Bit {words[2].removeprefix('v')}"
    return {"program": name, "machine": f"{os.cpu_count()} cores, Linux {platform.machine()}"}


def measured_at() -> dict[str, str]:
    """The state of this repository, but for the page that is written here, and the day."""
    git = functools.partial(subprocess.run, cwd=ROOT, capture_output=True, text=True)
    commit = git(["git", "describe", "--always"], check=True).stdout.strip()
    page = f":(exclude){PAGE.relative_to(ROOT)}"
    changed = git(["git", "diff", "--quiet", "HEAD", "--", ".", page], check=False).returncode
    return {
        "commit": f"{commit}-dirty" if changed else commit,
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
    }


def run(agents: list[str], only: str) -> None:
    """Run what is asked for and keep each result as soon as it is there."""
    jobs: list[tuple[str, str]] = [(fault, kind) for fault in FAULTS for kind in FAULT_AGENTS if kind in agents]
    jobs += [(f"{SPEED}: {encoding}", kind) for encoding in ("JSON", "text") for kind in AGENTS if kind in agents]
    for name, kind in jobs:
        if only not in name:
            continue
        with (
            tempfile.TemporaryDirectory(prefix="drill-", ignore_cleanup_errors=True) as directory,
            place_below(Path(directory) / "place") as place,
        ):
            Path(directory).chmod(0o755)  # for the agents that run as another user
            if name.startswith(SPEED):
                result = throughput(place, kind, name.split(": ")[1])
            else:
                result = vars(FAULTS[name](place, kind))
        result |= {**measured_with(kind), **measured_at()}
        print(f"{AGENTS[kind]}: {name}: {result}", flush=True)
        keep(name, kind, result)


def keep(name: str, kind: str, result: dict[str, Any]) -> None:
    """Add one result to those kept; parts may run side by side."""
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        results = json.loads(file.read() or "{}")
        results.setdefault(name, {})[kind] = result
        file.truncate(0)
        file.write(json.dumps(results, indent=1))


def kept(kinds: Iterable[str] = AGENTS) -> dict[tuple[str, str], dict[str, Any]]:
    """The results of these programs on this machine, by fault (or speed) and agent."""
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return {
        (name, kind): result
        for name, by_kind in results.items()
        for kind, result in by_kind.items()
        if kind in kinds and measured_with(kind).items() <= result.items()
    }


def of_fault(result: dict[str, Any]) -> Outcome:
    """A fault's result as it was."""
    return Outcome(**{field.name: result[field.name] for field in fields(Outcome) if field.name in result})


def worse() -> list[str]:
    """Every result that is worse than what is allowed, in words."""
    found = []
    for (name, kind), result in kept().items():
        if name in FAULTS:
            wrong = breaches(of_fault(result), bound(name, kind))
        else:
            wrong = [f"{result['lost']:,} lost"] if result["lost"] else []
        found += [f"{AGENTS[kind]}: {name}: {text}" for text in wrong]
    return found


def tables() -> str:
    """The tables of what has been measured so far."""
    results = kept()
    told = sorted({f"{result['program']} ({result['machine']})" for result in results.values()})

    def cell(fault: str, kind: str) -> str:
        result = results.get((fault, kind))
        if result is None:
            return "not run | | "
        return f"{result['written']:,} | {result['lost']:,} | {result['duplicated']:,}"

    def when(name: str, kinds: Iterable[str]) -> str:
        agents: dict[str, list[str]] = {}
        for kind in kinds:
            if (name, kind) in results:
                result = results[name, kind]
                agents.setdefault(f"{result['date']} {result['commit']}", []).append(AGENTS[kind])
        if len(agents) == 1:
            return next(iter(agents))
        return ", ".join(f"{stamp} ({' and '.join(names)})" for stamp, names in agents.items())

    titles = " | ".join(f"{AGENTS[kind]}: written | lost | duplicate" for kind in FAULT_AGENTS)
    lines = [f"Measured with {'; '.join(told)}.", "", f"| fault | {titles} | measured |"]
    lines.append("|---|" + "--:|" * (3 * len(FAULT_AGENTS)) + "---|")
    notes = []
    for fault in FAULTS:
        cells = " | ".join(cell(fault, kind) for kind in FAULT_AGENTS)
        lines.append(f"| {fault} | {cells} | {when(fault, FAULT_AGENTS)} |")
        for kind in FAULT_AGENTS:
            if (fault, kind) not in results:
                continue
            outcome, why = of_fault(results[fault, kind]), bound(fault, kind).why
            exceeded = "; ".join(breaches(outcome, bound(fault, kind)))
            words = (outcome.note, why and f"known: {why}", exceeded and f"**worse than allowed**: {exceeded}")
            if any(words):
                notes.append(f"- {fault}, {AGENTS[kind]}: {'; '.join(filter(None, words))}")
    lines += ["", *notes, ""]
    lines += [f"| {SPEED} | " + " | ".join(AGENTS.values()) + " | measured |", "|---|" + "--:|" * len(AGENTS) + "---|"]
    for encoding in ("JSON", "text"):
        cells = []
        name = f"{SPEED}: {encoding}"
        for kind in AGENTS:
            result = results.get((name, kind))
            cells.append(f"{result['per_s']:,} ({result['rss_mib']} MiB)" if result else "not run")
        lines.append(f"| {encoding}, redaction on | {' | '.join(cells)} | {when(name, AGENTS)} |")
    return "\n".join(lines)


def access_line_bytes(encoding: str, component: str) -> float:
    """The mean length of a component's access lines in the real logs of the fixtures, with the line's end."""
    lengths = []
    for path in (FIXTURES / encoding / "serve").glob(f"{component}_*.log"):
        for line in path.read_text().splitlines():
            message = json.loads(line)["message"] if encoding == "json" else line
            if re.search(r" (\d{3}|[A-Z][A-Z_]+) [\d.]+ms$", message):
                lengths.append(len(line.encode()) + 1)
    return sum(lengths) / len(lengths)


def costs() -> str:
    """What each choice in logging_config writes for a request that passes the proxy and one replica."""
    text, as_json = (sum(access_line_bytes(e, c) for c in ("proxy", "replica")) for e in ("text", "json"))
    ids = 2 * len(', "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "span_id": "00f067aa0ba902b7"')
    rows = (
        ("text, access log", text),
        ("JSON, access log", as_json),
        ("JSON, access log, trace ids", as_json + ids),
    )
    lines = ["| choice | bytes per request |", "|---|--:|", *(f"| {name} | {size:,.0f} |" for name, size in rows)]
    return "\n".join(lines)


def printed_by_loggers() -> str:
    """What both agents read of common loggers' lines: tests/fixtures/logs/loggers.yaml as a table."""
    rows = ["| logger | levels read | time | the line of the log is |", "|---|---|---|---|"]
    for case in loggers():
        levels = ", ".join(dict.fromkeys(f"`{record['level']}`" for record in case.records))
        times = {"time" in record for record in case.records}
        whole = all(record["message"].startswith("{") for record in case.records) or not case.text.startswith("{")
        time_read = "read" if times == {True} else "when the line has it" if True in times else "time of reading"
        rows.append(f"| {case.name} | {levels} | {time_read} | {'the whole line' if whole else 'the message'} |")
    return "\n".join(rows)


def between(text: str, name: str, content: str) -> str:
    """The text with new content between two markers."""
    start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    before, rest = text.split(start)
    return before + start + content + "\n" + end + rest.split(end)[1]


def with_fixtures(text: str) -> str:
    """The text with the tables that come from the fixtures, without an agent."""
    return between(between(text, "log-costs", costs()), "loggers", printed_by_loggers())


def write_page() -> None:
    """Put the tables between the markers of the page."""
    PAGE.write_text(between(with_fixtures(PAGE.read_text()), "drill-logs", tables()))


def main() -> int:
    """Run and write."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.drill.logs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--agent", choices=AGENTS, action="append")
    parser.add_argument("--only", default="", help="part of a fault's name")
    parser.add_argument(
        "--costs", action="store_true", help="only the tables that come from the fixtures, without an agent"
    )
    arguments = parser.parse_args()
    agents = arguments.agent or list(AGENTS)
    if arguments.costs:
        PAGE.write_text(with_fixtures(PAGE.read_text()))
        return 0
    missing = {"otelcol" if kind == "otelcol" else "fluent-bit" for kind in agents}
    missing = {program for program in missing if find(program) is None}
    if missing:
        print(f"drill-logs: neither on the PATH nor below .tools/: {', '.join(sorted(missing))}", file=sys.stderr)
        return 1
    run(agents, arguments.only)
    write_page()
    found = worse()
    for text in found:
        print(f"drill-logs: worse than allowed: {text}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
