"""Turns a response of Serve's REST API into metrics, in its own process.

Ten thousand replicas are megabytes of JSON. A thread that parses them would block every scrape, since Python runs
one thread at a time and parses JSON in one call; and a response that exhausts memory would kill the exporter.
The process reads one response after the other from standard input and exits when the exporter does.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from dataclasses import asdict
from multiprocessing.connection import Connection
from typing import Any

from servescope.errors import ServescopeError
from servescope.exporter.state import Detail, families, markets_of, text_format

_GOOD, _BAD = b"+", b"-"


def metrics(applications: bytes, nodes: bytes, detail: Detail) -> bytes:
    """The metrics of Serve's response in Prometheus' text format; the nodes' response may be invalid.

    Raises:
        ServescopeError: it is not a response of Serve; the text says why without quoting it.
    """
    try:
        document = _parsed(applications)
    except (ValueError, RecursionError):
        raise ServescopeError("the response is not JSON") from None
    try:
        markets = markets_of(_parsed(nodes))
    except (ValueError, RecursionError):
        markets = None
    try:
        return text_format(families(document, detail, markets))
    except ServescopeError:
        raise
    except Exception as error:  # no document may stop the next one from being read
        raise ServescopeError(f"invalid response ({type(error).__name__})") from None


def _parsed(body: bytes) -> Any:
    return json.loads(body, parse_constant=lambda name: None)


class WorkerDiedError(Exception):
    """The process exited before it had rendered a response; the next response starts a new one."""


class Worker:
    """The process, started by the first response. Not thread-safe."""

    def __init__(self, detail: Detail) -> None:
        self._detail = detail
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    def metrics(self, applications: bytes, nodes: bytes) -> bytes:
        """The same as the function of that name.

        Raises:
            ServescopeError: it is not a response of Serve.
            WorkerDiedError: the process was killed, for instance because it took too much memory.
        """
        try:
            connection = self._connection or self._start()
            connection.send_bytes(applications)
            connection.send_bytes(nodes)
            answer = connection.recv_bytes()
        except (OSError, EOFError):
            self.close()
            raise WorkerDiedError from None
        kind, text = answer[:1], answer[1:]
        if kind == _BAD:
            raise ServescopeError(text.decode())
        return text

    def close(self) -> None:
        """Stop the process."""
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._connection = self._process = None

    def _start(self) -> Connection:
        ours, theirs = socket.socketpair()
        with theirs:
            flags = [name for name, wanted in asdict(self._detail).items() if wanted]
            self._process = subprocess.Popen([sys.executable, "-m", __name__, *flags], stdin=theirs.fileno())
        self._connection = Connection(ours.detach())
        return self._connection


def main(flags: list[str]) -> None:
    """Render until the exporter exits."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches this process too; the exporter stops it
    detail = Detail(**dict.fromkeys(flags, True))
    exporter = Connection(0)
    try:
        while True:
            try:
                answer = _GOOD + metrics(exporter.recv_bytes(), exporter.recv_bytes(), detail)
            except ServescopeError as error:
                answer = _BAD + str(error).encode()
            exporter.send_bytes(answer)
    except (EOFError, OSError):
        return


if __name__ == "__main__":
    main(sys.argv[1:])
