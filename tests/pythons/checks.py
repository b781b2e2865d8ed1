"""What a user of each extra does, and what has to come of it."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from demo import ROOT
from tests.pythons import stand_ins
from tests.support.ray_rest_api import rest_server, sample
from tests.support.servers import free_port

SLOS = Path("demo/slo/slo.yaml")  # from which the demo's rules are made
COMMAND_S = 120.0


class Failed(Exception):
    """Something is not as it has to be; the text is one line."""


@dataclass(frozen=True)
class Place:
    """Where a check runs: the programs of an environment, and a folder of its own to work in."""

    programs: Path
    folder: Path

    def run(self, *words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment; nothing of ours is in its variables but `environment`."""
        program, *arguments = words
        try:
            return subprocess.run(
                [self.programs / program, *arguments],
                capture_output=True,
                text=True,
                encoding="utf-8",
                check=False,
                timeout=COMMAND_S,
                cwd=self.folder,
                env={"PATH": f"{self.programs}:/usr/bin:/bin", "HOME": str(self.folder), **environment},
            )
        except subprocess.TimeoutExpired:
            raise Failed(f"no end within {COMMAND_S:g} s") from None

    def servescope(self, *arguments: str | Path, **environment: str) -> str:
        """Run a command that has to succeed; returns what it printed."""
        result = self.run("servescope", *arguments, **environment)
        if result.returncode:
            raise Failed(f"exit code {result.returncode}: {last_line(result.stderr)}")
        return result.stdout


@dataclass(frozen=True)
class Check:
    """A command as a user types it, and the function that runs it and raises Failed."""

    command: str
    run: Callable[[Place], None]


def last_line(text: str) -> str:
    """The last line of a message, which says what is wrong; "no word" of an empty one."""
    return text.strip().rpartition("\n")[2] or "no word"


def compare(written: Path, committed: Path, expected: Iterable[Path] = ()) -> None:
    """Hold every file below a folder against the committed one, byte for byte, and `expected` against what is there."""
    files = sorted(path.relative_to(written) for path in written.rglob("*") if path.is_file())
    wrong = [str(path) for path in files if not same(written / path, committed / path)]
    wrong += [f"{path} (not written)" for path in sorted(set(expected) - set(files))]
    if wrong or not files:
        raise Failed(f"not as committed: {', '.join(wrong)}" if wrong else "nothing was written")


def same(one: Path, other: Path) -> bool:
    """Whether both files exist and hold the same bytes."""
    return one.is_file() and other.is_file() and one.read_bytes() == other.read_bytes()


def dashboards(place: Place) -> None:
    """All dashboards are those of the repository."""
    committed = ROOT / "dashboards"
    place.servescope("dashboards", "-o", "dashboards")
    compare(place.folder / "dashboards", committed, (path.relative_to(committed) for path in committed.rglob("*.json")))


def rules(place: Place) -> None:
    """All rules with the demo's objectives are those of the repository."""
    shutil.copy(ROOT / SLOS, place.folder / "slo.yaml")
    place.servescope("rules", "--slo", "slo.yaml", "-o", "alerts")
    committed = place.folder / "committed"  # alerts/ and the rules of the demo, as one folder
    for folder in (ROOT / "alerts", (ROOT / SLOS).parent):
        shutil.copytree(folder, committed, dirs_exist_ok=True, ignore=shutil.ignore_patterns("tests", "slo.yaml"))
    compare(place.folder / "alerts", committed, (path.relative_to(committed) for path in committed.rglob("*.yml")))


def everything(place: Place) -> None:
    """All that `make generate` takes from the package is as committed."""
    for path in (SLOS, Path("docs/alerts.md"), Path("docs/set-ups.md")):
        (place.folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, place.folder / path)
    place.servescope("generate", "-o", "out")
    compare(place.folder / "out", ROOT)


def trace(place: Place) -> None:
    """The request of a Collector's file is found, with its time."""
    (place.folder / "traces").mkdir()
    (place.folder / "traces/traces.json").write_text(stand_ins.TRACES + "\n", encoding="utf-8")
    told = place.servescope("trace", "--slowest", "1", "--traces", "traces")
    if "GET /canned" not in told or not ("1250" in told or "1.25" in told):
        raise Failed(f"says nothing of a request of 1.25 s: {last_line(told)}")


def logs(place: Place) -> None:
    """A line of a Ray session is read by the wheel's own ray.lua: application and deployment apart, a secret gone."""
    serve = place.folder / "session_1/logs/serve"
    serve.mkdir(parents=True)
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    line = f"ERROR {now},000 main_Gateway x1 order-17 -- refused password=hunter2\n"
    (serve / "replica_main_Gateway_x1.log").write_text(line, encoding="utf-8")
    told = place.servescope("logs", "session_1", "--request", "order-17", "--level", "ERROR")
    if "main/Gateway  refused password=[redacted]" not in told:
        raise Failed(f"does not show the line: {last_line(told)}")


