"""How many requests should one replica carry? Concurrency rises in steps on one replica of each model.

A locust file: each step holds a number of users who ask again as soon as they have an answer. At the end it prints
throughput and latency of each step, where latency bends, and the limits that the production guide takes from that.
"""

from __future__ import annotations

import itertools
import os
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from locust import HttpUser, LoadTestShape, constant, events, task

from demo import images

SEED = int(os.environ.get("SEED", "1"))
STEP_S = float(os.environ.get("STEP_SECONDS", "8"))
USERS = (1, 2, 3, 4, 6, 8, 12, 16)
# A step pays while it brings at least this much more throughput than the one before it.
WORTH_IT = 1.10

_samples: defaultdict[int, list[float]] = defaultdict(list)  # step -> latencies in milliseconds
_numbers = itertools.count()
_began = 0.0


@dataclass(frozen=True)
class Step:
    """What one step measured: requests at once, requests per second, milliseconds."""

    concurrency: int
    throughput: float
    p50_ms: float
    p95_ms: float


@dataclass(frozen=True)
class Advice:
    """What follows: the concurrency at the bend, and the limits to set."""

    bend: int
    max_ongoing_requests: int
    target_ongoing_requests: int
    reached: bool  # False when throughput still grew at the last step


def advise(steps: Sequence[Step]) -> Advice:
    """The bend is the last step before one that brings less than a tenth more throughput.

    Beyond it more requests at once only wait for each other. `max_ongoing_requests` is the bend, and
    `target_ongoing_requests` half of it, so that a burst finds room while the next replica starts.
    """
    bend = len(steps) - 1
    for index in range(1, len(steps)):
        if steps[index].throughput < WORTH_IT * steps[index - 1].throughput:
            bend = index - 1
            break
    limit = max(2, steps[bend].concurrency)
    return Advice(steps[bend].concurrency, limit, max(1, limit // 2), bend < len(steps) - 1)


def report(steps: Sequence[Step]) -> str:
    """The table and the advice, as text."""
    lines = ["at once   requests/s   p50 ms   p95 ms"]
    lines += [f"{s.concurrency:7d} {s.throughput:12.1f} {s.p50_ms:8.0f} {s.p95_ms:8.0f}" for s in steps]
    advice = advise(steps)
    if not advice.reached:
        lines.append("Throughput still grew at the last step: take more steps before you set limits.")
    lines.append(
        f"Latency bends at {advice.bend} at once: max_ongoing_requests {advice.max_ongoing_requests}, "
        f"target_ongoing_requests {advice.target_ongoing_requests}"
    )
    return "\n".join(lines)


class Rising(LoadTestShape):
    """One step after the other, then the end."""

    def tick(self) -> tuple[int, float] | None:
        """The users of the present step."""
        step = int(self.get_run_time() / STEP_S)
        return (USERS[step], 60) if step < len(USERS) else None


class Reader(HttpUser):
    """Asks again as soon as it has an answer."""

    wait_time = constant(0)

    def on_start(self) -> None:
        """Give each user a sequence of its own."""
        self.chance = random.Random(f"{SEED}-{next(_numbers)}")
        self.client.trust_env = False

    @task
    def read(self) -> None:
        """One line of text."""
        self.client.post("/read", data=images.draw(images.words(self.chance)), timeout=60)


@events.test_start.add_listener
def _start(**_: Any) -> None:
    global _began
    _began = time.monotonic()


@events.request.add_listener
def _count(response_time: float, exception: BaseException | None, **_: Any) -> None:
    elapsed = time.monotonic() - _began
    # The first fifth of a step still holds what the step before it left behind.
    if exception is None and elapsed % STEP_S > STEP_S / 5:
        _samples[int(elapsed / STEP_S)].append(response_time)


@events.quitting.add_listener
def _print(**_: Any) -> None:
    steps = []
    for index, users in enumerate(USERS):
        sample = _samples[index]
        if len(sample) >= 2:
            cuts = statistics.quantiles(sample, n=20)
            steps.append(Step(users, len(sample) / (0.8 * STEP_S), statistics.median(sample), cuts[18]))
    print(report(steps) if steps else "no request was answered")
