"""The alerts: every expression and every runbook query passes the lint, promtool's tests hold, links lead somewhere."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
import yaml

from demo import ROOT
from servescope.errors import ServescopeError
from servescope.generate import rule_files, rule_test_files
from servescope.pages import on_call, runbooks
from servescope.promql.durations import longer, milliseconds, shorten
from servescope.promql.figures import FIGURES, FINISHED_WHILE_HUNG
from servescope.promql.lint import check
from servescope.rules import alerts
from servescope.rules import prometheus as prometheus_rules
from servescope.rules.alert import Group
from servescope.rules.promtool import labelled, lasting
from servescope.settings import Settings
from tests.support import promtool

SETTINGS = Settings()
ALERTS = alerts.all_alerts(SETTINGS)
EACH = [pytest.param(alert, id=alert.name) for alert in ALERTS]
RULES = [rule for group in prometheus_rules.document(SETTINGS)["groups"] for rule in group["rules"]]
ALERTING = [rule for rule in RULES if "alert" in rule]


def test_names_are_unique_and_say_what_they_are_about():
    names = [alert.name for alert in ALERTS]
    assert len(names) == len(set(names)) > 50
    assert [name for name in names if not re.fullmatch(r"(RayServe|RayCluster|RayGpu|Servescope)[A-Z]\w+", name)] == []


def test_each_alert_is_the_function_of_its_name_and_no_module_takes_from_another():
    written = {}
    for path in (ROOT / "src/servescope/rules/alerts").glob("[a-z]*.py"):
        text = path.read_text()
        assert "servescope.rules.alerts" not in text, path
        written |= dict(
            re.findall(r'^def (\w+)\(exprs: Expressions\) -> Alert:\n(?: .*\n|\n)*? +name="(\w+)"', text, re.M)
        )
    # Those on the set-up are made of its checks.
    text = (ROOT / "src/servescope/rules/setup_checks.py").read_text()
    checks = dict(
        re.findall(r'^def (\w+)\(exprs: Expressions\) -> SetupCheck:\n(?: .*\n|\n)*? +name="(\w+)"', text, re.M)
    )
    setups = {function: f"ServescopeSetup{name}" for function, name in checks.items()}
    assert sorted((*written.values(), *setups.values())) == sorted(alert.name for alert in ALERTS)
    written |= {function: name.replace("Setup", "") for function, name in setups.items()}
    for function, name in written.items():
        own = re.sub("^(RayServe|RayCluster|Ray|Servescope)", "", name)
        assert function == re.sub("(?<!^)(?=[A-Z])", "_", own).lower()


@pytest.mark.parametrize("alert", EACH)
def test_the_expression_passes_the_lint_and_keeps_the_labels_of_its_texts(alert):
    if alert.expr == "vector(1)":
        return
    legend = " ".join(f"{{{{{label}}}}}" for label in alert.labels)
    assert check(alert.expr, SETTINGS, legend=legend) == []
    assert set(alert.case.labels) == set(alert.labels), "the test names other labels than the alert"


@pytest.mark.parametrize("alert", EACH)
def test_runbook_queries_pass_the_lint(alert):
    assert alert.diagnosis
    for question, query in alert.diagnosis:
        assert question
        if query:
            assert check(query, SETTINGS) == [], query


@pytest.mark.parametrize("alert", EACH)
def test_texts_are_complete(alert):
    assert re.fullmatch(r"[A-Z].*[^.]\.", alert.summary)
    assert "{{" not in alert.summary, "the summary is the same for all instances"
    for text in (alert.description, alert.meaning, alert.impact, *alert.mitigation):
        assert text.endswith("."), text
    used = set(re.findall(r"\$labels\.(\w+)", alert.description))
    assert used <= {*alert.labels, SETTINGS.cluster_label}


@pytest.mark.parametrize("rule", [pytest.param(rule, id=rule["alert"]) for rule in ALERTING])
def test_every_link_leads_somewhere(rule):
    runbook = ROOT / rule["annotations"]["runbook_url"]
    assert runbook.is_file()
    assert rule["alert"] in runbook.read_text()
    match = re.match(r"/d/(servescope-\w+)\?viewPanel=(\d+)", rule["annotations"]["dashboard_url"])
    board = yaml.safe_load((ROOT / f"dashboards/{match.group(1)}.json").read_text())
    ids = [p["id"] for row in board["panels"] for p in (row, *row.get("panels", ())) if p["type"] != "row"]
    assert int(match.group(2)) in ids


def test_figures_are_recorded_before_what_reads_them_and_no_less_often():
    recorded = {}
    for group in prometheus_rules.document(SETTINGS)["groups"]:
        interval = milliseconds(group["interval"])
        for rule in group["rules"]:
            if "record" in rule:
                recorded[rule["record"]] = (interval, group["name"])
            for name in set(re.findall(r"[a-z_]+:[a-z0-9_:]+", rule["expr"])) & {figure.record for figure in FIGURES}:
                assert name in recorded, f"{rule.get('alert')} reads {name} before it is recorded"
                every, where = recorded[name]
                # A lookback of five minutes finds nothing that is as old: only what was recorded at the same moment.
                assert every <= max(interval, 60_000) or where == group["name"], f"{rule.get('alert')}: {name}"
    assert recorded.keys() == {figure.record for figure in FIGURES}
    assert [name for name in recorded if name not in (ROOT / "alerts/servescope-alerts.yml").read_text()] == []


def test_hung_requests_are_judged_by_a_count_and_for_longer_than_one_holds():
    """Whose count is not there yet, or is that of a session that has just begun, is no page."""
    for every_s in (15, 30, 60):
        settings = dataclasses.replace(SETTINGS, alert_interval_s=every_s)
        groups = {group["name"]: group for group in prometheus_rules.document(settings)["groups"]}
        (hung,) = [r for g in groups.values() for r in g["rules"] if r.get("alert") == "RayServeRequestsHung"]
        (counted,) = [
            milliseconds(group["interval"])
            for group in groups.values()
            if any(rule.get("record") == FINISHED_WHILE_HUNG.record for rule in group["rules"])
        ]
        assert counted < milliseconds(hung["for"]) <= 75_000


@promtool.requires_promtool
def test_requests_are_not_called_hung_before_anything_was_counted(tmp_path):
    (rule,) = [rule for rule in ALERTING if rule["alert"] == "RayServeRequestsHung"]
    case = next(alert for alert in ALERTS if alert.name == "RayServeRequestsHung").case
    series = {labelled(name, SETTINGS): lasting(values, 90) for name, values in case.fires.items()}
    count = f'{FINISHED_WHILE_HUNG.record}{{application="main",deployment="D",ray_io_cluster="a"}}'
    for counted, fires in ((None, []), ("3x90", []), ("0x90", [("{}", 1)])):
        there = {} if counted is None else {count: counted}
        promtool.assert_expressions(tmp_path, {**series, **there}, {(f"count({rule['expr']})", "20m7s"): fires})


def test_no_expression_that_people_read_is_long():
    assert max(len(rule["expr"]) for rule in ALERTING) <= 1200
    assert max(len(rule["expr"]) for rule in RULES) <= 1600


def test_an_alert_that_judges_over_minutes_alone_is_evaluated_seldom():
    intervals = {
        rule["alert"]: group["interval"]
        for group in prometheus_rules.document(dataclasses.replace(SETTINGS, alert_interval_s=30))["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }
    assert (intervals["RayServeErrorRatioHigh"], intervals["RayServeLatencyHigh"]) == ("30s", "60s")
    assert intervals["RayServeReplicaLatencyOutlier"] == "240s"
    assert {intervals[alert.name] for alert in ALERTS if alert.severity == "critical"} == {"30s"}


def test_the_index_lists_every_page():
    pages = runbooks.pages(runbooks.all_groups(SETTINGS))
    index = pages.pop(Path("README.md"))
    assert [path for path in pages if f"]({path})" not in index] == []
    assert {f"{alert.name}.md" for alert in ALERTS} | {"RayServeErrorBudgetBurn.md"} == {str(path) for path in pages}


def test_a_bar_in_a_summary_does_not_end_its_cell():
    alert = dataclasses.replace(ALERTS[0], name="RayServeX", summary="Either a|b or `c|d`.")
    index = runbooks.pages([Group(name="x", title="X", alerts=(alert,))])[Path("README.md")]
    assert "\n| [RayServeX](RayServeX.md) | critical | Either a\\|b or `c\\|d`. |\n" in index


def test_the_page_of_alerts_lists_each_with_who_acts_and_the_first_action():
    page = f"# Alerts\n\n{on_call.BEGIN}\n| stale |\n{on_call.END}\nMore.\n"
    text = on_call.insert(page, runbooks.all_groups(SETTINGS))
    assert "stale" not in text
    assert text.startswith("# Alerts\n\n")
    assert text.endswith(f"{on_call.END}\nMore.\n")
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| [")]
    assert [row[0] for row in rows[:-1]] == [f"| [{a.name}](runbooks/{a.name}.md)" for a in ALERTS]
    assert rows[-1][0] == "| [RayServeErrorBudgetBurn](runbooks/RayServeErrorBudgetBurn.md)"
    assert {row[2] for row in rows} == {"application owner", "platform team", "monitoring team"}
    assert rows[0][3] == "If the errors started with a deploy, roll back to the previous version."
    assert rows[0][4] == "service: users see the service, whichever of its clusters answers |"
    assert {row[4].partition(":")[0] for row in rows} == {"service", "cluster", "neither"}
    assert on_call.insert(text, runbooks.all_groups(SETTINGS)) == text


@pytest.mark.parametrize("page", ["# Alerts\n", f"{on_call.BEGIN}\n", f"{on_call.END}\n{on_call.BEGIN}\n"])
def test_a_page_of_alerts_without_its_markers_is_refused(page):
    with pytest.raises(ServescopeError, match="the markers of the generated table are missing"):
        on_call.insert(page, [])


def test_an_alert_names_who_acts():
    with pytest.raises(ServescopeError, match="owner 'nobody' is none of application, platform, monitoring"):
        dataclasses.replace(ALERTS[0], owner="nobody")


def test_what_an_alert_is_judged_by_is_known():
    with pytest.raises(ServescopeError, match="judged 'somehow' is none of process, deployment, start"):
        dataclasses.replace(ALERTS[0], judged="somehow")


def test_alerts_on_what_users_see_keep_the_service_label_alone():
    settings = Settings(service_label="ray_service")
    rules = {rule["alert"]: rule for rule in _rules(prometheus_rules.document(settings, recorded=False))}
    of_users = rules["RayServeErrorRatioHigh"]
    assert "(sum by (ray_service, application) (" in of_users["expr"]
    assert "var-cluster" not in of_users["annotations"]["dashboard_url"]
    of_replicas = rules["RayServeReplicasMissing"]
    assert of_replicas["expr"].startswith("max by (ray_io_cluster, ray_service, application, deployment)")
    assert "var-cluster={{ $labels.ray_io_cluster" in of_replicas["annotations"]["dashboard_url"]


def test_links_follow_the_settings():
    settings = Settings(grafana_url="https://g.example/", runbook_url="https://r.example/b")
    (rule, *_) = prometheus_rules.document(settings, recorded=False)["groups"][0]["rules"]
    assert rule["annotations"]["runbook_url"] == "https://r.example/b/RayServeErrorRatioHigh.md"
    assert rule["annotations"]["dashboard_url"].startswith("https://g.example/d/servescope-overview?viewPanel=")
    assert rule["annotations"]["dashboard_url"].endswith(
        "&var-cluster={{ $labels.ray_io_cluster | urlquery }}&var-application={{ $labels.application | urlquery }}"
    )


def test_thresholds_follow_the_settings():
    text = rule_files(Settings(latency_ms=10_000, disk_ratio=0.5, cluster_label="c"))[Path("servescope-alerts.yml")]
    assert 'le=~"10000([.]0)?"' in text
    of_updates = text.count('ray_serve_long_poll_latency_ms_bucket{le=~"5000([.]0)?"}')
    assert text.count('le=~"5000([.]0)?"') == of_updates > 0
    assert "> 50\n" in text
    assert "ray_io_cluster" not in text


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [("1m", "15s", "1m15s"), ("10m", "40m", "50m"), ("50m", "40m", "1h30m"), ("1d", "1s", "24h1s")],
)
def test_durations_add_up_to_one_that_prometheus_reads(one, other, both):
    assert longer(one, other) == both


def test_a_time_scale_divides_every_duration_and_nothing_else():
    assert shorten('max_over_time(x{a="[5m]"}[30m:30s] offset 1h) > 5', 6) == (
        'max_over_time(x{a="[5m]"}[300000ms:5000ms] offset 600000ms) > 5'
    )
    assert shorten("max_over_time(x[10m:])", 6) == "max_over_time(x[100000ms:])"
    assert (
        shorten("x offset -5m + x[ 1m : 30s ] OFFSET 1m", 6) == "x offset -50000ms + x[10000ms:5000ms] offset 10000ms"
    )
    assert shorten('x{a=\'[5m]\', b=`offset 5m`, c="\\"[5m]"}', 6) == 'x{a=\'[5m]\', b=`offset 5m`, c="\\"[5m]"}'
    for rule, scaled in zip(RULES, _rules(prometheus_rules.document(SETTINGS, 6)), strict=True):
        assert _durations(scaled["expr"]) == pytest.approx([d / 6 for d in _durations(rule["expr"])])
        assert re.sub(r"\d+(ms|[smhd])\b", "", scaled["expr"]) == re.sub(r"\d+(ms|[smhd])\b", "", rule["expr"])
        assert milliseconds(scaled.get("for", "0s")) == milliseconds(rule.get("for", "0s")) / 6


def _rules(document):
    return [rule for group in document["groups"] for rule in group["rules"]]


def _durations(expression: str) -> list[int]:
    return [milliseconds(text) for text in re.findall(r"(?:\[|:|offset )((?:\d+(?:ms|[smhd]))+)", expression)]


@promtool.requires_promtool
@pytest.mark.parametrize("path", sorted(rule_test_files(SETTINGS)), ids=lambda path: path.stem)
def test_promtools_tests_hold_for_the_plain_alerts_too(path, tmp_path):
    document = yaml.safe_load((ROOT / "alerts" / path).read_text())
    document["rule_files"] = [str(ROOT / "alerts/plain/servescope-alerts.yml")]
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(document, width=10_000))
    result = promtool.run("test", "rules", tmp_path / "tests.yml")
    assert result.returncode == 0, result.stdout + result.stderr


@promtool.requires_promtool
@pytest.mark.parametrize("path", sorted(rule_test_files(SETTINGS)), ids=lambda path: path.stem)
def test_promtools_tests_of_the_alerts(path):
    document = yaml.safe_load((ROOT / "alerts" / path).read_text())
    assert document["tests"]
    result = promtool.run("test", "rules", ROOT / "alerts" / path)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_alert_has_its_case_and_its_counter_case():
    names = [test["name"] for path in rule_test_files(SETTINGS) for test in _document(path)["tests"]]
    for alert in ALERTS:
        assert f"{alert.name} fires" in names
        assert f"{alert.name} does not fire just below its threshold" in names or alert.name == "ServescopeWatchdog"
    assert sum("fires" not in name and "does not fire" not in name for name in names) >= 10


def _document(path):
    return yaml.safe_load((ROOT / "alerts" / path).read_text())
