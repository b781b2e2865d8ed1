"""Reading the trace files of the Collector."""

from __future__ import annotations

import json

import pytest

from servescope.clients import otlp_files
from servescope.clients.model import TraceSummary, failed, slowest
from servescope.errors import ServescopeError
from tests.support.trace_files import A, B, write_traces


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
    with pytest.raises(ServescopeError, match=r"holds no traces\*\.json"):
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
