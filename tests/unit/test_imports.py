"""Every module can be imported, and what demo/ imports is declared: neither is found out by a live run only."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import tomllib

from demo import ROOT

PROGRAM = """
import importlib, sys, traceback
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except BaseException:
        print(name, traceback.format_exc().strip().splitlines()[-1], sep=": ")
"""
# Locust replaces what the others build on as soon as it is imported, so its modules have a process of their own.
LOAD = "demo/load"


def modules(*folders: str) -> list[Path]:
    """The files of the modules in some folders, relative to the repository."""
    return sorted(path.relative_to(ROOT) for folder in folders for path in (ROOT / folder).rglob("*.py"))


def dotted(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def failures(paths: list[Path]) -> list[str]:
    """Which of the modules cannot be imported, with the reason."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "src"))), "STEPS": os.devnull}
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, *map(dotted, paths)]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("load", [True, False], ids=["load", "all others"])
def test_every_module_can_be_imported(load):
    found = modules("demo", "scripts", "tests/support", "tests/drill", "tests/bench")
    chosen = [path for path in found if path.is_relative_to(LOAD) == load]
    assert len(chosen) >= (3 if load else 60)
    assert failures(chosen) == []


def test_a_module_that_cannot_be_imported_is_named(tmp_path):
    assert failures([Path("demo/nowhere.py")]) == ["demo.nowhere: ModuleNotFoundError: No module named 'demo.nowhere'"]


def extra(name: str) -> set[str]:
    """The distributions that an extra of pyproject.toml declares, itself or by another extra."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    found: set[str] = set()
    for requirement in extras[name]:
        others = re.fullmatch(r"servescope\[(.*)\]", requirement)
        if others:
            found |= {distribution for other in others[1].split(",") for distribution in extra(other)}
        else:
            found.add(re.split(r"[\[<>=~ ;]", requirement)[0].lower())
    return found


def imported(path: Path) -> set[str]:
    """The packages whose modules a file imports."""
    nodes = list(ast.walk(ast.parse((ROOT / path).read_text())))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    return {name.partition(".")[0] for name in names} - sys.stdlib_module_names


def test_the_extra_demo_declares_what_the_demo_imports():
    declared = extra("demo")
    distributions = packages_distributions()
    for path in modules("demo"):
        if path.name == "screenshots.py":
            continue
        for package in imported(path) - {"demo", "servescope"}:
            assert {name.lower() for name in distributions[package]} & declared, f"{path} imports {package}"
