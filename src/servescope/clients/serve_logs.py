"""Serve's own log files, as text and as JSON: the lines around a time, and the lines of one request."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from servescope.clients.model import LogRecord, Trace
from servescope.errors import ServescopeError

FILES = "*.log*"  # rotated files too
# LEVEL time component id [request id] [more attributes] -- message, read as fluentbit/ray.lua reads it.
_HEADER = re.compile(
    r"^(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL) (?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) "
    r"(?P<component>\S+) \S+ (?P<rest>.*)$"
)
# The request id comes first: alone it may be any text of a client, before other attributes it is one of Serve's.
_REQUEST_ID = re.compile(r"\S+$|[0-9a-fA-F]+(?:-[0-9a-fA-F]+){4}(?= )")
_LATEST_NS = 2**63  # the year 2262: a later time is none


def parse_line(line: str) -> LogRecord | None:
    """The record that a line starts, in either of Serve's formats.

    None for any other line: part of a traceback, or the incomplete last line of a file. A JSON record has the IDs of
    its request, trace and span; its traceback follows its message.
    """
    return _from_json(line) if line.startswith("{") else _from_text(line)


def records_around(folder: Path, at: float, seconds: float) -> list[LogRecord]:
    """The records around a time (unix seconds) in a session's directory `logs/serve`, file by file.

    Ray's text logs have local time without a time zone, so read them on a machine in the same time zone.

    Raises:
        ServescopeError: there is no such directory, or no log file in it.
    """
    paths = sorted(path for path in folder.glob(FILES) if path.is_file()) if folder.is_dir() else []
    if not paths:
        raise ServescopeError(
            f"{folder}: no log files; pass a session's log directory, /tmp/ray/session_latest/logs/serve"
        )
    found: list[LogRecord] = []
    for path in paths:
        try:
            # A file last written before that time has no record of it.
            if path.stat().st_mtime >= at - seconds:
                found += [record for record in _records_in(path) if abs(record.unix_ms / 1000 - at) <= seconds]
        except OSError as error:
            raise ServescopeError(f"{path}: cannot read ({error.strerror})") from error
    return found


def records_of(trace: Trace, folder: Path) -> list[LogRecord]:
    """The records in a directory with the trace's ID or the ID of one of its requests, in order.

    Logs that are not JSON have no trace IDs; they are found by the request's ID.
    """
    ids = {trace.trace_id, *trace.request_ids}
    found = []
    for path in sorted(folder.glob(FILES)):
        try:
            with path.open(encoding="utf-8", errors="replace") as file:
                # Most lines belong to other requests: searching for the IDs is cheaper than parsing.
                records = (parse_line(line) for line in file if any(wanted in line for wanted in ids))
                found += [record for record in records if record and {record.trace_id, *record.request_ids} & ids]
        except OSError:
            continue  # rotated away meanwhile
    return sorted(found, key=lambda record: record.time_ns)


def _records_in(path: Path) -> list[LogRecord]:
    records: list[LogRecord] = []
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            line = line.rstrip("\n")
            record = parse_line(line)
            if record and record.time_ns:
                records.append(record)
            elif records:  # a traceback continues
                records[-1] = replace(records[-1], text=f"{records[-1].text}\n{line}")
    return records


def _from_text(line: str) -> LogRecord | None:
    match = _HEADER.match(line)
    if match is None:
        return None
    rest = match["rest"]
    before, dashes, message = ("", "-- ", rest[3:]) if rest.startswith("-- ") else rest.partition(" -- ")
    request_id = _REQUEST_ID.match(before) if dashes else None
    return LogRecord(
        time_ns=_time_ns({"asctime": match["time"]}),
        source=match["component"],
        level=match["level"],
        text=message if dashes else rest,
        request_ids=(request_id[0],) if request_id else (),
    )


def _from_json(line: str) -> LogRecord | None:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        return None
    of_batch = fields.get("request_ids")
    request_ids = [fields.get("request_id"), *(of_batch if isinstance(of_batch, list) else [])]
    return LogRecord(
        time_ns=_time_ns(fields),
        source=_text(fields.get("deployment") or fields.get("component_name")),
        level=_text(fields.get("levelname")),
        text="\n".join(_text(fields[key]) for key in ("message", "exc_text") if fields.get(key)),
        trace_id=_text(fields.get("trace_id")),
        span_id=_text(fields.get("span_id")),
        request_ids=tuple(_text(request_id) for request_id in request_ids if request_id),
    )


def _text(value: Any) -> str:
    """A text that can be printed: JSON's escapes may hold half of a surrogate pair."""
    return str(value or "").encode(errors="replace").decode()


def _time_ns(fields: dict[str, Any]) -> int:
    try:
        time_ns = int(fields.get("timestamp_ns") or 0) or _wall_clock_ns(str(fields.get("asctime")))
    except (TypeError, ValueError, OverflowError):
        return 0
    return time_ns if 0 <= time_ns < _LATEST_NS else 0


def _wall_clock_ns(text: str) -> int:
    """The time at the start of Ray's log lines, `2026-11-25 10:00:00,500`, in the local time zone.

    Raises:
        ValueError: the text is not such a time.
    """
    moment = datetime.strptime(text, "%Y-%m-%d %H:%M:%S,%f")
    return int(moment.replace(microsecond=0).timestamp()) * 10**9 + moment.microsecond * 1000
