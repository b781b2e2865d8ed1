"""What the exporter reads out of Serve's REST API: the right figures, and none where the document does not tell."""

from __future__ import annotations

import copy
import math
import random
from typing import Any

import pytest

from servescope.catalog import METRICS, Source
from servescope.errors import ServescopeError
from servescope.serve_state import REPLICA_STATES, Detail, families, fingerprint, render
from tests import promtool
from tests.serve_documents import generated, sample

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(document: Any, detail: Detail = Detail()) -> Samples:  # noqa: B008
    collected = families(document, detail)
    render(collected)  # whatever it holds can be written
    found: Samples = {}
    for family in collected:
        for sample_ in family.samples:
            key = (sample_.name, tuple(sorted(sample_.labels.items())))
            assert key not in found, f"two samples of {key}"
            found[key] = sample_.value
    return found


def of(found: Samples, name: str, **labels: str) -> dict[tuple[str, ...], float]:
    """Values of one metric by the values of its other labels, for the samples that carry these labels."""
    return {
        tuple(value for label, value in sorted(key) if label not in labels): number
        for (metric, key), number in found.items()
        if metric == f"servescope_{name}" and labels.items() <= dict(key).items()
    }


def test_the_real_answer_of_ray_gives_its_figures():
    found = samples(sample())
    scaler = {"application": "main", "deployment": "Scaler"}
    expected = {
        "deployment_min_replicas": 1,
        "deployment_max_replicas": 3,
        "deployment_target_replicas": 1,
        "deployment_max_ongoing_requests": 2,
        "deployment_max_queued_requests": 4,
        "deployment_backpressure_status_code": 503,
        "deployment_target_ongoing_requests": 1,
        "deployment_rolling_update_percentage": 0.2,
        "deployment_upscale_delay_seconds": 3,
        "deployment_downscale_delay_seconds": 15,
        "deployment_graceful_shutdown_timeout_seconds": 20,
        "deployment_health_check_period_seconds": 10,
        "deployment_health_check_timeout_seconds": 30,
        "deployment_replica_cpus": 0.1,
        "deployment_replica_gpus": 0,
        "deployment_replica_memory_bytes": 0,
    }
    assert {name: of(found, name, **scaler) for name in expected} == {n: {(): v} for n, v in expected.items()}
    assert of(found, "deployment_status", **scaler) == {("HEALTHY",): 1}
    assert of(found, "deployment_replicas", **scaler) == {("RUNNING",): 1}
    # null in the document, and a fixed number only where nothing scales
    assert of(found, "deployment_initial_replicas") == {}
    assert of(found, "deployment_configured_replicas", application="main") == {
        ("Embedder",): 1,
        ("Multi",): 2,
        ("Gateway",): 1,
    }
    assert of(found, "deployment_max_queued_requests", deployment="Multi") == {("main",): -1}
    assert of(found, "application_status") == {
        ("main", "RUNNING"): 1,
        ("other", "RUNNING"): 1,
        ("extras", "RUNNING"): 1,
        ("broken", "DEPLOY_FAILED"): 1,
    }
    assert of(found, "application_info", application="extras") == {("/extras",): 1}
    assert of(found, "application_last_deployed_timestamp_seconds")[("main",)] == 1795445025.067903
    assert of(found, "proxies") == {("HEALTHY",): 1}


def test_all_states_are_told_when_asked_for():
    found = samples(sample(), Detail(all_states=True))
    assert of(found, "application_status", application="broken") == {
        (state,): float(state == "DEPLOY_FAILED")
        for state in ("UNKNOWN", "DEPLOY_FAILED", "UNHEALTHY", "NOT_STARTED", "DELETING", "DEPLOYING", "RUNNING")
    }
    assert of(found, "deployment_replicas", deployment="Multi", application="main") == {
        (state,): 2.0 * (state == "RUNNING") for state in REPLICA_STATES
    }


def test_replicas_add_series_only_when_asked_for():
    few, many = samples(generated(10, 10)), samples(generated(10, 1000))
    assert len(few) == len(many)
    assert of(many, "deployment_replicas", deployment="Deployment3") == {("app-0", "RUNNING"): 100}
    each = samples(generated(10, 1000), Detail(each_replica=True))
    assert len(each) == len(many) + 1000
    assert of(each, "replica_start_time_seconds", replica="r3x7") == {
        ("app-0", "Deployment3", "192.0.2.2", "RUNNING"): 1795444892.574165
    }


