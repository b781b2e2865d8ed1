"""`make demo` as its user meets it: a run of two minutes that proves itself, and runs that cannot start or are
interrupted, beside another Ray on the same machine that must not notice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
import yaml

from demo.stack.run import Run
from demo.stack.serve_api import serve_applications
from demo.stack.supervisor import Stack
from servescope.dashboards import all_dashboards
from servescope.settings import Settings
from tests.support.demo_process import listening, run_demo

BASE = 22000
# What a Ray consists of; workers come and go.
CORE = re.compile(r"gcs_server|raylet|ray start|dashboard|ServeController|ProxyActor")


def core_of(stack: Stack) -> dict[int, float]:
    """The processes of the session's own Ray: pid and start time of each."""
    del stack
    children = psutil.Process().children(recursive=True)
    return {
        p.pid: p.create_time()
        for p in children
        if p.status() != psutil.STATUS_ZOMBIE and CORE.search(" ".join(p.cmdline()))
    }


@pytest.fixture
def other_ray(stack: Stack) -> Iterator[Run]:
    """A Ray that lives beside the demo; afterwards it must be the same and still answer."""
    before = core_of(stack)
    assert len(before) >= 5
    yield stack.run
    assert core_of(stack) == before
    assert {a["status"] for a in serve_applications(stack.run).values()} == {"RUNNING"}
    assert httpx.get(f"{stack.run.serve_url}/ok", timeout=30).status_code == 200
    assert stack.dead() == []


def test_a_demo_of_two_minutes_shows_all_data_and_leaves_nothing(tmp_path: Path):
    ended = run_demo(tmp_path / "demo", base=BASE, timeout_s=420, DURATION="120")
    assert (ended.code, ended.err) == (0, "")
    assert "all panels have data" in ended.out
    tables = re.findall(r"│ (Ray Serve / [^│]+?) *│ (\d+) of (\d+)", ended.out)
    assert {title for title, _, _ in tables} == {board.title for board in all_dashboards(Settings())}
    assert "0 ended otherwise than they should" in ended.out
    assert ended.left == []
    assert listening(BASE) == set()


def test_a_demo_that_is_interrupted_ends_what_it_started_and_nothing_else(tmp_path: Path, other_ray: Run):
    ended = run_demo(tmp_path / "demo", base=BASE, timeout_s=420, interrupt_at="requests/s")
    assert ended.code == 0
    assert ended.out.count("stopping") == 1
    assert ended.left == []
    assert listening(BASE) == set()


def test_a_ray_that_does_not_start(tmp_path: Path, other_ray: Run):
    long = tmp_path / ("x" * 100)  # Unix sockets have to lie in a path of 107 characters at most
    long.mkdir()
    ended = run_demo(tmp_path / "demo", base=BASE, timeout_s=120, TMPDIR=str(long))
    assert ended.code == 1
    (line,) = ended.err.splitlines()
    assert line.startswith("demo: ray did not start (ended): ")
    assert "AF_UNIX" in line
    assert ended.left == []
    assert listening(BASE) == set()


def test_an_application_that_does_not_deploy(tmp_path: Path, other_ray: Run):
    config = tmp_path / "serve.yaml"
    application = {"name": "broken", "route_prefix": "/", "import_path": "tests.live.broken_app:app"}
    config.write_text(yaml.safe_dump({"applications": [application]}))
    ended = run_demo(tmp_path / "demo", base=BASE, timeout_s=240, SERVE_CONFIG=str(config))
    assert ended.code == 1
    (line,) = ended.err.splitlines()
    assert line == "demo: application broken failed to deploy: Broken: FileNotFoundError: weights.bin is missing"
    assert ended.left == []
    assert listening(BASE) == set()
