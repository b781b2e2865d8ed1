"""Each command runs with its own extra alone, and without it one line names that extra."""

from __future__ import annotations

import ast
import importlib.metadata
import subprocess
import sys

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from demo import ROOT
from servescope import __version__
from servescope.__main__ import EXTRAS
from servescope.cli import commands
from tests.support.project import PROJECT

MODULES = importlib.metadata.packages_distributions()

# Runs a command in an interpreter in which some modules are not installed.
BLOCKED = """
import sys
from importlib.abc import MetaPathFinder

class Missing(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
sys.argv = ["servescope", *{arguments!r}]
from servescope.__main__ import main
main()
"""


def run(blocked: set[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    code = BLOCKED.format(blocked=blocked, arguments=arguments)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)


def installed(extra: str) -> set[str]:
    """The distributions that an extra brings, those that they need too."""
    wanted = [Requirement(text) for text in PROJECT["optional-dependencies"][extra]]
    found: set[str] = set()
    while wanted:
        one = wanted.pop()
        name = canonicalize_name(one.name)
        if name == "servescope":
            for inner in one.extras:
                found |= installed(inner)
        elif name not in found:
            found.add(name)
            for text in importlib.metadata.requires(name) or ():
                needed = Requirement(text)
                extras = one.extras or {""}
                if needed.marker is None or any(needed.marker.evaluate({"extra": e}) for e in extras):
                    wanted.append(needed)
    return found


ARGUMENTS = {
    "dashboards": ["-o", "{tmp}"],
    "rules": ["-o", "{tmp}"],
    "lint": [str(ROOT / "alerts")],
    "logs": ["{tmp}", "--level", "ERROR"],
    "exporter": ["--once", "--address", "http://127.0.0.1:9"],
    "trace": ["--slowest", "1", "--traces", "{tmp}"],
    "snapshot": ["--prometheus", "http://127.0.0.1:9", "-o", "{tmp}/s.html"],
    "preview": ["--prometheus", "http://127.0.0.1:9", "--dashboards", "{tmp}/none"],
}


def test_every_command_has_an_extra():
    assert {name.removeprefix("servescope ") for name in commands()} == set(ARGUMENTS) == set(EXTRAS) - {"generate"}
    assert set(EXTRAS.values()) <= set(PROJECT["optional-dependencies"])


@pytest.mark.parametrize("command", ARGUMENTS)
def test_its_extra_is_enough(command, tmp_path):
    allowed = installed(EXTRAS[command])
    blocked = {
        module
        for module, distributions in MODULES.items()
        if module not in sys.stdlib_module_names
        and not {canonicalize_name(name) for name in distributions} & (allowed | {"servescope"})
    }
    assert {"ray", "onnxruntime"} <= blocked
    result = run(blocked, command, *(text.format(tmp=tmp_path) for text in ARGUMENTS[command]))
    assert "is missing" not in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("folder", "extra"),
    [("report", "snapshot"), ("exporter", "exporter"), ("grafana", "generate"), ("rules", "generate")],
)
def test_what_a_folder_imports_late_is_in_its_extra_too(folder, extra):
    """A snapshot needs some of its modules only once Prometheus has answered."""
    files = list((ROOT / "src/servescope" / folder).rglob("*.py"))
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text()))]
    imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    modules = {name.partition(".")[0] for name in imported} - set(sys.stdlib_module_names) - {"servescope"}
    assert modules
    allowed = installed(extra)
    assert [m for m in modules if not {canonicalize_name(name) for name in MODULES[m]} & allowed] == []


@pytest.mark.parametrize(
    ("command", "module", "extra"),
    [
        ("lint", "promql_parser", "lint"),
        ("lint", "yaml", "lint"),
        ("exporter", "prometheus_client", "exporter"),
        ("exporter", "typer", "exporter"),
        ("dashboards", "grafanalib", "generate"),
        ("rules", "yaml", "generate"),
        ("snapshot", "httpx", "snapshot"),
        ("preview", "httpx", "snapshot"),
        ("trace", "rich", "generate"),
    ],
)
def test_without_it_one_line_names_it(command, module, extra, tmp_path):
    result = run({module}, command, *(text.format(tmp=tmp_path) for text in ARGUMENTS[command]))
    assert result.returncode == 1
    assert result.stderr == (
        f"servescope: the Python package {module} is missing; install the extra {extra}: "
        f"pip install '.[{extra}]' in a clone, or pip install './servescope-{__version__}-py3-none-any.whl[{extra}]'\n"
    )


def test_generating_needs_no_parser(tmp_path):
    result = run({"promql_parser"}, "rules", "-o", str(tmp_path))
    assert result.returncode == 0, result.stderr
