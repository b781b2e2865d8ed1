"""What the tests of the log agents share: the table of cases, and fluentbit/ray.lua under a real LuaJIT.

The table lies in tests/fixtures/logs/cases.yaml. Real programs read the same cases from files: `write_cases`
lays them out as Ray would, each in a session of its own, so that what comes back can be told apart.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import yaml
from lupa import luajit21

from demo import ROOT

FIXTURES = ROOT / "tests/fixtures/logs"
CONFIG = ROOT / "fluentbit"
# Fields that tell where a record was read; the cases are laid out in several places.
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


def cases(file: str = "cases.yaml") -> list[Case]:
    """The hand-checked table."""
    return [Case(**case) for case in yaml.safe_load((FIXTURES / file).read_text(encoding="utf-8"))]


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


# ---------------------------------------------------------------------------------------------------------------------
# ray.lua under LuaJIT


def multiline_rules(name: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """The start and the continuation of a multiline parser in fluentbit/parsers.yaml."""
    document = yaml.safe_load((CONFIG / "parsers.yaml").read_text())
    (parser,) = [p for p in document["multiline_parsers"] if p["name"] == name]
    start, cont = (re.compile(rule["regex"].strip("/")) for rule in parser["rules"])
    return start, cont


def split_records(text: str, parser: str) -> Iterator[str]:
    """Join lines to records as Fluent Bit's multiline parser does: the start rule first only outside of a record."""
    _, cont = multiline_rules(parser)
    pending: list[str] = []
    for line in text.splitlines():
        if pending and cont.search(line):
            pending.append(line)
            continue
        if pending:
            yield "\n".join(pending)
        pending = [line]
    if pending:
        yield "\n".join(pending)


def tag_of(file: str) -> tuple[str, str]:
    """The last part of the tag and the multiline parser of the input that reads a file below logs/."""
    if file.startswith("serve/"):
        return "serve", "ray_record"
    if file.startswith("events/"):
        return "events", ""
    if file.startswith("worker-") or file.startswith("job-driver-"):
        return "worker", "ray_print"
    return "core", "ray_record"


class Lua:
    """fluentbit/ray.lua as one run of Fluent Bit has it: what it learns from a record holds for the next ones."""

    def __init__(self) -> None:
        self._runtime = luajit21.LuaRuntime(unpack_returned_tuples=True)
        self._runtime.globals().dofile(str(CONFIG / "ray.lua"))

    def call(self, function: str, tag: str, fields: dict[str, Any]) -> tuple[int, dict[str, Any], dict[str, Any]]:
        """Call `ray` or `loki` as Fluent Bit does; returns code, time and record."""
        table = self._to_lua(fields)
        now = self._runtime.table_from({"sec": 0, "nsec": 0})
        code, time, record = self._runtime.globals()[function](tag, now, table)
        return code, self._to_python(time), self._to_python(record)

    def read(
        self, text: str, file: str, session: str = session_of(0), *, function: str = "ray"
    ) -> list[dict[str, Any]]:
        """The records of one file below logs/."""
        kind, parser = tag_of(file)
        path = f"/tmp/ray/{session}/logs/{file}"
        found = []
        for raw in split_records(text, parser) if parser else text.splitlines():
            try:
                fields = {**json.loads(raw), "file": path} if raw.startswith("{") else {"log": raw, "file": path}
            except json.JSONDecodeError:
                fields = {"log": raw, "file": path}
            code, time, record = self.call(function, f"stdout.{kind}", fields)
            assert code in (-1, 1)
            if code == 1:
                if time["sec"]:
                    record["time"] = iso(time["sec"] * 10**9 + time["nsec"])
                found.append(record)
        return found

    def _to_lua(self, value: Any) -> Any:
        if isinstance(value, dict):
            return self._runtime.table_from({key: self._to_lua(inner) for key, inner in value.items()})
        if isinstance(value, list):
            return self._runtime.table_from([self._to_lua(inner) for inner in value])
        # LuaJIT in Fluent Bit knows doubles only
        return float(value) if isinstance(value, int) and not isinstance(value, bool) else value

    def _to_python(self, value: Any) -> Any:
        if luajit21.lua_type(value) == "table":
            return {key: self._to_python(inner) for key, inner in value.items()}
        return value


def iso(nanoseconds: float) -> str:
    """A time as the table writes it: UTC, to the microsecond (Lua's doubles carry no more)."""
    microseconds = round(nanoseconds / 1000)
    moment = datetime.fromtimestamp(microseconds // 10**6, timezone.utc).replace(microsecond=microseconds % 10**6)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def serve_starts(text: str) -> int:
    """How many records one of Serve's files holds: lines that start one, counted without any of our parsers."""
    start = re.compile(r"(DEBUG|INFO|WARNING|ERROR|CRITICAL) \d{4}-\d\d-|\{\"asctime\"")
    return sum(bool(start.match(line)) for line in text.split("\n"))


def fixture_files(encoding: str) -> Iterable[Path]:
    """The real logs of one encoding, in the order in which Fluent Bit's glob finds them."""
    return sorted(path for path in (FIXTURES / encoding).rglob("*") if path.is_file())
