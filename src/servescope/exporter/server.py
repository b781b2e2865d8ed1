"""The Serve state exporter: asks Ray's REST API now and then, and hands Prometheus what it last heard.

A scrape waits neither for Ray nor while a long answer is read: that is another process's work (`rendering`). Each
answer is rendered once; a scrape sends those bytes, and adds how old they are. When Ray does not answer, the last good
data stay, their age grows, and `servescope_exporter_up` is 0.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
from prometheus_client import CONTENT_TYPE_LATEST
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from servescope.errors import ServescopeError
from servescope.exporter.state import Detail, render
from servescope.exporter.worker import Worker, WorkerDiedError

# About ten times the answer of 1,000 deployments with 10,000 replicas; whatever is larger is no Serve.
MOST_BYTES = 64 << 20
# Why a fetch failed, as a label; the line in the log says more.
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


@dataclass(frozen=True, kw_only=True)
class RayApi:
    """Where Serve's REST API is and how to ask it.

    `url` is the address of Ray's dashboard. The token is read anew for each fetch, so that it can be replaced: from
    `token_file`, or else from RAY_AUTH_TOKEN. `verify` is False only where somebody chose not to check certificates.
    """

    url: str
    token_file: Path | None = None
    ca_file: Path | None = None
    verify: bool = True
    timeout_s: float = 10

    def __post_init__(self) -> None:
        try:
            parts = httpx.URL(self.url)
        except httpx.InvalidURL:
            raise ServescopeError("address: not a URL") from None
        if parts.scheme not in ("http", "https") or not parts.host:
            raise ServescopeError("address: not of the form http://host:8265")
        if parts.userinfo:
            raise ServescopeError("address: must not hold a user or password; put Ray's token into a file")

    def token(self) -> str | None:
        """The bearer token, or None where none is set.

        Raises:
            ServescopeError: the file cannot be read, or what it holds cannot be sent; never says what it holds.
        """
        text = os.environ.get("RAY_AUTH_TOKEN", "")
        if self.token_file is not None:
            try:
                text = self.token_file.read_text(encoding="ascii")
            except (OSError, UnicodeDecodeError) as error:
                raise ServescopeError(
                    f"{self.token_file}: cannot read the token ({getattr(error, 'strerror', None) or 'not plain text'})"
                ) from None
        text = text.strip()
        if not text.isascii() or not text.isprintable() or " " in text:
            raise ServescopeError("the token holds characters that no token has")
        return text or None


class FetchError(Exception):
    """A fetch that gave nothing: the reason as a label, and a line for the log."""

    def __init__(self, reason: str, line: str) -> None:
        super().__init__(line)
        self.reason = reason


# Serve's own answer, and the nodes with their labels: the most that Ray lists at once.
APPLICATIONS, NODES = "/api/serve/applications/", "/api/v0/nodes?limit=10000"


class Fetcher:
    """Asks for documents. It keeps the connection, so that a fetch costs Ray as little as can be."""

    def __init__(self, source: RayApi) -> None:
        self._source = source
        self._url = source.url.rstrip("/")
        verify: Any = source.verify
        if source.verify:
            import ssl

            try:
                if source.ca_file is not None:
                    verify = ssl.create_default_context(cafile=str(source.ca_file))
                else:
                    verify = httpx.create_ssl_context()  # heeds SSL_CERT_FILE and SSL_CERT_DIR
            except (OSError, ssl.SSLError) as error:
                named = source.ca_file or "SSL_CERT_FILE or SSL_CERT_DIR"
                raise ServescopeError(f"{named}: cannot read the certificates ({error})") from error
        # A redirect is not followed: it would carry the token to somebody else. Nor is a proxy that the environment
        # names for the machine: over plain HTTP it would read the token.
        self._client = httpx.Client(timeout=source.timeout_s, verify=verify, follow_redirects=False, trust_env=False)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def fetch(self, path: str = APPLICATIONS) -> bytes:
        """A document, as it came.

        Raises:
            FetchError: there is none; its text names the server and what to do.
        """
        try:
            token = self._source.token()
        except ServescopeError as error:
            raise FetchError("configuration", str(error)) from None
        url = self._url + path
        try:
            return self._body(url, {"Authorization": f"Bearer {token}"} if token else {})
        except httpx.TimeoutException:
            raise FetchError("timeout", f"{url}: no answer within {self._source.timeout_s:g} s") from None
        except httpx.HTTPError as error:
            raise FetchError("unreachable", f"{url}: {error or type(error).__name__}") from None

    def nodes(self) -> bytes:
        """The nodes with their labels; nothing where Ray does not tell, since all else can do without them."""
        try:
            return self.fetch(NODES)
        except FetchError:
            return b""

    def _body(self, url: str, headers: dict[str, str]) -> bytes:
        deadline = time.monotonic() + self._source.timeout_s
        with self._client.stream("GET", url, headers=headers) as response:
            if response.status_code in (401, 403):
                raise FetchError(
                    "unauthorized",
                    f"{url}: {response.status_code}: Ray asks for a token, or refuses ours; see --token-file",
                )
            if response.status_code != 200:
                raise FetchError("http_status", f"{url}: answers {response.status_code}")
            body = bytearray()
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > MOST_BYTES:
                    raise FetchError("too_large", f"{url}: more than {MOST_BYTES >> 20} MiB")
                # The client's own timeout holds for each read; an answer that drips would never end.
                if time.monotonic() > deadline:
                    raise httpx.ReadTimeout("slow")
            return bytes(body)


class _Rendered:
    """The metrics of one answer, plain and packed, to which each scrape adds a few lines more."""

    def __init__(self, plain: bytes) -> None:
        self._plain = plain
        # 31: a gzip stream. It is left open, so that a copy can take what is added: clients read one stream only.
        self._open = zlib.compressobj(1, zlib.DEFLATED, 31)
        self._packed = self._open.compress(plain) + self._open.flush(zlib.Z_SYNC_FLUSH)

    def plus(self, more: bytes, *, packed: bool) -> bytes:
        """The metrics with more lines at their end."""
        if not packed:
            return self._plain + more
        stream = self._open.copy()
        return self._packed + stream.compress(more) + stream.flush()


@dataclass(kw_only=True)
class _Known:
    """What the poller knows, read and changed under the exporter's lock."""

    rendered: _Rendered
    fetched_at: float | None = None  # monotonic
    up: bool = False
    duration_s: float | None = None
    fetches: int = 0
    failures: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))


