"""Alertmanager's configuration: routes, and inhibitions of alerts whose cause has an alert of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from servescope.rules.teams import LABEL
from servescope.settings import Settings


@dataclass(frozen=True)
class Inhibition:
    """While `source` fires, no notification is sent for `targets` with equal `labels` (and cluster)."""

    source: str
    targets: tuple[str, ...]
    labels: tuple[str, ...] = ()


# What fails with the head; with GCS fault tolerance requests continue, so user-facing alerts are not among these.
_OF_THE_HEAD = (
    "RayClusterGcsGone",
    "RayServeControllerStalled",
    "RayServeProxyMissing",
    "RayServeProxyUnhealthy",
    "RayServeReplicasMissing",
    "RayServeReplicasNotPlaced",
    "ServescopeTargetDown",
    "ServescopeExporterDown",
    "ServescopeExporterStale",
)

INHIBITIONS = (
    Inhibition("ServescopeNoRayMetrics", ("RayClusterMetricsGone",)),
    # A silent cluster explains whatever still fires for it.
    Inhibition(
        "RayClusterMetricsGone", ("RayServe.+", "RayGpu.+", "RayCluster(Head|Gcs|Node|Disk|Memory|Oom|Object).+")
    ),
    Inhibition("RayClusterMetricsGone", ("Servescope(Target|Exporter).+",)),
    Inhibition("RayClusterHeadGone", _OF_THE_HEAD),
    Inhibition("RayClusterGcsGone", ("RayServeControllerStalled", "ServescopeExporterStale", "ServescopeExporterDown")),
    Inhibition(
        "RayServeUnavailable",
        ("RayServeErrorRatioHigh", "RayServeErrorRatioElevated", "RayServeRouteFailing", "RayServeBackPressure"),
        ("application",),
    ),
    Inhibition("RayServeErrorRatioHigh", ("RayServeErrorRatioElevated", "RayServeRouteFailing"), ("application",)),
    Inhibition(
        "RayServeApplicationDeployFailed",
        ("RayServeDeploymentUnhealthy", "RayServeReplicaStartFailing", "RayServeReplicasMissing"),
        ("application",),
    ),
    Inhibition("RayServeApplicationUnhealthy", ("RayServeDeploymentUnhealthy",), ("application",)),
    Inhibition("RayServeReplicaCrashLooping", ("RayServeHealthCheckFailing",), ("application", "deployment")),
    Inhibition("RayServeNoReplicas", ("RayServeReplicasMissing",), ("application", "deployment")),
    Inhibition("RayServeReplicasNotPlaced", ("RayServeReplicasMissing",), ("application", "deployment")),
    Inhibition("RayServeCappedByMaxReplicas", ("RayServeQueueGrowing",), ("application", "deployment")),
    Inhibition("RayClusterDiskFull", ("RayClusterDiskFilling",), ("instance",)),
)


def document(settings: Settings) -> dict[str, Any]:
    """The configuration that the demo runs: the intended routes, and receivers that send nothing."""
    receivers = [{"name": name} for name in ("page", "ticket", "note", "watchdog")]
    return {"route": _route(settings), "inhibit_rules": _inhibit_rules(settings), "receivers": receivers}


def example(settings: Settings) -> dict[str, Any]:
    """The same with receivers: PagerDuty, Slack and a webhook.

    With teams in the settings each has its own PagerDuty service and Slack channel, by the label `team`; without, one
    application shows how to route by application. Secrets are read from files that Alertmanager's user alone may read.
    """
    secrets = "/etc/alertmanager/secrets"
    title = "{{ .CommonAnnotations.summary }} {{ .CommonLabels.application }} {{ .CommonLabels.deployment }}"
    text = "{{ range .Alerts }}{{ .Annotations.description }}\n{{ .Annotations.runbook_url }}\n{{ end }}"
    details = {"description": "{{ .CommonAnnotations.description }}", "runbook": "{{ .CommonAnnotations.runbook_url }}"}

    def pagerduty(name: str) -> dict[str, Any]:
        key = {"routing_key_file": f"{secrets}/pagerduty-{name}", "description": title, "details": details}
        return {"name": name, "pagerduty_configs": [{**key, "send_resolved": True}]}

    def slack(name: str, channel: str) -> dict[str, Any]:
        url = {"api_url_file": f"{secrets}/slack-url", "channel": channel, "title": title, "text": text}
        return {"name": name, "slack_configs": [{**url, "send_resolved": True}]}

    webhook = {
        "url": "https://deadman.example.com/servescope",
        "http_config": {"authorization": {"credentials_file": f"{secrets}/webhook-token"}},
        "send_resolved": False,
    }
    teams = settings.all_teams
    pagers = {f'{LABEL}="{team}"': f"page-{team}" for team in teams} or {'application="ocr"': "page-ocr"}
    tickets = {f'{LABEL}="{team}"': f"ticket-{team}" for team in teams}
    return {
        "route": _route(settings, pagers=pagers, tickets=tickets),
        "inhibit_rules": _inhibit_rules(settings),
        "receivers": [
            pagerduty("page"),
            *map(pagerduty, pagers.values()),
            slack("ticket", "#ray-serve"),
            *(slack(f"ticket-{team}", f"#{team}") for team in teams),
            slack("note", "#ray-serve-notes"),
            {"name": "watchdog", "webhook_configs": [webhook]},
        ],
    }


def _route(
    settings: Settings, *, pagers: Mapping[str, str] | None = None, tickets: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """By severity. `pagers` and `tickets` map a matcher to the receiver of its critical alerts and of its warnings."""
    by_pager, by_ticket = (
        [{"matchers": [matcher], "receiver": name} for matcher, name in (receivers or {}).items()]
        for receivers in (pagers, tickets)
    )
    return {
        "receiver": "ticket",
        # One notification for one alert of one application, however many replicas or routes it fires for.
        "group_by": [*settings.cluster_key, *([LABEL] if tickets else []), "application", "alertname"],
        "group_wait": "30s",
        "group_interval": "5m",
        "repeat_interval": "12h",
        "routes": [
            {
                "matchers": ['alertname="ServescopeWatchdog"'],
                "receiver": "watchdog",
                "group_wait": "0s",
                "group_interval": "1m",
                "repeat_interval": "5m",
            },
            {
                "matchers": ['severity="critical"'],
                "receiver": "page",
                "group_wait": "10s",
                "repeat_interval": "1h",
                **({"routes": by_pager} if by_pager else {}),
            },
            {"matchers": ['severity="info"'], "receiver": "note", "repeat_interval": "24h"},
            *by_ticket,
        ],
    }


def _inhibit_rules(settings: Settings) -> list[dict[str, Any]]:
    burn = 'alertname="RayServeErrorBudgetBurn"'
    return [
        {
            "source_matchers": [burn, 'severity="critical"'],
            "target_matchers": [burn, 'severity="warning"'],
            "equal": [*settings.cluster_key, "slo", "sli"],
        },
        *(
            {
                "source_matchers": [f'alertname="{inhibition.source}"'],
                "target_matchers": [f'alertname=~"{"|".join(inhibition.targets)}"'],
                # An alert about no metrics at all has no cluster label.
                "equal": [
                    *([] if inhibition.source == "ServescopeNoRayMetrics" else settings.cluster_key),
                    *inhibition.labels,
                ],
            }
            for inhibition in INHIBITIONS
        ),
    ]
