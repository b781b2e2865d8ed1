"""`make test-pythons`: which Pythons are found, what it holds the commands against, and its table."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from demo import ROOT
from tests.pythons import EXTRAS, SUPPORTED, checks, finder, table
from tests.pythons.__main__ import chosen
from tests.pythons.checks import CHECKS, RESOLVED_ONLY, Failed
from tests.pythons.finder import Found, Interpreter
from tests.pythons.table import FAILED, NOT_RUN, OK, Outcome


def program(path: Path, answer: str = "", code: int = 0, complaint: str = "") -> Path:
    """A file that answers whatever it is asked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    said = f"echo '{complaint}' >&2\n" if complaint else ""
    path.write_text(f"#!/bin/sh\n{said}printf '{answer}\\n'\nexit {code}\n")
    path.chmod(0o755)
    return path


def python(path: Path, version: str) -> Path:
    """A file that answers as a CPython of that version."""
    return program(path, f"CPython {version}\\n{path}")


@pytest.fixture
def home(tmp_path):
    """A machine as version managers make it: shims of which some fail, in front of the system's own."""
    for minor in ("3.10", "3.12", "3.13"):
        complaint = f"pyenv: python{minor}: command not found"
        program(tmp_path / f"shims/python{minor}", code=127, complaint=complaint)
    behind = python(tmp_path / "pyenv/versions/3.11.7/bin/python3", "3.11.7")
    program(tmp_path / "shims/python3", f"CPython 3.11.7\\n{behind}")
    python(tmp_path / "pyenv/versions/3.12.1/bin/python3", "3.12.1")
    python(tmp_path / "pyenv/versions/3.9.18/bin/python3", "3.9.18")
    python(tmp_path / "usr/bin/python3", "3.11.2")
    (tmp_path / "usr/bin/python3.11").symlink_to(tmp_path / "usr/bin/python3")
    python(tmp_path / "opt/bin/python3.10", "3.10.14")
    python(tmp_path / "uv/cpython-3.10.16-linux/bin/python3", "3.10.16")
    return tmp_path


def found_in(home: Path) -> Found:
    environment = {
        "PATH": f"{home}/shims:{home}/nowhere:{home}/usr/bin:{home}/opt/bin",
        "HOME": str(home),
        "PYENV_ROOT": str(home / "pyenv"),
        "UV_PYTHON_INSTALL_DIR": str(home / "uv"),
    }
    return finder.search(finder.candidates(environment, SUPPORTED, home / "usr/bin/python3"))


def test_shims_that_fail_hide_no_python_and_each_counts_once(home):
    found = found_in(home)
    assert [one.version for one in found.interpreters] == ["3.11.2", "3.11.7", "3.10.14", "3.12.1", "3.9.18", "3.10.16"]
    assert found.interpreters[1].path == home / "pyenv/versions/3.11.7/bin/python3", "what is behind the shim"
    assert found.failed == {
        home / f"shims/python{minor}": f"exit code 127: pyenv: python{minor}: command not found"
        for minor in ("3.10", "3.12", "3.13")
    }


@pytest.mark.parametrize(
    ("wish", "version"),
    [
        ("3.10", "3.10.14"),  # behind a shim that fails
        ("3.10.16", "3.10.16"),
        ("3.11", "3.11.2"),  # the system's own comes first
        ("3.11.7", "3.11.7"),
        ("3.12", "3.12.1"),
        ("system", "3.11.2"),
        ("newest", "3.12.1"),
    ],
)
def test_what_a_wish_means(home, wish, version):
    answer = finder.choose(wish, found_in(home), supported=SUPPORTED, system=home / "usr/bin/python3")
    assert isinstance(answer, Interpreter), answer
    assert answer.version == version


def test_newest_is_by_number_and_of_the_supported():
    found = Found([Interpreter(Path("a"), version) for version in ("3.9.18", "3.10.2", "3.14.1")])
    assert finder.choose("newest", found, supported=["3.9", "3.10"], system=Path("b")) == Interpreter(
        Path("a"), "3.10.2"
    )


def test_a_python_that_is_not_there_is_one_line_that_says_what_was_tried(home):
    found = found_in(home)

    def answer(wish: str) -> Interpreter | str:
        return finder.choose(wish, found, supported=["3.12"], system=home / "usr/bin/python3")

    assert answer("3.13") == (
        f"not found on the PATH, in pyenv or in uv; {home}/shims/python3.13: exit code 127: "
        "pyenv: python3.13: command not found"
    )
    assert answer(f"{home}/no/python") == f"not found: {home}/no/python: there is no such file"
    assert answer(f"{home}/shims/python3.13").endswith("pyenv: python3.13: command not found")
    assert answer("system") == f"not run: {home}/usr/bin/python3 is 3.11.2, and supported are 3.12"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("PyPy 3.10.14\\n/x", "is PyPy"),
        ("CPython 3.13.0t\\n/x", "3.13.0t is a build of its own"),
        ("CPython 3.14.0rc1\\n/x", "3.14.0rc1 is a build of its own"),
        ("", "is no Python"),
    ],
)
def test_what_answers_and_does_not_count(tmp_path, answer, reason):
    assert finder.ask(program(tmp_path / "python3", answer)) == reason


