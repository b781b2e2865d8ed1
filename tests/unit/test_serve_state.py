"""What the exporter reads out of Serve's REST API: the right figures, and none where the document does not tell."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from servescope.catalog import METRICS, Source
from servescope.errors import ServescopeError
from servescope.rendering import metrics
from servescope.serve_state import NUMBERS, REPLICA_STATES, Detail, Markets, families, fingerprints, markets_of, render
from tests import promtool
from tests.serve_documents import generated, nodes, sample

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(document: Any, detail: Detail = Detail(), markets: Markets | None = None) -> Samples:  # noqa: B008
    collected = families(document, detail, markets)
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


def test_a_placement_group_that_sums_to_no_figure_has_none():
    document = sample()
    scaler = document["applications"]["main"]["deployments"]["Scaler"]
    scaler["deployment_config"]["placement_group_bundles"] = [{"CPU": 1e308, "GPU": 1}, {"CPU": 1e308, "GPU": 1}]
    found = samples(document)
    assert of(found, "deployment_replica_cpus", deployment="Scaler") == {}
    assert of(found, "deployment_replica_gpus", deployment="Scaler") == {("main",): 2}


def test_replicas_are_told_by_the_market_of_their_node():
    """A node that Ray does not list, or whose label says nothing, is unknown; a replica on no node yet is left out."""
    document = sample()
    replicas = document["applications"]["main"]["deployments"]["Multi"]["replicas"]
    replicas[:] = [{**replicas[0], "node_id": node} for node in ("s", "s", "d", "silent", "gone", None)]
    found = samples(document, markets=markets_of(nodes({"s": "spot", "d": "on-demand", "silent": ""})))
    assert of(found, "deployment_market_replicas", application="main", deployment="Multi") == {
        ("spot",): 2,
        ("on-demand",): 1,
        ("unknown",): 2,
    }
    assert of(samples(document), "deployment_market_replicas") == {}
    assert markets_of({"result": False, "msg": "no"}) is None


def test_the_fingerprint_changes_with_what_was_deployed_and_with_nothing_else():
    application = sample()["applications"]["main"]
    entry = {"name": "Scaler", "max_queued_requests": 4}
    submitted = {**application["deployed_app_config"], "deployments": [entry, {"name": "Multi", "num_replicas": 2}]}

    def of_scaler(**change: Any) -> str:
        return fingerprints({**application, "deployed_app_config": submitted, **change})["Scaler"]

    first = of_scaler()
    assert of_scaler(last_deployed_time_s=1.0) == first, "a deploy that changed nothing"
    assert of_scaler(deployed_app_config=dict(reversed(submitted.items()))) == first
    other = {**submitted, "deployments": [entry, {"name": "Multi", "num_replicas": 3}]}
    assert of_scaler(deployed_app_config=other) == first, "another deployment's change"
    of_multi = [fingerprints({**application, "deployed_app_config": file})["Multi"] for file in (submitted, other)]
    assert of_multi[0] != of_multi[1]
    own = {**submitted, "deployments": [{**entry, "user_config": {"factor": 2}}]}
    assert of_scaler(deployed_app_config=own) != first
    assert of_scaler(deployed_app_config={**submitted, "runtime_env": {"working_dir": "s3://bucket/v2.zip"}}) != first
    # a new release of the exporter must not look like a deploy of everything
    assert fingerprints(application)["Scaler"] == "3d75e2850cb1"
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


def test_a_fixed_number_of_replicas_is_none_where_there_is_autoscaling():
    document = sample()
    document["applications"]["main"]["deployments"]["Scaler"]["deployment_config"]["num_replicas"] = 2
    assert of(samples(document), "deployment_configured_replicas", deployment="Scaler") == {}


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
# Fuzzing: documents that Ray never sent, made from one that it did. Whatever is exported must stand in the document.

JUNK = st.one_of(
    st.sampled_from(
        (
            *(None, True, 0, -1, -2, 0.5, 1e308, 10**400, "", "3", "HIBERNATING", "two\nlines", "\ud800", [], {}),
            [{"CPU": 1e308}, {"CPU": 1e308}],
        )
    ),
    st.integers() | st.floats() | st.text(max_size=20),
    st.recursive(
        st.none() | st.integers(-5, 5) | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=5,
    ),
)
NAMES = st.sampled_from(("\ud800", 'q"\\\n', "x" * 5000, "num_replicas", "autoscaling_config", "CPU")) | st.text(
    max_size=10
)
# Most of the mutations fall on what the exporter reads; elsewhere they would mostly hit what it leaves alone.
READ = {
    *("applications", "deployments", "replicas", "proxies", "status", "state", "route_prefix", "last_deployed_time_s"),
    *("target_num_replicas", "deployment_config", "autoscaling_config", "required_resources", "CPU", "node_id"),
    *("placement_group_bundles", "backpressure_config", "num_replicas", "deployed_app_config", "name"),
    *(number.path[-1] for number in NUMBERS),
}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of everything inside a document."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in items:
        found += places(member, (*path, key))
    return found


ALL_PLACES = places(sample())
READ_PLACES = [path for path in ALL_PLACES if path[-1] in READ]
FIGURES = [
    path
    for path in READ_PLACES
    if path[-1] in {number.path[-1] for number in NUMBERS} | {"num_replicas", "CPU", "autoscaling_config"}
]
NAMED = [
    path for path in ALL_PLACES if path[0] == "applications" and (len(path), *path[2:3]) in ((2,), (4, "deployments"))
]
PLACES = st.sampled_from(FIGURES) | st.sampled_from(NAMED) | st.sampled_from(READ_PLACES) | st.sampled_from(ALL_PLACES)


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """The real answer with one to six things removed, replaced, renamed, added or doubled."""
    document = sample()
    for path in draw(st.lists(PLACES, min_size=1, max_size=6)):
        holder: Any = document
        for key in path[:-1]:
            holder = holder.get(key) if isinstance(holder, dict) else holder[key] if _holds(holder, key) else None
        key = path[-1]
        if not (isinstance(holder, dict) and key in holder) and not _holds(holder, key):
            continue  # an earlier mutation has taken it away
        how = draw(st.sampled_from(("replace", "replace", "remove", "rename", "add", "double")))
        if how == "remove":
            del holder[key]
        elif how == "rename" and isinstance(holder, dict):
            holder[draw(NAMES)] = holder.pop(key)
        elif how == "add" and isinstance(holder, dict):
            holder[draw(NAMES)] = draw(JUNK)
        elif how == "double" and isinstance(holder[key], list):
            holder[key] = holder[key] * 2
        else:
            holder[key] = draw(JUNK)
    return document


def _holds(holder: Any, key: Any) -> bool:
    return isinstance(holder, list) and isinstance(key, int) and key < len(holder)


def stands_at(value: Any, *path: str) -> Any:
    """What the document holds there, read without any of the exporter's code; None where nothing is."""
    for key in path:
        value = value.get(key) if type(value) is dict else None
    return value


