"""The builders, judged by promtool on series whose truth is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from servescope import promql
from servescope.errors import ServescopeError
from servescope.promql import DEPLOYMENT, Scope
from servescope.promql.signals import DEPLOYMENT_REQUESTS, FAILED_CALLS, QUEUED, Reader
from servescope.settings import Settings
from tests.support.promtool import assert_expressions, requires_promtool

SCOPE = Scope.of(Settings())
STARTS = "ray_serve_deployment_replica_starts_total"
EVENTS = promql.events(SCOPE, STARTS, DEPLOYMENT, window="5m", hold="1m")
D = '{application="main", deployment="D"}'


def starts(replica: str = "r1", instance: str = "a") -> str:
    return f'{STARTS}{{application="main", deployment="D", replica="{replica}", instance="{instance}"}}'


def labelled(**labels: str) -> str:
    more = "".join(f', {label}="{value}"' for label, value in labels.items())
    return f'{STARTS}{{application="main", deployment="D", replica="r1", instance="a"{more}}}'


def up(instance: str = "a") -> str:
    return f'up{{job="ray", instance="{instance}"}}'


def test_select_puts_in_only_the_matchers_that_the_metric_carries():
    scope = Scope("ray_io_cluster", {"ray_io_cluster": '=~"c"', "application": '="main"', "deployment": '="D"'})
    assert scope.select("ray_serve_num_http_requests_total") == (
        'ray_serve_num_http_requests_total{ray_io_cluster=~"c", application="main"}'
    )
    assert scope.select("ray_node_cpu_count") == 'ray_node_cpu_count{ray_io_cluster=~"c"}'
    assert Scope("c").select("up") == "up"


def test_select_refuses_what_the_catalogue_does_not_know():
    with pytest.raises(ServescopeError, match="ray_serve_num_http_request_total"):
        SCOPE.select("ray_serve_num_http_request_total")
    with pytest.raises(ServescopeError, match="ray_node_cpu_count carries no label 'deployment'"):
        SCOPE.select("ray_node_cpu_count", deployment='="D"')


@requires_promtool
@pytest.mark.parametrize(
    ("series", "at", "expected"),
    [
        pytest.param({up(): "1x60", starts(): "_x20 1x40"}, "7m5s", [(D, 1)], id="first increment"),
        pytest.param(
            {up(): "1x60", starts("r1"): "_x20 1x40", starts("r2"): "_x22 1x38", starts("r3"): "_x24 2x36"},
            "7m5s",
            [(D, 4)],
            id="three new replicas, one of them started twice",
        ),
        pytest.param({up(): "1x60", starts(): "5x20 8x40"}, "7m5s", [(D, 3)], id="a series that was there grows"),
        pytest.param({up(): "1x60", starts(): "5x60"}, "12m5s", [(D, 0)], id="nothing happened"),
        pytest.param(
            {
                up("a"): "1x60",
                up("b"): "1x24 stale",
                starts(instance="a"): "1000x60",
                starts("r2", "b"): "1000x24 stale",
            },
            "8m5s",
            [(D, 0)],
            id="a node leaves",
        ),
        pytest.param(
            {up(): "1x28 0 1x40", starts(): "1000x28 stale 1000x40"},
            "12m20s",  # five minutes after the scrape that failed
            [(D, 0)],
            id="one failed scrape at the window's start",
        ),
        pytest.param(
            {up(): "1x28 0 1x40", starts(): "_x30 1x38"},
            "12m20s",
            [(D, 1)],
            id="a first sample after a window that starts with a failed scrape",
        ),
        pytest.param(
            {up(): "1x28 0 1x40", starts(): "5x28 stale 8x40"},
            "12m20s",
            [(D, 3)],
            id="growth over a failed scrape at the window's start",
        ),
        pytest.param(
            {up(): "1x28 0 1x40", starts(): "5x26 8x1 stale 8x40"},
            "7m20s",
            [(D, 3)],
            id="one failed scrape at the window's end",
        ),
        pytest.param(
            {up(): "0x20 1x40", starts(): "_x20 _ 1000x40"},
            "7m5s",
            [],
            id="the target could not be scraped before",
        ),
        pytest.param(
            {up(): "1x28 0 1x40", starts(): "1000x28 stale 1000x40"},
            "10m5s",
            [(D, 0)],
            id="one failed scrape inside the window",
        ),
        pytest.param({up(): "1x60", starts(): "1000x28 3x40"}, "8m5s", [], id="the node's agent restarts"),
        pytest.param(
            {up(): "_x20 1x40", starts(): "_x20 1000x40"},
            "7m5s",
            [],
            id="Prometheus started inside the window",
        ),
        pytest.param(
            {up(): "_x20 1x80", starts(): "_x20 1000x40 1001x40"},
            "17m5s",
            [(D, 1)],
            id="Prometheus started before the window",
        ),
        pytest.param(
            {up(): "1x60", labelled(otel_scope_name="x"): "1000x28", labelled(): "_x29 1002x40"},
            "8m5s",
            [(D, 2)],
            id="a label is dropped",
        ),
        pytest.param(
            {
                up(): "1x60",
                labelled(monitor="0"): "5x20 8x40",
                labelled(monitor="1"): "5x21 8x39",
            },
            "7m5s",
            [(D, 3)],
            id="two Prometheus scrape the same",
        ),
        pytest.param(
            {up(): "1x60", labelled(WorkerId="w1"): "7x60", labelled(WorkerId="w2"): "_x20 2x40"},
            "7m5s",
            [(D, 2)],
            id="another process counts beside one that ended",
        ),
        pytest.param(
            {
                'up{job="ray", instance="a", ray_io_cluster="other"}': "1x60",
                'up{job="ray", instance="a", ray_io_cluster="c"}': "_x20 1x40",
                labelled(ray_io_cluster="c"): "_x20 1000x40",
            },
            "7m5s",
            [],
            id="a new cluster has the address of another one",
        ),
        pytest.param(
            {'up{job="mysql", instance="a"}': "1x60", starts(): "_x20 1x40"},
            "7m5s",
            [],
            id="the target is that of another job",
        ),
    ],
)
def test_events_counts_what_happened_and_invents_nothing(tmp_path: Path, series, at, expected):
    assert_expressions(tmp_path, series, {(EVENTS, at): expected})


@requires_promtool
def test_events_of_all_steps_are_those_of_the_range_over_failed_scrapes(tmp_path: Path):
    """Steps follow each other; what a failed scrape hides counts in a later one, once."""
    in_a_step = promql.events(SCOPE, STARTS, DEPLOYMENT, window="15s", hold="1m")
    series = {up(): "1x28 0 1x2 0x1 1x40", starts(): "5x26 6x1 stale 8x2 stale stale 9x40"}
    series[starts("r2")] = "_x32 _ 1x40"  # first appears while scrapes fail
    expression = f"sum_over_time(({in_a_step})[5m:15s])"
    assert_expressions(tmp_path, series, {(expression, "10m5s"): [(D, 5)]})


@requires_promtool
def test_events_with_zero_for_the_living(tmp_path: Path):
    series = {up(): "1x60", f'ray_serve_deployment_status{D[:-1]}, instance="a"}}': "6x60"}
    assert_expressions(tmp_path, series, {(promql.or_zero(EVENTS, SCOPE), "8m5s"): [(D, 0)]})


@requires_promtool
def test_the_forms_that_events_replaces_are_wrong(tmp_path: Path):
    """Why the builder exists: increase() misses first increments, and over a sum it counts a node's whole past."""
    first_samples = {up(): "1x60", starts(): "_x20 1x40"}
    assert_expressions(tmp_path, first_samples, {(f"sum(increase({STARTS}[5m]))", "7m5s"): [("{}", 0)]})
    blip = {
        up("a"): "1x60",
        up("b"): "1x60",
        starts(instance="a"): "1000x60",
        starts("r2", "b"): "1000x28 stale 1000x40",
    }
    invented = f"increase(sum({STARTS})[5m:15s]) > bool 500"
    assert_expressions(tmp_path, blip, {(invented, "9m5s"): [("{}", 1)]})


