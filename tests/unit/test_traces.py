"""Reading the Collector's files and Serve's logs."""

from __future__ import annotations

import json
import time

import pytest
from typer.testing import CliRunner

from servescope.cli import app
from servescope.clients import traces
from servescope.errors import ServescopeError

A, B = "a" * 32, "b" * 32


def document(
    trace_id, span_id, parent="", name="GET /x", start_ms=0, ms=10, status=0, service="serve-proxy", **attributes
):
    def value(held):
        return {"intValue": str(held)} if isinstance(held, int) else {"stringValue": held}

    span = {
        "traceId": trace_id,
        "spanId": span_id,
        "parentSpanId": parent,
        "name": name,
        "kind": 2,
        "startTimeUnixNano": str(1_700_000_000_000_000_000 + start_ms * 1_000_000),
        "endTimeUnixNano": str(1_700_000_000_000_000_000 + (start_ms + ms) * 1_000_000),
        "attributes": [{"key": key.replace("__", "."), "value": value(held)} for key, held in attributes.items()],
        "status": {"code": status, "message": "it broke\nhere"} if status else {},
    }
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}
    return json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [span]}]}]})


@pytest.fixture
def folder(tmp_path):
    """Two traces over a rotated and a current file, which ends in the middle of a line."""
    old = [document(A, "a1", request_id="r-a", http__response__status_code=500, status=2, ms=50)]
    new = [
        document(A, "a2", "a1", "replica_handle_request Gateway __call__", 5, 40, service="main.Gateway"),
        document(B, "b1", start_ms=1000, ms=10, request_id="r-b"),
    ]
    data = tmp_path / "collector"
    data.mkdir()
    (data / "traces-2026-01-01T00-00-00.000.json").write_text("\n".join(old) + "\n")
    (data / "traces.json").write_text("\n".join(new) + "\n" + new[1][:40])
    return data


@pytest.fixture
def logs(tmp_path):
    place = tmp_path / "logs"
    place.mkdir()
    begin = 1_700_000_000_000_000_000
    lines = [
        {"trace_id": A, "span_id": "a2", "message": "hello [x]", "levelname": "INFO", "deployment": "main_Gateway"},
        {"request_ids": ["r-0", "r-a"], "message": "in a batch", "levelname": "INFO", "deployment": "main_Batch"},
        {"trace_id": B, "message": f"speaks of {A}", "levelname": "INFO", "deployment": "main_Gateway"},
    ]
    text = [json.dumps({"timestamp_ns": begin + i * 1_000_000, **line}) for i, line in enumerate(lines)]
    (place / "replica_main_Gateway_x.log").write_text("\n".join([*text[1:], f"no json {A}"]))
    (place / "replica_main_Gateway_x.log.1").write_text(text[0])
    return place


def test_traces_are_put_together_over_rotated_files(folder):
    found = traces.read(folder)
    assert set(found) == {A, B}
    assert [span.span_id for span in found[A].roots] == ["a1"]
    assert [span.span_id for span in found[A].children(found[A].roots[0])] == ["a2"]
    assert found[A].ms == 50
    assert found[A].roots[0].attributes == {"request_id": "r-a", "http.response.status_code": 500}
    assert (found[A].failed, found[B].failed) == (True, False)


@pytest.mark.parametrize(
    ("wanted", "ids"), [(A, [A]), ("aaaaaaaa", [A]), ("r-b", [B]), (A.upper(), [A]), ("aaaa", []), ("r-c", [])]
)
def test_a_trace_is_found_by_its_id_or_its_requests(folder, wanted, ids):
    assert [trace.trace_id for trace in traces.find(traces.read(folder), wanted)] == ids


def test_only_one_trace_is_read(folder):
    assert traces.read(folder, A) == {A: traces.read(folder)[A]}


def test_slowest_and_failed(folder):
    found = traces.read(folder).values()
    assert [trace.trace_id for trace in traces.slowest(found, 5)] == [A, B]
    assert [trace.trace_id for trace in traces.slowest(found, 1)] == [A]
    assert [trace.trace_id for trace in traces.failed(found)] == [A]


def test_log_lines_are_those_of_the_request_and_of_its_batches(folder, logs):
    lines = traces.log_lines(logs, traces.read(folder)[A])
    assert [(line.message, line.span_id) for line in lines] == [("hello [x]", "a2"), ("in a batch", "")]


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
    assert traces.line_of(record).time_ns == at


def test_what_is_no_record_is_none():
    assert [traces.log_record(text) for text in ('{"a": 1}', '{"a', "[1]", "")] == [{"a": 1}, None, None, None]


def test_the_tree(folder, logs):
    shown = CliRunner().invoke(app, ["trace", "r-a", "--traces", str(folder), "--logs", str(logs)])
    assert shown.exit_code == 0
    lines = [line.strip(" │├└─") for line in shown.output.splitlines()]
    assert lines == [
        f"2023-11-14 22:13:20Z       50.0 ms  failed  500  GET /x  {A}  request r-a",
        "+0.0 ms      50.0 ms  serve-proxy (server)  GET /x  http.response.status_code=500  it broke",
        "+5.0 ms      40.0 ms  main.Gateway (server)  replica_handle_request Gateway __call__",
        "+0.0 ms  log INFO main_Gateway: hello [x]",
        "+1.0 ms  log INFO main_Batch: in a batch",
    ]


def test_lists(folder):
    slowest = CliRunner().invoke(app, ["trace", "--slowest", "1", "--traces", str(folder)]).output
    assert slowest == f"2023-11-14 22:13:20Z       50.0 ms  failed  500  GET /x  {A}\n"
    assert CliRunner().invoke(app, ["trace", "--errors", "--traces", str(folder)]).output == slowest


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "give one of REQUEST, --slowest N, --errors"),
        (["x", "--errors"], "give one of REQUEST, --slowest N, --errors"),
        (["nothing"], "nothing: is the id of none of the 2 traces"),
        (["r-a", "--logs", "/no/such"], "/no/such: is no folder of logs"),
    ],
)
def test_what_cannot_be_is_one_line(folder, arguments, says):
    result = CliRunner().invoke(app, ["trace", *arguments, "--traces", str(folder)])
    assert isinstance(result.exception, ServescopeError)
    assert says in str(result.exception)


def test_a_folder_without_traces_is_one_line(tmp_path):
    with pytest.raises(ServescopeError, match=r"holds no traces\*\.json"):
        traces.read(tmp_path)
