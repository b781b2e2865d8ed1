"""The label `team`: real promtool expands it, real amtool routes by it, and without teams nothing changes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from servescope.generate import rule_files, rule_test_files
from servescope.rules import alertmanager
from servescope.rules.slo.objectives import Slo
from servescope.settings import Settings
from tests.support import promtool
from tests.unit.test_alertmanager import requires_amtool

QUOTED = 'an "odd" one'
TEAMS = Settings(
    teams={"chat": "nlp", "search": "nlp", "ocr": "vision", QUOTED: "vision"}, default_team="ml", platform_team="ray"
)
SLOS = [Slo(name="chat", application="chat", availability=0.99)]


def written(settings: Settings, folder: Path) -> Path:
    for path, text in (rule_files(settings, SLOS) | rule_test_files(settings)).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


PROBED = ("RayServeErrorRatioElevated", "RayClusterDiskFull")


def teams_of_alerts(settings: Settings, folder: Path, expected: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Let promtool fire RayServeErrorRatioElevated for each application of `expected`, and RayClusterDiskFull.

    `expected` maps each application, and "" for the disk's alert, to the value of `team`.
    """
    rules = yaml.safe_load(rule_files(settings)[Path("plain/servescope-alerts.yml")])
    for group in rules["groups"]:
        group["rules"] = [rule for rule in group["rules"] if rule["alert"] in PROBED]
    (folder / "rules.yml").write_text(yaml.safe_dump(rules))
    series = {'ray_node_disk_utilization_percentage{ip="10.0.0.1",instance="n1",ray_io_cluster="a"}': "99+0x200"}
    samples = []
    for application, team in expected.items():
        name = json.dumps(application)
        labels = {"alertname": '"RayServeErrorRatioElevated"', "severity": '"warning"', "application": name}
        if not application:
            labels = {"alertname": '"RayClusterDiskFull"', "severity": '"critical"', "instance": '"n1"'}
        for code, values in (("200", "0+90x200"), ("500", "0+10x200")) if application else ():
            of_code = f'application={name},route="/",method="GET",status_code="{code}"'
            counter = f'ray_serve_num_http_requests_total{{{of_code},instance="n1",job="ray",ray_io_cluster="a"}}'
            series[counter] = values
        labels |= {"alertstate": '"firing"', "ray_io_cluster": '"a"', "team": f'"{team}"'}
        text = ", ".join(f"{label}={value}" for label, value in labels.items())
        samples.append({"labels": f"ALERTS{{{text}}}", "value": 1})
    series['up{instance="n1",job="ray",ray_io_cluster="a"}'] = "1+0x200"
    document = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "2m",
        "tests": [
            {
                "interval": "15s",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "promql_expr_test": [
                    {
                        "expr": 'ALERTS{alertstate="firing"}',
                        "eval_time": "45m",
                        "exp_samples": samples,
                    }
                ],
            }
        ],
    }
    (folder / "team-test.yml").write_text(yaml.safe_dump(document))
    return promtool.run("test", "rules", folder / "team-test.yml")


@promtool.requires_promtool
def test_prometheus_writes_the_team_of_each_application_and_of_the_cluster(tmp_path):
    expected = {"chat": "nlp", "search": "nlp", "ocr": "vision", QUOTED: "vision", "unlisted": "ml", "": "ray"}
    result = teams_of_alerts(TEAMS, tmp_path, expected)
    assert result.returncode == 0, result.stdout + result.stderr
    wrong = teams_of_alerts(TEAMS, tmp_path, {**expected, "ocr": "nlp"})
    assert wrong.returncode != 0


@promtool.requires_promtool
def test_without_a_platform_team_the_default_has_its_alerts(tmp_path):
    settings = Settings(teams={"chat": "nlp"}, default_team="ml")
    result = teams_of_alerts(settings, tmp_path, {"chat": "nlp", "unlisted": "ml", "": "ml"})
    assert result.returncode == 0, result.stdout + result.stderr


