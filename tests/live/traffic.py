"""Traffic on the test application that keeps its own count, to compare Prometheus with it."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Awaitable, Callable

import httpx

# Route template and status code, as Serve labels them.
Count = Counter[tuple[str, int]]


class Client:
    """An asynchronous client that counts every answer by route template and status."""

    def __init__(self, url: str) -> None:
        self.counts: Count = Counter()
        self._http = httpx.AsyncClient(
            base_url=url, timeout=30, limits=httpx.Limits(max_connections=64), trust_env=False
        )

    async def get(self, path: str, template: str = "") -> int:
        """Ask and count; the template is the path where nothing else is said."""
        response = await self._http.get(path)
        self.counts[template or path.partition("?")[0], response.status_code] += 1
        return response.status_code

    async def abandon(self, path: str, template: str, after_s: float) -> None:
        """Go away before the answer; Serve counts a 499."""
        try:
            await self._http.get(path, timeout=after_s)
        except httpx.TimeoutException:
            self.counts[template, 499] += 1

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()


async def one_round(client: Client, number: int, chance: random.Random) -> None:
    """A little of everything: about thirty requests."""
    asks: list[Awaitable[object]] = [
        *(client.get("/ok") for _ in range(4)),
        *(client.get(f"/embed/{'x' * chance.randint(1, 9)}", "/embed/{text}") for _ in range(6)),
        *(client.get("/scale?ms=400") for _ in range(9 if number % 3 == 0 else 2)),
        *(client.get(f"/models/m{(2 * number + i) % 8}", "/models/{model}") for i in range(2)),
        client.get("/argument"),
        client.get("/stream"),
        client.get("/sleep?ms=250"),
        client.get("/status/418", "/status/{code}"),
        client.get("/status/429", "/status/{code}"),
        client.get("/boom"),
        client.get("/other"),
        client.get("/-/healthz"),
        client.get("/nowhere", "/"),
    ]
    if number % 4 == 0:
        asks.append(client.abandon("/sleep?ms=900", "/sleep", 0.3))
    await asyncio.gather(*asks)


class Background:
    """Rounds of traffic in a thread of its own until it is stopped, one and a half a second at most."""

    def __init__(
        self, url: str, seed: int = 1, each: Callable[[Client, int, random.Random], Awaitable[None]] = one_round
    ):
        self.rounds = 0
        self.error: BaseException | None = None
        self._url = url
        self._seed = seed
        self._each = each
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> Background:
        """Start."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop after the round that is under way; raise what went wrong in the thread."""
        self._stop.set()
        self._thread.join(60)
        if self.error:
            raise self.error

    def _run(self) -> None:
        try:
            asyncio.run(self._loop())
        except BaseException as error:
            self.error = error

    async def _loop(self) -> None:
        client = Client(self._url)
        chance = random.Random(self._seed)
        while not self._stop.is_set():
            await asyncio.gather(self._each(client, self.rounds, chance), asyncio.sleep(0.7))
            self.rounds += 1
        await client.close()
