"""SLOs: what is refused and how, and what promtool makes of the rules: budgets, paces, and alerts that fire in time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from demo import ROOT
from servescope.errors import ServescopeError
from servescope.generate import rule_files
from servescope.promql import slo_series
from servescope.promql.lint import check
from servescope.rules import prometheus as prometheus_rules
from servescope.rules.slo import objectives as slo_module
from servescope.rules.slo import rules as slo_rules
from servescope.rules.slo.objectives import PAIRS, Slo
from servescope.settings import Settings
from tests.support import promtool

SETTINGS = Settings()
GOOD = {"name": "x", "application": "main", "availability": 0.99}

OPENSLO = """
apiVersion: openslo/v1
kind: Service
metadata: {name: shop}
---
apiVersion: openslo/v1
kind: SLO
metadata: {name: checkout, labels: {route: /checkout}}
spec:
  service: shop
  budgetingMethod: Occurrences
  timeWindow: [{duration: 4w, isRolling: true}]
  objectives:
    - {displayName: answered, target: 0.995}
    - {displayName: quick, op: lte, value: 500, targetPercent: 95}
"""


def openslo(**spec: Any) -> str:
    """An OpenSLO document whose spec has other fields."""
    good = {"service": "shop", "objectives": [{"target": 0.99}]}
    return yaml.safe_dump({"apiVersion": "openslo/v1", "kind": "SLO", "metadata": {"name": "x"}, "spec": good | spec})


def load(tmp_path: Path, text: str) -> list[Slo]:
    path = tmp_path / "slo.yaml"
    path.write_text(text)
    return slo_module.load(path)


def test_our_own_form(tmp_path):
    (slo,) = load(tmp_path, yaml.safe_dump({"slos": [{**GOOD, "latency": {"objective": 0.95, "threshold_ms": 500}}]}))
    assert slo == Slo(
        name="x",
        application="main",
        deployment="",
        route="",
        availability=0.99,
        latency_objective=0.95,
        latency_ms=500,
        window_days=30,
        count_backpressure=True,
    )


def test_openslo(tmp_path):
    (slo,) = load(tmp_path, OPENSLO)
    assert slo == Slo(
        name="checkout",
        application="shop",
        deployment="",
        route="/checkout",
        availability=0.995,
        latency_objective=0.95,
        latency_ms=500,
        window_days=28,
    )


REFUSED = [
    ({"availability": 1.2}, "objective 1.2 is not between 0 and 1"),
    ({"availability": 0.93}, "0.93 is too low for a burn-rate alert: the pair 1h/5m would need an error ratio of 1.01"),
    ({"latency": {"objective": 0.99, "threshold_ms": 700}}, "700 ms is not a bucket bound.*nearest are 500 or 1000"),
    ({"deployment": "D", "route": "/"}, "a deployment or a route, not both"),
    ({"window": "1y"}, "window '1y' is not of the form"),
    ({"window": "90d"}, "window 90d is not between 1d and 34d"),
    ({"availability": 0}, "no objective; set availability"),
    ({"avaliability": 0.9}, "unknown field 'avaliability'"),
    ({"application": ""}, "application is missing"),
    ({"availability": "high"}, "'high' is not a number"),
    ({"availability": float("nan")}, "nan is not a number"),
    ({"latency": {"objective": 0.95, "threshold_ms": float("inf")}}, "threshold_ms inf is not an integer"),
    ({"latency": {"objective": 0.95, "threshold_ms": float("nan")}}, "threshold_ms nan is not an integer"),
    ({"latency": {"objective": 10**400, "threshold_ms": 500}}, "latency objective 10+ is not a number"),
    ({"window": "9" * 5000 + "d"}, "is not of the form 30d or 4w"),
    ({"name": "a\nb"}, "'a.nb' is not a valid SLO name"),
    ({"application": "s\nx"}, r"application 's\\nx' contains a quote, a backslash, a line break"),
    ({"application": "s\u2028x"}, "a line break or a control character"),
    ({"application": 's"x'}, "contains a quote"),
    ({"deployment": "s\\x"}, "contains a quote, a backslash"),
    ({"route": "/\x1b[0m"}, "a control character"),
    ({"deployment": 7}, "expected a string for deployment, got 7"),
    ({1: 2, None: 3, "x": 4}, "unknown field 1"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED)
def test_what_cannot_be_watched_is_refused_in_one_line(tmp_path, change, message):
    with pytest.raises(ServescopeError, match=message) as raised:
        load(tmp_path, yaml.safe_dump({"slos": [GOOD | change]}))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("slos: []", "no SLOs found"),
        ("- 1", "a mapping with a list"),
        ("{", "not YAML"),
        (yaml.safe_dump({"slos": [GOOD, GOOD]}), "two SLOs are named 'x'"),
        (OPENSLO.replace("Occurrences", "Timeslices"), "only Occurrences is supported"),
        (OPENSLO.replace("isRolling: true", "isRolling: false"), "only rolling windows"),
        (OPENSLO.replace("openslo/v1\nkind: SLO", "openslo/v2\nkind: SLO"), "only openslo/v1"),
        (openslo(objectives=[{"targetPercent": "99.9"}]), "x: targetPercent '99.9' is not a number"),
        (openslo(objectives=[0.99]), "x: objectives must be a list of mappings, got .0.99."),
        (openslo(objectives=0.99), "x: objectives must be a list of mappings, got 0.99"),
        (openslo(timeWindow={"duration": "30d"}), "x: timeWindow must be a list of mappings, got {'duration': '30d'}"),
        (openslo(timeWindow=["30d"]), "x: timeWindow must be a list of mappings"),
        (openslo(service=["a"]), "x: expected a string for service"),
        (openslo(objectives=[{"target": 0.9, "op": "lte", "value": float("inf")}]), "inf is not an integer"),
        ("apiVersion: openslo/v1\nkind: SLO\nspec: 7\n", "an OpenSLO document: spec must be a mapping, got 7"),
        ("apiVersion: openslo/v1\nkind: SLO\nmetadata: [x]\n", "metadata must be a mapping"),
        ("slos: 2026-99-99", "not YAML"),
        ("[" * 5000, "not YAML"),
    ],
)
def test_files_that_are_refused(tmp_path, text, message):
    with pytest.raises(ServescopeError, match=message) as raised:
        load(tmp_path, text)
    assert "\n" not in str(raised.value)


@promtool.requires_promtool
@pytest.mark.parametrize(
    "name", ["it's", "a`b", "a#b", "{{ $labels.x }}", "${HOME} $1", "[5m]", "größe", "x offset 5m", "%s"]
)
def test_promtool_accepts_what_is_written_for_a_name_that_is_not_refused(tmp_path, name):
    entries = [
        GOOD | {"application": name, "route": f"/{name}", "latency": {"objective": 0.95, "threshold_ms": 500}},
        GOOD | {"name": "y", "application": name, "deployment": name},
    ]
    for scale in (1, 60):
        text = rule_files(SETTINGS, load(tmp_path, yaml.safe_dump({"slos": entries})), scale)[
            Path("servescope-slo.yml")
        ]
        (tmp_path / "rules.yml").write_text(text)
        result = promtool.run("check", "rules", tmp_path / "rules.yml")
        assert result.returncode == 0, result.stdout + result.stderr
        rules = [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]
        assert {rule["labels"]["application"] for rule in rules if "record" in rule} == {name}
        assert sum(f'application="{name}"' in rule["expr"] for rule in rules) >= 5


def test_the_factors_are_those_of_the_workbook_and_computed_for_other_windows():
    assert [pair.factor(30) for pair in PAIRS] == pytest.approx([14.4, 6, 3, 1])
    assert [pair.factor(7) for pair in PAIRS] == pytest.approx([3.36, 1.4, 0.7, 7 / 30])
    assert len(slo_module.pairs(Slo(name="x", application="a", availability=0.99, window_days=2))) == 3


def test_every_recorded_name_is_known_and_every_expression_passes_the_lint():
    for slo in slo_module.load(ROOT / "demo/slo/slo.yaml"):
        for sli in slo.objectives:
            for name, expression in (
                *slo_rules.short_recordings(slo, sli, SETTINGS),
                *slo_rules.long_recordings(slo, sli),
            ):
                assert name in slo_series.RECORDED
                assert check(expression, SETTINGS) == []
            for pair in PAIRS:
                assert check(slo_rules.burn_alert(slo, sli, pair, settings=SETTINGS).expr, SETTINGS) == []


SLO = Slo(name="s", application="main", availability=0.99)
REQUESTS = (
    'ray_serve_num_http_requests_total{application="main",route="/",status_code="%s",ray_io_cluster="a",instance="n"}'
)


def run_promtool(folder: Path, slo: Slo, series: dict[str, str], expected: dict, interval: str = "1m") -> None:
    """Let promtool run the SLO's rules over invented series, one sample a minute."""
    (folder / "slo.yml").write_text(rule_files(SETTINGS, [slo])[Path("servescope-slo.yml")])
    expressions = [
        {
            "expr": expr,
            "eval_time": at,
            "exp_samples": [{"labels": labels, "value": value} for labels, value in samples],
        }
        for (expr, at), samples in expected.items()
    ]
    series = {'up{ray_io_cluster="a",instance="n",job="ray"}': "1x6000", **series}
    tests = [
        {
            "interval": interval,
            "input_series": [{"series": name, "values": values} for name, values in series.items()],
            "promql_expr_test": expressions,
        }
    ]
    document = {"rule_files": ["slo.yml"], "evaluation_interval": "1m", "tests": tests}
    (folder / "test.yml").write_text(yaml.safe_dump(document))
    result = promtool.run("test", "rules", folder / "test.yml")
    assert result.returncode == 0, result.stdout + result.stderr


