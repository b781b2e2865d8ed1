"""`servescope preview`: the dashboards as read-only pages on loopback, without Grafana."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from servescope.clients import otlp_files
from servescope.clients.access import PUBLIC, Access
from servescope.clients.model import LogRecord, Trace, slowest
from servescope.clients.prometheus import Prometheus
from servescope.clients.shared import SharedAnswers
from servescope.errors import ServescopeError
from servescope.grafana.templating import Interpolation, parse_time
from servescope.json_types import Json
from servescope.report import collect, collected, opening
from servescope.report.collected import Collected
from servescope.report.missing import Missing
from servescope.report.page import (
    Live,
    content_security_policy,
    plotly_js,
    render,
    render_evidence,
    render_row,
    script_json,
)
from servescope.report.queries import Window, variable_options
from servescope.report.waterfall import waterfall
from servescope.settings import Settings

LOOPBACK = "127.0.0.1"
LOOPBACK_ADDRESSES = (LOOPBACK, "::1")
KEPT_S = 10  # Ray's data change every 10 s: a younger page is reused
LINES_KEPT_S = 86400  # how far back the lines of a request are looked for
MOST_READERS = 16  # whose pages are made at the same time
TIMEOUT_S = 60.0  # for all queries of a page, or of a row

Parameters = Mapping[str, list[str]]


class Pages:
    """Renders pages and caches them briefly. Readers do not wait for each other, except for what both ask for.

    A page comes without panels; the browser requests rows when they come into view, as in Grafana.
    """

    def __init__(
        self,
        prometheus: Prometheus,
        boards: list[Json],
        settings: Settings,
        *,
        timeout_s: float = TIMEOUT_S,
        evidence: Collected = collect.NOTHING,
    ) -> None:
        self.boards = {board["uid"]: board for board in boards}
        self._prometheus = prometheus
        self._settings = settings
        self._timeout_s = timeout_s
        self._answers = SharedAnswers(at_once=collect.QUERIES_AT_ONCE, kept_s=KEPT_S)
        self._texts = SharedAnswers(at_once=MOST_READERS, kept_s=KEPT_S)
        # Several panels of a row ask for the same lines.
        files = SharedAnswers(at_once=2, kept_s=KEPT_S)
        self._evidence = replace(evidence, shared=files.get)

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
            at = query.get("at", [""])[0]
            if not re.fullmatch("[0-9]{1,10}", at):
                raise collect.RequestError("at: the time of the page is missing")
            window, chosen, live = self._parse(uid, query, int(at))
            section, problems = collect.collect_row(
                self._reader(),
                self.boards[uid],
                number,
                window=window,
                chosen=chosen,
                timeout_s=self._timeout_s,
                evidence=self._evidence,
            )
            return script_json(render_row(section, uid, live, problems=problems))

        return self._cached(f"{uid}/{number}", query, make)

    def trace(self, wanted: str) -> str:
        """The page of one trace, or of the traces of a request, as waterfalls with their lines.

        Raises:
            RequestError: there is no such trace.
            ServescopeError: the files cannot be read.
        """

        def make() -> str:
            found = otlp_files.find(self._evidence.every_trace(), wanted)
            if not found:
                raise collect.RequestError(
                    f"no trace {wanted}: it comes some seconds after its request, or was not kept"
                )
            problems = []
            drawn = []
            for one in found:
                lines: list[LogRecord] = []
                try:
                    lines = self._evidence.lines_of(one)
                except ServescopeError as error:
                    problems.append(f"no log lines: {error}")
                drawn.append(waterfall(one, lines))
            return render_evidence(f"Trace {wanted[:32]}", waterfalls=drawn, problems=problems)

        return self._cached(f"trace/{wanted}", {}, make)

    def traces(self, query: Parameters) -> str:
        """The page of the traces between `from` and `to` (unix seconds), of the chosen deployments, slowest first.

        Raises:
            RequestError: a bad time.
            ServescopeError: the files cannot be read.
        """
        times = [query.get(name, [""])[0] for name in ("from", "to")]
        if not all(re.fullmatch("[0-9]{1,10}", text) for text in times):
            raise collect.RequestError("from, to: times in unix seconds are missing")
        start, end = map(int, times)
        wanted = {name: set(query.get(f"var-{name}", [])) - {""} for name in ("application", "deployment")}

        def chosen(trace: Trace) -> bool:
            return any(
                all(not values or span.resource.get(f"serve.{name}") in values for name, values in wanted.items())
                for span in trace.spans
            )

        def make() -> str:
            found = slowest(filter(chosen, self._evidence.traces_between(start, end)), collected.MOST_ROWS)
            first, last = (time.gmtime(at) for at in (start, end))
            moment = f"{time.strftime('%Y-%m-%d %H:%M:%S', first)} to {time.strftime('%H:%M:%S', last)}"
            nothing = "No trace of this time was kept; failed and slow ones are, and a share of the others."
            problems = [] if found else [nothing]
            return render_evidence(f"Traces, {moment} UTC", table=collected.traces_table(found), problems=problems)

        return self._cached("traces", query, make)

    def request(self, wanted: str) -> str:
        """The page of all lines of a request, which has the ID of the request or of its trace.

        Raises:
            ServescopeError: the files cannot be read.
        """

        def make() -> str:
            now = int(time.time())
            lines = [one for one in self._evidence.records(now - LINES_KEPT_S, now) if wanted in one.ids]
            problems = [] if lines else ["No lines with this ID in the last day."]
            return render_evidence(f"Log lines of request {wanted[:100]}", lines=lines, problems=problems)

        return self._cached(f"request/{wanted}", {}, make)

    def _cached(self, name: str, query: Parameters, make: Callable[[], str]) -> str:
        text: str = self._texts.get(f"{name}?{urlencode(sorted(query.items()), doseq=True)}", make)
        return text

    def _reader(self) -> Prometheus:
        """For one request: a round of its own, and the answers that all requests share."""
        return self._prometheus.for_reader(self._answers)

    def _parse(self, uid: str, query: Parameters, now: int) -> tuple[Window, dict[str, list[str]], Live]:
        """The time range, the chosen values, and the page's own fields."""
        board = self.boards[uid]
        asked = "from" in query or "to" in query
        start, end = (query.get(name, [board["time"][name]])[0] for name in ("from", "to"))
        if not asked and end == "now":
            # A row has the range of its page, which was chosen at another moment.
            start = query["opened"][0] if "opened" in query else opening.opening_start(self._prometheus, start, now)
        try:
            first, last = parse_time(start, now, what="from"), parse_time(end, now, end=True, what="to")
        except ServescopeError as error:
            raise collect.RequestError(str(error)) from error
        window = collect.window_of(first, last, scrape_interval_s=self._settings.scrape_interval_s)
        names = {variable["name"] for variable in board["templating"]["list"]}
        chosen = {
            name.removeprefix("var-"): [value for value in values if value]
            for name, values in query.items()
            if name.startswith("var-") and name.removeprefix("var-") in names and any(values)
        }
        live = Live(
            start=start,
            end=end,
            boards=[(name, other["title"]) for name, other in self.boards.items()],
            refresh_s=_seconds(board.get("refresh", "")),
            asked=asked,
            all_there_is=opening.words(start) if not asked and start != board["time"]["from"] else "",
            query=f"from={quote(start)}&to={quote(end)}" if asked else "",
            texts=[
                (variable["name"], chosen.get(variable["name"], [""])[0])
                for variable in board["templating"]["list"]
                if variable["type"] == "textbox"
            ],
            traced=self._evidence.traces is not None,
            row_query=urlencode({**query, **({} if asked else {"opened": start}), "at": now}, doseq=True),
        )
        return window, chosen, live

    def _make(self, uid: str, query: Parameters) -> str:
        board = self.boards[uid]
        window, chosen, live = self._parse(uid, query, int(time.time()))
        reader = self._reader()
        report = collect.collect(
            reader,
            [board],
            window,
            settings=self._settings,
            chosen=chosen,
            with_panels=False,
            timeout_s=self._timeout_s,
        )
        missing = Missing()
        scope = Interpolation(report.boards[0].selections, window.macros())
        with reader.round(self._timeout_s):
            for variable in board["templating"]["list"]:
                if variable["type"] == "query":
                    options = list(scope.selections[variable["name"]].values)
                    with missing.part(f"choices of {variable['name']}"):
                        options = variable_options(variable, reader, window=window, scope=scope)
                    report.boards[0].options[variable["name"]] = options
        report.problems += missing.lines()
        return render(report, board["title"], live)


