"""Fail on constructors with too many positional arguments; ruff's PLR0917 does the same for functions.

A dataclass takes at most three fields by position: `kw_only=True`, or `_: KW_ONLY` after them. And no tuple is
unpacked in place, as in `(*("a", "b"), "c")`, which only steers the formatter.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

FOLDERS = ("src", "demo", "scripts")
MOST_BY_POSITION = 3


def fields_by_position(node: ast.ClassDef) -> int:
    """How many fields a dataclass takes by position; 0 for other classes."""
    decorators = {ast.unparse(d.func if isinstance(d, ast.Call) else d): d for d in node.decorator_list}
    decorator = decorators.get("dataclass")
    if decorator is None:
        return 0
    if isinstance(decorator, ast.Call) and any(
        keyword.arg == "kw_only" and ast.unparse(keyword.value) == "True" for keyword in decorator.keywords
    ):
        return 0
    count = 0
    for statement in node.body:
        if isinstance(statement, ast.AnnAssign):
            annotation = ast.unparse(statement.annotation)
            if annotation.endswith("KW_ONLY"):
                break
            inside = isinstance(statement.value, ast.Call) and any(k.arg == "init" for k in statement.value.keywords)
            count += not annotation.startswith("ClassVar") and not inside
    return count


def complaints(source: str) -> Iterator[tuple[int, str]]:
    """Line and message of each finding in a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef) and (count := fields_by_position(node)) > MOST_BY_POSITION:
            yield node.lineno, f"dataclass {node.name} takes {count} fields by position: kw_only=True"
        if isinstance(node, ast.Starred) and isinstance(node.value, (ast.Tuple, ast.List)):
            yield node.lineno, "a tuple unpacked in place: remove the star and its parentheses"


def main() -> int:
    """Print the findings; 0 if there are none."""
    found = [
        f"{path}:{line}: {sentence}"
        for folder in FOLDERS
        for path in sorted(Path(folder).rglob("*.py"))
        for line, sentence in complaints(path.read_text(encoding="utf-8"))
    ]
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
