"""`python -m demo.deploy` against a small HTTP server that answers as Serve's REST API does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import yaml
from demo.deploy import Head, configuration, missing

from servescope.errors import ServescopeError
from tests.compose_files import ROOT
from tests.running import running

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


def test_health(api):
    result = check(api.address)
    assert (result.returncode, result.stdout) == (1, "ocr is not deployed\necho is not deployed\n")
    api.applications = {"ocr": {"status": "DEPLOY_FAILED"}, "echo": {"status": "RUNNING"}}
    result = check(api.address)
    assert (result.returncode, result.stdout) == (1, "ocr is DEPLOY_FAILED\n")
    result = check("http://127.0.0.1:9")
    assert result.returncode == 1
    assert "the head does not answer" in result.stdout
    assert result.stderr == ""


def test_a_token_is_sent_where_there_is_one(api, tmp_path):
    Head(api.address).states()
    assert api.tokens == {None}
    (tmp_path / "token").write_text("only-for-this-test\n")
    Head(api.address, tmp_path / "token").states()
    assert api.tokens == {None, "Bearer only-for-this-test"}


def test_a_refused_config_is_one_line(api):
    api.refusal = "Traceback\npydantic says no"
    with pytest.raises(ServescopeError, match="Serve refuses the config: pydantic says no"):
        Head(api.address).deploy({"applications": []})
    command = [sys.executable, "-m", "demo.deploy"]
    result = subprocess.run(
        command, cwd=ROOT, env=environment(api.address), capture_output=True, text=True, check=False, timeout=30
    )
    assert (result.returncode, result.stderr) == (1, "deploy: Serve refuses the config: pydantic says no\n")


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
