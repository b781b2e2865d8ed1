"""For single log records, without a running agent: fluentbit/ray.lua under the LuaJIT that Fluent Bit has."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml
from lupa import luajit21

from tests.support.log_cases import CONFIG, iso, session_of

# The keys of a record that Fluent Bit sets: the line as it was read, and its file.
LINE, FILE = "ray.line", "ray.file"


@dataclass(frozen=True)
class Rule:
    """One rule of a multiline parser: a line that matches in this state continues the record, in the next state."""

    state: str
    regex: re.Pattern[str]
    next_state: str


def multiline_rules(name: str) -> list[Rule]:
    """The rules of a multiline parser in fluentbit/parsers.yaml."""
    document = yaml.safe_load((CONFIG / "parsers.yaml").read_text())
    (parser,) = [p for p in document["multiline_parsers"] if p["name"] == name]
    return [Rule(rule["state"], re.compile(rule["regex"][1:-1]), rule["next_state"]) for rule in parser["rules"]]


def split_records(text: str, parser: str) -> Iterator[str]:
    """Join lines to records as Fluent Bit's multiline parser does: the start rules first only outside of a record."""
    rules = multiline_rules(parser)
    pending: list[str] = []
    state = ""
    for line in text.removesuffix("\n").split("\n"):
        after = [rule for rule in rules if rule.state == state != "start_state" and rule.regex.search(line)]
        if pending and after:
            pending.append(line)
            state = after[0].next_state
            continue
        if pending:
            yield "\n".join(pending)
        pending = [line]
        start = [rule for rule in rules if rule.state == "start_state" and rule.regex.search(line)]
        state = start[0].next_state if start else ""
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


def parsed(raw: str) -> dict[str, Any]:
    """What Fluent Bit's JSON parser makes of a line: the keys of an object, nothing of anything else."""
    try:
        found = json.loads(raw, strict=False) if raw.startswith("{") else {}
    except (json.JSONDecodeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


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
            code, time, record = self.call(function, f"stdout.{kind}", parsed(raw) | {LINE: raw, FILE: path})
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
        if isinstance(value, int) and not isinstance(value, bool):
            return float(value) if abs(value) < 2**63 else math.inf
        if isinstance(value, str):
            return value.encode(errors="surrogatepass")
        return value

    def _to_python(self, value: Any) -> Any:
        if luajit21.lua_type(value) == "table":
            return {key: self._to_python(inner) for key, inner in value.items()}
        return value
