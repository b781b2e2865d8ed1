"""An alert as one object: the rule, its runbook page, its links, its unit tests and its drill all come from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from servescope.errors import ServescopeError
from servescope.promql import Labels
from servescope.rules import teams
from servescope.settings import Settings

SEVERITIES = ("critical", "warning", "info")

# Who acts on an alert. Where one team does all of it, the words still say what the alert is about.
OWNERS = {"application": "application owner", "platform": "platform team", "monitoring": "monitoring team"}

# By what an alert is judged, where the setting service_label names what outlives a cluster, and why.
JUDGED = {
    "process": ("cluster", "a process, a node or a target is part of one cluster"),
    "deployment": ("cluster", "replicas, queues, limits and status belong to one cluster"),
    "start": ("cluster", "and silent while it starts beside a running cluster of the same service: nobody uses it yet"),
    "gone": ("cluster", "and silent while another cluster of the same service runs; one that never served may end"),
    "users": ("service", "users see the service, whichever of its clusters answers"),
    "usual": ("service", "what is usual outlives a cluster"),
    "budget": ("service", "an error budget outlives a cluster"),
    "pipeline": ("neither", "it is about Prometheus itself"),
}
_JUDGED_OF_OWNER = {"application": "deployment", "platform": "process", "monitoring": "process"}

InputSeries = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Case:
    """What the alert's unit test feeds it, in promtool's notation.

    `fires` maps a series to its values: the cluster label, `instance` and `job` are added where they are missing, and
    values that end in `x` last until the end ("0+2x"). `quiet` replaces some of these series so that the alert stays
    just below its threshold. `labels` are those of the alert besides name, severity and cluster. `also` names the
    alerts that the same fault rightly raises too, `quiet_also` those that stay when this one does not.
    """

    at: str
    fires: InputSeries
    quiet: InputSeries
    labels: Mapping[str, str] = field(default_factory=dict)
    also: tuple[str, ...] = ()
    quiet_also: tuple[str, ...] = ()
    cluster: str = "a"


@dataclass(frozen=True, kw_only=True)
class Alert:
    """One alert.

    `owner` is a key of OWNERS. `for_` is the rule's `for`, how long the expression must hold ("": fires at once).
    `labels` are those that its expression keeps besides the cluster label. `diagnosis` pairs a question with the query
    that answers it (may be ""), `mitigation` holds what to do, one step each, the first action first; `panel` is the
    dashboard's uid and the panel's title. `drill` names the fault that tests it (tests/drill/faults.py); `no_drill`
    says why there can be none on a plain machine. `needs` names what besides Ray's own metrics the rule reads: without
    it the alert does not fire, and is never a false positive. `judged` is a key of JUDGED; "" is that of its owner.
    `snippet` is text to paste, in `language`. What is judged over many minutes is evaluated every `every_s` seconds at
    most.
    """

    name: str
    severity: str
    owner: str
    for_: str
    labels: Labels
    expr: str
    summary: str
    description: str
    meaning: str
    impact: str
    diagnosis: tuple[tuple[str, str], ...]
    mitigation: tuple[str, ...]
    panel: tuple[str, str]
    case: Case
    drill: str = ""
    no_drill: str = ""
    needs: str = ""
    judged: str = ""
    snippet: str = ""
    language: str = "yaml"
    every_s: int = 0

    @property
    def judged_by(self) -> tuple[str, str]:
        """By what it is judged ("cluster", "service", "neither"), and why."""
        return JUDGED[self.judged or _JUDGED_OF_OWNER[self.owner]]

    def key(self, settings: Settings) -> Labels:
        """The labels of a cluster or of a service that its expression keeps."""
        by = {"cluster": settings.cluster_key, "service": settings.service_key, "neither": ()}
        return by[self.judged_by[0]] if self.case.cluster else ()

    def __post_init__(self) -> None:
        if self.severity not in SEVERITIES:
            raise ServescopeError(f"{self.name}: severity {self.severity!r} is none of {', '.join(SEVERITIES)}")
        if self.owner not in OWNERS:
            raise ServescopeError(f"{self.name}: owner {self.owner!r} is none of {', '.join(OWNERS)}")
        if self.judged and self.judged not in JUDGED:
            raise ServescopeError(f"{self.name}: judged {self.judged!r} is none of {', '.join(JUDGED)}")
        if bool(self.drill) == bool(self.no_drill):
            raise ServescopeError(f"{self.name}: name a drill, or the reason why there is none")


@dataclass(frozen=True)
class Group:
    """The alerts about one thing: one group in the rule file, one section of the runbooks' index."""

    name: str
    title: str
    alerts: tuple[Alert, ...]


def rule(alert: Alert, settings: Settings, panel_ids: Mapping[tuple[str, str], int]) -> dict[str, Any]:
    """The alert as Prometheus reads it. `panel_ids` maps a dashboard's uid and a panel's title to the panel's id."""
    return {
        "alert": alert.name,
        "expr": alert.expr,
        **({"for": alert.for_} if alert.for_ else {}),
        "labels": {"severity": alert.severity, **teams.label(settings, alert.labels)},
        "annotations": {
            "summary": alert.summary,
            "description": alert.description,
            "runbook_url": settings.runbook(alert.name),
            "dashboard_url": dashboard_url(alert, settings, panel_ids),
        },
    }


# The variables of each dashboard that an alert's labels can set, besides the cluster.
_VARIABLES = {
    "servescope-overview": ("application",),
    "servescope-deployment": ("application", "deployment"),
    "servescope-slo": ("slo",),
}


def dashboard_url(alert: Alert, settings: Settings, panel_ids: Mapping[tuple[str, str], int]) -> str:
    """The link to the panel, with the alert's labels as variables; Prometheus expands the template."""
    if alert.panel not in panel_ids:
        raise ServescopeError(f"{alert.name}: no panel {alert.panel[1]!r} on dashboard {alert.panel[0]}")
    uid = alert.panel[0]
    chosen = [f"viewPanel={panel_ids[alert.panel]}"]
    variables = {label: label for label in alert.labels if label in _VARIABLES.get(uid, ())}
    if settings.cluster_label in alert.key(settings):
        variables = {"cluster": settings.cluster_label, **variables}
    for variable, label in variables.items():
        chosen.append(f"var-{variable}={{{{ $labels.{label} | urlquery }}}}")
    return f"{settings.grafana_url.rstrip('/')}/d/{uid}?{'&'.join(chosen)}"
