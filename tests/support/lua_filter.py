"""For single log records, without a running agent: fluentbit/ray.lua under the LuaJIT that Fluent Bit has."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml
from lupa import luajit21

from tests.support.log_cases import CONFIG, iso, session_of


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
