"""The load of the truth tests: a steady mix and requests that are held, with the client's own count of everything."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from socket import SHUT_RDWR

import aiohttp
import httpx

from tests.live.truth_names import SESSION_S

PER_SECOND = 10
STEADY_S = 290
# Rate windows are a minute long, Ray's figures reach Prometheus half a minute late, and recorded ones later still.
SETTLED_AFTER_S = 110
HOLD_AT_S = 100  # Prometheus must have scraped for a minute, so that events count
HOLD_S = 65
HOLD_CALLERS = 2
HOLD_QUEUE = 3

# A hundred requests, ten seconds: path, how long the client waits for the answer, and how often. Latencies lie in the
# middle of Ray's wider buckets (500..1000, 2000..5000, 5000..10000 ms), and the shares put each quantile inside one.
MIX = (
    ("/truth/work?ms=650", 30.0, 54),
    ("/truth/work?ms=800", 30.0, 24),
    ("/truth/work?ms=3000", 30.0, 5),
    ("/truth/work?ms=7000", 30.0, 3),
    ("/truth/work?ms=10000", 1.5, 2),  # the client goes away, long after the worker has begun: 499
    ("/truth/status/418", 30.0, 3),
    ("/truth/status/429", 30.0, 2),
    ("/truth/status/503", 30.0, 4),
    ("/truth/work?ms=-1", 30.0, 3),  # fails: 500
)
GONE = 499

# WebSocket sessions, one begun every two seconds: the close code that its path asks of the service, 0 where the client
# ends the session, and the code with which it does, 0 where it breaks the connection.
SESSION_EVERY_S = 2
SESSIONS = ((1000, 0), (1000, 0), (1011, 0), (1000, 0), (0, 1000), (1000, 0), (0, 1001), (1000, 0), (0, 0), (4001, 0))
SESSIONS_BEGUN = STEADY_S // SESSION_EVERY_S - SESSION_S
STREAM = "/sessions/stream"  # breaks after its first byte, once in each round of sessions


@dataclass(frozen=True)
class Answer:
    """One request as the client saw it: when it ended (unix seconds), its path, status and latency."""

    at: float
    path: str
    status: int
    ms: float


@dataclass
class Counted:
    """What the client counted, and when (unix seconds): the steady answers, those of the hold, sessions and streams."""

    steady: list[Answer] = field(default_factory=list)
    held: list[Answer] = field(default_factory=list)
    sessions: list[Answer] = field(default_factory=list)  # the close code as status, GONE for a broken connection
    broken_streams: list[Answer] = field(default_factory=list)
    started: float = 0.0
    hold_started: float = 0.0
    hold_ended: float = 0.0


class TruthLoad:
    """The load in a process of its own, so that nothing but Serve makes its client wait."""

    def __init__(self, url: str) -> None:
        self._results, sender = Pipe(duplex=False)
        self._process = get_context("spawn").Process(target=_run, args=(url, sender), daemon=True)
        self._process.start()
        sender.close()
        self._counted: Counted | None = None

    def finished(self) -> bool:
        """Whether all is done.

        Raises:
            EOFError: the process has ended without a result; the error is in its output.
        """
        if self._counted is None and self._results.poll():
            self._counted = self._results.recv()
        return self._counted is not None

    @property
    def counted(self) -> Counted:
        """What the client counted, once the load has finished."""
        assert self._counted is not None
        return self._counted

    def stop(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.join(10)


def _run(url: str, results: Connection) -> None:
    client = _Client(url)
    asyncio.run(client.load())
    results.send(client.counted)


class _Client:
    def __init__(self, url: str, seed: int = 7) -> None:
        self.counted = Counted()
        self._url = url
        self._hundred = [(path, patience) for path, patience, times in MIX for _ in range(times)]
        # The same order in every ten seconds: the rate of each kind is as steady as the whole.
        random.Random(seed).shuffle(self._hundred)

    async def load(self) -> None:
        limits = httpx.Limits(max_connections=256)
        async with httpx.AsyncClient(base_url=self._url, limits=limits, trust_env=False) as http:
            self.counted.started = time.time()
            holding = asyncio.create_task(self._hold(http))
            talking = asyncio.create_task(self._talk(http))
            begun = time.monotonic()
            under_way = set()
            for number in range(STEADY_S * PER_SECOND):
                await asyncio.sleep(max(0.0, begun + number / PER_SECOND - time.monotonic()))
                path, patience = self._hundred[number % 100]
                task = asyncio.create_task(self._ask(http, path, patience, self.counted.steady))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
            await asyncio.gather(*under_way)
            await asyncio.gather(holding, talking)

    async def _talk(self, http: httpx.AsyncClient) -> None:
        begun = time.monotonic()
        async with aiohttp.ClientSession(trust_env=False) as sockets:
            under_way = []
            for number in range(SESSIONS_BEGUN):
                await asyncio.sleep(max(0.0, begun + SESSION_EVERY_S * number - time.monotonic()))
                asked, own = SESSIONS[number % len(SESSIONS)]
                under_way.append(asyncio.create_task(self._session(sockets, asked, own)))
                if number % len(SESSIONS) == 0:
                    under_way.append(asyncio.create_task(self._stream(http)))
            await asyncio.gather(*under_way)

    async def _session(self, sockets: aiohttp.ClientSession, asked: int, own: int) -> None:
        begun, path = time.monotonic(), f"/sessions/session/{asked}"
        socket = await sockets.ws_connect(f"{self._url}{path}")
        if asked:
            await socket.receive(timeout=30)
            code = socket.close_code or 0
        else:
            await asyncio.sleep(SESSION_S)
            code = own or GONE
            if own:
                await socket.close(code=own)
            else:
                socket.get_extra_info("socket").shutdown(SHUT_RDWR)
        self.counted.sessions.append(Answer(time.time(), path, code, 1000 * (time.monotonic() - begun)))

    async def _stream(self, http: httpx.AsyncClient) -> None:
        begun, status, got = time.monotonic(), 0, b""
        try:
            async with http.stream("GET", STREAM) as response:
                status = response.status_code
                async for part in response.aiter_bytes():
                    got += part
        except httpx.RemoteProtocolError:
            if got:
                answer = Answer(time.time(), STREAM, status, 1000 * (time.monotonic() - begun))
                self.counted.broken_streams.append(answer)

    async def _hold(self, http: httpx.AsyncClient) -> None:
        await asyncio.sleep(HOLD_AT_S)
        self.counted.hold_started = time.time()
        first = asyncio.create_task(self._ask(http, "/held/hold?seconds=60", HOLD_S, self.counted.held))
        growing = [
            asyncio.create_task(self._ask(http, "/held/grow?seconds=60", HOLD_S, self.counted.held)) for _ in range(3)
        ]
        dying = asyncio.create_task(self._ask(http, "/held/die", HOLD_S, self.counted.held))
        await asyncio.sleep(2)  # the first one is at work when the others come
        others = [
            asyncio.create_task(self._ask(http, "/held/hold?seconds=60", HOLD_S - 2, self.counted.held))
            for _ in range(30)
        ]
        await asyncio.gather(first, *growing, dying, *others)
        self.counted.hold_ended = time.time()

    async def _ask(self, http: httpx.AsyncClient, path: str, patience: float, answers: list[Answer]) -> None:
        begun = time.monotonic()
        try:
            status = (await http.get(path, timeout=httpx.Timeout(30, read=patience))).status_code
        except httpx.ReadTimeout:
            status = GONE
        answers.append(Answer(time.time(), path, status, 1000 * (time.monotonic() - begun)))