FIRING = 'count by (long, severity) (ALERTS{alertstate="firing"})'
ONE_HOUR = '{long="1h", severity="critical"}'
SIX_HOURS = '{long="6h", severity="critical"}'
ONE_DAY = '{long="1d", severity="warning"}'
THREE_DAYS = '{long="3d", severity="warning"}'


def value(name: str) -> str:
    return f'max by (slo) ({name}{{sli="availability"}})'


@promtool.requires_promtool
def test_budget_and_pace_are_exact_and_first_errors_are_seen(tmp_path):
    """200 requests, 1 of them the first and only error of a new series: half a per cent of a budget of one."""
    at = "100m"
    run_promtool(
        tmp_path,
        SLO,
        {REQUESTS % 200: "0+0x79 10+10x18 199x100", REQUESTS % 500: "_x90 1x200"},
        {
            ("round(" + value("serve_slo:requests:events1h") + ", 0.001)", at): [('{slo="s"}', 200)],
            (value("serve_slo:errors:events1h"), at): [('{slo="s"}', 1)],
            ("round(" + value("serve_slo:error_ratio:ratio1h") + ", 0.0001)", at): [('{slo="s"}', 0.005)],
            ("round(" + value("serve_slo:burn_rate:ratio1h") + ", 0.0001)", at): [('{slo="s"}', 0.5)],
            (FIRING, at): [],
        },
    )


