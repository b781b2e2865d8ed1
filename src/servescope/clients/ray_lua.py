"""Ray's log files without an agent: `fluentbit/ray.lua` itself reads them, under the LuaJIT that Fluent Bit has (lupa).

So a line has the same fields, and the same redaction, whichever way it comes. Ray's text logs have local time without a
zone: read them on a machine in the zone of that Ray.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from servescope.clients.model import LogRecord, Span, Trace, record_of
from servescope.errors import ServescopeError

# The keys of a record that Fluent Bit sets: the line as it was read, and its file.
LINE, FILE = "ray.line", "ray.file"
# Below a session's logs/, as fluentbit/inputs.yaml reads them; rotated files too.
PATTERNS = ("serve/*.log*", "*.log*", "*.out*", "*.err*", "events/event_*.log")


def lua_folder() -> Path:
    """Where ray.lua and parsers.yaml are: in the installed package, or in the clone."""
    package = Path(__file__).parents[1] / "fluentbit"
    return package if package.is_dir() else Path(__file__).parents[3] / "fluentbit"


@dataclass(frozen=True)
class Rule:
    """One rule of a multiline parser: a line that matches in this state continues the record, in the next state."""

    state: str
    regex: re.Pattern[str]
    next_state: str


def multiline_rules(name: str) -> list[Rule]:
    """The rules of a multiline parser in fluentbit/parsers.yaml."""
    import yaml

    document = yaml.safe_load((lua_folder() / "parsers.yaml").read_text(encoding="utf-8"))
    (parser,) = [p for p in document["multiline_parsers"] if p["name"] == name]
    return [Rule(rule["state"], re.compile(rule["regex"][1:-1]), rule["next_state"]) for rule in parser["rules"]]


def split_records(lines: Iterable[str], rules: list[Rule]) -> Iterator[str]:
    """Join lines to records as Fluent Bit's multiline parser does: the start rules first only outside of a record."""
    pending: list[str] = []
    state = ""
    for line in lines:
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


def runtime() -> Any:
    """A LuaJIT that takes and gives bytes: a log may hold any.

    Raises:
        ServescopeError: lupa or PyYAML is not installed.
    """
    try:
        import yaml  # noqa: F401
        from lupa import luajit21
    except ImportError as error:
        raise ServescopeError(f"this needs the extra servescope[logs], or servescope[snapshot] ({error})") from error
    return luajit21.LuaRuntime(unpack_returned_tuples=True, encoding=None)


