#!/usr/bin/env python3
"""`make up` and `make down`: docker compose with the right files, after checks that report what is missing.

Standard library only, so that it needs nothing but Python 3.8, Docker and its Compose plugin. Everything is checked
before anything starts. GPU=1 adds docker-compose.gpu.yml, GPU=0 omits it; by default it is added if `docker info`
lists an NVIDIA runtime. GRAFANA_ADMIN_PASSWORD_FILE adds docker-compose.login.yml.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

# Not from the package demo: `make up` needs only Docker and any Python, not this project's environment.
ROOT = Path(__file__).resolve().parents[1]
OLDEST_COMPOSE = (2, 24)  # the first version that waits for health and merges these files reliably
UP_WITHIN_S = 900  # for the start of Ray and the models; images are already built


class Refusal(Exception):
    """Why nothing was started, and how to fix it, in one line."""


def docker(*arguments: str) -> str:
    """The output of a docker command.

    Raises:
        Refusal: docker is missing, or the command fails.
    """
    try:
        done = subprocess.run(("docker", *arguments), cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise Refusal(
            "docker is not on the PATH: install Docker Engine with the Compose plugin, or use `make demo`, which needs "
            "neither"
        ) from None
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise Refusal(f"docker {' '.join(arguments[:2])} failed: {lines[-1] if lines else 'no output'}")
    return done.stdout


def check_daemon() -> None:
    """Fail if the daemon is unreachable.

    Raises:
        Refusal: it is.
    """
    try:
        docker("version", "--format", "{{.Server.Version}}")
    except Refusal as refusal:
        if "PATH" in str(refusal):
            raise
        raise Refusal(
            f"the Docker daemon is unreachable ({refusal}): start it (`systemctl start docker`, or Docker Desktop), or "
            "get permission to use it (the group `docker`)"
        ) from None


def check_compose() -> None:
    """Fail if Compose is missing or too old.

    Raises:
        Refusal: it is.
    """
    wanted = ".".join(map(str, OLDEST_COMPOSE))
    try:
        found = docker("compose", "version", "--short").strip()
    except Refusal:
        raise Refusal(f"docker has no Compose plugin: install docker-compose-plugin {wanted} or later") from None
    match = re.match(r"v?(\d+)\.(\d+)", found)
    if match is None or (int(match.group(1)), int(match.group(2))) < OLDEST_COMPOSE:
        raise Refusal(f"Compose {found} is too old: install docker-compose-plugin {wanted} or later")


def has_gpu_runtime() -> bool:
    """Whether Docker can give GPUs to containers."""
    return "nvidia" in json.loads(docker("info", "--format", "{{json .Runtimes}}"))


def files(environment: dict[str, str]) -> list[str]:
    """The compose files for the environment and the machine.

    Raises:
        Refusal: a GPU was requested and is unavailable, or the password file cannot be read.
    """
    chosen = ["docker-compose.yml"]
    wish = environment.get("GPU", "")
    if wish not in ("", "0", "1"):
        raise Refusal(f"GPU={wish}: 1 adds the GPU file, 0 omits it")
    if wish != "0":
        found = has_gpu_runtime()
        if wish == "1" and not found:
            raise Refusal(
                "GPU=1, but docker info lists no NVIDIA runtime: install the NVIDIA Container Toolkit and run "
                "`nvidia-ctk runtime configure --runtime=docker`, or unset GPU"
            )
        if found:
            chosen.append("docker-compose.gpu.yml")
    password = environment.get("GRAFANA_ADMIN_PASSWORD_FILE", "")
    if password:
        path = Path(password)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            raise Refusal(f"GRAFANA_ADMIN_PASSWORD_FILE: {path} cannot be read") from None
        if not text.strip():
            raise Refusal(f"GRAFANA_ADMIN_PASSWORD_FILE: {path} is empty")
        chosen.append("docker-compose.login.yml")
    return chosen


def compose(chosen: list[str]) -> list[str]:
    """The prefix of a compose command with these files."""
    return ["compose", *(part for name in chosen for part in ("-f", name))]


def check_ports(document: dict[str, Any], running: set[str]) -> None:
    """Fail if a port is in use. `running` services use theirs.

    Raises:
        Refusal: one is.
    """
    for name, service in sorted(document["services"].items()):
        for port in service.get("ports", []):
            if name in running or "published" not in port:
                continue
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((port.get("host_ip", ""), int(port["published"])))
                except OSError as error:
                    raise Refusal(
                        f"port {port['published']} is in use, and {name} needs it ({error.strerror}): stop its process "
                        f"(see `ss -ltnp 'sport = :{port['published']}'`), or change the port in docker-compose.yml"
                    ) from None


def check_memory(document: dict[str, Any], total: int) -> None:
    """Fail if the machine has less memory (bytes) than the sum of all limits.

    Raises:
        Refusal: it has less.
    """
    needed = sum(int(service.get("mem_limit", 0)) for service in document["services"].values())
    if total < needed:
        raise Refusal(
            f"Docker has {total / 2**30:.1f} GiB of memory, and the services may use {needed / 2**30:.1f} GiB "
            "in total: give it more (Docker Desktop: Settings, Resources), or use `make demo`"
        )


def up() -> None:
    """Check, then start everything and wait until it is healthy.

    Raises:
        Refusal: something is missing, or a service does not become healthy.
    """
    check_daemon()
    check_compose()
    chosen = files(dict(os.environ))
    command = compose(chosen)
    document = json.loads(docker(*command, "config", "--format", "json"))
    check_memory(document, int(docker("info", "--format", "{{.MemTotal}}")))
    check_ports(document, set(docker(*command, "ps", "--status", "running", "--services").split()))
    print(f"docker compose with {', '.join(chosen)}", flush=True)
    arguments = ["docker", *command, "up", "--detach", "--build", "--wait", "--wait-timeout", str(UP_WITHIN_S)]
    if subprocess.run(arguments, cwd=ROOT, check=False).returncode:
        raise Refusal(f"not all services became healthy: see docker {' '.join(command)} ps, and logs")
    for name, service in sorted(document["services"].items()):
        for port in service.get("ports", []):
            print(f"{name:14} http://localhost:{port['published']}")


def down() -> None:
    """Stop the containers and delete them with their volumes.

    Raises:
        Refusal: docker fails.
    """
    check_daemon()
    check_compose()
    # Including the GPU file: services that do not run are ignored.
    docker(*compose(["docker-compose.yml", "docker-compose.gpu.yml"]), "down", "--volumes", "--remove-orphans")


def main(arguments: list[str]) -> int:
    """Run a command; exit code 1 on a failed check."""
    commands = {"up": up, "down": down}
    if len(arguments) != 1 or arguments[0] not in commands:
        print("usage: compose.py up|down", file=sys.stderr)
        return 2
    try:
        commands[arguments[0]]()
    except Refusal as refusal:
        print(f"compose: {refusal}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
