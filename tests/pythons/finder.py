"""The Pythons of this machine: what runs counts, not a name on the PATH.

A version manager puts a shim for every version it knows in front of the PATH, and most of them only answer with an
error; they also hide the system's own Python, which is the one that users of a distribution have.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SYSTEM = Path("/usr/bin/python3")
ANSWER_S = 10.0
# Implementation, version with what is special about the build (`t`: without the lock), and the program behind a shim or
# a virtual environment.
_QUESTION = """
import platform, sys
print(platform.python_implementation(), platform.python_version() + sys.abiflags)
print(getattr(sys, "_base_executable", sys.executable))
"""


@dataclass(frozen=True)
class Interpreter:
    """A Python that answered."""

    path: Path
    version: str  # 3.12.1

    @property
    def minor(self) -> str:
        """3.12 of 3.12.1."""
        return self.version.rpartition(".")[0]

    @property
    def order(self) -> tuple[int, ...]:
        """For sorting: 3.9 comes before 3.10."""
        return tuple(int(part) for part in self.version.split("."))


@dataclass(frozen=True)
class Found:
    """What a search found, in its order, each version once; and why each of the others does not count."""

    interpreters: list[Interpreter] = field(default_factory=list)
    failed: dict[Path, str] = field(default_factory=dict)


def candidates(environment: Mapping[str, str], minors: Iterable[str], system: Path) -> Iterator[Path]:
    """Files that may be Pythons: the system's own, those of the whole PATH, of pyenv, and of uv; some may not exist.

    Args:
        environment: PATH, HOME, and the variables of pyenv and uv.
        minors: the versions that are looked for by name, such as 3.12.
        system: the system's own.
    """
    yield system
    names = ["python3", *(f"python{minor}" for minor in minors)]
    for folder in environment.get("PATH", "").split(":"):
        if folder:
            yield from (Path(folder, name) for name in names)
    home = Path(environment.get("HOME", "/"))
    data = Path(environment.get("XDG_DATA_HOME") or home / ".local/share")
    for folder in (
        Path(environment.get("PYENV_ROOT") or home / ".pyenv", "versions"),
        Path(environment.get("UV_PYTHON_INSTALL_DIR") or data / "uv/python"),
    ):
        yield from sorted(folder.glob("*/bin/python3"))


def ask(path: Path, timeout_s: float = ANSWER_S) -> Interpreter | str:
    """The Python at a path, or why it is none that counts."""
    try:
        answer = subprocess.run(
            [path, "-c", _QUESTION], capture_output=True, text=True, check=False, timeout=timeout_s, cwd="/"
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {timeout_s:g} s"
    except OSError as error:
        return error.strerror or type(error).__name__
    if answer.returncode:
        said = answer.stderr.strip().partition("\n")[0]
        return f"exit code {answer.returncode}" + (f": {said}" if said else "")
    identity, _, executable = answer.stdout.strip().partition("\n")
    implementation, _, version = identity.partition(" ")
    if implementation != "CPython":
        return f"is {implementation or 'no Python'}"
    if not version.replace(".", "").isdigit():
        return f"{version} is a build of its own"
    # Not the shim: its answer changes with the folder that it is asked in.
    return Interpreter(Path(executable) if executable else path, version)


def search(paths: Iterable[Path], timeout_s: float = ANSWER_S) -> Found:
    """Ask each file that exists, once; of several with the same version the first counts."""
    found = Found()
    asked: set[Path] = set()
    for path in paths:
        if not path.exists() or (real := path.resolve()) in asked:
            continue
        asked.add(real)
        answer = ask(path, timeout_s)
        if isinstance(answer, str):
            found.failed[path] = answer
        elif answer.version not in {known.version for known in found.interpreters}:
            found.interpreters.append(answer)
    return found


def choose(wish: str, found: Found, *, supported: Sequence[str], system: Path) -> Interpreter | str:
    """The Python that a word of PYTHONS means, or why there is none.

    Args:
        wish: a version such as 3.12 or 3.12.1, a path, `system` for the system's own, or `newest`.
        found: what was found here.
        supported: the minor versions that count as newest, and that the system's own has to be one of.
        system: the system's own.
    """
    if wish == "newest":
        known = [one for one in found.interpreters if one.minor in supported]
        return max(known, key=lambda one: one.order) if known else "not found: no supported Python is here"
    if wish == "system" or "/" in wish:
        path = system if wish == "system" else Path(wish)
        answer = ask(path) if path.exists() else "there is no such file"
        if isinstance(answer, str):
            return f"not found: {path}: {answer}"
        if answer.minor not in supported:
            return f"not run: {path} is {answer.version}, and supported are {', '.join(supported)}"
        return answer
    for interpreter in found.interpreters:
        if wish in (interpreter.minor, interpreter.version):
            return interpreter
    minor = ".".join(wish.split(".")[:2])
    refused = [f"; {path}: {reason}" for path, reason in found.failed.items() if path.name == f"python{minor}"]
    return "not found on the PATH, in pyenv or in uv" + "".join(refused)
