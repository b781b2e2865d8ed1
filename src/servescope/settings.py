"""The settings of everything that is generated: one frozen object, read from a YAML file or left at its defaults."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from servescope.catalog.values import LATENCY_BUCKETS_MS, STARTUP_BUCKETS_MS
from servescope.errors import ServescopeError

_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
# Labels of Ray's metrics: a cluster label of the same name would merge series that must stay distinct.
_TAKEN_LABELS = frozenset(
    {"application", "deployment", "replica", "route", "method", "status_code", "instance", "job", "le"}
)
# A team is a label's value, part of a receiver's name and of a file's.
_TEAM = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_JOB_PATTERN = re.compile(r"(?:\(\?i\))?([A-Za-z0-9_./:|()*?-]*)")
_SHARES = (
    "error_ratio_warning",
    "error_ratio_critical",
    "latency_share",
    "backpressure_ratio",
    "disk_ratio",
    "memory_ratio",
    "gpu_memory_ratio",
)
_POSITIVE = (
    "alert_min_events",
    "hung_minutes",
    "rollout_minutes",
    "gpu_celsius",
    "gpu_idle_percent",
    "replicas_above_usual",
    "traffic_above_usual",
)
_KNOWN_OR_ZERO = {
    **dict.fromkeys(("price_per_gpu_hour", "price_per_cpu_hour"), "price"),
    **dict.fromkeys(("reachable_cpus", "reachable_gpus"), "amount"),
}
_MOST = 100_000  # minutes, degrees, events, times the usual: more is a mistake
_MOST_KNOWN = 1e15
_BOUNDS = {
    "latency_ms": LATENCY_BUCKETS_MS,
    "router_wait_ms": LATENCY_BUCKETS_MS,
    "slow_start_ms": STARTUP_BUCKETS_MS,
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a team may want to change. The comment of each field says why."""

    # Change it when your scrape configuration names clusters by another label ("cluster", "ray_cluster").
    # KubeRay's PodMonitor writes ray_io_cluster. A Prometheus without the label works with any value.
    cluster_label: str = "ray_io_cluster"

    # Change it to labels that distinguish clusters of the same name: ["namespace"] where several namespaces of one
    # Kubernetes have a raycluster-kuberay, as KubeRay's Helm chart calls it. Every target of a cluster, the state
    # exporter's too, must carry the same value.
    extra_cluster_labels: tuple[str, ...] = ()

    # Change it to a target label that names the service and outlives its clusters: KubeRay creates a RayCluster with a
    # new name for each upgrade of a RayService. Error budgets, usual levels and what users see are then kept by this
    # label, not by the cluster (docs/alerts.md). Every cluster that serves must carry it.
    service_label: str = ""

    # Change it when your scrape jobs have other names: a regular expression of the jobs (label `job`) of Ray, the state
    # exporter and the log agents. Only their `up` is read, not that of every target in Prometheus; "" reads all.
    scrape_jobs: str = "(?i).*(ray|servescope|logs|fluent|otel|collector|kubernetes-pods).*"

    # Change it when your Prometheus scrapes Ray at another interval: recording rules use windows of four scrapes,
    # the shortest that still contains two samples when one scrape fails.
    scrape_interval_s: int = 15

    # Change them on a large fleet (docs/scale.md), to save resources: how often the recording rules of the dashboards
    # are evaluated, and the alerts that act within minutes. What is judged over longer times is evaluated every 60 or
    # 240 seconds anyway.
    recording_interval_s: int = 15
    alert_interval_s: int = 15

    # Change it when none of your deployments answers 429 (backpressure_config) or your own code returns 503 for
    # other reasons; every code in it is shown as back-pressure, separate from other errors.
    backpressure_codes: tuple[str, ...] = ("503", "429")

    # Change them to what you pay, in any currency, to see cost beside hours on the capacity dashboard; 0 turns it
    # off. The price of a GPU hour includes the node around it; price CPUs for deployments without a GPU.
    price_per_gpu_hour: float = 0.0
    price_per_cpu_hour: float = 0.0

    # Change them to what your cluster can grow to, summed over its node groups: the capacity dashboard then compares
    # what max_replicas allows with it. Ray reports no upper bound; 0 takes the resources of the current nodes.
    reachable_cpus: float = 0.0
    reachable_gpus: float = 0.0

    # Change it to open on another range: short enough to see an incident, long enough to see the level before it. The
    # dashboards of SLOs and of capacity, whose questions are longer, keep ranges of their own.
    dashboard_from: str = "now-1h"

    # Change it for wall displays ("10s") or to spare Prometheus ("1m"); Ray's own data change every 10 s.
    dashboard_refresh: str = "30s"

    # Change it to the address under which your team reads docs/runbooks; every alert links its page there. In it
    # `{alert}` becomes the alert's name: "https://docs.example.com/runbooks/{alert}.html" for the site that `make docs`
    # builds, "https://wiki.example.com/{alert}" for a wiki. Without `{alert}`, "/<name of the alert>.md" is added.
    runbook_url: str = "docs/runbooks"

    # Change it to the address of your Grafana ("https://grafana.example.com"), so that alerts link to their panel;
    # empty gives links that work inside Grafana.
    grafana_url: str = ""

    # Change it to the uid of your Prometheus datasource (part of the URL of its settings page) before you
    # provision alerts/grafana: unlike a dashboard, an alert rule cannot select its datasource.
    grafana_datasource_uid: str = "prometheus"

    # Change them to the teams that act on alerts: every alert then has a label `team`, which Alertmanager's routes can
    # match. `teams` maps an application's exact name to its team, default_team is that of all other applications, and
    # platform_team that of alerts without an application (nodes, head, monitoring); empty, it is default_team.
    teams: Mapping[str, str] = field(default_factory=dict, hash=False)
    default_team: str = ""
    platform_team: str = ""

    # Change it when your services have stricter or looser objectives: error ratio of an application (back-pressure
    # excluded) above which a ticket is opened (over 30 minutes), and above which somebody is paged (over 5 minutes).
    error_ratio_warning: float = 0.01
    error_ratio_critical: float = 0.05

    # Change it when your traffic is so low that ten failures in a window already matter; ratios of fewer
    # errors than this never alert.
    alert_min_events: int = 10

    # Change both when your users need faster responses or tolerate slower ones: the alert fires when more than this
    # share of an application's requests took longer. The bound must be one of the latency buckets.
    latency_ms: int = 5000
    latency_share: float = 0.05

    # Change it when your clients handle rejections: share of requests that back-pressure may reject.
    backpressure_ratio: float = 0.01

    # Change it when requests may wait longer for a replica (bound of a latency bucket).
    router_wait_ms: int = 500

    # Change it when your models take longer to load (bound of a start-up bucket).
    slow_start_ms: int = 120_000

    # Change it when single requests may take longer than this (minutes): in flight that long, none finished, is hung.
    hung_minutes: int = 10

    # Change it when a rollout of your largest deployment takes longer (minutes).
    rollout_minutes: int = 30

    # Change them to the limits of your nodes: shares in use, and degrees. Ray stops placing work at 95 % of a disk
    # and kills workers at 95 % of memory. vLLM fills a GPU to 90 % on purpose.
    disk_ratio: float = 0.85
    memory_ratio: float = 0.9
    gpu_memory_ratio: float = 0.97
    gpu_celsius: int = 85

    # Change it when your GPUs idle by design: a reserved GPU below this utilization (percent) for an hour is idle.
    gpu_idle_percent: int = 5

    # Change them when your load swings widely: how many times the usual level replicas or traffic must reach to alert.
    replicas_above_usual: float = 3.0
    traffic_above_usual: float = 5.0

    def __post_init__(self) -> None:
        self._check_identity()
        for name in ("scrape_interval_s", "recording_interval_s", "alert_interval_s"):
            if not 1 <= getattr(self, name) <= 60:
                raise ServescopeError(f"{name}: {getattr(self, name)} is not between 1 and 60 seconds")
        if not self.backpressure_codes:
            raise ServescopeError("backpressure_codes: empty; name at least one status code, such as 503")
        for code in self.backpressure_codes:
            if not re.fullmatch(r"[45][0-9][0-9]", code):
                raise ServescopeError(f"backpressure_codes: {code!r} is not an HTTP status code from 400 to 599")
        self._check_teams()
        for name in _SHARES:
            if not 0 < getattr(self, name) < 1:
                raise ServescopeError(f"{name}: {getattr(self, name)} is not a share between 0 and 1")
        for name in _POSITIVE:
            if not 1 <= getattr(self, name) <= _MOST:
                raise ServescopeError(f"{name}: {getattr(self, name)} is not between 1 and {_MOST}")
        for name in ("runbook_url", "grafana_url"):
            if reason := _unsafe_link(getattr(self, name)):
                raise ServescopeError(f"{name}: {reason}")
        for name, bounds in _BOUNDS.items():
            if getattr(self, name) not in bounds:
                raise ServescopeError(
                    f"{name}: {getattr(self, name)} is not a bucket bound; choose one of {', '.join(map(str, bounds))}"
                )
        for name, kind in _KNOWN_OR_ZERO.items():
            if not 0 <= getattr(self, name) < _MOST_KNOWN:
                raise ServescopeError(f"{name}: {getattr(self, name)} is not a {kind}; 0 means unknown")
        for name in ("runbook_url", "grafana_url", "grafana_datasource_uid"):
            if not getattr(self, name).isprintable() or "{{" in getattr(self, name):
                raise ServescopeError(f"{name}: {getattr(self, name)!r} contains a control character or '{{{{'")
        if not re.fullmatch(r"now-[1-9][0-9]{0,5}[smhd]", self.dashboard_from):
            raise ServescopeError(f"dashboard_from: expected the form now-1h, got {self.dashboard_from!r}")
        if self.dashboard_refresh and not re.fullmatch(r"[0-9]{1,6}[smh]", self.dashboard_refresh):
            raise ServescopeError(f"dashboard_refresh: expected the form 30s or '', got {self.dashboard_refresh!r}")

    def _check_identity(self) -> None:
        named = [("cluster_label", self.cluster_label)]
        named += [("extra_cluster_labels", label) for label in self.extra_cluster_labels]
        named += [("service_label", self.service_label)] if self.service_label else []
        for setting, label in named:
            if not _LABEL.fullmatch(label) or label.startswith("__"):
                raise ServescopeError(
                    f"{setting}: {label!r} is not a Prometheus label name (letters, digits and _, "
                    "not starting with a digit or with __)"
                )
            if label in _TAKEN_LABELS:
                raise ServescopeError(f"{setting}: {label!r} is a label of Ray's metrics; choose another one")
            if [other for _, other in named].count(label) > 1:
                raise ServescopeError(f"{setting}: {label!r} is named twice among the labels of clusters and services")
        if not _is_job_pattern(self.scrape_jobs):
            raise ServescopeError(
                f"scrape_jobs: {self.scrape_jobs!r} is not a regular expression of job names (letters, digits and "
                "_ . / : - | ( ) * ?, perhaps after (?i))"
            )

    def _check_teams(self) -> None:
        for application in self.teams:
            if not isinstance(application, str) or not application.strip():
                raise ServescopeError(f"teams: {application!r} is not an application's name (a text, not empty)")
            if not application.isprintable():
                raise ServescopeError(
                    f"teams: application {application!r} contains a line break or a control character"
                )
        if (self.teams or self.platform_team) and not self.default_team:
            raise ServescopeError("default_team: empty; set it beside teams or platform_team, for every other alert")
        named = {f"teams: application {application!r}": team for application, team in self.teams.items()}
        for name in ("default_team", "platform_team"):
            if getattr(self, name):
                named[name] = getattr(self, name)
        for name, team in named.items():
            if not isinstance(team, str) or not _TEAM.fullmatch(team):
                raise ServescopeError(f"{name}: {team!r} is not a team's name (letters, digits, _ . -)")

    @property
    def cluster_key(self) -> tuple[str, ...]:
        """The labels that identify a cluster, the cluster label first: what every join over clusters keeps."""
        return (self.cluster_label, *self.extra_cluster_labels, *((self.service_label,) if self.service_label else ()))

    @property
    def service_key(self) -> tuple[str, ...]:
        """The labels of what outlives a cluster: the service label where it is set, else those of the cluster."""
        return (self.service_label,) if self.service_label else self.cluster_key

    @property
    def all_teams(self) -> tuple[str, ...]:
        """Every team that is set, once, in the order of the settings."""
        named = (*self.teams.values(), self.default_team, self.platform_team)
        return tuple(dict.fromkeys(team for team in named if team))

    @property
    def priced(self) -> bool:
        """Whether prices are set."""
        return self.price_per_gpu_hour > 0 or self.price_per_cpu_hour > 0

    def runbook(self, alert: str) -> str:
        """The address of an alert's runbook page; `alert` may be a template that becomes the name."""
        address = self.runbook_url if "{alert}" in self.runbook_url else f"{self.runbook_url}/{{alert}}.md"
        return address.replace("{alert}", alert)

    @property
    def rate_window(self) -> str:
        """The range of rates in recording rules: four scrapes, at least one minute."""
        seconds = max(60, 4 * self.scrape_interval_s)
        return f"{seconds // 60}m" if seconds % 60 == 0 else f"{seconds}s"


