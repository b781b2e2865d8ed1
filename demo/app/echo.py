"""A second application beside the first: plain Serve without FastAPI, streaming, and models shared by replicas.

Each voice stands for a small model: the request names it in the header `serve_multiplexed_model_id`, and a replica
keeps two of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from ray import serve
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from demo.app.voices import VOICES

MAX_CHARACTERS = 1000


@serve.deployment
class Echo:
    """Returns its input in a voice; `/echo/stream` does so word by word."""

    @serve.multiplexed(max_num_models_per_replica=2)  # type: ignore[untyped-decorator]
    async def voice(self, name: str) -> Callable[[str], str]:
        """Load a voice; a real model would take longer."""
        await asyncio.sleep(0.05)
        return VOICES.get(name, str)

    async def __call__(self, request: Request) -> Response:
        """Answer."""
        name = serve.get_multiplexed_model_id()
        voice = await self.voice(name) if name else str
        text = voice((await request.body()).decode(errors="replace")[:MAX_CHARACTERS])
        if request.url.path.endswith("/stream"):
            return StreamingResponse(self._words(text), media_type="text/plain")
        return PlainTextResponse(text)

    async def _words(self, text: str) -> AsyncIterator[str]:
        for word in text.split():
            yield f"{word}\n"
            await asyncio.sleep(0.02)

    def check_health(self) -> None:
        """Always healthy: it has no state that could fail."""


# mypy ignores what a decorator makes of a class.
app = Echo.bind()  # type: ignore[attr-defined]
