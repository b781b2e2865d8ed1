"""A component: its command and its readiness check."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from demo import ROOT

# Prefix of an agent's command: Ray runs its workers at nice 15 (RAY_worker_niceness), so an agent at the default
# priority would preempt the proxies and replicas that it monitors.
YIELDING = ("nice", "-n", "19")


@dataclass(frozen=True, kw_only=True)
class Component:
    """A component: `ready` is its readiness check; `once` means that the command exits and its effect stays."""

    name: str
    command: Sequence[str]
    ready: Callable[[], bool]
    address: str = ""
    ports: Sequence[int] = ()
    env: dict[str, str] = field(default_factory=dict)
    timeout_s: float = 60
    once: bool = False
    job: bool = False  # ends by itself while the others run
    public: bool = False  # listens on all interfaces
    stop_signal: int = signal.SIGTERM
    prepare: Callable[[], None] | None = None
    yields: bool = False  # yields to Ray's workers, when both have work


def last_words(text: str) -> str:
    """The last non-empty line, without colours."""
    lines = [line.strip() for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines() if re.search(r"\w", line)]
    return lines[-1] if lines else ""


def answers(url: str) -> bool:
    """Whether a GET of the URL returns a 2xx."""
    try:
        return httpx.get(url, timeout=2).is_success
    except httpx.HTTPError:
        return False


def empty_folder(folder: Path) -> None:
    """Recreate a directory, without the files of an earlier run."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def find(program: str) -> str | None:
    """The path of a program without a Debian package: below .tools/ (`make tools`) or on the PATH, else None."""
    return shutil.which(program, path=os.pathsep.join((str(ROOT / ".tools"), os.environ.get("PATH", ""))))


def own_program(name: str) -> str:
    """A program of this Python's environment, whichever Ray is under test."""
    return str(Path(sys.executable).parent / name)
