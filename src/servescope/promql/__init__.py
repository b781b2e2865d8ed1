"""PromQL: the builders of expressions, and what is built with them.

`from servescope import promql` gives the builders; recorded figures are in `signals`, limits in `capacity`, prices in
`cost`, deploys in `rollouts`, rules for expressions in `lint`.
"""

from servescope.promql.builders import (
    APPLICATION,
    DEPLOYMENT,
    ERROR_CODES,
    METHOD,
    REPLICA,
    ROUTE,
    Labels,
    Outcome,
    Scope,
    deployment_requests,
    events,
    identifying_labels,
    increase,
    ingress_buckets,
    ingress_requests,
    lasting,
    or_zero,
    outcomes,
    over_range,
    quantile,
    ratio,
    replica_gap,
    replica_processes,
    total,
)

__all__ = [
    "APPLICATION",
    "DEPLOYMENT",
    "ERROR_CODES",
    "METHOD",
    "REPLICA",
    "ROUTE",
    "Labels",
    "Outcome",
    "Scope",
    "deployment_requests",
    "events",
    "identifying_labels",
    "increase",
    "ingress_buckets",
    "ingress_requests",
    "lasting",
    "or_zero",
    "outcomes",
    "over_range",
    "quantile",
    "ratio",
    "replica_gap",
    "replica_processes",
    "total",
]
