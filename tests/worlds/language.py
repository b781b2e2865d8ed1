"""The language of worlds: series over time, and the clusters that report them.

A series has one value for each scrape. `promtool_input` and `pushed` write the same series for promtool's unit
tests and for a real store, so that both are asked about the same world. Times are minutes from the world's start.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from math import inf

from servescope import __version__
from servescope.settings import Settings

SCRAPE_S = 15
SCRAPES_A_MINUTE = 60 // SCRAPE_S

_WORD = re.compile(r"(?P<value>_|-?[0-9.e]+)(?P<growth>[+-][0-9.e]+)?(?:x(?P<times>\d+))?")
_LABEL = re.compile(r'(\w+)="((?:\\.|[^"\\])*)"')


@dataclass(frozen=True)
class Series:
    """One series: its name, its labels, and a value for each scrape from the world's start; None is no sample."""

    name: str
    labels: Mapping[str, str]
    values: tuple[float | None, ...]

    def relabelled(self, **labels: str) -> Series:
        """The same with other labels; one that is "" is dropped."""
        kept = {label: value for label, value in {**self.labels, **labels}.items() if value}
        return replace(self, labels=kept)

    def between(self, start: float, end: float) -> Series:
        """Only the samples of these minutes, the first included."""
        first, last = start * SCRAPES_A_MINUTE, end * SCRAPES_A_MINUTE
        return replace(self, values=tuple(v if first <= i < last else None for i, v in enumerate(self.values)))

    @property
    def text(self) -> str:
        """The series as PromQL writes it."""
        inside = ",".join(f'{label}="{escaped(value)}"' for label, value in sorted(self.labels.items()))
        return f"{self.name}{{{inside}}}"


