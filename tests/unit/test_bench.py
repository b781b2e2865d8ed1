"""The benchmarks of dashboards and rules at 10 deployments: what they count, not what they time.

promtool makes the blocks of text, a real Prometheus opens them, and both stay in .bench for the next run.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from servescope.dashboards import all_dashboards
from servescope.settings import Settings
from tests.bench import dashboards, rules
from tests.bench.asking import Server, Subquery, subqueries
from tests.bench.fleet import Fleet, Rules
from tests.bench.serve_series import ServeCluster
from tests.support.promtool import requires_promtool

WHOLE = Fleet(ServeCluster(10, 10), rules.SECONDS, by_text=True)
# Two clusters of two nodes each, where the second has twice as many deployments.
FEW, MORE = (Fleet(ServeCluster(number, 4), 16 * 60, by_text=True) for number in (10, 20))
MANY = Fleet(ServeCluster(60, 1), 10 * 60, by_text=True)  # more applications than a plot has lines
SAMPLES_OF_A_ROUND = 1_000_000
MOST_LINES = 25
LEAST_RATIO, LEAST_LATENCY_RATIO = 100, 300  # Ray's own dashboard over ours


@pytest.fixture(scope="module")
def shipped() -> Rules:
    return rules.documents(rules.SHIPPED)


@pytest.fixture(scope="module")
def server(shipped: Rules) -> Iterator[Server]:
    with WHOLE.server(shipped) as running:
        yield running


@pytest.fixture(scope="module")
def opened(server: Server) -> dict[str, dashboards.Opened]:
    return {board.name: dashboards.opened(board, server, WHOLE, "1h") for board in dashboards.boards()}


def test_no_two_series_of_the_model_are_the_same():
    for fleet in (WHOLE, FEW, MORE):
        keys = [frozenset((k, v) for k, v in row.labels.items() if v) for row in fleet.cluster.rows()]
        assert len(keys) == len(set(keys))
    assert len(keys) == 17_744


def test_subqueries_are_found_with_their_ranges():
    text = "topk(2, max_over_time((sum(rate(x[1m])))[1h:2m] @ end()) or f(((y) - (z))[30m:15s] offset 5m))"
    last, first = subqueries(text)
    assert first == Subquery(expression="sum(rate(x[1m]))", range_s=3600, step_s=120, offset_s=0, fixed=True)
    assert last == Subquery(expression="(y) - (z)", range_s=1800, step_s=15, offset_s=300, fixed=False)
    assert [one.expression for one in subqueries("f((g((a)[5m:1m]))[1h:5m])")] == ["g((a)[5m:1m])"]


@requires_promtool
def test_the_server_counts_what_the_model_has(server):
    assert server.at("count(up)", WHOLE.end).last == [({}, 6)]
    assert server.at("count_over_time(up[1h])", WHOLE.end).samples == 6 * 240
    # Not on the minute, where Prometheus 2 and 3 differ on whether a range holds its left end.
    minute = {"start": WHOLE.end - 67, "end": WHOLE.end - 7, "step": 15}
    assert server.touched("sum_over_time((up)[5m:1m])", 0, **minute) == 6 * 6
    picked = "up and topk(3, max_over_time((up)[5m:1m] @ end()))"
    answer = server.over(picked, **minute)
    assert (answer.lines, answer.samples) == (3, 5 * (6 + 6 * 5))
    assert server.touched(picked, answer.samples, **minute) == 5 * 6 + 6 * 5 + 6 * 5


@requires_promtool
def test_every_rule_is_evaluated_and_records_what_the_dashboards_read(server, shipped):
    groups = rules.evaluate(server, shipped, WHOLE.end)
    round_ = rules.Round(WHOLE.name, "shipped", server.version, groups)
    assert [(rule.name, rule.answer.error) for rule in round_.failing] == []
    assert sum(group.samples for group in groups) <= SAMPLES_OF_A_ROUND
    asked = " ".join(q.expr for b in all_dashboards(Settings(), recorded=True) for p in b.panels for q in p.queries)
    read = {rule.name: rule.answer.lines for rule in round_.rules if rule.records and rule.name in asked}
    assert len(read) >= 20
    empty = {name for name, series in read.items() if not series}
    assert empty <= {"serve_deployment:health_check_failures:events1m"}  # nothing fails


@requires_promtool
def test_no_query_of_a_dashboard_fails(opened):
    ours = [one for one in opened.values() if not one.board.startswith("Ray")]
    assert len(ours) == 8
    assert [(one.board, one.failed) for one in ours if one.failed] == []


@requires_promtool
def test_no_plot_has_more_lines_than_can_be_read(shipped):
    crowded, drawn = {}, 0
    with MANY.server(shipped) as running:
        for board in dashboards.boards():
            if not board.name.startswith("Ray"):
                plots = dashboards.opened(board, running, MANY, "5m").plots
                crowded |= {(board.name, title): lines for title, lines in plots.items() if lines > MOST_LINES}
                drawn += len(plots)
    assert crowded == {}
    assert drawn > 100


@requires_promtool
def test_the_recorded_overview_touches_less_than_rays_dashboard(opened):
    if "Ray Serve" not in opened:
        pytest.skip("Ray is not installed, so its own dashboards are not there")
    ours, rays = opened["overview recorded"], opened["Ray Serve"]
    assert rays.samples / ours.samples >= LEAST_RATIO
    assert rays.latency_samples / ours.latency_samples >= LEAST_LATENCY_RATIO


@requires_promtool
def test_the_dashboard_of_one_deployment_does_not_grow_with_the_others(shipped):
    found = {}
    for fleet in (FEW, MORE):
        with fleet.server(shipped) as running:
            for board in dashboards.boards():
                if board.name.startswith("deployment"):
                    one = dashboards.opened(board, running, fleet, "15m")
                    found[board.name, fleet.name] = {
                        title: sum(a.touched for _, a in panel) for title, panel in one.panels
                    }
    for name in ("deployment plain", "deployment recorded"):
        few, more = found[name, FEW.name], found[name, MORE.name]
        assert {title: more[title] - few[title] for title in few if more[title] != few[title]} == {}
