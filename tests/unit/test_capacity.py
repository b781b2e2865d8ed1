"""The capacity and cost panels, and the table of changes, evaluated by promtool: every figure was computed by hand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from servescope.dashboards import capacity, deployment, overview
from servescope.grafana.templating import Interpolation
from servescope.report.queries import Window
from servescope.settings import Settings
from tests.support import promtool
from tests.support.deployment_series import LABELS, STEPS, Series, config, series, steady
from tests.support.deployment_series import evaluate as evaluate_at

pytestmark = promtool.requires_promtool

PRICED = Settings(price_per_gpu_hour=4.0, price_per_cpu_hour=0.1)
EVERYTHING = {"cluster": ".*", "application": ".+", "deployment": ".+"}
HOUR = Window(0, 3600).macros()  # steps of 15 s
AT = "7205s"  # between two samples, so that every Prometheus sees the same ones
RAYS_GOAL = "ray_serve_autoscaling_target_ongoing_requests"
HALF_PAST = 360  # the step at 90 min: the middle of the last hour but for one sample


def calls(per_second: float, errors_per_second: float = 0) -> Series:
    return series("ray_serve_deployment_request_counter_total", f"0+{15 * per_second:g}x{STEPS}", replica="r") | (
        series("ray_serve_deployment_error_counter_total", f"0+{15 * errors_per_second:g}x{STEPS}", replica="r")
        if errors_per_second
        else {}
    )


def buckets(name: str, values: dict[str, str]) -> Series:
    found: Series = {}
    for bound, text in values.items():
        found |= series(f"{name}_bucket", text, le=bound, instance="n")
    return found


def of(title: str, ref: int = 0, board: object = capacity, settings: Settings = PRICED) -> str:
    """What a panel asks: the expression of one of its targets, as Grafana sends it for a range of an hour."""
    (panel,) = [p for p in board.build(settings).panels if p.title == title]  # type: ignore[attr-defined]
    return Interpolation({}, EVERYTHING | HOUR).promql(panel.queries[ref].expr)


def evaluate(
    folder: Path, given: Series, expected: dict[str, float | None], at: str = AT, labels: str = LABELS
) -> None:
    """Expressions at one time, each with the one figure that it gives, or none."""
    evaluate_at(folder, given, {(expression, at): value for expression, value in expected.items()}, labels=labels)


# Two replicas until half past, then six, one of them stopping. In the last hour 29 minutes have 2 and 31 have 6.
GROWN = (
    config(replica_cpus=2, replica_gpus=0.5, max_replicas=10)
    | series("servescope_deployment_replicas", f"2x{HALF_PAST - 1} 5x{STEPS}", state="RUNNING", instance="e")
    | series("servescope_deployment_replicas", f"_x{HALF_PAST} 1x{STEPS}", state="STOPPING", instance="e")
)
REPLICA_HOURS = (29 * 2 + 31 * 6) / 60


def test_hours(tmp_path):
    """One replica has nothing to do until half past, the other never rests."""
    given = (
        GROWN
        | series("ray_serve_replica_processing_queries", f"0x{HALF_PAST - 1} 1x{STEPS}", replica="r1")
        | series("ray_serve_replica_processing_queries", steady(3), replica="r2")
    )
    expected = {
        of("Resource hours by deployment", 0): REPLICA_HOURS,
        of("Resource hours by deployment", 1): 2 * REPLICA_HOURS,
        of("Resource hours by deployment", 2): REPLICA_HOURS / 2,
        of("Resource hours by deployment", 3): (119 * 0.5 + 121 * 0) / 240,  # one look each 15 s
        of("CPUs reserved"): 12,
        of("Idle replicas"): 0,
    }
    evaluate(tmp_path, given, expected)


def test_cost_follows_the_price_table(tmp_path):
    """A replica costs 0.5 x 4 + 2 x 0.1 = 2.2 an hour; 1.25 calls a second finish, a fifth of them with an error."""
    expected = {
        of("Cost by deployment", 0): 2.2 * REPLICA_HOURS,
        of("Cost by deployment", 1): 2.2 * 6,
        of("Cost by deployment", 2): 1000 * 2.2 * 6 / (1.25 * 3600),
        of("Cost by deployment", 3): 2.2 * (REPLICA_HOURS - 2),
        of("Cost by deployment", 4): 2.2 * (10 - 2),
        of("CPU seconds per 1,000 calls"): 1000 * 12 / 1.25,
    }
    evaluate(tmp_path, GROWN | calls(1, 0.25), expected)
    by_application = {
        of("Cost by application", 0): (2.2 + 1) * REPLICA_HOURS,
        of("Cost by application", 1): (2.2 + 1) * 6,
        of("Cost per hour by application"): (2.2 + 1) * 6,
    }
    second = config("e", replica_cpus=10, replica_gpus=0) | series(
        "servescope_deployment_replicas", f"2x{HALF_PAST - 1} 6x{STEPS}", "e", state="RUNNING", instance="e"
    )
    evaluate(tmp_path, GROWN | second, by_application, labels='{application="a"}')


def test_without_prices_there_are_hours_and_no_money():
    titles = {panel.title for panel in capacity.build(Settings()).panels}
    assert "Resource hours by deployment" in titles
    assert not any("cost" in title.lower() for title in titles)


def test_a_traffic_surge_is_what_the_last_hour_had_above_the_baseline(tmp_path):
    """The median of two hours is 2; the hour had 4.07 on average, and max_replicas would have allowed 10."""
    expected = {
        of("Traffic surge: replica-hours above baseline (1h)", 0): REPLICA_HOURS - 2,
        of("Traffic surge: replica-hours above baseline (1h)", 1): 8,
        of("Traffic surge: replica-hours above baseline (1h)", 2): 2,
    }
    evaluate(tmp_path, GROWN, expected)
    quiet = config(max_replicas=10) | series("servescope_deployment_replicas", steady(3), state="RUNNING")
    evaluate(tmp_path, quiet, dict(zip(expected, (0, 7, 3), strict=True)))


def test_littles_law_gives_the_mean_time_in_the_replica(tmp_path):
    """Four at work and 1.25 calls a second: each took 3.2 s. They lie in one bucket, so its p95 is interpolated."""
    given = (
        calls(1, 0.25)
        | series("ray_serve_replica_processing_queries", steady(1), replica="r1")
        | series("ray_serve_replica_processing_queries", steady(3), replica="r2")
        | buckets(
            "ray_serve_deployment_processing_latency_ms",
            {"2000": steady(0), "5000": f"0+18.75x{STEPS}", "+Inf": f"0+18.75x{STEPS}"},
        )
    )
    title = "Mean processing time (Little's law)"
    evaluate(tmp_path, given, {of(title, 0): 3200, of(title, 1): 2000 + 0.95 * 3000})


def test_the_best_that_one_replica_carried(tmp_path):
    """Two replicas get 1 call a second, and 3 for ten minutes an hour ago; the busiest once had five at once."""
    given = (
        config(max_ongoing_requests=8)
        | series("ray_serve_deployment_request_counter_total", "0+15x240 3600+45x40 5415+15x240", replica="r")
        | series("ray_serve_deployment_replica_healthy", steady(1), replica="r1")
        | series("ray_serve_deployment_replica_healthy", steady(1), replica="r2")
        | series("ray_serve_replica_processing_queries", f"1x99 5x10 1x{STEPS}", replica="r1")
        | series("ray_serve_replica_processing_queries", steady(2), replica="r2")
    )
    title = "Peak load per replica (24h)"
    evaluate(tmp_path, given, {of(title, 0): 1.5, of(title, 1): 5, of(title, 2): 8})


@pytest.mark.parametrize(
    ("load", "left_s"),
    [
        # A tenth of a replica more each 15 s; at 1505 s the load asks for 10 of 20.
        ("0+0.2x200", 1500),
        ("0+0.4x200", 0),  # there already
        ("40-0.2x200", None),
        ("10x200", None),
        ("0+0.0002x200", None),  # 20 replicas lie 34 days ahead
    ],
)
def test_time_to_the_ceiling_at_the_present_growth(tmp_path, load, left_s):
    given = config(target_ongoing_requests=2, max_replicas=20) | series("ray_serve_autoscaling_total_requests", load)
    evaluate(tmp_path, given, {of("Time to max_replicas"): left_s}, at="1505s")


def test_what_the_ceiling_needs_against_what_the_cluster_can_reach(tmp_path):
    """10 x 2 + 4 x 1 CPUs and 10 x 0.5 GPUs; two nodes have 32 CPUs and 8 GPUs, and the settings say what may come."""
    given = (
        config(replica_cpus=2, replica_gpus=0.5, max_replicas=10)
        | config("fixed", replica_cpus=1, replica_gpus=0, configured_replicas=4)
        | {f'ray_resources{{Name="CPU", State="USED", instance="{node}"}}': steady(6) for node in ("n1", "n2")}
        | {f'ray_resources{{Name="CPU", State="AVAILABLE", instance="{node}"}}': steady(10) for node in ("n1", "n2")}
        | {'ray_resources{Name="GPU", State="AVAILABLE", instance="n1"}': steady(8)}
    )
    growing = Settings(reachable_cpus=48, reachable_gpus=20)
    expected = {
        of("CPU demand at max_replicas"): 24 / 32,
        of("GPU demand at max_replicas"): 5 / 8,
        of("CPUs: reserved, at max_replicas, cluster total", 1): 24,
        of("CPUs: reserved, at max_replicas, cluster total", 2): 32,
        of("CPU demand at max_replicas", settings=growing): 24 / 48,
        of("GPU demand at max_replicas", settings=growing): 5 / 20,
        of("GPUs: reserved, at max_replicas, cluster total", 2, settings=growing): 20,
    }
    evaluate(tmp_path, given, expected, labels="{}")


def test_the_ceiling_is_that_of_all_deployments_whatever_is_chosen():
    for title in ("CPU demand at max_replicas", "GPU demand at max_replicas"):
        (panel,) = [p for p in capacity.build(PRICED).panels if p.title == title]
        assert "$cluster" in panel.queries[0].expr
        assert not re.search(r"\$(application|deployment)", panel.queries[0].expr)


@pytest.mark.parametrize("board", [capacity, overview])
@pytest.mark.parametrize(("load", "capped"), [(7, 1), (6, 0)])
def test_how_many_are_capped(tmp_path, board, load, capped):
    given = config(target_ongoing_requests=2, max_replicas=3) | config("e", target_ongoing_requests=2, max_replicas=9)
    for name in ("d", "e"):
        given |= series("ray_serve_autoscaling_total_requests", steady(load), name)
    evaluate(tmp_path, given, {of("Capped by max_replicas", board=board): capped}, labels="{}")


@pytest.mark.parametrize("goal", ["servescope_deployment_target_ongoing_requests", RAYS_GOAL])
def test_demand_is_shown_with_target_running_minimum_and_maximum(tmp_path, goal):
    """The goal is the exporter's or, without it, Ray's own; a deployment of a fixed size has no line."""
    given = (
        config(min_replicas=1, max_replicas=5)
        | series(goal, steady(2))
        | series("ray_serve_autoscaling_total_requests", steady(7))
        | series("ray_serve_autoscaling_target_replicas", steady(4))
        | series("ray_serve_deployment_replica_healthy", steady(3), replica="all")
        | series("ray_serve_autoscaling_target_replicas", steady(2), "fixed")
        | series("ray_serve_deployment_replica_healthy", steady(2), "fixed", replica="all")
    )
    title = "Required and target replicas"
    (panel,) = [p for p in deployment.build(PRICED).panels if p.title == title]
    shown = dict(zip(("demand", "healthy", "target", "min", "max"), (3.5, 3, 4, 1, 5), strict=True))
    assert [query.legend.split()[-1] for query in panel.queries] == list(shown)
    evaluate(tmp_path, given, {of(title, ref, deployment): value for ref, value in enumerate(shown.values())})


def test_pauses_between_peaks(tmp_path):
    """Ten minutes of load for four replicas, twenty for one, and so on; or never a peak."""
    peaks = config(target_ongoing_requests=2, min_replicas=1, downscale_delay_seconds=600)
    loads = "8x39 2x79 " * 5
    targets = "4x39 1x79 " * 5
    busy = (
        peaks
        | series("ray_serve_autoscaling_total_requests", loads)
        | series("servescope_deployment_target_replicas", targets, instance="e")
    )
    title = "Idle time between peaks"
    evaluate(tmp_path, busy, {of(title, 0): 1200, of(title, 1): 600, of(title, 2): 4}, at="5405s")
    idle = peaks | series("ray_serve_autoscaling_total_requests", steady(2))
    evaluate(tmp_path, idle, {of(title, 0): 3600})
    full = peaks | series("ray_serve_autoscaling_total_requests", steady(8))
    evaluate(tmp_path, full, {of(title, 0): 0})


def test_starts_against_the_delay(tmp_path):
    """Four starts that took between 5 and 10 s, in a range whose scrapes all worked."""
    given = (
        config(upscale_delay_seconds=30, graceful_shutdown_timeout_seconds=20)
        | buckets(
            "ray_serve_replica_startup_latency_ms",
            {"5000": f"_x300 0x{STEPS}", "10000": f"_x300 4x{STEPS}", "+Inf": f"_x300 4x{STEPS}"},
        )
        | {'up{instance="n",job="ray"}': steady(1)}
    )
    title = "Autoscaling delays and startup times"
    evaluate(tmp_path, given, {of(title, 0): 30, of(title, 1): 9.75, of(title, 3): 20})


@pytest.mark.parametrize(
    ("target", "advice"),
    [
        (9, "Lower target"),
        (7.5, "Lower target"),
        (7, "Keep"),
        (5, "Keep"),
        (3, "Keep"),
        (2.5, "Lower limit"),
    ],
)
def test_the_target_against_half_of_the_limit(tmp_path, target, advice):
    given = config(target_ongoing_requests=target, max_ongoing_requests=10)
    labels = f'{{application="a", deployment="d", advice="{advice}"}}'
    evaluate(tmp_path, given, {of("target_ongoing_requests against max_ongoing_requests"): target / 10}, labels=labels)


def test_the_share_on_spot_nodes_is_of_nodes_with_the_label(tmp_path):
    def market(deployment: str = "d", **counts: int) -> Series:
        found: Series = {}
        for name, count in counts.items():
            found |= series("servescope_deployment_market_replicas", steady(count), deployment, market_type=name)
        return found

    given = market(spot=1, unknown=2) | market(**{"on-demand": 3}) | market("silent", unknown=5)
    evaluate(tmp_path, given, {of("Resource hours by deployment", 4): 0.25})
    (reported,) = [p for p in capacity.build(PRICED).panels if p.title == "Replicas by market"]
    expression = Interpolation({}, EVERYTHING).promql(reported.queries[0].expr)
    samples: list[tuple[str, float]] = [
        ('{market_type="spot"}', 1),
        ('{market_type="on-demand"}', 3),
        ('{market_type="unknown"}', 7),
    ]
    promtool.assert_expressions(tmp_path, given, {(expression, AT): samples})


def test_what_changed_last_and_what_moved_after_it(tmp_path):
    """A change at 30 min: from then on half of the calls fail, and those that took 2 to 5 s take 5 to 10 s."""
    change = 120
    rising, flat = f"0+15x{change}", f"{15 * change}x{STEPS}"
    info = "servescope_deployment_config_info"
    given = (
        series(info, f"1x{change - 1}", fingerprint="old", instance="e")
        | series(info, f"_x{change} 1x{STEPS}", fingerprint="new", instance="e")
        | {'servescope_exporter_data_age_seconds{instance="e"}': steady(5)}
        | calls(1)
        | series("ray_serve_deployment_error_counter_total", f"_x{change} 15+15x{STEPS}", replica="r2")
        | buckets(
            "ray_serve_deployment_processing_latency_ms",
            {"2000": steady(0), "5000": f"{rising} {flat}", "10000": f"0+15x{STEPS}", "+Inf": f"0+15x{STEPS}"},
        )
    )

    def columns(before_is_over: bool) -> dict[str, float | None]:
        values = (1000 * 1800.0, 0.0, 0.5 if before_is_over else None, 4850.0, 9750.0 if before_is_over else None)
        return {of("Last change, before and after", ref, deployment): value for ref, value in enumerate(values)}

    evaluate(tmp_path, given, columns(False), at="2390s")
    evaluate(tmp_path, given, columns(True), at="3005s")