def is_figure(value: Any, least: float) -> bool:
    """A JSON number that a float can hold, and that makes sense."""
    return (
        type(value) in (int, float)
        and -1e400 < value < 1e400
        and abs(value) <= 1.7976931348623157e308
        and (value >= least)
    )


def told_of(document: dict[str, Any]) -> dict[tuple[str, str, str], float]:
    """What must be exported of each deployment and no more: (metric, application, deployment) to its figure."""
    wanted: dict[tuple[str, str, str], float] = {}
    for application, told in document["applications"].items():
        deployments = stands_at(told, "deployments")
        for deployment, one in deployments.items() if type(deployments) is dict else ():
            if type(one) is not dict:
                continue
            for number in NUMBERS:
                value = stands_at(one, *number.path)
                if is_figure(value, number.least):
                    wanted[number.name, application, deployment] = float(value)
            fixed = stands_at(one, "deployment_config", "num_replicas")
            scales = stands_at(one, "deployment_config", "autoscaling_config")
            if type(stands_at(one, "deployment_config")) is dict and not scales and is_figure(fixed, 0):
                wanted["configured_replicas", application, deployment] = float(fixed)
            replicas = one.get("replicas")
            if type(replicas) is list and (there := sum(type(replica) is dict for replica in replicas)):
                wanted["replicas", application, deployment] = there
            bundles = stands_at(one, "deployment_config", "placement_group_bundles")
            holders = bundles if type(bundles) is list and bundles else [one.get("required_resources")]
            cpus = [holder.get("CPU", 0) if type(holder) is dict else None for holder in holders]
            if all(is_figure(cpu, 0) for cpu in cpus) and is_figure(float(sum(cpus)), 0):
                wanted["replica_cpus", application, deployment] = float(sum(cpus))
    return wanted


