"""Selects the page's traces and log lines: the slowest and the failed traces, and the lines around a time."""

from __future__ import annotations

from collections.abc import Sequence

from servescope.clients import model
from servescope.clients.model import LogRecord, TraceSummary
from servescope.report.model import Logs, Traces

MOST_TRACES = 20
MOST_LINES = 400
_BAD_LEVELS = ("WARNING", "WARN", "ERROR", "CRITICAL")


def slowest_and_failing(source: str, found: Sequence[TraceSummary]) -> Traces:
    """The slowest and the failed traces of a source."""
    return Traces(source=source, slowest=model.slowest(found, MOST_TRACES), failing=model.failed(found)[:MOST_TRACES])


def nearest(source: str, records: Sequence[LogRecord], at: float) -> Logs:
    """The records nearest to a time (unix seconds), warnings and errors preferred, in order of time."""

    def rank(record: LogRecord) -> tuple[bool, float]:
        return record.level.upper() not in _BAD_LEVELS, abs(record.unix_ms - at * 1000)

    kept = sorted(sorted(records, key=rank)[:MOST_LINES], key=lambda record: record.unix_ms)
    return Logs(source=source, around=round(at * 1000), lines=kept, left_out=len(records) - len(kept))