@promtool.requires_promtool
@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ("0+20x", [ONE_HOUR, SIX_HOURS]),  # 20 % of requests: 20 times the budget's pace
        ("0+8x", [SIX_HOURS]),
        ("0+5x", []),
    ],
)
def test_pages_fire_at_their_pace_and_not_below(tmp_path, errors, expected):
    good = f"0+{100 - int(errors[2:-1])}x500"
    run_promtool(
        tmp_path,
        SLO,
        {REQUESTS % 200: good, REQUESTS % 503: f"{errors}500"},
        {(FIRING, "45m"): [(labels, 1) for labels in sorted(expected)]},
    )


def promtool_of_slow_rules(folder: Path, series: dict[str, str], expected: dict[tuple[str, str], list[float]]) -> None:
    """Let promtool evaluate the rules of the long windows alone, every four minutes, over given counts of minutes."""
    slo = Slo(name="s", application="main", availability=0.99, window_days=2)
    document = prometheus_rules.slo_document([slo], SETTINGS)
    groups = [group for group in document["groups"] if group["interval"] == slo_rules.SLOW_EVALUATION]
    assert [group["name"] for group in groups] == ["servescope.slo.s.availability.4m"]
    (folder / "slo.yml").write_text(yaml.safe_dump({"groups": groups}, width=10_000))
    labels = 'slo="s",sli="availability",application="main"'
    test = {
        "interval": "1m",
        "input_series": [{"series": f"{name}{{{labels}}}", "values": text} for name, text in series.items()],
        "promql_expr_test": [
            {"expr": f"max({expr})", "eval_time": at, "exp_samples": [{"labels": "{}", "value": v} for v in values]}
            for (expr, at), values in expected.items()
        ],
    }
    tests = {"rule_files": ["slo.yml"], "evaluation_interval": "4m", "tests": [test]}
    (folder / "test.yml").write_text(yaml.safe_dump(tests, width=10_000))
    result = promtool.run("test", "rules", folder / "test.yml")
    assert result.returncode == 0, result.stdout + result.stderr


