"""Limits against load, and the state of scaling, evaluated by promtool over invented series."""

from __future__ import annotations

import pytest

from servescope.promql import Scope, capacity
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
        (4, "2x40", "2x40", "0x40", capacity.STEADY),
        (5, "2x40", "2x40", "0x40", capacity.DELAYED),
        (5, "2x30 3x10", "2x40", "0x30 1x10", capacity.STARTING),
        (7, "3x40", "3x40", "0x40", capacity.CAPPED),
        (7, "2x30 3x10", "2x40", "0x40", capacity.CAPPED),
        (6, "3x40", "2x40", "1x40", capacity.UNSCHEDULABLE),
        (7, "3x40", "2x40", "1x40", capacity.UNSCHEDULABLE),
        (6, "3x40", "2x40", "0x40", capacity.FAILING),
        # A constructor that fails is tried again, and each try is without a node at first.
        (
            6,
            "3x40",
            "2x40",
            "1 0 1 0 0 1 0 1 1 0 1 0 0 1 0 1 1 0 1 0 0 1 0 1 1 0 1 0 0 1 0 1 1",
            capacity.FAILING,
        ),
        # An exporter without them.
        (6, "3x40", "2x40", "_x40", capacity.FAILING),
        # A deployment younger than two minutes is starting, not stuck.
        (6, "_x26 3x14", "_x26 2x14", "_x26 1x14", capacity.STARTING),
    ],
)
def test_the_autoscaling_state_of_a_deployment(tmp_path, seen, target, healthy, unplaced, code):
    """Load seen of a deployment with a goal of 2 for each replica and at most 3 replicas, at 485 s."""
    given = {
        **config(target_ongoing_requests=2),
        **config(max_replicas=3),
        **series("ray_serve_autoscaling_total_requests", steady(seen)),
        **series("ray_serve_autoscaling_target_replicas", target),
        **series("ray_serve_deployment_replica_healthy", healthy, replica="all"),
        **series("servescope_deployment_unplaced_replicas", unplaced, instance="e"),
    }
    evaluate(
        tmp_path,
        given,
        {(capacity.demand(READER), "485s"): seen / 2, (capacity.autoscaling_state(READER), "485s"): code},
    )


def test_a_fixed_deployment_is_steady_without_a_demand(tmp_path):
    given = {
        **series("ray_serve_autoscaling_target_replicas", steady(2)),
        **series("ray_serve_deployment_replica_healthy", steady(2), replica="all"),
        **config(configured_replicas=2),
    }
    evaluate(
        tmp_path,
        given,
        {(capacity.autoscaling_state(READER), "5m"): capacity.STEADY, (capacity.most_replicas(READER), "5m"): 2},
    )
