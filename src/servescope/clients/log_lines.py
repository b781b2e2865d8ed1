"""Log lines of a folder, whichever wrote it: the Collector's files, or a session of Ray, which ray.lua reads."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path

from servescope.clients import log_files, ray_lua
from servescope.clients.model import LogRecord, Trace
from servescope.errors import ServescopeError

EARLIER_S, LATER_S = 60.0, 120.0  # lines of a request are not older than it, and written soon after


def read(
    folder: Path,
    start: float,
    end: float,
    *,
    holding: Collection[str] = (),
    report: Callable[[str], None] = lambda line: None,
) -> list[LogRecord]:
    """The records between two times (unix seconds), by time; with `holding`, those alone that contain one of the texts.

    `report` is given one line for each of the Collector's files with lines that hold no logs.

    Raises:
        ServescopeError: there is no such folder, or no log file in it, one cannot be read, or what reads Ray's own is
            not installed.
    """
    if not folder.is_dir():
        raise ServescopeError(f"{folder}: no such folder")
    if log_files.has_files(folder):
        return log_files.read_records(folder, start, end, holding=holding, report=report)
    return ray_lua.read_records(folder, start, end, holding=holding)


def of_trace(trace: Trace, folder: Path) -> list[LogRecord]:
    """The records with the ID of a trace or of one of its requests, by time.

    Logs that are not JSON have no trace IDs; they are found by the request's ID.

    Raises:
        ServescopeError: as `read`.
    """
    ids = {trace.trace_id, *trace.request_ids}
    begin = trace.start_ns / 1e9
    records = read(folder, begin - EARLIER_S, begin + trace.ms / 1000 + LATER_S, holding=ids)
    return [record for record in records if record.ids & ids]


class Follower:
    """What is written to a folder from now on."""

    def __init__(self, folder: Path) -> None:
        """Raises ServescopeError: there are no log files, or what reads Ray's own is not installed."""
        self._folder = folder
        self._collected = log_files.has_files(folder)
        self._lua = None if self._collected else ray_lua.Lua()
        self._read: dict[int, int] = {}  # by inode, which a rotation keeps
        for path in self._files():
            self._new_lines(path, first=True)

    def records(self) -> list[LogRecord]:
        """The records since the last call, by time. A line that is not complete yet comes with the next call."""
        found: list[LogRecord] = []
        for path in self._files():
            lines = self._new_lines(path)
            if self._lua is not None:
                found += self._lua.log_records(lines, path)
            else:
                found += log_files.records_of(lines)
        return sorted(found, key=lambda record: record.time_ns)

    def _files(self) -> list[Path]:
        return list(self._folder.glob(log_files.FILES)) if self._collected else ray_lua.log_files(self._folder)

    def _new_lines(self, path: Path, *, first: bool = False) -> list[str]:
        try:
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                position = status.st_size if first else self._read.get(status.st_ino, 0)
                file.seek(position if position <= status.st_size else 0)
                whole, _, _ = file.read().rpartition(b"\n")
                self._read[status.st_ino] = position + len(whole) + bool(whole)
        except OSError:
            return []  # rotated away meanwhile
        return whole.decode(errors="replace").split("\n") if whole else []
