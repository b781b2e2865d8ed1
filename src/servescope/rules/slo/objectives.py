"""Service level objectives, read from a small YAML file or from OpenSLO v1 documents.

slos:
  - name: checkout
    application: shop
    route: /checkout            # or deployment: Payment, or neither
    availability: 0.999
    latency: {objective: 0.95, threshold_ms: 500}
    window: 30d
    count_backpressure: true
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from servescope.catalog.values import LATENCY_BUCKETS_MS
from servescope.errors import ServescopeError

HOURS_OF_A_DAY = 24
MAX_WINDOW_DAYS = 34  # Prometheus keeps 35 days
_MOST = 1e15  # beyond it a number of a document is a mistake; neither infinity nor NaN is below it


@dataclass(frozen=True, kw_only=True)
class Slo:
    """One SLO of one application, route or deployment. Objectives are shares of good requests, 0 to 1.

    `availability` or `latency_objective` may be 0: no objective.
    """

    name: str
    application: str
    deployment: str = ""
    route: str = ""
    availability: float = 0.0
    latency_objective: float = 0.0
    latency_ms: int = 0
    window_days: int = 30
    count_backpressure: bool = True

    @property
    def objectives(self) -> dict[str, float]:
        """The objective of each indicator: "availability", "latency"."""
        both = {"availability": self.availability, "latency": self.latency_objective}
        return {sli: objective for sli, objective in both.items() if objective}


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One burn-rate alert: both windows must burn `budget_share` of the budget in `long_h` hours, or faster."""

    severity: str
    for_: str
    long_h: int
    short: str
    budget_share: float

    @property
    def long(self) -> str:
        """The long window as a PromQL duration."""
        return f"{self.long_h // 24}d" if self.long_h % 24 == 0 else f"{self.long_h}h"

    def factor(self, window_days: int) -> float:
        """The burn rate: 1 spends the whole budget in the window exactly."""
        return self.budget_share * window_days * HOURS_OF_A_DAY / self.long_h


# Google's SRE workbook, chapter 5, plus the fourth pair of Sloth and kubernetes-mixin.
PAIRS = (
    Pair(severity="critical", for_="2m", long_h=1, short="5m", budget_share=0.02),
    Pair(severity="critical", for_="15m", long_h=6, short="30m", budget_share=0.05),
    Pair(severity="warning", for_="1h", long_h=24, short="2h", budget_share=0.10),
    Pair(severity="warning", for_="3h", long_h=72, short="6h", budget_share=0.10),
)

_FIELDS = {"name", "application", "deployment", "route", "availability", "latency", "window", "count_backpressure"}


def load(path: Path, buckets_ms: Sequence[int] = LATENCY_BUCKETS_MS) -> list[Slo]:
    """Read objectives. `buckets_ms` are the latency bounds that the deployments export.

    Raises:
        ServescopeError: the file cannot be read, or an objective cannot be monitored; one line says why.
    """
    import yaml

    try:
        documents = [d for d in yaml.safe_load_all(path.read_text(encoding="utf-8")) if d is not None]
    except (OSError, UnicodeDecodeError) as error:
        raise ServescopeError(f"{path}: cannot read the SLOs ({getattr(error, 'strerror', None) or error})") from error
    # PyYAML lets pass what Python says of a date or a number that is none, and of too many levels.
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise ServescopeError(f"{path}: not YAML ({' '.join(str(error).split())})") from error
    try:
        slos = [slo for document in documents for slo in _read(document)]
        if not slos:
            raise ServescopeError("no SLOs found")
        for slo in slos:
            check(slo, buckets_ms)
        names = [slo.name for slo in slos]
        for name in names:
            if names.count(name) > 1:
                raise ServescopeError(f"two SLOs are named {name!r}")
    except ServescopeError as error:
        # A name that is refused may hold line breaks.
        raise ServescopeError(f"{path}: {' '.join(str(error).split())}") from error
    return slos


