"""Expressions that several rows of the deployment dashboard share."""

from __future__ import annotations

from servescope import promql
from servescope.promql import DEPLOYMENT
from servescope.promql.signals import (
    DEPLOYMENT_REQUESTS,
    Reader,
    Signal,
)

REPLICA_LEGEND = "{{deployment}} {{replica}}"


def failed_ratio(reader: Reader, by: promql.Labels = ()) -> str:
    """Share of calls that ended in an exception, 0 to 1."""
    return promql.ratio(reader.read(DEPLOYMENT_REQUESTS, by, outcome='="error"'), reader.read(DEPLOYMENT_REQUESTS, by))


def counted(reader: Reader, signal: Signal) -> str:
    """The events of a signal in each interval of the graph; zero for an existing deployment without any."""
    return promql.or_zero(reader.events(signal, DEPLOYMENT), reader.scope)