def test_a_placement_group_counts_as_a_whole():
    document = sample()
    scaler = document["applications"]["main"]["deployments"]["Scaler"]
    scaler["deployment_config"]["placement_group_bundles"] = [{"CPU": 1, "GPU": 2}, {"GPU": 2, "memory": 1e9}]
    found = samples(document)
    assert of(found, "deployment_replica_gpus", deployment="Scaler") == {("main",): 4}
    assert of(found, "deployment_replica_cpus", deployment="Scaler") == {("main",): 1}
    assert of(found, "deployment_replica_memory_bytes", deployment="Scaler") == {("main",): 1e9}


def test_the_fingerprint_changes_with_what_was_deployed_and_with_nothing_else():
    application = sample()["applications"]["main"]
    scaler = application["deployments"]["Scaler"]
    entry = {"name": "Scaler", "max_queued_requests": 4}
    submitted = {**application["deployed_app_config"], "deployments": [entry, {"name": "Multi", "num_replicas": 2}]}

    def of_scaler(**change: Any) -> str:
        return fingerprint({**application, "deployed_app_config": submitted, **change}, "Scaler", scaler)

    first = of_scaler()
    assert of_scaler(last_deployed_time_s=1.0) == first, "a deploy that changed nothing"
    assert of_scaler(deployed_app_config=dict(reversed(submitted.items()))) == first
    other = {**submitted, "deployments": [entry, {"name": "Multi", "num_replicas": 3}]}
    assert of_scaler(deployed_app_config=other) == first, "another deployment's change"
    assert fingerprint({**application, "deployed_app_config": submitted}, "Multi", {}) != fingerprint(
        {**application, "deployed_app_config": other}, "Multi", {}
    )
    own = {**submitted, "deployments": [{**entry, "user_config": {"factor": 2}}]}
    assert of_scaler(deployed_app_config=own) != first
    assert of_scaler(deployed_app_config={**submitted, "runtime_env": {"working_dir": "s3://bucket/v2.zip"}}) != first
    # deployed by a program: its code is not known, so each deploy counts
    assert of_scaler(deployed_app_config=None) != of_scaler(deployed_app_config=None, last_deployed_time_s=1.0)


def test_what_may_hold_secrets_is_nowhere():
    document = sample()
    application = document["applications"]["main"]
    scaler = application["deployments"]["Scaler"]
    application["message"] = scaler["message"] = "\x1b[36mTraceback\n  password=hunter2"
    scaler["deployment_config"]["user_config"] = {"api_key": "hunter2"}
    scaler["deployment_config"]["ray_actor_options"]["runtime_env"] = {"env_vars": {"TOKEN": "hunter2"}}
    application["deployed_app_config"]["runtime_env"] = {"env_vars": {"TOKEN": "hunter2"}}
    text = render(families(document, Detail(all_states=True, each_replica=True)))
    assert b"hunter2" not in text
    assert b"Traceback" not in text


@pytest.mark.parametrize("document", [None, [], "text", 3, {}, {"applications": None}, {"applications": []}])
def test_what_is_no_answer_of_serve_is_refused(document):
    with pytest.raises(ServescopeError, match="not Serve's REST API"):
        families(document, Detail())


def test_a_serve_without_applications_is_one():
    assert samples({"applications": {}}) == {}


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (None, None),
        ("3", None),
        (True, None),
        ([3], None),
        (-1, None),
        (math.inf, None),
        (math.nan, None),
        (10**400, None),
        (0, 0),
        (7, 7),
        (2.5, 2.5),
    ],
)
def test_a_figure_is_a_number_or_absent(value, number):
    document = sample()
    document["applications"]["main"]["deployments"]["Scaler"]["deployment_config"]["max_ongoing_requests"] = value
    found = of(samples(document), "deployment_max_ongoing_requests", deployment="Scaler")
    assert found == ({} if number is None else {("main",): number})


