"""Limits, states, versions and resources from Serve's REST API, as Prometheus metrics.

One function reads the response of `GET /api/serve/applications/` and returns metric families. It validates everything:
a field that is missing, null or of another type gives no series, never a made-up figure, and unknown fields are
ignored. Texts that may contain users' secrets (messages, tracebacks, user_config, runtime_env) never become labels.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from prometheus_client import generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry

from servescope.catalog.values import APPLICATION_STATUS, DEPLOYMENT_STATUS, PROXY_STATUS
from servescope.errors import ServescopeError

JsonObject = Mapping[str, Any]

REPLICA_STATES = ("STARTING", "UPDATING", "RECOVERING", "RUNNING", "STOPPING", "PENDING_MIGRATION")
_STATE = re.compile(r"[A-Za-z0-9_-]{1,40}")
_CONFIG = "as in deployment_config of Serve's REST API"
_REST = "from Serve's REST API"


@dataclass(frozen=True)
class Number:
    """A figure of a deployment: metric name after `servescope_deployment_`, help, path in the response, minimum."""

    name: str
    help: str
    path: tuple[str, ...]
    _: KW_ONLY
    least: float = 0


_AUTOSCALING = ("deployment_config", "autoscaling_config")

NUMBERS = (
    Number(
        "min_replicas", f"Minimum replicas of an autoscaling deployment, {_CONFIG}.", (*_AUTOSCALING, "min_replicas")
    ),
    Number(
        "max_replicas", f"Maximum replicas of an autoscaling deployment, {_CONFIG}.", (*_AUTOSCALING, "max_replicas")
    ),
    Number(
        "initial_replicas",
        f"Initial replicas of an autoscaling deployment, if set, {_CONFIG}.",
        (*_AUTOSCALING, "initial_replicas"),
    ),
    Number(
        "target_ongoing_requests",
        f"Ongoing requests per replica that the autoscaler aims at, {_CONFIG}.",
        (*_AUTOSCALING, "target_ongoing_requests"),
    ),
    Number(
        "upscale_delay_seconds",
        f"How long demand must be high before scaling up, {_CONFIG}.",
        (*_AUTOSCALING, "upscale_delay_s"),
    ),
    Number(
        "downscale_delay_seconds",
        f"How long demand must be low before scaling down, {_CONFIG}.",
        (*_AUTOSCALING, "downscale_delay_s"),
    ),
    Number(
        "target_replicas",
        "Replicas that the controller wants now, from target_num_replicas of Serve's REST API.",
        ("target_num_replicas",),
    ),
    Number(
        "max_ongoing_requests",
        f"Maximum concurrent requests of a replica, {_CONFIG}.",
        ("deployment_config", "max_ongoing_requests"),
    ),
    Number(
        "max_queued_requests",
        f"Maximum queued requests at each caller (-1: no limit), {_CONFIG}.",
        ("deployment_config", "max_queued_requests"),
        least=-1,
    ),
    Number(
        "backpressure_status_code",
        f"HTTP status of requests rejected because a queue is full, {_CONFIG}.",
        ("deployment_config", "backpressure_config", "status_code"),
    ),
    Number(
        "rolling_update_percentage",
        f"Share of the replicas that a rolling update replaces at a time, 0 to 1, {_CONFIG}.",
        ("deployment_config", "rolling_update_percentage"),
    ),
    Number(
        "graceful_shutdown_timeout_seconds",
        f"How long a stopping replica may take to finish its requests, {_CONFIG}.",
        ("deployment_config", "graceful_shutdown_timeout_s"),
    ),
    Number(
        "health_check_period_seconds",
        f"Time between health checks of a replica, {_CONFIG}.",
        ("deployment_config", "health_check_period_s"),
    ),
    Number(
        "health_check_timeout_seconds",
        f"How long a health check may take, {_CONFIG}.",
        ("deployment_config", "health_check_timeout_s"),
    ),
)

# Metric name after `servescope_deployment_` -> Ray's resource name, help.
RESOURCES = {
    "replica_cpus": ("CPU", f"CPUs reserved per replica, including its placement group, {_REST}."),
    "replica_gpus": ("GPU", f"GPUs reserved per replica, including its placement group, {_REST}."),
    "replica_memory_bytes": ("memory", f"Memory reserved per replica, 0 if none, {_REST}."),
}


@dataclass(frozen=True)
class Detail:
    """Level of detail: `all_states` adds a 0 for every inactive state, `each_replica` a series per replica."""

    all_states: bool = False
    each_replica: bool = False

    def states(self, known: Iterable[str]) -> Iterable[str]:
        """The states that get a sample even when inactive."""
        return known if self.all_states else ()


@dataclass
class _Gauges:
    """The gauges under construction, by name without `servescope_`."""

    families: dict[str, GaugeMetricFamily] = field(default_factory=dict)

    def declare(self, name: str, help: str, *labels: str) -> None:
        self.families[name] = GaugeMetricFamily(f"servescope_{name}", help, labels=labels)

    def add(self, name: str, value: float | None, *labels: str) -> None:
        """One sample; none if the figure is unknown."""
        if value is not None:
            self.families[name].add_metric(labels, value)

    def states(self, name: str, present: Mapping[str, int], *labels: str, known: Iterable[str]) -> None:
        """A sample for each present state, and a 0 for the other states in `known`."""
        for state in known:
            if state not in present:
                self.add(name, 0, *labels, state)
        for state, count in present.items():
            self.add(name, count, *labels, state)


Markets = Mapping[str, str]


def markets_of(document: Any) -> Markets | None:
    """The market of each node, by node ID: "spot" or "on-demand" by its label ray.io/market-type, or "unknown".

    `document` is the response of `GET /api/v0/nodes`; None if it is not valid.
    """
    nodes = _at(document, ("data", "result", "result"))
    if not isinstance(nodes, list):
        return None
    found = {}
    for node in nodes:
        market = _at(node, ("labels", "ray.io/market-type"))
        name = _at(node, ("node_id",))
        if isinstance(name, str):
            found[name] = market if isinstance(market, str) and _STATE.fullmatch(market) else "unknown"
    return found


def families(document: Any, detail: Detail, markets: Markets | None = None) -> list[GaugeMetricFamily]:
    """Every metric from a response of the REST API; families without a sample are omitted.

    `markets` adds replicas by market; None omits them.

    Raises:
        ServescopeError: the document is not a response of Serve.
    """
    applications = document.get("applications") if isinstance(document, dict) else None
    if not isinstance(applications, dict):
        raise ServescopeError("the response has no `applications`: not Serve's REST API")
    gauges = _Gauges()
    _declare(gauges, detail)
    for name, application in _objects(applications):
        _application(gauges, name, application, detail=detail, markets=markets)
    proxies = Counter(_state(proxy.get("status")) for _, proxy in _objects(document.get("proxies")))
    gauges.states("proxies", proxies, known=detail.states(PROXY_STATUS.values()))
    return [family for family in gauges.families.values() if family.samples]


def text_format(collected: Iterable[Any]) -> bytes:
    """Metric families in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Collected(list(collected)))
    return generate_latest(registry)


