"""For a client of some program: a server that gives one answer to every GET, and notes what it was asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from demo.stack.ports import LOOPBACK
from tests.support.servers import running

# Path and parameters of each request.
Asked = list[tuple[str, dict[str, str]]]


@contextmanager
def stub_server(body: Any, status: int = 200, *, location: str = "") -> Iterator[tuple[str, Asked]]:
    """Answer every GET with a text, or with data as JSON; yields the server's address and what it is asked.

    `location` is where a redirect leads.
    """
    asked: Asked = []
    content = (body if isinstance(body, str) else json.dumps(body)).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            asked.append((parts.path, dict(parse_qsl(parts.query))))
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            if location:
                self.send_header("Location", location)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with running(ThreadingHTTPServer((LOOPBACK, 0), Handler)) as address:
        yield f"http://{address}", asked
