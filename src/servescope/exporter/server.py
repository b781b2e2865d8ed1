"""The exporter's HTTP server: /metrics and /-/healthz, from the poller's data."""

from __future__ import annotations

import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import FrameType

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

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that disconnects is not an error."""


def server(exporter: Exporter, host: str, port: int) -> ThreadingHTTPServer:
    """The HTTP server, bound and ready for `serve_forever`.

    Raises:
        ServescopeError: the address cannot be bound.
    """
    try:
        return _Server((host, port), _handler(exporter))
    except (OSError, OverflowError) as error:
        raise ServescopeError(
            f"{host}:{port}: cannot listen ({getattr(error, 'strerror', None) or error}); choose another --port"
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
