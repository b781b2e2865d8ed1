"""A deployment that does nothing: what a request costs here is Serve's, and what is added is the tracing's."""

from __future__ import annotations

from ray import serve
from starlette.requests import Request


@serve.deployment(max_ongoing_requests=100)
class Noop:
    """Answers."""

    async def __call__(self, request: Request) -> str:
        """Answer."""
        return "ok"


app = Noop.bind()
