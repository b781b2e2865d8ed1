"""Reading the trace files of the Collector."""

from __future__ import annotations

import json
import time

import pytest

from servescope.clients import otlp_files
from servescope.clients.model import TraceSummary, failed, slowest
from servescope.errors import ServescopeError
from tests.support.trace_files import A, B, document, write_traces


@pytest.fixture
def folder(tmp_path):
    return write_traces(tmp_path / "collector")


def test_traces_are_put_together_over_rotated_files(folder):
    found = otlp_files.read_traces(folder)
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
    assert [trace.trace_id for trace in otlp_files.find(otlp_files.read_traces(folder), wanted)] == ids


def test_only_one_trace_is_read(folder):
    assert otlp_files.read_traces(folder, A) == {A: otlp_files.read_traces(folder)[A]}


def test_slowest_and_failed(folder):
    found = otlp_files.read_traces(folder).values()
    assert [trace.trace_id for trace in slowest(found, 5)] == [A, B]
    assert [trace.trace_id for trace in slowest(found, 1)] == [A]
    assert [trace.trace_id for trace in failed(found)] == [A]


def test_a_folder_without_traces_is_one_line(tmp_path):
    with pytest.raises(ServescopeError, match=r"no traces\*\.json found"):
        otlp_files.read_traces(tmp_path)


def test_traces_come_from_the_files_of_the_collector(tmp_path):
    def span(trace, start_s, ms, code, parent=""):
        times = {"startTimeUnixNano": f"{start_s * 10**9}", "endTimeUnixNano": f"{start_s * 10**9 + ms * 10**6}"}
        named = {"name": "GET /read", "parentSpanId": parent, "status": {"code": code}}
        spans = [{"traceId": trace, "spanId": f"s{start_s}{parent}", **times, **named}]
        resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "serve-proxy"}}]}
        return json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": spans}]}]})

    lines = [span("a", 1010, 20, 0), span("b", 1020, 900, 2), span("b", 1020, 100, 0, "s1020"), span("c", 5000, 1, 2)]
    (tmp_path / "traces.json").write_text("\n".join(lines) + "\n")
    found = otlp_files.summaries(tmp_path, 1000, 1060)
    slow = TraceSummary(
        trace_id="b", service="serve-proxy", name="GET /read", start_ns=1_020 * 10**9, ms=900, failed=True
    )
    assert slowest(found, 5) == [
        slow,
        TraceSummary(
            trace_id="a", service="serve-proxy", name="GET /read", start_ns=1_010 * 10**9, ms=20, failed=False
        ),
    ]
    assert failed(found) == [slow]  # what began later is not of this window


def chain(length: int) -> list[str]:
    """A line for each span of a chain."""
    return [document(A, f"s{n}", f"s{n - 1}" if n else "", start_ms=n) for n in range(length)]


def test_spans_that_were_delivered_twice_are_there_once(tmp_path):
    (tmp_path / "traces-2026-01-01T00-00-00.000.json").write_text("\n".join(chain(12)) + "\n")
    (tmp_path / "traces.json").write_text("\n".join(chain(12)) + "\n")
    found = otlp_files.read_traces(tmp_path)[A]
    assert [span.span_id for span in found.spans] == [f"s{n}" for n in range(12)]


def edited(**changed: object) -> str:
    """A line whose one span has other fields."""
    line = json.loads(document(A, "a1"))
    line["resourceSpans"][0]["scopeSpans"][0]["spans"][0] |= changed
    return json.dumps(line)


NO_OTLP = [
    "[]",
    "7",
    '"text"',
    "no JSON",
    "[" * 100_000,
    '{"resourceSpans": 7}',
    '{"resourceSpans": [7]}',
    edited(traceId=5),
    edited(spanId=""),
    edited(startTimeUnixNano="soon"),
    edited(startTimeUnixNano=1e400),
    edited(endTimeUnixNano=str(2**63)),
    edited(attributes=7),
    edited(attributes=[{"key": "x", "value": "y"}]),
    edited(kind="SPAN_KIND_SERVER"),
    edited(links=[{}]),
]


