"""How many replicas a deployment should have, has, and why they differ, by cluster and deployment.

What the load asks for and the state of scaling need many series and some minutes of them, so both are recorded
(`signals`); `capacity` reads them.
"""

from __future__ import annotations

from servescope.promql.builders import DEPLOYMENT, Labels, Scope, replica_gap, total

# The state of a deployment, as codes that rise with the need to act.
STEADY, STARTING, DELAYED, CAPPED, FAILING, UNSCHEDULABLE = range(6)


def _each(scope: Scope) -> Labels:
    return (*scope.key, *DEPLOYMENT)


def limit(scope: Scope, name: str) -> str:
    """A configured figure of each deployment: `servescope_deployment_<name>`."""
    return total(scope.select(f"servescope_deployment_{name}"), _each(scope), "max")


def demand(scope: Scope) -> str:
    """How many replicas the load asks for: the autoscaler's input by its goal for one replica.

    Not `autoscaling_desired_replicas`: Ray shows that for one tick in upscale_delay_s; at max_replicas it looks steady.
    The goal is the exporter's figure, which every Ray has, or Ray's own (since 2.60) where there is no exporter.
    """
    seen = total(scope.select("ray_serve_autoscaling_total_requests"), _each(scope), "max")
    own = total(scope.select("ray_serve_autoscaling_target_ongoing_requests"), _each(scope), "max")
    return f"({seen} / ({limit(scope, 'target_ongoing_requests')} or {own}))"


def target(scope: Scope) -> str:
    """How many replicas the controller wants."""
    return total(scope.select("ray_serve_autoscaling_target_replicas"), _each(scope), "max")


def missing(scope: Scope) -> str:
    """Target replicas that are not healthy."""
    return replica_gap(target(scope), total(scope.select("ray_serve_deployment_replica_healthy"), _each(scope)))


def state(scope: Scope) -> str:
    """For each deployment one of the codes above, the worst that applies, from Ray's series and the exporter's."""
    return _state(scope, target=target(scope), missing=missing(scope), demand=demand(scope), over="({})[{}:15s]")


def state_of_records(scope: Scope, *, target: str, missing: str, demand: str) -> str:
    """The same from three records, given by their names."""
    return _state(scope, target=target, missing=missing, demand=demand, over="{}[{}]")


def _state(scope: Scope, *, target: str, missing: str, demand: str, over: str) -> str:
    existed = f"last_over_time({over.format(target, '1m')} offset 2m)"
    # Two minutes are more than a start usually takes; a longer constructor shows red until it is through.
    short = f"(min_over_time({over.format(missing, '2m')}) > 0) and {existed}"
    # Each try of a constructor that fails is without a node for a moment, so all of the time counts here too.
    unplaced = limit(scope, "unplaced_replicas")
    causes = (
        (UNSCHEDULABLE, f"({short}) and min_over_time(({unplaced})[2m:15s]) > 0"),
        (FAILING, short),
        (CAPPED, f"{demand} > {limit(scope, 'max_replicas')}"),
        (DELAYED, f"ceil({demand}) > {target}"),
        (STARTING, f"{missing} > 0"),
        (STEADY, target),
    )
    return " or ".join(f"({code} + 0 * ({cause}))" for code, cause in causes)