def escaped(value: str) -> str:
    """A label's value as it stands between quotes."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A Ray cluster that serves one application with one deployment, and what Prometheus has of it.

    It is scraped from minute `born` to `dies`; its application is RUNNING from `runs_from` on and gets `requests` per
    scrape from then on, of which `failing` fail from `fails_from` on. Its counters hold what it answered in the `past`
    scrapes before it was born. `labels` are what the scrape adds; without `up` the store does not hold that series.
    """

    name: str = "a"
    labels: Mapping[str, str] = field(default_factory=dict)
    address: str = "10.0.0.1"
    born: float = 0
    dies: float = inf
    runs_from: float = 0
    serves: bool = True
    application: str = "shop"
    deployment: str = "Front"
    wanted: int = 2
    healthy: int = 2
    requests: float = 150
    failing: float = 0
    fails_from: float = 0
    slow: float = 0
    past: int = 0
    up: bool = True
    exporter: bool = True

    def series(self, minutes: float) -> list[Series]:
        """What is stored of it in a world of so many minutes."""
        length = int(minutes * SCRAPES_A_MINUTE) + 1
        first, last = self.born * SCRAPES_A_MINUTE, self.dies * SCRAPES_A_MINUTE
        target = {"ray_io_cluster": self.name, "job": "ray", "instance": f"{self.address}:8080", **self.labels}
        session = {"SessionName": f"session_{self.name}_{self.born:g}"}

        def one(name: str, value: Callable[[float], float], *, since: float = self.born, **labels: str) -> Series:
            start = since * SCRAPES_A_MINUTE
            values = (value(i - start) if max(first, start) <= i < last else None for i in range(length))
            return Series(name, {**target, **session, **labels}, tuple(values))

        def gauge(name: str, value: float, **labels: str) -> Series:
            return one(name, lambda _: value, **labels)

        found = [
            gauge("ray_node_cpu_utilization", 20, ip=self.address, IsHeadNode="true", RayNodeType="head"),
            gauge("ray_node_cpu_count", 8, ip=self.address, IsHeadNode="true", RayNodeType="head"),
            gauge("ray_node_mem_used", 40, ip=self.address),
            gauge("ray_node_mem_total", 100, ip=self.address),
            gauge("ray_node_disk_utilization_percentage", 40, ip=self.address),
            gauge("ray_object_store_memory", 1, Location="MMAP_SHM", NodeAddress=self.address),
            gauge("ray_gcs_actors_count", 5, State="Created", Component="gcs_server"),
        ]
        if self.up:
            found.append(replace(gauge("up", 1).relabelled(SessionName=""), name="up"))
        if self.serves:
            found += self._serve(one)
        if self.serves and self.exporter:
            found += self._exporter(one)
        return found

    def _serve(self, one: Callable[..., Series]) -> Iterator[Series]:
        """What Serve's controller, proxies and replicas report."""
        who = {"application": self.application, "deployment": self.deployment}
        proxy = {"WorkerId": "p", "NodeAddress": self.address}
        starting = (self.runs_from - self.born) * SCRAPES_A_MINUTE

        def status(starts: float, runs: float) -> Callable[[float], float]:
            return lambda age: starts if age < starting else runs

        yield one("ray_serve_application_status", status(5, 6), application=self.application)
        yield one("ray_serve_deployment_status", status(3, 6), **who)
        yield one("ray_serve_autoscaling_target_replicas", lambda _: self.wanted, **who)
        yield one("ray_serve_controller_num_control_loops", lambda age: 130 * age, actor_id="c")
        yield one("ray_serve_proxy_status", lambda _: 2, node_id="n", node_ip_address=self.address)
        loops = {"component": "proxy", "loop_type": "main", "actor_id": "p"}
        yield one("ray_serve_event_loop_monitoring_iterations_total", lambda age: 3 * age, **loops, **proxy)
        if self.runs_from == inf:
            return
        since = {"since": self.runs_from}
        bad_from = (self.fails_from - self.runs_from) * SCRAPES_A_MINUTE

        def counted(share: float) -> Callable[[float], float]:
            return lambda age: share * self.requests * (age + self.past + 1)

        def good(age: float) -> float:
            return counted(1)(age) - bad(age)

        def bad(age: float) -> float:
            return max(0.0, self.failing * self.requests * (age - max(bad_from, -self.past - 1)))

        def within(bound: float) -> Callable[[float], float]:
            return counted(1 if bound > 60_000 else 1 - self.slow)

        at_proxy = {"application": self.application, "route": "/", "method": "GET", **proxy}
        for code, count in (("200", good), ("500", bad)) if self.failing else (("200", good),):
            born = {"since": max(self.runs_from, self.fails_from)} if code == "500" and bad_from > 0 else since
            shift = 0 if born is since else bad_from + 1
            yield one(
                "ray_serve_num_http_requests_total",
                lambda age, count=count, shift=shift: count(age + shift),
                **born,
                **at_proxy,
                status_code=code,
            )
        for bound in ("100", "500", "1000", "5000", "60000", "+Inf"):
            value = within(float(bound.replace("+Inf", "inf")))
            at_bound = {"le": bound, **since}
            yield one("ray_serve_http_request_latency_ms_bucket", value, status_code="200", **at_proxy, **at_bound)
            processed = {**who, "route": "/", "replica": "r0", "WorkerId": "w0"}
            yield one("ray_serve_deployment_processing_latency_ms_bucket", value, **processed, **at_bound)
            routed = {**who, "actor_id": "p", "handle_source": "PROXY", **proxy}
            yield one("ray_serve_request_router_fulfillment_time_ms_bucket", counted(1), **routed, **at_bound)
        yield one("ray_serve_http_request_latency_ms_count", counted(1), status_code="200", **at_proxy, **since)
        yield one(
            "ray_serve_request_router_fulfillment_time_ms_count",
            counted(1),
            **who,
            actor_id="p",
            handle_source="PROXY",
            **proxy,
            **since,
        )
        yield one("ray_serve_autoscaling_total_requests", lambda _: 2, **who, **since)
        yield one("ray_serve_autoscaling_target_ongoing_requests", lambda _: 2, **who, **since)
        yield one("ray_serve_deployment_queued_queries", lambda _: 0, **who, handle="h", actor_id="p", **since)
        yield one("ray_serve_replica_startup_latency_ms_count", lambda _: self.healthy, **who, **since)
        for number in range(self.healthy):
            replica = {**who, "replica": f"r{number}", "WorkerId": f"w{number}"}
            share = counted(1 / self.healthy)
            yield one("ray_serve_deployment_replica_healthy", lambda _: 1, **who, replica=f"r{number}", **since)
            yield one("ray_serve_replica_processing_queries", lambda _: 1, **replica, **since)
            yield one("ray_serve_deployment_request_counter_total", share, route="/", **replica, **since)
            yield one("ray_serve_deployment_processing_latency_ms_count", share, route="/", **replica, **since)

    def _exporter(self, one: Callable[..., Series]) -> Iterator[Series]:
        """What the state exporter reports, from a target of its own."""
        who = {"application": self.application, "deployment": self.deployment}
        target = {"instance": f"{self.address}:9475", "job": "servescope", "SessionName": ""}
        figures = {"max_ongoing_requests": 5, "max_queued_requests": 100, "configured_replicas": self.wanted}
        for name, value in figures.items():
            yield one(f"servescope_deployment_{name}", lambda _, value=value: value, **who).relabelled(**target)
        info = one("servescope_deployment_config_info", lambda _: 1, **who, fingerprint="f1")
        yield info.relabelled(**target)
        yield one("servescope_exporter_data_age_seconds", lambda _: 1).relabelled(**target)
        yield one("servescope_exporter_up", lambda _: 1).relabelled(**target)
        yield one("servescope_exporter_build_info", lambda _: 1, version=__version__).relabelled(**target)
        if self.up:
            yield one("up", lambda _: 1).relabelled(**target)


