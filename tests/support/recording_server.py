"""For what a request carries: a server that notes the headers of every request, and may answer slowly."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from demo.stack.ports import LOOPBACK
from tests.support.servers import running


@dataclass
class Recorded:
    """The address of the server, and the headers of each request that reached it."""

    url: str
    headers: list[Message] = field(default_factory=list)

    def sent(self, name: str) -> list[str | None]:
        """What each request had in one header."""
        return [headers[name] for headers in self.headers]


@contextmanager
def recording_server(body: Any = "", *, status: int = 200, location: str = "", drip_s: float = 0) -> Iterator[Recorded]:
    """Answer everything with a text, or with data as JSON; `drip_s` is the pause after each byte of the answer."""
    recorded = Recorded("")
    content = (body if isinstance(body, str) else json.dumps(body)).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            recorded.headers.append(self.headers)
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            if location:
                self.send_header("Location", location)
            self.end_headers()
            with contextlib.suppress(OSError):  # a client that waits no longer
                for byte in [content] if not drip_s else [content[i : i + 1] for i in range(len(content))]:
                    self.wfile.write(byte)
                    self.wfile.flush()
                    time.sleep(drip_s)

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    with running(ThreadingHTTPServer((LOOPBACK, 0), Handler)) as address:
        recorded.url = f"http://{address}"
        yield recorded
