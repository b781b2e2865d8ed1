"""A real Loki as it ships: both agents fill it, and every LogQL expression of the dashboards runs on it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from demo import ROOT
from demo.stack.component import find
from servescope.cli import app
from servescope.dashboards import all_dashboards
from servescope.grafana.templating import Interpolation
from servescope.settings import Settings
from tests.drill.logs.agents import place_below
from tests.support.backfilled_prometheus import BackfilledPrometheus
from tests.support.servers import free_port
from tests.support.waiting import wait_for

REQUEST = "6fb59f3a-d471-4f5e-b0d2-0a50e8b47086"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
EVERYTHING = '{job="ray"}'
CHOSEN = {
    **{"cluster": "test", "application": "main", "deployment": "(Gateway|Scaler)", "request_id": REQUEST},
    **{"__interval": "15s", "__range": "600s"},
}


def line(level: str, message: str, **fields: Any) -> str:
    now = time.time_ns()
    asctime = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(now / 1e9)) + ",000"
    return json.dumps({"asctime": asctime, "levelname": level, "message": message, "timestamp_ns": now} | fields) + "\n"


def replica(name: str) -> dict[str, str]:
    return {"actor_name": f"SERVE_REPLICA::main#{name}#abc", "deployment": f"main_{name}", "replica": "abc"}


def write_logs(logs: Path) -> None:
    """One request from the proxy through two deployments, in which one fails; a scaling; a complaint of the raylet."""
    serve = logs / "serve"
    serve.mkdir(parents=True)
    ids = {"request_id": REQUEST, "route": "/embed", "trace_id": TRACE, "span_id": "00f067aa0ba902b7"}
    (serve / "proxy_192.0.2.2.log").write_text(
        line("INFO", "GET /embed 500 1300.5ms", component_name="proxy", **ids) + line("INFO", "Got updated endpoints")
    )
    (serve / "replica_main_Gateway_abc.log").write_text(
        line("WARNING", "Request dropped due to backpressure (num_queued_requests=4).", **replica("Gateway"), **ids)
        + line("INFO", "GET /embed 500 1290.1ms", **replica("Gateway"), **ids)
    )
    (serve / "replica_main_Scaler_abc.log").write_text(
        line(
            "ERROR",
            "Request failed.",
            exc_text="Traceback (most recent call last):\n  1 / 0",
            **replica("Scaler"),
            **ids,
        )
        + line("ERROR", "worker 17 failed at 0x7f0dc37a1a50", **replica("Scaler"))
        + line("ERROR", "worker 18 failed at 0x7f0dc37a1b60", **replica("Scaler"))
    )
    (serve / "controller_1.log").write_text(
        line(
            "INFO", "Upscaling Deployment(name='Scaler', app='main') from 1 to 3 replicas.", component_name="controller"
        )
    )
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
    (logs / "raylet.out").write_text(f"[{stamp},000 W 1 2] (raylet) store.cc:366: Disconnecting client\n")


@pytest.fixture(params=["fluent-bit", "otelcol"])
def loki(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[httpx.Client]:
    """A Loki that one of the agents has filled."""
    missing = [program for program in ("loki", request.param) if find(program) is None]
    if missing:
        pytest.skip(f"neither on the PATH nor below .tools/: {', '.join(missing)}; see docs/logs.md")
    port = free_port()
    env = {
        **os.environ,
        "LOKI_DATA": str(tmp_path / "loki"),
        "LOKI_PORT": str(port),
        "LOKI_GRPC_PORT": str(free_port()),
    }
    (tmp_path / "loki").mkdir()
    command = [str(find("loki")), f"-config.file={ROOT / 'loki/loki.yml'}", "-config.expand-env=true"]
    with (
        (tmp_path / "loki.log").open("w") as log,
        subprocess.Popen(command, env=env, stdout=log, stderr=log) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
        place_below(tmp_path / "place") as place,
    ):
        try:

            def ready() -> bool:
                assert process.poll() is None, (tmp_path / "loki.log").read_text()[-2000:]
                try:
                    return client.get("/ready").is_success
                except httpx.HTTPError:
                    return False

            wait_for(ready, 60, lambda: "Loki is not ready", pause_s=0.5)
            write_logs(place.logs())
            sends_to = {"LOGS_PORT": str(port), "LOGS_ENDPOINT": f"http://127.0.0.1:{port}/otlp"}
            with place.agent(request.param, env=sends_to) as agent:

                def arrived() -> bool:
                    agent.watch()
                    return sum(len(s["values"]) for s in query(client, EVERYTHING)) == 9

                wait_for(arrived, 40, lambda: f"not 9 lines: {query(client, EVERYTHING)}", pause_s=0.5)
            yield client
        finally:
            process.terminate()


def query(client: httpx.Client, expression: str, *, instant: bool = False) -> list[dict[str, Any]]:
    now = time.time_ns()
    parameters: dict[str, Any] = {"query": expression, "limit": 1000}
    parameters |= {"time": now} if instant else {"start": now - 600 * 10**9, "end": now, "step": "15s"}
    response = client.get(f"/loki/api/v1/{'query' if instant else 'query_range'}", params=parameters)
    assert response.is_success, f"{expression}: {response.text}"
    result: list[dict[str, Any]] = response.json()["data"]["result"]
    return result


def test_every_panel_is_answered_and_a_request_is_found_across_proxy_and_replicas(loki):
    streams = query(loki, EVERYTHING)
    labels = loki.get("/loki/api/v1/labels").json()["data"]
    assert set(labels) == {
        "job",
        "cluster",
        "node",
        "component",
        "application",
        "deployment",
        "level",
    }
    assert {stream["stream"]["cluster"] for stream in streams} == {"test"}
    empty = []
    for board in all_dashboards(Settings()):
        for panel in board.panels:
            for target in panel.log_queries:
                if not query(loki, Interpolation({}, CHOSEN).promql(target.expr), instant=target.instant):
                    empty.append(f"{board.uid} / {panel.title}: {target.expr}")
    assert empty == []

    (panel,) = [p for board in all_dashboards(Settings()) for p in board.panels if p.title == "Log lines by request ID"]
    found = query(loki, Interpolation({}, CHOSEN).promql(panel.log_queries[0].expr))
    told = {(s["stream"]["component"], s["stream"].get("deployment")): s["stream"] for s in found}
    assert set(told) == {("serve_proxy", None), ("serve_replica", "Gateway"), ("serve_replica", "Scaler")}
    assert {stream["trace_id"] for stream in told.values()} == {TRACE}
    assert sum(len(stream["values"]) for stream in found) == 4

    patterns = [p for board in all_dashboards(Settings()) for p in board.panels if p.title == "Error patterns"]
    counted = query(loki, Interpolation({}, CHOSEN).promql(patterns[0].log_queries[0].expr), instant=True)
    assert {(s["metric"]["text"], s["value"][1]) for s in counted} == {
        ("worker <n> failed at <address>", "2"),
        ("Request failed.", "1"),
        ("Request dropped due to backpressure (num_queued_requests=<n>).", "1"),
    }


def test_the_snapshot_holds_the_lines_of_a_request(loki, tmp_path):
    output = tmp_path / "incident.html"
    asks = ("--loki", str(loki.base_url), "--loki-query", f'{EVERYTHING} | request_id="{REQUEST}"')
    (tmp_path / "prometheus").mkdir()
    with BackfilledPrometheus(tmp_path / "prometheus").server() as prometheus:
        result = CliRunner().invoke(app, ["snapshot", "-p", prometheus, "-d", "slo", *asks, "-o", str(output)])
    assert result.exit_code == 0, result.exception
    _, _, logs = output.read_text().partition('id="logs"')
    found = re.findall(r"<em>(\w*)</em> <span>(.*?)</span> <code>(.*?)</code>", logs, re.DOTALL)
    assert sorted((level, source, text.splitlines()[0]) for level, source, text in found) == [
        ("ERROR", "main/Scaler", "Request failed."),
        ("INFO", "main/Gateway", "GET /embed 500 1290.1ms"),
        ("INFO", "serve_proxy", "GET /embed 500 1300.5ms"),
        ("WARNING", "main/Gateway", "Request dropped due to backpressure (num_queued_requests=4)."),
    ]
