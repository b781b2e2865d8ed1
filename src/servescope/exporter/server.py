"""The exporter's HTTP server: /metrics and /-/healthz, from the poller's data."""

from __future__ import annotations

import signal
import socket
import sys
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import FrameType
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST

from servescope.errors import ServescopeError
from servescope.exporter.poller import Exporter


def _handler(exporter: Exporter) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """/metrics, and /-/healthz for liveness probes."""

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

        def _answer(self, status: int, body: bytes, *, content_type: str, packed: bool = False) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            if packed:
                self.send_header("Content-Encoding", "gzip")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """No access log."""

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, host: str, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        found = socket.getaddrinfo(host or "0.0.0.0", None, type=socket.SOCK_STREAM)
        self.address_family, _, _, _, address = found[0]
        super().__init__((str(address[0]), port, *address[2:]), handler)

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            with suppress(OSError):  # `::` takes IPv4 too, whatever the system's default is
                self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that disconnects is not an error; anything else is a bug, whose traceback goes to stderr."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def server(exporter: Exporter, host: str, port: int) -> ThreadingHTTPServer:
    """The HTTP server, bound and ready for `serve_forever`.

    Raises:
        ServescopeError: the address cannot be bound.
    """
    try:
        return _Server(host, port, _handler(exporter))
    except (OSError, OverflowError, UnicodeError) as error:
        where = f"[{host}]" if ":" in host else host
        raise ServescopeError(
            f"{where}:{port}: cannot listen ({getattr(error, 'strerror', None) or error}); choose another --port"
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
