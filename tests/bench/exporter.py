"""What 1,000 deployments with 10,000 replicas cost the exporter, and what a scrape notices of it.

    python -m tests.bench.exporter

A server in a process of its own answers as Ray's dashboard would. Scrapes come one after the other, packed as
Prometheus asks for them, and each is put down as one during a poll or one between polls. A promise that does not hold
is named, and the exit status is not 0.
"""

from __future__ import annotations

import http.client
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from pathlib import Path

import psutil

from demo.stack.ports import LOOPBACK
from tests.bench import sections
from tests.support.ray_rest_api import generated, nodes, rest_server
from tests.support.servers import free_port

DEPLOYMENTS, REPLICAS, NODES = 1000, 10_000, 1000
POLLS = 20
INTERVAL_S = 2
BETWEEN_SCRAPES_S = 0.02
GIVE_UP_AFTER_S = 180
MOST_POLL_S, MOST_SCRAPE_S, MOST_MEMORY = 2, 0.05, 200 << 20
PROMISE = (
    f"a poll (fetch, parse, render) below {MOST_POLL_S} s, a scrape below {1000 * MOST_SCRAPE_S:.0f} ms, "
    f"less than {MOST_MEMORY >> 20} MiB"
)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Times in seconds; `asked` and the scrapes' starts are on the machine's monotonic clock."""

    polls: list[float]
    asked: list[float]
    scrapes: list[tuple[float, float]]  # start, duration
    peak_bytes: int
    series: int
    plain_bytes: int
    packed_bytes: int

    def scraped(self, *, during_poll: bool) -> list[float]:
        """How long the scrapes took that touched a poll, or those that did not."""
        polls = [(begin, begin + took) for begin, took in zip(self.asked, self.polls, strict=True)]
        return [
            took
            for start, took in self.scrapes
            if any(start < end and begin < start + took for begin, end in polls) is during_poll
        ]


def _serve(body: bytes, to_parent: Connection) -> None:
    """The process of the test server; tells its address, and at the end when it was asked."""
    with rest_server(body) as (url, answer):
        answer.nodes = json.dumps(nodes({f"{number:056x}": "spot" for number in range(NODES)}))
        to_parent.send(url)
        to_parent.recv()
    to_parent.send(answer.asked_at)


@contextmanager
def _exporter(url: str, port: int, *options: str) -> Iterator[psutil.Process]:
    command = [sys.executable, "-m", "servescope", "exporter", "-a", url, "--port", str(port)]
    running = subprocess.Popen([*command, "--interval", str(INTERVAL_S), *options])
    try:
        yield psutil.Process(running.pid)
    finally:
        running.terminate()
        running.wait(10)


class _Scraper:
    """One connection for each scrape would measure the connection; Prometheus keeps its own, and so does this."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection(LOOPBACK, port, timeout=30)

    def get(self, packed: bool) -> bytes:
        encoding = "gzip" if packed else "identity"
        self._connection.request("GET", "/metrics", headers={"Accept-Encoding": encoding})
        return self._connection.getresponse().read()

    def figure(self, name: str) -> float:
        """One of the exporter's own figures; NaN before there is one."""
        found = re.search(rf"^servescope_exporter_{name} (\S+)$", self.get(packed=False).decode(), re.MULTILINE)
        return float(found.group(1)) if found else float("nan")


def _await(scraper: _Scraper, fetches: int) -> None:
    deadline = time.monotonic() + GIVE_UP_AFTER_S
    while True:
        try:
            if scraper.figure("fetches_total") >= fetches and scraper.figure("up") == 1:
                return
        except OSError:
            scraper._connection.close()
        if time.monotonic() > deadline:
            raise SystemExit(f"the exporter has not fetched {fetches} times in {GIVE_UP_AFTER_S} s")
        time.sleep(0.05)