@requires_promtool
def test_deployment_requests_count_failures_with_and_without_exception_type(tmp_path: Path):
    done, failed = "ray_serve_deployment_request_counter_total", "ray_serve_deployment_error_counter_total"
    labels = 'application="main", deployment="D", replica="r", route="/", instance="a"'
    expression = f"round({promql.total(promql.deployment_requests(SCOPE, '1m'), (*DEPLOYMENT, 'outcome'))}, 0.001)"
    expected = [
        ('{application="main", deployment="D", outcome="ok"}', 2),
        ('{application="main", deployment="D", outcome="error"}', 1),
    ]
    for extra in ("", ', exception_type="ValueError"'):  # Ray before 2.60 has no exception_type
        series = {f"{done}{{{labels}}}": "0+30x60", f"{failed}{{{labels}{extra}}}": "0+15x60"}
        assert_expressions(tmp_path, series, {(expression, "8m5s"): expected})


@requires_promtool
def test_ratio_is_zero_without_failures_and_absent_without_traffic(tmp_path: Path):
    series = {
        'whole{application="a"}': "4x60",
        'whole{application="b"}': "0x60",
        'part{application="c"}': "1x60",
    }
    expression = promql.ratio("sum by (application) (part)", "sum by (application) (whole)")
    assert_expressions(tmp_path, series, {(expression, "8m5s"): [('{application="a"}', 0)]})


@requires_promtool
def test_replica_gap_is_the_whole_target_when_no_replica_is_there(tmp_path: Path):
    series = {
        'w{d="x"}': "3x60",
        'w{d="y"}': "2x60",
        'h{d="y"}': "1x60",
        'w{d="z"}': "1x60",
        'h{d="z"}': "2x60",
    }
    expected = [('{d="x"}', 3), ('{d="y"}', 1), ('{d="z"}', 0)]
    assert_expressions(tmp_path, series, {(promql.replica_gap("sum by (d) (w)", "sum by (d) (h)"), "8m5s"): expected})


