"""`make up` and `make down` refuse before anything starts, and say what to do: each case by the real command line.

A fake `docker` plays the daemons and versions that this machine does not have; the busy port and the missing daemon
are real.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from demo import ROOT
from tests.support.compose_files import BASE, program, requires_compose

SCRIPT = ROOT / "scripts/compose.py"
GIB = 2**30
# Who publishes ports; where they run already, theirs are not looked at, so no other program can disturb a test.
PUBLISHERS = "ray-head load prometheus alertmanager grafana"


def run(command: str, path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    found = {key: value for key, value in os.environ.items() if key not in ("GPU", "GRAFANA_ADMIN_PASSWORD_FILE")}
    return subprocess.run(
        [sys.executable, str(SCRIPT), command],
        capture_output=True,
        text=True,
        check=False,
        env={**found, "PATH": f"{path}:/usr/bin:/bin", **environment},
    )


def stand_in(
    folder: Path,
    *,
    daemon: bool = True,
    version: str = "2.40.3",
    runtimes: tuple[str, ...] = ("runc",),
    memory: int = 16 * GIB,
    running: str = PUBLISHERS,
    up: int = 0,
) -> Path:
    """A directory with a fake `docker` that returns the given output; `config` is real Compose's. It logs its calls."""
    name, *rest = program() or ("false",)
    real = " ".join((shutil.which(name) or "false", *rest))  # by its path: the fake one comes first on the PATH
    script = f"""#!/bin/sh
echo "$*" >> {folder}/calls
case "$*" in
version*) {"echo 28.0.0" if daemon else "echo 'Cannot connect to the Docker daemon at unix:///x.' >&2; exit 1"} ;;
"compose version --short") {f"echo {version}" if version else "echo 'docker: unknown command' >&2; exit 1"} ;;
*json*Runtimes*) echo '{json.dumps({name: {} for name in runtimes})}' ;;
*MemTotal*) echo {memory} ;;
compose*config*) shift; exec {real} "$@" ;;
compose*ps*) echo "{running}" ;;
compose*up*) exit {up} ;;
compose*down*) ;;
*) echo "unexpected: $*" >&2; exit 9 ;;
esac
"""
    (folder / "docker").write_text(script)
    (folder / "docker").chmod(0o755)
    return folder


def calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text().splitlines()


def refused(result: subprocess.CompletedProcess[str], *words: str) -> None:
    assert result.returncode == 1
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("compose: ")
    for word in words:
        assert word in lines[0]


def nothing_started(folder: Path) -> None:
    assert not [call for call in calls(folder) if " up " in call]


def test_without_docker(tmp_path):
    (tmp_path / "python3").symlink_to(sys.executable)
    result = subprocess.run(
        [sys.executable, str(SCRIPT), "up"], capture_output=True, text=True, check=False, env={"PATH": str(tmp_path)}
    )
    refused(result, "docker is not on the PATH", "make demo")


@pytest.mark.skipif(shutil.which("docker") is None, reason="no docker client here")
def test_without_a_daemon_the_real_client_is_understood(tmp_path):
    path = Path(shutil.which("docker") or "").parent
    result = run("up", path, DOCKER_HOST=f"unix://{tmp_path}/nobody.sock")
    refused(result, "the Docker daemon is unreachable", "start it")
    refused(run("down", path, DOCKER_HOST=f"unix://{tmp_path}/nobody.sock"), "the Docker daemon is unreachable")


def test_without_a_daemon(tmp_path):
    refused(
        run("up", stand_in(tmp_path, daemon=False)), "the Docker daemon is unreachable", "Cannot connect", "start it"
    )
    nothing_started(tmp_path)


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("", ("no Compose plugin", "install docker-compose-plugin 2.24")),
        ("2.23.3", ("Compose 2.23.3 is too old", "2.24")),
        ("v1.29.2", ("Compose v1.29.2 is too old",)),
        ("unknown", ("Compose unknown is too old",)),
    ],
)
def test_an_old_compose(version, words, tmp_path):
    refused(run("up", stand_in(tmp_path, version=version)), *words)
    nothing_started(tmp_path)


