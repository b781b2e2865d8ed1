"""Applications whose every answer is known beforehand: what the truth tests hold Prometheus against."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import FastAPI, HTTPException
from ray import serve
from ray.serve.exceptions import BackPressureError
from ray.serve.handle import DeploymentHandle

from tests.live.truth_names import WORKER

steady_web = FastAPI()
held_web = FastAPI()


class Counts:
    """Counts its own failed calls: on a slow machine a client may be gone before its call gets here."""

    _failed = 0

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count the call in hand if it raises or is cancelled."""
        try:
            yield
        except BaseException:
            self._failed += 1
            raise

    async def failed(self) -> int:
        """How many of its calls have failed."""
        return self._failed


@serve.deployment(name=WORKER)
class Worker(Counts):
    """Takes the requested time, or fails."""

    async def __call__(self, ms: int) -> str:
        with self.counted():
            if ms < 0:
                raise ValueError("as asked")
            await asyncio.sleep(ms / 1000)
            return "done"


@serve.deployment
@serve.ingress(steady_web)
class Front(Counts):
    """The ingress of the steady load."""

    def __init__(self, worker: DeploymentHandle) -> None:
        self._worker = worker

    @steady_web.get("/work")
    async def work(self, ms: int) -> str:
        with self.counted():
            answer: str = await self._worker.remote(ms)
            return answer

    @steady_web.get("/status/{code}")
    async def status(self, code: int) -> str:
        raise HTTPException(code, "as asked")


@serve.deployment
class Held:
    """Works on one request at a time, with a short queue at each caller."""

    async def __call__(self, seconds: int) -> str:
        await asyncio.sleep(seconds)
        return "let go"


@serve.deployment
class Grow:
    """Gets a replica for each request that it holds."""

    async def __call__(self, seconds: int) -> str:
        await asyncio.sleep(seconds)
        return "grown"


@serve.deployment
class Mortal:
    """Dies when it is called."""

    def __call__(self) -> str:
        os._exit(1)


@serve.deployment
@serve.ingress(held_web)
class Door:
    """The ingress of the held load; its two replicas are two callers, each with a queue of its own."""

    def __init__(self, held: DeploymentHandle, grow: DeploymentHandle, mortal: DeploymentHandle) -> None:
        self._held = held
        self._grow = grow
        self._mortal = mortal

    @held_web.get("/hold")
    async def hold(self, seconds: int) -> str:
        try:
            answer: str = await self._held.remote(seconds)
        except BackPressureError as error:
            raise HTTPException(503, "full") from error
        return answer

    @held_web.get("/grow")
    async def grow(self, seconds: int) -> str:
        answer: str = await self._grow.remote(seconds)
        return answer

    @held_web.get("/die")
    async def die(self) -> str:
        answer: str = await self._mortal.remote()
        return answer

    @held_web.get("/failed/{deployment}")
    async def failed(self, deployment: str) -> int:
        """What a deployment of the steady load has counted; asked here, so that no request is added to that load."""
        answer: int = await serve.get_deployment_handle(deployment, "truth").failed.remote()
        return answer


steady = Front.bind(Worker.bind())
held = Door.bind(Held.bind(), Grow.bind(), Mortal.bind())
