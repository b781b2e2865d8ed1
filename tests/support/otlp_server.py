"""For the exporter of spans: an OTLP/HTTP endpoint that answers like a Collector in trouble, and keeps the spans."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from demo.stack.ports import LOOPBACK


class OtlpServer:
    """Answers `status`, after `release` is set where it was cleared; keeps the spans that it accepted."""

    def __init__(self, port: int = 0) -> None:
        self.status = 200
        self.spans: list[Span] = []
        self.requests = 0
        self.release = threading.Event()
        self.release.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.requests += 1
                outer.release.wait()
                if outer.status == 200:
                    request = ExportTraceServiceRequest.FromString(body)
                    outer.spans += [s for r in request.resource_spans for g in r.scope_spans for s in g.spans]
                self.send_response(outer.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer((LOOPBACK, port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def names(self) -> list[str]:
        return [span.name for span in self.spans]

    def __enter__(self) -> OtlpServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()
