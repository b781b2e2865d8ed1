"""Figures that compare Ray's metrics with the configured limits, which only the state exporter exports.

They are read directly, never recorded: a limit is one series for each deployment, and cheap. All are by cluster and
deployment (`Reader.each`): a full cluster must not hide behind an empty one.
"""

from __future__ import annotations

from dataclasses import replace

from servescope import promql
from servescope.promql import scaling
from servescope.promql.scaling import CAPPED, DELAYED, FAILING, STARTING, STEADY, UNSCHEDULABLE
from servescope.promql.signals import AUTOSCALING_STATE, DEMAND, MISSING_REPLICAS, REPLICAS, RUNNING, Reader

__all__ = ["CAPPED", "DELAYED", "FAILING", "STARTING", "STEADY", "UNSCHEDULABLE"]

# target_ongoing_requests should be about half of max_ongoing_requests; outside of these the dashboard gives advice.
TARGET_FAR_BELOW_LIMIT, TARGET_NEAR_LIMIT = 0.3, 0.7


def limit(reader: Reader, name: str) -> str:
    """A configured figure of each deployment: `servescope_deployment_<name>`."""
    return scaling.limit(reader.scope, name)


def missing_replicas(reader: Reader) -> str:
    """Target replicas that are not healthy."""
    return reader.read(MISSING_REPLICAS, reader.each)


def queue_limit(reader: Reader) -> str:
    """max_queued_requests where there is a limit; -1 is none."""
    return f"({limit(reader, 'max_queued_requests')} >= 0)"


def most_replicas(reader: Reader) -> str:
    """The maximum of each deployment: max_replicas where it scales, num_replicas where it is fixed."""
    return f"({limit(reader, 'max_replicas')} or {limit(reader, 'configured_replicas')})"


def reserved_replicas(reader: Reader) -> str:
    """Replicas that hold their resources: from STARTING until they are gone, STOPPING among them."""
    return promql.total(reader.select("servescope_deployment_replicas"), reader.each)


def fullest_caller(reader: Reader) -> str:
    """Requests waiting at the caller that has most: max_queued_requests holds for each proxy and each handle."""
    each = promql.total(
        reader.select("ray_serve_deployment_queued_queries"), (*reader.each, "handle", "actor_id"), "sum"
    )
    return promql.total(each, reader.each, "max")


def in_flight_share(reader: Reader) -> str:
    """Requests in progress against what the healthy replicas take at once, 0 to 1."""
    # What is left out is left out once: of equals, a second `topk` may pick others.
    running, replicas = reader.read(RUNNING, reader.each), replace(reader, kept="").read(REPLICAS, reader.each)
    return f"{running} / (({replicas} > 0) * {limit(reader, 'max_ongoing_requests')})"


def queue_share(reader: Reader) -> str:
    """The fullest caller's queue against max_queued_requests, 0 to 1; absent without a limit above 0."""
    return f"{fullest_caller(reader)} / ({limit(reader, 'max_queued_requests')} > 0)"


def demand(reader: Reader) -> str:
    """How many replicas the load asks for (`scaling.demand`)."""
    return reader.read(DEMAND, reader.each)


def count(condition: str, among: str) -> str:
    """How many deployments a condition holds for; 0 when for none."""
    return f"count({condition}) or 0 * count({among})"


def capped(reader: Reader) -> str:
    """How many deployments' load asks for more replicas than max_replicas allows."""
    ceiling = limit(reader, "max_replicas")
    return count(f"{demand(reader)} > {ceiling}", ceiling)


def autoscaling_state(reader: Reader) -> str:
    """For each deployment one of the codes of `scaling`, the worst that applies."""
    return reader.read(AUTOSCALING_STATE, reader.each)


def reserved(reader: Reader, resource: str, replicas: str) -> str:
    """Resources by deployment: `replica_cpus`, `replica_gpus` or `replica_memory_bytes` times a number of replicas."""
    return f"({replicas} * {limit(reader, resource)})"