@dataclass(frozen=True, kw_only=True)
class World:
    """A world and what is right in it.

    `must` names the alerts that must fire before it ends, `may` those that may; every other one must not fire, at any
    time. `figures` maps an expression to its value at the end, None for no answer; `shows` a panel (uid and title) to
    the values of its first query there, in any order.
    """

    name: str
    right: str
    minutes: float
    series: Sequence[Series]
    must: frozenset[str] = frozenset()
    may: frozenset[str] = frozenset()
    figures: Mapping[str, float | None] = field(default_factory=dict)
    shows: Mapping[tuple[str, str], tuple[float, ...]] = field(default_factory=dict)
    settings: Settings = field(default_factory=Settings)


def changed_at(minute: float, series: Iterable[Series], change: Callable[[Series], Series]) -> list[Series]:
    """Series that go on under other labels from a minute on, with the values that they have anyway."""
    found: list[Series] = []
    for one in series:
        other = change(one)
        found += [one] if other.labels == one.labels else [one.between(0, minute), other.between(minute, inf)]
    return found


def read(text: str, values: str, *, minutes: float) -> Series:
    """A series in promtool's notation; words that fall beyond the world's end are left out."""
    name, _, inside = text.rstrip("}").partition("{")
    length = int(minutes * SCRAPES_A_MINUTE) + 1
    found: list[float | None] = []
    for word in values.split():
        match = _WORD.fullmatch(word)
        assert match is not None, f"{text}: {word!r} is not promtool's notation"
        times = int(match["times"] or 0)
        if match["value"] == "_":
            found += [None] * (times or 1)
            continue
        first, growth = float(match["value"]), float(match["growth"] or 0)
        found += [first + growth * i for i in range(times + 1)]
    found = (found + [None] * length)[:length]
    return Series(name, dict(_LABEL.findall(inside)), tuple(found))


def promtool_input(series: Iterable[Series]) -> list[dict[str, str]]:
    """`input_series` of promtool's unit tests, with an interval of one scrape."""
    return [{"series": one.text, "values": _notation(one.values)} for one in series]


def _notation(values: Iterable[float | None]) -> str:
    """Promtool's notation, with repeated values written once."""
    words = []
    for value, repeated in groupby(values):
        times = sum(1 for _ in repeated)
        if value is None:
            words.append(f"_x{times}")
        else:
            words.append(f"{value!r}x{times - 1}" if times > 1 else repr(value))
    return " ".join(words)


def pushed(series: Iterable[Series], start: int) -> Iterator[tuple[dict[str, str], list[tuple[int, float | None]]]]:
    """The samples for a real store, from `start` on (unix seconds): labels, and a value or None for each scrape."""
    for one in series:
        yield {"__name__": one.name, **one.labels}, [(start + i * SCRAPE_S, v) for i, v in enumerate(one.values)]
