"""The preview's pages: on loopback only, for reading only, one round of queries at a time, clear where it cannot."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import httpx
import psutil
import pytest
from typer.testing import CliRunner

from demo import screenshots
from servescope.cli import app
from servescope.clients.prometheus import Prometheus
from servescope.dashboards import all_dashboards
from servescope.errors import ServescopeError
from servescope.report import opening, preview
from servescope.settings import Settings
from tests.support.servers import free_port, running

QUERIES_OF_A_PAGE = 4  # that `collect` sends at once


class Answers:
    """A server with the API of Prometheus that answers every query with one series, and notes what it is asked."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.expressions: list[str] = []
        self.figure = "7"
        self.up_since = 0.0  # unix seconds of the first sample of `up`
        self.running = 0
        self.most = 0
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer({})

            def do_POST(self) -> None:
                self._answer(parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode()))

            def _answer(self, asked: dict[str, list[str]]) -> None:
                path = urlsplit(self.path).path
                with outer._lock:
                    outer.paths.append(path)
                    outer.expressions += asked.get("query", [])
                    outer.running += 1
                    outer.most = max(outer.most, outer.running)
                time.sleep(0.005)  # so that queries that may overlap do
                with outer._lock:
                    outer.running -= 1
                body = json.dumps({"status": "success", "data": self._data(path, asked)}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def _data(self, path: str, asked: dict[str, list[str]]) -> object:
                metric = {"application": "shop", "deployment": "Front"}
                if asked.get("query") == ["count(up)"] and float(asked["time"][0]) < outer.up_since:
                    return {"resultType": "vector", "result": []}
                if path == "/api/v1/query":
                    return {
                        "resultType": "vector",
                        "result": [{"metric": metric, "value": [time.time(), outer.figure]}],
                    }
                if path == "/api/v1/query_range":
                    if asked["query"] == ["ALERTS"]:
                        return {"resultType": "matrix", "result": []}
                    values = [[float(asked[name][0]), outer.figure] for name in ("start", "end")]
                    return {"resultType": "matrix", "result": [{"metric": metric, "values": values}]}
                if path == "/api/v1/rules":
                    return {"groups": []}
                return ["shop"] if path.startswith("/api/v1/label/") else {"version": "2.53.0"}

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def answers() -> Iterator[Answers]:
    result = Answers()
    with running(result.server):
        yield result


@pytest.fixture
def pages(answers: Answers) -> Iterator[httpx.Client]:
    """A client of a preview over those answers."""
    with (
        Prometheus(answers.url) as prometheus,
        preview.serve(prometheus, port=0, folder=None, settings=Settings()) as server,
        running(server) as address,
        httpx.Client(base_url=f"http://{address}", timeout=30) as client,
    ):
        yield client


def rows_of(page: str) -> list[str]:
    """The addresses of a page's rows."""
    return [html.unescape(address) for address in re.findall(r'data-from="([^"]*)"', page)]


def test_a_page_asks_for_no_panel_and_its_rows_ask_for_all_of_them_over_one_time(pages: httpx.Client, answers: Answers):
    page = pages.get("/d/servescope-deployment?from=now-30m").text
    board = next(board for board in all_dashboards(Settings()) if board.uid == "servescope-deployment")
    assert not any("ray_serve_deployment_processing_latency_ms_bucket" in e for e in answers.expressions)
    found = [pages.get(address).json() for address in rows_of(page)]
    shown = [title for row in found for title in re.findall(r'data-title="([^"]*)"', row["html"])]
    assert [html.unescape(title) for title in shown] == [panel.title for panel in board.panels]
    times = {(figure["t0"], figure["n"]) for row in found for figure in row["plots"].values() if "t0" in figure}
    assert len(times) == 1


@pytest.mark.parametrize(
    ("address", "line"),
    [
        ("servescope-slo/99?at=1760000000", "servescope-slo: no row 99; it has "),
        ("servescope-slo/0", "at: the time of the page is missing"),
        ("servescope-slo/0?at=noon", "at: the time of the page is missing"),
        ("servescope-slo/0?at=nan", "at: the time of the page is missing"),
        ("servescope-slo/0?at=99999999999999999999", "at: the time of the page is missing"),
        (f"servescope-slo/{'9' * 5000}?at=1760000000", "servescope-slo: expected the number of a row"),
        ("servescope-slo/one?at=1760000000", "servescope-slo: expected the number of a row"),
        ("servescope-slo?from=now-3000y", "from: 'now-3000y' is not between the years 1 and 9999"),
        ("servescope-slo?to=now-99999999999d", "to: 'now-99999999999d' is not between the years 1 and 9999"),
        ("servescope-slo?from=now&to=now-1h", "--from is not before --to: the time range is empty"),
    ],
)
def test_a_row_that_cannot_be_is_one_line(pages: httpx.Client, address: str, line: str):
    answer = pages.get(f"/d/{address}")
    assert (answer.status_code, answer.text.count("\n")) == (400, 1)
    assert answer.text.startswith(line)


@pytest.mark.skipif(screenshots.chromium() is None, reason=screenshots.MISSING)
def test_rows_come_when_they_come_into_view_and_a_refresh_renews_them_in_place(
    pages: httpx.Client, answers: Answers, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(preview, "KEPT_S", 0)
    with screenshots.browser() as chrome, screenshots.open_page(chrome, "about:blank", draw=False) as opened:
        page = opened.page
        page.clock.install()
        page.goto(f"{pages.base_url}/d/servescope-deployment?from=now-15m")
        rows, closed = page.locator("details.row"), page.locator("details.row:not([open])")
        rows.first.locator(".panel").first.wait_for()
        assert rows.last.locator(".panel").count() == 0
        count = closed.count()
        closed.first.scroll_into_view_if_needed()
        closed.first.locator("summary").click()
        page.locator("details.row[open]:not([data-from])").last.locator(".panel").first.wait_for()
        page.evaluate("scrollTo(0, 0)")
        assert "7" in page.locator(".stat b").first.inner_text()
        answers.figure = "8"
        page.clock.fast_forward(60_000)
        page.locator("details.row").first.locator(".stat b", has_text="8").first.wait_for()
        assert closed.count() == count - 1
        assert answers.most <= QUERIES_OF_A_PAGE
        assert opened.complaints == []


def test_it_listens_on_ipv6_loopback_and_on_no_address_of_the_network(answers: Answers):
    with Prometheus(answers.url) as prometheus:
        with (
            preview.serve(prometheus, host="::1", port=0, folder=None, settings=Settings()) as server,
            running(server) as address,
        ):
            url = f"http://[::1]:{address.rpartition(':')[2]}/-/ready"
            assert httpx.get(url, trust_env=False).text == "ready\n"
            refused = httpx.get(url, trust_env=False, headers={"Host": "prometheus.example"})
            assert (refused.status_code, refused.text) == (403, "only by these names: 127.0.0.1, ::1, localhost\n")
        for host in ("0.0.0.0", "::", "192.0.2.1"):
            with pytest.raises(ServescopeError, match=f"^--host {host}: the preview listens on loopback only"):
                preview.serve(prometheus, host=host, port=0, folder=None, settings=Settings())


def test_it_listens_on_loopback_only(pages: httpx.Client):
    port = pages.base_url.port
    own = [c for c in psutil.Process().net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    assert [c.laddr.ip for c in own if c.laddr.port == port] == ["127.0.0.1"]


def test_the_first_page_is_the_overview_with_figures_links_and_choices(pages: httpx.Client):
    moved = pages.get("/")
    assert (moved.status_code, moved.headers["location"]) == (302, "/d/servescope-overview")
    page = pages.get("/d/servescope-overview?from=now-15m&var-application=shop")
    assert page.status_code == 200
    first = pages.get(rows_of(page.text)[0])
    assert (first.status_code, first.headers["content-type"]) == (200, "application/json; charset=utf-8")
    assert ">7 req/s</a></b>" in first.json()["html"]
    assert "<option selected>shop</option>" in page.text
    assert 'href="/d/servescope-cluster?from=now-15m&amp;to=now"' in page.text
    assert pages.get("/plotly.js").text.startswith("/**")


def test_a_chosen_value_reaches_prometheus(pages: httpx.Client, answers: Answers):
    pages.get(rows_of(pages.get("/d/servescope-overview?var-application=sh.op").text)[0])
    asked = [e for e in answers.expressions if "ray_serve_num_http_requests_total" in e]
    assert asked
    assert all(r'application=~"sh\\.op"' in e for e in asked if 'application=""' not in e)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_it_only_reads(pages: httpx.Client, answers: Answers, method: str):
    assert pages.request(method, "/d/servescope-overview").status_code == 501
    assert answers.paths == []


def test_it_asks_prometheus_nothing_but_reading_endpoints(pages: httpx.Client, answers: Answers):
    pages.get("/d/servescope-slo")
    known = ("/api/v1/query", "/api/v1/query_range", "/api/v1/rules", "/api/v1/status/buildinfo")
    assert answers.paths
    assert [p for p in answers.paths if p not in known and not p.startswith("/api/v1/label/")] == []


def test_pages_share_their_answers_and_send_four_queries_at_a_time(pages: httpx.Client, answers: Answers):
    with ThreadPoolExecutor(6) as pool:
        uids = ["servescope-slo", "servescope-cluster"] * 3
        found = list(pool.map(lambda uid: pages.get(f"/d/{uid}").status_code, uids))
    assert found == [200] * 6
    assert answers.most <= QUERIES_OF_A_PAGE
    # Six requests, of two pages, and both of these ask for the rules: that is asked once.
    assert answers.paths.count("/api/v1/rules") == 1


def test_every_answer_has_a_content_security_policy(pages: httpx.Client):
    page = pages.get("/d/servescope-slo")
    for answer in (page, pages.get("/plotly.js"), pages.get("/d/servescope-nothing"), pages.get("/")):
        policy = dict(rule.split(" ", 1) for rule in answer.headers["content-security-policy"].split("; "))
        assert (policy["default-src"], policy["connect-src"]) == ("'none'", "'self'")
        assert (policy["frame-ancestors"], policy["form-action"]) == ("'none'", "'self'")
        assert "unsafe" not in policy["script-src"]
    # The script that the page carries is the one that may run.
    script = re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL)[-1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in page.headers["content-security-policy"]


def test_a_foreign_name_for_loopback_gets_nothing(pages: httpx.Client):
    assert pages.get("/d/servescope-slo", headers={"Host": "evil.example:80"}).status_code == 403


@pytest.mark.parametrize("path", ["/d/servescope-nothing", "/etc/passwd", "/d/"])
def test_other_addresses_are_not_found(pages: httpx.Client, path: str):
    assert pages.get(path).status_code == 404


def test_a_bad_range_is_one_line(pages: httpx.Client):
    answer = pages.get("/d/servescope-slo?from=yesterday")
    assert answer.status_code == 400
    assert answer.text.count("\n") == 1
    assert "yesterday" in answer.text


@pytest.mark.parametrize("host", ["[", "[::1", "a]b"])
def test_a_host_that_cannot_be_is_one_line(pages: httpx.Client, host: str, capfd: pytest.CaptureFixture[str]):
    answer = pages.get("/", headers={"Host": host})
    line = "the address or the header Host is not a URL\n"
    assert (answer.status_code, answer.text) == (400, line)
    assert capfd.readouterr().err == f"servescope: /: 400: {line}"


def test_a_bug_is_an_answer_and_a_line_and_other_pages_stay(
    pages: httpx.Client, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    def planted(*args: object) -> str:
        raise KeyError("planted\nhere")

    monkeypatch.setattr(opening, "opening_start", planted)
    answer = pages.get("/d/servescope-slo")
    line = "internal error: KeyError: 'planted\\nhere'\n"
    assert (answer.status_code, answer.text) == (500, line)
    assert capfd.readouterr().err == f"servescope: /d/servescope-slo: 500: {line}"
    assert pages.get("/d/servescope-slo?from=now-1h").status_code == 200


@pytest.mark.parametrize(
    ("refresh", "seconds"), [("1d", 86400), ("5m", 300), ("", 0), ("often", 0), ("m", 0), ("9" * 5000 + "s", 0)]
)
def test_a_refresh_that_is_no_duration_is_never(refresh: str, seconds: int):
    assert preview._seconds(refresh) == seconds


def test_an_unreachable_prometheus_is_one_line(answers: Answers):
    gone = f"http://127.0.0.1:{free_port()}"
    with (
        Prometheus(gone) as prometheus,
        preview.serve(prometheus, port=0, folder=None, settings=Settings()) as server,
        running(server) as address,
    ):
        answer = httpx.get(f"http://{address}/d/servescope-slo", timeout=30)
    assert answer.status_code == 502
    assert answer.text.startswith(f"{gone}: Prometheus is unreachable (")
    assert answer.text.count("\n") == 1


def test_a_taken_port_is_one_line(answers: Answers):
    port = answers.server.server_address[1]
    result = CliRunner().invoke(app, ["preview", "--prometheus", answers.url, "--port", str(port)])
    assert isinstance(result.exception, ServescopeError)
    assert str(result.exception).startswith(f"port {port}: cannot listen (")


@pytest.mark.parametrize(
    ("age_s", "start", "says"),
    [
        (20, "now-5m", "the last 5 minutes"),
        (240, "now-5m", "the last 5 minutes"),
        (400, "now-15m", "the last 15 minutes"),
        (1000, "now-30m", "the last 30 minutes"),
        (1900, "now-1h", ""),
        (10**6, "now-1h", ""),
        (-60, "now-1h", ""),  # a store without `up`
    ],
)
def test_a_page_opens_on_the_time_that_has_data(
    pages: httpx.Client, answers: Answers, age_s: float, start: str, says: str
):
    answers.up_since = time.time() - age_s
    page = pages.get("/d/servescope-overview").text
    assert f'<input name="from" value="" placeholder="{start}"' in page
    assert re.findall(r'class="range">([^:]*): Prometheus has no older samples<', page) == [says][: bool(says)]
    figures = pages.get(rows_of(page)[1]).json()["plots"]
    (width,) = {f["dt"] * (f["n"] - 1) for f in figures.values() if "t0" in f}
    assert abs(width / 1000 - {"5m": 300, "15m": 900, "30m": 1800, "1h": 3600}[start[4:]]) <= 15
    # The next dashboard chooses again: it may be opened when there is more.
    assert 'href="/d/servescope-cluster"' in page


def test_a_row_has_the_range_of_its_page_also_when_there_is_more_by_then(pages: httpx.Client, answers: Answers):
    answers.up_since = time.time() - 290
    row = rows_of(pages.get("/d/servescope-overview").text)[1]
    answers.up_since -= 1000
    assert {f["dt"] * (f["n"] - 1) for f in pages.get(row).json()["plots"].values() if "t0" in f} == {300_000}


@pytest.mark.parametrize("query", ["from=now-1h", "from=now-1h&to=now", "to=now"])
def test_a_range_that_is_asked_for_wins(pages: httpx.Client, answers: Answers, query: str):
    answers.up_since = time.time() - 60
    page = pages.get(f"/d/servescope-overview?{query}").text
    assert 'name="from" value="now-1h"' in page
    assert "older samples" not in page
    assert 'href="/d/servescope-cluster?from=now-1h&amp;to=now"' in page
    assert "count(up)" not in answers.expressions


def test_a_form_that_was_left_as_it_was_chooses_again(pages: httpx.Client, answers: Answers):
    answers.up_since = time.time() - 60
    page = pages.get("/d/servescope-overview?var-application=shop&from=&to=").text
    assert 'value="" placeholder="now-5m"' in page
    assert "<option selected>shop</option>" in page


@pytest.mark.parametrize(
    ("default", "age_s", "start"),
    [
        ("now-7d", 90_000, "now-2d"),
        ("now-7d", 3 * 86400, "now-7d"),
        ("now-10m", 400, "now-10m"),
        ("now-2m", 60, "now-2m"),
    ],
)
def test_the_range_is_never_longer_than_the_dashboards_own(answers: Answers, default: str, age_s: float, start: str):
    now = time.time()
    answers.up_since = now - age_s
    with Prometheus(answers.url) as prometheus:
        assert opening.opening_start(prometheus, default, now) == start
