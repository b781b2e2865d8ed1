"""The Serve state exporter: polls Ray's REST API and serves the last result to Prometheus.

A scrape waits neither for Ray nor for the parsing of a large response, which another process does (`worker`). Each
response is rendered once; a scrape sends those bytes and adds their age. While Ray is unreachable, the last good data
stay, their age grows, and `servescope_exporter_up` is 0.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from servescope import __version__
from servescope.clients.ray import Fetcher, FetchError, RayApi
from servescope.errors import ServescopeError
from servescope.exporter.state import Detail, text_format
from servescope.exporter.worker import Worker, WorkerDiedError

# Why a fetch failed, as a label value; the log line says more. These are the reasons beyond the client's own.
REASONS = (
    "unreachable",
    "timeout",
    "unauthorized",
    "http_status",
    "malformed",
    "too_large",
    "configuration",
    "worker_died",
)


class _Rendered:
    """The metrics of one response, plain and compressed, to which each scrape adds a few lines."""

    def __init__(self, plain: bytes) -> None:
        self._plain = plain
        # 31: a gzip stream. It is left open, so that a copy can be appended to: clients read one stream only.
        self._open = zlib.compressobj(1, zlib.DEFLATED, 31)
        self._packed = self._open.compress(plain) + self._open.flush(zlib.Z_SYNC_FLUSH)

    def plus(self, more: bytes, *, packed: bool) -> bytes:
        """The metrics with more lines appended."""
        if not packed:
            return self._plain + more
        stream = self._open.copy()
        return self._packed + stream.compress(more) + stream.flush()


@dataclass(kw_only=True)
class _Known:
    """The poller's state, read and changed under the exporter's lock."""

    rendered: _Rendered
    fetched_at: float | None = None  # monotonic
    up: bool = False
    duration_s: float | None = None
    fetches: int = 0
    failures: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))


class Exporter:
    """Polls in its own thread and answers scrapes; `say` logs every failure and recovery."""

    def __init__(
        self, source: RayApi, *, say: Callable[[str], None], interval_s: float = 10, detail: Detail | None = None
    ) -> None:
        self._fetcher = Fetcher(source)
        self._interval_s = interval_s
        self._worker = Worker(detail or Detail())
        self._say = say
        self._known = _Known(rendered=_Rendered(b""))
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._complaint = ""
        self._thread = threading.Thread(target=self._run, name="poller", daemon=True)

    def start(self) -> Exporter:
        """Start polling; the first fetch begins immediately."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop polling after the fetch in progress, without waiting for it."""
        self._stop.set()

    def poll(self) -> bool:
        """Fetch and render once. Returns whether that worked; on failure the previous data stay."""
        started = time.monotonic()
        reason = line = ""
        try:
            rendered = _Rendered(self._worker.metrics(self._fetcher.fetch(), self._fetcher.nodes()))
        except FetchError as error:
            reason, line = error.reason, str(error)
        except ServescopeError as error:
            reason, line = "malformed", str(error)
        except WorkerDiedError:
            reason, line = "worker_died", "the process that parses responses has exited; was it out of memory?"
        except Exception as error:  # no error may stop the polling
            reason, line = "malformed", f"invalid response ({type(error).__name__})"
        with self._lock:
            known = self._known
            known.up, known.duration_s = not reason, time.monotonic() - started
            known.fetches += 1
            if reason:
                known.failures[reason] += 1
            else:
                known.rendered, known.fetched_at = rendered, started
        if line != self._complaint and not self._stop.is_set():
            self._say(line or "Serve's REST API responds again")
            self._complaint = line
        return not reason

    def metrics(self, *, packed: bool = False) -> bytes:
        """The body of a scrape: the metrics of the last good response, and the exporter's own."""
        with self._lock:
            own, rendered = list(_own_families(self._known)), self._known.rendered
        return rendered.plus(text_format(own), packed=packed)

    def _run(self) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            self.poll()
            self._stop.wait(max(0, self._interval_s - (time.monotonic() - began)))
        self._fetcher.close()
        self._worker.close()


def _own_families(known: _Known) -> Iterable[Any]:
    def gauge(name: str, help: str, value: float) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"servescope_exporter_{name}", help, value=value)

    build = GaugeMetricFamily(
        "servescope_exporter_build_info", "Always 1; the version of the exporter.", labels=("version",)
    )
    build.add_metric((__version__,), 1)
    yield build
    yield gauge("up", "1 if the last fetch of Serve's REST API succeeded, else 0.", float(known.up))
    if known.fetched_at is not None:
        age = time.monotonic() - known.fetched_at
        yield gauge(
            "data_age_seconds", "Age of the data from Serve's REST API; it grows while Ray is unreachable.", age
        )
    if known.duration_s is not None:
        yield gauge(
            "fetch_duration_seconds",
            "Duration of the last fetch of Serve's REST API, including rendering.",
            known.duration_s,
        )
    yield CounterMetricFamily(
        "servescope_exporter_fetches", "Fetches of Serve's REST API, including failed ones.", value=known.fetches
    )
    failures = CounterMetricFamily(
        "servescope_exporter_fetch_failures",
        "Failed fetches of Serve's REST API, by reason.",
        labels=("reason",),
    )
    for reason, count in known.failures.items():
        failures.add_metric((reason,), count)
    yield failures
