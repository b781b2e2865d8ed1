"""The incident report over a real Prometheus that holds an incident: alerts, marks, evidence, and what is missing."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from demo import ROOT
from servescope.cli import app
from servescope.clients.prometheus import Prometheus
from servescope.errors import ServescopeError
from servescope.grafana import colors
from servescope.report import collect, snapshot
from servescope.report.model import FiredAlert, Mark, Report
from servescope.report.page import plotly_js
from servescope.report.queries import panels_of
from servescope.settings import Settings
from tests.support.backfilled_prometheus import BackfilledPrometheus
from tests.support.promtool import requires_promtool
from tests.support.stub_server import stub_server
from tests.support.trace_files import write_traces

pytestmark = requires_promtool

STEP = 15
START = 1_760_400_000  # unix seconds, whole steps
END = START + 900
RUNBOOK = "https://example.com/runbooks/RayServeBackPressure"
ALERTS = [  # name, labels, state, seconds after START: first sample, last sample
    ("ServescopeWatchdog", 'severity="none"', "firing", 0, 900),
    ("RayServeNoReplicas", 'severity="critical",deployment="Front",application="shop"', "firing", 600, 660),
    ("RayServeBackPressure", 'severity="warning",deployment="Front"', "pending", 120, 240),
    ("RayServeBackPressure", 'severity="warning",deployment="Front"', "firing", 255, 420),
    ("RayServeBackPressure", 'severity="warning",deployment="Front"', "firing", 480, 480),
    ("Theirs", 'deployment="Back"', "pending", 30, 60),
]
STREAMS = {
    "data": {"result": [{"stream": {"level": "ERROR"}, "values": [[f"{START + 250}000000000", "<b>broke</b>"]]}]}
}


def incident() -> Iterator[str]:
    for name, labels, state, first, last in ALERTS:
        series = f'ALERTS{{alertname="{name}",alertstate="{state}"{"," * bool(labels)}{labels}}}'
        yield from (f"{series} 1 {t}\n" for t in range(START + first, START + last + 1, STEP))
    status = 'ray_serve_deployment_status{ray_io_cluster="c",application="shop",deployment="Front"}'
    for t in range(START, END + 1, STEP):
        yield f"{status} {3 if 150 <= t - START <= 210 or t - START == 300 else 6} {t}\n"
    yield "# EOF\n"


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Prometheus with the incident, and with the rule of one of its alerts."""
    folder = tmp_path_factory.mktemp("incident")
    annotations = {"summary": "Front turns requests away.", "runbook_url": RUNBOOK}
    rule = {"alert": "RayServeBackPressure", "expr": "vector(0) > 1", "annotations": annotations}
    summary = "{{ $labels.deployment }} is at {{ $value | humanize }}."
    theirs = {"alert": "Theirs", "expr": "vector(0) > 1", "annotations": {"summary": summary}}
    (folder / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": [rule, theirs]}]}))
    place = BackfilledPrometheus(folder, [folder / "rules.yml"])
    # In blocks nothing says that a series ended: look back less than a step.
    place.backfill(incident())
    with place.server(f"--query.lookback-delta={STEP - 1}s") as url:
        yield url


def run(after: int) -> tuple[int, int]:
    return (START + after) * 1000, (START + after + STEP) * 1000


def stretch(first: int, last: int, state: str) -> tuple[int, int, str]:
    return run(first)[0], run(last)[1], state


def collected(url: str, uid: str = "slo") -> Report:
    with Prometheus(url) as prometheus:
        boards = collect.load_dashboards(Settings(), None, [uid])
        return collect.collect(
            prometheus, boards, collect.window_of(START, END, scrape_interval_s=STEP), settings=Settings()
        )


def test_the_alerts_that_were_pending_or_firing(prometheus):
    alerts = collected(prometheus).alerts
    assert [alert.name for alert in alerts] == ["RayServeBackPressure", "RayServeNoReplicas", "Theirs"]
    pressed, gone, theirs = alerts
    assert pressed == FiredAlert(
        name="RayServeBackPressure",
        severity="warning",
        labels="deployment=Front",
        summary="Front turns requests away.",
        runbook_url=RUNBOOK,
        runbook=(ROOT / "docs/runbooks/RayServeBackPressure.md").read_text(),
        runs=[stretch(120, 240, "pending"), stretch(255, 420, "firing"), stretch(480, 480, "firing")],
    )
    assert pressed.firing_from == (START + 255) * 1000
    assert (gone.labels, gone.runs) == ("application=shop, deployment=Front", [stretch(600, 660, "firing")])
    # One that is not ours and never fired: its summary names the label, as Prometheus would.
    assert theirs == FiredAlert(
        name="Theirs",
        severity="",
        labels="deployment=Back",
        summary="Back is at ….",
        runbook_url="",
        runbook="",
        runs=[stretch(30, 60, "pending")],
    )
    assert theirs.firing_from is None


@pytest.mark.parametrize(
    ("annotation", "wanted"),
    [
        ("plain", "plain"),
        ("{{$labels.a}} and {{- .Labels.a -}} ", "x/1 and x/1 "),
        ('{{ $labels.a | urlquery }} {{ index $labels "a" }} {{ $labels.none }}.', "x/1 x/1 ."),
        ('{{ $value }} {{ humanize $value }} {{ query "up" |\n first }}', "… … …"),
        ("{{ broken", "{{ broken"),
    ],
)
def test_a_summary_has_its_labels_filled_in(annotation, wanted):
    assert collect.expanded(annotation, {"a": "x/1"}) == wanted


def test_an_annotation_marks_what_lasted_and_what_came_again(prometheus):
    (board,) = collected(prometheus, "overview").boards
    color = colors.css("blue")
    assert board.marks == [
        Mark(title="Rollout", text="shop/Front", color=color, start=(START + 150) * 1000, end=(START + 210) * 1000),
        Mark(title="Rollout", text="shop/Front", color=color, start=(START + 300) * 1000, end=(START + 300) * 1000),
    ]


def command(url: str, output: Path, *arguments: str) -> list[str]:
    span = ("--from", str(START * 1000), "--to", str(END * 1000))
    return ["snapshot", "-p", url, *span, "-d", "slo", "-o", str(output), *arguments]


@pytest.mark.parametrize(
    ("arguments", "around"), [((), START + 255), (("--logs-around", str((START + 700) * 1000)), START + 700)]
)
def test_the_lines_are_those_around_the_first_alert_that_fired_or_the_moment_that_was_named(
    prometheus, tmp_path, arguments, around
):
    output = tmp_path / "report.html"
    with stub_server(STREAMS) as (loki, asked):
        result = CliRunner().invoke(app, command(prometheus, output, "--loki", loki, *arguments))
    assert (result.exit_code, len(asked)) == (0, 1)
    half = snapshot.LOGS_AROUND_S
    asked_for = [int(asked[0][1][name]) // 10**9 for name in ("start", "end")]
    assert asked_for == [around - half, around + half]
    page = output.read_text().replace(plotly_js(), "")
    assert "&lt;b&gt;broke&lt;/b&gt;" in page
    assert f'<a href="{RUNBOOK}">' in page
    # The runbook's own links lead to pages that are not here.
    assert re.findall(r'href="(?!https://|#|data:)[^"]*"', page) == []
    assert "Open the panel Back-pressure on the dashboard" in page


def test_without_an_alert_that_fired_the_lines_are_the_last(prometheus, tmp_path):
    begin = ["--to", str((START + 200) * 1000)]
    with stub_server(STREAMS) as (loki, asked):
        result = CliRunner().invoke(app, command(prometheus, tmp_path / "r.html", "--loki", loki, *begin))
    assert result.exit_code == 0
    last = (START + 200) // STEP * STEP
    assert int(asked[0][1]["end"]) // 10**9 == last + snapshot.LOGS_AROUND_S


def test_a_dead_tempo_and_a_foreign_loki_cost_their_part_only(prometheus, tmp_path):
    output = tmp_path / "report.html"
    with stub_server({}) as (dead, _):
        pass
    with stub_server({"<i>": 1}) as (foreign, _):
        result = CliRunner().invoke(app, command(prometheus, output, "--tempo", dead, "--loki", foreign))
    problems = [f"{dead}: Tempo is unreachable", f"{foreign}: not a response of Loki"]
    assert isinstance(result.exception, ServescopeError)
    said = str(result.exception)
    assert said.startswith(f"{output}: written, but incomplete: {problems[0]}")
    assert problems[1] in said
    assert "\n" not in said
    shown = re.findall(r'<p class="problem">(.*?)</p>', output.read_text())
    assert [text.startswith(problem) for text, problem in zip(shown, problems, strict=True)] == [True, True]
    assert 'class="board" id="servescope-slo"' in output.read_text()


@pytest.mark.parametrize("option", ["--from", "--to", "--logs-around"])
def test_a_bad_time_leaves_no_file(prometheus, tmp_path, option):
    output = tmp_path / "report.html"
    result = CliRunner().invoke(app, command(prometheus, output, option, "yesterday"))
    assert isinstance(result.exception, ServescopeError)
    assert str(result.exception).startswith(f"{option}: 'yesterday'")
    assert not output.exists()


def test_the_bar_counts_panels_to_the_last(prometheus, tmp_path):
    shown = io.StringIO()
    request = snapshot.SnapshotRequest(
        prometheus=prometheus,
        start=str(START * 1000),
        end=str(END * 1000),
        dashboards=["slo"],
        folder=None,
        chosen={},
        title="T",
        tempo=None,
        traces=None,
        loki=None,
        loki_query="{}",
        logs=None,
        logs_around=None,
    )
    written = snapshot.write(
        request, Settings(), tmp_path / "r.html", console=Console(file=shown, force_terminal=True, width=120)
    )
    (board,) = collect.load_dashboards(Settings(), None, ["slo"])
    total = len(list(panels_of(board)))
    assert f"{total}/{total}" in shown.getvalue()
    assert "writing" in shown.getvalue()
    assert written.problems == []
    assert written.size == (tmp_path / "r.html").stat().st_size


def test_skipped_lines_of_a_trace_file_are_said_in_the_page_and_on_the_console(prometheus, tmp_path):
    folder = write_traces(tmp_path / "data")
    with (folder / "traces-2026-01-01T00-00-00.000.json").open("a") as file:
        file.write("not JSON\n")
    output = tmp_path / "report.html"
    result = CliRunner().invoke(app, command(prometheus, output, "--traces", str(folder)))
    said = f"{folder / 'traces-2026-01-01T00-00-00.000.json'}: skipped lines that hold no OTLP traces: 1"
    assert str(result.exception) == f"{output}: written, but incomplete: {said}"
    assert re.findall(r'<p class="problem">(.*?)</p>', output.read_text()) == [said]
