"""Checks before anything starts: programs, versions, ports."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess

import psutil

from demo.stack.component import Component
from demo.stack.ports import LOOPBACK
from servescope.errors import ServescopeError

OLDEST_PROMETHEUS = (2, 42)

FREE_DISK_BYTES = 1 << 30  # for a day of the demo's series and Ray's logs


def require(program: str) -> str:
    """The path of a program.

    Raises:
        ServescopeError: it is not on the PATH.
    """
    path = shutil.which(program)
    if path is None:
        raise ServescopeError(f"{program} is not on the PATH: run `make tools`, or see scripts/setup.sh for its source")
    return path


def check_prometheus() -> None:
    """Fail if Prometheus is missing or older than the rules need.

    Raises:
        ServescopeError: it is missing, too old, or does not report its version.
    """
    path = require("prometheus")
    reported = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    match = re.search(r"version (\d+)\.(\d+)", reported.stdout + reported.stderr)
    if match is None:
        raise ServescopeError(f"{path}: does not report its version; is it Prometheus?")
    version = (int(match.group(1)), int(match.group(2)))
    if version < OLDEST_PROMETHEUS:
        wanted = ".".join(map(str, OLDEST_PROMETHEUS))
        raise ServescopeError(f"{path}: version {version[0]}.{version[1]} is too old; {wanted} or later is required")


def check_port(port: int, component: Component) -> None:
    """Fail if a port is in use.

    Raises:
        ServescopeError: it is in use; the message names the component and, if visible, the process that uses it.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("" if component.public else LOOPBACK, port))
            return
        except OSError:
            pass
    raise ServescopeError(
        f"port {port} is in use{_holder(port)}, and {component.name} needs it: stop that process, "
        "or choose other ports with PORT_BASE=20000"
    )


def _holder(port: int) -> str:
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        pass  # not visible to this user
    return ""
