"""What Grafana writes of a value, and in which colour: overrides, mappings, thresholds, units."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from servescope.grafana import colors, units
from servescope.json_types import Json


def settings_of(panel: Mapping[str, Any], name: str) -> Json:
    """The field configuration of one series or column: the defaults with the overrides that match its name.

    Shape: as Grafana's `fieldConfig.defaults`, with `custom.x` as keys of its own.
    """
    config = panel.get("fieldConfig", {})
    defaults = dict(config.get("defaults", {}))
    result = {f"custom.{key}": value for key, value in defaults.pop("custom", {}).items()} | defaults
    for override in config.get("overrides", []):
        matcher = override["matcher"]
        if matcher["id"] == "byRegexp":
            matches = re.search(matcher["options"].strip("/"), name) is not None
        else:
            matches = matcher["options"] == name
        if matches:
            result |= {item["id"]: item.get("value") for item in override["properties"]}
    return result


def threshold_color(config: Mapping[str, Any], value: float) -> str:
    """The colour of the last step at or below the value."""
    chosen = ""
    for step in config.get("thresholds", {}).get("steps", []):
        if step["value"] is None or value >= step["value"]:  # NaN is at the first step
            chosen = step["color"]
    return colors.css(chosen)


def mapped(config: Mapping[str, Any], value: str | float | None) -> tuple[str, str] | None:
    """Text and colour of a value by the value mappings; None if none matches."""
    for mapping in config.get("mappings", []):
        options = mapping["options"]
        result: Any = None
        if mapping["type"] == "value" and value is not None:
            result = options.get(value if isinstance(value, str) else f"{value:g}")
        if mapping["type"] == "range" and not isinstance(value, str) and not _is_nothing(value):
            low, high = options.get("from"), options.get("to")
            if (low is None or value >= low) and (high is None or value <= high):
                result = options["result"]
        if mapping["type"] == "special" and value in _SPECIAL.get(options.get("match"), ()):
            result = options.get("result")
        if mapping["type"] == "special" and is_nan(value) and "nan" in str(options.get("match")):
            result = options.get("result")
        if isinstance(result, dict):
            return result.get("text", ""), colors.css(result.get("color", ""))
    return None


_SPECIAL: Mapping[Any, tuple[Any, ...]] = {"null": (None,), "null+nan": (None,), "empty": ("",)}


def _is_nothing(value: str | float | None) -> bool:
    return value is None or is_nan(value)


def displayed(config: Mapping[str, Any], value: str | float | None, *, now: float) -> tuple[str, str]:
    """What Grafana writes of a value, and its colour: a mapping first, else the figure, else the field's `noValue`."""
    found = mapped(config, value)
    text = found[0] if found else ""
    if not text and isinstance(value, str):
        text = value
    elif not text and value is not None:
        text = units.format_value(float(value), config.get("unit", ""), config.get("decimals"), now=now)
    text = text or config.get("noValue", "")
    tone = found[1] if found else ""
    return text, tone or threshold_color(config, value if isinstance(value, (int, float)) else math.nan)


def is_nan(value: str | float | None) -> bool:
    """Whether a value is a figure that is none."""
    return isinstance(value, float) and math.isnan(value)