def written(text: str) -> str:
    """A name as it can stand in UTF-8."""
    return text.encode(errors="backslashreplace").decode()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(document=mutated(), detail=st.builds(Detail, st.booleans(), st.booleans()))
def test_no_document_crashes_it_or_makes_it_lie(document: Any, detail: Detail):
    """Every figure that the document holds is exported, and no figure that it does not hold."""
    if type(document.get("applications")) is not dict:
        with pytest.raises(ServescopeError):
            families(document, detail)
        return
    found = samples(document, detail)
    assert all(math.isfinite(value) for value in found.values())
    exported: dict[tuple[str, str, str], float] = {}
    names = {number.name for number in NUMBERS} | {"configured_replicas", "replicas", "replica_cpus"}
    for (metric, pairs), value in found.items():
        labels = dict(pairs)
        name = metric.removeprefix("servescope_deployment_")
        if name in names and name != metric:
            key = (name, labels["application"], labels["deployment"])
            exported[key] = exported.get(key, 0) + value  # replicas: of every state
    zero = {key for key, value in exported.items() if key[0] == "replicas" and value == 0}  # --all-states
    wanted = {(name, written(a), written(d)): value for (name, a, d), value in told_of(document).items()}
    assert {key: value for key, value in exported.items() if key not in zero} == pytest.approx(wanted)
    for (metric, pairs), value in found.items():
        if metric.endswith(("_status", "_info")):
            assert value in ((0, 1) if detail.all_states else (1,)), (metric, pairs)


@settings(max_examples=200, deadline=None)
@given(
    cut=st.integers(0, 40_000),
    noise=st.binary(max_size=30),
    about_nodes=st.one_of(
        st.binary(max_size=40), JUNK.map(lambda junk: json.dumps({"data": {"result": {"result": junk}}}))
    ),
)
def test_no_bytes_crash_it(cut: int, noise: bytes, about_nodes: bytes | str):
    """An answer that is cut, or holds bytes of something else, is refused, or read without them."""
    body = json.dumps(sample()).encode()
    if isinstance(about_nodes, str):
        about_nodes = about_nodes.encode(errors="replace")
    spoilt = body[:cut] + noise + body[cut + len(noise) :]
    for applications in (spoilt, body[:cut], noise):
        try:
            text = metrics(applications, about_nodes, Detail()).decode()
        except ServescopeError:
            continue
        for family in text_string_to_metric_families(text):
            assert all(math.isfinite(one.value) for one in family.samples)


@settings(max_examples=200, deadline=None, derandomize=True, phases=[Phase.generate])
@given(document=mutated())
def _count_effects(effects: Counter[str], truth: Samples, document: Any) -> None:
    if type(document.get("applications")) is not dict:
        return
    found = samples(document)
    effects["gone"] += bool(truth.keys() - found.keys())
    effects["new"] += bool(found.keys() - truth.keys())
    effects["moved"] += any(found[key] != truth[key] for key in truth.keys() & found.keys())
    effects["same"] += found == truth


def test_the_mutations_reach_what_is_exported():
    """The fuzz test is worth something only if mutations remove, add and change figures."""
    effects: Counter[str] = Counter()
    _count_effects(effects, samples(sample()))
    assert all(effects[kind] >= 10 for kind in ("gone", "new", "moved", "same")), effects


@promtool.requires_promtool
def test_promtool_accepts_the_metrics():
    detail = Detail(all_states=True, each_replica=True)
    result = promtool.run("check", "metrics", stdin=render(families(sample(), detail)).decode())
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_the_catalogue_holds_what_is_exported_and_nothing_else():
    everything = samples(sample(), Detail(all_states=True, each_replica=True), markets={})
    labels: dict[str, set[str]] = {}
    for name, pairs in everything:
        labels.setdefault(name, set()).update(label for label, _ in pairs)
    known = {m.name: set(m.labels) for m in METRICS if m.source is Source.EXPORTER}
    own = {name for name in known if name.startswith("servescope_exporter_")}
    # null in the sample
    assert known.keys() - own - {"servescope_deployment_initial_replicas"} == labels.keys()
    assert all(known[name] == found for name, found in labels.items())
