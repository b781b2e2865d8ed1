"""An alert as one object: the rule, its runbook page, its links, its unit tests and its drill all come from it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from servescope import promql
from servescope.errors import ServescopeError
from servescope.promql import Labels, Scope
from servescope.settings import Settings

SEVERITIES = ("critical", "warning", "info")

Series = Mapping[str, str]


@dataclass(frozen=True)
class Case:
    """What the alert's unit test feeds it, in promtool's notation.

    `fires` maps a series to its values: the cluster label, `instance` and `job` are added where they are missing, and
    values that end in `x` last until the end ("0+2x"). `quiet` replaces some of these series so that the alert stays
    just below its bound. `labels` are those of the alert besides name, severity and cluster. `also` names the alerts
    that the same trouble rightly raises too, `quiet_also` those that stay when this one does not.
    """

    at: str
    fires: Series
    quiet: Series
    labels: Mapping[str, str] = field(default_factory=dict)
    also: tuple[str, ...] = ()
    quiet_also: tuple[str, ...] = ()
    cluster: str = "a"


@dataclass(frozen=True)
class Alert:
    """One alert.

    `labels` are those that its expression keeps besides the cluster label. `diagnose` pairs a question with the query
    that answers it (may be ""); `panel` is the dashboard's uid and the panel's title. `drill` names the fault that
    proves it (tests/drill/faults.py); `no_drill` says why there can be none on a plain machine. `needs` names what
    besides Ray's own metrics the rule reads: without it the rule is silent, never wrong.
    """

    name: str
    severity: str
    wait: str
    labels: Labels
    expr: str
    summary: str
    description: str
    meaning: str
    impact: str
    diagnose: tuple[tuple[str, str], ...]
    mend: tuple[str, ...]
    panel: tuple[str, str]
    case: Case
    drill: str = ""
    no_drill: str = ""
    needs: str = ""

    def __post_init__(self) -> None:
        if self.severity not in SEVERITIES:
            raise ServescopeError(f"{self.name}: severity {self.severity!r} is none of {', '.join(SEVERITIES)}")
        if bool(self.drill) == bool(self.no_drill):
            raise ServescopeError(f"{self.name}: name a drill, or the reason why there is none")


@dataclass(frozen=True)
class Group:
    """The alerts about one thing: one group in the rule file, one part of the runbooks' index."""

    name: str
    title: str
    alerts: tuple[Alert, ...]


@dataclass(frozen=True)
class Terms:
    """The forms that alerts are built from. All of them bear a failed scrape: no present sample is read bare."""

    settings: Settings

    @property
    def scope(self) -> Scope:
        """Every series of every cluster."""
        return Scope(self.settings.cluster_label)

    @property
    def hold(self) -> str:
        """How long the last sample counts: four scrapes, so that a failed one changes nothing."""
        return self.settings.rate_window

    def by(self, *labels: str) -> Labels:
        """The cluster label and these."""
        return (self.settings.cluster_label, *labels)

    def now(self, gauge: str, **extra: str) -> str:
        """The last sample of a gauge; also reads Ray 2.54, where every scrape clears the gauges."""
        return f"last_over_time({self.scope.select(gauge, **extra)}[{self.hold}])"

    def ago(self, gauge: str, offset: str, **extra: str) -> str:
        """The last sample of a gauge some time ago."""
        return f"last_over_time({self.scope.select(gauge, **extra)}[{self.hold}] offset {offset})"

    def over(self, function: str, gauge: str, window: str, **extra: str) -> str:
        """`max`, `min`, `avg` or `last` of a gauge over a window, one series each as stored."""
        return f"{function}_over_time({self.scope.select(gauge, **extra)}[{window}])"

    def total(self, op: str, expression: str, *labels: str) -> str:
        """Aggregate by the cluster label and these."""
        return promql.total(expression, self.by(*labels), op)

    def events(self, counter: str, window: str, *labels: str, **extra: str) -> str:
        """Events of a counter in a window, first ones counted, by the cluster label and these."""
        return promql.events(self.scope, counter, self.by(*labels), window, self.hold, **extra)

    def requests(self, window: str, *labels: str, codes: str = "") -> str:
        """Requests that the proxies answered in a window, HTTP and gRPC, first ones counted, by status code."""
        extra = {"application": '!=""'} | ({"status_code": codes} if codes else {})
        parts = (
            promql.grown(self.scope, counter, window, self.hold, **extra)
            for counter in ("ray_serve_num_http_requests_total", "ray_serve_num_grpc_requests_total")
        )
        return promql.total(" or ".join(parts), self.by(*labels))

    def slow_share(self, family: str, bound_ms: int, window: str, *labels: str, **extra: str) -> str:
        """Share of a histogram's observations above a bucket bound: exact, where a quantile would be interpolated.

        Prometheus 3 writes whole bounds as floats, so the matcher takes both; without that bucket there is no result.
        """
        fast = self.events(f"{family}_bucket", window, *labels, le=bound(bound_ms), **extra)
        return f"1 - {fast} / ({self.events(f'{family}_count', window, *labels, **extra)} > 0)"

    def controller_turns(self, window: str) -> str:
        """The clusters whose controller has finished rounds in the window; its counter is a gauge."""
        return self.total(
            "group", f"changes({self.scope.select('ray_serve_controller_num_control_loops')}[{window}]) > 0"
        )

    def controller_lasts(self) -> str:
        """The clusters where one controller has turned for a minute or two.

        One that has just come back knows how many replicas and proxies there should be before it knows which there
        are; what it tells until then is no news.
        """
        loops = self.scope.select("ray_serve_controller_num_control_loops")
        before = f"changes({loops}[{self.hold}] offset {self.hold}) > 0"
        return self.total("group", f"changes({loops}[{self.hold}]) > 0 and {before}")

    def cluster_lives(self) -> str:
        """The clusters that report: what another series' absence is held against.

        What an agent measures of its node stops everywhere while the GCS is away; what the raylets tell goes on.
        """
        return self.total("group", f"{self.now('ray_node_cpu_utilization')} or {self.now('ray_object_store_memory')}")