def measure(body: bytes, *options: str) -> Measured:
    """Let the exporter poll a server that gives this body, and scrape it all the while."""
    ours, theirs = Pipe()
    server = get_context("spawn").Process(target=_serve, args=(body, theirs), daemon=True)
    server.start()
    port = free_port()
    with _exporter(ours.recv(), port, *options) as process:
        scraper = _Scraper(port)
        _await(scraper, 1)
        polls = [scraper.figure("fetch_duration_seconds")]
        scrapes: list[tuple[float, float]] = []
        seen = 1
        while seen < POLLS:
            start = time.monotonic()
            scraper.get(packed=True)
            scrapes.append((start, time.monotonic() - start))
            time.sleep(BETWEEN_SCRAPES_S)
            if len(scrapes) % 10 == 0 and (now := int(scraper.figure("fetches_total"))) > seen:
                assert now == seen + 1, "a poll was missed"
                seen = now
                polls.append(scraper.figure("fetch_duration_seconds"))
        family = [process, *process.children(recursive=True)]
        peak = sum(_peak_bytes(member) for member in family)
        plain = scraper.get(packed=False)
        packed = len(scraper.get(packed=True))
    ours.send("enough")
    asked = ours.recv()
    server.join(10)
    series = sum(not line.startswith(b"#") for line in plain.splitlines())
    return Measured(
        polls=polls,
        asked=asked[: len(polls)],
        scrapes=scrapes,
        peak_bytes=peak,
        series=series,
        plain_bytes=len(plain),
        packed_bytes=packed,
    )


def _peak_bytes(process: psutil.Process) -> int:
    """The most memory that a process has ever held (Linux)."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    return int(found.group(1)) * 1024


def broken(name: str, run: Measured) -> list[str]:
    """The targets that a run misses, a line for each."""
    longest_scrape = max(took for _, took in run.scrapes)
    held = (
        (max(run.polls) < MOST_POLL_S, f"a poll took {max(run.polls):.2f} s, the target is {MOST_POLL_S} s"),
        (
            longest_scrape < MOST_SCRAPE_S,
            f"a scrape took {1000 * longest_scrape:.1f} ms, the target is {1000 * MOST_SCRAPE_S:.0f} ms",
        ),
        (
            run.peak_bytes < MOST_MEMORY,
            f"it held {run.peak_bytes / 2**20:.0f} MiB, the target is {MOST_MEMORY >> 20} MiB",
        ),
    )
    return [f"{name}: {line}" for kept, line in held if not kept]


def _times(seconds: list[float]) -> list[str]:
    cuts = statistics.quantiles(seconds, n=100)
    return [str(len(seconds)), *(f"{1000 * value:.1f}" for value in (cuts[49], cuts[98], max(seconds)))]


def main() -> None:
    """Measure with and without a series for each replica, and write the section."""
    body = json.dumps(generated(DEPLOYMENTS, REPLICAS)).encode()
    about = sections.machine(("servescope", "prometheus-client", "httpx"))
    runs = {"default": measure(body), "`--each-replica`": measure(body, "--each-replica")}
    sizes = sections.table(
        ("", "series", "bytes per scrape", "compressed", "poll, median (s)", "poll, max (s)", "peak memory (MiB)"),
        [
            (
                name,
                f"{run.series:,}",
                f"{run.plain_bytes:,}",
                f"{run.packed_bytes:,}",
                f"{statistics.median(run.polls):.2f}",
                f"{max(run.polls):.2f}",
                f"{run.peak_bytes / 2**20:.0f}",
            )
            for name, run in runs.items()
        ],
    )
    scrapes = sections.table(
        ("scrapes", "number", "median (ms)", "p99 (ms)", "max (ms)"),
        [
            [f"{name}, {when}", *_times(run.scraped(during_poll=during))]
            for name, run in runs.items()
            for when, during in (("while a poll runs", True), ("between polls", False))
        ],
    )
    sections.write(
        "exporter",
        f"""## State exporter

{DEPLOYMENTS:,} deployments with {REPLICAS:,} replicas, a response of {len(body) / 1e6:.1f} MB, and the labels
of {NODES:,} nodes, from a server in a separate process. Targets: {PROMISE}, and no
per-replica series by default.

{about}

{sizes}

Peak memory is the sum of the peaks of the exporter and its worker process.

{scrapes}
""",
    )
    print(sizes, scrapes, sep="\n\n")
    if lines := [line for name, run in runs.items() for line in broken(name, run)]:
        raise SystemExit("\n".join(("the exporter misses a target:", *lines)))


if __name__ == "__main__":
    main()
