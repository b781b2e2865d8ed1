"""For what takes its time: wait for a condition, and say what is missing when it does not come."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_for(
    condition: Callable[[], bool], seconds: float, explain: Callable[[], str], *, pause_s: float = 2.0
) -> None:
    """Poll until the condition holds; fail with its explanation when the time is up."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {explain()}"
        time.sleep(pause_s)
