"""The settings of everything that is generated: one frozen object, read from a YAML file or left at its defaults."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from servescope.catalog.values import LATENCY_BUCKETS_MS, STARTUP_BUCKETS_MS
from servescope.errors import ServescopeError

_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
# Labels with a meaning of their own: a cluster label of the same name would merge what must stay apart.
_TAKEN_LABELS = frozenset(
    {"application", "deployment", "replica", "route", "method", "status_code", "instance", "job", "le"}
)
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
_BOUNDS = {
    "latency_ms": LATENCY_BUCKETS_MS,
    "router_wait_ms": LATENCY_BUCKETS_MS,
    "slow_start_ms": STARTUP_BUCKETS_MS,
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a team may want to change. Every field says why one would change it."""

    # Change it when your scrape configuration names clusters by another label ("cluster", "ray_cluster").
    # KubeRay's PodMonitor writes ray_io_cluster. A Prometheus without the label works with any value.
    cluster_label: str = "ray_io_cluster"

    # Change it when your Prometheus scrapes Ray at another interval: recording rules use windows of four scrapes,
    # the least that still holds two samples when one scrape fails.
    scrape_interval_s: int = 15

    # Change it when recording rules shall be evaluated less often than the scrape, to save cost.
    evaluation_interval_s: int = 15

    # Change it when none of your deployments answers 429 (backpressure_config) or your own code returns 503 for
    # reasons of its own; every code in it is shown as back-pressure, apart from other failures.
    backpressure_codes: tuple[str, ...] = ("503", "429")

    # Change them to what you pay, in any currency, to see money beside hours on the capacity dashboard; 0 leaves it
    # off. The price of a GPU hour holds the node around it; price CPUs for deployments without a GPU.
    price_per_gpu_hour: float = 0.0
    price_per_cpu_hour: float = 0.0

    # Change them to what your cluster can grow to, summed over its node groups: the capacity dashboard then holds what
    # max_replicas allows against it. Ray tells no upper bound; 0 takes what the nodes have now.
    reachable_cpus: float = 0.0
    reachable_gpus: float = 0.0

    # Change it to open on another range: short enough to see an incident, long enough to see what it departs from.
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

    # Change it to the uid of your Prometheus datasource (it stands in the address of its settings page) before you
    # provision alerts/grafana: unlike a dashboard, an alert rule cannot ask for its datasource.
    grafana_datasource_uid: str = "prometheus"

    # Change it when your services promise more or less: share of an application's requests that may end in a 5xx
    # (back-pressure apart) over half an hour before a ticket is opened, and over five minutes before somebody is paged.
    error_ratio_warning: float = 0.01
    error_ratio_critical: float = 0.05

    # Change it when your traffic is so low that ten failures in a window would already be a bad day; ratios of fewer
    # failures than this raise nothing.
    alert_min_events: int = 10

    # Change both when your users expect an answer sooner or later: the alert says that more than this share of an
    # application's requests took longer. The bound must be one of the latency buckets.
    latency_ms: int = 5000
    latency_share: float = 0.05

    # Change it when callers are built to be refused: share of requests that back-pressure may turn away.
    backpressure_ratio: float = 0.01

    # Change it when requests may wait longer for a replica (bound of a latency bucket).
    router_wait_ms: int = 500

    # Change it when your models take long to load (bound of a start-up bucket).
    slow_start_ms: int = 120_000

    # Change it when single requests may take longer than this (minutes): in flight that long with none finished hangs.
    hung_minutes: int = 10

    # Change it when a rollout of your largest deployment takes longer (minutes).
    rollout_minutes: int = 30

    # Change them to the watermarks of your nodes: shares in use, and degrees. Ray stops placing work at 95 % of a disk
    # and kills workers at 95 % of memory. vLLM fills a GPU to 90 % on purpose.
    disk_ratio: float = 0.85
    memory_ratio: float = 0.9
    gpu_memory_ratio: float = 0.97
    gpu_celsius: int = 85

    # Change it when your GPUs wait by design: a reserved GPU below this use (percent) for an hour counts as idle.
    gpu_idle_percent: int = 5

    # Change them when your load swings widely: how many times the usual level replicas or traffic must be to be told.
    replicas_above_usual: float = 3.0
    traffic_above_usual: float = 5.0

    def __post_init__(self) -> None:
        if not _LABEL.fullmatch(self.cluster_label) or self.cluster_label.startswith("__"):
            raise ServescopeError(
                f"cluster_label: {self.cluster_label!r} is no Prometheus label name (letters, digits and _, "
                "not starting with a digit or with __)"
            )
        if self.cluster_label in _TAKEN_LABELS:
            raise ServescopeError(
                f"cluster_label: {self.cluster_label!r} has a meaning of its own in Ray's metrics; choose another label"
            )
        for name in ("scrape_interval_s", "evaluation_interval_s"):
            if not 1 <= getattr(self, name) <= 60:
                raise ServescopeError(f"{name}: {getattr(self, name)} is not between 1 and 60 seconds")
        if not self.backpressure_codes:
            raise ServescopeError("backpressure_codes: empty; name at least one status code, such as 503")
        for code in self.backpressure_codes:
            if not re.fullmatch(r"[45]\d\d", code):
                raise ServescopeError(f"backpressure_codes: {code!r} is no HTTP status code between 400 and 599")
        for name in _SHARES:
            if not 0 < getattr(self, name) < 1:
                raise ServescopeError(f"{name}: {getattr(self, name)} is no share between 0 and 1")
        for name in _POSITIVE:
            if getattr(self, name) < 1:
                raise ServescopeError(f"{name}: {getattr(self, name)} is below 1")
            if not getattr(self, name) < math.inf:
                raise ServescopeError(f"{name}: {getattr(self, name)} is not a finite number")
        for name in ("runbook_url", "grafana_url"):
            if reason := _unsafe_link(getattr(self, name)):
                raise ServescopeError(f"{name}: {reason}")
        for name, bounds in _BOUNDS.items():
            if getattr(self, name) not in bounds:
                raise ServescopeError(
                    f"{name}: {getattr(self, name)} is no bucket bound; choose one of {', '.join(map(str, bounds))}"
                )
        for name, kind in _KNOWN_OR_ZERO.items():
            if not 0 <= getattr(self, name) < math.inf:
                raise ServescopeError(f"{name}: {getattr(self, name)} is no {kind}; 0 means that none is known")
        if not re.fullmatch(r"now-0*[1-9]\d*[smhd]", self.dashboard_from):
            raise ServescopeError(f"dashboard_from: {self.dashboard_from!r} is not of the form now-1h")
        if self.dashboard_refresh and not re.fullmatch(r"\d+[smh]", self.dashboard_refresh):
            raise ServescopeError(f"dashboard_refresh: {self.dashboard_refresh!r} is not of the form 30s (or empty)")

    @property
    def priced(self) -> bool:
        """Whether there is a price table."""
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
    except yaml.YAMLError as error:
        raise ServescopeError(f"{path}: not YAML ({' '.join(str(error).split())})") from error
    try:
        return from_mapping(document or {})
    except ServescopeError as error:
        raise ServescopeError(f"{path}: {error}") from error


def from_mapping(document: Any) -> Settings:
    """Build settings from plain data, with a clear word for whatever does not fit.

    Raises:
        ServescopeError: not a mapping, an unknown name, or a value of another type.
    """
    if not isinstance(document, Mapping):
        raise ServescopeError("settings must be a mapping of names to values")
    known = {field.name: field for field in fields(Settings)}
    values: dict[str, Any] = {}
    for name, value in document.items():
        if name not in known:
            raise ServescopeError(f"unknown setting {name!r}; known: {', '.join(sorted(known))}")
        default = known[name].default
        if isinstance(default, tuple) and isinstance(value, list):
            value = tuple(str(item) for item in value)
        if isinstance(default, float) and type(value) is int:
            value = float(value)
        if isinstance(value, bool) or not isinstance(value, type(default)):
            raise ServescopeError(f"{name}: {value!r} is not a {_TYPE_NAMES[type(default)]}")
        values[name] = value
    return Settings(**values)


_TYPE_NAMES: dict[type, str] = {str: "text", int: "whole number", float: "number", tuple: "list"}
