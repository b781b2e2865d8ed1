"""The layers of the package in docs/architecture.md, from its imports.

    python -m scripts.architecture --write


The order of the layers is the contract in pyproject.toml, which `make lint` enforces; the sentence of each is the
first of its docstring; an arrow is an import, omitted if a longer path of arrows implies it.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path

import grimp
import tomllib

from demo import ROOT
from servescope.files import write_all

PAGE = ROOT / "docs/architecture.md"
BEGIN, END = "<!-- layers: made by scripts/architecture.py -->", "<!-- /layers -->"


def layers() -> list[list[str]]:
    """The layers from the highest to the lowest; packages of one layer side by side."""
    document = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = [c for c in document["tool"]["importlinter"]["contracts"] if c["id"] == "layers"]
    return [[name.strip() for name in layer.split("|")] for layer in contract["layers"]]


def sentence(module: str) -> str:
    """The first sentence of a module's docstring."""
    spec = importlib.util.find_spec(f"servescope.{module}")
    assert spec is not None
    assert spec.origin is not None
    text = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split())


def imports(modules: list[str]) -> dict[str, set[str]]:
    """Which packages each package imports."""
    graph = grimp.build_graph("servescope", exclude_type_checking_imports=False, cache_dir=None)
    for module in modules:
        if graph.find_children(f"servescope.{module}"):
            graph.squash_module(f"servescope.{module}")
    return {
        module: {
            found.removeprefix("servescope.")
            for found in graph.find_modules_directly_imported_by(f"servescope.{module}")
            if found not in ("servescope", f"servescope.{module}")
        }
        for module in modules
    }


def reached(start: str, edges: dict[str, set[str]]) -> set[str]:
    """Every package that a package imports, directly or not."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        for other in edges[waiting.pop()] - found:
            found.add(other)
            waiting.append(other)
    return found


def section() -> str:
    """The diagram and the table as Markdown."""
    order = layers()
    edges = imports([name for layer in order for name in layer])
    lines = ["```mermaid", "flowchart TD"]
    for name, targets in edges.items():
        indirect = set().union(*(reached(target, edges) for target in targets))
        lines += [f"  {name} --> {target}" for target in sorted(targets - indirect)]
    lines += ["```", "", "| layer | what is in it |", "|---|---|"]
    for layer in order:
        for name in layer:
            path = f"src/servescope/{name}"
            link = path if (ROOT / path).is_dir() else f"{path}.py"
            lines.append(f"| [{name}](../{link}) | {sentence(name)} |")
    return "\n".join(lines)


def replaced(text: str) -> str:
    """A page with the section between its marks replaced."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{section()}\n{END}{after}"


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        write_all({PAGE: replaced(PAGE.read_text(encoding="utf-8"))})
    else:
        print(section())
