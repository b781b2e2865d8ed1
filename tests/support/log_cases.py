"""For whatever reads Ray's logs: the table of cases that every log agent has to get right, and the real logs.

The table lies in tests/fixtures/logs/cases.yaml. Real programs read the same cases from files: `write_cases`
lays them out as Ray would, each in a session of its own, so that the results can be distinguished.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import yaml

from demo import ROOT

FIXTURES = ROOT / "tests/fixtures/logs"
CONFIG = ROOT / "fluentbit"
# Fields with the location of a record; the cases are laid out in several places.
PLACE = ("file", "node", "session", "severity_number")

# An access line of HAProxy with the syslog header that it sends, which names no host.
HAPROXY_LINE = (
    "<134>Nov 23 14:36:02 haproxy[7]: 10.0.0.1:5678 [23/Nov/2026:14:36:02.385] http_frontend main/main-1 "
    '0/0/1/139/140 200 512 - - ---- 1/1/0/0/0 0/0 "GET /embed/hi?token=abc HTTP/1.1"'
)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One file as Ray writes it and the records that have to come of it."""

    name: str
    file: str  # below logs/
    text: str
    records: list[dict[str, Any]]
    not_by: list[str] = field(default_factory=list)  # agents that do it in another way, for a reason the table has


def cases(file: str = "cases.yaml") -> list[Case]:
    """The hand-checked table."""
    return [Case(**case) for case in yaml.safe_load((FIXTURES / file).read_text(encoding="utf-8"))]


def loggers() -> list[Case]:
    """The table of what common loggers print, each in the stderr of a worker of its own."""
    table = yaml.safe_load((FIXTURES / "loggers.yaml").read_text(encoding="utf-8"))
    worker = "worker-0d3ad6b64ea3edb0d2789ac826a5f173d4551605ef1d1d1a08a5c0fb-01000000-{}.err".format
    return [
        Case(name=entry["logger"], file=worker(20000 + number), text=entry["lines"], records=entry["records"])
        for number, entry in enumerate(table)
    ]


def planted_secrets() -> list[tuple[str, str]]:
    """Lines with a secret, and the secret, which no agent may send."""
    table = yaml.safe_load((FIXTURES / "secrets.yaml").read_text(encoding="utf-8"))
    return [
        (entry["line"] if isinstance(entry["line"], str) else json.dumps(entry["line"]), entry.get("secret", "S3cr3t"))
        for entry in table
    ]


def different(record: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """The fields of a record that are not as a case wants them; `None` wants none."""
    return {name: record.get(name) for name, value in wanted.items() if record.get(name) != value}


def session_of(number: int) -> str:
    """The name of the session that holds a case."""
    return f"session_2026-01-01_00-00-00_{number:06d}_1"


def write_cases(table: list[Case], directory: Path) -> None:
    """Lay the cases out below Ray's temporary directory."""
    for number, case in enumerate(table):
        path = directory / session_of(number) / "logs" / case.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(case.text.encode())


def comparable(record: dict[str, Any]) -> dict[str, Any]:
    """A record without the place it was read at."""
    return {name: value for name, value in record.items() if name not in PLACE}


def iso(nanoseconds: float) -> str:
    """A time as the table writes it: UTC, to the microsecond (Lua's doubles carry no more)."""
    microseconds = round(nanoseconds / 1000)
    moment = datetime.fromtimestamp(microseconds // 10**6, timezone.utc).replace(microsecond=microseconds % 10**6)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def nanoseconds(moment: str) -> int:
    """The reverse of `iso`."""
    return round(datetime.strptime(moment, "%Y-%m-%dT%H:%M:%S.%f%z").timestamp() * 10**6) * 1000


def serve_starts(text: str) -> int:
    """How many records one of Serve's files holds: lines that start one, counted without any of our parsers."""
    start = re.compile(r"(DEBUG|INFO|WARNING|ERROR|CRITICAL) \d{4}-\d\d-|\{\"asctime\"")
    return sum(bool(start.match(line)) for line in text.split("\n"))


def fixture_files(encoding: str) -> Iterable[Path]:
    """The real logs of one encoding, in the order in which Fluent Bit's glob finds them."""
    return sorted(path for path in (FIXTURES / encoding).rglob("*") if path.is_file())
