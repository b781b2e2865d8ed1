"""`servescope lint` over a reader's own files: what it finds, what passes, and what it says of files it cannot read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from demo import ROOT
from servescope.cli import app

FIXTURES = ROOT / "tests/fixtures/lint"
RULES, DASHBOARD = FIXTURES / "rules.yml", FIXTURES / "dashboard.json"


def lint(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["lint", *map(str, arguments)])


def rules_file(path: Path, expr: str, name: str = "X") -> Path:
    path.write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": [{"alert": name, "expr": expr}]}]}))
    return path


def test_a_rule_file_with_a_line_for_each_finding():
    result = lint(RULES)
    assert result.exit_code == 1
    found = [line.removeprefix(f"{RULES}: ") for line in result.stdout.splitlines()]
    assert [line.split(": ")[:2] for line in found] == [
        ["ray_serve:own_latency:mean5m", "sum"],
        ["ManyOngoing", "event-gauge"],
        ["Broken", "syntax"],
        ["NoSuchMetric", "metric"],
        ["NoSuchLabel", "label"],
    ]
    assert found[3].endswith(
        "http_request_total is not in the metric catalogue; did you mean ray_serve_num_http_requests_total?"
    )
    assert found[4].endswith("grouping by 'deploymnt', which the series inside do not carry")


def test_a_dashboard_with_its_variables_filled_in():
    result = lint(DASHBOARD)
    assert result.exit_code == 1
    assert [line.removeprefix(f"{DASHBOARD}: ").split(": ")[:2] for line in result.stdout.splitlines()] == [
        ["Requests", "variable"],  # $nowhere is defined by nobody
        ["Status", "legend"],
        ["annotation Restarts", "increase"],
        ["variable application", "metric"],
    ]
    assert result.stderr == "servescope: 1 expressions not checked: a variable has no saved value\n"


def test_a_folder_is_read_whole_and_a_record_in_one_file_is_known_in_the_other(tmp_path):
    (tmp_path / "deep").mkdir()
    rules_file(tmp_path / "deep/a.yaml", "ray_mine:x:rate5m > 1")
    (tmp_path / "other.yml").write_text("services: {}\n")
    assert "ray_mine:x:rate5m is not in the metric catalogue" in lint(tmp_path).stdout
    document = {"groups": [{"name": "r", "rules": [{"record": "ray_mine:x:rate5m", "expr": "sum(app_x)"}]}]}
    (tmp_path / "b.yml").write_text(yaml.safe_dump(document))
    result = lint(tmp_path)
    assert (result.exit_code, result.stdout) == (0, "2 expressions in 2 files, no finding\n")


def test_what_we_ship_passes():
    result = lint(ROOT / "alerts", ROOT / "demo/slo", ROOT / "dashboards")
    assert (result.exit_code, result.stderr) == (0, "")
    assert int(result.stdout.split()[0]) > 800


@pytest.mark.parametrize(
    ("expr", "options"),
    [
        ("rate(ray_vllm_generation_tokens_total[5m])", ["--own", "ray_vllm_"]),
        ("min by (stack) (ray_serve_application_status)", ["--label", "stack"]),
    ],
)
def test_what_only_the_reader_knows_is_an_option(tmp_path, expr, options):
    path = rules_file(tmp_path / "r.yml", expr)
    assert lint(path).exit_code == 1
    assert lint(path, *options).exit_code == 0


@pytest.mark.parametrize(
    "expr",
    [
        '{__name__=~"ray_.*", job="x"}',
        "sum by (anything) (app_requests) - on (this) other",
        "app_x / on (pod) group_left (node) sum by (pod, node) (kube_pod_info)",
        "up{namespace='a'} == 0",
        "sum by (team) (app_total or ray_serve_application_status)",
        "sum without (pod) (kube_pod_info) * on (application) ray_serve_application_status",
    ],
)
def test_metrics_of_others_pass_with_any_label(tmp_path, expr):
    result = lint(rules_file(tmp_path / "r.yml", expr))
    assert (result.exit_code, result.stdout) == (0, "1 expressions in 1 files, no finding\n")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda groups: {"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule", "spec": {"groups": groups}},
        lambda groups: {
            "groups": [
                {
                    "rules": [
                        {
                            "title": group["rules"][0]["alert"],
                            "data": [{"model": {"expr": group["rules"][0]["expr"]}}, {"model": {"expression": "A"}}],
                        }
                    ]
                }
                for group in groups
            ]
        },
    ],
    ids=["operator", "grafana-managed"],
)
def test_other_forms_of_rules(tmp_path, wrap):
    groups = [{"name": "g", "rules": [{"alert": "X", "expr": "sum(ray_actors)"}]}]
    (tmp_path / "r.yml").write_text(yaml.safe_dump(wrap(groups)))
    assert ": X: actors: " in lint(tmp_path).stdout


def test_other_forms_of_dashboards(tmp_path):
    panel = {"title": "P", "targets": [{"expr": "sum(ray_actors)"}]}
    for name, document in (("api", {"dashboard": {"panels": [panel]}}), ("old", {"rows": [{"panels": [panel]}]})):
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    assert lint(tmp_path).stdout.count(": P: actors: ") == 2


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.yml", "groups: [\n", "a.yml: while parsing a flow"),
        ("a.json", "{", "a.json: Expecting property name"),
        ("a.yml", "services: {}", "a.yml: neither rules (groups with rules) nor a dashboard (panels)"),
        ("a.yml", None, "a.yml: cannot read (No such file or directory)"),
        ("a.yml", b"\xff\xfe\x00", "a.yml: 'utf-8' codec can't decode"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(tmp_path, name, text, told):
    path = tmp_path / name
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    result = lint(path, rules_file(tmp_path / "good.yml", "up == 0"))
    assert result.exit_code == 1
    assert result.stderr.startswith(f"servescope: {tmp_path}/{told}")
    assert result.stderr.count("\n") == 1


def test_a_folder_without_any_is_told(tmp_path):
    result = lint(tmp_path)
    assert result.exit_code == 1
    assert result.stderr == f"servescope: {tmp_path}: no rule file (*.yml) and no dashboard (*.json)\n"


def test_odd_documents_are_passed_over(tmp_path):
    for number, document in enumerate(
        [
            {"groups": [None, {"rules": None}, {"rules": ["x", {"expr": 1}]}]},
            {"panels": [None, {"targets": None}, {"targets": [{"expr": None}, "x"]}], "templating": None},
            {"panels": [], "templating": {"list": [{"name": "a", "type": "query", "query": None}]}, "annotations": 3},
        ]
    ):
        (tmp_path / f"{number}.json").write_text(json.dumps(document))
    assert lint(tmp_path).exit_code == 0
