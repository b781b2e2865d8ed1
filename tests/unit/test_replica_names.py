"""Names that people give: applications and deployments come back out of Ray's labels as they went in."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servescope import promql
from servescope.catalog import replica_names
from servescope.promql import DEPLOYMENT, Scope
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
