"""Install the wheel with each extra on each Python, run what a user would, and say what came of it.

    python -m tests.pythons [--write PAGE] [WISH ...]

A wish is a version (3.12, 3.12.1), a path, `system` for /usr/bin/python3, or `newest`; without one it is every
supported version. A Python that is not here is said and left out. The exit code is 1 where anything failed, or nothing
ran.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from demo import ROOT
from servescope.files import write_all
from tests.pythons import EXTRAS, SUPPORTED, finder, table
from tests.pythons.checks import CHECKS, RESOLVED_ONLY, Check, Failed, Place
from tests.pythons.finder import Interpreter
from tests.pythons.table import FAILED, NOT_RUN, OK, Outcome

INSTALL_S = 600.0
PAGE = """# Supported Pythons

Written by `make compatibility`. It installs the wheel as a user does, on every supported Python with every extra, each
in a new virtual environment, with the newest packages that the extra allows on that day. Then it runs each command and
checks the result ([tests/pythons/checks.py](../tests/pythons/checks.py)): generated files are byte for byte as
committed, snapshot and exporter show a known figure, an application keeps running when no Collector answers, and
without an extra one line names what to install. `make test-pythons` does the same without writing this page; CI runs
it.

{day}, servescope {version}, {system}, {uv}.

{table}

{notes}

