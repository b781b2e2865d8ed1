"""A real backend of traces: Jaeger takes the Collector's OTLP and finds a request's trace by id, service and error."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from demo.stack.component import find
from demo.stack.ports import LOOPBACK
from tests.live.collector import Collector, provider
from tests.live.test_collector import send_request
from tests.support.servers import free_port
from tests.support.waiting import wait_for

BASE = 22200


class Jaeger:
    """A running Jaeger with its traces in memory."""

    def __init__(self, url: str, otlp: str) -> None:
        self.url = url
        self.otlp = otlp

    def ask(self, path: str, **parameters: str) -> list[Any]:
        """What its query API answers; nothing where it knows no such trace."""
        answer = httpx.get(f"{self.url}/api{path}", params=parameters, timeout=10)
        if answer.status_code == 404:
            return []
        assert answer.is_success, answer.text
        found: list[Any] = answer.json()["data"] or []
        return found

    def trace(self, trace_id: str) -> list[dict[str, Any]]:
        """The spans of a trace, by start, each with its tags and the name of its service."""
        spans = [
            span
            | {
                "service": trace["processes"][span["processID"]]["serviceName"],
                "tags": {tag["key"]: tag["value"] for tag in span["tags"]},
            }
            for trace in self.ask(f"/traces/{trace_id}")
            for span in trace["spans"]
        ]
        return sorted(spans, key=lambda span: span["startTime"])


@pytest.fixture(scope="module")
def jaeger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jaeger]:
    program = find("jaeger")
    if program is None or find("otelcol") is None:
        pytest.skip(
            "jaeger or otelcol is neither on the PATH nor below .tools/: make trace-backend builds them with Go"
        )
    ports = {name: free_port() for name in ("http", "grpc", "admin", "otlp", "otlp_http", "own_grpc", "own_http")}
    at = {name: f"{LOOPBACK}:{port}" for name, port in ports.items()}
    log = tmp_path_factory.mktemp("jaeger") / "log"
    arguments = [
        f"--query.http-server.host-port={at['http']}",
        f"--query.grpc-server.host-port={at['grpc']}",
        f"--admin.http.host-port={at['admin']}",
        f"--collector.otlp.grpc.host-port={at['otlp']}",
        f"--collector.otlp.http.host-port={at['otlp_http']}",
        f"--collector.grpc-server.host-port={at['own_grpc']}",
        f"--collector.http-server.host-port={at['own_http']}",
    ]
    with log.open("w") as file:
        process = subprocess.Popen(
            [program, *arguments],
            stdout=file,
            stderr=file,
            env={"SPAN_STORAGE_TYPE": "memory", "PATH": "/usr/bin:/bin"},
        )
    try:
        made = Jaeger(f"http://{at['http']}", at["otlp"])

        def ready() -> bool:
            assert process.poll() is None, log.read_text()[-2000:]
            try:
                return httpx.get(f"{made.url}/api/services", timeout=5).is_success
            except httpx.HTTPError:
                return False

        wait_for(ready, 60, lambda: log.read_text()[-1000:], pause_s=0.2)
        yield made
    finally:
        process.terminate()
        process.wait(20)


def test_jaeger_finds_a_request_by_trace_id_service_and_error(jaeger: Jaeger, tmp_path: Path):
    env = {"TRACES_TO": "[otlp_grpc/tempo]", "TEMPO_ENDPOINT": jaeger.otlp, "DECISION_WAIT": "1s"}
    with Collector(tmp_path / "data", BASE, env) as collector:
        replica_of = {"serve_application": "main", "serve_deployment": "chat/talk v1.5"}
        with (
            provider(collector.otlp, "serve-proxy") as proxy,
            provider(collector.otlp, "main.chat/talk v1.5", **replica_of) as replica,
        ):
            good = send_request(proxy, replica)
            failed = send_request(proxy, replica, code=500, error=ValueError("as asked"))
            left = send_request(proxy, replica, code=499, error=asyncio.CancelledError())
        wait_for(
            lambda: all(len(jaeger.trace(one)) == 3 for one in (good, failed, left)),
            40,
            lambda: f"{[len(jaeger.trace(one)) for one in (good, failed, left)]} {collector.log()[-500:]}",
            pause_s=0.5,
        )
    assert {"serve-proxy", "main.chat/talk v1.5"} <= set(jaeger.ask("/services"))

    def ids(service: str, **more: str) -> set[str]:
        return {
            trace["traceID"] for trace in jaeger.ask("/traces", service=service, lookback="1h", limit="100", **more)
        }

    for service in ("serve-proxy", "main.chat/talk v1.5"):
        assert ids(service) == {good, failed, left}
        assert ids(service, tags='{"error":"true"}') == {failed}
    root, router, handled = jaeger.trace(failed)
    assert (root["service"], root["operationName"], root["tags"]["http.response.status_code"]) == (
        "serve-proxy",
        "GET",
        500,
    )
    assert (router["tags"]["span.kind"], handled["tags"]["span.kind"]) == ("client", "server")
    assert (handled["service"], handled["tags"]["error.type"]) == ("main.chat/talk v1.5", "ValueError")
    assert not [span for span in jaeger.trace(left) if span["tags"].get("error")]
