"""A light application that makes Serve export what it can: each route triggers something known."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import StreamingResponse
from ray import serve
from ray.serve.exceptions import BackPressureError
from ray.serve.handle import DeploymentHandle

web = FastAPI()


@serve.deployment
@serve.ingress(web)
class Gateway:
    """The ingress: answers by itself, or asks a deployment that shows one feature."""

    def __init__(
        self, embedder: DeploymentHandle, scaler: DeploymentHandle, models: DeploymentHandle, fragile: DeploymentHandle
    ) -> None:
        self._embedder = embedder
        self._scaler = scaler
        self._models = models
        self._fragile = fragile

    @web.get("/ok")
    async def ok(self) -> str:
        return "ok"

    @web.get("/sleep")
    async def sleep(self, ms: int) -> str:
        await asyncio.sleep(min(ms, 60_000) / 1000)
        return "slept"

    @web.get("/status/{code}")
    async def status(self, code: int) -> str:
        raise HTTPException(code, "as asked")

    @web.get("/boom")
    async def boom(self) -> str:
        raise ValueError("as asked")

    @web.get("/embed/{text}")
    async def embed(self, text: str) -> int:
        size: int = await self._embedder.remote(text)
        return size

    @web.get("/scale")
    async def scale(self, ms: int = 300) -> str:
        try:
            answer: str = await self._scaler.remote(ms)
        except BackPressureError as error:
            raise HTTPException(503, "full") from error
        return answer

    @web.get("/models/{model}")
    async def model(self, model: str) -> str:
        answer: str = await self._models.options(multiplexed_model_id=model).remote()
        return answer

    @web.get("/argument")
    async def argument(self) -> int:
        # One call's result handed to another: Serve resolves it before it routes.
        return await self._embedder.remote(self._scaler.remote(1))  # type: ignore[no-any-return]

    @web.get("/stream")
    async def stream(self) -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            for number in range(5):
                yield f"{number}\n".encode()
                await asyncio.sleep(0.01)

        return StreamingResponse(parts())

    @web.get("/crash")
    async def crash(self) -> str:
        answer: str = await self._fragile.remote()
        return answer


@serve.deployment
class Embedder:
    """Batches."""

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.02)
    async def embed(self, texts: list[str]) -> list[int]:
        await asyncio.sleep(0.02)
        return [len(text) for text in texts]

    async def __call__(self, text: str) -> int:
        size: int = await self.embed(text)
        return size

    def record_routing_stats(self) -> dict[str, float]:
        return {"load": 0.0}


@serve.deployment
class Scaler:
    """Scales by load, has a short queue, and can be reconfigured."""

    def __init__(self) -> None:
        self._factor = 1.0

    def reconfigure(self, config: dict[str, float]) -> None:
        self._factor = config.get("factor", 1.0)

    async def __call__(self, ms: int) -> str:
        await asyncio.sleep(self._factor * min(ms, 60_000) / 1000)
        return "scaled"

    def record_autoscaling_stats(self) -> dict[str, float]:
        return {"requests": 1.0}


@serve.deployment(name="bert-v1.5")
class Models:
    """Holds two models at most, so that a third one makes it unload."""

    @serve.multiplexed(max_num_models_per_replica=2)
    async def load(self, model: str) -> str:
        await asyncio.sleep(0.01)
        return model

    async def __call__(self) -> str:
        return await self.load(serve.get_multiplexed_model_id())  # type: ignore[no-any-return]


@serve.deployment
class Fragile:
    """Dies when it is called."""

    def __call__(self) -> str:
        os._exit(1)


@serve.deployment
class Plain:
    """The second application: no FastAPI, a health check of its own."""

    async def __call__(self, request: Request) -> str:
        return "plain"

    def check_health(self) -> None:
        return None


main = Gateway.bind(Embedder.bind(), Scaler.bind(), Models.bind(), Fragile.bind())
other = Plain.bind()
