"""A store with Prometheus' query API that answers every query with one series, but for what a test changes."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from demo.stack.ports import LOOPBACK
from tests.support.servers import running

LABELS = {"application": "shop", "deployment": "Front", "alertname": "RayServeBackPressure"}
FIGURE = "7"


class Store:
    """`answers` overrides the body for a path, or the status with a text; `fails` chooses queries that get a 422.

    `lets_in` says whether the headers of a request are enough, `pause_s` is how long an answer takes.
    """

    def __init__(self) -> None:
        self.url = ""
        self.prefix = ""
        self.answers: dict[str, Any] = {}
        self.fails: Callable[[str], bool] = lambda query: False
        self.more: Mapping[str, Any] = {}  # beside `data` in each answer to a query
        self.lets_in: Callable[[Message], bool] = lambda headers: True
        self.pause_s = 0.0
        self.paths: list[str] = []
        self._lock = threading.Lock()

    def answer(self, path: str, asked: Mapping[str, list[str]], headers: Message) -> tuple[int, Any]:
        """Status and body: data as JSON, or a text."""
        with self._lock:
            self.paths.append(path)
        time.sleep(self.pause_s)
        if not self.lets_in(headers):
            return 401, "no org id"
        if not path.startswith(f"{self.prefix}/api/v1/"):
            return 404, "404 page not found"
        path = path.removeprefix(self.prefix)
        changed = self.answers.get(path)
        if isinstance(changed, tuple):
            return changed[0], changed[1]
        query = asked.get("query", [""])[0]
        if self.fails(query):
            return 422, {"status": "error", "error": "query is too expensive"}
        more = self.more if path.startswith("/api/v1/query") else {}
        return 200, {"status": "success", "data": self._data(path, asked) if changed is None else changed, **more}

    def _data(self, path: str, asked: Mapping[str, list[str]]) -> Any:
        if path == "/api/v1/query":
            return {"resultType": "vector", "result": [{"metric": LABELS, "value": [time.time(), FIGURE]}]}
        if path == "/api/v1/query_range":
            values = [[float(asked[name][0]), FIGURE] for name in ("start", "end")]
            metric = {**LABELS, "alertstate": "firing"} if asked["query"] == ["ALERTS"] else LABELS
            return {"resultType": "matrix", "result": [{"metric": metric, "values": values}]}
        if path == "/api/v1/rules":
            rule = {"name": "RayServeBackPressure", "annotations": {"summary": "The summary of the rule."}}
            return {"groups": [{"rules": [rule]}]}
        return ["shop"] if path.startswith("/api/v1/label/") else {"version": "2.53.0", "revision": "abc"}


@contextmanager
def store_server() -> Iterator[Store]:
    """Serve a store; change its fields at any time."""
    store = Store()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            form = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            status, body = store.answer(parts.path, parse_qs(form or parts.query), self.headers)
            content = (body if isinstance(body, str) else json.dumps(body)).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    with running(ThreadingHTTPServer((LOOPBACK, 0), Handler)) as address:
        store.url = f"http://{address}"
        yield store
