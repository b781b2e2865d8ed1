"""The load of the truth tests: a steady mix and requests that are held, with the client's own count of everything."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from dataclasses import dataclass

import httpx

PER_SECOND = 10
STEADY_S = 270
# Rate windows are a minute long and Ray's figures reach Prometheus half a minute late.
SETTLED_AFTER_S = 90
HOLD_AT_S = 100  # Prometheus must have been there for a minute, so that events are news to it
HOLD_S = 65
HOLD_CALLERS = 2
HOLD_QUEUE = 3

# A hundred requests, ten seconds: path, how long the client waits for the answer, and how often. Latencies lie in the
# middle of Ray's buckets (50..100, 300..400, 500..1000, 2000..5000 ms), and the shares put each quantile inside one.
MIX = (
    ("/truth/work?ms=70", 30.0, 54),
    ("/truth/work?ms=350", 30.0, 24),
    ("/truth/work?ms=750", 30.0, 5),
    ("/truth/work?ms=3000", 30.0, 3),
    ("/truth/work?ms=1500", 0.45, 2),  # the client goes away: 499
    ("/truth/status/418", 30.0, 3),
    ("/truth/status/429", 30.0, 2),
    ("/truth/status/503", 30.0, 4),
    ("/truth/work?ms=-1", 30.0, 3),  # fails: 500
)
GONE = 499


@dataclass(frozen=True)
class Answer:
    """One request as the client saw it: when it ended (unix seconds), its path, status and latency."""

    at: float
    path: str
    status: int
    ms: float


class TruthLoad:
    """The load in a thread of its own; `steady` and `held` hold the answers, complete once `done` is set."""

    def __init__(self, url: str, seed: int = 7) -> None:
        self.steady: list[Answer] = []
        self.held: list[Answer] = []
        self.started = 0.0
        self.hold_started = 0.0
        self.hold_ended = 0.0
        self.error: BaseException | None = None
        self.done = threading.Event()
        self._url = url
        self._stop = threading.Event()
        self._hundred = [(path, patience) for path, patience, times in MIX for _ in range(times)]
        # The same order in every ten seconds: the rate of each kind is as steady as the whole.
        random.Random(seed).shuffle(self._hundred)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> TruthLoad:
        """Start."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """End early if it is not done, and wait for the thread."""
        self._stop.set()
        self._thread.join(60)

    def finished(self) -> bool:
        """Whether all is done; raises what went wrong in the thread."""
        if self.error:
            raise self.error
        return self.done.is_set()

    def _run(self) -> None:
        try:
            asyncio.run(self._load())
        except BaseException as error:
            self.error = error

    async def _load(self) -> None:
        limits = httpx.Limits(max_connections=256)
        async with httpx.AsyncClient(base_url=self._url, limits=limits, trust_env=False) as http:
            self.started = time.time()
            holding = asyncio.create_task(self._hold(http))
            begun = time.monotonic()
            under_way = set()
            for number in range(STEADY_S * PER_SECOND):
                if self._stop.is_set():
                    break
                await asyncio.sleep(max(0.0, begun + number / PER_SECOND - time.monotonic()))
                path, patience = self._hundred[number % 100]
                task = asyncio.create_task(self._ask(http, path, patience, self.steady))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
            await asyncio.gather(*under_way)
            if self._stop.is_set():
                holding.cancel()
                return
            await holding
        self.done.set()

    async def _hold(self, http: httpx.AsyncClient) -> None:
        await asyncio.sleep(HOLD_AT_S)
        self.hold_started = time.time()
        first = asyncio.create_task(self._ask(http, "/held/hold?seconds=60", HOLD_S, self.held))
        growing = [asyncio.create_task(self._ask(http, "/held/grow?seconds=60", HOLD_S, self.held)) for _ in range(3)]
        dying = asyncio.create_task(self._ask(http, "/held/die", HOLD_S, self.held))
        await asyncio.sleep(2)  # the first one is at work when the others come
        others = [
            asyncio.create_task(self._ask(http, "/held/hold?seconds=60", HOLD_S - 2, self.held)) for _ in range(30)
        ]
        await asyncio.gather(first, *growing, dying, *others)
        self.hold_ended = time.time()

    async def _ask(self, http: httpx.AsyncClient, path: str, patience: float, answers: list[Answer]) -> None:
        begun = time.monotonic()
        try:
            status = (await http.get(path, timeout=httpx.Timeout(30, read=patience))).status_code
        except httpx.ReadTimeout:
            status = GONE
        answers.append(Answer(time.time(), path, status, 1000 * (time.monotonic() - begun)))