@requires_promtool
def test_outcomes_are_disjoint_and_complete(tmp_path: Path):
    name = "ray_serve_num_http_requests_total"
    codes = {
        "200": "success",
        "302": "success",
        "1000": "success",  # the close codes of WebSockets
        "1001": "success",
        "1005": "gone",
        "1006": "gone",
        "1011": "failed",
        "1012": "failed",
        "1013": "failed",
        "1008": "refused",
        "4001": "refused",
        "OK": "success",
        "500": "failed",
        "502": "failed",
        "INTERNAL": "failed",
        "503": "shed",
        "429": "shed",
        "RESOURCE_EXHAUSTED": "shed",
        "499": "gone",
        "CANCELLED": "gone",
        "400": "refused",
        "404": "refused",
        "408": "refused",
        "NOT_FOUND": "refused",
    }
    series = {f'{name}{{status_code="{code}", method="GET"}}': "1x60" for code in codes}
    expected = {}
    for outcome in promql.outcomes(("503", "429")):
        selector = Scope("c").select(name, status_code=outcome.matcher)
        wanted = [(f'{{status_code="{code}"}}', 1.0) for code, name_ in codes.items() if name_ == outcome.name]
        assert wanted, outcome
        expected[(f"sum by (status_code) ({selector})", "8m5s")] = wanted
    assert_expressions(tmp_path, series, expected)


def test_outcomes_follow_the_setting():
    by_name = {outcome.name: outcome for outcome in promql.outcomes(("529",))}
    assert by_name["shed"].matcher == '=~"529|RESOURCE_EXHAUSTED"'
    assert 'status_code!~"529|RESOURCE_EXHAUSTED"' in by_name["failed"].matcher


@requires_promtool
def test_replica_processes_carry_application_and_deployment(tmp_path: Path):
    gauge = "ray_component_rss_bytes"
    series = {
        f'{gauge}{{Component="ray::ServeReplica:main:Gateway", instance="a"}}': "100x60",
        f'{gauge}{{Component="ray::ServeReplica:main:Gateway", instance="b"}}': "50x60",
        f'{gauge}{{Component="ray::ServeReplica:other:Plain", instance="a"}}': "7x60",
        # A replica that runs a method, one whose constructor runs, and what else has a name like it.
        f'{gauge}{{Component="ray::ServeReplica:main:Gateway.handle_request", instance="a"}}': "20x60",
        f'{gauge}{{Component="ray::SERVE_REPLICA::main#Gateway#a1:ServeReplica:main:Gateway.__init__"}}': "3x60",
        f'{gauge}{{Component="ray::ServeReplica:main:GatewayOld", instance="a"}}': "1000x60",
        f'{gauge}{{Component="raylet", instance="a"}}': "1x60",
    }
    everything = promql.total(promql.replica_processes(Scope("c"), gauge), DEPLOYMENT)
    some = promql.total(promql.replica_processes(Scope("c", {"application": '=~"other"'}), gauge), DEPLOYMENT)
    one = Scope("c", {"deployment": '=~"Gateway"'})
    one_deployment = promql.total(promql.replica_processes(one, gauge), DEPLOYMENT)
    gateway, old, plain = (
        ('{application="main", deployment="Gateway"}', 173),
        ('{application="main", deployment="GatewayOld"}', 1000),
        ('{application="other", deployment="Plain"}', 7),
    )
    assert_expressions(
        tmp_path,
        series,
        {
            (everything, "8m5s"): [gateway, old, plain],
            (some, "8m5s"): [plain],
            (one_deployment, "8m5s"): [gateway],
        },
    )


def test_replica_processes_refuse_a_matcher_that_has_no_place_in_component():
    with pytest.raises(ServescopeError, match="cannot apply"):
        promql.replica_processes(Scope("c", {"application": '!="x"'}), "ray_component_rss_bytes")


def test_a_record_is_read_once_in_a_step_unless_records_are_further_apart_than_scrapes():
    for recording_s, window in ((15, "$__interval"), (60, "$__rate_interval")):
        reader = Reader(Settings(recording_interval_s=recording_s), SCOPE, recorded=True)
        assert reader.read(QUEUED) == f"sum(avg_over_time({QUEUED.record}{{}}[{window}]))"
        assert reader.events(FAILED_CALLS, ()) == f"sum(sum_over_time({FAILED_CALLS.record}{{}}[$__interval]))"
        assert replace(reader, window="$__range").read(QUEUED) == f"sum(avg_over_time({QUEUED.record}{{}}[$__range]))"


def test_a_figure_is_narrowed_or_refused_but_never_widened():
    reader = Reader(Settings(), SCOPE, window="1m")
    failed = reader.read(DEPLOYMENT_REQUESTS, (), outcome='="error"')
    assert "ray_serve_deployment_error_counter_total" in failed
    assert "ray_serve_deployment_request_counter_total" not in failed
    with pytest.raises(ServescopeError, match="cannot be narrowed to outcome"):
        reader.read(DEPLOYMENT_REQUESTS, (), outcome='=~"e.*"')
    with pytest.raises(ServescopeError, match="keeps no label 'replica'"):
        reader.read(DEPLOYMENT_REQUESTS, (), replica='="r1"')
