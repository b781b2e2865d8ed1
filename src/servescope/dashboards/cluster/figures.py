"""Expressions that several rows of the cluster dashboard share."""

from __future__ import annotations

from servescope import promql
from servescope.promql.signals import Reader

NODE: promql.Labels = ("instance",)


def events(reader: Reader, counter: str, by: promql.Labels, *, alive: str) -> str:
    """Events in each interval; zero for every node or cluster that has a series of the gauge `alive`."""
    return (
        f"({promql.events(reader.scope, counter, by, window='$__interval')}) or 0 * "
        f"{promql.total(reader.select(alive), by, 'group')}"
    )
