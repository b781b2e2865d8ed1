"""What a page lacks because a query failed, and why: for the page itself and for the command that wrote it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from servescope.errors import ServescopeError

_NAMED = 3


class Missing:
    """Parts of a page that could not be had, in the order in which they failed. Used from several threads."""

    def __init__(self) -> None:
        self._failed: list[tuple[str, str]] = []

    @contextmanager
    def part(self, what: str) -> Iterator[None]:
        """Notes a failure in place of raising it."""
        try:
            yield
        except ServescopeError as error:
            self._failed.append((what, str(error)))

    @property
    def reason(self) -> str:
        """Why the first of them failed; "" where nothing is missing."""
        return self._failed[0][1] if self._failed else ""

    def lines(self) -> list[str]:
        """A line for each reason, which names the first parts and counts the others."""
        parts: dict[str, dict[str, None]] = {}
        for what, reason in list(self._failed):
            parts.setdefault(reason, {})[what] = None
        return [f"missing: {_listed(list(names))}: {reason}" for reason, names in parts.items()]


def _listed(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
