"""Which Ray the live tests run against, and what follows from the catalogue's first versions for an older one."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from pathlib import Path

import pytest

from demo import ROOT
from servescope import catalog
from servescope.catalog import model
from servescope.errors import ServescopeError
from servescope.promql.signals import SIGNALS
from servescope.rules import recording
from servescope.settings import Settings

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


def ray_folder() -> str:
    """The folder with `ray` and `serve`: that of this Python, or of the environment that RAY_VERSION names."""
    version = os.environ.get("RAY_VERSION", "")
    if not version:
        return str(Path(sys.executable).parent)
    folder = ROOT / f".venv-ray-{version}" / "bin"
    if not (folder / "ray").is_file():
        pytest.exit(f"RAY_VERSION={version}: {folder / 'ray'} is missing; run RAY_VERSION={version} make test-live", 2)
    return str(folder)


def older(version: str, other: str) -> bool:
    """Whether a Ray version comes before another; patch releases count as the same."""
    return tuple(map(int, version.split(".")[:2])) < tuple(map(int, other.split(".")[:2]))


def newer_metrics(expression: str, version: str, settings: Settings) -> list[str]:
    """The metrics that an expression reads, through recorded series too, and that this version does not export yet."""
    rules = {signal.name(settings): recording.expression(signal, settings) for signal in SIGNALS}
    found = set()
    for name in _NAME.findall(expression):
        if name in rules:
            found |= set(newer_metrics(rules[name], version, settings))
    return sorted(found | {metric.name for metric in _metrics(expression) if older(version, metric.since)})


def newer_labels(expression: str, version: str) -> set[str]:
    """The labels that the metrics of an expression do not have in this version yet."""
    newer = [metric.newer_labels for metric in _metrics(expression)]
    return {label for labels in newer for label, since in labels.items() if older(version, since)}


def _metrics(expression: str) -> list[model.Metric]:
    found = []
    for name in _NAME.findall(expression):
        with contextlib.suppress(ServescopeError):  # a function, a label, a keyword
            found.append(catalog.metric_of_sample(name))
    return found