def _is_job_pattern(text: str) -> bool:
    """Whether Prometheus takes it: less than Python does, whose possessive quantifiers and look-aheads RE2 lacks."""
    pattern = _JOB_PATTERN.fullmatch(text)
    try:
        return pattern is not None and "(?" not in pattern[1] and bool(re.compile(text))
    except re.error:
        return False


def _unsafe_link(address: str) -> str:
    """Why an address may not be a link of alerts and pages: another scheme could run a script; "" where it may."""
    if not address.isprintable() or any(character in address for character in " \\\"'<>"):
        return "holds a character that an address must percent-encode"
    scheme, colon, rest = address.partition(":")
    if not colon or "/" in scheme:  # a path, of the repository or below Grafana's address
        return "begins with //: give https:// or a path" if address.startswith("//") else ""
    host = rest.removeprefix("//").partition("/")[0]
    if scheme.lower() not in ("http", "https") or not rest.startswith("//") or not host:
        return f"{scheme}: is not a link of the form https://HOST/PATH, nor a path"
    return "holds a user or password, which everybody could read" if "@" in host else ""


def load(path: Path | None) -> Settings:
    """Read settings from a YAML file of `name: value` lines; None gives the defaults.

    Raises:
        ServescopeError: the file cannot be read, is not a mapping, or holds an unknown name or a bad value.
    """
    if path is None:
        return Settings()
    import yaml

    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ServescopeError(
            f"{path}: cannot read the settings ({getattr(error, 'strerror', None) or error})"
        ) from error
    # PyYAML lets pass what Python says of a date or a number that is none, and of too many levels.
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise ServescopeError(f"{path}: not YAML ({' '.join(str(error).split())})") from error
    try:
        return from_mapping(document or {})
    except ServescopeError as error:
        raise ServescopeError(f"{path}: {error}") from error


def from_mapping(document: Any) -> Settings:
    """Build settings from plain data, with a clear error for anything invalid.

    Raises:
        ServescopeError: not a mapping, an unknown name, or a value of another type.
    """
    if not isinstance(document, Mapping):
        raise ServescopeError("settings must be a mapping of names to values")
    defaults = Settings()
    known = {field.name for field in fields(Settings)}
    values: dict[str, Any] = {}
    for name, value in document.items():
        if name not in known:
            raise ServescopeError(f"unknown setting {name!r}; known: {', '.join(sorted(known))}")
        default = getattr(defaults, name)
        if isinstance(default, tuple) and isinstance(value, list):
            value = tuple(str(item) for item in value)
        if isinstance(default, float) and type(value) is int:
            value = float(value)
        if isinstance(value, bool) or not isinstance(value, type(default)):
            raise ServescopeError(f"{name}: expected {_TYPE_NAMES[type(default)]}, got {value!r}")
        values[name] = value
    return Settings(**values)


_TYPE_NAMES: dict[type, str] = {
    str: "a string",
    int: "an integer",
    float: "a number",
    tuple: "a list",
    dict: "a mapping",
}
