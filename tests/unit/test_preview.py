"""The preview's pages: on loopback only, for reading only, one round of queries at a time, clear where it cannot."""

from __future__ import annotations

import json
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

from servescope import preview
from servescope.cli import app
from servescope.errors import ServescopeError
from servescope.evaluate import Prometheus
from servescope.settings import Settings
from tests.running import free_port, running

QUERIES_OF_A_PAGE = 4  # that `snapshot.collect` sends at once


class Answers:
    """A server with the API of Prometheus that answers every query with one series, and notes what it is asked."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.expressions: list[str] = []
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
                if path == "/api/v1/query":
                    return {"resultType": "vector", "result": [{"metric": metric, "value": [time.time(), "7"]}]}
                if path == "/api/v1/query_range":
                    if asked["query"] == ["ALERTS"]:
                        return {"resultType": "matrix", "result": []}
                    values = [[float(asked[name][0]), "7"] for name in ("start", "end")]
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
        preview.serve(prometheus, 0, None, Settings()) as server,
        running(server) as address,
        httpx.Client(base_url=f"http://{address}", timeout=30) as client,
    ):
        yield client


def test_it_listens_on_loopback_only(pages: httpx.Client):
    port = pages.base_url.port
    own = [c for c in psutil.Process().net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    assert [c.laddr.ip for c in own if c.laddr.port == port] == ["127.0.0.1"]


def test_the_first_page_is_the_overview_with_figures_links_and_choices(pages: httpx.Client):
    moved = pages.get("/")
    assert (moved.status_code, moved.headers["location"]) == (302, "/d/servescope-overview")
    page = pages.get("/d/servescope-overview?from=now-15m&var-application=shop")
    assert page.status_code == 200
    assert "<b>7 req/s</b>" in page.text
    assert "<option selected>shop</option>" in page.text
    assert 'href="/d/servescope-cluster?from=now-15m&amp;to=now"' in page.text
    assert pages.get("/plotly.js").text.startswith("/**")


def test_a_chosen_value_reaches_prometheus(pages: httpx.Client, answers: Answers):
    pages.get("/d/servescope-overview?var-application=sh.op")
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


def test_queries_of_two_pages_do_not_overlap_and_a_page_is_given_again(pages: httpx.Client, answers: Answers):
    with ThreadPoolExecutor(6) as pool:
        uids = ["servescope-slo", "servescope-cluster"] * 3
        found = list(pool.map(lambda uid: pages.get(f"/d/{uid}").status_code, uids))
    assert found == [200] * 6
    assert answers.most <= QUERIES_OF_A_PAGE
    # Of the six requests two asked Prometheus: the others got what these had made.
    assert answers.paths.count("/api/v1/rules") == 2


def test_a_foreign_name_for_loopback_gets_nothing(pages: httpx.Client):
    assert pages.get("/d/servescope-slo", headers={"Host": "evil.example:80"}).status_code == 403


@pytest.mark.parametrize("path", ["/d/servescope-nothing", "/etc/passwd", "/d/"])
def test_other_addresses_are_not_found(pages: httpx.Client, path: str):
    assert pages.get(path).status_code == 404


def test_a_bad_range_is_one_line(pages: httpx.Client):
    answer = pages.get("/d/servescope-slo?from=yesterday")
    assert answer.status_code == 502
    assert answer.text.count("\n") == 1
    assert "yesterday" in answer.text


def test_an_unreachable_prometheus_is_one_line(answers: Answers):
    gone = f"http://127.0.0.1:{free_port()}"
    with (
        Prometheus(gone) as prometheus,
        preview.serve(prometheus, 0, None, Settings()) as server,
        running(server) as address,
    ):
        answer = httpx.get(f"http://{address}/d/servescope-slo", timeout=30)
    assert answer.status_code == 502
    assert answer.text.startswith(f"{gone}: Prometheus does not answer (")
    assert answer.text.count("\n") == 1


def test_a_taken_port_is_one_line(answers: Answers):
    port = answers.server.server_address[1]
    result = CliRunner().invoke(app, ["preview", "--prometheus", answers.url, "--port", str(port)])
    assert isinstance(result.exception, ServescopeError)
    assert str(result.exception).startswith(f"port {port}: cannot listen there (")
