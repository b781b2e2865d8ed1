"""`python -m demo.deploy` against a small HTTP server that answers as Serve's REST API does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from mirakuru import HTTPExecutor

from demo import ROOT
from demo.deploy import Head, configuration, missing, scraped
from servescope.errors import ServescopeError
from tests.support.backfilled_prometheus import BackfilledPrometheus
from tests.support.recording_server import recording_server
from tests.support.servers import free_port, running

CONFIG = ROOT / "demo/serve_config.yaml"


class Api(ThreadingHTTPServer):
    """A head: what was deployed, and what it says of it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.applications: dict[str, dict[str, str]] = {}
        self.received: list[dict[str, Any]] = []
        self.refusal = ""
        self.tokens: set[str | None] = set()
        self.address = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Api

    def do_GET(self) -> None:
        self.server.tokens.add(self.headers["Authorization"])
        self._answer(200, json.dumps({"applications": self.server.applications}))

    def do_PUT(self) -> None:
        if self.server.refusal:
            self._answer(400, self.server.refusal)
            return
        document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.received.append(document)
        self.server.applications = {
            application["name"]: {"status": "RUNNING"} for application in document["applications"]
        }
        self._answer(200, "")

    def _answer(self, code: int, text: str) -> None:
        body = text.encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def api() -> Iterator[Api]:
    server = Api()
    with running(server):
        yield server


def environment(address: str, **more: str) -> dict[str, str]:
    return {**os.environ, "RAY_DASHBOARD_ADDRESS": address, **more}


def check(address: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "demo.deploy", "--check"]
    return subprocess.run(command, cwd=ROOT, env=environment(address), capture_output=True, text=True, check=False)


@contextmanager
def deploying(env: dict[str, str], reported: Path, before: str = "") -> Iterator[None]:
    """Run the program until the block ends; its output is in the file `reported`. `before` may change its module."""
    code = f"import sys; from demo import deploy; {before or 'pass'}; sys.exit(deploy.main([]))"
    with (
        reported.open("w") as out,
        subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=env, stdout=out) as process,
    ):
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0


def until(condition: Any) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_config_listens_for_the_other_containers():
    plain = yaml.safe_load(CONFIG.read_text())
    changed = configuration(CONFIG, "0.0.0.0", 0)
    assert plain["http_options"]["host"] == "127.0.0.1"
    assert changed["http_options"] == {**plain["http_options"], "host": "0.0.0.0"}
    assert {**changed, "http_options": None} == {**plain, "http_options": None}


def test_a_gpu_is_for_the_models():
    document = configuration(CONFIG, "0.0.0.0", 0.2)
    found = {d["name"]: d for application in document["applications"] for d in application["deployments"]}
    for name in ("Detector", "Recogniser"):
        assert found[name]["ray_actor_options"]["num_gpus"] == 0.2
        assert found[name]["user_config"]["cuda"] is True
    for name in ("Ingress", "Echo"):
        assert "num_gpus" not in found[name]["ray_actor_options"]
    # All replicas that there can ever be share one GPU.
    most = sum(found[name]["autoscaling_config"]["max_replicas"] for name in ("Detector", "Recogniser"))
    assert most * 0.2 <= 1


@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_serve_would_take_the_config():
    from ray.serve.schema import ServeDeploySchema

    for share in (0, 0.2):
        schema = ServeDeploySchema.model_validate(configuration(CONFIG, "0.0.0.0", share))
        assert [application.name for application in schema.applications] == ["ocr", "echo"]


def test_what_is_missing():
    document = {"applications": [{"name": "a"}, {"name": "b"}, {"name": "c"}]}
    assert missing({"a": "RUNNING", "b": "DEPLOYING"}, document) == ["b is DEPLOYING", "c is not deployed"]
    assert missing({"a": "RUNNING", "b": "RUNNING", "c": "RUNNING"}, document) == []


def test_it_deploys_again_what_a_new_head_does_not_know(api):
    command = [sys.executable, "-m", "demo.deploy"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(api.address), stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            until(lambda: len(api.received) == 1)
            assert api.received[0]["http_options"]["host"] == "0.0.0.0"
            assert check(api.address).returncode == 0
            api.applications = {}  # the head was restarted
            until(lambda: len(api.received) == 2)
            assert api.received[0] == api.received[1]
        finally:
            process.send_signal(signal.SIGTERM)
            printed, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert printed.splitlines().count("deploying") == 2


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([], False),
        (['up{job="prometheus",instance="n1:9090"} 1'], False),
        (['up{job="ray",instance="n1:8080"} 1', 'up{job="ray",instance="n2:8080"} 0'], False),
        (['up{job="ray",instance="n1:8080"} 1', 'up{job="ray",instance="n2:8080"} 1'], True),
    ],
)
def test_every_target_of_ray_must_have_been_scraped(samples, expected, tmp_path):
    backfilled = BackfilledPrometheus(tmp_path)
    backfilled.backfill([*(f"{sample} {time.time():.3f}\n" for sample in samples), "# EOF\n"])
    with backfilled.server() as url:
        assert scraped(url) is expected
    assert scraped(url) is False  # nothing answers there now


