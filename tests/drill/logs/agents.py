"""A log agent over a folder as Ray lays it out, a writer that logs as Ray does, and a sink that counts what arrives."""

from __future__ import annotations

import contextlib
import json
import logging
import logging.handlers
import os
import pwd
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from demo import ROOT
from demo.stack.component import find
from demo.stack.components.log_collector import SYNCHRONOUS
from demo.stack.ports import LOOPBACK
from tests.drill.logs.sink import KEPT
from tests.support.servers import free_port
from tests.support.waiting import wait_for

# A line of a proxy as Serve writes it in JSON, about 700 bytes; the message has the number that identifies it.
JSON_RECORD = {
    "asctime": "2026-11-23 14:49:54,342",
    "levelname": "INFO",
    "message": "",
    "filename": "proxy.py",
    "lineno": 491,
    "process": 4227,
    "worker_id": "f9f2d925d7e1fb980c158d8c4f41e170fa5038f05c9b438b9bd65d55",
    "node_id": "769430df7a6b09fd5b9825751707a37ca324b616a6841ef597a967f0",
    "actor_id": "c1b8dbc904b3bb7c67691ceb01000000",
    "task_name": "ServeReplica:main:Gateway.handle_request_with_rejection",
    "task_func_name": "ray.serve._private.replica.ServeReplica:main:Gateway.handle_request_with_rejection",
    "actor_name": "SERVE_REPLICA::main#Gateway#f3jxvnsq",
    "deployment": "main_Gateway",
    "replica": "f3jxvnsq",
    "component_name": "replica",
    "log_to_stderr": False,
    "route": "/embed/{text}",
    "application": "main",
    "request_id": "6fb59f3a-d471-4f5e-b0d2-0a50e8b47086",
}


def json_line(number: int) -> str:
    """One record as Serve writes it in JSON."""
    return json.dumps(JSON_RECORD | {"message": f"GET /embed/n={number} 200 130.3ms", "timestamp_ns": time.time_ns()})


def text_line(number: int) -> str:
    """One record as Serve writes it in text."""
    return f"INFO {time.strftime('%Y-%m-%d %H:%M:%S')},000 main_Gateway f3jxvnsq 6fb59f3a -- answered n={number}"


class Writer:
    """A thread that logs at a rate through the handler that Ray uses, rotating at 5 MB."""

    def __init__(
        self, path: Path, *, rate: int, start: int = 0, line: Callable[[int], str] = json_line, rotate: bool = True
    ) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.written = start
        self._start, self._rate, self._line = start, rate, line
        self._handler = logging.handlers.RotatingFileHandler(path, maxBytes=5_000_000 if rotate else 0, backupCount=50)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def count(self) -> int:
        """How many lines have been written."""
        return self.written - self._start

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        self._handler.close()

    def write(self, lines: int) -> None:
        """Write some lines at once."""
        for _ in range(lines):
            record = logging.LogRecord("ray.serve", logging.INFO, "", 0, self._line(self.written), None, None)
            self._handler.emit(record)
            self.written += 1

    def _run(self) -> None:
        begun = time.monotonic()
        while not self._stop.wait(0.02):
            due = int((time.monotonic() - begun) * self._rate) - self.count
            self.write(max(0, due))


