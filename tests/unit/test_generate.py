"""What is generated: the same bytes each time, in step with what is committed, accepted by promtool."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from demo import ROOT
from servescope.cli import commands
from servescope.dashboards import all_dashboards, slo
from servescope.dashboards.rows import traces
from servescope.generate import repository_files, rule_files
from servescope.promql.lint import check
from servescope.promql.signals import SIGNALS
from servescope.rules import recording
from servescope.settings import Settings
from tests.support import promtool

SETTINGS = Settings()
BOARDS = [
    pytest.param(board, id=f"{board.uid}{'-recorded' if recorded else ''}")
    for recorded in (False, True)
    for board in all_dashboards(SETTINGS, recorded=recorded)
]


def test_generating_twice_gives_the_same_bytes():
    assert repository_files(SETTINGS, commands()) == repository_files(Settings(), commands())


def test_what_is_committed_is_what_is_generated():
    for path, text in repository_files(SETTINGS, commands()).items():
        assert (ROOT / path).read_text(encoding="utf-8") == text, f"{path} is stale: make generate"


def test_nothing_committed_below_the_generated_folders_is_left_over():
    generated = set(repository_files(SETTINGS, commands()))
    for pattern in (
        "dashboards/**/*.json",
        "alerts/*.yml",
        "alerts/grafana/*.yml",
        "alerts/tests/alerts-*.yml",
        "demo/slo/**/*.yml",
        "docs/runbooks/*.md",
        "docs/dashboards/*.md",
    ):
        for path in ROOT.glob(pattern):
            assert path.relative_to(ROOT) in generated, f"{path} is no longer generated"


def test_the_rules_that_a_reader_loads_are_about_no_application_of_the_demo():
    rules = "".join(path.read_text() for path in ROOT.glob("alerts/**/*.yml") if path.parent.name != "tests")
    assert re.findall(r'application="\w+"|serve_slo:', rules) == []
    of_demo = (ROOT / "demo/slo/servescope-slo.yml").read_text()
    assert set(re.findall(r'application="(\w+)"', of_demo)) == {"ocr", "echo"}


@pytest.mark.parametrize("board", BOARDS)
def test_every_expression_passes_the_lint(board):
    findings = [
        f"{panel.title}: {finding}"
        for panel in board.panels
        for query in panel.queries
        for finding in check(query.expr, SETTINGS, legend=query.legend)
    ]
    assert findings == []


@pytest.mark.parametrize("board", BOARDS)
def test_variables_and_annotations_pass_the_lint(board):
    document = board.to_json()
    expressions = [annotation["expr"] for annotation in document["annotations"]["list"] if "expr" in annotation]
    for variable in document["templating"]["list"]:
        if variable["type"] == "query":
            query = variable["query"]["query"]
            if vector := re.fullmatch(r"query_result\((.*)\)", query):
                expressions.append(vector.group(1))
                continue
            match = re.fullmatch(r"label_values\((.*), (\w+)\)", query)
            expressions.append(f"group by ({match.group(2)}) ({match.group(1)})")
    assert len(expressions) >= 2
    # A label lookup queries series, not values, so it may name a bare counter.
    findings = [f for expression in expressions for f in check(expression, SETTINGS) if f.rule != "counter"]
    assert findings == []


@pytest.mark.parametrize("board", BOARDS)
def test_every_panel_says_what_it_shows(board):
    titles = [panel.title for panel in board.panels]
    assert len(titles) == len(set(titles)), "two panels of one title"
    for panel in board.panels:
        assert panel.description, panel.title
        if panel.type == "table":
            assert panel.model["fieldConfig"]["overrides"], panel.title
        elif panel.type not in ("text", "state-timeline"):
            assert panel.unit, panel.title


@pytest.mark.parametrize("board", BOARDS)
def test_panels_never_overlap(board):
    rectangles = []
    y_max = 0
    for panel in board.to_json()["panels"]:
        grid = panel["gridPos"]
        assert 0 <= grid["x"] < grid["x"] + grid["w"] <= 24
        rectangles.append((grid["x"], grid["y"], grid["x"] + grid["w"], grid["y"] + grid["h"], panel["title"]))
        y_max = max(y_max, grid["y"] + grid["h"])
    for i, a in enumerate(rectangles):
        for b in rectangles[i + 1 :]:
            apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
            assert apart, f"{a[4]} overlaps {b[4]}"
    assert y_max > 20


def test_at_most_fifteen_percent_of_targets_are_excused():
    panels = [panel for board in all_dashboards(SETTINGS) for panel in board.panels]
    targets = sum(len(panel.queries) for panel in panels)
    # Objectives and spans are missing on a plain machine, not in the live tests: they hold these panels to having data.
    excused = sum(len(p.queries) for p in panels if p.absent not in ("", slo.ABSENT, traces.ABSENT))
    assert targets > 100
    assert excused / targets <= 0.15, f"{excused} of {targets}"


def test_the_recorded_variant_takes_the_plain_ones_place():
    for plain, recorded in zip(all_dashboards(SETTINGS), all_dashboards(SETTINGS, recorded=True), strict=True):
        assert (plain.uid, plain.title) == (recorded.uid, recorded.title)
        assert [panel.title for panel in plain.panels] == [panel.title for panel in recorded.panels]
        names = [signal.name(SETTINGS) for signal in SIGNALS]
        assert not any(name in query.expr for panel in plain.panels for query in panel.queries for name in names)
        assert any(name in query.expr for panel in recorded.panels for query in panel.queries for name in names)


def test_every_recorded_series_is_read_by_a_dashboard():
    text = "".join(q.expr for b in all_dashboards(SETTINGS, recorded=True) for p in b.panels for q in p.queries)
    read = [signal for signal in SIGNALS if signal.name(SETTINGS) in text]
    finer = [signal.finer for signal in read]  # what they are recorded from
    assert [signal.record for signal in SIGNALS if signal not in (*read, *finer)] == []


def test_recording_rules_pass_the_lint():
    for signal in SIGNALS:
        assert check(recording.expression(signal, SETTINGS), SETTINGS) == [], signal.record
        assert re.fullmatch(r"(serve_(application|cluster|deployment|route)|ray_node):\w+:\w+", signal.name(SETTINGS))


@promtool.requires_promtool
def test_promtool_accepts_the_rules(tmp_path):
    prometheus = {path: text for path, text in rule_files(SETTINGS).items() if path.parent == Path()}
    for name, text in prometheus.items():
        (tmp_path / name).write_text(text)
        result = promtool.run("check", "rules", tmp_path / name)
        assert result.returncode == 0, result.stdout + result.stderr
        if "recording" in name.name:
            assert f"{len(SIGNALS)} rules found" in result.stdout
    broken = tmp_path / "broken.yml"
    broken.write_text("groups: [{name: g, rules: [{record: 'a b', expr: 'sum('}]}]")
    assert promtool.run("check", "rules", broken).returncode != 0


@promtool.requires_promtool
def test_the_rules_own_unit_tests():
    path = ROOT / "alerts/tests/recording.yml"
    result = promtool.run("test", "rules", path)
    assert result.returncode == 0, f"{path}: {result.stdout}{result.stderr}"
    recorded = {case["expr"].split("{")[0] for case in yaml.safe_load(path.read_text())["tests"][0]["promql_expr_test"]}
    assert {signal.name(SETTINGS) for signal in SIGNALS} <= recorded, "a recorded series without a test"
