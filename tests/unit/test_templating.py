"""Grafana's rules, with the cases of its documentation."""

from __future__ import annotations

import calendar

import pytest

from servescope.errors import ServescopeError
from servescope.grafana import units
from servescope.grafana.templating import (
    Interpolation,
    Selection,
    interval,
    legend,
    parse_time,
    rate_interval,
    round_interval,
    rows,
)

NOW = calendar.timegm((2026, 11, 25, 17, 30, 20))
SEVERAL = Selection(values=("server01", "server02"))


@pytest.mark.parametrize(
    ("form", "wanted"),
    [
        ("csv", "server01,server02"),
        ("doublequote", '"server01","server02"'),
        ("glob", "{server01,server02}"),
        ("json", '["server01","server02"]'),
        ("percentencode", "%7Bserver01%2Cserver02%7D"),
        ("pipe", "server01|server02"),
        ("raw", "server01,server02"),
        ("regex", "(server01|server02)"),
        ("singlequote", "'server01','server02'"),
        ("text", "server01 + server02"),
    ],
)
def test_variable_formats(form, wanted):
    assert Interpolation({"servers": SEVERAL}, {}).promql(f"${{servers:{form}}}") == wanted


def test_percentencode_is_strict_and_leaves_nothing_to_markdown_or_a_shell():
    scope = Interpolation({"server": Selection(values=("it's (a*b)! ~x/y-z_1.2",))}, {})
    assert scope.promql("${server:percentencode}") == "it%27s%20%28a%2Ab%29%21%20~x%2Fy-z_1.2"


def test_every_syntax_of_a_variable_and_nothing_else():
    scope = Interpolation({"app": Selection(values=("a",))}, {"__range": "3600s"})
    text = 'x{app=~"$app|${app}|[[app]]"}[$__range] $1 $unknown'
    assert scope.promql(text) == 'x{app=~"a|a|a"}[3600s] $1 $unknown'


@pytest.mark.parametrize(
    ("selection", "wanted"),
    [
        (SEVERAL, "(server01|server02)"),
        (Selection(values=("a.b",)), r"a\\.b"),
        (Selection(values=(r"a\b",)), r"a\\\\b"),
        (Selection(values=('say "x"',), multi=False), 'say \\"x\\"'),
        (Selection(values=("a", "b"), everything=True, all_value=".+"), ".+"),
        (Selection(values=("a", "b"), everything=True), "(a|b)"),
    ],
)
def test_selection_in_promql(selection, wanted):
    assert selection.promql == wanted


def test_an_unknown_format_is_named():
    with pytest.raises(ServescopeError, match="'sql' is not known"):
        Interpolation({"a": SEVERAL}, {}).promql("${a:sql}")


def test_rate_interval_is_at_least_four_scrapes():
    assert rate_interval(15, 15) == 60
    assert rate_interval(60, 15) == 75


def test_interval_is_rounded_as_grafana_rounds():
    assert [round_interval(s) for s in (0.1, 14, 44, 45, 89, 90, 100_000)] == [0.1, 15, 30, 60, 60, 120, 86400]
    assert interval(3600, 1000, 15) == 15
    assert interval(6 * 3600, 240, 15) == 120