Installed versions of the packages that the extras name: {packages}.
"""


def say(line: str) -> None:
    """A line of progress."""
    print(f"pythons: {line}", flush=True)


def uv(*arguments: str | Path, folder: Path) -> str:
    """Run uv in a folder that holds no project; returns what it printed, raises Failed with its own last words."""
    program = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if program is None:
        raise Failed("uv is missing; `make setup` installs it into .venv")
    ours = ("VIRTUAL_ENV", "PYTHONPATH", "UV_PYTHON")
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    # The system's certificates, as a company's proxy needs them; older versions of uv know the second name.
    for name in ("UV_SYSTEM_CERTS", "UV_NATIVE_TLS"):
        environment.setdefault(name, "1")
    try:
        result = subprocess.run(
            [program, *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=INSTALL_S,
            cwd=folder,
            env=environment | {"UV_PYTHON_DOWNLOADS": "never", "NO_COLOR": "1"},
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"uv {arguments[0]}: no end within {INSTALL_S:g} s") from None
    if result.returncode:
        said = textwrap.shorten(result.stderr, 300, placeholder=" ...")
        raise Failed(said or f"uv ends with exit code {result.returncode}")
    return result.stdout


def build(folder: Path) -> Path:
    """The wheel of this checkout."""
    uv("build", "--wheel", "--quiet", "--python", sys.executable, "--out-dir", folder, ROOT, folder=folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


@dataclass(frozen=True)
class Job:
    """One environment: a Python with an extra; `installed` is filled with the versions of what the extra names."""

    python: Interpreter
    extra: str
    installed: dict[str, str] = field(default_factory=dict)

    def run(self, wheel: Path, folder: Path) -> list[Outcome]:
        """Install and check; the environment is removed at the end."""
        folder = folder / f"{self.python.version}-{self.extra or 'none'}"
        folder.mkdir()
        try:
            return self._outcomes(wheel, folder)
        finally:
            shutil.rmtree(folder)

    def _outcomes(self, wheel: Path, folder: Path) -> list[Outcome]:
        try:
            self._install(wheel, folder)
        except Failed as error:
            return [
                self._outcome(first_step(self.extra), FAILED, str(error)),
                *(self._outcome(check.command, NOT_RUN, "not installed") for check in CHECKS.get(self.extra, ())),
            ]
        if self.extra not in (*CHECKS, *RESOLVED_ONLY):
            return [self._outcome("install", FAILED, "tests/pythons/checks.py does not say what this extra is for")]
        return [
            self._outcome(first_step(self.extra), OK),
            *(self._check(check, number, folder) for number, check in enumerate(CHECKS.get(self.extra, ()))),
        ]

    def _install(self, wheel: Path, folder: Path) -> None:
        wanted = f"servescope[{self.extra}] @ {wheel.as_uri()}" if self.extra else f"servescope @ {wheel.as_uri()}"
        dry = ["--dry-run"] if self.extra in RESOLVED_ONLY else []
        uv("venv", "--quiet", "--no-project", "--python", self.python.path, "environment", folder=folder)
        uv("pip", "install", "--quiet", *dry, "--python", "environment", wanted, folder=folder)
        told = json.loads(uv("pip", "list", "--format", "json", "--python", "environment", folder=folder))
        named = {re.split(r"[^\w.-]", requirement)[0].lower() for requirement in EXTRAS[self.extra]}
        self.installed.update({one["name"]: one["version"] for one in told if one["name"] in named - {"servescope"}})

    def _check(self, check: Check, number: int, folder: Path) -> Outcome:
        place = Place(folder / "environment/bin", folder / str(number))
        place.folder.mkdir()
        try:
            check.run(place)
        except Failed as error:
            return self._outcome(check.command, FAILED, str(error))
        return self._outcome(check.command, OK)

    def _outcome(self, command: str, state: str, reason: str = "") -> Outcome:
        return Outcome(python=self.python.version, extra=self.extra, command=command, state=state, reason=reason)


def first_step(extra: str) -> str:
    """What the first row of an extra says."""
    return "resolve" if extra in RESOLVED_ONLY else "install"


def chosen(wishes: Sequence[str], system: Path = finder.SYSTEM) -> tuple[list[Interpreter], dict[str, str]]:
    """The Pythons that were wished for, each once, and why there is none for the other wishes; says both."""
    # The one that this runs on comes last: it is there even where the PATH has none.
    here = Path(getattr(sys, "_base_executable", sys.executable))
    found = finder.search([*finder.candidates(os.environ, SUPPORTED, system), here])
    pythons: list[Interpreter] = []
    missing: dict[str, str] = {}
    for wish in wishes:
        answer = finder.choose(wish, found, supported=SUPPORTED, system=system)
        if isinstance(answer, str):
            missing[wish] = answer
            say(f"{wish}: {answer}")
        elif answer in pythons:
            say(f"{wish}: {answer.version} again")
        else:
            pythons.append(answer)
            say(f"{wish}: {answer.version}, {answer.path}")
    return pythons, missing


def run(pythons: Sequence[Interpreter]) -> tuple[list[Outcome], dict[str, dict[str, str]]]:
    """Every extra on every Python, and the versions of the packages on each."""
    jobs = [Job(python, extra) for extra in EXTRAS for python in pythons]
    with tempfile.TemporaryDirectory(prefix="servescope-pythons-") as name:
        wheel = build(Path(name))
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            outcomes = [one for some in pool.map(lambda job: job.run(wheel, Path(name)), jobs) for one in some]
    installed: dict[str, dict[str, str]] = {}
    for job in jobs:
        installed.setdefault(job.python.version, {}).update(job.installed)
    return outcomes, installed


def page(outcomes: Sequence[Outcome], columns: Sequence[str], installed: dict[str, dict[str, str]]) -> str:
    """docs/compatibility.md."""
    notes = [
        *(f"`{extra}` is resolved and not installed: it {reason}." for extra, reason in RESOLVED_ONLY.items()),
        *(f"{line}." for line in table.reasons(outcomes)),
    ]
    try:
        system = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        system = platform.platform()
    return PAGE.format(
        day=datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat(),
        version=importlib.metadata.version("servescope"),
        system=system,
        uv=" ".join(uv("--version", folder=ROOT).split()[:2]),
        table=table.as_markdown(table.grid(outcomes, columns)),
        notes="\n".join(f"- {note}" for note in notes),
        packages=table.versions(installed),
    )


def main() -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.pythons", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("wishes", nargs="*", default=SUPPORTED, metavar="WISH")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="Also write this page.")
    arguments = parser.parse_args()
    start = time.monotonic()
    pythons, missing = chosen(arguments.wishes)
    if not pythons:
        say("nothing was run")
        return 1
    try:
        outcomes, installed = run(pythons)
    except Failed as error:
        say(f"the wheel could not be built: {error}")
        return 1
    rows = list(dict.fromkeys((one.extra, one.command) for one in outcomes))
    outcomes += [
        Outcome(python=wish, extra=extra, command=command, state=NOT_RUN, reason="this Python was not found")
        for wish in missing
        for extra, command in rows
    ]
    columns = [*(python.version for python in pythons), *missing]
    print(table.as_text(table.grid(outcomes, columns)))
    for line in table.reasons(outcomes):
        say(line)
    failed = sum(one.state == FAILED for one in outcomes)
    ran = sum(one.state != NOT_RUN for one in outcomes)
    say(f"{ran} run, {failed} failed, {time.monotonic() - start:.0f} s")
    if arguments.write:
        write_all({arguments.write: page(outcomes, columns, installed)})
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
