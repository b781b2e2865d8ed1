"""Recording rules: the signals that are read across a whole fleet or over long ranges."""

from __future__ import annotations

from typing import Any

from servescope import promql
from servescope.promql import Scope
from servescope.promql.signals import SIGNALS, Signal
from servescope.settings import Settings


def expression(signal: Signal, settings: Settings) -> str:
    """The PromQL that a signal's recording rule evaluates: every series, by cluster label and the signal's labels."""
    return promql.total(_inner(signal, settings), (*settings.cluster_key, *signal.labels), signal.op)


def _inner(signal: Signal, settings: Settings) -> str:
    scope = Scope.of(settings)
    if signal.counter:
        ended = f"{settings.scrape_interval_s}s"
        return promql.increase(scope, signal.counter, "1m", hold=settings.rate_window, ended=ended)
    if signal.of_records:
        return signal.of_records(scope, settings)
    return signal.finer.name(settings) if signal.finer else signal.inner(scope, settings.rate_window)


def document(settings: Settings) -> dict[str, Any]:
    """The rule file as Prometheus reads it: one group for each level, so that groups evaluate side by side.

    Within a group a rule sees what the rules before it recorded at the same instant.
    """
    groups: dict[str, list[dict[str, str]]] = {}
    intervals = {signal.group: f"{signal.interval_s(settings)}s" for signal in SIGNALS}
    for signal in SIGNALS:
        groups.setdefault(signal.group, []).append(
            {"record": signal.name(settings), "expr": expression(signal, settings)}
        )
    return {
        "groups": [
            {"name": f"servescope.{group}", "interval": intervals[group], "rules": rules}
            for group, rules in groups.items()
        ]
    }
