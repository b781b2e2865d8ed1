"""Limits against load, evaluated by promtool over invented series."""

from __future__ import annotations

import pytest

from servescope.promql import APPLICATION, DEPLOYMENT, Scope, capacity, cost, rollouts
from servescope.promql.signals import Reader
from servescope.settings import Settings
from tests.support import promtool
from tests.support.deployment_series import config, evaluate, series, steady

pytestmark = promtool.requires_promtool

READER = Reader(Settings(), Scope("ray_io_cluster"), window="1m")


def test_in_flight_counts_every_healthy_replica_and_the_fullest_caller_decides(tmp_path):
    given = {
        **config(max_ongoing_requests=2),
        **config(max_queued_requests=4),
        **series("ray_serve_replica_processing_queries", steady(2), replica="r1"),
        **series("ray_serve_replica_processing_queries", steady(1), replica="r2"),
        **series("ray_serve_deployment_replica_healthy", steady(1), replica="r1"),
        **series("ray_serve_deployment_replica_healthy", steady(1), replica="r2"),
        **series("ray_serve_deployment_queued_queries", steady(3), handle="h1", actor_id="x"),
        **series("ray_serve_deployment_queued_queries", steady(1), handle="h2", actor_id="y"),
    }
    evaluate(
        tmp_path,
        given,
        {
            (capacity.in_flight_share(READER), "1m"): 0.75,
            (capacity.queue_share(READER), "1m"): 0.75,
            (capacity.queue_limit(READER), "1m"): 4,
        },
    )


def test_no_limit_on_the_queue_is_no_share_of_it(tmp_path):
    given = {
        **config(max_queued_requests=-1),
        **series("ray_serve_deployment_queued_queries", steady(3), handle="h1", actor_id="x"),
    }
    evaluate(tmp_path, given, {(capacity.queue_share(READER), "1m"): None, (capacity.queue_limit(READER), "1m"): None})


@pytest.mark.parametrize(
    ("seen", "target", "healthy", "unplaced", "code"),
    [
        (4, "2x40", "2x40", "0x40", capacity.AT_REST),
        (5, "2x40", "2x40", "0x40", capacity.DELAYED),
        (5, "2x30 3x10", "2x40", "0x30 1x10", capacity.STARTING),
        (7, "3x40", "3x40", "0x40", capacity.CAPPED),
        (7, "2x30 3x10", "2x40", "0x40", capacity.CAPPED),
        (6, "3x40", "2x40", "1x40", capacity.UNPLACED),
        (7, "3x40", "2x40", "1x40", capacity.UNPLACED),
        (6, "3x40", "2x40", "0x40", capacity.NOT_UP),
        # A constructor that fails is tried again, and each try is without a node at first.
        (6, "3x40", "2x40", "1 0 1 0 0 1 0 1 1 0 1 0 0 1 0 1 1 0 1 0 0 1 0 1 1 0 1 0 0 1 0 1 1", capacity.NOT_UP),
        # An exporter that does not tell them.
        (6, "3x40", "2x40", "_x40", capacity.NOT_UP),
        # A deployment younger than two minutes is starting, not stuck.
        (6, "_x26 3x14", "_x26 2x14", "_x26 1x14", capacity.STARTING),
    ],
)
def test_why_a_deployment_is_not_at_rest(tmp_path, seen, target, healthy, unplaced, code):
    """Load seen of a deployment with a goal of 2 for each replica and at most 3 replicas, at 485 s."""
    given = {
        **config(target_ongoing_requests=2),
        **config(max_replicas=3),
        **series("ray_serve_autoscaling_total_requests", steady(seen)),
        **series("ray_serve_autoscaling_target_replicas", target),
        **series("ray_serve_deployment_replica_healthy", healthy, replica="all"),
        **series("servescope_deployment_unplaced_replicas", unplaced, instance="e"),
    }
    evaluate(tmp_path, given, {(capacity.demand(READER), "485s"): seen / 2, (capacity.why(READER), "485s"): code})


def test_a_fixed_deployment_is_at_rest_without_a_demand(tmp_path):
    given = {
        **series("ray_serve_autoscaling_target_replicas", steady(2)),
        **series("ray_serve_deployment_replica_healthy", steady(2), replica="all"),
        **config(configured_replicas=2),
    }
    evaluate(
        tmp_path, given, {(capacity.why(READER), "5m"): capacity.AT_REST, (capacity.most_replicas(READER), "5m"): 2}
    )


INFO, AGE = "servescope_deployment_config_info", 'servescope_exporter_data_age_seconds{instance="e"}'


def test_a_change_is_seen_once_and_a_start_of_the_exporter_is_none(tmp_path):
    """The exporter starts at 1 min, a new fingerprint comes at 3 min, the exporter is away from 5 to 6 min."""
    given = {
        **series(INFO, "_x4 1x7 _x99", instance="e", fingerprint="old"),
        **series(INFO, "_x12 1x7 _x4 1x20", instance="e", fingerprint="new"),
        AGE: "_x4 5x15 _x4 5x20",
    }
    change = rollouts.changed(READER.scope, "15s", DEPLOYMENT)
    expected: dict[tuple[str, str], float | None] = {
        (change, f"{15 * step + 5}s"): 1 if step == 12 else None for step in range(40)
    }
    assert sum(value == 1 for value in expected.values()) == 1
    evaluate(tmp_path, given, expected)
    assert "by (application)" in rollouts.changed(READER.scope, "15s", APPLICATION)


def test_before_and_after_a_change(tmp_path):
    """The change comes at 10 min, the figure rises at 11.5 min, and what is after is told 5 min after the change."""
    figure = "max by (application, deployment) (servescope_deployment_target_replicas)"
    given = {
        **series(INFO, "1x39", instance="e", fingerprint="old"),
        **series(INFO, "_x40 1x60", instance="e", fingerprint="new"),
        **series("servescope_deployment_target_replicas", "3x45 8x60", instance="e"),
        AGE: "5x100",
    }
    evaluate(
        tmp_path,
        given,
        {
            (rollouts.last_change(READER.scope), "19m"): 600,
            (rollouts.before_last_change(READER.scope, figure), "19m"): 3,
            (rollouts.after_last_change(READER.scope, figure, "5m"), "14m"): None,
            (rollouts.after_last_change(READER.scope, figure, "5m"), "19m"): 8,
            (rollouts.last_change(READER.scope), "9m"): None,
        },
    )


def test_cost_is_resources_times_price(tmp_path):
    given = {
        **config(replica_cpus=2),
        **config(replica_gpus=0.5),
        **series("servescope_deployment_replicas", steady(3), state="RUNNING", instance="e"),
        **series("servescope_deployment_replicas", steady(1), state="STOPPING", instance="e"),
    }
    priced = Settings(price_per_gpu_hour=4.0, price_per_cpu_hour=0.1)
    replicas = capacity.reserved_replicas(READER)
    evaluate(
        tmp_path,
        given,
        {
            (capacity.reserved(READER, "replica_gpus", replicas), "1m"): 2,
            (cost.hourly_cost(READER, priced, replicas), "1m"): 4 * (0.5 * 4 + 2 * 0.1),
            (f"sum_over_time(({cost.hourly_cost(READER, priced, replicas)})[5m:1m]) / 60", "305s"): 8.8 * 5 / 60,
        },
    )