@dataclass(eq=False)  # the registry requires hashable collectors
class _Collected(Collector):
    collected: list[Any]

    def collect(self) -> list[Any]:
        return self.collected

    def describe(self) -> list[Any]:
        return []  # so that the registry does not collect just for the names


def _declare(gauges: _Gauges, detail: Detail) -> None:
    both = ("application", "deployment")
    gauges.declare(
        "application_info", "Always 1; the route prefix as in Serve's REST API.", "application", "route_prefix"
    )
    gauges.declare("application_status", f"1 for the application's current status, {_REST}.", "application", "status")
    gauges.declare(
        "application_last_deployed_timestamp_seconds",
        "Unix time of the last deploy that named the application, changed or not, from Serve's REST API.",
        "application",
    )
    gauges.declare("deployment_status", f"1 for the deployment's current status, {_REST}.", *both, "status")
    gauges.declare(
        "deployment_config_info",
        f"Always 1; the fingerprint changes with the Serve config file, or with each deploy by a program, {_REST}, "
        "which does not show new code behind the same import path.",
        *both,
        "fingerprint",
    )
    gauges.declare("deployment_configured_replicas", f"num_replicas where it is fixed, {_CONFIG}.", *both)
    for number in NUMBERS:
        gauges.declare(f"deployment_{number.name}", number.help, *both)
    for name, (_, help) in RESOURCES.items():
        gauges.declare(f"deployment_{name}", help, *both)
    gauges.declare("deployment_replicas", "Replicas by state, from Serve's REST API.", *both, "state")
    gauges.declare(
        "deployment_unplaced_replicas",
        "Starting replicas that are not on a node yet: those without node_id in Serve's REST API.",
        *both,
    )
    gauges.declare(
        "deployment_market_replicas",
        "Replicas by the market of their node, from its label ray.io/market-type in Ray's REST API.",
        *both,
        "market_type",
    )
    if detail.each_replica:
        gauges.declare(
            "replica_start_time_seconds",
            "Unix time of the replica's start, from Serve's REST API.",
            *both,
            "replica",
            "node_ip",
            "state",
        )
    gauges.declare("proxies", "Proxies by status, from Serve's REST API.", "status")


def _application(
    gauges: _Gauges, name: str, application: JsonObject, *, detail: Detail, markets: Markets | None
) -> None:
    gauges.add("application_info", 1, name, _text(application.get("route_prefix")))
    status = Counter([_state(application["status"])]) if isinstance(application.get("status"), str) else {}
    gauges.states("application_status", status, name, known=detail.states(APPLICATION_STATUS.values()))
    gauges.add("application_last_deployed_timestamp_seconds", _number(application.get("last_deployed_time_s"), 1), name)
    prints = fingerprints(application)
    for deployment_name, deployment in _objects(application.get("deployments")):
        _deployment(gauges, (name, deployment_name), prints[deployment_name], deployment=deployment, detail=detail)
        if markets is not None:
            _by_market(gauges, (name, deployment_name), deployment, markets=markets)