@pytest.mark.parametrize(
    ("text", "end", "wanted"),
    [
        ("now", False, (2026, 11, 25, 17, 30, 20)),
        ("now-5m", False, (2026, 11, 25, 17, 25, 20)),
        ("-6h", False, (2026, 11, 25, 11, 30, 20)),
        ("now/d", False, (2026, 11, 25, 0, 0, 0)),
        ("now-1d/d", False, (2026, 11, 24, 0, 0, 0)),
        ("now/w", False, (2026, 11, 23, 0, 0, 0)),
        ("now-1M/M", False, (2026, 10, 1, 0, 0, 0)),
        ("now-1y", False, (2025, 11, 25, 17, 30, 20)),
        ("2026-11-25T10:00:00Z", False, (2026, 11, 25, 10, 0, 0)),
        ("2026-11-25T10:00:00+02:00", False, (2026, 11, 25, 8, 0, 0)),
        ("2026-11-25 10:00", False, (2026, 11, 25, 10, 0, 0)),
        ("20261125T10", False, (2026, 11, 25, 10, 0, 0)),
        ("1764429600", False, (2025, 11, 29, 15, 20, 0)),
        ("1764429600.0", True, (2025, 11, 29, 15, 20, 0)),
        ("1764429600000", False, (2025, 11, 29, 15, 20, 0)),
    ],
)
def test_times(text, end, wanted):
    assert parse_time(text, NOW, end=end) == calendar.timegm(wanted)


def test_the_end_of_a_rounded_time_is_its_last_moment():
    assert parse_time("now-1d/d", NOW, end=True) == pytest.approx(calendar.timegm((2026, 11, 24, 23, 59, 59)) + 0.999)


@pytest.mark.parametrize("text", ["yesterday", "now-5x", "", "5m", "2026-13-01"])
def test_a_bad_time_says_what_a_good_one_is(text):
    with pytest.raises(ServescopeError, match=r"--from: .* neither relative \(now-1h"):
        parse_time(text, NOW, what="--from")


def test_legends():
    metric = {"__name__": "up", "job": "ray", "instance": "a:1"}
    assert legend("{{job}} on {{ instance }}{{none}}", metric, "up") == "ray on a:1"
    assert legend("__auto", metric, "up") == 'up{instance="a:1", job="ray"}'
    assert legend("__auto", {}, "sum(up)") == "sum(up)"


def test_rows_and_panels_repeat_for_each_value():
    place = {"h": 8, "w": 8, "x": 0, "y": 1}
    dashboard = {
        "panels": [
            {"type": "row", "title": "$app", "repeat": "app", "collapsed": False, "panels": []},
            {"type": "stat", "title": "plain", "gridPos": dict(place)},
            {"type": "stat", "title": "across", "repeat": "node", "gridPos": dict(place)},
        ]
    }
    selections = {"app": Selection(values=("a", "b")), "node": Selection(values=("n1", "n2", "n3", "n4", "n5"))}
    found = list(rows(dashboard, selections))
    assert [row.chosen for row, _ in found] == [{"app": "a"}, {"app": "b"}]
    _, panels = found[1]
    assert [panel.chosen for panel in panels] == [{"app": "b"}, *({"app": "b", "node": f"n{i}"} for i in range(1, 6))]
    places = [(p.model["gridPos"]["x"], p.model["gridPos"]["y"], p.model["gridPos"]["w"]) for p in panels[1:]]
    assert places == [(0, 1, 6), (6, 1, 6), (12, 1, 6), (18, 1, 6), (0, 9, 6)]
    assert Interpolation(selections, {}).narrowed({"app": "b"}).title("$app") == "b"


@pytest.mark.parametrize(
    ("value", "unit", "wanted"),
    [
        (1234, "ms", "1.23 s"),
        (0.5, "ms", "0.500 ms"),
        (1024, "bytes", "1 KiB"),
        (1500, "short", "1.50 K"),
        (0.278, "percentunit", "27.8%"),
        (0, "percentunit", "0%"),
        (1234, "reqps", "1.23K req/s"),
        (90, "s", "1.50 mins"),
        (72, "h", "3 days"),
        (float("nan"), "ms", "NaN"),
        (None, "ms", ""),
    ],
)
def test_units(value, unit, wanted):
    assert units.format_value(value, unit) == wanted


def test_ticks_are_round_in_the_shown_unit():
    assert units.ticks(0, 1, "percentunit")[1] == (0.25, "25%")
    assert [text for _, text in units.ticks(0, 4200, "ms")] == ["0 s", "2 s", "4 s", "6 s"]
