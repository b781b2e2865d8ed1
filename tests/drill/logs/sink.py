"""An endpoint that takes logs as Loki and an OTLP receiver do, and counts them: `python -m tests.drill.logs.sink PORT`.

It replaces the backend in the tests of the agents because it can fail on request, and returns every record it got:
GET /tally, /records, /gaps/<first number>/<how many>; PUT /answer/503 makes every push fail until PUT /answer/204.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from demo.stack.ports import LOOPBACK

SEQUENCE = re.compile(r"\bn=(\d+)")
KEPT = 20_000


class Tally:
    """What has come so far; lines that carry n=<number> are distinguished by it."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.answer = 204
        self.records: list[dict[str, Any]] = []
        self.total = self.refused = self.truncated = self.serve = 0
        self.seen: Counter[int] = Counter()

    def add(self, records: list[dict[str, Any]]) -> None:
        with self.lock:
            self.total += len(records)
            self.records += records[: max(0, KEPT - len(self.records))]
            for record in records:
                self.truncated += bool(record.get("truncated"))
                self.serve += str(record.get("component")).startswith("serve")
                match = SEQUENCE.search(record["message"][:200])
                if match:
                    self.seen[int(match.group(1))] += 1

    def reported(self) -> dict[str, int]:
        with self.lock:
            numbered = sum(self.seen.values())
            return {
                "total": self.total,
                "serve": self.serve,
                "numbered": numbered,
                "distinct": len(self.seen),
                "duplicates": numbered - len(self.seen),
                "truncated": self.truncated,
                "refused": self.refused,
            }

    def gaps(self, start: int, count: int) -> list[list[int]]:
        """First and last of each run of numbers that have not come."""
        found: list[list[int]] = []
        with self.lock:
            for number in range(start, start + count):
                if number in self.seen:
                    continue
                if found and found[-1][1] == number - 1:
                    found[-1][1] = number
                else:
                    found.append([number, number])
        return found


def from_loki(body: bytes) -> Iterator[dict[str, Any]]:
    """Records of a push as Fluent Bit's Loki output makes it: JSON, labels and structured metadata together."""
    for stream in json.loads(body)["streams"]:
        for nanoseconds, line, *metadata in stream["values"]:
            fields = {**stream["stream"], **(metadata[0] if metadata else {})}
            yield {**fields, "message": line, "nanoseconds": int(nanoseconds)}


def from_otlp(body: bytes) -> Iterator[dict[str, Any]]:
    """Records of an OTLP request, attributes of the resource among the fields."""
    request = ExportLogsServiceRequest.FromString(body)
    for resource in request.resource_logs:
        shared = {pair.key: _value(pair.value) for pair in resource.resource.attributes}
        for scope in resource.scope_logs:
            for record in scope.log_records:
                fields = {pair.key: _value(pair.value) for pair in record.attributes}
                yield {
                    **shared,
                    **fields,
                    "message": record.body.string_value,
                    "nanoseconds": record.time_unix_nano,
                    "severity_number": int(record.severity_number),
                }


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(inner) for inner in value.array_value.values]
    if kind == "kvlist_value":
        return {pair.key: _value(pair.value) for pair in value.kvlist_value.values}
    return getattr(value, kind) if kind else None


class Handler(BaseHTTPRequestHandler):
    tally: Tally
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.tally.answer >= 400:
            self.tally.refused += 1
            return self._reply(self.tally.answer)
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.tally.add(list((from_loki if "loki/api" in self.path else from_otlp)(body)))
        return self._reply(204 if "loki/api" in self.path else 200)

    def do_PUT(self) -> None:
        self.tally.answer = int(self.path.rsplit("/", 1)[1])
        self._reply(200)

    def do_GET(self) -> None:
        reported: Any = self.tally.reported()
        if self.path == "/records":
            reported = self.tally.records
        elif self.path.startswith("/gaps/"):
            reported = self.tally.gaps(*map(int, self.path.split("/")[2:]))
        self._reply(200, json.dumps(reported).encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _reply(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed in the middle of a push is what the tests are about; everything else is logged."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def main() -> None:
    Handler.tally = Tally()
    server = Server((LOOPBACK, int(sys.argv[1])), Handler)
    server.serve_forever()


if __name__ == "__main__":
    main()
