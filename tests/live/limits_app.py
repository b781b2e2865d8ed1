"""What the exporter's tests deploy: a deployment that soon reaches its ceiling, and replicas that do not come up."""

from __future__ import annotations

import asyncio
import time

from ray import serve
from ray.serve.handle import DeploymentHandle
from starlette.requests import Request


@serve.deployment
class Narrow:
    """Holds each request for the requested time."""

    async def __call__(self, request: Request) -> str:
        await asyncio.sleep(min(float(request.query_params.get("seconds", 0)), 120))
        return "let go"


narrow = Narrow.bind()


@serve.deployment
class Nowhere:
    """Deployed with more CPUs than any node has."""

    async def __call__(self, request: Request) -> str:
        return "somewhere"


@serve.deployment
class Slow:
    """Has a node at once, and a constructor that nobody waits for."""

    def __init__(self, other: DeploymentHandle) -> None:
        self._other = other
        time.sleep(300)

    async def __call__(self, request: Request) -> str:
        return "at last"


waiting = Slow.bind(Nowhere.bind())
