"""Counts of a minute that are summed must hold each event once, also where a scrape takes its time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from mirakuru import HTTPExecutor

from demo.stack.ports import LOOPBACK
from servescope.files import write_all
from servescope.generate import slo_rule_files
from servescope.rules.slo.objectives import Slo
from servescope.settings import Settings
from tests.support.servers import free_port, running
from tests.support.waiting import wait_for

SCALE = 12  # the minute is five seconds, the scrape interval of 15 s is 1.25 s
SCRAPE_S = 0.8  # how long a scrape takes: most evaluations fall into one
MINUTES = 6
COUNTER = 'ray_serve_num_http_requests_total{application="shop"}'
COUNTED = "serve_slo:requests:events1m"


class _Busy(BaseHTTPRequestHandler):
    """Fifty requests a second, reported after a while."""

    started = time.monotonic()

    def do_GET(self) -> None:
        requests = int(50 * (time.monotonic() - self.started)) + 1
        labels = 'application="shop",route="/",status_code="200"'
        body = f"ray_serve_num_http_requests_total{{{labels}}} {requests}\n".encode()
        time.sleep(SCRAPE_S)  # what is tested is a slow target, not a wait for something
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[str]:
    """A Prometheus that scrapes the busy target and evaluates the SLO's rules, both faster than in life."""
    slo = Slo(name="shop", application="shop", availability=0.99)
    write_all({tmp_path / path: text for path, text in slo_rule_files(Settings(), [slo], SCALE).items()})
    with running(ThreadingHTTPServer((LOOPBACK, 0), _Busy)) as target:
        job = {"job_name": "ray", "static_configs": [{"targets": [target], "labels": {"ray_io_cluster": "a"}}]}
        scrapes = {"scrape_interval": "1250ms", "scrape_timeout": "1250ms"}
        config = {"global": scrapes, "rule_files": [str(tmp_path / "servescope-slo.yml")], "scrape_configs": [job]}
        (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
        address = f"{LOOPBACK}:{free_port()}"
        command = [
            "prometheus",
            f"--config.file={tmp_path / 'prometheus.yml'}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address={address}",
            "--log.level=error",
        ]
        with HTTPExecutor(command, url=f"http://{address}/-/ready", timeout=60):
            yield f"http://{address}"


def test_the_counts_of_successive_minutes_add_up_to_the_counter(prometheus):
    def asked(expression: str, at: float) -> list[dict[str, Any]]:
        answer = httpx.get(f"{prometheus}/api/v1/query", params={"query": expression, "time": at}).raise_for_status()
        return answer.json()["data"]["result"]

    def counts() -> list[tuple[float, str]]:
        return [sample for series in asked(f"{COUNTED}[10m]", time.time()) for sample in series["values"]]

    wait_for(lambda: len(counts()) > MINUTES, 120, lambda: f"{len(counts())} evaluations")
    (began, _), *minutes = counts()
    interval, late = 60 / SCALE, 15 / SCALE

    def counter(at: float) -> float:
        (series,) = asked(f"last_over_time({COUNTER}[{interval:g}s])", at - late)
        return float(series["value"][1])

    assert sum(float(value) for _, value in minutes) == counter(minutes[-1][0]) - counter(began)
