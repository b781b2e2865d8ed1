"""What the dashboards share: variables, annotations, links, colours of outcomes, legends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from servescope import promql
from servescope.catalog.values import APPLICATION_STATUS, DEPLOYMENT_STATUS, PROXY_STATUS
from servescope.grafana import layout, panels, variables
from servescope.grafana.colors import PALETTE
from servescope.grafana.model import Annotation, Column, Link, Query, Threshold, Variable
from servescope.promql import DEPLOYMENT, Scope, capacity, rollouts
from servescope.promql.signals import REQUESTS, Reader, Signal
from servescope.settings import Settings

DEPLOYMENT_LEGEND = "{{application}}/{{deployment}}"
WINDOW = "$__rate_interval"
_LEVELS = (0.5, 0.95, 0.99)

OUTCOME_COLORS = {
    "success": PALETTE.neutral,
    "failed": PALETTE.failing,
    "shed": PALETTE.at_risk,
    "gone": PALETTE.muted,
    "refused": PALETTE.other,
}

_STATUS_COLORS = {
    "RUNNING": PALETTE.good,
    "HEALTHY": PALETTE.good,
    "DEPLOY_FAILED": PALETTE.failing,
    "UNHEALTHY": PALETTE.failing,
    "UNKNOWN": PALETTE.muted,
    "NOT_STARTED": PALETTE.muted,
    "DELETING": PALETTE.muted,
    "DRAINED": PALETTE.muted,
    "DRAINING": PALETTE.at_risk,
    "UPSCALING": PALETTE.growing,
    "DOWNSCALING": PALETTE.shrinking,
}

CHANGES = "Blue is a change in progress: UPDATING, or UPSCALING (dark) and DOWNSCALING (light). Red is a failure."


def _states(codes: dict[int, str]) -> dict[int, tuple[str, str]]:
    """Name and colour of each status code; every other status (deploying, updating) is neutral."""
    return {code: (name, _STATUS_COLORS.get(name, PALETTE.neutral)) for code, name in codes.items()}


APPLICATION_STATES = _states(APPLICATION_STATUS)
DEPLOYMENT_STATES = _states(DEPLOYMENT_STATUS)
PROXY_STATES = _states(PROXY_STATUS)

WHY = (
    "Green: healthy replicas have reached the target. Blue resolves by itself: the upscale delay (light), or replicas "
    "are starting. Amber: the required replicas exceed max_replicas. Red: replicas have been missing for two minutes. "
    "Unschedulable: no node has the CPUs, GPUs or memory for them, or their runtime environment is not ready. Failing "
    "to start: they are on a node, but a constructor or a first health check fails, crashes or takes too long."
)
WHY_STATES = {
    capacity.STEADY: ("steady", PALETTE.good),
    capacity.STARTING: ("starting", PALETTE.neutral),
    capacity.DELAYED: ("upscale delay", PALETTE.shrinking),
    capacity.CAPPED: ("capped by max_replicas", PALETTE.at_risk),
    capacity.FAILING: ("failing to start", PALETTE.failing),
    capacity.UNSCHEDULABLE: ("unschedulable", PALETTE.failing),
}

WHY_OTHERS = f"{WHY} Deployments that are steady share one band."


def code(states: Mapping[int, tuple[str, str]], name: str) -> int:
    """The code of the state of this name."""
    return next(code for code, (known, _) in states.items() if known == name)


# The lowest codes are failures: 0 UNKNOWN, 1 DEPLOY_FAILED, 2 UNHEALTHY, for applications and deployments alike.
TROUBLE_CODE = 2

ERROR_RATIO = (
    Threshold(None, PALETTE.neutral),
    Threshold(0.001, PALETTE.at_risk),
    Threshold(0.01, PALETTE.failing),
)
ANY_IS_BAD = (Threshold(None, PALETTE.neutral), Threshold(1, PALETTE.failing))
ANY_IS_RISKY = (Threshold(None, PALETTE.neutral), Threshold(1, PALETTE.at_risk))
NEUTRAL = (Threshold(None, PALETTE.neutral),)
UTILIZATION = (
    Threshold(None, PALETTE.neutral),
    Threshold(0.8, PALETTE.at_risk),
    Threshold(0.95, PALETTE.failing),
)


def reader(settings: Settings, recorded: bool, *labels: str) -> Reader:
    """A reader for a dashboard with a cluster variable and one variable for each of `labels`."""
    names = {settings.cluster_label: "cluster"} | {label: label for label in labels}
    matchers = {label: f'=~"${variable}"' for label, variable in names.items()}
    return Reader(settings, Scope.of(settings, matchers), recorded=recorded)


def standard_variables(settings: Settings, *labels: str) -> list[Variable]:
    """The data source, the cluster, and those of application, deployment, route, replica and instance asked for."""
    cluster = settings.cluster_label
    # All of the cluster is ".*", so that a Prometheus without the label works; an application always has a name. The
    # latter is "..*" and not ".+": Grafana writes All into links as it is, and there a plus is a space.
    known = {
        "application": ("Application", "ray_serve_application_status", "..*"),
        "deployment": ("Deployment", "ray_serve_deployment_status", "..*"),
        "route": ("Route", "ray_serve_deployment_processing_latency_ms_count", ".*"),
        "replica": ("Replica", "ray_serve_replica_processing_queries", "..*"),
        "instance": ("Node", "ray_node_cpu_utilization", "..*"),
    }
    result = [
        variables.datasource_variable(),
        variables.label_variable(
            "cluster",
            "Cluster",
            f"label_values({Scope.of(settings).select('ray_node_cpu_utilization')}, {cluster})",
            all_value=".*",
        ),
    ]
    scope = Scope.of(settings, {cluster: '=~"$cluster"'})
    for label in labels:
        title, metric, everything = known[label]
        result.append(
            variables.label_variable(
                label, title, f"label_values({scope.select(metric)}, {label})", all_value=everything
            )
        )
        scope = scope.narrowed(**{label: f'=~"${label}"'})
    return result


def deployment_variables(settings: Settings) -> list[Variable]:
    """Those of a dashboard of one deployment: no All, and the application and the deployment with most errors first.

    The first one is chosen where a link names none.
    """
    datasource, cluster, _, _, *others = standard_variables(settings, "application", "deployment", "route", "replica")
    scope = Scope.of(settings, {settings.cluster_label: '=~"$cluster"'})
    ranked = []
    for label, title in (("application", "Application"), ("deployment", "Deployment")):
        failed = promql.total(scope.rate("ray_serve_deployment_error_counter_total", "$__range"), (label,))
        there = promql.total(scope.select("ray_serve_deployment_status"), (label,), "group")
        ranked.append(variables.ranked_variable(label, title, f"sort_desc({failed} or 0 * {there})"))
        scope = scope.narrowed(**{label: f'=~"${label}"'})
    return [datasource, cluster, *ranked, *others]


def rollout_marks(settings: Settings, *labels: str) -> list[Annotation]:
    """On every dashboard: what was deployed (from the state exporter), and how long a deployment was UPDATING.

    `labels` are the variables of the dashboard that select them. Of a dashboard of one deployment that is its
    application: a change of the one that calls it matters too.
    """
    matchers = {settings.cluster_label: '=~"$cluster"'} | {label: f'=~"${label}"' for label in labels}
    scope = Scope.of(settings, matchers)
    updating = next(code for code, name in DEPLOYMENT_STATUS.items() if name == "UPDATING")
    return [
        Annotation(
            name="Deploys",
            # One mark for each application that a deploy changed: not for the unchanged ones of the same config file.
            expr=rollouts.changed(scope, "$__interval", promql.APPLICATION),
            title="Deploy",
            text="{{application}}",
            color=PALETTE.other,
        ),
        Annotation(
            name="Rollouts",
            expr=promql.total(f"{scope.select('ray_serve_deployment_status')} == {updating}", DEPLOYMENT, "max"),
            title="Rollout",
            text=DEPLOYMENT_LEGEND,
            color=PALETTE.neutral,
        ),
    ]


def outcome_queries(reader: Reader) -> list[Query]:
    """Requests at the ingress by outcome, in the order in which they stack."""
    return [
        panels.query(reader.read(REQUESTS, (), status_code=outcome.matcher), outcome.title)
        for outcome in promql.outcomes(reader.settings.backpressure_codes)
    ]


def outcome_colors(settings: Settings) -> dict[str, str]:
    """Legend to colour, for panels of `outcome_queries`."""
    return {outcome.title: OUTCOME_COLORS[outcome.name] for outcome in promql.outcomes(settings.backpressure_codes)}


def error_ratio(reader: Reader, by: promql.Labels = ()) -> str:
    """Share of requests that ended in a 5xx, back-pressure by 503 among them, 0 to 1."""
    return promql.ratio(reader.read(REQUESTS, by, status_code=f'=~"{promql.ERROR_CODES}"'), reader.read(REQUESTS, by))


def outcome_ratio(reader: Reader, name: str, by: promql.Labels = ()) -> str:
    """Share of requests with one outcome, 0 to 1."""
    (outcome,) = [found for found in promql.outcomes(reader.settings.backpressure_codes) if found.name == name]
    return promql.ratio(reader.read(REQUESTS, by, status_code=outcome.matcher), reader.read(REQUESTS, by))


def quantile_queries(reader: Reader, buckets: Signal) -> list[Query]:
    """The median, p95 and p99 of a signal of buckets, named so."""
    return [panels.query(reader.quantile(level, buckets), f"p{100 * level:g}") for level in _LEVELS]


def histogram_quantile(reader: Reader, level: float, histogram: str, *, by: promql.Labels = ()) -> str:
    """A quantile (`level` 0 to 1) of one of Ray's histograms that is not recorded, in its unit."""
    return promql.quantile(level, promql.total(reader.scope.rate(f"{histogram}_bucket", WINDOW), (*by, "le")))


