"""For what is said of the compose files: the files as Compose itself understands them, and the pins of .env."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from demo import ROOT

BASE, GPU, LOGIN = "docker-compose.yml", "docker-compose.gpu.yml", "docker-compose.login.yml"


@functools.cache
def program() -> tuple[str, ...] | None:
    """How to call Compose here, or None: the plugin of docker, or the one that `make tools` unpacks."""
    if (ROOT / ".tools/docker-compose").is_file():
        return (str(ROOT / ".tools/docker-compose"),)
    if shutil.which("docker"):
        reported = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
        if reported.returncode == 0:
            return ("docker", "compose")
    return None


requires_compose = pytest.mark.skipif(
    program() is None, reason="no docker compose here and none in .tools: make tools unpacks one where there is apt"
)


def compose(*arguments: str, folder: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    command = program()
    assert command is not None
    return subprocess.run(
        [*command, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


@functools.cache
def parsed(*files: str) -> dict[str, Any]:
    """The files, merged and with their variables, as `docker compose config` prints them."""
    names = [part for name in files for part in ("-f", name)]
    done = compose(*names, "config", "--format", "json", GRAFANA_ADMIN_PASSWORD_FILE="/dev/null")
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def pins() -> dict[str, str]:
    """The lines of .env: variable to image."""
    lines = (ROOT / ".env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
