"""A real backend: VictoriaLogs takes what both agents send, by Loki's push protocol and OTLP, and refuses nothing."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from demo.stack.component import find
from tests.drill.logs.agents import place_below
from tests.support.log_cases import cases, loggers, planted_secrets, write_cases
from tests.support.servers import free_port
from tests.support.waiting import wait_for

REQUEST = "6fb59f3a-d471-4f5e-b0d2-0a50e8b47086"
LINES = 500
STREAM = "job,cluster,node,component,application,deployment,level"
# The table's times are of other years than a store keeps: these lines are of now.
PRINTED = [*cases("applications.yaml"), *loggers()]


def serve_line(number: int) -> str:
    now = time.time_ns()
    level = "ERROR" if number % 10 == 0 else "INFO"
    fields = {
        "levelname": level,
        "message": f"call n={number}",
        "request_id": f"{REQUEST}-{number // 5}",
        "actor_name": "SERVE_REPLICA::my_app#My:Model#abcdefgh",
        "detail": {"number": number, "tags": ["a", "b"], "password": "planted-S3cr3t"},
        "event": f"user {number} came",
        "timestamp_ns": now,
    }
    return json.dumps(fields)


class Store:
    """A running VictoriaLogs."""

    def __init__(self, url: str) -> None:
        self.url = url

    def found(self, query: str) -> list[dict[str, Any]]:
        """The records that a LogsQL query selects."""
        answer = httpx.post(f"{self.url}/select/logsql/query", data={"query": query, "limit": "100000"}, timeout=30)
        assert answer.is_success, f"{query}: {answer.text}"
        return [json.loads(line) for line in answer.text.splitlines()]

    def dropped(self) -> float:
        """How many rows it has refused, for whatever reason."""
        text = httpx.get(f"{self.url}/metrics", timeout=10).text
        rows = [
            line for line in text.splitlines() if line.startswith(("vl_rows_dropped_total", "vl_http_errors_total"))
        ]
        return sum(float(line.rsplit(" ", 1)[1]) for line in rows)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    program = find("victoria-logs")
    if program is None:
        pytest.skip("victoria-logs is neither on the PATH nor below .tools/: scripts/setup.sh victorialogs builds it")
    port = free_port()
    command = [
        program,
        f"-storageDataPath={tmp_path / 'data'}",
        f"-httpListenAddr=127.0.0.1:{port}",
        "-retentionPeriod=100y",
        "-futureRetention=100y",
    ]
    with (tmp_path / "store.log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        made = Store(f"http://127.0.0.1:{port}")

        def up() -> bool:
            assert process.poll() is None, (tmp_path / "store.log").read_text()[-2000:]
            try:
                return httpx.get(f"{made.url}/health", timeout=5).is_success
            except httpx.HTTPError:
                return False

        try:
            wait_for(up, 60, lambda: "VictoriaLogs does not answer", pause_s=0.2)
            yield made
        finally:
            process.terminate()


@pytest.mark.parametrize("kind", ["fluent-bit", "fluent-bit-otlp", "otelcol"])
def test_every_record_is_found_again(kind, store, tmp_path):
    program = "otelcol" if kind == "otelcol" else "fluent-bit"
    if find(program) is None:
        pytest.skip(f"{program} is neither on the PATH nor below .tools/: see docs/logs.md for where to get it")
    with place_below(tmp_path / "place") as place:
        write_cases(PRINTED, place.tmp)
        secrets = place.logs(1) / "worker-0d3a-01000000-18790.out"
        secrets.parent.mkdir(parents=True)
        secrets.write_text("".join(f"{line}\n" for line, _ in planted_secrets()))
        lines = place.serve_file(name="replica_my_app_My_Model_abcdefgh.log")
        lines.parent.mkdir(parents=True)
        lines.write_text("".join(f"{serve_line(number)}\n" for number in range(LINES)))
        wanted = LINES + len(planted_secrets()) + sum(len(case.records) for case in PRINTED if kind not in case.not_by)
        port = store.url.rsplit(":", 1)[1]
        agent = place.agent(
            kind, env={"LOGS_PORT": port, "LOGS_ENDPOINT": f"{store.url}/insert/opentelemetry", **paths(kind)}
        )
        with agent:

            def came() -> bool:
                agent.watch()
                return len(store.found("*")) >= wanted

            wait_for(came, 90, lambda: f"{len(store.found('*'))} of {wanted}", pause_s=1)
        assert store.dropped() == 0
        records = store.found("*")
        more = sum(len(case.records) for case in PRINTED if kind in case.not_by)
        assert wanted <= len(records) <= wanted + more
        assert len(store.found(f'request_id:="{REQUEST}-7"')) == 5
        assert len(store.found('application:="my_app" deployment:="My:Model"')) == LINES
        assert len(store.found('application:="my_app" level:="ERROR"')) == LINES / 10
        assert not any(secret in json.dumps(record) for _, secret in planted_secrets() for record in records)


def paths(kind: str) -> dict[str, str]:
    """The addresses of VictoriaLogs below which it takes the two protocols."""
    return {
        "LOKI_URI": f"/insert/loki/api/v1/push?_stream_fields={STREAM}",
        "OTLP_URI": "/insert/opentelemetry/v1/logs",
    }