@promtool.requires_promtool
def test_the_counts_of_four_minutes_give_the_ratio_of_the_minutes_with_twenty_minutes_missed(tmp_path):
    # Sums that change all the time; nothing is there for twenty minutes that begin between two counts.
    minutes = {
        "serve_slo:requests:events1m": "100+1x1502 _x20 7+2x2600",
        "serve_slo:errors:events1m": "0x700 9+1x801 _x20 1x1000 0x1600",
    }

    def of_minutes(over: str) -> str:
        over = f"{24 * int(over[0]) - 1}h59m59s999ms"
        errors, requests = (f"sum_over_time(serve_slo:{what}:events1m[{over}])" for what in ("errors", "requests"))
        return f"{errors} / {requests}"

    times = ("20h", "26h", "30h", "50h", "65h")
    windows = {"1d": times, "2d": times}
    promtool_of_slow_rules(
        tmp_path,
        minutes,
        {
            (f"abs(serve_slo:error_ratio:ratio{over} - {of_minutes(over)}) < bool 1e-12", at): [1]
            for over, ats in windows.items()
            for at in ats
        }
        | {("serve_slo:error_ratio:ratio2d > bool 0.01", "50h"): [1]},
    )


@promtool.requires_promtool
def test_an_evaluation_after_missed_ones_counts_what_none_has_counted(tmp_path):
    # 84 counts of 10, one each scrape; twelve sums of five of them, and then none for a while: 24 are in no sum.
    slo = Slo(name="s", application="main", availability=0.99)
    not_counted = dict(slo_rules.long_recordings(slo, "availability"))["serve_slo:requests:events4m"]
    series = {
        'serve_slo:requests:events1m{slo="s",sli="availability"}': "_ 10x84",
        'serve_slo:requests:events4m{slo="s",sli="availability"}': " ".join(["_x4 50"] + ["_x3 50"] * 11 + ["_x24"]),
    }
    expected = [('{slo="s",sli="availability"}', 240)]
    promtool.assert_expressions(tmp_path, series, {(not_counted, "21m7s"): expected})


@promtool.requires_promtool
def test_slow_burns_open_tickets(tmp_path):
    """4 % for a day and more is above 3 times the pace; nothing pages."""
    run_promtool(
        tmp_path,
        SLO,
        {REQUESTS % 200: "0+96x2000", REQUESTS % 500: "0+4x2000"},
        {(FIRING, "30h"): [(ONE_DAY, 1), (THREE_DAYS, 1)]},
    )


@promtool.requires_promtool
def test_the_alert_ends_soon_after_the_trouble(tmp_path):
    run_promtool(
        tmp_path,
        SLO,
        {REQUESTS % 200: "0+70x40 2800+100x500", REQUESTS % 500: "0+30x40 1200x500"},
        {(FIRING, "40m"): [(ONE_HOUR, 1), (SIX_HOURS, 1)], (f"{FIRING} and on (long) vector(1)", "100m"): []},
    )


@promtool.requires_promtool
def test_little_traffic_raises_nothing(tmp_path):
    """Two of four requests failed: half of them, and no burn."""
    run_promtool(
        tmp_path,
        SLO,
        {REQUESTS % 200: "0x20 1 2x200", REQUESTS % 500: "_x20 1 2x200"},
        {(value("serve_slo:error_ratio:ratio1h"), "45m"): [('{slo="s"}', 0.5)], (FIRING, "45m"): []},
    )


@promtool.requires_promtool
def test_a_failed_scrape_and_a_leaving_node_invent_nothing(tmp_path):
    other = REQUESTS.replace('instance="n"', 'instance="n2"')
    run_promtool(
        tmp_path,
        SLO,
        {
            REQUESTS % 200: "0+100x100",
            other % 200: "50000+100x30 _x100",
            other % 500: "9000x30 _x100",
            'up{ray_io_cluster="a",instance="n2",job="ray"}': "1x30 _x100",
        },
        {(value("serve_slo:errors:events1h"), "60m"): [('{slo="s"}', 0)], (FIRING, "60m"): []},
    )


def test_backpressure_counts_unless_configured_otherwise():
    def errors(counted: bool) -> str:
        slo = Slo(name="s", application="main", availability=0.99, count_backpressure=counted)
        return dict(slo_rules.short_recordings(slo, "availability", SETTINGS))["serve_slo:errors:events1m"]

    assert "503|429" in errors(True)
    assert 'status_code!~"503|429' not in errors(True)
    assert 'status_code!~"503|429|RESOURCE_EXHAUSTED"' in errors(False)


def test_burn_alerts_link_to_the_dashboard_of_their_slo():
    (group, *_) = prometheus_rules.slo_document([SLO], SETTINGS)["groups"]
    (rule, *_) = [rule for rule in group["rules"] if "alert" in rule]
    assert "/d/servescope-slo?viewPanel=" in rule["annotations"]["dashboard_url"]
    assert rule["annotations"]["dashboard_url"].endswith("var-slo={{ $labels.slo | urlquery }}")
