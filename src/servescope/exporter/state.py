"""What Serve's REST API tells and Ray's metrics do not: limits, states, versions, resources, as Prometheus metrics.

One function reads the document of `GET /api/serve/applications/` and gives metric families. It trusts nothing: a field
that is missing, null or of another type gives no series, never a made-up figure, and whatever is new in the document is
left alone. Texts that may hold users' secrets (messages, tracebacks, user_config, runtime_env) never become labels.
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
    """A figure of a deployment: metric name after `servescope_deployment_`, help, where it stands, its least value."""

    name: str
    help: str
    path: tuple[str, ...]
    _: KW_ONLY
    least: float = 0


_AUTOSCALING = ("deployment_config", "autoscaling_config")

NUMBERS = (
    Number(
        "min_replicas", f"Fewest replicas of an autoscaling deployment, {_CONFIG}.", (*_AUTOSCALING, "min_replicas")
    ),
    Number("max_replicas", f"Most replicas of an autoscaling deployment, {_CONFIG}.", (*_AUTOSCALING, "max_replicas")),
    Number(
        "initial_replicas",
        f"Replicas that an autoscaling deployment starts with, where set, {_CONFIG}.",
        (*_AUTOSCALING, "initial_replicas"),
    ),
    Number(
        "target_ongoing_requests",
        f"Requests that the autoscaler wants each replica to carry, {_CONFIG}.",
        (*_AUTOSCALING, "target_ongoing_requests"),
    ),
    Number(
        "upscale_delay_seconds",
        f"How long demand must be high before replicas are added, {_CONFIG}.",
        (*_AUTOSCALING, "upscale_delay_s"),
    ),
    Number(
        "downscale_delay_seconds",
        f"How long demand must be low before replicas are removed, {_CONFIG}.",
        (*_AUTOSCALING, "downscale_delay_s"),
    ),
    Number(
        "target_replicas",
        "Replicas that the controller wants now, from target_num_replicas of Serve's REST API.",
        ("target_num_replicas",),
    ),
    Number(
        "max_ongoing_requests",
        f"Requests that one replica takes at once, {_CONFIG}.",
        ("deployment_config", "max_ongoing_requests"),
    ),
    Number(
        "max_queued_requests",
        f"Requests that may wait at each caller (-1: no limit), {_CONFIG}.",
        ("deployment_config", "max_queued_requests"),
        least=-1,
    ),
    Number(
        "backpressure_status_code",
        f"HTTP status of requests turned away because a queue is full, {_CONFIG}.",
        ("deployment_config", "backpressure_config", "status_code"),
    ),
    Number(
        "rolling_update_percentage",
        f"Share of the replicas that a rolling update replaces at once, 0 to 1, {_CONFIG}.",
        ("deployment_config", "rolling_update_percentage"),
    ),
    Number(
        "graceful_shutdown_timeout_seconds",
        f"How long a stopping replica may finish its requests, {_CONFIG}.",
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

# Metric name after `servescope_deployment_` -> Ray's name of the resource, help.
RESOURCES = {
    "replica_cpus": ("CPU", f"CPUs that each replica reserves, its placement group included, {_REST}."),
    "replica_gpus": ("GPU", f"GPUs that each replica reserves, its placement group included, {_REST}."),
    "replica_memory_bytes": ("memory", f"Memory that each replica reserves, 0 when it reserves none, {_REST}."),
}


@dataclass(frozen=True)
class Detail:
    """How much is told: `all_states` adds a 0 for every state that is not the present one, `each_replica` a series
    for each replica."""

    all_states: bool = False
    each_replica: bool = False

    def states(self, known: Iterable[str]) -> Iterable[str]:
        """The states that get a sample even where they are not present."""
        return known if self.all_states else ()


@dataclass
class _Gauges:
    """Gauges in the making, by name without `servescope_`."""

    families: dict[str, GaugeMetricFamily] = field(default_factory=dict)

    def declare(self, name: str, help: str, *labels: str) -> None:
        self.families[name] = GaugeMetricFamily(f"servescope_{name}", help, labels=labels)

    def add(self, name: str, value: float | None, *labels: str) -> None:
        """One sample; none where the figure is not known."""
        if value is not None:
            self.families[name].add_metric(labels, value)

    def states(self, name: str, present: Mapping[str, int], *labels: str, known: Iterable[str]) -> None:
        """A sample for each state that is present, and for every state in `known`: those that are asked for."""
        for state in known:
            if state not in present:
                self.add(name, 0, *labels, state)
        for state, count in present.items():
            self.add(name, count, *labels, state)


Markets = Mapping[str, str]


def markets_of(document: Any) -> Markets | None:
    """How each node is paid for, by node id: "spot" or "on-demand" as its label ray.io/market-type says, or "unknown".

    `document` is the answer of `GET /api/v0/nodes`; None where it is none.
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
    """Every metric that a document of the REST API gives; families without a sample are left out.

    `markets` tells replicas by market; None leaves that out.

    Raises:
        ServescopeError: the document is not an answer of Serve at all.
    """
    applications = document.get("applications") if isinstance(document, dict) else None
    if not isinstance(applications, dict):
        raise ServescopeError("the answer has no `applications`: not Serve's REST API")
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