def _seconds(refresh: str) -> int:
    """A dashboard's refresh interval in seconds; 0, which means never, where it is no duration."""
    match = re.fullmatch("([0-9]{1,6})([smhdw])", refresh)
    return int(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}[match[2]] if match else 0


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """A response. Those with a status of 400 or more are one line of plain text."""

    status: HTTPStatus
    text: str
    kind: str = "text/plain"
    cache: str = "no-store"
    location: str = ""


def _error(status: HTTPStatus, line: str) -> _Answer:
    return _Answer(status=status, text=f"{' '.join(line.splitlines())}\n")


def handler(pages: Pages) -> type[BaseHTTPRequestHandler]:
    """The request handler over some pages."""

    class Handler(BaseHTTPRequestHandler):
        """Answers GET for pages and the plotting library, and rejects everything else."""

        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            try:
                answer = self._answer()
            except collect.RequestError as error:
                answer = _error(HTTPStatus.BAD_REQUEST, str(error))
            except ServescopeError as error:
                answer = _error(HTTPStatus.BAD_GATEWAY, str(error))
            except Exception as error:  # a bug in one page: the reader gets a line, and the other pages stay
                answer = _error(HTTPStatus.INTERNAL_SERVER_ERROR, f"internal error: {type(error).__name__}: {error}")
                if os.environ.get("SERVESCOPE_DEBUG", "") not in ("", "0"):
                    sys.excepthook(*sys.exc_info())
            if answer.status >= HTTPStatus.BAD_REQUEST:
                line = f"servescope: {self.path[:200]}: {answer.status.value}: {answer.text}"
                printable = "".join(c if c.isprintable() else " " for c in line)
                print(printable.rstrip(), file=sys.stderr, flush=True)
            self._send(answer)

        def _answer(self) -> _Answer:
            try:
                host, parts = urlsplit(f"//{self.headers.get('Host', '')}").hostname, urlsplit(self.path)
            except ValueError:
                return _error(HTTPStatus.BAD_REQUEST, "the address or the header Host is not a URL")
            # Against DNS rebinding: a host name that resolves to loopback must not let a web site read the pages.
            if host not in (*LOOPBACK_ADDRESSES, "localhost"):
                return _error(HTTPStatus.FORBIDDEN, f"only by these names: {', '.join(LOOPBACK_ADDRESSES)}, localhost")
            if parts.path == "/-/ready":
                return _Answer(status=HTTPStatus.OK, text="ready\n")
            if parts.path == "/plotly.js":
                return _Answer(status=HTTPStatus.OK, text=plotly_js(), kind="text/javascript", cache="max-age=86400")
            if parts.path == "/":
                return _Answer(status=HTTPStatus.FOUND, text="", location=f"/d/{quote(next(iter(pages.boards)))}")
            kind, _, wanted = unquote(parts.path).removeprefix("/").partition("/")
            if kind in ("trace", "request") and wanted:
                page = pages.trace if kind == "trace" else pages.request
                return _Answer(status=HTTPStatus.OK, text=page(wanted), kind="text/html")
            if parts.path == "/traces":
                return _Answer(status=HTTPStatus.OK, text=pages.traces(parse_qs(parts.query)), kind="text/html")
            uid, _, number = unquote(parts.path).removeprefix("/d/").partition("/")
            if not parts.path.startswith("/d/") or uid not in pages.boards:
                return _error(HTTPStatus.NOT_FOUND, "no such page")
            query = parse_qs(parts.query)
            if not number:
                return _Answer(status=HTTPStatus.OK, text=pages.page(uid, query), kind="text/html")
            if not re.fullmatch("[0-9]{1,9}", number):
                raise collect.RequestError(f"{uid}: expected the number of a row")
            return _Answer(status=HTTPStatus.OK, text=pages.row(uid, int(number), query), kind="application/json")

        def _send(self, answer: _Answer) -> None:
            body = answer.text.encode(errors="replace")
            self.send_response(answer.status)
            self.send_header("Content-Type", f"{answer.kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", answer.cache)
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("Content-Security-Policy", content_security_policy(live=True))
            if answer.location:
                self.send_header("Location", answer.location)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass  # no access log

    return Handler