def check(slo: Slo, buckets_ms: Sequence[int] = LATENCY_BUCKETS_MS) -> None:
    """Reject an objective that no rule could monitor.

    Raises:
        ServescopeError: an objective out of range, a threshold that is not a bucket bound, a pair that can never fire.
    """
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", slo.name):
        raise ServescopeError(f"{slo.name!r} is not a valid SLO name (letters, digits, . _ -)")
    for label, value in (("application", slo.application), ("deployment", slo.deployment), ("route", slo.route)):
        if '"' in value or "\\" in value or not value.isprintable():
            raise ServescopeError(
                f"{slo.name}: {label} {value!r} contains a quote, a backslash, a line break or a control character"
            )
    if slo.deployment and slo.route:
        raise ServescopeError(
            f"{slo.name}: set a deployment or a route, not both: they are measured in different places"
        )
    if not slo.objectives:
        raise ServescopeError(f"{slo.name}: no objective; set availability, latency, or both")
    if not 1 <= slo.window_days <= MAX_WINDOW_DAYS:
        raise ServescopeError(f"{slo.name}: window {slo.window_days}d is not between 1d and {MAX_WINDOW_DAYS}d")
    for sli, objective in slo.objectives.items():
        if not 0 < objective < 1:
            raise ServescopeError(f"{slo.name}: {sli} objective {objective:g} is not between 0 and 1 (0.999 is 99.9 %)")
        for pair in pairs(slo):
            bound = pair.factor(slo.window_days) * (1 - objective)
            if bound >= 1:
                raise ServescopeError(
                    f"{slo.name}: the {sli} objective {objective:g} is too low for a burn-rate alert: the pair "
                    f"{pair.long}/{pair.short} would need an error ratio of {bound:.2f}; the lowest objective for "
                    f"{slo.window_days}d is above {max(1 - 1 / p.factor(slo.window_days) for p in pairs(slo)):.3f}"
                )
    if slo.latency_objective and slo.latency_ms not in buckets_ms:
        below = max((b for b in buckets_ms if b < slo.latency_ms), default=None)
        above = min((b for b in buckets_ms if b > slo.latency_ms), default=None)
        nearest = " or ".join(str(b) for b in (below, above) if b is not None)
        raise ServescopeError(
            f"{slo.name}: latency threshold {slo.latency_ms} ms is not a bucket bound, so requests below it cannot be "
            f"counted; the nearest are {nearest}"
        )


def pairs(slo: Slo) -> list[Pair]:
    """The pairs whose long window fits into the SLO's window."""
    return [pair for pair in PAIRS if pair.long_h <= slo.window_days * HOURS_OF_A_DAY]


# ---------------------------------------------------------------------------------------------------------------------
# Reading


def _read(document: Any) -> list[Slo]:
    if not isinstance(document, Mapping):
        raise ServescopeError("an SLO file is a mapping with a list `slos`, or OpenSLO documents")
    if "apiVersion" in document:
        return _read_openslo(document)
    if set(document) != {"slos"} or not isinstance(document["slos"], list):
        raise ServescopeError("an SLO file is a mapping with a list `slos`, or OpenSLO documents")
    return [_read_own(entry, index) for index, entry in enumerate(document["slos"], 1)]


def _read_own(entry: Any, index: int) -> Slo:
    if not isinstance(entry, Mapping):
        raise ServescopeError(f"SLO {index} is not a mapping")
    name = str(entry.get("name", f"SLO {index}"))
    unknown = sorted(set(entry) - _FIELDS, key=str)
    if unknown:
        raise ServescopeError(f"{name}: unknown field {unknown[0]!r}; known: {', '.join(sorted(_FIELDS))}")
    for field in ("name", "application"):
        if not isinstance(entry.get(field), str) or not entry[field]:
            raise ServescopeError(f"{name}: {field} is missing")
    latency = entry.get("latency") or {}
    if not isinstance(latency, Mapping) or (latency and set(latency) != {"objective", "threshold_ms"}):
        raise ServescopeError(f"{name}: latency must be {{objective: 0.95, threshold_ms: 500}}")
    counted = entry.get("count_backpressure", True)
    if not isinstance(counted, bool):
        raise ServescopeError(f"{name}: count_backpressure must be true or false")
    return Slo(
        name=name,
        application=entry["application"],
        deployment=_label(name, "deployment", entry.get("deployment")),
        route=_label(name, "route", entry.get("route")),
        availability=_share(name, "availability", entry.get("availability", 0)),
        latency_objective=_share(name, "latency objective", latency.get("objective", 0)),
        latency_ms=_whole(name, "threshold_ms", latency.get("threshold_ms", 0)),
        window_days=_days(name, entry.get("window", "30d")),
        count_backpressure=counted,
    )


