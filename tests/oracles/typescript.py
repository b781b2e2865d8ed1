"""Hold dashboards against the types of npm's @grafana/schema, with one run of tsc for all of them."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from servescope.report.queries import panels_of

HERE = Path(__file__).parent / "schema"

requires_npm = pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not on the PATH: apt-get install npm")


def check(dashboards: dict[str, dict[str, Any]]) -> list[str]:
    """What tsc --strict says of each dashboard's panels; nothing means that all of them fit."""
    if not (HERE / "node_modules/.package-lock.json").exists():
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
        subprocess.run(command, cwd=HERE, check=True, capture_output=True)
    out = HERE / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    for name, dashboard in dashboards.items():
        lines = ['import type { Panels } from "../grafana";']
        for number, panel in enumerate(panels_of(dashboard)):
            body = json.dumps({key: panel[key] for key in ("options", "fieldConfig")})
            lines.append(f"// {panel['title']}")
            lines.append(f"export const p{number}: Panels[{json.dumps(panel['type'])}] = {body};")
        (out / f"{name}.ts").write_text("\n".join(lines) + "\n")
    result = subprocess.run(
        ["npx", "--no-install", "tsc", "-p", "."], cwd=HERE, capture_output=True, text=True, check=False
    )
    shutil.rmtree(out)
    complaints = [line for line in result.stdout.splitlines() if "error TS" in line]
    assert bool(complaints) == bool(result.returncode), result.stdout + result.stderr
    return complaints
