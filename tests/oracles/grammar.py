"""Hold LogQL and TraceQL against Grafana's own grammars, npm's @grafana/lezer-logql and @grafana/lezer-traceql."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "grammar"

requires_npm = pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not on the PATH: apt-get install npm")


def complaints(language: str, expressions: Sequence[str]) -> list[str | None]:
    """For each expression in `logql` or `traceql` the piece that the grammar does not understand, or None."""
    if not (HERE / "node_modules/.package-lock.json").exists():
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
        subprocess.run(command, cwd=HERE, check=True, capture_output=True)
    done = subprocess.run(
        ["node", "parse.mjs", language],
        cwd=HERE,
        input=json.dumps(expressions),
        capture_output=True,
        text=True,
        check=True,
    )
    found: list[str | None] = json.loads(done.stdout)
    return found
