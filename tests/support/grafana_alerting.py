"""A model of how Grafana evaluates an alert rule of its own, in words of our own.

From what is known of Grafana 10 to 13: a rule is evaluated every `interval`. Each label set of the last expression is
an instance: a figure other than 0 makes it pending, and firing once it has been so for `for`; 0 makes it normal. An
empty answer means what `noDataState` says, a failed query what `execErrState` says: OK makes every instance normal,
Error raises an alert `DatasourceError` at once. An instance whose label set is missing from two answers is over.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from servescope.promql.durations import milliseconds

Vector = Mapping[str, float]  # value by label set; the label sets are names here
STALE_AFTER = 2  # evaluations without it


@dataclass
class _Instance:
    since: float
    missing: int = 0


@dataclass
class GrafanaRule:
    """One provisioned rule over time."""

    rule: Mapping[str, Any]
    interval_s: float
    _pending: dict[str, _Instance] = field(default_factory=dict)

    @property
    def for_s(self) -> float:
        """How long an instance is pending before it fires, in seconds."""
        return milliseconds(self.rule["for"]) / 1000

    def evaluate(self, at: float, answer: Vector | None) -> set[str]:
        """The instances that fire after an evaluation at a time (s); `answer` is None where the query failed."""
        if answer is None:
            if self.rule["execErrState"] == "Error":
                return {"DatasourceError"}
            assert self.rule["execErrState"] == "OK", self.rule["execErrState"]
            self._pending.clear()
            return set()
        if not answer:
            assert self.rule["noDataState"] == "OK", self.rule["noDataState"]
            self._pending.clear()
            return set()
        true = {name for name, value in answer.items() if self._condition(value)}
        for name in list(self._pending):
            instance = self._pending[name]
            instance.missing = 0 if name in answer else instance.missing + 1
            if instance.missing >= STALE_AFTER or (name in answer and name not in true):
                del self._pending[name]
        for name in true:
            self._pending.setdefault(name, _Instance(at))
        return {name for name, one in self._pending.items() if at - one.since >= self.for_s}

    def _condition(self, value: float) -> bool:
        """The rule's last expression, of the figure A, is not 0."""
        query, condition = self.rule["data"]
        assert (query["refId"], condition["model"]["type"]) == ("A", "math")
        parts = condition["model"]["expression"].split(" || ")
        known = {
            "is_number($A)": math.isfinite(value),
            "is_nan($A)": math.isnan(value),
            "is_inf($A)": math.isinf(value),
            "$A": value != 0,
        }
        return any(known[part] for part in parts)