def _read_openslo(document: Mapping[str, Any]) -> list[Slo]:
    """OpenSLO v1: `service` is the application, labels `deployment` and `route` narrow it.

    An objective with `op: lte` and `value` is about latency in milliseconds, one without about availability. The
    indicator's query is servescope's: Serve's own metrics define a request and its outcome.
    """
    if document.get("apiVersion") != "openslo/v1":
        raise ServescopeError(f"apiVersion {document.get('apiVersion')!r}: only openslo/v1 is supported")
    if document.get("kind") != "SLO":
        return []  # services, indicators and alert policies are not needed
    metadata = _mapping("an OpenSLO document", "metadata", document.get("metadata"))
    name = _label("an OpenSLO document", "metadata.name", metadata.get("name"))
    spec = _mapping(name or "an OpenSLO document", "spec", document.get("spec"))
    service = _label(name, "service", spec.get("service"))
    if not name or not service:
        raise ServescopeError(f"{name or 'an OpenSLO document'}: metadata.name and spec.service are required")
    if spec.get("budgetingMethod", "Occurrences") != "Occurrences":
        raise ServescopeError(f"{name}: budgetingMethod {spec['budgetingMethod']!r}: only Occurrences is supported")
    windows = _mappings(name, "timeWindow", spec.get("timeWindow")) or [{"duration": "30d", "isRolling": True}]
    if not windows[0].get("isRolling", True):
        raise ServescopeError(f"{name}: only rolling windows are supported")
    labels = _mapping(name, "labels", metadata.get("labels"))
    availability, latency, threshold = 0.0, 0.0, 0
    for objective in _mappings(name, "objectives", spec.get("objectives")):
        percent = objective.get("targetPercent")
        if percent is None:
            target = _share(name, "target", objective.get("target", 0))
        else:
            target = _share(name, "targetPercent", percent) / 100
        if objective.get("op") is None:
            availability = target
        elif objective["op"] in ("lte", "lt"):
            latency, threshold = target, _whole(name, "objective value (ms)", objective.get("value"))
        else:
            raise ServescopeError(f"{name}: op {objective['op']!r}: a latency objective must use lte")
    window = _days(name, windows[0].get("duration", "30d"))
    return [
        Slo(
            name=name,
            application=service,
            deployment=_label(name, "label deployment", labels.get("deployment")),
            route=_label(name, "label route", labels.get("route")),
            availability=availability,
            latency_objective=latency,
            latency_ms=threshold,
            window_days=window,
        )
    ]


def _mapping(name: str, field: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value or {}, Mapping):
        raise ServescopeError(f"{name}: {field} must be a mapping, got {value!r}")
    return value or {}


def _mappings(name: str, field: str, value: Any) -> list[Mapping[str, Any]]:
    if not isinstance(value or [], list) or not all(isinstance(entry, Mapping) for entry in value or []):
        raise ServescopeError(f"{name}: {field} must be a list of mappings, got {value!r}")
    return value or []


def _label(name: str, field: str, value: Any) -> str:
    """A label's value, "" where it is absent."""
    if not isinstance(value or "", str):
        raise ServescopeError(f"{name}: expected a string for {field}, got {value!r}")
    return value or ""


def _share(name: str, field: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < _MOST:
        raise ServescopeError(f"{name}: {field} {value!r} is not a number")
    return float(value)


def _whole(name: str, field: str, value: Any) -> int:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not abs(value) < _MOST or value != int(value):
        raise ServescopeError(f"{name}: {field} {value!r} is not an integer")
    return int(value)


def _days(name: str, value: Any) -> int:
    match = re.fullmatch(r"([0-9]{1,5})([dw])", str(value))
    if not match:
        raise ServescopeError(f"{name}: window {value!r} is not of the form 30d or 4w")
    return int(match.group(1)) * (7 if match.group(2) == "w" else 1)
