"""An application of one deployment that soon reaches its ceiling: what the exporter's tests deploy and deploy again."""

from __future__ import annotations

import asyncio

from ray import serve
from starlette.requests import Request


@serve.deployment
class Narrow:
    """Holds each request for as long as it is told."""

    async def __call__(self, request: Request) -> str:
        await asyncio.sleep(min(float(request.query_params.get("seconds", 0)), 120))
        return "let go"


narrow = Narrow.bind()
