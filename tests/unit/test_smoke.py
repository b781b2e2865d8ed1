"""The smoke test's checks: one world in which all is well, and for each check a world with one thing missing.

Serve, Prometheus, Alertmanager and the exporter run for real under the same checks in `make demo`; this server plays
them, and Grafana, Loki and Tempo by the documented shapes of their answers.
"""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import os
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from rich.console import Console

from demo import ROOT
from demo.smoke import checks, runner
from demo.smoke.backends import Addresses
from demo.smoke.checks import CHECKS
from demo.smoke.grafana import ThroughGrafana, frame_series
from servescope.dashboards import all_dashboards
from servescope.errors import ServescopeError
from servescope.report.queries import Window, panels_of
from servescope.settings import Settings
from tests.support.servers import running
from tests.support.trace_files import document

FRAME = {
    "schema": {
        "refId": "A",
        "fields": [
            {"name": "Time", "type": "time"},
            {"name": "Value", "type": "number", "labels": {"application": "ocr"}},
        ],
    },
    "data": {"values": [[1700000000000, 1700000015000], [None, 1.5]]},
}


def well() -> dict[str, Any]:
    """What each path answers where all is well."""
    boards = [{"uid": board.uid, "folderTitle": "servescope"} for board in all_dashboards(Settings(), recorded=True)]
    target = {"labels": {"job": "ray", "instance": "10.0.0.2:8080"}, "health": "up", "lastError": ""}
    vector = {"status": "success", "data": {"resultType": "vector", "result": []}}
    return {
        "/read": {"lines": ["bridgesilver"]},
        "/api/serve/applications/": {"applications": {"ocr": {"status": "RUNNING"}, "echo": {"status": "RUNNING"}}},
        "/api/v1/targets": {"data": {"activeTargets": [target]}},
        "/api/v1/rules": {
            "data": {"groups": [{"interval": 15, "rules": [{"name": "RayServeUnavailable", "health": "ok"}]}]}
        },
        "/api/v1/query": vector,
        "servescope_exporter_up": [({}, "1")],
        "probe_success": [({"instance": f"http://h:8000{path}"}, "1") for path in checks.PROBED],
        "sum(rate(ray_serve_num_http_requests_total[1m]))": [({}, "12.5")],
        "/api/v2/alerts": [{"labels": {"alertname": "ServescopeWatchdog"}}],
        "/api/search": [*boards, {"uid": "rayServeDashboard", "folderTitle": "Ray"}],
        "/api/dashboards/home": {"dashboard": {"title": "Ray Serve / Overview"}},
        **{f"/api/datasources/uid/{uid}/health": {"status": "OK"} for uid in ("prometheus", "loki", "tempo")},
        "/api/datasources/proxy/uid/alertmanager/api/v2/status": {"cluster": {"status": "disabled"}},
        "/api/ds/query": {"results": {"A": {"frames": [FRAME]}}},
        "labels": {"status": "success", "data": ["ocr", "echo"]},
        "/api/datasources/proxy/uid/tempo/api/traces": {
            "batches": [{"scopeSpans": [{"spans": [{"name": "POST /read"}, {"name": "GET"}]}]}]
        },
        "request_id": {"data": {"result": [{"values": [["1", "a line"], ["2", "another"]]}]}},
        "trace_id": {"data": {"result": [{"values": [["1", "a line"]]}]}},
    }


