"""The type of a JSON object, for the whole package."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]