def to_deployment(application: str = "${__field.labels.application}", deployment: str = "") -> Link:
    """A data link to the deployment dashboard, at the same time range and cluster."""
    chosen = f"var-application={application}" + (f"&var-deployment={deployment}" if deployment else "")
    return Link(
        "Open in Deployment",
        f"/d/servescope-deployment?${{cluster:queryparam}}&{chosen}&${{__url_time_range}}",
    )


def to_panel(uid: str, key: str, *labels: str) -> Link:
    """A data link from a figure to the panel that explains it; `labels` are the variables that both have."""
    chosen = "&".join(f"${{{label}:queryparam}}" for label in ("cluster", *labels))
    return Link("Explain", f"/d/{uid}?viewPanel={layout.panel_id_of(uid, key)}&{chosen}&${{__url_time_range}}")


def not_at_rest(states: str, rest: int, legend: str) -> list[Query]:
    """A timeline of what is not at rest, and one band for all others: of a hundred, only what needs a look is drawn."""
    return [panels.query(f"({states}) != {rest}", legend), panels.query(f"max(({states}) == {rest})", "all others")]


MOST_LINES = 20


def largest(figures: str, *, among: str = "", most: int = MOST_LINES, smallest: bool = False) -> str:
    """The series with the largest maximum in the time range, or the smallest minimum: more cannot be told apart.

    `among` is what they are ranked by, where that is not the figures themselves; it has the same labels. A range below
    the step of two minutes may hold none of its points, so the last one stands in.
    """
    return f"({figures}) and {_ranked(among or figures, most, smallest=smallest)}"


