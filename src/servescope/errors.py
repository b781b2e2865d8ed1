"""The one exception type that a user sees as a single line."""

from __future__ import annotations


class ServescopeError(Exception):
    """A failure of the user's input or environment: its text says what failed, where, and how to fix it."""
