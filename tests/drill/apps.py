"""The applications of the drill: one light service, which breaks in the way that its switch names.

A switch is a file with one word in it, named after the application: it turns a fault on in a running process, as a bug
that waits for its day does.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from tests.drill import DEPLOYMENT, SWITCHES

CHUNK_BYTES = 64 << 20
KEPT_BYTES = 6 << 20


@ray.remote(num_cpus=0, max_retries=0)
def _hog() -> None:
    """Take memory, and touch it, until Ray's memory monitor ends this process."""
    taken = []
    while True:
        taken.append(os.urandom(1) * CHUNK_BYTES)
        time.sleep(0.05)


@serve.deployment(name=DEPLOYMENT)
class Service:
    """Answers "ok" after `work_s` seconds, unless a switch says otherwise."""

    def __init__(self, name: str, work_s: float, start: str) -> None:
        self._switch = Path(os.environ[SWITCHES]) / name
        self._work_s = work_s
        self._calls = 0
        self._kept: list[Any] = []
        self._hogging = False
        if start == "raise":
            raise RuntimeError("the model's file is missing")
        if start == "slow":
            time.sleep(70)
        self._release = start
        if self._mode() == "exit-at-start":
            os._exit(1)

    def _mode(self) -> str:
        try:
            return self._switch.read_text()
        except OSError:
            return ""

    def _chosen(self) -> bool:
        """Whether this replica is the faulty one: the first caller is."""
        try:
            with self._switch.with_suffix(".pid").open("x") as file:
                file.write(str(os.getpid()))
        except FileExistsError:
            pass
        return self._switch.with_suffix(".pid").read_text() == str(os.getpid())

    async def __call__(self, request: Request) -> PlainTextResponse:
        """Answer, or do what the switch says."""
        self._calls += 1
        mode = self._mode()
        if mode == "raise" and self._calls % 4 == 0:
            raise ValueError("a bug")
        if mode == "slow":
            await asyncio.sleep(6)
        if mode == "hang":
            await asyncio.Event().wait()
        if mode == "block":
            time.sleep(2)
        if mode == "exit":
            os._exit(1)
        if mode == "one-bad" and self._chosen():
            await asyncio.sleep(0.5)
            if self._calls % 2 == 0:
                raise ValueError("an unhealthy process")
        if mode == "hog" and not self._hogging:
            self._hogging = True
            _hog.remote()
        if mode == "keep":
            self._kept.append(ray.put(os.urandom(KEPT_BYTES)))
        if self._release == "worse":
            await asyncio.sleep(0.4)
            if self._calls % 4 == 0:
                raise ValueError("a bug in the new version")
        await asyncio.sleep(self._work_s)
        return PlainTextResponse("ok")


def build(args: dict[str, Any]) -> serve.Application:
    """The application that a Serve config file names; `start` distinguishes the versions that a deploy brings."""
    return Service.bind(args["name"], float(args.get("work_s", 0)), str(args.get("start", "")))  # type: ignore[attr-defined]
