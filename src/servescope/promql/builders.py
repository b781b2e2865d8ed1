"""Builders for the PromQL that recurs, over the metric catalogue.

Every function returns text. Names and labels are looked up in the catalogue when the text is built, so a typing error
fails `make generate` with one line instead of drawing an empty panel. Each docstring gives the reason for
its form; `lint.py` rejects the forms that give wrong results.

A *window* is a PromQL duration ("5m") or one of Grafana's macros ("$__rate_interval"). A *by* is a tuple of labels.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field, replace

from servescope import catalog
from servescope.catalog import replica_names
from servescope.errors import ServescopeError
from servescope.promql.durations import longer
from servescope.settings import Settings

Labels = tuple[str, ...]

APPLICATION: Labels = ("application",)
ROUTE: Labels = ("application", "route")
DEPLOYMENT: Labels = ("application", "deployment")
REPLICA: Labels = ("application", "deployment", "replica")


@dataclass(frozen=True)
class Scope:
    """The series that a query may see: matchers that go into every selector whose metric carries the label.

    Shape: `matchers` maps a label to operator and quoted value, for instance `{"application": '=~"$application"'}`.
    The cluster label and `extra_labels`, which identify a cluster with it, go everywhere, since Prometheus or KubeRay
    adds them to every series. `jobs` is a regular expression of the scrape jobs whose `up` counts; "" is every job.
    """

    cluster_label: str
    matchers: Mapping[str, str] = field(default_factory=dict)
    _: KW_ONLY
    extra_labels: Labels = ()
    jobs: str = ""

    @staticmethod
    def of(settings: Settings, matchers: Mapping[str, str] | None = None) -> Scope:
        """The scope of these settings: every series of every cluster, or those that the matchers select."""
        key = settings.cluster_key
        return Scope(key[0], matchers or {}, extra_labels=key[1:], jobs=settings.scrape_jobs)

    @property
    def key(self) -> Labels:
        """The labels that identify a cluster."""
        return (self.cluster_label, *self.extra_labels)

    def select(self, sample: str, **extra: str) -> str:
        """The selector of one sample name (`x_bucket` and `x_count` for histograms), with more matchers by label.

        Raises:
            ServescopeError: the name is not in the catalogue, or `extra` names a label that the metric does not carry.
        """
        metric = catalog.metric_of_sample(sample)
        carried = catalog.allowed_labels(metric) | set(self.key)
        matchers = {label: text for label, text in self.matchers.items() if label in carried}
        for label, text in extra.items():
            if label not in carried:
                raise ServescopeError(f"{sample} carries no label {label!r}")
            matchers[label] = text
        inside = ", ".join(f"{label}{text}" for label, text in matchers.items())
        return f"{sample}{{{inside}}}" if inside else sample

    def narrowed(self, **matchers: str) -> Scope:
        """The same scope with more matchers, or other ones for the same labels."""
        return replace(self, matchers={**self.matchers, **matchers})

    def up(self) -> str:
        """The selector of `up` of our own scrape jobs; a Prometheus holds that of every other target too."""
        return self.select("up", **({"job": f'=~"{self.jobs}"'} if self.jobs else {}))

    def rate(self, sample: str, window: str, **extra: str) -> str:
        """Per-second rate of a counter or of a histogram's `_bucket` or `_count`, one series each as stored."""
        return f"rate({self.select(sample, **extra)}[{window}])"


def total(expression: str, by: Labels = (), op: str = "sum") -> str:
    """Aggregate with `sum`, `max`, `min`, `avg`, `count` or `group`; no labels means one figure for all."""
    return f"{op} by ({', '.join(by)}) ({expression})" if by else f"{op}({expression})"


# ---------------------------------------------------------------------------------------------------------------------
# Requests and their outcomes at the ingress


# WebSocket sessions at the proxies, by their label `method`: WS in Ray 2.60, WEBSOCKET in older versions. How long one
# lasts is no latency.
SESSIONS = '=~"WS|WEBSOCKET"'
NO_SESSIONS = '!~"WS|WEBSOCKET"'
SESSION_FAILED = "101[1-4]"