class Lua:
    """fluentbit/ray.lua as one run of Fluent Bit has it: what it learns from a record holds for the next ones.

    Raises:
        ServescopeError: lupa or PyYAML is not installed.
    """

    def __init__(self) -> None:
        self._runtime = runtime()
        self._globals = self._runtime.globals()
        self._table = type(self._runtime.table_from({}))
        self._globals[b"dofile"](str(lua_folder() / "ray.lua").encode())
        self._rules = {name: multiline_rules(name) for name in ("ray_record", "ray_print")}

    def call(self, function: str, tag: str, fields: dict[str, Any]) -> tuple[int, dict[str, Any], dict[str, Any]]:
        """Call `ray` or `loki` as Fluent Bit does; returns code, time and record."""
        now = self._runtime.table_from({b"sec": 0, b"nsec": 0})
        called = self._globals[function.encode()](tag.encode(), now, self._to_lua(fields))
        return called[0], self._to_python(called[1]), self._to_python(called[2])

    def records(
        self, lines: Iterable[str], path: str, *, function: str = "ray", tag: str = "stdout"
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Time (unix ns, 0 if it has none) and fields of the records of a file, whose path contains `/logs/`."""
        kind, parser = tag_of(path.rpartition("/logs/")[2])
        for raw in split_records(lines, self._rules[parser]) if parser else lines:
            code, time, record = self.call(function, f"{tag}.{kind}", parsed(raw) | {LINE: raw, FILE: path})
            if code == 1:
                yield int(time["sec"]) * 10**9 + int(time["nsec"]), record

    def log_records(self, lines: Iterable[str], path: Path) -> Iterator[LogRecord]:
        """The records of lines of a file; one without a time has that of the one before, the first the file's."""
        before = round(path.stat().st_mtime * 1e9)
        for time_ns, fields in self.records(lines, _below_logs(path)):
            before = time_ns or before
            yield record_of(before, fields)

    def _to_lua(self, value: Any) -> Any:
        if isinstance(value, dict):
            return self._runtime.table_from({self._to_lua(key): self._to_lua(inner) for key, inner in value.items()})
        if isinstance(value, list):
            return self._runtime.table_from([self._to_lua(inner) for inner in value])
        # LuaJIT in Fluent Bit knows doubles only
        if isinstance(value, int) and not isinstance(value, bool):
            return float(value) if abs(value) < 2**63 else math.inf
        if isinstance(value, str):
            return value.encode(errors="surrogatepass")
        return value

    def _to_python(self, value: Any) -> Any:
        if isinstance(value, bytes):
            return value.decode(errors="replace")
        if isinstance(value, self._table):
            return {self._to_python(key): self._to_python(inner) for key, inner in value.items()}
        return value


def log_files(session: Path) -> list[Path]:
    """The log files of a session: of its folder, of its `logs`, or of its `logs/serve`.

    Raises:
        ServescopeError: there is none.
    """
    logs = session / "logs" if (session / "logs").is_dir() else session
    if logs.name == "serve" and logs.parent.name == "logs":
        found = {path for path in logs.glob("*.log*") if path.is_file()}
    else:
        found = {path for pattern in PATTERNS for path in logs.glob(pattern) if path.is_file()}
    if not found:
        raise ServescopeError(f"{session}: no log files; pass a session's directory, /tmp/ray/session_latest")
    return sorted(found)


def read_records(session: Path, start: float, end: float, *, holding: Iterable[str] = ()) -> list[LogRecord]:
    """The records of a session between two times (unix seconds), by time.

    With `holding`, records that contain none of these texts are left out before they are read: most belong to others.

    Raises:
        ServescopeError: there are no log files, one cannot be read, or lupa is missing.
    """
    lua = Lua()
    wanted = tuple(holding)
    found: list[LogRecord] = []
    for path in log_files(session):
        try:
            if path.stat().st_mtime < start:  # a file last written before that time has no record of it
                continue
            with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
                lines: Iterable[str] = (line.rstrip("\n") for line in file)
                if wanted:
                    lines = _holding(lines, wanted)
                found += (one for one in lua.log_records(lines, path) if start <= one.time_ns / 1e9 <= end)
        except FileNotFoundError:
            continue  # rotated away meanwhile
        except OSError as error:
            raise ServescopeError(f"{path}: cannot read ({error.strerror})") from error
    return sorted(found, key=lambda record: record.time_ns)


def _holding(lines: Iterable[str], wanted: tuple[str, ...]) -> Iterator[str]:
    """The lines that hold one of these texts, each with the lines that follow it and do not start a record."""
    inside = False
    for line in lines:
        if any(text in line for text in wanted):
            inside = True
        elif line.startswith("{") or re.match(r"[A-Z][A-Za-z0-9_ ]{0,31} \d{4}-", line):
            inside = False
        if inside:
            yield line


def _below_logs(path: Path) -> str:
    """The path as ray.lua takes it apart, whatever the folder is called that the files were copied to."""
    parts = path.resolve().parts
    return str(path.resolve()) if "logs" in parts[:-1] else f"/tmp/ray/session_0/logs/serve/{path.name}"


class Redaction:
    """fluentbit/redact.lua on texts that go on from here: what an agent has let through, or came without one.

    Raises:
        ServescopeError: lupa is not installed.
    """

    def __init__(self) -> None:
        self._text = runtime().globals()[b"dofile"](str(lua_folder() / "redact.lua").encode())[b"text"]

    def text(self, text: str) -> str:
        """The text without its secrets."""
        found: bytes = self._text(text.encode(errors="replace"))
        return found.decode(errors="replace")

    def value(self, value: Any) -> Any:
        """A value of an attribute, of any type, without the secrets in its texts."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self.value(inner) for inner in value]
        return {key: self.value(inner) for key, inner in value.items()} if isinstance(value, dict) else value

    def record(self, record: LogRecord) -> LogRecord:
        """A log record without its secrets."""
        return replace(record, text=self.text(record.text), fields=self.value(dict(record.fields)))

    def trace(self, trace: Trace) -> Trace:
        """A trace without its secrets."""
        return Trace(trace.trace_id, [self._span(span) for span in trace.spans])

    def _span(self, span: Span) -> Span:
        return replace(
            span,
            name=self.text(span.name),
            message=self.text(span.message),
            attributes=self.value(span.attributes),
            events=tuple((name, self.value(attributes)) for name, attributes in span.events),
        )