def test_what_never_answers_does_not_count(tmp_path):
    path = program(tmp_path / "python3")
    path.write_text("#!/bin/sh\nexec sleep 30\n")
    assert finder.ask(path, timeout_s=0.2) == "no answer within 0.2 s"
    path.chmod(0o644)
    assert finder.ask(path) == "Permission denied"


def test_the_python_of_this_run_is_always_found(monkeypatch, tmp_path):
    for name in ("PATH", "HOME", "PYENV_ROOT", "UV_PYTHON_INSTALL_DIR", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    pythons, missing = chosen(["newest", "newest", "3.1", "system"], tmp_path / "python3")
    assert len(pythons) == 1
    assert missing == {
        "3.1": "not found on the PATH, in pyenv or in uv",
        "system": f"not found: {tmp_path}/python3: there is no such file",
    }


# ---------------------------------------------------------------------------------------------------------------------
# Comparisons


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        ({"a": "1", "b/c": "2"}, ""),
        ({"a": "1", "b/c": "3"}, "not as committed: b/c"),
        ({"a": "1", "b/c": "2", "d": "4"}, "not as committed: d"),
        ({"a": "1"}, "not as committed: b/c (not written)"),
        ({}, "not as committed: a (not written), b/c (not written)"),
    ],
)
def test_files_are_held_against_the_committed_ones(tmp_path, written, complaint):
    for folder, files in (("committed", {"a": "1", "b/c": "2"}), ("written", written)):
        for name, text in files.items():
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    try:
        checks.compare(tmp_path / "written", tmp_path / "committed", [Path("a"), Path("b/c")])
        reported = ""
    except Failed as error:
        reported = str(error)
    assert reported == complaint


def test_every_extra_has_a_check_and_every_check_an_extra():
    assert {*CHECKS, *RESOLVED_ONLY} == set(EXTRAS)


# ---------------------------------------------------------------------------------------------------------------------
# The table

OUTCOMES = [
    Outcome(python="3.10.13", extra="", command="install", state=OK),
    Outcome(python="3.12.1", extra="", command="install", state=OK),
    Outcome(python="3.10.13", extra="generate", command="servescope rules", state=FAILED, reason="exit code 1: no"),
    Outcome(python="3.12.1", extra="generate", command="servescope rules", state=OK),
    Outcome(python="3.13", extra="generate", command="servescope rules", state=NOT_RUN, reason="not found"),
    Outcome(python="3.13", extra="", command="install", state=NOT_RUN, reason="not found"),
]


def test_the_table():
    grid = table.grid(OUTCOMES, ["3.10.13", "3.12.1", "3.13"])
    assert table.as_text(grid).splitlines() == [
        "extra     command           3.10.13  3.12.1  3.13",
        "none      install           ok       ok      not run",
        "generate  servescope rules  failed   ok      not run",
    ]
    assert table.as_markdown(grid).splitlines() == [
        "| extra | command | 3.10.13 | 3.12.1 | 3.13 |",
        "| --- | --- | --- | --- | --- |",
        "| none | `install` | ok | ok | not run |",
        "| generate | `servescope rules` | failed | ok | not run |",
    ]


def test_the_reasons():
    assert table.reasons(OUTCOMES) == [
        "3.10.13, generate, servescope rules: exit code 1: no",
        "3.13: 2 not run: not found",
    ]


def test_versions_that_differ_name_their_pythons():
    installed = {
        "3.10": {"httpx": "1", "numpy": "1.9"},
        "3.12": {"httpx": "1", "numpy": "2"},
        "3.13": {"httpx": "1", "numpy": "2"},
    }
    assert table.versions(installed) == "httpx 1, numpy 1.9 (3.10) or 2"


def test_the_page_has_every_supported_python_and_every_extra():
    """`make compatibility` updates it."""
    page = (ROOT / "docs/compatibility.md").read_text(encoding="utf-8")
    (head,) = re.findall(r"^\| extra \| command \| (.*) \|$", page, re.MULTILINE)
    assert tuple(version.rpartition(".")[0] for version in head.split(" | ")) == SUPPORTED
    rows = re.findall(r"^\| (\w+) \| `(.*?)` \|", page, re.MULTILINE)
    first = {(extra or "none", "resolve" if extra in RESOLVED_ONLY else "install") for extra in EXTRAS}
    named = {(extra or "none", check.command) for extra, found in CHECKS.items() for check in found}
    assert set(rows) == first | named