def _ranked(figures: str, most: int, *, smallest: bool = False) -> str:
    pick, over = ("bottomk", "min_over_time") if smallest else ("topk", "max_over_time")
    ranks = (f"{over}(({figures})[{window}:2m] @ end())" for window in ("$__range", "2m"))
    return f"{pick}({most}, {' or '.join(ranks)})"


def largest_first(reader: Reader, figure: Callable[[Reader], str], by: promql.Labels) -> str:
    """The same for a figure that costs much to work out: the series of the others are left out before.

    `figure` asks a reader for one series for each of `by`, and heeds its `kept` in one place.
    """
    ranked = _ranked(figure(reader), MOST_LINES)
    return figure(replace(reader, kept=f"and on ({', '.join(by)}) {ranked}"))


def most_events(reader: Reader, signal: Signal) -> list[Query]:
    """The deployments with most events of a signal in the time range, none without any, and a line at zero for them."""
    most = reader.events_over_range(signal, DEPLOYMENT, at=" @ end()")
    quiet = f"0 * {promql.total(reader.select('ray_serve_deployment_status'), (), 'group')}"
    return [
        panels.query(f"{reader.events(signal, DEPLOYMENT)} and topk({MOST_LINES}, {most} > 0)", DEPLOYMENT_LEGEND),
        panels.query(quiet, "all others"),
    ]


def to_slo() -> Link:
    """A data link from a table's row to the dashboard of its SLO."""
    chosen = "var-slo=${__data.fields.SLO}"
    return Link("Open in SLO", f"/d/servescope-slo?${{cluster:queryparam}}&{chosen}&${{__url_time_range}}")


SERIES_TO_DEPLOYMENT = to_deployment(deployment="${__field.labels.deployment}")
ROW_TO_DEPLOYMENT = to_deployment("${__data.fields.Application}", "${__data.fields.Deployment}")


def by_deployment(expression: str, op: str) -> str:
    """One series for each deployment of a figure by cluster and deployment: the clusters' `op`."""
    return promql.total(expression, DEPLOYMENT, op)


def cluster_columns(settings: Settings) -> list[Column]:
    """The columns that say of which cluster a row is; without the labels in Prometheus they do not appear."""
    titles = {settings.cluster_label: "Cluster", settings.service_label: "Service"}
    return [Column(label, titles.get(label, label.capitalize())) for label in settings.cluster_key]


APPLICATION_COLUMN = Column("application", "Application")
DEPLOYMENT_COLUMN = Column("deployment", "Deployment")
