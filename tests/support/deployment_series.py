"""For expressions about one deployment: invented series of it, and the figures that promtool computes from them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from servescope.promql.lint import expand_macros
from tests.support import promtool

Series = dict[str, str]

LABELS = '{application="a", deployment="d"}'
STEPS = 481  # of 15 s in two hours


def series(name: str, values: str, deployment: str = "d", **labels: str) -> Series:
    """One series of a deployment of application a, in promtool's notation."""
    more = "".join(f', {label}="{value}"' for label, value in labels.items())
    return {f'{name}{{application="a", deployment="{deployment}"{more}}}': values}


def steady(value: float) -> str:
    """The same value for two hours."""
    return f"{value:g}x{STEPS}"


def config(deployment: str = "d", **figures: float) -> Series:
    """Configured figures, as exported."""
    found: Series = {}
    for name, value in figures.items():
        found |= series(f"servescope_deployment_{name}", steady(value), deployment, instance="e")
    return found


def evaluate(
    folder: Path, given: Series, expected: Mapping[tuple[str, str], float | None], *, labels: str = LABELS
) -> None:
    """Expressions at times, each with the one figure that it gives, or none; six digits after the point."""
    reported: dict[tuple[str, str], list[tuple[str, float]]] = {}
    for (expression, at), value in expected.items():
        expanded = expand_macros(expression.replace("$__range", "1h"), "15s")
        reported[f"round(1e6 * ({expanded})) / 1e6", at] = [] if value is None else [(labels, round(value, 6))]
    promtool.assert_expressions(folder, given, reported)
