"""The build of the OpenTelemetry Collector while the rest of the demo runs already; it takes minutes, once."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from demo import ROOT
from demo.stack.component import Component
from demo.stack.run import Run

SETUP = str(ROOT / "scripts/setup.sh")
BUILT, TO_BUILD = "built", "to build"

_SOURCES = "Sources created"  # the builder runs
_TOTAL = re.compile(r"^setup: (\d+) packages to build$", re.MULTILINE)
# `go build -v` prints the import path of each package that it has to build, among lines of other kinds.
_PACKAGE = re.compile(r"^(?:[\w.~-]+/)*[\w.~-]+$", re.MULTILINE)


def state() -> str:
    """BUILT, TO_BUILD, or what is missing to build it."""
    try:
        said = subprocess.run([SETUP, "collector-state"], capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return "the Collector is not built"  # without a shell's usual programs nothing can be built
    return said.stdout.strip()


def build_log(run: Run) -> Path:
    """What the builder and the compiler print."""
    return run.directory / "logs/collector-go.log"


def collector_build(run: Run) -> Component:
    """The build, behind everything else that wants the processor or the disk."""
    log = build_log(run)
    return Component(
        name="collector-build",
        command=[SETUP, "background", "collector"],
        ready=lambda: True,
        address=f"ends by itself, then the Collector joins; {log}",
        env={"SETUP_LOG": str(log)},
        job=True,
        prepare=lambda: log.unlink(missing_ok=True),
    )


def progress(log: str) -> tuple[str, float]:
    """How far the build has come by what it has printed: in words, and as a share from 0 to 1.

    The share is below 0 before the packages are counted: -2 for the program that writes the sources, then -1.
    """
    total = _TOTAL.search(log)
    if total is None:
        return (
            ("Collector: fetching its modules", -1.0) if _SOURCES in log else ("Collector: compiling its builder", -2.0)
        )
    packages = int(total[1])
    built = min(len(_PACKAGE.findall(log, total.end())), packages)
    return f"Collector: {built} of {packages} packages built", built / max(1, packages)


def progress_of(run: Run) -> tuple[str, float]:
    """`progress` of a running build."""
    try:
        return progress(build_log(run).read_text(errors="replace"))
    except OSError:
        return progress("")
