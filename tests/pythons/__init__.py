"""The wheel, installed as a user would, on every supported Python with every extra: `make test-pythons`."""

from __future__ import annotations

import re
from typing import Any

import tomllib

from demo import ROOT

_PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
_CLASSIFIER = re.compile(r"Programming Language :: Python :: (3\.\d+)")

SUPPORTED: tuple[str, ...] = tuple(
    match.group(1) for classifier in _PROJECT["classifiers"] if (match := _CLASSIFIER.fullmatch(classifier))
)
"""The minor versions that the package says it supports, the oldest first."""

EXTRAS: dict[str, list[str]] = {"": _PROJECT["dependencies"], **_PROJECT["optional-dependencies"]}
"""What each extra requires; "" is the package without any."""