def test_states_and_names_that_nobody_has_seen_yet():
    document = sample()
    application = document["applications"].pop("main")
    document["applications"]['we"ird\\\n\ud800 name'] = application
    application["status"] = "HIBERNATING"
    application["deployments"]["Scaler"]["status"] = "two\nlines of a traceback"
    application["deployments"]["Scaler"]["replicas"][0]["state"] = {"new": 1}
    found = samples(document)
    name = 'we"ird\\\n\\ud800 name'
    assert of(found, "application_status", application=name) == {("HIBERNATING",): 1}
    assert of(found, "deployment_status", application=name, deployment="Scaler") == {("OTHER",): 1}
    assert of(found, "deployment_replicas", application=name, deployment="Scaler") == {("OTHER",): 1}


# ---------------------------------------------------------------------------------------------------------------------
# Mutations

JUNK: tuple[Any, ...] = (
    None,
    True,
    "",
    "x",
    "\ud800",
    -1,
    0,
    1e308,
    10**400,
    math.nan,
    [],
    [None],
    {},
    {"a": {}},
    [[]],
)

WRITTEN = {-1.0, 0.0, 1e308}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in items:
        found += places(member, (*path, key))
    return found


def mutate(document: Any, chance: random.Random) -> tuple[Any, ...]:
    """Remove or replace one thing somewhere; returns where."""
    path = chance.choice(places(document))
    holder = document
    for key in path[:-1]:
        holder = holder[key]
    if chance.random() < 0.3 and isinstance(holder, dict):
        del holder[path[-1]]
    else:
        holder[path[-1]] = copy.deepcopy(chance.choice(JUNK))
    return path


@pytest.mark.parametrize("seed", range(20))
def test_no_mutation_crashes_it_or_makes_it_lie(seed):
    """Whatever a mutation leaves untouched keeps its figures, and what is told of the rest is a sane number."""
    chance = random.Random(seed)
    original = sample()
    truth = samples(original)
    for _ in range(25):
        document = copy.deepcopy(original)
        paths = [mutate(document, chance) for _ in range(chance.randint(1, 3))]
        try:
            found = samples(document, Detail())
        except ServescopeError:
            assert any(path[0] == "applications" and len(path) == 1 for path in paths)
            continue
        # An application that no mutation touched is told exactly as before.
        for name in original["applications"]:
            if not any(path[0] == "applications" and (len(path) == 1 or path[1] == name) for path in paths):
                untouched = {key: value for key, value in truth.items() if dict(key[1]).get("application") == name}
                assert untouched.items() <= found.items()
        for (name, labels), value in found.items():
            assert math.isfinite(value)
            assert value >= (-1 if name == "servescope_deployment_max_queued_requests" else 0)
            before = truth.get((name, labels))
            if before is not None and value != before:
                # A figure that moved is one that a mutation wrote, a lost share of a sum, or a count of what is left.
                counted = name in ("servescope_deployment_replicas", "servescope_proxies")
                assert value in WRITTEN or (counted and value < before), (name, labels, paths)


def test_the_mutations_reach_what_is_exported():
    """The fuzz test is worth something only if mutations change and remove figures."""
    chance = random.Random(0)
    truth = samples(sample())
    effects = {"same": 0, "other": 0}
    for _ in range(300):
        document = sample()
        mutate(document, chance)
        try:
            effects["same" if samples(document) == truth else "other"] += 1
        except ServescopeError:
            effects["other"] += 1
    assert effects["same"] > 20
    assert effects["other"] > 20


@promtool.requires_promtool
def test_promtool_accepts_the_metrics():
    detail = Detail(all_states=True, each_replica=True)
    result = promtool.run("check", "metrics", stdin=render(families(sample(), detail)).decode())
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_the_catalogue_holds_what_is_exported_and_nothing_else():
    everything = samples(sample(), Detail(all_states=True, each_replica=True))
    labels: dict[str, set[str]] = {}
    for name, pairs in everything:
        labels.setdefault(name, set()).update(label for label, _ in pairs)
    known = {m.name: set(m.labels) for m in METRICS if m.source is Source.EXPORTER}
    own = {name for name in known if name.startswith("servescope_exporter_")}
    # null in the sample
    assert known.keys() - own - {"servescope_deployment_initial_replicas"} == labels.keys()
    assert all(known[name] == found for name, found in labels.items())