@requires_compose
@pytest.mark.parametrize("version", ["2.24.0", "v2.40.3", "5.0.1"])
def test_a_compose_that_is_new_enough(version, tmp_path):
    result = run("up", stand_in(tmp_path, version=version))
    assert result.returncode == 0, result.stderr
    (call,) = [call for call in calls(tmp_path) if " up " in call]
    assert call == f"compose -f {BASE} up --detach --build --wait --wait-timeout 900"
    assert "http://localhost:3000" in result.stdout


def test_a_gpu_that_is_not_there(tmp_path):
    result = run("up", stand_in(tmp_path), GPU="1")
    refused(result, "no NVIDIA runtime", "NVIDIA Container Toolkit", "unset GPU")
    nothing_started(tmp_path)


def test_a_wish_that_is_none(tmp_path):
    refused(run("up", stand_in(tmp_path), GPU="yes"), "GPU=yes: 1 adds the GPU file, 0 omits it")


@requires_compose
@pytest.mark.parametrize(
    ("runtimes", "wish", "added"),
    [(("runc", "nvidia"), "", True), (("runc", "nvidia"), "1", True), (("runc", "nvidia"), "0", False)],
)
def test_the_gpu_file_is_added_where_a_gpu_runtime_is(runtimes, wish, added, tmp_path):
    result = run("up", stand_in(tmp_path, runtimes=runtimes), GPU=wish)
    assert result.returncode == 0, result.stderr
    (call,) = [call for call in calls(tmp_path) if " up " in call]
    assert ("-f docker-compose.gpu.yml" in call) is added


@requires_compose
def test_too_little_memory(tmp_path):
    refused(run("up", stand_in(tmp_path, memory=4 * GIB)), "4.0 GiB of memory", "6.0 GiB in total", "make demo")
    nothing_started(tmp_path)


@requires_compose
def test_a_busy_port(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        # The same check, on a stack whose Grafana is published on a port that is really taken.
        folder = tmp_path / "copy"
        (folder / "scripts").mkdir(parents=True)
        shutil.copy(SCRIPT, folder / "scripts")
        shutil.copy(ROOT / ".env", folder)
        text = (ROOT / BASE).read_text().replace("127.0.0.1:3000:3000", f"127.0.0.1:{port}:3000")
        (folder / BASE).write_text(text)
        docker = stand_in(tmp_path, running=PUBLISHERS.replace("grafana", ""))
        command = [sys.executable, str(folder / "scripts/compose.py"), "up"]
        environment = {**os.environ, "PATH": f"{docker}:/usr/bin:/bin"}
        result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        refused(result, f"port {port} is in use, and grafana needs it", "stop its process")
        nothing_started(tmp_path)
        # Our own Grafana may have it: `make up` a second time changes what has changed.
        stand_in(tmp_path)
        result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert result.returncode == 0, result.stderr


@requires_compose
def test_a_password_file(tmp_path):
    password = tmp_path / "password"
    refused(run("up", stand_in(tmp_path), GRAFANA_ADMIN_PASSWORD_FILE=str(password)), str(password), "cannot be read")
    password.write_text("\n")
    refused(run("up", stand_in(tmp_path), GRAFANA_ADMIN_PASSWORD_FILE=str(password)), "is empty")
    nothing_started(tmp_path)
    password.write_text("only for this test\n")
    result = run("up", stand_in(tmp_path), GRAFANA_ADMIN_PASSWORD_FILE=str(password))
    assert result.returncode == 0, result.stderr
    assert "only for this test" not in result.stdout + result.stderr + (tmp_path / "calls").read_text()
    (call,) = [call for call in calls(tmp_path) if " up " in call]
    assert "-f docker-compose.login.yml" in call


@requires_compose
def test_services_that_do_not_become_healthy_are_reported(tmp_path):
    refused(run("up", stand_in(tmp_path, up=1)), "not all services became healthy", "logs")


def test_down_deletes_the_volumes(tmp_path):
    result = run("down", stand_in(tmp_path))
    assert result.returncode == 0, result.stderr
    assert calls(tmp_path)[-1] == (
        "compose -f docker-compose.yml -f docker-compose.gpu.yml down --volumes --remove-orphans"
    )


def test_usage():
    result = subprocess.run([sys.executable, str(SCRIPT), "sideways"], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (2, "usage: compose.py up|down\n")
