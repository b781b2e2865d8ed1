"""`servescope preview`: the dashboards as read-only pages on loopback, without Grafana."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from servescope.clients.access import PUBLIC, Access
from servescope.clients.prometheus import Prometheus
from servescope.errors import ServescopeError
from servescope.grafana.templating import Interpolation, parse_time
from servescope.json_types import Json
from servescope.report import collect, opening
from servescope.report.missing import Missing
from servescope.report.page import Live, content_security_policy, plotly_js, render, render_row, script_json
from servescope.report.queries import Window, variable_options
from servescope.settings import Settings

LOOPBACK = "127.0.0.1"
KEPT_S = 10  # Ray's data change every 10 s: a younger page is reused
MOST_KEPT = 64
TIMEOUT_S = 60.0  # for all queries of a page, or of a row

Parameters = Mapping[str, list[str]]


class Pages:
    """Renders pages and caches them briefly. One round of queries at a time: a second reader waits for the first.

    A page comes without panels; the browser requests rows when they come into view, as in Grafana.
    """

    def __init__(
        self, prometheus: Prometheus, boards: list[Json], settings: Settings, *, timeout_s: float = TIMEOUT_S
    ) -> None:
        self.boards = {board["uid"]: board for board in boards}
        self._prometheus = prometheus
        self._settings = settings
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[float, str]] = {}

    def page(self, uid: str, query: Parameters) -> str:
        """The page of one dashboard; `query` is that of its URL, with Grafana's names (`from`, `to`, `var-...`).

        Raises:
            ServescopeError: a bad time range, or Prometheus is unreachable.
        """
        return self._cached(uid, query, lambda: self._make(uid, query))

    def row(self, uid: str, number: int, query: Parameters) -> str:
        """A row of a page as JSON; `query` is that of the page, plus `at`, the time of the page (whole unix seconds).

        Raises:
            ServescopeError: a bad time, no such row, or Prometheus is unreachable.
        """

        def make() -> str:
            try:
                at = int(query["at"][0])
            except (KeyError, ValueError) as error:
                raise ServescopeError("at: the time of the page is missing") from error
            window, chosen, live = self._parse(uid, query, at)
            section, problems = collect.collect_row(
                self._prometheus, self.boards[uid], number, window=window, chosen=chosen, timeout_s=self._timeout_s
            )
            return script_json(render_row(section, uid, live, problems=problems))

        return self._cached(f"{uid}/{number}", query, make)

    def _cached(self, name: str, query: Parameters, make: Callable[[], str]) -> str:
        key = f"{name}?{urlencode(sorted(query.items()), doseq=True)}"
        with self._lock:
            made, text = self._kept.get(key, (0.0, ""))
            if time.monotonic() - made < KEPT_S and text:
                return text
            text = make()
            while len(self._kept) >= MOST_KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = (time.monotonic(), text)
            return text

    def _parse(self, uid: str, query: Parameters, now: int) -> tuple[Window, dict[str, list[str]], Live]:
        """The time range, the chosen values, and the page's own fields."""
        board = self.boards[uid]
        asked = "from" in query or "to" in query
        start, end = (query.get(name, [board["time"][name]])[0] for name in ("from", "to"))
        if not asked and end == "now":
            # A row has the range of its page, which was chosen at another moment.
            start = query["opened"][0] if "opened" in query else opening.opening_start(self._prometheus, start, now)
        window = collect.window_of(
            parse_time(start, now, what="from"),
            parse_time(end, now, end=True, what="to"),
            scrape_interval_s=self._settings.scrape_interval_s,
        )
        names = {variable["name"] for variable in board["templating"]["list"]}
        chosen = {
            name.removeprefix("var-"): [value for value in values if value]
            for name, values in query.items()
            if name.startswith("var-") and name.removeprefix("var-") in names and any(values)
        }
        refresh = board.get("refresh") or "0s"
        live = Live(
            start=start,
            end=end,
            boards=[(name, other["title"]) for name, other in self.boards.items()],
            refresh_s=int(refresh[:-1]) * {"s": 1, "m": 60, "h": 3600}[refresh[-1]],
            asked=asked,
            all_there_is=opening.words(start) if not asked and start != board["time"]["from"] else "",
            query=f"from={quote(start)}&to={quote(end)}" if asked else "",
            row_query=urlencode({**query, **({} if asked else {"opened": start}), "at": now}, doseq=True),
        )
        return window, chosen, live

    def _make(self, uid: str, query: Parameters) -> str:
        board = self.boards[uid]
        window, chosen, live = self._parse(uid, query, int(time.time()))
        report = collect.collect(
            self._prometheus,
            [board],
            window,
            settings=self._settings,
            chosen=chosen,
            with_panels=False,
            timeout_s=self._timeout_s,
        )
        missing = Missing()
        scope = Interpolation(report.boards[0].selections, window.macros())
        with self._prometheus.round(self._timeout_s):
            for variable in board["templating"]["list"]:
                if variable["type"] == "query":
                    options = list(scope.selections[variable["name"]].values)
                    with missing.part(f"choices of {variable['name']}"):
                        options = variable_options(variable, self._prometheus, window=window, scope=scope)
                    report.boards[0].options[variable["name"]] = options
        report.problems += missing.lines()
        return render(report, board["title"], live)


