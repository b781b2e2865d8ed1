"""Sessions and streams that end well and badly, over HTTP, WebSockets and gRPC.

Without `from __future__ import annotations`: Serve ships handlers without the module that has the names of their types.
"""

import asyncio
from collections.abc import AsyncIterator

from fastapi import FastAPI, WebSocket
from fastapi.responses import StreamingResponse
from ray import serve
from ray.serve.generated.serve_pb2 import UserDefinedMessage, UserDefinedResponse
from starlette.requests import Request

from servescope.tracing import instrument_fastapi

web = instrument_fastapi(FastAPI())


@serve.deployment(name="chat/talk v1.5")
@serve.ingress(web)
class Talk:
    """WebSocket sessions that end with the code of their path, and responses that break after their first byte."""

    @web.websocket("/session/{code}")
    async def session(self, socket: WebSocket, code: int) -> None:
        await socket.accept()
        while code:
            if await socket.receive_text() == "end":
                await socket.close(code)
                return
        await socket.send_text("first")
        raise ValueError("as asked")

    @web.get("/stream/{how}")
    async def stream(self, how: str) -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            yield b"first\n"
            await asyncio.sleep(0.2)
            if how == "breaks":
                raise ValueError("as asked")
            while how == "endless":
                yield b"more\n"
                await asyncio.sleep(0.05)

        return StreamingResponse(parts())


@serve.deployment(name="Rpc")
class Rpc:
    """Server-streaming and bidirectional calls that end well or break after their first message."""

    async def Streaming(self, message: UserDefinedMessage) -> AsyncIterator[UserDefinedResponse]:
        yield UserDefinedResponse(greeting="first")
        if message.name == "breaks":
            raise ValueError("as asked")
        yield UserDefinedResponse(greeting="last")


@serve.deployment(name="Plain")
class Plain:
    """Answers."""

    async def __call__(self, request: Request) -> str:
        return "plain"


talk = Talk.bind()
rpc = Rpc.bind()
plain = Plain.bind()
