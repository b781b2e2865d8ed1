"""What becomes of the Grafana-managed copies when Grafana evaluates them: who is paged, and who is not."""

from __future__ import annotations

import math
from typing import Any

import pytest
import yaml

from demo import ROOT
from tests.support.grafana_alerting import STALE_AFTER, GrafanaRule

FILES = (ROOT / "alerts/grafana/servescope-alerts.yml", ROOT / "demo/slo/grafana/servescope-slo.yml")
GROUPS = [group for path in FILES for group in yaml.safe_load(path.read_text())["groups"]]
RULES = [(int(group["interval"].removesuffix("s")), rule) for group in GROUPS for rule in group["rules"]]


def rules() -> list[GrafanaRule]:
    return [GrafanaRule(rule, interval) for interval, rule in RULES]


def run(rule: GrafanaRule, answers: list[dict[str, float] | None]) -> list[set[str]]:
    """What fires after each evaluation."""
    return [rule.evaluate(number * rule.interval_s, answer) for number, answer in enumerate(answers)]


def until_it_fires(rule: GrafanaRule) -> int:
    """How many evaluations it takes."""
    return math.ceil(rule.for_s / rule.interval_s) + 1


def test_an_empty_answer_pages_nobody():
    assert len(RULES) >= 80
    for rule in rules():
        assert run(rule, [{}] * (until_it_fires(rule) + 5)) == [set()] * (until_it_fires(rule) + 5)


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, math.nan, math.inf])
def test_every_sample_fires_as_in_prometheus_whatever_its_value(value: float):
    for rule in rules():
        fired = run(rule, [{"a": value}] * until_it_fires(rule))
        assert fired[-1] == {"a"}
        assert fired[:-1] == [set()] * (len(fired) - 1)


def test_nobody_is_paged_while_prometheus_restarts_for_a_minute():
    for rule in rules():
        down: list[dict[str, float] | None] = [None] * math.ceil(60 / rule.interval_s)
        assert set().union(*run(rule, [{}, {}, *down, {}, {}])) == set(), rule.rule["title"]


def test_a_label_set_that_is_gone_resolves_and_a_single_miss_does_not():
    for rule in rules():
        before: list[Any] = [{"a": 1.0, "b": 1.0}] * until_it_fires(rule)
        once = run(rule, [*before, {"b": 1.0}])
        assert once[-1] == {"a", "b"}
        assert rule.evaluate((len(before) + 1) * rule.interval_s, {"b": 1.0}) == {"b"}
        assert STALE_AFTER == 2


def test_a_condition_that_ends_before_its_time_pages_nobody():
    for rule in rules():
        if rule.for_s:
            short: list[Any] = [{"a": 1.0}] * (until_it_fires(rule) - 1)
            assert set().union(*run(rule, [*short, {}, *short])) == set()


def test_the_watchdog_fires_from_the_first_answer_on_and_stops_when_nothing_answers():
    (interval, watchdog) = next((i, rule) for i, rule in RULES if rule["title"].startswith("ServescopeWatchdog"))
    rule = GrafanaRule(watchdog, interval)
    always: list[Any] = [{"up": 1.0}] * until_it_fires(rule)
    assert run(rule, always)[-1] == {"up"}
    assert rule.evaluate(len(always) * interval, None) == set()  # which the dead man's switch notices
