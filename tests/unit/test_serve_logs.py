"""Reading Serve's own log files, text and JSON."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest

from servescope.clients import otlp_files, serve_logs
from servescope.clients.model import Trace
from servescope.clients.serve_logs import parse_line
from tests.support.trace_files import A, document, write_logs, write_traces


@pytest.fixture
def folder(tmp_path):
    return write_traces(tmp_path / "collector")


@pytest.fixture
def logs(tmp_path):
    return write_logs(tmp_path / "logs")


def test_log_lines_are_those_of_the_request_and_of_its_batches(folder, logs):
    lines = serve_logs.records_of(otlp_files.read_traces(folder)[A], logs)
    assert [(line.text, line.span_id) for line in lines] == [("hello [x]", "a2"), ("in a batch", "")]


@pytest.mark.parametrize(
    ("record", "at"),
    [
        ({"timestamp_ns": 1_700_000_000_123_456_789, "asctime": "2000-01-01 00:00:00,000"}, 1_700_000_000_123_456_789),
        (
            {"asctime": "2026-11-25 10:00:00,500"},
            int(time.mktime((2026, 11, 25, 10, 0, 0, 0, 0, -1))) * 10**9 + 5 * 10**8,
        ),
        ({"timestamp_ns": "soon", "asctime": "later"}, 0),
        ({}, 0),
    ],
)
def test_the_time_of_a_record(record, at):
    assert parse_line(json.dumps(record)).time_ns == at


@pytest.mark.parametrize("line", ['{"a', "[1]", "", "Traceback (most recent call last):"])
def test_what_begins_no_record_is_none(line):
    assert parse_line(line) is None


def test_a_record_of_either_format_has_the_same_fields():
    text = "ERROR 2026-11-25 10:00:01,500 main_A x1 -- broke"
    fields = {"asctime": "2026-11-25 10:00:01,500", "levelname": "ERROR", "deployment": "main_A", "message": "broke"}
    record = parse_line(text)
    assert (record.source, record.level, record.text) == ("main_A", "ERROR", "broke")
    assert parse_line(json.dumps(fields)) == record
    request = {"trace_id": A, "span_id": "a2", "request_id": "r", "request_ids": ["s"]}
    assert parse_line(json.dumps(fields | request)) == replace(record, trace_id=A, span_id="a2", request_ids=("r", "s"))


@pytest.mark.parametrize(
    ("rest", "request_ids", "text"),
    [
        ("-- broke", (), "broke"),
        ("order-17 -- broke", ("order-17",), "broke"),
        ("Order-17-A -- broke -- again", ("Order-17-A",), "broke -- again"),
        ("0b0e7c1e-0000-4000-8000-000000000000 -- broke", ("0b0e7c1e-0000-4000-8000-000000000000",), "broke"),
        ("0b0e7c1e-0-4-8-0 1a2b other -- broke", ("0b0e7c1e-0-4-8-0",), "broke"),
        ("1a2b other -- broke", (), "broke"),  # additional_log_standard_attrs without a request
        (" -- broke", (), "broke"),
        ("no dashes", (), "no dashes"),
    ],
)
def test_a_text_line_has_the_request_id_that_a_client_chose(rest, request_ids, text):
    record = parse_line(f"ERROR 2026-11-25 10:00:01,500 proxy 10.0.0.1 {rest}")
    assert (record.level, record.source, record.text) == ("ERROR", "proxy", text)
    assert record.request_ids == request_ids


def test_a_line_with_a_clients_own_request_id_is_a_record_of_its_own(tmp_path):
    (tmp_path / "proxy.log").write_text(
        "INFO 2026-11-25 10:00:01,000 proxy 10.0.0.1 order-16 -- GET / 200 1.0ms\n"
        "ERROR 2026-11-25 10:00:01,500 proxy 10.0.0.1 order-17 -- Request failed\n"
    )
    at = time.mktime((2026, 11, 25, 10, 0, 0, 0, 0, -1))
    records = serve_logs.records_around(tmp_path, at, 60)
    assert [(record.level, record.text) for record in records] == [
        ("INFO", "GET / 200 1.0ms"),
        ("ERROR", "Request failed"),
    ]
    (span,) = otlp_files.spans_of(json.loads(document(A, "a1", request_id="order-17")))
    assert [record.text for record in serve_logs.records_of(Trace(A, [span]), tmp_path)] == ["Request failed"]


@pytest.mark.parametrize(
    "line",
    [
        "ERROR 2026-99-99 10:00:01,500 proxy x -- broke",
        '{"timestamp_ns": 1e400, "message": "broke"}',
        '{"timestamp_ns": 9e99, "message": "broke"}',
        '{"timestamp_ns": -5, "message": "broke \\ud800"}',
    ],
)
def test_a_time_that_is_none_is_no_error(line):
    record = parse_line(line)
    assert record.time_ns == 0
    assert record.text.encode().startswith(b"broke")


def test_a_record_without_a_time_belongs_to_the_one_before(tmp_path):
    lines = ['{"asctime": "2026-11-25 10:00:02,000", "message": "one"}', '{"message": "two"}']
    (tmp_path / "replica.log").write_text("\n".join(lines))
    at = time.mktime((2026, 11, 25, 10, 0, 0, 0, 0, -1))
    (record,) = serve_logs.records_around(tmp_path, at, 60)
    assert record.text == 'one\n{"message": "two"}'


def test_ray_logs_in_text_and_json(tmp_path):
    at = time.mktime((2026, 11, 25, 10, 0, 0, 0, 0, -1))
    (tmp_path / "replica_a.log").write_text(
        "INFO 2026-11-25 09:00:00,000 main_A x1 -- long before\n"
        "ERROR 2026-11-25 10:00:01,500 main_A x1 0b0e7c1e-0000-4000-8000-000000000000 -- broke\nTraceback:\n  line\n"
    )
    record = '{"asctime": "2026-11-25 10:00:02,000", "levelname": "INFO", "message": "fine", "deployment": "main_B"}\n'
    (tmp_path / "replica_b.log").write_text(record)
    records = serve_logs.records_around(tmp_path, at, 60)
    assert [(line.level, line.source, line.text) for line in records] == [
        ("ERROR", "main_A", "broke\nTraceback:\n  line"),
        ("INFO", "main_B", "fine"),
    ]
    assert records[0].unix_ms == round((at + 1.5) * 1000)


@pytest.mark.parametrize("request_ids", [5, "r-a", {"a": 1}, None])
def test_request_ids_of_another_type_are_none(request_ids):
    assert parse_line(json.dumps({"message": "m", "request_ids": request_ids})).request_ids == ()