@promtool.requires_promtool
def test_without_applications_the_platform_team_has_its_alerts_alone(tmp_path):
    settings = Settings(default_team="ml", platform_team="ray")
    result = teams_of_alerts(settings, tmp_path, {"chat": "ml", "": "ray"})
    assert result.returncode == 0, result.stdout + result.stderr


@promtool.requires_promtool
def test_the_generated_tests_hold_with_teams(tmp_path):
    written(Settings(teams={"main": "nlp"}, default_team="ml", platform_team="ray"), tmp_path)
    result = promtool.run("test", "rules", tmp_path / "tests/alerts-advice.yml")
    assert result.returncode == 0, result.stdout + result.stderr
    assert 'team="ray"' in (tmp_path / "tests/alerts-nodes.yml").read_text()
    assert 'team="nlp"' in (tmp_path / "tests/alerts-advice.yml").read_text()


def _alerts(files: dict[Path, str], name: str) -> list[dict]:
    groups = yaml.safe_load(files[Path(name)])["groups"]
    return [rule for group in groups for rule in group["rules"] if "record" not in rule]


@pytest.mark.parametrize("name", ["servescope-alerts.yml", "servescope-slo.yml"])
def test_every_alert_has_the_label_and_grafanas_copy_the_same(name):
    with_teams, without = rule_files(TEAMS, SLOS), rule_files(Settings(), SLOS)
    rules = _alerts(with_teams, name)
    assert [rule["alert"] for rule in rules if not rule["labels"].get("team")] == []
    assert [rule["alert"] for rule in _alerts(without, name) if "team" in rule["labels"]] == []
    copies, copies_without = (_alerts(files, f"grafana/{name}") for files in (with_teams, without))
    for rule, copy, copy_without in zip(rules, copies, copies_without, strict=True):
        assert copy["labels"] == rule["labels"]
        assert "$" not in copy["labels"]["team"], "Grafana's provisioning would take it for an environment variable"
        assert (copy["uid"], copy["title"]) == (copy_without["uid"], copy_without["title"]), "a rule's history is lost"


ROUTES = [
    (("severity=critical", "team=nlp"), "page-nlp"),
    (("severity=warning", "team=vision"), "ticket-vision"),
    (("severity=critical", "team=ray"), "page-ray"),
    (("severity=critical",), "page"),
    (("severity=warning", "team=unknown"), "ticket"),
    (("severity=info", "team=nlp"), "note"),
    (("alertname=ServescopeWatchdog", "severity=info", "team=ray"), "watchdog"),
]


@requires_amtool
@pytest.mark.parametrize(("labels", "receiver"), ROUTES)
def test_alertmanagers_example_routes_by_team(labels, receiver, tmp_path):
    path = written(TEAMS, tmp_path) / "alertmanager/example.yml"
    command = ["amtool", "config", "routes", "test", f"--config.file={path}", *labels]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.stdout.strip() == receiver, result.stderr


@requires_amtool
def test_amtool_accepts_the_example_and_it_groups_by_team(tmp_path):
    path = written(TEAMS, tmp_path) / "alertmanager/example.yml"
    result = subprocess.run(["amtool", "check-config", path], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert yaml.safe_load(path.read_text())["route"]["group_by"] == [
        "ray_io_cluster",
        "team",
        "application",
        "alertname",
    ]


def test_one_team_for_everything_needs_no_template():
    rules = _alerts(rule_files(Settings(default_team="ml"), SLOS), "servescope-alerts.yml")
    assert {rule["labels"]["team"] for rule in rules} == {"ml"}


def test_without_teams_there_is_no_example_among_the_rules_and_no_team_in_the_route():
    assert Path("alertmanager/example.yml") not in rule_files(Settings())
    assert "team" not in alertmanager.example(Settings())["route"]["group_by"]