class World(ThreadingHTTPServer):
    """All components at one address."""

    def __init__(self, traces: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.traces = traces
        self.address = f"http://127.0.0.1:{self.server_address[1]}"
        self.says = well()
        self.headers: list[Any] = []
        self.asked: list[Any] = []


class Handler(BaseHTTPRequestHandler):
    server: World

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        says, query = self.server.says, parse_qs(url.query).get("query", [""])[0]
        if url.path == "/api/v1/query":
            answer = copy.deepcopy(says["/api/v1/query"])
            answer["data"]["result"] = [{"metric": labels, "value": [0, value]} for labels, value in says[query]]
        elif url.path.endswith("/loki/api/v1/query_range"):
            match = re.fullmatch(r'\{job="ray"\} \| (\w+) = "([\w-]+)"', query)
            assert match
            self.server.asked.append(match.groups())
            answer = says[match.group(1)]
        elif "/api/traces/" in url.path:
            path, _, trace_id = url.path.rpartition("/")
            self.server.asked.append(("trace", trace_id))
            answer = says[path]
        elif url.path.startswith("/api/datasources/uid/prometheus/resources/api/v1/label/"):
            answer = says["labels"]
        else:
            answer = says.get(url.path, 404)
        self._answer(answer)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/read":
            self.server.headers.append(self.headers)
            trace_id = self.headers["traceparent"].split("-")[1]
            (self.server.traces / "traces.json").write_text(document(trace_id, "a1") + "\n")
        else:
            self.server.asked.append(json.loads(body))
        self._answer(self.server.says[self.path])

    def _answer(self, answer: Any) -> None:
        code, text = (answer, "no") if isinstance(answer, int) else (200, json.dumps(answer))
        self.send_response(code)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    server = World(tmp_path)
    with running(server):
        yield server


def everything(world: World) -> Addresses:
    at, proxy = world.address, f"{world.address}/api/datasources/proxy/uid"
    return Addresses(
        serve=at,
        ray=at,
        prometheus=at,
        alertmanager=at,
        grafana=at,
        loki=f"{proxy}/loki",
        tempo=f"{proxy}/tempo",
        exporter=True,
        blackbox=True,
        load=True,
        trace_files=world.traces,
    )


def missing(world: World, *components: str) -> list[str]:
    """What the checks of some components miss; those of Grafana ask much, so only where they are meant."""
    wanted = [check for check in CHECKS if check.component in components]
    return runner.report_results(runner.run_checks(everything(world), 0, wanted), Console(file=io.StringIO()))


def test_all_is_well(world):
    results = runner.run_checks(everything(world), 0)
    assert [result.check for result in results] == list(CHECKS)
    assert [result.detail for result in results if not result.found] == []
    details = {result.check.what: result.detail for result in results}
    assert details["applications are RUNNING"] == "echo, ocr"
    spans = {r.check.component: r.detail for r in results if r.check.what == "the request's trace"}
    assert spans == {"tempo": "2 spans", "collector": "1 spans"}
    assert details["its lines by request id"] == "2 lines"
    assert details["requests arrive"] == "12.5 requests per second"


def test_the_backends_are_asked_for_the_very_request(world):
    runner.run_checks(everything(world), 0)
    (headers,) = world.headers
    version, trace_id, parent, flags = headers["traceparent"].split("-")
    assert (version, flags) == ("00", "01")
    assert re.fullmatch("[0-9a-f]{32}", trace_id)
    assert re.fullmatch("[0-9a-f]{16}", parent)
    # Within the smallest share that the Collector could keep: it compares the last seven digits.
    assert int(trace_id[-7:], 16) == 1
    asked = [question for question in world.asked if isinstance(question, tuple)]
    assert asked == [("trace", trace_id), ("request_id", headers["X-Request-ID"]), ("trace_id", trace_id)]


def test_a_trace_that_is_not_in_the_collectors_files(world, tmp_path):
    empty = tmp_path / "other"
    empty.mkdir()
    addresses = dataclasses.replace(everything(world), trace_files=empty)
    complaints = runner.report_results(runner.run_checks(addresses, 0), Console(file=io.StringIO()))
    (complaint,) = complaints
    assert complaint.startswith("collector: ")
    (empty / "traces.json").write_text(document("f" * 32, "a1") + "\n")
    (complaint,) = runner.report_results(runner.run_checks(addresses, 0), Console(file=io.StringIO()))
    trace_id = world.headers[-1]["traceparent"].split("-")[1]
    assert complaint == f"collector: trace {trace_id} is not in {empty}"


def test_every_panel_query_goes_through_grafana(world):
    runner.run_checks(everything(world), 0)
    every = [query for asked in world.asked if isinstance(asked, dict) for query in asked["queries"]]
    # The application and the deployment that a dashboard of one deployment opens on, at each round of questions.
    variables = [query for query in every if query["expr"].startswith("sort_desc(")]
    queries = [query for query in every if query not in variables]
    assert (len(variables) > 0, len(variables) % 2) == (True, 0)
    boards = [board.to_json() for board in all_dashboards(Settings(), recorded=True) if board.uid in checks.PANELS_OF]
    wanted = Counter(
        t["datasource"]["type"] for b in boards for panel in panels_of(b) for t in panel.get("targets", [])
    )
    # A search for traces is not asked by Grafana's query API: the page asks Tempo itself, through Grafana's proxy.
    assert wanted.pop("tempo") > 0
    assert Counter(query["datasource"]["type"] for query in queries) == wanted
    assert wanted["prometheus"] > 40
    assert wanted["loki"] > 0
    assert all(query["datasource"]["uid"] == query["datasource"]["type"] for query in queries)
    assert not [query["expr"] for query in queries if re.search(r"\$[a-zA-Z_{]", query["expr"])]


@pytest.mark.parametrize(
    ("path", "answer", "first"),
    [
        ("/api/serve/applications/", {"applications": {}}, "ray: no application is deployed"),
        (
            "/api/serve/applications/",
            {"applications": {"ocr": {"status": "DEPLOYING"}}},
            "ray: application ocr is DEPLOYING",
        ),
        ("/read", 503, "serve: /read returned 503: no"),
        ("/read", {"lines": ["something else"]}, "serve: /read returned ['something else'], expected"),
        ("sum(rate(ray_serve_num_http_requests_total[1m]))", [({}, "0")], "load: Prometheus sees no requests"),
        ("/api/v1/targets", {"data": {"activeTargets": []}}, "prometheus: Prometheus has no Ray targets"),
        (
            "/api/v1/targets",
            {
                "data": {
                    "activeTargets": [
                        {"labels": {"job": "ray", "instance": "h:1"}, "health": "up", "lastError": ""},
                        {"labels": {"job": "loki", "instance": "h:2"}, "health": "down", "lastError": "refused"},
                    ]
                }
            },
            "prometheus: target loki h:2 is down: refused",
        ),
        ("/api/v1/rules", {"data": {"groups": []}}, "prometheus: Prometheus has no rules"),
        (
            "/api/v1/rules",
            {
                "data": {
                    "groups": [
                        {"interval": 240, "rules": [{"name": "r", "health": "err", "lastError": "no such function"}]}
                    ]
                }
            },
            "prometheus: rule r is err: no such function",
        ),
        ("servescope_exporter_up", [], "exporter: Prometheus has no servescope_exporter_up"),
        ("servescope_exporter_up", [({}, "0")], "exporter: servescope_exporter_up is 0"),
        ("probe_success", [({"instance": "http://h/-/healthz"}, "1")], "blackbox: Prometheus has no probe_success of"),
        (
            "probe_success",
            [({"instance": "http://h/-/healthz"}, "1"), ({"instance": "http://h/-/routes"}, "0")],
            "blackbox: the probe of http://h/-/routes fails",
        ),
        ("/api/v2/alerts", [], "alertmanager: Alertmanager has not received ServescopeWatchdog"),
        ("/api/search", [], "grafana: Grafana has no dashboard servescope-"),
        ("/api/dashboards/home", {"dashboard": {"title": "Welcome"}}, "grafana: the overview is not the home page"),
        (
            "/api/datasources/uid/loki/health",
            {"status": "ERROR", "message": "no route to host"},
            "grafana: data source loki: no route to host",
        ),
        ("/api/datasources/proxy/uid/alertmanager/api/v2/status", 502, "grafana: http://127.0.0.1:"),
        ("/api/ds/query", {"results": {"A": {"frames": []}}}, "grafana: Ray Serve / Overview: no data in "),
        ("/api/ds/query", {"results": {"A": {"error": "bad query"}}}, "grafana: http://127.0.0.1:"),
        ("/api/ds/query", 500, "grafana: http://127.0.0.1:"),
        ("/api/datasources/proxy/uid/tempo/api/traces", 404, "tempo: http://127.0.0.1:"),
        ("/api/datasources/proxy/uid/tempo/api/traces", {"batches": []}, "tempo: trace "),
        ("request_id", {"data": {"result": []}}, "loki: Loki has no line with request_id "),
        ("trace_id", {"data": {"result": []}}, "loki: Loki has no line with trace_id "),
    ],
)
def test_what_is_missing_is_reported(path, answer, first, world):
    assert path in world.says
    world.says[path] = answer
    found = missing(world, "serve", first.partition(":")[0])
    assert found[0].startswith(first)
    assert "\n" not in found[0]


def test_rays_own_boards_are_missed(world):
    world.says["/api/search"] = world.says["/api/search"][:-1]
    assert missing(world, "grafana") == ["grafana: Grafana has no dashboard in the folder Ray"]


def test_without_a_request_nobody_is_asked_for_it(world):
    world.says["/read"] = 503
    found = missing(world, "serve", "tempo", "loki")
    assert found[1:] == ["tempo: no request has completed"] + 2 * ["loki: no request has completed"]


def test_it_waits_for_what_comes_later(world):
    world.says["/api/v2/alerts"] = []
    timer = threading.Timer(1, world.says.update, [{"/api/v2/alerts": well()["/api/v2/alerts"]}])
    timer.start()
    try:
        wanted = [check for check in CHECKS if check.component in ("serve", "alertmanager")]
        results = runner.run_checks(everything(world), 60, wanted)
    finally:
        timer.join()
    assert all(result.found for result in results)
    assert len(world.headers) == 1, "what was found is not asked for again"


def test_components_that_do_not_run_are_left_out(world):
    results = runner.run_checks(Addresses(serve=world.address, ray=world.address, prometheus=world.address), 0)
    assert {result.check.component for result in results} == {"ray", "serve", "prometheus"}
    assert all(result.found for result in results)


def test_dashboards_without_a_log_line_are_reported(world):
    world.says["/api/ds/query"] = {"results": {"A": {"frames": []}}}
    assert re.search(r"grafana: none of \d+ Loki queries returned a line", "\n".join(missing(world, "grafana")))


def test_a_frame_becomes_series():
    assert frame_series(FRAME) == [
        {"metric": {"application": "ocr"}, "values": [[1700000000.0, "NaN"], [1700000015.0, "1.5"]]}
    ]
    assert frame_series({"schema": {"fields": []}, "data": {"values": []}}) == []


def test_queries_have_the_range_and_step_that_are_asked_for(world):
    window = Window(1000.0, 1300.0, step_s=15, scrape_interval_s=15)
    with ThroughGrafana(world.address) as grafana:
        grafana.query_range("up", start=window.start, end=window.end, step_s=window.step_s)
        assert grafana.query("up", 1300.0) == [{"metric": {"application": "ocr"}, "value": [1700000015.0, "1.5"]}]
    ranged, instant = world.asked
    assert (ranged["from"], ranged["to"]) == ("1000000", "1300000")
    assert ranged["queries"][0]["interval"] == "15s"
    assert ranged["queries"][0]["range"] is True
    assert (instant["to"], instant["queries"][0]["instant"]) == ("1300000", True)


def test_a_grafana_that_is_gone_is_called_by_its_name():
    gone = "http://127.0.0.1:9"
    with (
        ThroughGrafana(gone) as grafana,
        pytest.raises(ServescopeError, match=f"^{gone}: Grafana is unreachable \\("),
    ):
        grafana.label_values("application", None, start=0, end=60)


def command_line(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "demo.smoke"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def test_the_command_line(world):
    names = ("GRAFANA", "SERVE", "RAY", "PROMETHEUS", "ALERTMANAGER")
    urls = {f"{name}_URL": world.address for name in names}
    done = command_line(SMOKE_SECONDS="0", **urls)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count(" ok ") == sum("trace_files" not in check.needs for check in CHECKS)
    world.says["/api/v2/alerts"] = []
    done = command_line(SMOKE_SECONDS="0", **urls)
    assert done.returncode == 1
    assert done.stderr.startswith("smoke: alertmanager: ")
    assert done.stdout.count("MISSING") == 1


def test_nothing_runs():
    at = "http://127.0.0.1:9"
    done = command_line(
        SMOKE_SECONDS="0", GRAFANA_URL=at, SERVE_URL=at, RAY_URL=at, PROMETHEUS_URL=at, ALERTMANAGER_URL=at
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"smoke: ray: {at}/api/serve/applications/ is unreachable")
    assert len(done.stderr.splitlines()) == 1


def test_a_time_that_is_none():
    done = command_line(SMOKE_SECONDS="long")
    assert (done.returncode, done.stderr) == (1, "smoke: SMOKE_SECONDS: expected seconds, got 'long'\n")
