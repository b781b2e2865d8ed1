"""docs/benchmarks.md: each benchmark writes its own section, between markers, and leaves the others alone."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import psutil

from servescope.files import write_all

PAGE = Path("docs/benchmarks.md")
INTRODUCTION = """# Benchmarks

`make bench` measures every figure and writes this page; each section names the machine.
`make bench BENCHES=exporter` repeats one section.
"""


def write(name: str, text: str, page: Path = PAGE) -> None:
    """Put the section of one benchmark into the page, in place of its former one or at the end.

    `name` is the module's name below tests/bench; `text` is Markdown that begins with a heading of level 2.
    """
    before = page.read_text(encoding="utf-8") if page.exists() else INTRODUCTION
    begin, end = f"<!-- {name}: written by make bench -->", f"<!-- end of {name} -->"
    section = f"{begin}\n{text.strip()}\n{end}\n"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}\n", re.DOTALL)
    after = pattern.sub(lambda _: section, before) if pattern.search(before) else f"{before.rstrip()}\n\n{section}"
    write_all({page: after})


def machine(packages: Iterable[str]) -> str:
    """One sentence: cores, memory, what else the machine was doing, and the versions of Python and of packages."""
    load = os.getloadavg()[0]
    versions = [f"{package} {importlib.metadata.version(package)}" for package in packages]
    return (
        f"{os.cpu_count()} cores ({_processor()}), {psutil.virtual_memory().total / 2**30:.0f} GiB, load average "
        f"{load:.1f} at the start; Python {platform.python_version()}, {', '.join(versions)}."
    )


def _processor() -> str:
    try:
        told = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        told = None
    return told.group(1).strip() if told else platform.machine()


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
