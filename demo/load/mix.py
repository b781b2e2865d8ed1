"""The demo's load, for locust: waves, a burst that overflows the queues once per cycle, and every kind of failure.

Everything is drawn from SEED. For locust the expected result of a request is a success and anything else a failure,
including a wrong reading. When the load ends, LOAD_RESULT, a file, receives the number of requests and the failures.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import random
from pathlib import Path
from typing import Any

from locust import HttpUser, LoadTestShape, between, events, tag, task
from locust.env import Environment

from demo.app import images
from demo.app.voices import VOICES

SEED = int(os.environ.get("SEED", "1"))
RESULT = os.environ.get("LOAD_RESULT", "")
CYCLE_S = 60.0
BURST_S = (35.0, 43.0)  # the part of each cycle in which the queues overflow
WAVE_USERS = (2, 6)
BURST_USERS = 60

_numbers = itertools.count()


class Waves(LoadTestShape):
    """The number of users follows the cycle; for a few seconds it exceeds the capacity."""

    def tick(self) -> tuple[int, float]:
        """The current number of users, and the rate at which it may change."""
        within = self.get_run_time() % CYCLE_S  # type: ignore[no-untyped-call]
        if BURST_S[0] <= within < BURST_S[1]:
            return BURST_USERS, 60
        low, high = WAVE_USERS
        return round(low + (high - low) * (1 - math.cos(2 * math.pi * within / CYCLE_S)) / 2), 60


class Reader(HttpUser):
    """A user that sends pictures of words and knows the words."""

    wait_time = between(0.4, 1.0)

    def on_start(self) -> None:
        """Give each user a sequence of its own, the same in every run."""
        self.chance = random.Random(f"{SEED}-{next(_numbers)}")
        self.client.trust_env = False

    @task(30)
    def read(self) -> None:
        """The normal case: one or two lines, read correctly; back-pressure is an expected response."""
        lines = images.words(self.chance, self.chance.choice((1, 1, 2)))
        with self._post("/read", images.draw(lines)) as response:
            if response.status_code == 200 and not images.same_text(response.json()["lines"], lines):
                response.failure(f"read {response.json()['lines']}, expected {lines}")
            elif response.status_code in (200, 429, 503):
                response.success()

    @task(2)
    def bad(self) -> None:
        """A client error: not an image."""
        self._expect("/read", b"not an image", 400)

    @task(1)
    def failing(self) -> None:
        """A bug in the service."""
        self._expect("/read?fault=error", images.draw(["fault"]), 500)

    @task(1)
    def slow(self) -> None:
        """A slow request."""
        self._expect("/read?delay_s=1.5", images.draw(["slow"]), 200, 429, 503)

    @tag("abort")
    @task(1)
    def abort(self) -> None:
        """A client that disconnects before the response; Serve counts a 499."""
        with self._post("/read?delay_s=2", images.draw(["gone"]), timeout=0.5) as response:
            if response.status_code == 0:
                response.success()

    @task(4)
    def echo(self) -> None:
        """The second application, in a random voice."""
        voice = self.chance.choice(sorted(VOICES))
        with self._post("/echo", b"Hello", headers={"serve_multiplexed_model_id": voice}) as response:
            response.success() if response.text == VOICES[voice]("Hello") else response.failure("wrong echo")

    @task(1)
    def stream(self) -> None:
        """A streamed response."""
        with self._post("/echo/stream", b"one two three") as response:
            response.success() if response.text.split() == ["one", "two", "three"] else response.failure(
                "incomplete stream"
            )

    @task(1)
    def health(self) -> None:
        """A load balancer's health check."""
        self.client.get("/-/healthz")

    def _post(self, path: str, body: bytes, *, timeout: float = 30, headers: dict[str, str] | None = None) -> Any:
        return self.client.post(path, data=body, name=path, timeout=timeout, headers=headers, catch_response=True)

    def _expect(self, path: str, body: bytes, *codes: int) -> None:
        with self._post(path, body) as response:
            if response.status_code in codes:
                response.success()
            else:
                response.failure(f"status {response.status_code}, expected {codes}")


def _write_result(environment: Environment, **_: Any) -> None:
    if RESULT:
        failures = {f"{e.name}: {e.error}": e.occurrences for e in environment.stats.errors.values()}
        result = {"requests": environment.stats.total.num_requests, "failures": failures}
        Path(RESULT).write_text(json.dumps(result, indent=1) + "\n")


events.quitting.add_listener(_write_result)