class _Server(ThreadingHTTPServer):
    def __init__(self, host: str, port: int, pages: Pages) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), handler(pages))

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that disconnects is not an error."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def serve(
    prometheus: Prometheus,
    *,
    port: int,
    folder: Path | None,
    settings: Settings,
    host: str = LOOPBACK,
    timeout_s: float = TIMEOUT_S,
    evidence: Collected = collect.NOTHING,
) -> ThreadingHTTPServer:
    """A server on loopback, ready for `serve_forever`.

    Raises:
        ServescopeError: the host is not a loopback address, the port is in use, or the directory has no dashboards.
    """
    if host not in LOOPBACK_ADDRESSES:
        raise ServescopeError(
            f"--host {host}: the preview listens on loopback only ({' or '.join(LOOPBACK_ADDRESSES)}), because it asks "
            "nobody for a password"
        )
    boards = collect.load_dashboards(settings, folder)
    pages = Pages(prometheus, boards, settings, timeout_s=timeout_s, evidence=evidence)
    try:
        return _Server(host, port, pages)
    except OSError as error:
        raise ServescopeError(f"port {port}: cannot listen ({error.strerror}); choose another with --port") from error


def run(
    prometheus_url: str,
    *,
    port: int,
    folder: Path | None,
    settings: Settings,
    host: str = LOOPBACK,
    access: Access = PUBLIC,
    timeout_s: float = TIMEOUT_S,
    evidence: Collected = collect.NOTHING,
) -> None:
    """Serve until Ctrl-C."""
    with (
        Prometheus(prometheus_url, access=access) as prometheus,
        serve(
            prometheus, host=host, port=port, folder=folder, settings=settings, timeout_s=timeout_s, evidence=evidence
        ) as server,
    ):
        where = f"[{host}]" if ":" in host else host
        print(f"preview of {prometheus.url}: http://{where}:{server.server_address[1]}/", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
