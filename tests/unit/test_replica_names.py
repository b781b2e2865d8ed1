"""Names that people give: applications and deployments come back out of Ray's labels as they went in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servescope import promql
from servescope.catalog import replica_names
from servescope.clients.prometheus import Prometheus
from servescope.dashboards import all_dashboards
from servescope.errors import ServescopeError
from servescope.grafana.templating import Interpolation
from servescope.promql import DEPLOYMENT, Scope
from servescope.report.queries import Window, panels_of, select_variables
from servescope.settings import Settings
from tests.support.backfilled_prometheus import BackfilledPrometheus
from tests.support.promtool import assert_expressions, requires_promtool

# Each as Ray runs it (docs/set-ups.md says which it cannot).
DEPLOYMENTS = (
    "LLMServer:qwen-0_5b",
    "Prefill:meta-llama/Llama-3.1-8B",
    "bert-v1.5",
    "bert-v1.6",
    "bert.handle",
    "under_score",
    "with space",
    "a/b",
    "back\\slash",
    'quo"te',
    "модель",
    "模型",
    "(a|b)*",
)
APPLICATIONS = ("chat", "chat.v2", "a_b", "with space", "приложение")
PREFIX = "ray::ServeReplica:"
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1, max_size=20)


def test_every_method_of_rays_replica_is_known():
    """The names are Ray's own; a new one would become part of a deployment's name while it runs."""
    replica = pytest.importorskip("ray.serve._private.replica", reason="Ray is not installed")
    methods = [name for name, value in vars(replica.ReplicaActor).items() if callable(value)]
    assert len(methods) >= 15
    unknown = [name for name in methods if not re.fullmatch("|".join(replica_names.METHODS), name)]
    assert unknown == []


@given(
    application=TEXT.filter(lambda text: ":" not in text),
    deployment=TEXT.filter(lambda text: not re.search(f"[.]({'|'.join(replica_names.METHODS)})$", text)),
    method=st.sampled_from(["", ".handle_request", ".handle_request_streaming", ".check_health", ".__init__"]),
)
def test_any_name_is_taken_apart_as_it_was_written(application: str, deployment: str, method: str):
    component = f"{PREFIX}{application}:{deployment}{method}"
    match = re.fullmatch(replica_names.PROCESS, component)
    assert match is not None
    assert match.groups() == (application, deployment)
    assert re.fullmatch(replica_names.process(re.escape(application), re.escape(deployment)), component)
    actor = re.fullmatch(replica_names.ACTOR, f"ServeReplica:{application}:{deployment}")
    assert actor is not None
    assert actor.groups() == (application, deployment)


def quoted(text: str) -> str:
    """A label's value as Prometheus' text formats write it."""
    return text.replace("\\", "\\\\").replace('"', '\\"')


@requires_promtool
def test_prometheus_finds_each_deployment_under_its_own_name(tmp_path: Path):
    """Figures of processes and of actors, in every form that Ray writes, with RE2 instead of Python's expressions."""
    rss, actors = "ray_component_rss_bytes", "ray_actors"
    series, memory, alive = {}, [], []
    names = [(application, deployment) for application in APPLICATIONS for deployment in DEPLOYMENTS]
    for number, (application, deployment) in enumerate(names, 1):
        name = quoted(f"{application}:{deployment}")
        series[f'{rss}{{Component="{PREFIX}{name}"}}'] = f"{1000 * number}x60"
        series[f'{rss}{{Component="{PREFIX}{name}.handle_request_streaming"}}'] = f"{number}x60"
        series[f'{rss}{{Component="ray::SERVE_REPLICA::x#y#z:ServeReplica:{name}.__init__"}}'] = f"{number}x60"
        series[f'{actors}{{Name="ServeReplica:{name}"}}'] = f"{number}x60"
        labels = f'{{application="{quoted(application)}", deployment="{quoted(deployment)}"}}'
        memory.append((labels, float(1002 * number)))
        alive.append((labels, float(number)))
    chosen = quoted(re.escape("LLMServer:qwen-0_5b").replace("\\-", "-"))
    one = Scope("c", {"application": '=~"chat"', "deployment": f'=~"{chosen}|bert-v1[.]5"'})
    by_actor = promql.named_replicas(actors, "Name", replica_names.ACTOR)
    assert_expressions(
        tmp_path,
        series,
        {
            (promql.total(promql.replica_processes(Scope("c"), rss), DEPLOYMENT), "8m5s"): memory,
            (promql.total(promql.replica_processes(one, rss), DEPLOYMENT), "8m5s"): [memory[0], memory[2]],
            (promql.total(by_actor, DEPLOYMENT), "8m5s"): alive,
        },
    )


START = 1_760_400_000  # unix seconds; any time will do
AT = START + 300
PANELS = ("Queued requests", "Executing", "CPU", "Memory")
NAMES = [(application, deployment) for application in ("chat", "chat.v2") for deployment in DEPLOYMENTS]


def planted(number: int) -> int:
    """The figure of the deployment with this number, on each panel."""
    return 10 * number


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus with the figures of every deployment of both applications."""
    lines = []
    for number, names in enumerate(NAMES, 1):
        application, deployment = map(quoted, names)
        labels = f'application="{application}",deployment="{deployment}",ray_io_cluster="c",instance="n",job="ray"'
        process = (
            f'Component="{PREFIX}{application}:{deployment}.handle_request",ray_io_cluster="c",instance="n",job="ray"'
        )
        for sample, own, value in (
            ("ray_serve_deployment_queued_queries", labels, planted(number)),
            ("ray_serve_replica_processing_queries", labels, planted(number)),
            ("ray_component_cpu_percentage", process, 100 * planted(number)),
            ("ray_component_rss_bytes", process, planted(number)),
        ):
            lines += [f"{sample}{{{own}}} {value} {t}\n" for t in range(START, AT + 60, 15)]
    backfilled = BackfilledPrometheus(tmp_path_factory.mktemp("blocks"))
    backfilled.backfill([*lines, "# EOF\n"])
    with backfilled.server() as url, Prometheus(url) as client:
        yield client


def drawn(prometheus: Prometheus, title: str, application: str, deployment: str) -> list[tuple[str, float]]:
    """The deployment and the figure of each series that a panel shows when the names are chosen in its variables.

    The deployment is "" where the panel adds all up that is chosen.
    """
    (board,) = [board.to_json() for board in all_dashboards(Settings()) if board.uid == "servescope-deployment"]
    (panel,) = [panel for panel in panels_of(board) if panel["title"] == title]
    window = Window(START, AT)
    chosen = {"application": [application], "deployment": [deployment]}
    scope = Interpolation(select_variables(board, prometheus, window, chosen=chosen), window.macros())
    found = prometheus.query(scope.promql(panel["targets"][0]["expr"]), AT)
    return [(s["metric"].get("deployment", ""), float(s["value"][1])) for s in found]


@requires_promtool
@pytest.mark.parametrize("title", PANELS)
def test_a_panel_shows_the_deployment_that_was_chosen_and_no_other(prometheus, title):
    for number, (application, deployment) in enumerate(NAMES, 1):
        if '"' not in deployment:
            shown = drawn(prometheus, title, application, deployment)
            assert shown == [("" if title == "Executing" else deployment, planted(number))]


@requires_promtool
def test_grafana_cannot_choose_a_name_with_a_double_quote(prometheus):
    """It escapes nothing inside the quotes but what a regular expression needs; docs/set-ups.md says so."""
    with pytest.raises(ServescopeError, match="parse error"):
        drawn(prometheus, "Memory", "chat", 'quo"te')
