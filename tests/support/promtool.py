"""For the meaning of PromQL and rule files: promtool as the judge, over invented series."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

requires_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not on the PATH: make tools installs it"
)


def run(*arguments: str | Path, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    command = ["promtool", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, input=stdin)


def assert_expressions(
    folder: Path, series: dict[str, str], expected: dict[tuple[str, str], list[tuple[str, float]]]
) -> None:
    """Let promtool evaluate expressions over invented series, scraped every 15 s.

    `expected` maps (expression, evaluation time) to its samples as (labels, value). Evaluation times must not be a
    sample's own instant: Prometheus 2 and 3 differ on whether a range holds its left end.
    """
    test: dict[str, Any] = {
        "interval": "15s",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": expression,
                "eval_time": at,
                "exp_samples": [{"labels": labels, "value": value} for labels, value in samples],
            }
            for (expression, at), samples in expected.items()
        ],
    }
    path = folder / "test.yml"
    path.write_text(yaml.safe_dump({"rule_files": [], "evaluation_interval": "15s", "tests": [test]}))
    result = run("test", "rules", path)
    assert result.returncode == 0, result.stdout + result.stderr