@dataclass(eq=False)  # the registry wants something hashable
class _Collected(Collector):
    collected: list[Any]

    def collect(self) -> list[Any]:
        return self.collected

    def describe(self) -> list[Any]:
        return []  # so that the registry does not collect in order to learn the names


def _declare(gauges: _Gauges, detail: Detail) -> None:
    both = ("application", "deployment")
    gauges.declare("application_info", "1; the route prefix as in Serve's REST API.", "application", "route_prefix")
    gauges.declare("application_status", f"1 for the application's present status, {_REST}.", "application", "status")
    gauges.declare(
        "application_last_deployed_timestamp_seconds",
        "Unix time of the last deploy that named the application, changed or not, from Serve's REST API.",
        "application",
    )
    gauges.declare("deployment_status", f"1 for the deployment's present status, {_REST}.", *both, "status")
    gauges.declare(
        "deployment_config_info",
        f"1; the fingerprint changes when what was deployed does: the Serve config file, or each deploy by a program, "
        f"{_REST}, which does not tell new code behind the same import path.",
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
        "Starting replicas that no node has taken yet: those without node_id in Serve's REST API.",
        *both,
    )
    gauges.declare(
        "deployment_market_replicas",
        "Replicas by how their node is paid for, from its label ray.io/market-type in Ray's REST API.",
        *both,
        "market_type",
    )
    if detail.each_replica:
        gauges.declare(
            "replica_start_time_seconds",
            "Unix time at which the replica was started, from Serve's REST API.",
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
    counts = Counter(markets.get(node, "unknown") for node in nodes if node)  # not placed yet: on no node
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
    """Whether no worker runs the replica yet; once one does, Ray names its node, and the constructor's time begins."""
    return replica.get("state") == "STARTING" and replica.get("node_id") is None  # Ray leaves out what is not set


def _each_replica(gauges: _Gauges, labels: tuple[str, str], replicas: list[dict[str, Any]]) -> None:
    seen = set()
    for replica in replicas:
        name = _text(replica.get("replica_id"))
        if name and name not in seen:
            seen.add(name)
            more = (name, _text(replica.get("node_ip")), _state(replica.get("state")))
            gauges.add("replica_start_time_seconds", _number(replica.get("start_time_s"), 1), *labels, *more)


def fingerprints(application: JsonObject) -> dict[str, str]:
    """For each deployment a few characters that change once when what was deployed changes.

    A Serve config file says all there is to know the moment it is submitted. What `serve.run` deployed tells its
    configuration and not its code, so there every deploy counts as a change. What the autoscaler does never counts, nor
    does code that was replaced behind the same import path: nothing in Serve's answer tells it.
    """
    deployments = dict(_objects(application.get("deployments")))
    submitted = application.get("deployed_app_config")
    if isinstance(submitted, dict):
        common = _canonical({key: value for key, value in submitted.items() if key != "deployments"})
        own: dict[str, list[Any]] = {}
        for one in _list(submitted.get("deployments")):
            own.setdefault(_text(_at(one, ("name",))), []).append(one)
        told = {name: f"[{common}, {_canonical(own.get(name, []))}]" for name in deployments}
    else:
        deployed = application.get("last_deployed_time_s")
        told = {name: _canonical([one.get("deployment_config"), deployed]) for name, one in deployments.items()}
    return {name: hashlib.sha256(text.encode()).hexdigest()[:12] for name, text in told.items()}


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _reserved(deployment: JsonObject, resource: str) -> float | None:
    """What one replica reserves of a resource; the bundles of a placement group hold its actor's own share."""
    bundles = _list(_at(deployment, ("deployment_config", "placement_group_bundles")))
    total = 0.0
    for bundle in bundles or [deployment.get("required_resources")]:
        amount = _number(bundle.get(resource, 0), 0) if isinstance(bundle, dict) else None
        if amount is None:
            return None
        total += amount
    return total if math.isfinite(total) else None


# ---------------------------------------------------------------------------------------------------------------------
# Reading without trust


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _objects(value: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """The members of a JSON object that are objects themselves."""
    for name, member in value.items() if isinstance(value, dict) else ():
        if isinstance(member, dict):
            yield _text(name), member


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _number(value: Any, least: float) -> float | None:
    """A finite number that is not below the least one that makes sense; None for everything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) and number >= least else None


def _text(value: Any) -> str:
    """A text that can be written as UTF-8, which JSON's text need not be; "" for what is no text."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else ""


def _state(value: Any) -> str:
    """A state as Ray names it, also one that is newer than this code; whatever is no name is OTHER."""
    return value if isinstance(value, str) and _STATE.fullmatch(value) else "OTHER"
