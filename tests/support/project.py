"""What pyproject.toml says, as it is in the tree: installed metadata may be older."""

from __future__ import annotations

from typing import Any

import tomllib

from demo import ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
