"""The PromQL building blocks of the alerts' expressions."""

from __future__ import annotations

from dataclasses import dataclass, replace

from servescope import promql
from servescope.catalog.values import APPLICATION_STATUS
from servescope.errors import ServescopeError
from servescope.promql import DEPLOYMENT, Labels, Scope
from servescope.promql.figures import Figure
from servescope.settings import Settings

RUNNING = next(code for code, name in APPLICATION_STATUS.items() if name == "RUNNING")


@dataclass(frozen=True)
class Expressions:
    """Building blocks over every series of every cluster, with one installation's settings.

    All of them tolerate a failed scrape: no gauge is read without a range. Further matchers are written with their
    operator: `exprs.now("up", job='="ray"')`. `labels` are those kept besides the cluster label. With `recorded`,
    figures are read from what the rules of the alerts' groups recorded, otherwise from Ray's own series.
    """

    settings: Settings
    recorded: bool = False
    judged_by_service: bool = False

    @property
    def scope(self) -> Scope:
        """Every series of every cluster."""
        return Scope.of(self.settings)

    @property
    def by_service(self) -> Expressions:
        """The same blocks, totalled by what outlives a cluster: the service label where one is set."""
        return replace(self, judged_by_service=True)

    @property
    def key(self) -> str:
        """The labels of a cluster, or of a service, as they stand in `on (...)`."""
        return ", ".join(self.by())

    @property
    def hold(self) -> str:
        """How long the last sample counts: four scrapes, so that a failed one changes nothing."""
        return self.settings.rate_window

    def by(self, *labels: str) -> Labels:
        """The labels of a cluster, or of a service, and these."""
        return (*(self.settings.service_key if self.judged_by_service else self.settings.cluster_key), *labels)

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
        """Aggregate with `op` ("sum", "max", "group") by the cluster label and these."""
        return promql.total(expression, self.by(*labels), op)

    def events(self, counter: str, window: str, *labels: str, **extra: str) -> str:
        """Events of a counter in a window, first ones counted, by the cluster label and these."""
        return promql.events(self.scope, counter, self.by(*labels), window=window, hold=self.hold, **extra)

    def read(self, figure: Figure, *labels: str, offset: str = "", **extra: str) -> str:
        """A figure by some of its labels; `extra` adds matchers on labels that it keeps, `offset` looks back.

        Raises:
            ServescopeError: a label is not one that the figure keeps.
        """
        for label in (*labels, *extra):
            if label not in figure.labels:
                raise ServescopeError(f"{figure.record} keeps no label {label!r}; it keeps {', '.join(figure.labels)}")
        if self.recorded:
            inside = ", ".join(f"{label}{text}" for label, text in extra.items())
            inner = figure.record + (f"{{{inside}}}" if inside else "") + (f" offset {offset}" if offset else "")
        else:
            inner = figure.inner(self.scope.narrowed(**extra), self.settings, offset)
        return self.total(figure.op, inner, *labels)

    def share_beyond(self, fast: Figure, every: Figure, *labels: str, least: int) -> str:
        """Share of observations above a bucket bound: exact, where a quantile would be interpolated.

        `fast` counts those within the bound: without that bucket there is no result, nor with fewer observations than
        `least`.
        """
        return f"1 - {self.read(fast, *labels)} / ({self.read(every, *labels)} >= {least})"

    def target_replicas(self) -> str:
        """Replicas that the controller wants now, by deployment."""
        return self.total("max", self.now("ray_serve_autoscaling_target_replicas"), *DEPLOYMENT)

    def healthy_replicas(self) -> str:
        """Replicas that pass their health check now, by deployment."""
        return self.total("sum", self.now("ray_serve_deployment_replica_healthy"), *DEPLOYMENT)

    def actors_by_deployment(self, actors: str) -> str:
        """Sum an expression over `ray_actors` by deployment, which for a replica only the actor's name holds."""
        return promql.replica_actors(actors, self.by(*DEPLOYMENT))

    def ingress_of_sessions(self) -> str:
        """The ingress deployments of applications with WebSocket sessions, from the end of the first session on."""
        ended = self.scope.rate("ray_serve_num_http_requests_total", self.hold, method=promql.SESSIONS)
        routed = self.scope.rate(
            "ray_serve_request_router_fulfillment_time_ms_count", self.hold, handle_source='="PROXY"'
        )
        on = f"on ({', '.join(self.by('application'))})"
        return f"({self.total('group', routed, *DEPLOYMENT)} and {on} {self.total('group', ended, 'application')})"

    def controller_runs(self, window: str) -> str:
        """The clusters whose controller has completed control loops in the window; the counter is a gauge."""
        return self.total(
            "group", f"changes({self.scope.select('ray_serve_controller_num_control_loops')}[{window}]) > 0"
        )

    def controller_lasts(self) -> str:
        """The clusters where one controller has run for a minute or two.

        One that has just restarted knows the targets of replicas and proxies before it knows which of them exist;
        what it reports until then is not reliable.
        """
        loops = self.scope.select("ray_serve_controller_num_control_loops")
        before = f"changes({loops}[{self.hold}] offset {self.hold}) > 0"
        return self.total("group", f"changes({loops}[{self.hold}]) > 0 and {before}")

    def running(self, **extra: str) -> str:
        """The series of applications that are RUNNING now."""
        return f"{self.now('ray_serve_application_status', **extra)} == {RUNNING}"

    def unless_starting(self) -> str:
        """The clause that leaves out clusters that start beside a running cluster of their service.

        KubeRay upgrades a RayService by a second cluster, which gets no request before all of it is ready. Empty where
        no service label is set: then nothing says that two clusters belong together.
        """
        service = self.settings.service_label
        if not service:
            return ""
        named = {service: '!=""'}
        here = self.total("group", self.now("ray_serve_application_status", **named))
        other = promql.total(self.running(**named), (service,), "group")
        return (
            "\n# a cluster that starts beside a running one of the same service has no users yet"
            f"\nunless on ({self.key}) ({here} unless {self.total('group', self.running())} and on ({service}) {other})"
        )

    def cluster_lives(self) -> str:
        """The clusters that report: what another series' absence is compared with.

        The agents' node metrics stop everywhere while the GCS is down; the raylets' metrics continue.
        """
        return self.total("group", f"{self.now('ray_node_cpu_utilization')} or {self.now('ray_object_store_memory')}")