class Exporter:
    """Polls in a thread of its own and answers scrapes; `say` hears of every change for the worse or the better."""

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
        """Start to poll; the first fetch begins at once."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop polling after the fetch that is under way; nobody need wait for it."""
        self._stop.set()

    def poll(self) -> bool:
        """Fetch and render once. Returns whether that worked; what was known before stays if not."""
        started = time.monotonic()
        reason = line = ""
        try:
            rendered = _Rendered(self._worker.metrics(self._fetcher.fetch(), self._fetcher.nodes()))
        except FetchError as error:
            reason, line = error.reason, str(error)
        except ServescopeError as error:
            reason, line = "malformed", str(error)
        except WorkerDiedError:
            reason, line = "worker_died", "the process that reads the answers has ended; was it out of memory?"
        except Exception as error:  # whatever goes wrong this time, Ray must be asked again
            reason, line = "malformed", f"the answer cannot be read ({type(error).__name__})"
        with self._lock:
            known = self._known
            known.up, known.duration_s = not reason, time.monotonic() - started
            known.fetches += 1
            if reason:
                known.failures[reason] += 1
            else:
                known.rendered, known.fetched_at = rendered, started
        if line != self._complaint and not self._stop.is_set():
            self._say(line or "Serve's REST API answers again")
            self._complaint = line
        return not reason

    def metrics(self, *, packed: bool = False) -> bytes:
        """What a scrape gets: the metrics of the last good answer, and how the exporter itself does."""
        with self._lock:
            own, rendered = list(_own_families(self._known)), self._known.rendered
        return rendered.plus(render(own), packed=packed)

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

    yield gauge("up", "1 if the exporter's last fetch of Serve's REST API worked.", float(known.up))
    if known.fetched_at is not None:
        age = time.monotonic() - known.fetched_at
        yield gauge(
            "data_age_seconds", "Age of the data from Serve's REST API; it grows while Ray does not answer.", age
        )
    if known.duration_s is not None:
        yield gauge(
            "fetch_duration_seconds",
            "Time of the last fetch of Serve's REST API, rendering included.",
            known.duration_s,
        )
    yield CounterMetricFamily(
        "servescope_exporter_fetches", "Fetches of Serve's REST API, failed ones included.", value=known.fetches
    )
    failures = CounterMetricFamily(
        "servescope_exporter_fetch_failures",
        "Fetches of Serve's REST API that gave nothing, by reason.",
        labels=("reason",),
    )
    for reason, count in known.failures.items():
        failures.add_metric((reason,), count)
    yield failures


# ---------------------------------------------------------------------------------------------------------------------
# The HTTP server


def _handler(exporter: Exporter) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """/metrics, and /-/healthz for whoever watches the process."""

        server_version = "servescope"
        sys_version = ""
        timeout = 30

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                packed = "gzip" in self.headers.get("Accept-Encoding", "")
                self._answer(200, exporter.metrics(packed=packed), content_type=CONTENT_TYPE_LATEST, packed=packed)
            elif path == "/-/healthz":
                self._answer(200, b"ok\n", content_type="text/plain")
            else:
                self._answer(404, b"the metrics are at /metrics\n", content_type="text/plain")

        def _answer(self, status: int, body: bytes, content_type: str, packed: bool = False) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            if packed:
                self.send_header("Content-Encoding", "gzip")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing of each scrape."""

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is no news."""


def server(exporter: Exporter, host: str, port: int) -> ThreadingHTTPServer:
    """The server, bound and ready for `serve_forever`.

    Raises:
        ServescopeError: the address cannot be bound.
    """
    try:
        return _Server((host, port), _handler(exporter))
    except (OSError, OverflowError) as error:
        raise ServescopeError(
            f"{host}:{port}: cannot listen there ({getattr(error, 'strerror', None) or error}); choose another --port"
        ) from error


def run(exporter: Exporter, host: str, port: int) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    http = server(exporter, host, port)

    def end(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    exporter.start()
    try:
        http.serve_forever()
    except KeyboardInterrupt:
        print("servescope: stopping", file=sys.stderr)
    finally:
        exporter.stop()
        http.server_close()
