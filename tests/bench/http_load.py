"""A load client in a process of its own: the same for everything that is compared."""

from __future__ import annotations

import http.client
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from types import TracebackType

from demo.stack.ports import LOOPBACK

TIMEOUT_S = 10


@dataclass(frozen=True)
class Load:
    """What some seconds of load saw: every answer was a 200."""

    took_s: float
    latencies_s: list[float]

    @property
    def per_second(self) -> float:
        """Requests per second."""
        return len(self.latencies_s) / self.took_s

    def quantile_ms(self, percent: int) -> float:
        """A quantile of the latency."""
        return 1000 * statistics.quantiles(self.latencies_s, n=100, method="inclusive")[percent - 1]


class LoadClient:
    """Use it as a context manager."""

    def __init__(self) -> None:
        self._pipe, theirs = Pipe()
        # Not forked: a client that carries the parent's memory along is another one each time.
        self._process = get_context("spawn").Process(target=_answer, args=(theirs,), daemon=True)

    def __enter__(self) -> LoadClient:
        self._process.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.join(10)

    def run(self, port: int, at_once: int, seconds: float) -> Load:
        """Send requests to `/` for some seconds, so many at once, the next as soon as one is answered.

        Raises:
            RuntimeError: one was not answered by a 200 within 10 s.
        """
        self._pipe.send((port, at_once, seconds))
        reported = self._pipe.recv()
        if isinstance(reported, str):
            raise RuntimeError(reported)
        load: Load = reported
        return load


def _answer(pipe: Connection) -> None:
    while True:
        port, at_once, seconds = pipe.recv()
        begin = time.monotonic()
        try:
            with ThreadPoolExecutor(at_once) as pool:
                each = list(pool.map(_one_after_another, [port] * at_once, [begin + seconds] * at_once))
        except Exception as error:  # the parent reports any error
            pipe.send(f"a request failed: {type(error).__name__}: {error}")
        else:
            pipe.send(Load(time.monotonic() - begin, [latency for latencies in each for latency in latencies]))


def _one_after_another(port: int, until: float) -> list[float]:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=TIMEOUT_S)
    latencies = []
    try:
        while (start := time.monotonic()) < until:
            connection.request("GET", "/")
            response = connection.getresponse()
            response.read()
            if response.status != 200:
                raise RuntimeError(f"status {response.status}")
            latencies.append(time.monotonic() - start)
    finally:
        connection.close()
    return latencies
