"""The load of `make steps`, for locust: each step has a number of users that send requests without a pause.

STEPS is the file that receives the results of each step.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import statistics
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from locust import HttpUser, LoadTestShape, constant, events, task

from demo.app import images

SEED = int(os.environ.get("SEED", "1"))
STEP_S = float(os.environ.get("STEP_SECONDS", "8"))
STEPS = os.environ["STEPS"]
USERS = (1, 2, 3, 4, 6, 8, 12, 16)
# The first part of a step still includes requests of the step before it.
SETTLING = 0.25

_latencies: defaultdict[int, list[float]] = defaultdict(list)  # step -> milliseconds
_failed: Counter[int] = Counter()
_numbers = itertools.count()
_began = 0.0


class Rising(LoadTestShape):
    """One step after the other, then the end."""

    def tick(self) -> tuple[int, float] | None:
        """The users of the current step."""
        step = int(self.get_run_time() / STEP_S)  # type: ignore[no-untyped-call]
        return (USERS[step], 60) if step < len(USERS) else None


class Reader(HttpUser):
    """Sends the next request as soon as it has a response."""

    wait_time = constant(0)

    def on_start(self) -> None:
        """Give each user a sequence of its own, the same in every run."""
        self.chance = random.Random(f"{SEED}-{next(_numbers)}")
        self.client.trust_env = False

    @task
    def read(self) -> None:
        """One line of text."""
        self.client.post("/read", data=images.draw(images.words(self.chance)), timeout=60)


def _start(**_: Any) -> None:
    global _began
    _began = time.monotonic()


def _count(response_time: float, exception: BaseException | None, **_: Any) -> None:
    step, part = divmod((time.monotonic() - _began) / STEP_S, 1)
    if step >= len(USERS):
        return
    if exception is not None:
        _failed[int(step)] += 1
    elif part > SETTLING:
        _latencies[int(step)].append(response_time)


def _write(**_: Any) -> None:
    steps = []
    for index, users in enumerate(USERS):
        sample = _latencies[index]
        if len(sample) >= 2:
            quantiles = statistics.quantiles(sample, n=20)
            steps.append(
                {
                    "concurrency": users,
                    "throughput": len(sample) / ((1 - SETTLING) * STEP_S),
                    "p50_ms": statistics.median(sample),
                    "p95_ms": quantiles[18],
                    "failed": _failed[index],
                }
            )
    if len(steps) == len(USERS):
        Path(STEPS).write_text(json.dumps(steps, indent=1) + "\n")


events.test_start.add_listener(_start)
events.request.add_listener(_count)
events.quitting.add_listener(_write)
