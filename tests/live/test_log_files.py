"""The files that the Collector writes of Ray's logs, and what `ray.lua` reads of the same logs without an agent."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import pytest

from demo.stack.component import find
from servescope.clients import log_lines
from servescope.clients.model import LogRecord
from tests.drill.logs.agents import place_below
from tests.support.log_cases import cases, write_cases
from tests.support.waiting import wait_for

pytestmark = pytest.mark.skipif(
    find("otelcol") is None, reason="no Collector: make tools builds it where Go 1.21 is installed"
)

CASES = [case for case in cases() if not case.not_by]
FIELDS = ("component", "application", "deployment", "request_id", "trace_id", "status", "log_type", "replica")


def said(records: list[LogRecord]) -> list[tuple[object, ...]]:
    return sorted(
        (record.level, record.source, record.text, *(str(record.fields.get(f)) for f in FIELDS)) for record in records
    )


def test_both_ways_to_a_line_give_the_same_fields(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RAY_SERVE_APPS", "my_app")
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory,
        place_below(Path(directory) / "p") as place,
    ):
        write_cases(CASES, place.tmp)
        sessions = sorted(place.tmp.glob("session_2*"))
        read = [record for session in sessions for record in log_lines.read(session, 0, time.time() + 60)]
        assert len(read) > 30
        collected = Path(directory) / "collected"
        collected.mkdir()
        env = {"LOGS_TO": "[file/logs, count/events]", "LOGS_DIR": str(collected)}
        with place.agent("otelcol", env=env):

            def all_came() -> bool:
                return any(collected.glob("logs*.json")) and len(written()) >= len(read)

            def written() -> list[LogRecord]:
                return log_lines.read(collected, 0, time.time() + 60)

            wait_for(all_came, 60, lambda: f"{len(read)} wanted", pause_s=0.5)
            found = written()
    assert said(found) == said(read)