SUCCESS_CODES = "[123]..|100[01]|OK"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One way in which a request can end for the client: what its status code must and must not match."""

    name: str
    title: str
    codes: str
    but_not: str = ""

    @property
    def matcher(self) -> str:
        """What follows the label name in a selector: one matcher, or two on the same label."""
        wanted = f'=~"{self.codes}"'
        return f'{wanted}, status_code!~"{self.but_not}"' if self.but_not else wanted


def outcomes(backpressure_codes: tuple[str, ...]) -> tuple[Outcome, ...]:
    """The outcomes of a request at the ingress, disjoint and complete, by HTTP status code or gRPC status name.

    Shape: five outcomes, in the order in which panels stack them.

    Serve answers 503 when a queue is full (429 where `backpressure_config` says so), 499 when the client went away and
    408 when Serve's own timeout struck. Serve's own error counters hold every 4xx, so the status code decides here.
    A WebSocket session has its close code in the same label (RFC 6455, 7.4.1): 1000 and 1001 end it well, 1011 to 1014
    are the server's. A client that leaves without a code is 1006 or, as Serve's server reports most broken connections,
    1005. Serve's own counters call every session an error whose client closed it.
    """
    shed = "|".join((*backpressure_codes, "RESOURCE_EXHAUSTED"))
    grpc_failed = "INTERNAL|UNKNOWN|UNAVAILABLE|DATA_LOSS|UNIMPLEMENTED|DEADLINE_EXCEEDED"
    failed = f"5..|{SESSION_FAILED}|{grpc_failed}"
    gone = "499|100[56]|CANCELLED"
    good = SUCCESS_CODES
    return (
        Outcome(name="success", title="success", codes=good),
        Outcome(name="failed", title="error (5xx)", codes=failed, but_not=shed),
        Outcome(name="shed", title="back-pressure", codes=shed),
        Outcome(name="gone", title="client disconnected (499)", codes=gone),
        Outcome(name="refused", title="client error (4xx)", codes=".+", but_not="|".join((good, failed, gone, shed))),
    )


# What counts against availability: every 5xx, back-pressure by 503 among them, and what WebSocket and gRPC call so.
ERROR_CODES = f"5..|{SESSION_FAILED}|INTERNAL|UNKNOWN|UNAVAILABLE|DATA_LOSS|UNIMPLEMENTED|DEADLINE_EXCEEDED"


def ingress_requests(scope: Scope, window: str) -> str:
    """Requests per second at the proxies, HTTP and gRPC, every outcome; one series for each status code as stored.

    `or` joins what no series has in common: HTTP methods are GET or POST, gRPC methods are /package.Service/Method.
    """
    return (
        f"{scope.rate('ray_serve_num_http_requests_total', window)} or "
        f"{scope.rate('ray_serve_num_grpc_requests_total', window)}"
    )


def ingress_buckets(scope: Scope, window: str) -> str:
    """Rates of the latency buckets at the proxies, HTTP and gRPC, milliseconds; WebSocket sessions are left out."""
    return (
        f"{scope.rate('ray_serve_http_request_latency_ms_bucket', window, method=NO_SESSIONS)} or "
        f"{scope.rate('ray_serve_grpc_request_latency_ms_bucket', window)}"
    )


def deployment_requests(scope: Scope, window: str) -> str:
    """Calls per second that replicas have finished, with a label `outcome` of "ok" or "error".

    Ray's request counter counts successes only; failures are in the error counter alone. The added label keeps the
    two apart in the union, also on Ray versions where their labels are the same. A scope with a matcher on `outcome`
    (`="ok"` or `="error"`) gives that half alone, since no stored series carries the label.
    """
    halves = {
        "ok": scope.rate("ray_serve_deployment_request_counter_total", window),
        "error": scope.rate("ray_serve_deployment_error_counter_total", window),
    }
    wanted = scope.matchers.get("outcome")
    if wanted not in (None, '="ok"', '="error"'):
        raise ServescopeError(f"calls cannot be narrowed to outcome{wanted}")
    return " or ".join(
        f'label_replace({half}, "outcome", "{outcome}", "", "")'
        for outcome, half in halves.items()
        if wanted in (None, f'="{outcome}"')
    )


# ---------------------------------------------------------------------------------------------------------------------
# Forms


def ratio(part: str, whole: str) -> str:
    """Part of a whole, 0 to 1: 0 where the part has no series, absent where there is no traffic."""
    return f"(({part}) or 0 * ({whole})) / (({whole}) > 0)"


def quantile(level: float, buckets: str) -> str:
    """histogram_quantile() of the rates of its buckets, which must keep `le`; interpolated inside one bucket.

    Never an average from `_sum`: Ray's node agent makes it up from the middles of the buckets.
    """
    return f"histogram_quantile({level:g}, {buckets})"


def replica_gap(wanted: str, healthy: str) -> str:
    """Target replicas that are not healthy, never below 0; the whole target where there is no replica at all."""
    return f"clamp_min(({wanted}) - (({healthy}) or 0 * ({wanted})), 0)"


def increase(
    scope: Scope, counter: str, window: str, *, hold: str = "$__rate_interval", ended: str = "", **extra: str
) -> str:
    """increase() that also counts a series' first sample: Ray's counter series first appear with a non-zero value.

    PromQL's own needs two samples, so it misses the first event of every series; `increase(sum(...)[w:s])` invents
    events when a node leaves or a scrape fails, because the sum drops and comes back. Here a series that was not there
    at the start of the window starts at 0, but only where its target was being scraped then: a Prometheus that has
    just started does not count all of the past as new. A counter that restarted counts nothing.

    A series is known by the labels of the catalogue (`identifying_labels`), not by all that it carries: one that goes
    on under another relabelling, or whose `le` Prometheus 3 writes differently, is not new.

    Both ends read the last sample within `hold`, at least four scrapes, so that a failed scrape at either end loses
    nothing: what happened meanwhile counts with the next sample. `up` is held the same way; as it is written by the
    very scrapes that write the counter, a series that was there before is found wherever `up` is.

    With `ended`, in seconds ("15s"), the window ended that long ago. Counts that are recorded and then summed need one
    scrape interval: a sample is stored at the end of its scrape with the time of its start, so that an evaluation in
    between does not see it, while the next one takes it for a sample that the one before has counted.
    """
    series = scope.select(counter, **extra)
    labels = identifying_labels(scope, counter, one_bound="le" in extra)
    end, start = f" offset {ended}" if ended else "", f" offset {longer(window, ended) if ended else window}"
    now = total(f"last_over_time({series}[{hold}]{end})", labels, "max")
    before = total(f"last_over_time({series}[{hold}]{start})", labels, "max")
    target = ", ".join((*scope.key, "instance"))
    scraped = f"max_over_time({scope.up()}[{hold}]{start}) == 1"
    return f"{now} - ({before} or 0 * {now} and on ({target}) ({scraped})) >= 0"


def identifying_labels(scope: Scope, sample: str, *, one_bound: bool = False) -> Labels:
    """The labels by which series of one name differ: cluster, target, and those of the catalogue.

    Shape: each label once, in a fixed order. Labels that the scrape adds, and those that say nothing of what is
    measured (`Version`, `otel_scope_name`), are not among them. With `one_bound` the buckets are those of one bound,
    in whichever notation.
    """
    metric = catalog.metric_of_sample(sample)
    own = [*metric.labels, *metric.older_labels, *(label for label in metric.origin.labels if label != "Version")]
    if sample.endswith("_bucket") and not one_bound:
        own.append("le")
    return tuple(dict.fromkeys((*scope.key, "instance", *own)))


def events(scope: Scope, counter: str, by: Labels, *, window: str, hold: str = "$__rate_interval", **extra: str) -> str:
    """How many events a counter saw in a window, first ones counted; see `increase`."""
    return total(increase(scope, counter, window, hold=hold, **extra), by)


def over_range(events_in_a_step: str, *, at: str = "") -> str:
    """sum_over_time() over the graph's whole time range, of an expression that counts the events of one `$__interval`.

    `at` is a modifier, such as " @ end()".

    Steps do not overlap, so their sum is exact. `events` over `$__range` itself would miss series that first
    appeared in the range while Prometheus is younger than the range: it cannot distinguish their past from new events.
    """
    return f"sum_over_time(({events_in_a_step})[$__range:$__interval]{at})"


def or_zero(expression: str, scope: Scope, by: Labels = DEPLOYMENT) -> str:
    """`or 0` for what exists: a counter of failures has no series before the first one.

    Zero for each application or deployment that reports its status, where the expression has no result.
    """
    living = "ray_serve_deployment_status" if "deployment" in by else "ray_serve_application_status"
    return f"({expression}) or 0 * {total(scope.select(living), by, 'group')}"


# What follows the name of a proxy or a program in Ray's Component label while it runs a method.
METHOD = "(?:[.].*)?"


def replica_processes(scope: Scope, gauge: str) -> str:
    """A process figure of replicas, with the labels application and deployment taken out of Ray's Component label.

    Component is `ray::ServeReplica:<application>:<deployment>`, with a method behind it while one runs, and holds the
    sum of that deployment's replicas on one node; the sum over all of them is the deployment's figure. The scope's
    matchers on the two labels become one matcher on Component. How it is taken apart: `catalog.replica_names`.
    """
    parts = {}
    for label in DEPLOYMENT:
        match = re.fullmatch(r'=~?"(.*)"', scope.matchers.get(label, '=~".+"'))
        if match is None:
            raise ServescopeError(f"{gauge}: cannot apply {scope.matchers[label]} to a part of a Component label")
        parts[label] = match.group(1)
    expression = scope.select(gauge, Component=f'=~"{replica_names.process(**parts)}"')
    return named_replicas(expression, "Component", replica_names.PROCESS)


def named_replicas(expression: str, label: str, pattern: str) -> str:
    """An expression with the labels application and deployment, the two groups of a pattern over another label."""
    for group, name in enumerate(DEPLOYMENT, 1):
        expression = f'label_replace({expression}, "{name}", "${group}", "{label}", "{pattern}")'
    return expression


def replica_actors(actors: str, by: Labels) -> str:
    """Sum an expression over `ray_actors` by labels with application and deployment, which the actor's name holds."""
    return total(named_replicas(actors, "Name", replica_names.ACTOR), by)


def lasting(scope: Scope, gauge: str, window: str, **extra: str) -> str:
    """max_over_time() of an event-driven gauge: its highest value in a window.

    Such gauges vanish 20 s after their last change, and some reappear with the next event only.
    """
    return f"max_over_time({scope.select(gauge, **extra)}[{window}])"
