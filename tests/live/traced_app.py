"""An application whose every route makes a trace of a known shape."""

# No `from __future__ import annotations`: FastAPI reads the types of the ingress' parameters, and Serve ships the class
# without the module in which their names could be looked up.
import asyncio
import logging
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from ray import serve
from ray.serve.handle import DeploymentHandle

from servescope.tracing import instrument_fastapi, trace_batch
from servescope.tracing.batch import batch_requests, request_ids

web = instrument_fastapi(FastAPI())
log = logging.getLogger("ray.serve")


@serve.deployment(max_ongoing_requests=1000)
@serve.ingress(web)
class Front:
    """The ingress; First calls Second."""

    def __init__(self, first: DeploymentHandle, second: DeploymentHandle) -> None:
        self._first = first
        self._second = second
        self._together: dict[str, asyncio.Barrier] = {}

    @web.get("/chain/{text}")
    async def chain(self, text: str) -> str:
        log.info("front has %s", text)
        answer: str = await self._first.chain.remote(text)
        return answer

    @web.get("/parallel/{text}")
    async def parallel(self, text: str) -> list[str]:
        return list(await asyncio.gather(self._first.plain.remote(text), self._second.plain.remote(text)))

    @web.get("/together/{crowd}/{number}")
    async def together(self, crowd: str, number: int) -> list[str]:
        """As /parallel, but nobody goes on before `number` requests of this crowd are here."""
        await self._together.setdefault(crowd, asyncio.Barrier(number)).wait()
        return await self.parallel(crowd)

    @web.get("/batch/{text}")
    async def batch(self, text: str) -> str:
        answer: str = await self._second.batched.remote(text)
        return answer

    @web.get("/batch-ids/{text}")
    async def batch_ids(self, text: str) -> dict[str, list[str]]:
        """The request ids that are known in this request's batch, and those outside of it."""
        return {"inside": await self._second.batch_ids.remote(text), "outside": request_ids(batch_requests())}

    @web.get("/stream/{text}")
    async def stream(self, text: str) -> StreamingResponse:
        async def parts() -> AsyncIterator[str]:
            async for part in self._second.options(stream=True).parts.remote(text):
                yield part

        return StreamingResponse(parts())

    @web.get("/grpc/{text}")
    async def grpc(self, text: str) -> str:
        answer: str = await self._second.options(_by_reference=False).plain.remote(text)
        return answer

    @web.get("/fail/{text}")
    async def fail(self, text: str) -> str:
        answer: str = await self._second.fail.remote(text)
        return answer

    @web.get("/healthz")
    async def healthz(self) -> str:
        return "ok"


@serve.deployment
class First:
    """Calls Second."""

    def __init__(self, second: DeploymentHandle) -> None:
        self._second = second

    async def plain(self, text: str) -> str:
        return text

    async def chain(self, text: str) -> str:
        log.info("first has %s", text)
        answer: str = await self._second.plain.remote(text)
        return answer


@serve.deployment
class Second:
    """The end of every call."""

    async def plain(self, text: str) -> str:
        log.info("second has %s", text)
        return text

    @serve.batch(max_batch_size=4, batch_wait_timeout_s=0.5)
    async def _many(self, texts: list[str]) -> list[str]:
        with trace_batch("many"):
            log.info("a batch of %d with %s", len(texts), texts[0])
            await asyncio.sleep(0.01)
            return list(texts)

    async def batched(self, text: str) -> str:
        answer: str = await self._many(text)
        return answer

    @serve.batch(max_batch_size=4, batch_wait_timeout_s=0.5)
    async def _ids(self, texts: list[str]) -> list[list[str]]:
        with trace_batch("ids"):
            return [request_ids(batch_requests())] * len(texts)

    async def batch_ids(self, text: str) -> list[str]:
        answer: list[str] = await self._ids(text)
        return answer

    async def parts(self, text: str) -> AsyncIterator[str]:
        for letter in text:
            yield letter

    async def fail(self, text: str) -> str:
        raise ValueError(f"\x1b[31mfailed\x1b[0m {text}")


_second = Second.bind()
app = Front.bind(First.bind(_second), _second)
