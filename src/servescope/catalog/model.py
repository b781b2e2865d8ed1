"""What is known of one metric, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum


class Kind(str, Enum):
    """How a metric must be queried."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Source(str, Enum):
    """Which endpoint exports a metric."""

    NODE_AGENT = "node agent"  # one on each node, --metrics-export-port (8080)
    AUTOSCALER = "autoscaler"  # on the head, 44217
    DASHBOARD = "dashboard"  # on the head, 44227
    EXPORTER = "servescope exporter"  # ours: what Serve's REST API knows, 9475
    COLLECTOR = "OpenTelemetry Collector"  # what it counts of Serve's spans, 8889
    PROMETHEUS = "Prometheus"  # Prometheus writes it itself
    BLACKBOX = "blackbox exporter"  # probes from outside
    LOG_AGENT = "log agent"  # Fluent Bit or the Collector: itself, and what it counts in the logs (docs/logs.md)


class Origin(Enum):
    """What a metric measures from within; `labels` are those that every sample of it carries besides the metric's own.

    No value is an empty tuple: Python 3.11.2, which Debian 12 has, makes a bare object of it.
    """

    WORKER = ("Serve, raylet and GCS", ("Component", "NodeAddress", "WorkerId", "SessionName", "Version"))
    NODE = ("a node", ("ip", "IsHeadNode", "RayNodeType", "SessionName", "Version"))
    PROCESS = ("a process of a node", ("ip", "SessionName", "Version"))
    HEAD = ("the head", ("SessionName", "Version"))
    DASHBOARD = ("the dashboard", ("Component", "ip", "pid", "SessionName", "Version"))
    NONE = ("nothing of Ray's", ())

    def __init__(self, description: str, labels: tuple[str, ...]) -> None:
        self.description = description
        self.labels = labels


# Ray adds three labels that say nothing; prometheus.yml drops them, another Prometheus may not.
OTEL_SCOPE_LABELS = ("otel_scope_name", "otel_scope_version", "otel_scope_schema_url")

# What Prometheus makes of two of Ray's labels where the target has labels of these names (rules.setup_checks).
EXPORTED_LABELS = ("exported_application", "exported_deployment")


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric.

    `name` is the exported name: counters with `_total`, histograms without `_bucket` and `_count`. `labels` are its
    own, besides those of its origin. `since` is the first Ray version that exports this name with this kind.
    `appears` says what makes it appear or expire, `needs` what a plain machine with default settings lacks to show
    it ("" when an ordinary live test triggers it). `newer_labels` and `older_labels` map a label to the first Ray
    version that has it, or that no longer has it. `group` is its heading in docs/metrics.md; it,
    `source` and `origin` are set by `group()`.
    """

    name: str
    kind: Kind
    unit: str
    labels: tuple[str, ...]
    help: str
    appears: str = "always"
    trap: str = ""
    since: str = "2.40"
    needs: str = ""
    event_driven: bool = False
    newer_labels: Mapping[str, str] = field(default_factory=dict)
    older_labels: Mapping[str, str] = field(default_factory=dict)
    group: str = ""
    source: Source = Source.NODE_AGENT
    origin: Origin = Origin.WORKER


COUNTER, GAUGE, HISTOGRAM = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM


def group(
    title: str, *metrics: Metric, source: Source = Source.NODE_AGENT, origin: Origin = Origin.WORKER
) -> tuple[Metric, ...]:
    """The metrics of one heading of docs/metrics.md, which share an endpoint and an origin."""
    return tuple(replace(metric, group=title, source=source, origin=origin) for metric in metrics)
