"""What `make demo` says when it cannot start: one line, exit code 1, and nothing left running. No Ray is needed."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
from pathlib import Path

import pytest

from demo.local import load_failures
from demo.stack.ports import Ports
from demo.stack.run import Run
from tests.support.demo_process import listening, run_demo

BASE = 24000
PORTS = Ports.from_base(BASE)


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A directory for the PATH with empty programs; Prometheus reports a supported version."""
    folder = tmp_path / "bin"
    folder.mkdir()
    write_program(folder / "prometheus", 'echo "prometheus, version 3.1.0 (branch: HEAD)"')
    write_program(folder / "prometheus-alertmanager", "exit 0")
    write_program(folder / "prometheus-blackbox-exporter", "exit 0")
    return folder


def write_program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def fault(directory: Path, programs: Path, **environment: str) -> str:
    """The one line with which the demo refuses to start."""
    ended = run_demo(directory, base=int(environment.pop("base", BASE)), PATH=str(programs), **environment)
    assert ended.code == 1, ended
    (line,) = ended.err.splitlines()
    assert ended.out == ""  # nothing was started
    assert ended.left == []
    return line


def test_a_busy_port_names_who_has_it_and_who_needs_it(tmp_path, programs):
    with socket.create_server(("127.0.0.1", PORTS.prometheus)):
        line = fault(tmp_path / "demo", programs)
    assert line == (
        f"demo: port {PORTS.prometheus} is in use by {Path('/proc/self/comm').read_text().strip()} "
        f"(pid {os.getpid()}), and prometheus needs it: stop that process, or choose other ports with PORT_BASE=20000"
    )
    assert listening(BASE) == set()


def test_no_prometheus(tmp_path, programs):
    (programs / "prometheus").unlink()
    line = fault(tmp_path / "demo", programs)
    assert line.startswith("demo: prometheus is not on the PATH: run `make tools`")


def test_no_alertmanager(tmp_path, programs):
    (programs / "prometheus-alertmanager").unlink()
    line = fault(tmp_path / "demo", programs)
    assert line.startswith("demo: prometheus-alertmanager is not on the PATH: run `make tools`")


def test_a_prometheus_that_is_too_old(tmp_path, programs):
    write_program(programs / "prometheus", 'echo "prometheus, version 2.31.2+ds1 (branch: debian/sid)" >&2')
    line = fault(tmp_path / "demo", programs)
    assert line == f"demo: {programs / 'prometheus'}: version 2.31 is too old; 2.42 or later is required"


def test_a_prometheus_that_is_none(tmp_path, programs):
    write_program(programs / "prometheus", "echo hello")
    line = fault(tmp_path / "demo", programs)
    assert line == f"demo: {programs / 'prometheus'}: does not report its version; is it Prometheus?"


def test_a_demo_that_is_already_running(tmp_path, programs):
    directory = tmp_path / "demo"
    directory.mkdir()
    with (directory / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        line = fault(directory, programs)
    assert line == f"demo: already running in {directory}: stop that run first (Ctrl-C in its terminal)"


def test_a_directory_that_cannot_be_written(tmp_path, programs):
    (tmp_path / "file").write_text("")
    line = fault(tmp_path / "file/demo", programs)
    assert line == f"demo: {tmp_path / 'file/demo'}: cannot write (Not a directory)"


def test_no_disk_space_for_the_time_series(tmp_path, programs):
    directory = tmp_path / "small"
    directory.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(directory)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small disk has to be mounted, which takes root: {mounted.stderr.strip()}")
    try:
        line = fault(directory, programs)
    finally:
        subprocess.run(["umount", str(directory)], check=True)
    assert line.startswith(f"demo: {directory}: 0.0 GB of disk free, 1.1 GB are needed for the time series and logs")


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("DURATION", "soon", "demo: DURATION: expected seconds, got 'soon'"),
        ("DURATION", "-1", "demo: DURATION: expected seconds, got '-1'"),
        ("base", "80", "demo: PORT_BASE: expected a port between 1024 and 64000, got '80'"),
        ("SERVE_CONFIG", "/nowhere.yaml", "demo: /nowhere.yaml: cannot read (No such file or directory)"),
    ],
)
def test_settings_that_make_no_sense(tmp_path, programs, variable, value, expected):
    assert fault(tmp_path / "demo", programs, **{variable: value}) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a: [", "not YAML (while parsing"), ("- a", "no applications found; is it a Serve config file?")],
)
def test_a_serve_config_that_is_none(tmp_path, programs, text, expected):
    config = tmp_path / "serve.yaml"
    config.write_text(text)
    line = fault(tmp_path / "demo", programs, SERVE_CONFIG=str(config))
    assert line.startswith(f"demo: {config}: {expected}")


def test_what_the_load_did_not_get_is_a_complaint(tmp_path, capsys):
    run = Run(directory=tmp_path, ports=PORTS, serve_config=tmp_path / "serve.yaml")
    assert load_failures(run) == ["the load wrote no result: see logs/load.log"]
    result = {"requests": 40, "failures": {"/read: read ['cat'] where it says ['dog']": 2, "/echo: timed out": 1}}
    (tmp_path / "load.json").write_text(json.dumps(result))
    assert load_failures(run) == [
        "load: 2 times /read: read ['cat'] where it says ['dog']",
        "load: 1 times /echo: timed out",
    ]
    assert capsys.readouterr().out == "The load sent 40 requests; 3 had an unexpected result\n"
    (tmp_path / "load.json").write_text(json.dumps({"requests": 40, "failures": {}}))
    assert load_failures(run) == []