def exporter(place: Place) -> None:
    """What Ray's REST API says is among the metrics."""
    with rest_server(sample()) as (url, _):
        told = place.servescope("exporter", "--once", "--address", url)
    if 'servescope_application_status{application="main",status="RUNNING"} 1.0' not in told.splitlines():
        raise Failed("the metrics do not say that application main is RUNNING")


def snapshot(place: Place) -> None:
    """The page holds the figure that Prometheus gave, and the library that draws it."""
    with stand_ins.prometheus() as url:
        place.servescope("snapshot", "--prometheus", url, "--from", "now-10m", "-d", "servescope-overview")
    page = (place.folder / "snapshot.html").read_text(encoding="utf-8")
    if stand_ins.FIGURE not in page or stand_ins.SERIES["application"] not in page:
        raise Failed(f"the page does not hold {stand_ins.FIGURE} of {stand_ins.SERIES['application']}")
    if "Plotly" not in page:
        raise Failed("the page cannot draw: Plotly is not in it")


def tracing(place: Place, protocol: str, *, ray: bool) -> None:
    """An application goes on and ends where no Collector answers; and also where tracing cannot start."""
    (place.folder / "application.py").write_text(stand_ins.TRACED_APPLICATION, encoding="utf-8")
    if ray:
        (place.folder / "ray.py").write_text(stand_ins.RAY, encoding="utf-8")
    result = place.run(
        "python",
        "application.py",
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{free_port()}",
        OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
    )
    if result.returncode:
        raise Failed(f"the application ends with exit code {result.returncode}: {last_line(result.stderr)}")
    if f"application ended, {int(ray)} processors" not in result.stdout:
        off = [line for line in result.stderr.splitlines() if "tracing is off" in line]
        raise Failed(f"{last_line(result.stdout)}; {off[0] if off else last_line(result.stderr)}")
    if not ray and "servescope: tracing is off: " not in result.stderr:
        raise Failed("no line says that tracing is off")


def lint(place: Place) -> None:
    """Our own rules are clean, and a rule that reads a fabricated sum is found."""
    place.servescope("lint", ROOT / "alerts")
    rule = "groups: [{name: g, rules: [{record: 'a:b:c', expr: 'rate(ray_serve_http_request_latency_ms_sum[5m])'}]}]\n"
    (place.folder / "rules.yml").write_text(rule, encoding="utf-8")
    result = place.run("servescope", "lint", "rules.yml")
    if result.returncode != 1 or "a:b:c" not in result.stdout:
        raise Failed(f"a fabricated sum passes: exit code {result.returncode}, {last_line(result.stdout)}")


def no_extra(place: Place, words: Sequence[str]) -> None:
    """One line names what to install."""
    result = place.run(*words)
    if not result.returncode:
        raise Failed("exit code 0 without the packages of any extra")
    if result.stderr.count("\n") != 1 or "pip install '.[" not in result.stderr:
        raise Failed(f"not one line that names an extra: {last_line(result.stderr)}")


CHECKS: dict[str, tuple[Check, ...]] = {
    "": (
        Check("servescope --help", partial(no_extra, words=("servescope", "--help"))),
        Check("python -m servescope --help", partial(no_extra, words=("python", "-m", "servescope", "--help"))),
    ),
    "generate": (
        Check("servescope dashboards", dashboards),
        Check("servescope rules --slo slo.yaml", rules),
        Check("servescope generate", everything),
        Check("servescope trace --slowest 1", trace),
    ),
    "lint": (Check("servescope lint", lint),),
    "exporter": (Check("servescope exporter --once", exporter),),
    "tracing": (
        Check("servescope.tracing:otlp over grpc, no Collector", partial(tracing, protocol="grpc", ray=True)),
        Check("servescope.tracing:otlp over http, no Collector", partial(tracing, protocol="http/protobuf", ray=True)),
        Check("servescope.tracing:otlp without Ray", partial(tracing, protocol="grpc", ray=False)),
    ),
    "logs": (Check("servescope logs", logs),),
    "snapshot": (Check("servescope snapshot", snapshot),),
}
"""By extra; "" is the package without any."""

RESOLVED_ONLY = {"demo": "brings Ray, OpenCV and ONNX Runtime; `make test-live` runs the demo on the Python of .venv"}
"""Extras that are resolved and not installed, and why."""
