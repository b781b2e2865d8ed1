"""PromQL durations: reading them, and dividing those of an expression by a time scale."""

from __future__ import annotations

import re

_DURATION = r"(?:\d+(?:ms|[smhdwy]))+"

# Quoted text comes first, so that a label's value that looks like a range is passed over. A subquery may leave its step
# to Prometheus (`[10m:]`), and an offset may look ahead (`offset -5m`).
_SPANS = re.compile(
    r""""(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`[^`]*`"""
    rf"|\[\s*(?P<window>{_DURATION})\s*(?P<colon>:\s*(?P<step>{_DURATION})?\s*)?\]"
    rf"|\boffset\s*(?P<sign>[+-]?)\s*(?P<offset>{_DURATION})",
    re.IGNORECASE,
)

_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000, "y": 31_536_000_000}


def milliseconds(duration: str) -> int:
    """A PromQL duration in milliseconds."""
    return sum(int(n) * _UNITS_MS[unit] for n, unit in re.findall(r"(\d+)(ms|[smhdwy])", duration))


def longer(duration: str, more: str) -> str:
    """The sum of two PromQL durations of whole seconds, in hours, minutes and seconds: "1m", "15s" give "1m15s"."""
    seconds = (milliseconds(duration) + milliseconds(more)) // 1000
    parts = ((seconds // 3600, "h"), (seconds // 60 % 60, "m"), (seconds % 60, "s"))
    return "".join(f"{number}{unit}" for number, unit in parts if number)


def shortened(duration: str, scale: float) -> str:
    """A duration divided by the time scale, in whole milliseconds."""
    return duration if scale == 1 else f"{max(1, round(milliseconds(duration) / scale))}ms"


def shorten(expression: str, scale: float) -> str:
    """The same expression with every range and offset divided by the time scale."""
    if scale == 1:
        return expression

    def divided(match: re.Match[str]) -> str:
        if match["offset"]:
            return f"offset {match['sign']}{shortened(match['offset'], scale)}"
        if not match["window"]:
            return match[0]
        step = shortened(match["step"], scale) if match["step"] else ""
        return f"[{shortened(match['window'], scale)}{f':{step}' if match['colon'] else ''}]"

    return _SPANS.sub(divided, expression)