class Sink:
    """tests.drill.logs.sink as a process."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://{LOOPBACK}:{self.port}"
        self._process = subprocess.Popen([sys.executable, "-m", "tests.drill.logs.sink", str(self.port)], cwd=ROOT)
        self._client = httpx.Client(base_url=self.url, timeout=60)

    def __enter__(self) -> Sink:
        def up() -> bool:
            with contextlib.suppress(httpx.HTTPError):
                return bool(self.tally())
            return False

        wait_for(up, 20, lambda: "the sink does not start", pause_s=0.1)
        return self

    def __exit__(self, *error: object) -> None:
        self._client.close()
        self._process.terminate()
        self._process.wait(10)

    def tally(self) -> dict[str, int]:
        reported: dict[str, int] = self._client.get("/tally").json()
        return reported

    def records(self) -> list[dict[str, Any]]:
        """All of them; it is an error to ask for more than the sink keeps."""
        reported: list[dict[str, Any]] = self._client.get("/records").json()
        assert len(reported) == min(self.tally()["total"], KEPT) < KEPT, f"the sink keeps {KEPT} records only"
        return reported

    def gaps(self, start: int, count: int) -> list[list[int]]:
        """First and last of each run of numbers that have not come."""
        reported: list[list[int]] = self._client.get(f"/gaps/{start}/{count}").json()
        return reported

    def answer(self, status: int) -> None:
        """What every push gets from now on."""
        self._client.put(f"/answer/{status}")


@dataclass(kw_only=True)
class Agent:
    """One of the two agents over a directory, sending to a sink; `restart` keeps its state."""

    kind: str  # fluent-bit, fluent-bit-otlp or otelcol
    ray_tmp: str
    state: Path
    sink: Sink
    user: str | None = None
    env: dict[str, str] = field(default_factory=dict)
    pin: int | None = None
    entry: str = "fluent-bit.yaml"

    def __post_init__(self) -> None:
        self.program = "otelcol" if self.kind == "otelcol" else "fluent-bit"
        self.metrics_port, self.events_port = free_port(), free_port()
        self.log = self.state.parent / f"{self.kind}.log"
        self.peak_rss = self.peak_own = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        path = find(self.program)
        assert path, f"{self.program} is neither on the PATH nor below .tools/"
        self.state.mkdir(parents=True, exist_ok=True)
        env = {**os.environ, "TZ": "UTC", "RAY_TMP": self.ray_tmp, "NODE_NAME": "n1", "CLUSTER": "test"}
        if self.program == "fluent-bit":
            command = [path, "-c", str(ROOT / "fluentbit" / self.entry)]
            env |= {
                "FLB_STATE": str(self.state),
                "RAY_LOGS_TO": "otlp" if self.kind.endswith("otlp") else "loki",
                "LOGS_PORT": str(self.sink.port),
                "FLB_HTTP_PORT": str(self.metrics_port),
                "FLB_METRICS_PORT": str(self.events_port),
            }
        else:
            command = [path, SYNCHRONOUS, "--config", str(ROOT / "otel/logs.yaml")]
            env |= {
                "OTEL_STATE": str(self.state),
                "LOGS_ENDPOINT": f"{self.sink.url}/otlp",
                "OTEL_METRICS_PORT": str(self.metrics_port),
                "OTEL_EVENTS": f"{LOOPBACK}:{self.events_port}",
                "OTEL_HEALTH": f"{LOOPBACK}:{free_port()}",
            }
        if self.pin is not None:
            command = ["taskset", "-c", str(self.pin), *command]
        identity = pwd.getpwnam(self.user) if self.user else None
        if identity:
            for made in (self.state, self.state.parent):
                os.chown(made, identity.pw_uid, identity.pw_gid)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                env=env | self.env,
                stdout=log,
                stderr=log,
                user=identity.pw_uid if identity else None,
                group=identity.pw_gid if identity else None,
                extra_groups=[] if identity else None,
            )

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(30)
            self._process = None

    def __enter__(self) -> Agent:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def watch(self) -> psutil.Process:
        """Its process; the largest memory seen so far is kept, bytes.

        `peak_rss` is all that is resident, `peak_own` without the pages of files that are mapped, which the system
        takes back when it needs them: both agents map what waits on disk.
        """
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text()[-2000:]
        process = psutil.Process(self._process.pid)
        memory = process.memory_info()
        self.peak_rss = max(self.peak_rss, memory.rss)
        self.peak_own = max(self.peak_own, memory.rss - memory.shared)
        return process

    def events(self) -> str:
        """The metrics made from logs, in Prometheus' text format."""
        return httpx.get(f"http://{LOOPBACK}:{self.events_port}/metrics", timeout=10).text

    def own(self, metric: str) -> float:
        """Its own metrics: the sum of one metric's series that contain the words, 0 if there is none yet."""
        path = "/metrics" if self.kind == "otelcol" else "/api/v2/metrics/prometheus"
        text = httpx.get(f"http://{LOOPBACK}:{self.metrics_port}{path}", timeout=10).text
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(metric))

    def complaints(self) -> list[str]:
        """What it said of permissions, without the time at which it did."""
        lines = self.log.read_text().splitlines()
        return [line.split("] ")[-1].strip() for line in lines if "permission" in line.lower()]


@dataclass
class Place:
    """A temporary directory as Ray's, with a sink beside it."""

    directory: Path
    sink: Sink

    @property
    def tmp(self) -> Path:
        return self.directory / "ray"

    def logs(self, number: int = 0) -> Path:
        """The logs of one session."""
        return self.tmp / f"session_2026-01-0{number + 1}_00-00-00_000000_1" / "logs"

    def serve_file(self, number: int = 0, name: str = "replica_main_Gateway_f3jxvnsq.log") -> Path:
        return self.logs(number) / "serve" / name

    def agent(self, kind: str, **options: Any) -> Agent:
        return Agent(
            kind=kind,
            ray_tmp=options.pop("ray_tmp", str(self.tmp)),
            state=self.directory / "state" / kind,
            sink=self.sink,
            **options,
        )


@contextlib.contextmanager
def place_below(directory: Path) -> Iterator[Place]:
    """A place below a directory that other users may enter."""
    (directory / "ray").mkdir(parents=True)
    (directory / "state").mkdir()
    for made in (directory, directory / "ray", directory / "state"):
        made.chmod(0o755)
    with Sink() as sink:
        yield Place(directory, sink)
