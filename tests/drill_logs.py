"""`make drill-logs`: every fault against every agent, and what a line costs; writes the tables of docs/logs.md.

    python -m tests.drill_logs                         # everything, about half an hour
    python -m tests.drill_logs --agent otelcol --only kill

Results are kept in .servescope/drill-logs.json, so that a part can be run again by itself.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests import log_faults
from tests.log_agents import ROOT
from tests.log_faults import FAULTS, Place, Writer, json_line, settle, text_line

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


def versions() -> str:
    """What was measured, and on what."""
    told = []
    for program, name in (("fluent-bit", "Fluent Bit"), ("otelcol", "OpenTelemetry Collector")):
        path = log_faults.find(program)
        if path:
            text = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
            told.append(f"{name} {text.split()[-1] if program == 'otelcol' else text.split()[2].removeprefix('v')}")
    return f"{', '.join(told)}; {os.cpu_count()} cores, Linux {platform.machine()}"


def run(agents: list[str], only: str) -> None:
    """Run what is asked for and keep each result as soon as it is there."""
    jobs: list[tuple[str, str]] = [(fault, kind) for fault in FAULTS for kind in FAULT_AGENTS if kind in agents]
    jobs += [(f"{SPEED}: {encoding}", kind) for encoding in ("JSON", "text") for kind in AGENTS if kind in agents]
    for name, kind in jobs:
        if only not in name:
            continue
        with (
            tempfile.TemporaryDirectory(prefix="drill-", ignore_cleanup_errors=True) as directory,
            log_faults.place(Path(directory) / "place") as place,
        ):
            Path(directory).chmod(0o755)  # for the agents that run as another user
            if name.startswith(SPEED):
                result = throughput(place, kind, name.split(": ")[1])
            else:
                result = vars(FAULTS[name](place, kind))
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


def tables() -> str:
    """The two tables of what has been measured so far."""
    results = json.loads(RESULTS.read_text())

    def cell(fault: str, kind: str) -> str:
        result = results.get(fault, {}).get(kind)
        if result is None:
            return "not run | | "
        return f"{result['written']:,} | {result['lost']:,} | {result['duplicated']:,}"

    titles = " | ".join(f"{AGENTS[kind]}: written | lost | twice" for kind in FAULT_AGENTS)
    lines = [f"Measured with {versions()}.", "", f"| fault | {titles} |", "|---|" + "--:|" * (3 * len(FAULT_AGENTS))]
    notes = []
    for fault in FAULTS:
        lines.append(f"| {fault} | {' | '.join(cell(fault, kind) for kind in FAULT_AGENTS)} |")
        for kind in FAULT_AGENTS:
            note = results.get(fault, {}).get(kind, {}).get("note")
            if note:
                notes.append(f"- {fault}, {AGENTS[kind]}: {note}")
    lines += ["", *notes, ""]
    lines += [f"| {SPEED} | " + " | ".join(AGENTS.values()) + " |", "|---|" + "--:|" * len(AGENTS)]
    for encoding in ("JSON", "text"):
        cells = []
        for kind in AGENTS:
            result = results.get(f"{SPEED}: {encoding}", {}).get(kind)
            cells.append(f"{result['per_s']:,} ({result['rss_mib']} MiB)" if result else "not run")
        lines.append(f"| {encoding}, redaction on | {' | '.join(cells)} |")
    return "\n".join(lines)


def write_page() -> None:
    """Put the tables between the markers of the page."""
    text = PAGE.read_text()
    start, end = "<!-- drill-logs -->\n", "<!-- /drill-logs -->"
    before, rest = text.split(start)
    PAGE.write_text(before + start + tables() + "\n" + end + rest.split(end)[1])


def main() -> int:
    """Run and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agent", choices=AGENTS, action="append")
    parser.add_argument("--only", default="", help="part of a fault's name")
    arguments = parser.parse_args()
    agents = arguments.agent or list(AGENTS)
    missing = {"otelcol" if kind == "otelcol" else "fluent-bit" for kind in agents}
    missing = {program for program in missing if log_faults.find(program) is None}
    if missing:
        print(f"drill-logs: neither on the PATH nor below .tools/: {', '.join(sorted(missing))}", file=sys.stderr)
        return 1
    run(agents, arguments.only)
    write_page()
    return 0


if __name__ == "__main__":
    sys.exit(main())
