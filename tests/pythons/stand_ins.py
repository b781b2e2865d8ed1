"""What the commands talk to: a Prometheus with one answer, a Ray without Serve, a trace of one request."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from tests.support.servers import running

FIGURE = "4321.5"
"""The value of every series of the Prometheus."""

SERIES = {"application": "canned-shop", "deployment": "Front"}


def _data(path: str, asked: dict[str, list[str]]) -> object:
    if path == "/api/v1/query":
        return {"resultType": "vector", "result": [{"metric": SERIES, "value": [time.time(), FIGURE]}]}
    if path == "/api/v1/query_range":
        if asked["query"] == ["ALERTS"]:
            return {"resultType": "matrix", "result": []}
        values = [[float(asked[name][0]), FIGURE] for name in ("start", "end")]
        return {"resultType": "matrix", "result": [{"metric": SERIES, "values": values}]}
    if path == "/api/v1/rules":
        return {"groups": []}
    return [SERIES["application"]] if path.startswith("/api/v1/label/") else {"version": "2.53.0"}


class _Prometheus(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        self._answer(parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode()))

    def _answer(self, asked: dict[str, list[str]]) -> None:
        asked = asked | parse_qs(urlsplit(self.path).query)
        body = json.dumps({"status": "success", "data": _data(urlsplit(self.path).path, asked)}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def prometheus() -> Iterator[str]:
    """A server with the API of Prometheus that answers every query with one series; yields its address."""
    with running(ThreadingHTTPServer(("127.0.0.1", 0), _Prometheus)) as address:
        yield f"http://{address}"


# A file of the Collector: the one request of an application, 1.25 s long.
TRACES = json.dumps(
    {
        "resourceSpans": [
            {
                "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "serve-proxy"}}]},
                "scopeSpans": [
                    {
                        "spans": [
                            {
                                "traceId": "0af7651916cd43dd8448eb211c80319c",
                                "spanId": "b7ad6b7169203331",
                                "name": "GET /canned",
                                "kind": 2,
                                "startTimeUnixNano": "1764429600000000000",
                                "endTimeUnixNano": "1764429601250000000",
                            }
                        ]
                    }
                ],
            }
        ]
    }
)

# The part of Ray that says who the process is; of Serve it has nothing, as another Ray might.
RAY = '''"""A fake Ray."""
__version__ = "2.60.0"


class Context:
    def get_actor_name(self):
        return "SERVE_REPLICA::shop#Front#f3jxvnsq"

    def get_node_id(self):
        return "4f" * 28


def get_runtime_context():
    return Context()
'''

# What Serve does with the exporter function: one provider for each process, spans, and an end.
TRACED_APPLICATION = """
import importlib, logging, sys
logging.basicConfig(level=logging.WARNING, format="%(message)s")
module, name = "servescope.tracing:otlp".split(":")
processors = getattr(importlib.import_module(module), name)()
from opentelemetry.sdk.trace import TracerProvider
provider = TracerProvider()
for processor in processors:
    provider.add_span_processor(processor)
with provider.get_tracer("canned").start_as_current_span("GET /canned") as span:
    recording = span.is_recording()
provider.shutdown()
print(f"application ended, {len(processors)} processors, recording {recording}")
"""
