"""What joins a running demo: how far its build is, when it starts, and what is said where it does not come."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from demo import ROOT, local
from demo.smoke.backends import Addresses, Backends
from demo.smoke.checks import targets
from demo.stack import logs
from demo.stack.component import Component
from demo.stack.components import collector_build
from demo.stack.joining import Joining
from demo.stack.ports import Ports
from demo.stack.run import Run
from demo.stack.supervisor import Stack
from tests.support.servers import free_port
from tests.support.stub_server import stub_server

HEAD = "go: downloading x v1.27.0\nfmt\nx/y\n2026-11-30T03:54:36.892Z\tINFO\tbuilder/main.go:110\tSources created\t{}\n"


@pytest.mark.parametrize(
    ("log", "words", "share"),
    [
        ("", "Collector: compiling its builder", -2),
        ("go: downloading x v1.27.0\nfmt\n", "Collector: compiling its builder", -2),
        (HEAD, "Collector: fetching its modules", -1),
        (f"{HEAD}setup: 4 packages to build\n", "Collector: 0 of 4 packages built", 0),
        (
            f"{HEAD}setup: 4 packages to build\nruntime/internal/sys\ngo: downloading x v1\ngo.uber.org/zap\n# a/b\n",
            "Collector: 2 of 4 packages built",
            0.5,
        ),
        ("setup: 1 packages to build\nfmt\nos\n", "Collector: 1 of 1 packages built", 1),
        ("setup: 0 packages to build\n", "Collector: 0 of 0 packages built", 0),
    ],
)
def test_how_far_the_build_is(log: str, words: str, share: float):
    assert collector_build.progress(log) == (words, share)


def run_in(directory: Path) -> Run:
    return Run(directory=directory, ports=Ports.from_base(24000), serve_config=directory / "serve.yaml", traces=True)


def shell(name: str, script: str, **more: object) -> Component:
    return Component(name=name, command=["sh", "-c", script], ready=lambda: True, **more)  # type: ignore[arg-type]


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Demo:
    """A stack of one steady process and a build that makes a file, for which a server waits."""

    def __init__(self, directory: Path, build: str, server: str = "") -> None:
        self.said: list[str] = []
        self.port = free_port()
        self.made, self.log = directory / "made", directory / "log"
        listen = f"import http.server as h; h.HTTPServer(('127.0.0.1', {self.port}), h.BaseHTTPRequestHandler)"
        script = server or f'sleep 0.5; exec {sys.executable} -c "{listen}.serve_forever()"'
        job = shell("build", f"cd {directory}; {build}", job=True)
        self.stack = Stack(run_in(directory), [lambda run: shell("steady", "exec sleep 600"), lambda run: job])
        self.joining = Joining(
            self.stack,
            [lambda run: self.late(script)],
            job="build",
            progress=lambda: collector_build.progress(self.log.read_text() if self.log.exists() else ""),
            made=self.made.exists,
            say=self.said.append,
        )

    def late(self, script: str) -> Component:
        return Component(
            name="late",
            command=["sh", "-c", script],
            ready=lambda: listens(self.port),
            address="here",
            ports=(self.port,),
            timeout_s=20,
        )

    def poll_until_the_build_ends(self) -> None:
        deadline = time.monotonic() + 30
        while self.stack.runs("build"):
            self.joining.poll()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        self.joining.poll()


@pytest.fixture
def nothing_left() -> Iterator[None]:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    yield
    assert {child.pid for child in psutil.Process().children(recursive=True)} == before


def test_a_program_that_is_built_while_the_others_run_joins_when_it_listens(tmp_path: Path, nothing_left: None):
    wait = "until [ -e go ]; do sleep 0.05; done; rm go"
    demo = Demo(tmp_path, f"{wait}; echo setup: 2 packages to build >log; {wait}; echo a/b >>log; {wait}; touch made")

    def let_it_go_on(until: str) -> None:
        (tmp_path / "go").touch()
        deadline = time.monotonic() + 30
        while not demo.log.exists() or until not in demo.log.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.05)

    with demo.stack as running:
        demo.joining.poll()
        assert demo.joining.left_out == "late did not join: Collector: compiling its builder"
        let_it_go_on("packages to build\n")
        demo.joining.poll()
        let_it_go_on("a/b\n")
        demo.joining.poll()
        (tmp_path / "go").touch()
        demo.poll_until_the_build_ends()
        assert listens(demo.port)
        assert (running.dead(), demo.joining.missing, demo.joining.left_out) == ([], [], "")
        assert [component.name for component in running.components] == ["steady", "build", "late"]
    assert demo.said == [
        "Collector: compiling its builder",
        "Collector: 0 of 2 packages built",
        "Collector: 1 of 2 packages built",
        "late has joined: here",
    ]
    assert not listens(demo.port)


def test_the_end_of_the_demo_ends_the_build(tmp_path: Path, nothing_left: None):
    demo = Demo(tmp_path, "echo setup: 9 packages to build >log; sleep 600 & sleep 600; touch made")
    with demo.stack as running:
        deadline = time.monotonic() + 20
        while not demo.log.exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        demo.joining.poll()
        assert (running.runs("build"), running.dead()) == (True, [])
    assert demo.joining.left_out == "late did not join: Collector: 0 of 9 packages built"
    assert (demo.joining.failure, demo.made.exists()) == ("", False)


def test_a_build_that_fails_leaves_the_others_alone_and_says_why_once(tmp_path: Path, nothing_left: None):
    demo = Demo(tmp_path, "echo setup: the Collector was not built: no network")
    with demo.stack as running:
        demo.poll_until_the_build_ends()
        demo.joining.poll()
        assert running.dead() == []
    assert demo.said.count("late did not join: the Collector was not built: no network") == 1
    assert demo.said[-1].startswith("late did not join")
    assert demo.joining.failure == ""


def test_a_program_that_was_built_and_does_not_start_is_a_failure_and_the_others_run_on(
    tmp_path: Path, nothing_left: None
):
    demo = Demo(tmp_path, "touch made", server="echo bad configuration; exit 1")
    with demo.stack as running:
        demo.poll_until_the_build_ends()
        assert running.dead() == []
        assert [component.name for component in running.components] == ["steady", "build"]
    assert demo.joining.failure.startswith("late did not start (ended): bad configuration [")
    assert demo.joining.missing == ["late"]


@pytest.mark.parametrize(
    ("programs", "building", "now", "later"),
    [
        ({"fluent-bit", "loki"}, True, ["collector-build", "loki", "fluent-bit"], ["collector"]),
        ({"loki"}, True, ["collector-build", "loki"], ["collector", "log-collector"]),
        (set(), True, ["collector-build"], ["collector", "log-collector"]),
        ({"otelcol"}, False, ["collector", "log-collector"], []),
        (set(), False, [], []),
    ],
)
def test_what_waits_for_the_build(monkeypatch, tmp_path, programs, building, now, later):
    for module in (logs, local):
        monkeypatch.setattr(module, "find", lambda program: f"/opt/{program}" if program in programs else None)
    run = run_in(tmp_path)
    at_once, joins = local.parts_of(building)
    assert [part(run).name for part in at_once[: -len(local.COMPONENTS)]] == now
    assert [part(run).name for part in joins] == later


def test_what_did_not_join_is_not_looked_for(monkeypatch, tmp_path):
    for module in (logs, local):
        monkeypatch.setattr(
            module, "find", lambda program: f"/opt/{program}" if program in ("loki", "otelcol") else None
        )
    run = run_in(tmp_path)
    run = local.replace(run, extra_scrapes=logs.scrape_jobs(run, building=True))
    given = local.smoke_addresses(run, ["collector", "log-collector"])
    assert (given.trace_files, given.loki) == (None, None)
    assert list(given.jobs_left_out) == ["traces", "collector", "log-agent", "log-events"]
    active = [
        {"labels": {"job": job, "instance": "i"}, "health": health, "lastError": ""}
        for job, health in (("ray", "up"), ("traces", "down"))
    ]
    with stub_server({"data": {"activeTargets": active}}) as (url, _):
        addresses = Addresses(serve=url, ray=url, prometheus=url, jobs_left_out=["traces"])
        assert targets(Backends(addresses)) == "1 targets of 1 jobs"


def test_one_line_says_what_is_left_out(monkeypatch, tmp_path):
    monkeypatch.setattr(logs, "find", lambda program: f"/opt/{program}" if program == "fluent-bit" else None)
    run = run_in(tmp_path)

    def lines(later: list[Any], run: Run, state: str) -> list[str]:
        waits = Joining(Stack(run, []), later, job="b", progress=lambda: ("", 0), made=lambda: False, say=print)
        return local.left_out(run, waits, state)

    no_loki = "no log lines, only the events counted from them: neither loki nor otelcol is installed; see docs/logs.md"
    in_the_background = "is built in the background, at the lowest priority, and joins when it is there"
    # The Collector will read the logs, too, and write the lines to files.
    assert lines([local.collector], run, "to build") == [f"no traces yet: the Collector {in_the_background}"]
    assert lines([local.collector, local.log_collector], run, "to build")[0] == (
        f"no traces and no logs yet: the Collector {in_the_background}"
    )
    without = local.replace(run, traces=False)
    assert lines([], without, "the Collector is not built, for want of Go") == [
        "no traces: the Collector is not built, for want of Go",
        no_loki,
    ]
    assert lines([], run, "built") == [no_loki]


def setup(checkout: Path, *parts: str, path: str) -> str:
    script = checkout / "scripts/setup.sh"
    done = subprocess.run(
        [script, *parts], capture_output=True, text=True, check=True, timeout=60, env={"PATH": path, "HOME": "/nowhere"}
    )
    return done.stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The parts of a checkout that the build of the Collector needs."""
    for name in ("scripts/setup.sh", "otel/builder.yaml"):
        target = tmp_path / "checkout" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    (tmp_path / "checkout/scripts/setup.sh").chmod(0o755)
    return tmp_path / "checkout"