def _by_market(gauges: _Gauges, labels: tuple[str, str], deployment: JsonObject, *, markets: Markets) -> None:
    nodes = [_text(_at(replica, ("node_id",))) for replica in _list(deployment.get("replicas"))]
    counts = Counter(markets.get(node, "unknown") for node in nodes if node)  # not on a node yet
    for market, count in counts.items():
        gauges.add("deployment_market_replicas", count, *labels, market)


def _deployment(
    gauges: _Gauges, labels: tuple[str, str], fingerprint: str, *, deployment: JsonObject, detail: Detail
) -> None:
    status = Counter([_state(deployment["status"])]) if isinstance(deployment.get("status"), str) else {}
    gauges.states("deployment_status", status, *labels, known=detail.states(DEPLOYMENT_STATUS.values()))
    for number in NUMBERS:
        gauges.add(f"deployment_{number.name}", _number(_at(deployment, number.path), number.least), *labels)
    config = deployment.get("deployment_config")
    if isinstance(config, dict):
        gauges.add("deployment_config_info", 1, *labels, fingerprint)
        if not config.get("autoscaling_config"):
            gauges.add("deployment_configured_replicas", _number(config.get("num_replicas"), 0), *labels)
    for name, (resource, _) in RESOURCES.items():
        gauges.add(f"deployment_{name}", _reserved(deployment, resource), *labels)
    replicas = [replica for replica in _list(deployment.get("replicas")) if isinstance(replica, dict)]
    states = Counter(_state(replica.get("state")) for replica in replicas)
    gauges.states("deployment_replicas", states, *labels, known=detail.states(REPLICA_STATES))
    if isinstance(deployment.get("replicas"), list):
        gauges.add("deployment_unplaced_replicas", sum(map(_unplaced, replicas)), *labels)
    if detail.each_replica:
        _each_replica(gauges, labels, replicas)


def _unplaced(replica: JsonObject) -> bool:
    """Whether no worker runs the replica yet; once one does, Ray reports its node, and the constructor starts."""
    return replica.get("state") == "STARTING" and replica.get("node_id") is None  # Ray omits unset fields


def _each_replica(gauges: _Gauges, labels: tuple[str, str], replicas: list[dict[str, Any]]) -> None:
    seen = set()
    for replica in replicas:
        name = _text(replica.get("replica_id"))
        if name and name not in seen:
            seen.add(name)
            more = (name, _text(replica.get("node_ip")), _state(replica.get("state")))
            gauges.add("replica_start_time_seconds", _number(replica.get("start_time_s"), 1), *labels, *more)


def fingerprints(application: JsonObject) -> dict[str, str]:
    """A short fingerprint for each deployment that changes once per change of what is deployed.

    A Serve config file is complete when it is submitted. For `serve.run` the response has the configuration and not the
    code, so every deploy counts as a change. Autoscaling never counts, nor does code that was replaced behind the same
    import path: nothing in Serve's response shows it.
    """
    deployments = dict(_objects(application.get("deployments")))
    submitted = application.get("deployed_app_config")
    if isinstance(submitted, dict):
        common = _canonical({key: value for key, value in submitted.items() if key != "deployments"})
        own: dict[str, list[Any]] = {}
        for one in _list(submitted.get("deployments")):
            own.setdefault(_text(_at(one, ("name",))), []).append(one)
        parts = {name: f"[{common}, {_canonical(own.get(name, []))}]" for name in deployments}
    else:
        deployed = application.get("last_deployed_time_s")
        parts = {name: _canonical([one.get("deployment_config"), deployed]) for name, one in deployments.items()}
    return {name: hashlib.sha256(text.encode()).hexdigest()[:12] for name, text in parts.items()}


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _reserved(deployment: JsonObject, resource: str) -> float | None:
    """What one replica reserves of a resource; the bundles of a placement group include the actor's own share."""
    bundles = _list(_at(deployment, ("deployment_config", "placement_group_bundles")))
    total = 0.0
    for bundle in bundles or [deployment.get("required_resources")]:
        amount = _number(bundle.get(resource, 0), 0) if isinstance(bundle, dict) else None
        if amount is None:
            return None
        total += amount
    return total if math.isfinite(total) else None


# ---------------------------------------------------------------------------------------------------------------------
# Reading untrusted JSON


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _objects(value: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """The members of a JSON object that are objects."""
    for name, member in value.items() if isinstance(value, dict) else ():
        if isinstance(member, dict):
            yield _text(name), member


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _number(value: Any, least: float) -> float | None:
    """A finite number not below `least`; None for everything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) and number >= least else None


def _text(value: Any) -> str:
    """A string that can be encoded as UTF-8, which JSON's strings need not be; "" for anything else."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else ""


def _state(value: Any) -> str:
    """A state by Ray's name, including ones newer than this code; OTHER for anything that is not a name."""
    return value if isinstance(value, str) and _STATE.fullmatch(value) else "OTHER"
