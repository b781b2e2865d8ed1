"""Alertmanager's configuration: who is told what, and which alerts keep quiet while another one explains them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from servescope.settings import Settings


@dataclass(frozen=True)
class Inhibition:
    """While `source` fires, `targets` with the same `labels` (besides the cluster) are shown and not sent."""

    source: str
    targets: tuple[str, ...]
    labels: tuple[str, ...] = ()


# What a head that is down takes with it; with GCS fault tolerance requests go on, so users' alerts are not in here.
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
    # Nothing that still fires of a silent cluster is news.
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
    """The configuration that the demo runs: the routes as they are meant, and receivers that send nothing anywhere."""
    receivers = [{"name": name} for name in ("page", "ticket", "note", "watchdog")]
    return {"route": _route(settings, ()), "inhibit_rules": _inhibit_rules(settings), "receivers": receivers}


def example(settings: Settings) -> dict[str, Any]:
    """The same with receivers: PagerDuty, Slack, a webhook, and one application whose team has a pager of its own.

    Secrets are read from files that Alertmanager's user alone may read; none stands in here.
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
    return {
        "route": _route(settings, (("ocr", "page-ocr"),)),
        "inhibit_rules": _inhibit_rules(settings),
        "receivers": [
            pagerduty("page"),
            pagerduty("page-ocr"),
            slack("ticket", "#ray-serve"),
            slack("note", "#ray-serve-notes"),
            {"name": "watchdog", "webhook_configs": [webhook]},
        ],
    }


def _route(settings: Settings, teams: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    """By severity, and below critical by application where its team has a receiver of its own."""
    by_team = [{"matchers": [f'application="{application}"'], "receiver": name} for application, name in teams]
    return {
        "receiver": "ticket",
        # One message for one trouble of one application, however many replicas or routes show it.
        "group_by": [settings.cluster_label, "application", "alertname"],
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
                **({"routes": by_team} if by_team else {}),
            },
            {"matchers": ['severity="info"'], "receiver": "note", "repeat_interval": "24h"},
        ],
    }


def _inhibit_rules(settings: Settings) -> list[dict[str, Any]]:
    burn = 'alertname="RayServeErrorBudgetBurn"'
    return [
        {
            "source_matchers": [burn, 'severity="critical"'],
            "target_matchers": [burn, 'severity="warning"'],
            "equal": [settings.cluster_label, "slo", "sli"],
        },
        *(
            {
                "source_matchers": [f'alertname="{inhibition.source}"'],
                "target_matchers": [f'alertname=~"{"|".join(inhibition.targets)}"'],
                # Prometheus has no cluster to name when nothing at all arrives.
                "equal": [
                    *([] if inhibition.source == "ServescopeNoRayMetrics" else [settings.cluster_label]),
                    *inhibition.labels,
                ],
            }
            for inhibition in INHIBITIONS
        ),
    ]
