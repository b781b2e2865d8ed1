"""The one exception type that a user sees as a single line."""

from __future__ import annotations


class ServescopeError(Exception):
    """A failure of the user's input or surroundings: its text says what, where and how to mend it."""
