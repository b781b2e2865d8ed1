"""The contents of pyproject.toml in the checkout: installed metadata may be older."""

from __future__ import annotations

import sys
from typing import Any

from demo import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # comes with pytest

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