def bound(milliseconds: int) -> str:
    """The matcher of one bucket bound, in the notation of Prometheus 2 and of 3."""
    return f'=~"{milliseconds}([.]0)?"'


def rule(alert: Alert, settings: Settings, panel_ids: Mapping[tuple[str, str], int]) -> dict[str, Any]:
    """The alert as Prometheus reads it. `panel_ids` maps a dashboard's uid and a panel's title to the panel's id."""
    return {
        "alert": alert.name,
        "expr": alert.expr,
        **({"for": alert.wait} if alert.wait else {}),
        "labels": {"severity": alert.severity},
        "annotations": {
            "summary": alert.summary,
            "description": alert.description,
            "runbook_url": f"{settings.runbook_url}/{alert.name}.md",
            "dashboard_url": dashboard_url(alert, settings, panel_ids),
        },
    }


# The variables of each dashboard that an alert's labels can choose, besides the cluster.
_VARIABLES = {
    "servescope-overview": ("application",),
    "servescope-deployment": ("application", "deployment"),
    "servescope-slo": ("slo",),
}


def dashboard_url(alert: Alert, settings: Settings, panel_ids: Mapping[tuple[str, str], int]) -> str:
    """The link to the panel, with the alert's own labels chosen; Prometheus' template fills them in."""
    if alert.panel not in panel_ids:
        raise ServescopeError(f"{alert.name}: no panel {alert.panel[1]!r} on dashboard {alert.panel[0]}")
    uid = alert.panel[0]
    chosen = [f"viewPanel={panel_ids[alert.panel]}"]
    variables = {label: label for label in alert.labels if label in _VARIABLES.get(uid, ())}
    if alert.case.cluster:
        variables = {"cluster": settings.cluster_label, **variables}
    for variable, label in variables.items():
        chosen.append(f"var-{variable}={{{{ $labels.{label} | urlquery }}}}")
    return f"{settings.grafana_url.rstrip('/')}/d/{uid}?{'&'.join(chosen)}"


_DURATION = r"(?:\d+(?:ms|[smhdwy]))+"
# Quoted text comes first, so that a label's value that looks like a range is passed over.
_SPANS = re.compile(rf'"(?:\\.|[^"\\])*"|\[({_DURATION})(?::({_DURATION}))?\]|\boffset ({_DURATION})')
_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000, "y": 31_536_000_000}


def milliseconds(duration: str) -> int:
    """A PromQL duration in milliseconds."""
    return sum(int(n) * _UNITS_MS[unit] for n, unit in re.findall(r"(\d+)(ms|[smhdwy])", duration))


def shortened(duration: str, scale: float) -> str:
    """A duration divided by the time scale, in whole milliseconds."""
    return duration if scale == 1 else f"{max(1, round(milliseconds(duration) / scale))}ms"


def shorten(expression: str, scale: float) -> str:
    """The same expression with every range and offset divided by the time scale."""
    if scale == 1:
        return expression

    def divided(match: re.Match[str]) -> str:
        window, step, offset = match.groups()
        if offset:
            return f"offset {shortened(offset, scale)}"
        if not window:
            return match.group(0)
        return f"[{shortened(window, scale)}{f':{shortened(step, scale)}' if step else ''}]"

    return _SPANS.sub(divided, expression)