def handler(pages: Pages) -> type[BaseHTTPRequestHandler]:
    """The request handler over some pages."""

    class Handler(BaseHTTPRequestHandler):
        """Answers GET for pages and the plotting library, and rejects everything else."""

        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            # Against DNS rebinding: a host name that resolves to loopback must not let a web site read the pages.
            if urlsplit(f"//{self.headers.get('Host', '')}").hostname not in (LOOPBACK, "localhost"):
                return self._answer(HTTPStatus.FORBIDDEN, "this address only: 127.0.0.1\n", kind="text/plain")
            parts = urlsplit(self.path)
            if parts.path == "/-/ready":
                return self._answer(HTTPStatus.OK, "ready\n", kind="text/plain")
            if parts.path == "/plotly.js":
                return self._answer(HTTPStatus.OK, plotly_js(), kind="text/javascript", cache="max-age=86400")
            if parts.path == "/":
                return self._answer(HTTPStatus.FOUND, "", kind="text/plain", location=f"/d/{next(iter(pages.boards))}")
            uid, _, number = parts.path.removeprefix("/d/").partition("/")
            if not parts.path.startswith("/d/") or uid not in pages.boards or not (number or "0").isdecimal():
                return self._answer(HTTPStatus.NOT_FOUND, "no such page\n", kind="text/plain")
            query = parse_qs(parts.query)
            try:
                if number:
                    return self._answer(HTTPStatus.OK, pages.row(uid, int(number), query), kind="application/json")
                return self._answer(HTTPStatus.OK, pages.page(uid, query), kind="text/html")
            except ServescopeError as error:
                return self._answer(HTTPStatus.BAD_GATEWAY, f"{error}\n", kind="text/plain")

        def _answer(
            self, status: HTTPStatus, text: str, *, kind: str, cache: str = "no-store", location: str = ""
        ) -> None:
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", cache)
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("Content-Security-Policy", content_security_policy(live=True))
            if location:
                self.send_header("Location", location)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass  # no access log

    return Handler


def serve(
    prometheus: Prometheus, *, port: int, folder: Path | None, settings: Settings, timeout_s: float = TIMEOUT_S
) -> ThreadingHTTPServer:
    """A server on loopback, ready for `serve_forever`.

    Raises:
        ServescopeError: the port is in use, or the directory has no dashboards.
    """
    pages = Pages(prometheus, collect.load_dashboards(settings, folder), settings, timeout_s=timeout_s)
    try:
        return ThreadingHTTPServer((LOOPBACK, port), handler(pages))
    except OSError as error:
        raise ServescopeError(f"port {port}: cannot listen ({error.strerror}); choose another with --port") from error


def run(
    prometheus_url: str,
    *,
    port: int,
    folder: Path | None,
    settings: Settings,
    access: Access = PUBLIC,
    timeout_s: float = TIMEOUT_S,
) -> None:
    """Serve until Ctrl-C."""
    with (
        Prometheus(prometheus_url, access=access) as prometheus,
        serve(prometheus, port=port, folder=folder, settings=settings, timeout_s=timeout_s) as server,
    ):
        print(f"preview of {prometheus.url}: http://{LOOPBACK}:{server.server_address[1]}/", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
