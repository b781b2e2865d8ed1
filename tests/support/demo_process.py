"""For `make demo` as its user meets it: run it to its end or to Ctrl-C, and see what it has left running."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import psutil

from demo import ROOT

MARK = "SERVESCOPE_TEST_MARK"


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended, and which of its processes outlived it."""

    code: int
    out: str
    err: str
    left: list[str]


def run_demo(directory: Path, *, base: int, timeout_s: float = 60, interrupt_at: str = "", **environment: str) -> Ended:
    """Run `make demo`'s command with its own directory and ports, to its end, or to Ctrl-C once it has printed that."""
    mark = uuid.uuid4().hex
    variables = {"DEMO_DIR": str(directory), "PORT_BASE": str(base), MARK: mark, **environment}
    folder = Path(tempfile.mkdtemp(prefix="servescope-demo-"))
    printed, complained = folder / "out", folder / "err"
    with printed.open("w") as out, complained.open("w") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "demo.local"],
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **variables},
            stdout=out,
            stderr=err,
        )
    # Ray's workers overwrite their environment with their title, so descendants are noted while they live.
    seen: dict[int, psutil.Process] = {}
    deadline = time.monotonic() + timeout_s
    try:
        while process.poll() is None:
            assert time.monotonic() < deadline, f"the demo did not end in {timeout_s:g} s: {printed.read_text()}"
            with contextlib.suppress(psutil.NoSuchProcess):
                seen |= {child.pid: child for child in psutil.Process(process.pid).children(recursive=True)}
            if interrupt_at and interrupt_at in printed.read_text():
                process.send_signal(signal.SIGINT)
                interrupt_at = ""
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(60)
    left = {p.pid: p for p in (*seen.values(), *_marked(mark)) if p.is_running() and _alive(p)}
    out_text, err_text = printed.read_text(), complained.read_text()
    shutil.rmtree(folder)
    return Ended(
        code=process.returncode,
        out=out_text,
        err=err_text,
        left=[f"{pid} {' '.join(p.cmdline())}" for pid, p in left.items()],
    )


def listening(base: int) -> set[int]:
    """The ports of a set of a thousand on which somebody listens."""
    connections = psutil.net_connections("tcp")
    ports = {c.laddr.port for c in connections if c.status == psutil.CONN_LISTEN}
    return {port for port in ports if base <= port < base + 1000}


def _marked(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark:
                found.append(process)
        except psutil.Error:
            continue
    return found


def _alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
