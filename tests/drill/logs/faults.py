"""Two agents, a writer that logs as Ray does, and the faults that both have to live through.

Used by the live tests (the short faults) and by `make drill-logs` (all; the figures go to docs/logs.md). A fault is a
function that makes trouble around a running agent; what was written and what arrived are then compared.
"""

from __future__ import annotations

import contextlib
import json
import logging
import logging.handlers
import os
import pwd
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import psutil

from demo import ROOT
from demo.stack.component import find
from demo.stack.components.log_collector import SYNCHRONOUS
from tests.drill.logs.sink import KEPT
from tests.support.running import free_port
from tests.support.waiting import wait_for

# A line of a proxy as Serve writes it in JSON, about 700 bytes; the message carries the number that tells it apart.
_JSON = {
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
    return json.dumps(_JSON | {"message": f"GET /embed/n={number} 200 130.3ms", "timestamp_ns": time.time_ns()})


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
        self.url = f"http://127.0.0.1:{self.port}"
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
        told: dict[str, int] = self._client.get("/tally").json()
        return told

    def records(self) -> list[dict[str, Any]]:
        """All of them; it is an error to ask for more than the sink keeps."""
        told: list[dict[str, Any]] = self._client.get("/records").json()
        assert len(told) == min(self.tally()["total"], KEPT) < KEPT, f"the sink keeps {KEPT} records only"
        return told

    def gaps(self, start: int, count: int) -> list[list[int]]:
        """First and last of each run of numbers that have not come."""
        told: list[list[int]] = self._client.get(f"/gaps/{start}/{count}").json()
        return told

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
                "OTEL_EVENTS": f"127.0.0.1:{self.events_port}",
                "OTEL_HEALTH": f"127.0.0.1:{free_port()}",
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
        return httpx.get(f"http://127.0.0.1:{self.events_port}/metrics", timeout=10).text

    def own(self, metric: str) -> float:
        """What it counts of itself: the sum of one metric's series that bear the words, 0 where there is none yet."""
        path = "/metrics" if self.kind == "otelcol" else "/api/v2/metrics/prometheus"
        text = httpx.get(f"http://127.0.0.1:{self.metrics_port}{path}", timeout=10).text
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
def place(directory: Path) -> Iterator[Place]:
    """A place below a directory that other users may enter."""
    (directory / "ray").mkdir(parents=True)
    (directory / "state").mkdir()
    for made in (directory, directory / "ray", directory / "state"):
        made.chmod(0o755)
    with Sink() as sink:
        yield Place(directory, sink)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one fault did to one agent: lines written, lost, arrived more than once; and what else is to be said.

    `mib` is its largest memory where the fault is about that, `own_mib` that without mapped files; `wrong` tells what
    else is not as it has to be.
    """

    written: int
    lost: int
    duplicated: int
    note: str = ""
    mib: int = 0
    wrong: str = ""
    own_mib: int = 0


SAID_NOTHING = "said nothing of the directory"


def _join(*notes: str) -> str:
    return "; ".join(filter(None, notes))


def settle(place: Place, agent: Agent, written: int, *, quiet_s: float = 45) -> Outcome:
    """Wait until all has come, or nothing has for longer than an agent waits between two tries, and compare."""
    last, since = -1, time.monotonic()
    while time.monotonic() - since < quiet_s:
        agent.watch()
        told = place.sink.tally()
        if told["numbered"] != last:
            last, since = told["numbered"], time.monotonic()
        elif told["distinct"] >= written and time.monotonic() - since > 2:
            break
        time.sleep(0.25)
    told = place.sink.tally()
    lost = written - told["distinct"]
    note = f"lost in {len(place.sink.gaps(0, written))} places" if 0 < lost < written else ""
    return Outcome(written=written, lost=lost, duplicated=told["duplicates"], note=note)


# ---------------------------------------------------------------------------------------------------------------------
# The faults


def rotation(place: Place, kind: str, *, seconds: float = 45, rate: int = 1200) -> Outcome:
    """The file is rotated at 5 MB, every six seconds or so, while it is written."""
    with place.agent(kind) as agent, Writer(place.serve_file(), rate=rate) as writer:
        for _ in range(int(seconds * 4)):
            agent.watch()
            time.sleep(0.25)
        writer.__exit__()
        rotated = len(list(place.serve_file().parent.glob("*.log.*")))
        outcome = settle(place, agent, writer.count)
    assert rotated >= 1, "nothing was rotated"
    return replace(outcome, note=_join(f"{rotated} rotations", outcome.note))


def restarts(number: int, times: int, *, quiet_s: float = 45) -> Callable[[Place, str], Outcome]:
    """The agent ends by a signal and starts again, several times, while lines are written."""

    def fault(place: Place, kind: str) -> Outcome:
        agent = place.agent(kind)
        with Writer(place.serve_file(), rate=1000, rotate=False) as writer:
            for _ in range(times):
                agent.start()
                before = place.sink.tally()["distinct"]
                wait_for(lambda b=before: place.sink.tally()["distinct"] > b, 30, lambda: "nothing comes", pause_s=0.2)
                time.sleep(1.5)
                agent.stop(number)
            writer.__exit__()
        with agent:
            return settle(place, agent, writer.count, quiet_s=quiet_s)

    return fault


def rotated_while_down(place: Place, kind: str) -> Outcome:
    """The file is rotated while the agent is down: three thousand lines wait in x.log.1 when it comes back."""
    agent = place.agent(kind)
    writer = Writer(place.serve_file(), rate=0)
    writer.write(3000)
    with agent:
        wait_for(lambda: place.sink.tally()["distinct"] == 3000, 60, lambda: "nothing comes", pause_s=0.2)
    writer.write(6000)
    assert place.serve_file().with_suffix(".log.1").exists()
    with agent:
        return settle(place, agent, writer.count)


def outage(seconds: float, rate: int = 1000) -> Callable[[Place, str], Outcome]:
    """The sink answers 503 for some time while lines are written."""

    def fault(place: Place, kind: str) -> Outcome:
        with place.agent(kind) as agent, Writer(place.serve_file(), rate=rate) as writer:
            wait_for(lambda: place.sink.tally()["distinct"] > 500, 30, lambda: "nothing comes", pause_s=0.2)
            place.sink.answer(503)
            begun = time.monotonic()
            while time.monotonic() - begun < seconds:
                agent.watch()
                time.sleep(0.5)
            place.sink.answer(204)
            time.sleep(2)
            writer.__exit__()
            outcome = settle(place, agent, writer.count)
            assert place.sink.tally()["refused"] > 0, "the sink was never asked"
            mib, own = round(agent.peak_rss / 2**20), round(agent.peak_own / 2**20)
        note = f"at most {mib} MiB of memory, at most {own} without mapped files"
        return replace(outcome, mib=mib, own_mib=own, note=_join(note, outcome.note))

    return fault


def new_session(place: Place, kind: str, *, seconds: float = 8) -> Outcome:
    """Ray starts again: a new session, and the link session_latest with it."""
    link = place.tmp / "session_latest"
    with place.agent(kind) as agent:
        written = 0
        for number in range(2):
            place.logs(number).mkdir(parents=True)
            link.unlink(missing_ok=True)
            link.symlink_to(place.logs(number).parent)
            with Writer(place.serve_file(number), rate=1000, start=number * 10**6) as writer:
                time.sleep(seconds)
            written += writer.count
        return settle(place, agent, written)


def deleted_session(place: Place, kind: str, *, seconds: float = 8) -> Outcome:
    """An old session is deleted, once it was read, while the live one is written."""
    with Writer(place.serve_file(0), rate=1000, start=10**6) as old:
        time.sleep(2)
    with place.agent(kind) as agent, Writer(place.serve_file(1), rate=1000) as writer:
        wait_for(lambda: not place.sink.gaps(10**6, old.count), 30, lambda: "the old one is not read", pause_s=0.2)
        shutil.rmtree(place.logs(0).parent)
        time.sleep(seconds)
        writer.__exit__()
        return settle(place, agent, old.count + writer.count)


def long_line(place: Place, kind: str) -> Outcome:
    """A line of 10 MB among others."""
    with place.agent(kind) as agent:
        writer = Writer(place.serve_file(), rate=0)
        writer.write(500)
        with place.serve_file().open("a") as file:
            file.write(json.dumps(_JSON | {"message": "n=999999 " + "x" * 10_000_000}) + "\n")
        writer.write(500)
        outcome = settle(place, agent, writer.count + 1)
    cut = [record for record in place.sink.records() if "n=999999 " in record["message"][:100]]
    longest = max((len(record["message"]) for record in cut), default=0)
    marked = all(str(record.get("truncated")).lower() == "true" for record in cut)
    wrong = "" if len(cut) == 1 and marked and longest == 204_800 else "the long line is not cut to 204800 and marked"
    note = f"the long line came cut to {longest} bytes, {'marked' if cut and marked else 'not marked'}"
    return replace(outcome, note=_join(note, outcome.note), wrong=wrong)


def unreadable(place: Place, kind: str, *, seconds: float = 20) -> Outcome:
    """Ray and the agent run as the same user, who may not enter a session's directory; in the end he may again."""
    identity = pwd.getpwnam("nobody")
    for number in range(2):
        Writer(place.serve_file(number), rate=0, start=500 * number).write(500)
    for path in (place.tmp, *place.tmp.rglob("*")):
        os.chown(path, identity.pw_uid, identity.pw_gid)
    closed = place.serve_file(0).parent
    closed.chmod(0)
    with place.agent(kind, user="nobody") as agent:
        time.sleep(seconds)
        meanwhile = place.sink.tally()["distinct"]
        said = agent.complaints()
        errors = agent.own('fluentbit_logger_logs_total{message_type="error"}')
        closed.chmod(0o755)
        outcome = settle(place, agent, 1000)
    told = f"said {len(said)} times: {said[0].replace(str(place.tmp), '$RAY_TMP')}" if said else SAID_NOTHING
    note = f"{meanwhile} of the 500 readable lines came meanwhile; {told}"
    wrong = "" if len(set(said)) == 1 and errors >= len(said) else SAID_NOTHING if not said else f"said {set(said)}"
    return replace(outcome, note=_join(note, outcome.note), wrong=wrong)


def other_user(place: Place, kind: str) -> Outcome:
    """The agent runs as another user than root, and everything is readable."""
    writer = Writer(place.serve_file(), rate=0)
    writer.write(5000)
    with place.agent(kind, user="nobody") as agent:
        return settle(place, agent, writer.count)


def other_directory(place: Place, kind: str) -> Outcome:
    """Ray's temporary directory lies elsewhere, with a blank in its path."""
    moved = Place(place.directory / "else where", place.sink)
    writer = Writer(moved.serve_file(), rate=0)
    writer.write(5000)
    with place.agent(kind, ray_tmp=str(moved.tmp)) as agent:
        return settle(place, agent, writer.count)


def underscores(place: Place, kind: str) -> Outcome:
    """Text logs of a deployment My_Model of an application my_app."""
    line = "INFO 2026-11-23 14:36:02,175 my_app_My_Model 28xnycjf -- n={}".format
    writer = Writer(place.serve_file(name="replica_my_app_My_Model_28xnycjf.log"), rate=0, line=line)
    writer.write(5000)
    with place.agent(kind, env={"RAY_SERVE_APPS": "my_app"}) as agent:
        outcome = settle(place, agent, writer.count)
    names = {(record["application"], record["deployment"]) for record in place.sink.records()}
    wrong = names - {("my_app", "My_Model")}
    return replace(outcome, wrong=f"read as {sorted(wrong)}" if wrong else "")


def time_zone(place: Place, kind: str) -> Outcome:
    """Text logs written, and read, in New York."""
    line = "INFO 2026-07-23 14:36:02,175 main_Gateway 28xnycjf -- n={}".format
    writer = Writer(place.serve_file(), rate=0, line=line)
    writer.write(5000)
    with place.agent(kind, env={"TZ": "America/New_York"}) as agent:
        outcome = settle(place, agent, writer.count)
    times = {record["nanoseconds"] for record in place.sink.records()}
    right = times == {1784831762175000000}  # 18:36:02.175 UTC
    return replace(outcome, wrong="" if right else f"wrong times: {sorted(times)[:3]}")


KILLS = 8
FAULTS: dict[str, Callable[[Place, str], Outcome]] = {
    "rotation at 5 MB under load": rotation,
    "SIGTERM and start, eight times": restarts(signal.SIGTERM, 8),
    "kill -9 and start, eight times": restarts(signal.SIGKILL, KILLS),
    "rotation while it is down": rotated_while_down,
    "output down for 30 s": outage(30),
    "output down for 5 min": outage(300),
    "new session while it runs": new_session,
    "old session deleted while it runs": deleted_session,
    "a line of 10 MB": long_line,
    "an unreadable directory, as its owner": unreadable,
    "as another user than root": other_user,
    "another temporary directory": other_directory,
    "names with underscores, in text": underscores,
    "another time zone, in text": time_zone,
}


# ---------------------------------------------------------------------------------------------------------------------
# What they may cost


@dataclass(frozen=True, kw_only=True)
class Bound:
    """What a fault may cost an agent: lines lost, lines twice (None: all that were written), memory in MiB, all of it
    or without mapped files (0: any), and what may be `wrong`.

    `why` is the reason where that is more than what is promised: a known deviation, which docs/logs.md shows.
    """

    lost: int = 0
    twice: int | None = 0
    mib: int = 0
    own_mib: int = 0
    wrong: str = ""
    why: str = ""


def after_kills(times: int, kind: str) -> Bound:
    """What kills may cost where one file is open: each of them its pending record, and what was not yet ticked off.

    For Fluent Bit that is at most a chunk of 2 MB, some 2,000 lines.
    """
    if kind == "otelcol":
        why = "it notes how far it read when it comes to the end of a file; all that it read since comes again"
        return Bound(lost=times, twice=None, why=why)
    return Bound(lost=times, twice=times * 2000)


IN_FIVE_MINUTES = Bound(mib=100)
DEVIATIONS: dict[tuple[str, str], Bound] = {
    ("rotation while it is down", "fluent-bit"): Bound(
        lost=3200, why="it reads no rotated names: what is rotated away while it is down is lost"
    ),
    ("output down for 5 min", "otelcol"): Bound(
        own_mib=100,
        why="its queue on disk is mapped into memory whole, pages that the system takes back when it needs them",
    ),
    ("an unreadable directory, as its owner", "otelcol"): Bound(
        wrong=SAID_NOTHING, why="the file_log receiver tells of it at its log level debug only, and in no metric"
    ),
}


def bound(fault: str, kind: str) -> Bound:
    """What a fault may cost an agent; nothing where nothing is said of it."""
    usual = {
        "kill -9 and start, eight times": after_kills(KILLS, kind),
        "output down for 5 min": IN_FIVE_MINUTES,
    }
    return DEVIATIONS.get((fault, kind)) or usual.get(fault, Bound())


def breaches(outcome: Outcome, allowed: Bound) -> list[str]:
    """Where an outcome is worse than what is allowed."""
    found = []
    if outcome.lost > allowed.lost:
        found.append(f"{outcome.lost:,} lost, {allowed.lost:,} allowed")
    twice = outcome.written if allowed.twice is None else allowed.twice
    if outcome.duplicated > twice:
        found.append(f"{outcome.duplicated:,} twice, {twice:,} allowed")
    if allowed.mib and outcome.mib > allowed.mib:
        found.append(f"{outcome.mib} MiB of memory, {allowed.mib} allowed")
    if allowed.own_mib and outcome.own_mib > allowed.own_mib:
        found.append(f"{outcome.own_mib} MiB of memory without mapped files, {allowed.own_mib} allowed")
    if outcome.wrong and outcome.wrong != allowed.wrong:
        found.append(outcome.wrong)
    return found
