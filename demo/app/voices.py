"""The voices of the second application, by name; without Ray, so that the load knows the expected responses."""

from __future__ import annotations

from collections.abc import Callable

VOICES: dict[str, Callable[[str], str]] = {
    "plain": str,
    "loud": str.upper,
    "quiet": str.lower,
    "proper": str.title,
    "swapped": str.swapcase,
}
