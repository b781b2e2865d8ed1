"""What Tempo and Loki answer, in their own shapes, and what else may answer at their address."""

from __future__ import annotations

import pytest

from servescope.clients import loki, tempo
from servescope.clients.model import LogRecord
from servescope.errors import ServescopeError
from servescope.report import evidence
from servescope.report.model import Traces
from tests.support.stub_server import stub_server

AT = 1_760_400_000  # unix seconds


def found(number: int, ms: int | None) -> dict[str, object]:
    """One trace of Tempo's answer to a search; it leaves out a duration below a millisecond."""
    reported = {"traceID": f"{number:032x}", "rootServiceName": "serve-proxy", "rootTraceName": "GET /read"}
    times = {"startTimeUnixNano": f"{AT + number}000000000", **({} if ms is None else {"durationMs": ms})}
    return {**reported, **times, "spanSets": [{"matched": 1, "spans": []}]}


def test_tempo_is_asked_for_failed_and_slow_traces_until_there_are_enough():
    with stub_server({"traces": [found(1, 20), found(2, None), found(3, 900)], "metrics": {}}) as (url, asked):
        traces = tempo.search(f"{url}/", AT, AT + 60, enough=evidence.MOST_TRACES)
    assert [path for path, _ in asked] == ["/api/search"] * 5
    queries = ["{ status = error }", "{ duration > 10s }", "{ duration > 1s }", "{ duration > 100ms }", "{}"]
    assert [parameters["q"] for _, parameters in asked] == queries
    assert {(p["start"], p["end"], p["limit"]) for _, p in asked} == {(str(AT), str(AT + 60), "100")}
    assert [(trace.start_ns, trace.ms) for trace in traces] == [
        ((AT + 1) * 10**9, 20.0),
        ((AT + 2) * 10**9, 0.0),
        ((AT + 3) * 10**9, 900.0),
    ]
    # What the search for errors found has failed, whatever later searches find as well.
    assert {(trace.service, trace.name, trace.failed) for trace in traces} == {("serve-proxy", "GET /read", True)}


def test_the_slowest_and_the_failing_come_in_order_and_not_without_end():
    with stub_server({"traces": [found(number, number) for number in range(1, 31)]}) as (url, _):
        traces = evidence.slowest_and_failing(url, tempo.search(url, AT, AT + 60, enough=20))
    assert [trace.ms for trace in traces.slowest] == list(range(30, 10, -1))
    assert [trace.start_ns // 10**9 - AT for trace in traces.failing] == list(range(30, 10, -1))


def test_a_tempo_without_traces_has_none():
    with stub_server({"metrics": {}}) as (url, _):
        traces = evidence.slowest_and_failing(url, tempo.search(url, AT, AT + 60, enough=20))
    assert traces == Traces(source=url, slowest=[], failing=[])


def test_the_lines_of_loki_around_a_moment():
    streams = [
        {
            "stream": {"application": "main", "deployment": "Scaler", "component": "serve_replica", "level": "ERROR"},
            "values": [[f"{AT}500000000", "broke", {"structuredMetadata": {}}]],
        },
        {"stream": {"component": "raylet"}, "values": [[f"{AT - 1}000000000", "gone"], [f"{AT + 2}000000000", "back"]]},
    ]
    with stub_server({"status": "success", "data": {"resultType": "streams", "result": streams}}) as (url, asked):
        logs = evidence.nearest(url, loki.records_around(url, '{job="ray"}', at=AT, seconds=120), AT)
    ((path, parameters),) = asked
    assert (path, parameters["query"], parameters["direction"]) == (
        "/loki/api/v1/query_range",
        '{job="ray"}',
        "forward",
    )
    assert (int(parameters["start"]), int(parameters["end"])) == ((AT - 120) * 10**9, (AT + 120) * 10**9)
    assert logs.lines == [
        LogRecord(time_ns=(AT - 1) * 10**9, source="raylet", level="", text="gone"),
        LogRecord(time_ns=AT * 10**9 + 5 * 10**8, source="main/Scaler", level="ERROR", text="broke"),
        LogRecord(time_ns=(AT + 2) * 10**9, source="raylet", level="", text="back"),
    ]
    assert (logs.source, logs.around, logs.left_out) == (url, AT * 1000, 0)


def test_where_not_all_lines_fit_the_errors_stay():
    values = [[f"{AT + number}000000000", str(number)] for number in range(evidence.MOST_LINES + 5)]
    streams = [
        {"stream": {"level": "INFO"}, "values": values},
        {"stream": {"level": "error"}, "values": [[f"{AT + 9999}000000000", "late"]]},
    ]
    with stub_server({"data": {"result": streams}}) as (url, _):
        logs = evidence.nearest(url, loki.records_around(url, "{}", at=AT, seconds=120), AT)
    assert (len(logs.lines), logs.left_out) == (evidence.MOST_LINES, 6)
    assert [line.text for line in logs.lines[-2:]] == [str(evidence.MOST_LINES - 2), "late"]


FOREIGN = [[], "x", {"traces": 5, "data": 5}, {"traces": [{"x": 1}], "data": {}}, {"traces": [[]], "data": []}]


def asks(program: str, url: str) -> object:
    if program == "Tempo":
        return tempo.search(url, AT, AT + 60, enough=20)
    return loki.records_around(url, "{}", at=AT, seconds=120)


@pytest.mark.parametrize("program", ["Tempo", "Loki"])
@pytest.mark.parametrize("body", FOREIGN, ids=str)
def test_what_is_not_the_program_is_one_line(program, body):
    # A text is not JSON; the other bodies are JSON of another shape.
    said = rf"rejected the query \(200\): {body}" if body == "x" else f"not a response of {program}"
    with stub_server(body) as (url, _), pytest.raises(ServescopeError, match=f"^{url}: .*{said}") as raised:
        asks(program, url)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("program", ["Tempo", "Loki"])
def test_a_refusal_says_why_and_a_dead_server_is_named(program):
    said = rf"{program} rejected the query \(400\): parse error: unexpected }}$"
    with stub_server("parse error:\n  unexpected }", 400) as (url, _), pytest.raises(ServescopeError, match=said):
        asks(program, url)
    with pytest.raises(ServescopeError, match=f"^{url}: {program} is unreachable"):
        asks(program, url)