def test_what_is_no_prometheus_has_scraped_nothing(api):
    for address in ("prometheus:9090", "http://[", "", api.address):  # the last answers JSON, but not Prometheus'
        assert scraped(address) is False


def test_it_waits_until_prometheus_has_seen_ray(api, tmp_path):
    """Prometheus takes what started before its first scrape for the past."""
    address = f"127.0.0.1:{free_port()}"
    jobs = [{"job_name": "ray", "scrape_interval": "1s", "static_configs": [{"targets": [address]}]}]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump({"scrape_configs": jobs}))
    prometheus = [
        "prometheus",
        f"--config.file={tmp_path}/prometheus.yml",
        f"--storage.tsdb.path={tmp_path}/data",
        f"--web.listen-address={address}",
        "--log.level=error",
    ]
    reported = tmp_path / "output"
    env = environment(api.address, RAY_PROMETHEUS_HOST=f"http://{address}", PYTHONUNBUFFERED="1")
    with deploying(env, reported):
        until(lambda: "waiting for Prometheus to scrape Ray\n" in reported.read_text())
        assert api.received == []
        with HTTPExecutor(prometheus, url=f"http://{address}/-/ready", status=200, timeout=60):
            until(lambda: len(api.received) == 1)


def test_a_missing_prometheus_does_not_block_the_deployment(api, tmp_path):
    reported = tmp_path / "output"
    env = environment(api.address, RAY_PROMETHEUS_HOST="http://127.0.0.1:9")
    with deploying(env, reported, "deploy.CHECKS_FOR_PROMETHEUS, deploy.CHECK_EVERY_S = 3, 0.1"):
        until(lambda: len(api.received) == 1)
    assert reported.read_text().splitlines()[:2] == ["waiting for Prometheus to scrape Ray", "deploying"]


def test_health(api):
    result = check(api.address)
    assert (result.returncode, result.stdout) == (1, "ocr is not deployed\necho is not deployed\n")
    api.applications = {"ocr": {"status": "DEPLOY_FAILED"}, "echo": {"status": "RUNNING"}}
    result = check(api.address)
    assert (result.returncode, result.stdout) == (1, "ocr is DEPLOY_FAILED\n")
    result = check("http://127.0.0.1:9")
    assert result.returncode == 1
    assert "the head is unreachable" in result.stdout
    assert result.stderr == ""


def test_a_token_is_sent_where_there_is_one(api, tmp_path):
    Head(api.address).states()
    assert api.tokens == {None}
    (tmp_path / "token").write_text("only-for-this-test\n")
    Head(api.address, tmp_path / "token").states()
    assert api.tokens == {None, "Bearer only-for-this-test"}


def test_no_proxy_of_the_environment_sees_the_token(api, tmp_path, monkeypatch):
    (tmp_path / "token").write_text("only-for-this-test\n")
    with recording_server() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        Head(api.address, tmp_path / "token").states()
        assert not scraped(api.address)
    assert proxy.headers == []
    assert api.tokens == {"Bearer only-for-this-test"}


def test_a_refused_config_is_one_line(api):
    api.refusal = "Traceback\npydantic says no"
    with pytest.raises(ServescopeError, match="Serve rejected the config: pydantic says no"):
        Head(api.address).deploy({"applications": []})
    command = [sys.executable, "-m", "demo.deploy"]
    result = subprocess.run(
        command, cwd=ROOT, env=environment(api.address), capture_output=True, text=True, check=False, timeout=30
    )
    assert (result.returncode, result.stderr) == (1, "deploy: Serve rejected the config: pydantic says no\n")


@pytest.mark.parametrize(
    ("more", "word"),
    [({"DEMO_NUM_GPUS": "many"}, "DEMO_NUM_GPUS"), ({"SERVE_CONFIG": "/nowhere.yaml"}, "/nowhere.yaml")],
)
def test_bad_settings(more, word, api):
    command = [sys.executable, "-m", "demo.deploy"]
    result = subprocess.run(
        command, cwd=ROOT, env=environment(api.address, **more), capture_output=True, text=True, check=False, timeout=30
    )
    assert result.returncode == 1
    assert result.stderr.startswith("deploy: ")
    assert len(result.stderr.splitlines()) == 1
    assert word in result.stderr
