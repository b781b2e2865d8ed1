"""`servescope preview`: the dashboards as pages on loopback, for where there is no Grafana. Read only."""

from __future__ import annotations

import contextlib
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from servescope import snapshot
from servescope.errors import ServescopeError
from servescope.evaluate import Prometheus, variable_options
from servescope.settings import Settings
from servescope.templating import Scope, parse_time

LOOPBACK = "127.0.0.1"
KEPT_S = 10  # Ray's data change every 10 s: a page younger than that is given again
MOST_KEPT = 32


class Pages:
    """Makes pages and keeps them for a moment. One round of queries at a time: a second reader waits for the first."""

    def __init__(self, prometheus: Prometheus, boards: list[snapshot.Json], settings: Settings) -> None:
        self.boards = {board["uid"]: board for board in boards}
        self._prometheus = prometheus
        self._settings = settings
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[float, str]] = {}

    def page(self, uid: str, query: dict[str, list[str]]) -> str:
        """The page of one dashboard; `query` is that of its address, as Grafana's (`from`, `to`, `var-...`).

        Raises:
            ServescopeError: a bad time range, or Prometheus does not answer.
        """
        key = f"{uid}?{urlencode(sorted(query.items()), doseq=True)}"
        with self._lock:
            made, text = self._kept.get(key, (0.0, ""))
            if time.monotonic() - made < KEPT_S and text:
                return text
            text = self._make(uid, query)
            while len(self._kept) >= MOST_KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = (time.monotonic(), text)
            return text

    def _make(self, uid: str, query: dict[str, list[str]]) -> str:
        board = self.boards[uid]
        start, end = (query.get(name, [board["time"][name]])[0] for name in ("from", "to"))
        now = time.time()
        window = snapshot.window_of(
            parse_time(start, now, what="from"),
            parse_time(end, now, end=True, what="to"),
            self._settings.scrape_interval_s,
        )
        names = {variable["name"] for variable in board["templating"]["list"]}
        chosen = {
            name.removeprefix("var-"): [value for value in values if value]
            for name, values in query.items()
            if name.startswith("var-") and name.removeprefix("var-") in names and any(values)
        }
        report = snapshot.collect(self._prometheus, [board], window, self._settings, chosen)
        selections = report.boards[0].selections
        scope = Scope(selections, window.macros())
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                options = variable_options(variable, self._prometheus, window, scope)
                report.boards[0].options[variable["name"]] = options
        refresh = board.get("refresh") or "0s"
        live = snapshot.Live(
            start,
            end,
            [(name, other["title"]) for name, other in self.boards.items()],
            int(refresh[:-1]) * {"s": 1, "m": 60, "h": 3600}[refresh[-1]],
            f"from={quote(start)}&to={quote(end)}",
        )
        return snapshot.render(report, board["title"], live)


def handler(pages: Pages) -> type[BaseHTTPRequestHandler]:
    """The request handler over some pages."""

    class Handler(BaseHTTPRequestHandler):
        """Answers GET for pages and the plotting library, and refuses everything else."""

        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            # A foreign name that resolves to loopback must not let a web site read the pages.
            if urlsplit(f"//{self.headers.get('Host', '')}").hostname not in (LOOPBACK, "localhost"):
                return self._answer(HTTPStatus.FORBIDDEN, "this address only: 127.0.0.1\n", "text/plain")
            parts = urlsplit(self.path)
            if parts.path == "/-/ready":
                return self._answer(HTTPStatus.OK, "ready\n", "text/plain")
            if parts.path == "/plotly.js":
                return self._answer(HTTPStatus.OK, snapshot.plotly_js(), "text/javascript", "max-age=86400")
            if parts.path == "/":
                return self._answer(HTTPStatus.FOUND, "", "text/plain", location=f"/d/{next(iter(pages.boards))}")
            uid = parts.path.removeprefix("/d/")
            if not parts.path.startswith("/d/") or uid not in pages.boards:
                return self._answer(HTTPStatus.NOT_FOUND, "no such page\n", "text/plain")
            try:
                text = pages.page(uid, parse_qs(parts.query))
            except ServescopeError as error:
                return self._answer(HTTPStatus.BAD_GATEWAY, f"{error}\n", "text/plain")
            return self._answer(HTTPStatus.OK, text, "text/html")

        def _answer(
            self, status: HTTPStatus, text: str, kind: str, cache: str = "no-store", location: str = ""
        ) -> None:
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", cache)
            self.send_header("X-Content-Type-Options", "nosniff")
            if location:
                self.send_header("Location", location)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass  # nobody reads an access log of a preview

    return Handler


def serve(prometheus: Prometheus, port: int, folder: Path | None, settings: Settings) -> ThreadingHTTPServer:
    """A server that is ready to serve on loopback.

    Raises:
        ServescopeError: the port is taken, or the folder holds no dashboards.
    """
    pages = Pages(prometheus, snapshot.load_dashboards(settings, folder), settings)
    try:
        return ThreadingHTTPServer((LOOPBACK, port), handler(pages))
    except OSError as error:
        raise ServescopeError(
            f"port {port}: cannot listen there ({error.strerror}); choose another with --port"
        ) from error


def run(prometheus_url: str, port: int, folder: Path | None, settings: Settings) -> None:
    """Serve until Ctrl-C."""
    with Prometheus(prometheus_url) as prometheus, serve(prometheus, port, folder, settings) as server:
        print(f"preview of {prometheus_url}: http://{LOOPBACK}:{server.server_address[1]}/", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
