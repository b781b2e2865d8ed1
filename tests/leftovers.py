"""Run a command as its user would, and see what it has left running."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path

import psutil
from demo.stack import ROOT

MARK = "SERVESCOPE_TEST_MARK"


@dataclass(frozen=True)
class Ended:
    """How a command ended, and the processes with its mark in their environment that outlived it."""

    code: int
    out: str
    err: str
    left: list[str]


def marked(mark: str) -> list[psutil.Process]:
    """The living processes that inherited a mark."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def listening(base: int) -> set[int]:
    """The ports of a set of a thousand on which somebody listens."""
    connections = psutil.net_connections("tcp")
    ports = {c.laddr.port for c in connections if c.status == psutil.CONN_LISTEN}
    return {port for port in ports if base <= port < base + 1000}


def run_demo(directory: Path, base: int, timeout_s: float = 60, **environment: str) -> Ended:
    """Run `make demo`'s command with its own directory and ports, to its end.

    Ray's workers overwrite their environment with their title, so `listening` has to look after them.
    """
    mark = uuid.uuid4().hex
    variables = {"DEMO_DIR": str(directory), "PORT_BASE": str(base), MARK: mark, **environment}
    done = subprocess.run(
        [sys.executable, "-m", "demo.local"],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    left = [f"{process.pid} {' '.join(process.cmdline())}" for process in marked(mark)]
    return Ended(done.returncode, done.stdout, done.stderr, left)
