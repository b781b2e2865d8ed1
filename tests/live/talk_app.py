"""The application of the truth tests with WebSocket sessions and broken streams.

Without `from __future__ import annotations`: Serve passes handlers by value, with the names that their code uses and
not those of annotations alone, so FastAPI would not find `WebSocket` and refuse every session with 403.
"""

import asyncio
from collections.abc import AsyncIterator

from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse
from ray import serve

from tests.live.truth_names import SESSION_S, TALK

talk_web = FastAPI()


@serve.deployment(name=TALK)
@serve.ingress(talk_web)
class Talk:
    """WebSocket sessions that end as the client or the path says, and a stream that breaks after its first byte."""

    @talk_web.websocket("/session/{code}")
    async def session(self, socket: WebSocket, code: int) -> None:
        await socket.accept()
        if code:
            await asyncio.sleep(SESSION_S)
            await socket.close(code)
            return
        try:
            await socket.receive_text()  # until the client goes
        except WebSocketDisconnect:
            return

    @talk_web.get("/stream")
    async def stream(self) -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            yield b"first\n"
            await asyncio.sleep(0.2)
            raise ValueError("as asked")

        return StreamingResponse(parts())


talk = Talk.bind()