GO = """#!/bin/sh
case $1 in
    env) echo go1.22.1 ;;
    install) printf '#!/bin/sh\\nmkdir -p .tools/otelcol-build\\n' >"$GOBIN/builder"; chmod 755 "$GOBIN/builder" ;;
    list) printf 'x\\nx\\n\\nx\\n' ;;
    build)
        nice
        printf 'a\\nb/c\\n'
        [ ! -e ../fail ] || { echo 'no space left'; exit 1; }
        : >otelcol
        chmod 755 otelcol
        ;;
esac
"""


@pytest.fixture
def go(tmp_path: Path, checkout: Path) -> str:
    """The PATH with a compiler that makes an empty program."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/go").write_text(GO)
    (tmp_path / "bin/go").chmod(0o755)
    (checkout / ".tools/bin").mkdir(parents=True)
    return f"{tmp_path / 'bin'}:{os.environ['PATH']}"


def test_without_go_one_line_says_what_is_left_out(checkout: Path, go: str):
    old = Path(go.partition(":")[0]) / "go"
    old.write_text(GO.replace("go1.22.1", "go1.19.8"))
    line = "the Collector is not built, for want of Go 1.21 or later (https://go.dev/dl)"
    assert setup(checkout, "collector-state", path=go) == f"{line}\n"
    assert setup(checkout, "collector", path=go) == f"setup: {line}: traces and span metrics are skipped\n"


def test_the_build_says_how_much_there_is_to_do_and_comes_last(checkout: Path, go: str, tmp_path: Path, monkeypatch):
    assert setup(checkout, "collector-state", path=go) == "to build\n"
    monkeypatch.setattr(collector_build, "SETUP", str(checkout / "scripts/setup.sh"))
    monkeypatch.setenv("PATH", go)
    run = run_in(tmp_path / "demo")
    assert collector_build.state() == collector_build.TO_BUILD
    with Stack(run, [collector_build.collector_build]) as running:
        deadline = time.monotonic() + 30
        while running.runs("collector-build"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert running.last_line("collector-build").startswith("setup: building the Collector 0.")
    assert collector_build.state() == collector_build.BUILT
    assert collector_build.build_log(run).read_text() == "setup: 3 packages to build\n19\na\nb/c\n"


def test_a_compiler_that_fails_says_so_in_one_line(checkout: Path, go: str):
    (checkout / ".tools/fail").write_text("")
    said = setup(checkout, "collector", path=go).splitlines()[1:]
    assert said == ["setup: the Collector was not built: no space left: traces and span metrics are skipped"]
    assert setup(checkout, "collector-state", path=go) == "to build\n"