@pytest.mark.parametrize("line", NO_OTLP)
def test_a_line_that_is_no_otlp_is_skipped_and_counted(tmp_path, line):
    (tmp_path / "traces.json").write_text(f"{document(B, 'b1')}\n{line}\n{line}\n{document(A, 'a2')[:40]}")
    told = []
    assert set(otlp_files.read_traces(tmp_path, report=told.append)) == {B}
    assert told == [f"{tmp_path / 'traces.json'}: skipped lines that hold no OTLP traces: 2"]


@pytest.mark.parametrize("line", ["{}", '{"resourceSpans": null}', '{"resourceSpans": [{"scopeSpans": null}]}'])
def test_a_line_without_spans_is_none_to_skip(tmp_path, line):
    (tmp_path / "traces.json").write_text(line + "\n")
    told = []
    assert otlp_files.read_traces(tmp_path, report=told.append) == {}
    assert told == []


def test_null_is_an_absent_field_and_an_unknown_kind_is_unspecified(tmp_path):
    absent = dict.fromkeys(("parentSpanId", "name", "status", "attributes", "links", "events"))
    (tmp_path / "traces.json").write_text(edited(**absent, kind=9) + "\n")
    (span,) = otlp_files.read_traces(tmp_path)[A].spans
    assert (span.kind, span.status, span.name, span.parent_id, span.links) == ("unspecified", "unset", "", "", ())
    (tmp_path / "traces.json").write_text(edited(status={"code": 9}, name="half \ud800") + "\n")
    (span,) = otlp_files.read_traces(tmp_path)[A].spans
    assert (span.status, span.name) == ("unset", "half ?")


@pytest.mark.parametrize(
    ("parents", "roots"),
    [
        ({"a": "a"}, ["a"]),
        ({"a": "b", "b": "a"}, ["a"]),
        ({"a": "", "b": "c", "c": "b", "d": "c"}, ["a", "b"]),
        ({"a": "gone", "b": "a"}, ["a"]),
    ],
)
def test_a_cycle_has_its_first_span_as_root(tmp_path, parents, roots):
    lines = [document(A, span, parent, start_ms=n) for n, (span, parent) in enumerate(parents.items())]
    (tmp_path / "traces.json").write_text("\n".join(lines) + "\n")
    found = otlp_files.read_traces(tmp_path)[A]
    assert [span.span_id for span in found.roots] == roots
    assert found.summary().name == "GET /x"


def test_a_file_that_is_rotated_away_meanwhile_is_passed_over(folder, monkeypatch):
    (folder / "traces-gone.json").symlink_to(folder / "nowhere")
    assert set(otlp_files.read_traces(folder)) == {A, B}
    there = otlp_files.oldest_first(folder, otlp_files.FILES)
    monkeypatch.setattr(otlp_files, "oldest_first", lambda folder, pattern: [*there, folder / "traces-gone.json"])
    assert set(otlp_files.read_traces(folder)) == {A, B}


def test_reading_and_walking_a_trace_takes_time_that_grows_with_its_spans(tmp_path):
    def seconds(count: int) -> float:
        (tmp_path / "traces.json").write_text("\n".join(chain(count)) + "\n")
        found = otlp_files.read_traces(tmp_path)[A]
        began = time.process_time()
        assert len(found.roots) == 1
        assert sum(len(found.children(span)) for span in found.spans) == count - 1
        return time.process_time() - began

    small = seconds(1_000)
    assert seconds(10_000) < max(40 * small, 1)  # quadratic is 100 times as long


@pytest.mark.parametrize(("wanted", "ids"), [("Order-17-A", [A]), ("order-17-a", [B]), ("ORDER-17-A", [A, B])])
def test_a_request_id_is_found_as_it_was_given_before_whatever_the_case(tmp_path, wanted, ids):
    lines = [document(A, "a1", request_id="Order-17-A"), document(B, "b1", request_id="order-17-a")]
    (tmp_path / "traces.json").write_text("\n".join(lines) + "\n")
    assert [trace.trace_id for trace in otlp_files.find(otlp_files.read_traces(tmp_path), wanted)] == ids
