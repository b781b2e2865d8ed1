"""The panels of logs and traces without Grafana: each bundled one, from the files that a Collector writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from servescope.clients.prometheus import Prometheus
from servescope.dashboards import all_dashboards
from servescope.grafana.templating import Interpolation, Selection
from servescope.report import collected, preview
from servescope.report.collected import Collected, Matcher, NotHere, question
from servescope.report.queries import Window, panels_of
from servescope.report.waterfall import waterfall
from servescope.settings import Settings
from tests.support import in_process
from tests.support.servers import free_port, running
from tests.support.trace_files import A, B, document
from tests.unit.test_log_lines import collected as log_file

AT = 1_700_000_000  # of tests/support/trace_files.py
WINDOW = Window(AT - 60, AT + 60, step_s=60)
BOARDS = [board.to_json() for board in all_dashboards(Settings())]
PANELS = [
    (board["uid"], panel)
    for board in BOARDS
    for panel in panels_of(board)
    if any(target["datasource"]["type"] in ("loki", "tempo") for target in panel.get("targets", []))
]


def scope(**values: str) -> Interpolation:
    chosen = {"cluster": "c.1", "application": "main", "deployment": "chat/talk v1.5", "request_id": "", **values}
    return Interpolation({name: Selection(values=(value,)) for name, value in chosen.items()}, WINDOW.macros())


LINES: list[dict[str, Any]] = [
    {"message": "took 12 ms for 0b0e7c1e-0000-4000-8000-000000000000", "level": "WARNING", "request_id": "r1"},
    {"message": "took 7 ms for 1c0e7c1e-0000-4000-8000-000000000001\nmore", "level": "WARNING"},
    {"message": "fine", "level": "INFO", "request_id": "r1", "trace_id": A, "event": "upscale"},
    {"message": "GET /a 500 3.0ms", "level": "INFO", "log_type": "access", "status": "500", "request_id": "r 2"},
    {"message": "GET /a 200 3.0ms", "level": "INFO", "log_type": "access", "status": "200", "request_id": "r3"},
]
OF_RAY = {"message": "lost a node", "level": "ERROR", "component": "raylet", "cluster": "c.1"}
OF_ANOTHER = {"message": "not ours", "level": "ERROR", "cluster": "c.2", "application": "main", "deployment": "X"}


@pytest.fixture
def source(tmp_path: Path) -> Collected:
    place = {"cluster": "c.1", "application": "main", "deployment": "chat/talk v1.5", "component": "serve_replica"}
    logs = log_file(tmp_path / "logs", *({**place, **line} for line in LINES), OF_RAY, OF_ANOTHER, at=AT)
    traces = tmp_path / "traces"
    traces.mkdir()
    of_talk = {"serve.application": "main", "serve.deployment": "chat/talk v1.5"}
    documents = [json.loads(document(A, "a1", ms=50, status=2)), json.loads(document(B, "b1", ms=2000, start_ms=500))]
    for one in documents:
        resource = one["resourceSpans"][0]["resource"]["attributes"]
        resource += [{"key": key, "value": {"stringValue": value}} for key, value in of_talk.items()]
    documents.append(json.loads(document("c" * 32, "c1", ms=1)))
    (traces / "traces.json").write_text("".join(json.dumps(one) + "\n" for one in documents))
    return Collected(logs=logs, traces=traces)


def shown(source: Collected, title: str, uid: str = "servescope-deployment", **values: str) -> collected.Answer:
    (panel,) = [one for board, one in PANELS if (board, one["title"]) == (uid, title)]
    return collected.answer(panel, source, window=WINDOW, scope=scope(**values))


@pytest.mark.parametrize(
    ("uid", "panel"), PANELS, ids=lambda value: value if isinstance(value, str) else value["title"]
)
def test_every_bundled_panel_is_answered(source, uid, panel):
    collected.answer(panel, source, window=WINDOW, scope=scope())


def test_lines_are_those_of_the_deployment_newest_first(source):
    found = shown(source, "Log lines").lines
    assert [record.text.split()[0] for record in found] == ["GET", "GET", "fine", "took", "took"]
    assert [record.text for record in shown(source, "Log lines by request ID", request_id="r 2").lines] == [
        "GET /a 500 3.0ms"
    ]
    assert shown(source, "Log lines by request ID").lines == []  # while the box is empty
    of_ray = shown(source, "Ray system warnings and errors", "servescope-cluster").lines
    assert [record.text for record in of_ray] == ["lost a node"]


def test_lines_are_counted_at_the_end_of_their_interval(source):
    (answer,) = shown(source, "Log lines by level").series
    assert {series.labels["level"]: series.points for series in answer.series} == {
        "WARNING": [(AT, 1.0), (AT + 60, 1.0)],
        "INFO": [(AT + 60, 3.0)],
    }
    (events,) = shown(source, "Log events by type").series
    assert [series.labels for series in events.series] == [{"event": "upscale", "deployment": "chat/talk v1.5"}]


def test_patterns_are_counted_without_ids_and_numbers(source):
    (answer,) = shown(source, "Error patterns").series
    ((series,),) = [answer.series]
    assert series.labels == {"deployment": "chat/talk v1.5", "level": "WARNING", "text": "took <n> ms for <id>"}
    assert series.points == [(AT + 60, 2.0)]


def test_failed_requests_lead_to_their_lines_and_traces(source):
    found = shown(source, "Failed and slow requests")
    assert found.columns == ["Time", "Component", "Deployment", "Status", "Latency (ms)", "Route", "Request", "Trace"]
    (line,) = found.cells
    assert [cell["text"] for cell in line] == [
        "22:13:23.000", "serve_replica", "chat/talk v1.5", "500", "", "", "r 2", "",
    ]  # fmt: skip
    assert line[6]["links"][0]["url"] == "/request/r%202"


def test_traces_are_those_of_the_deployment(source):
    def ids(title: str) -> list[str]:
        return [line[0]["links"][0]["url"] for line in shown(source, title).cells]

    assert ids("Failed traces") == [f"/trace/{A}"]
    assert ids("Slow traces") == [f"/trace/{B}"]
    assert ids("Traces") == [f"/trace/{B}", f"/trace/{A}"]


@pytest.mark.parametrize(
    ("text", "fields", "holds"),
    [
        ('{job="ray", a="x"}', {"a": "x"}, True),  # what the store of one Ray does not say
        ('{a=~"x|"}', {}, True),
        ('{a=~"x"}', {"a": "xy"}, False),
        ('{a!~"x"}', {"a": "y"}, True),
        ('{a!="x"} | b!=""', {"a": "y"}, False),
        (r'{a=~"x\\.y"}', {"a": "x.y"}, True),
        (r'{a=~"x\\.y"}', {"a": "xxy"}, False),
        ('{a="x"} | s=~"5.." or latency_ms > 1000', {"a": "x", "s": "200", "latency_ms": 1500.0}, True),
        ('{a="x"} | s=~"5.." or latency_ms > 1000', {"a": "y", "s": "500", "latency_ms": 1500.0}, False),
    ],
)
def test_the_conditions_of_a_question(text, fields, holds):
    assert question(text)._holds(fields) is holds


@pytest.mark.parametrize("text", ["", "{}", '{a="x"} |= "y"', '{a="x"} | json', '{a=~"("}', 'rate({a="x"}[5m])'])
def test_another_question_is_left_to_grafana(text):
    with pytest.raises(NotHere):
        question(text)
    assert Matcher("a", "=", "").holds({})


def test_what_nobody_collects_is_said():
    for uid, panel in PANELS:
        with pytest.raises(NotHere, match=r"start with --(logs|traces) FOLDER"):
            collected.answer(panel, Collected(), window=WINDOW, scope=scope()), uid


def test_a_waterfall_has_each_span_once_and_its_lines(source):
    trace = source.every_trace()[A]
    drawn = waterfall(trace, source.lines_of(trace))
    (bar,) = drawn.bars
    assert (bar.depth, bar.left, bar.width) == (0, 0.0, 100.0)
    assert [record.text for record in drawn.lines] == ["fine"]


def test_the_previews_pages_lead_from_plot_to_trace_to_line(source):
    nobody = Prometheus(f"http://127.0.0.1:{free_port()}")  # these pages ask files only
    with nobody, running(preview.serve(nobody, port=0, folder=None, settings=Settings(), evidence=source)) as host:
        url = f"http://{host}"
        listed = httpx.get(f"{url}/traces", params={"from": AT - 5, "to": AT + 5, "var-application": "main"}).text
        assert listed.index(f"/trace/{B}") < listed.index(f"/trace/{A}")  # slowest first
        assert "c" * 12 not in listed
        page = httpx.get(f"{url}/trace/{A}").text
        assert 'class="span failed"' in page
        assert "it broke" in page
        assert "fine" in page
        lines = httpx.get(f"{url}/request/r1").text
        assert "No lines" in lines  # older than a day
        for path, status in (("/trace/none", 400), ("/traces?from=x&to=1", 400)):
            assert httpx.get(f"{url}{path}").status_code == status


SECRETS = ("hunter2", "s3cr3t-t0ken-of-a-client")


def test_a_snapshot_has_lines_and_waterfalls_redacted_once_more(tmp_path: Path):
    """From files that nobody has redacted: spans of an older Collector, lines of an agent with redaction off."""
    logs = log_file(
        tmp_path / "logs",
        {"message": f"login password={SECRETS[0]}", "level": "ERROR", "trace_id": A, "request_id": "r1"},
        at=AT,
    )
    one = document(A, "a1", ms=50, status=2, request_id="r1", note=f"Authorization: Bearer {SECRETS[1]}")
    one = one.replace("it broke", f"password={SECRETS[0]}")
    (tmp_path / "traces").mkdir()
    (tmp_path / "traces/traces.json").write_text(one + "\n")
    arguments = ["snapshot", "-p", f"http://127.0.0.1:{free_port()}", "--from", str(AT - 30), "--to", str(AT + 30)]
    page = tmp_path / "s.html"
    ended = in_process.servescope(
        *arguments, "-o", page, "--traces", tmp_path / "traces", "--logs", logs, "--logs-around", str(AT)
    )
    assert ended.code == 1, ended.err  # written, but without figures
    assert "written, but incomplete" in ended.err
    text = page.read_text()
    assert not [secret for secret in SECRETS if secret in text]
    assert f'<a href="#trace-{A}">' in text
    assert f'id="trace-{A}"' in text
    assert text.count("login password=[redacted]") == 2  # around the alert, and in the waterfall
    assert "note=Authorization: Bearer [redacted]" in text
