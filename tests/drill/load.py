"""Steady traffic on every application, at a rate that a fault may change."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable

import aiohttp

Rate = float | Callable[[float], float]  # requests per second, constant or by the seconds since the load began


class Load:
    """Sends GETs in a thread of its own, as fast as `rates` says, whether or not earlier ones were answered."""

    def __init__(self) -> None:
        self.rates: dict[str, Rate] = {}
        self.counts: Counter[tuple[str, int]] = Counter()
        self.in_flight: Counter[str] = Counter()
        self._urls: dict[str, str] = {}
        self._loop = asyncio.new_event_loop()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        self._began = time.monotonic()

    def start(self, urls: dict[str, str], rates: dict[str, Rate]) -> None:
        """Begin: one address and one rate for each name."""
        self._urls, self.rates = urls, dict(rates)
        self._thread.start()

    def stop(self) -> None:
        """End; what is under way is dropped."""
        self._stopping = True
        if self._thread.is_alive():
            self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._all())
        self._loop.close()

    async def _all(self) -> None:
        # A request that hangs must stay in flight, so there is no timeout.
        timeout, connector = aiohttp.ClientTimeout(total=None, connect=5), aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            senders = [asyncio.create_task(self._send(session, name, url)) for name, url in self._urls.items()]
            await asyncio.gather(*senders)
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()

    async def _send(self, session: aiohttp.ClientSession, name: str, url: str) -> None:
        under_way: set[asyncio.Task[None]] = set()
        while not self._stopping:
            rate = self.rates[name]
            rate = rate(time.monotonic() - self._began) if callable(rate) else rate
            if rate <= 0:
                await asyncio.sleep(0.2)
                continue
            task = asyncio.create_task(self._get(session, name, url))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            await asyncio.sleep(1 / rate)

    async def _get(self, session: aiohttp.ClientSession, name: str, url: str) -> None:
        self.in_flight[name] += 1
        try:
            async with session.get(url) as response:
                await response.read()
                self.counts[name, response.status] += 1
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError):
            self.counts[name, 0] += 1  # nobody there
        finally:
            self.in_flight[name] -= 1
