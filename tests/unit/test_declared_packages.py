"""The extras of pyproject.toml declare what their code imports, and not only what comes along with something else."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import tomllib

from demo import ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
OURS = {"servescope", "demo", "tests", "scripts", "website"}
DISTRIBUTIONS = importlib.metadata.packages_distributions()
# Only ever imported inside an application that has them.
OF_THE_APPLICATION = {"ray", "fastapi"}


def plain(name: str) -> str:
    """A package's name as the index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(*extras: str, groups: Iterable[str] = ()) -> set[str]:
    """What some extras require, those that they include too, and what dependency groups require."""
    project = PROJECT["project"]
    found: set[str] = set()
    requirements = [one for extra in extras for one in project["optional-dependencies"][extra]]
    requirements += [one for group in groups for one in PROJECT["dependency-groups"][group]]
    for requirement in requirements:
        match = re.match(r"([\w.-]+)(?:\[([^\]]*)\])?", requirement)
        assert match, requirement
        name, included = match.groups()
        found |= declared(*included.split(",")) if name == project["name"] else {plain(name)}
    return found


def imported(source: str) -> set[str]:
    """The packages that a module imports, without Python's own and ours."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names.add(node.module)
    return {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names) - OURS


def undeclared(folder: Path, allowed: set[str]) -> list[str]:
    """`module: package` for each import that nothing declares."""
    return [
        f"{path.relative_to(ROOT)}: {package}"
        for path in sorted(folder.rglob("*.py"))
        for package in sorted(imported(path.read_text(encoding="utf-8")))
        if not allowed & {package, *(plain(name) for name in DISTRIBUTIONS.get(package, []))}
    ]


def test_the_package_imports_what_its_extras_declare():
    extras = declared("generate", "lint", "exporter", "tracing", "snapshot", "logs")
    assert undeclared(ROOT / "src", extras | OF_THE_APPLICATION) == []


def test_the_demo_imports_what_its_extra_declares():
    wrong = undeclared(ROOT / "demo", declared("demo"))
    with_browser = {"demo/screenshots.py: PIL", "demo/screenshots.py: playwright"}  # `make pictures`, as a developer
    assert sorted(set(wrong) - with_browser) == []


@pytest.mark.parametrize("folder", ["demo", "scripts", "tests"])
def test_what_a_developer_runs_imports_what_is_declared(folder):
    everything = declared(*PROJECT["project"]["optional-dependencies"], groups=["dev"])
    assert undeclared(ROOT / folder, everything) == []


def test_an_import_that_is_not_declared_is_found():
    source = "import os, demo\nfrom . import x\nimport numpy.linalg\ndef f():\n    from PIL import Image\n"
    assert imported(source) == {"numpy", "PIL"}
    assert "numpy" not in declared("generate")
    assert {"httpx", "ray", "prometheus-client"} <= declared("demo")
