"""The metric catalogue: every Ray metric that the bundle knows, as plain data.

Measured on Ray 2.60.0 and compared with 2.54.1, 2.40.0 and 2.9.3. Expressions are built from it, a test fails on a name
that is not in it, and a live test fails on an entry that a real Serve no longer exports.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from servescope.catalog.core import AUTOSCALER, CLUSTER, DASHBOARD, GCS, SCHEDULING
from servescope.catalog.exporter import EXPORTER
from servescope.catalog.haproxy import HAPROXY
from servescope.catalog.log_agents import LOG_AGENTS
from servescope.catalog.model import EXPORTED_LABELS, OTEL_SCOPE_LABELS, Kind, Metric, Origin
from servescope.catalog.nodes import GPUS, NODES, OBJECTS, PROCESSES
from servescope.catalog.prometheus import PROBES, PROMETHEUS
from servescope.catalog.serve_control import AUTOSCALING, CONTROLLER, LIFECYCLE, LOOPS
from servescope.catalog.serve_requests import BATCHING, DEPLOYMENTS, HANDLES, MULTIPLEXING, REQUESTS_AT_THE_PROXY
from servescope.catalog.spans import SPANS
from servescope.errors import ServescopeError

METRICS: tuple[Metric, ...] = (
    *REQUESTS_AT_THE_PROXY,
    *DEPLOYMENTS,
    *HANDLES,
    *AUTOSCALING,
    *BATCHING,
    *MULTIPLEXING,
    *LIFECYCLE,
    *CONTROLLER,
    *LOOPS,
    *HAPROXY,
    *NODES,
    *GPUS,
    *PROCESSES,
    *OBJECTS,
    *SCHEDULING,
    *GCS,
    *CLUSTER,
    *AUTOSCALER,
    *DASHBOARD,
    *EXPORTER,
    *SPANS,
    *PROMETHEUS,
    *PROBES,
    *LOG_AGENTS,
)

BY_NAME: Mapping[str, Metric] = {metric.name: metric for metric in METRICS}


def metric(name: str) -> Metric:
    """The catalogue's entry of a name.

    Raises:
        ServescopeError: no such entry; the message names the closest one.
    """
    try:
        return BY_NAME[name]
    except KeyError:
        close = difflib.get_close_matches(name, BY_NAME, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ServescopeError(f"{name} is not in the metric catalogue{hint}") from None


def metric_of_sample(sample: str) -> Metric:
    """The entry of a sample's name, where a histogram has samples `x_bucket`, `x_count` and `x_sum`.

    Raises:
        ServescopeError: no such entry.
    """
    family, separator, suffix = sample.rpartition("_")
    if separator and suffix in ("bucket", "count", "sum") and family in BY_NAME:
        histogram = BY_NAME[family]
        if histogram.kind is Kind.HISTOGRAM:
            return histogram
    return metric(sample)


def allowed_labels(entry: Metric) -> frozenset[str]:
    """Every label that a query over the metric may name; the user's cluster label is the caller's to add."""
    labels = {*entry.labels, *entry.older_labels, *entry.origin.labels, "job", "instance"}
    if entry.origin is not Origin.NONE:
        labels |= {*OTEL_SCOPE_LABELS, *EXPORTED_LABELS}
    if entry.kind is Kind.HISTOGRAM:
        labels.add("le")
    return frozenset(labels)
