"""Log lines without a backend: reads the files that the Collector writes (otel/logs.yaml with LOGS_TO).

One `ExportLogsServiceRequest` a line in OTLP's own JSON, rotated as the trace files are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from servescope.clients.model import LogRecord, record_of
from servescope.clients.otlp_files import NO_DOCUMENT, lines_in, oldest_first, pairs_of, time_of, value_of
from servescope.errors import ServescopeError

FILES = "logs*.json"


def has_files(folder: Path) -> bool:
    """Whether a Collector has written log lines to a folder."""
    return any(folder.glob(FILES))


def read_records(
    folder: Path,
    start: float,
    end: float,
    *,
    holding: Collection[str] = (),
    report: Callable[[str], None] = lambda line: None,
) -> list[LogRecord]:
    """The records between two times (unix seconds), by time; with `holding`, of lines that contain one of the texts.

    `report` is given one line for each file with lines that hold no OTLP logs; those are skipped.

    Raises:
        ServescopeError: there is no such file, or one cannot be read.
    """
    files = oldest_first(folder, FILES)
    if not files:
        raise ServescopeError(
            f"{folder}: no {FILES} found; the Collector writes them with otel/logs.yaml, LOGS_TO and LOGS_DIR"
        )
    first, last = int(start * 1e9), int(end * 1e9)
    found = [
        record
        for file in files
        if file.stat().st_mtime >= start
        for records in lines_in(file, holding, report, what="OTLP logs", read=lambda document: list(_records(document)))
        for record in records
        if first <= record.time_ns <= last
    ]
    return sorted(found, key=lambda record: record.time_ns)


def records_of(lines: Iterable[str]) -> list[LogRecord]:
    """The records of some lines of such a file; what is no such line is left out."""
    found: list[LogRecord] = []
    for line in lines:
        with suppress(*NO_DOCUMENT):
            found += _records(json.loads(line))
    return found


def _records(document: dict[str, Any]) -> Iterator[LogRecord]:
    for of_resource in document.get("resourceLogs") or ():
        resource = pairs_of((of_resource.get("resource") or {}).get("attributes"))
        for of_scope in of_resource.get("scopeLogs") or ():
            for line in of_scope.get("logRecords") or ():
                fields = {**resource, **pairs_of(line.get("attributes")), "message": value_of(line.get("body") or {})}
                yield record_of(time_of(line.get("timeUnixNano") or line.get("observedTimeUnixNano") or 0), fields)
