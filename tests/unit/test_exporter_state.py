"""What the exporter reads from Serve's REST API: the right figures, and none for missing fields."""

from __future__ import annotations

import json
import math
import re
import string
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from servescope.catalog import METRICS
from servescope.catalog.model import Source
from servescope.errors import ServescopeError
from servescope.exporter.state import REPLICA_STATES, Detail, Markets, families, fingerprints, markets_of, text_format
from servescope.exporter.worker import metrics
from tests.support import promtool
from tests.support.ray_rest_api import generated, nodes, sample

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(document: Any, detail: Detail = Detail(), markets: Markets | None = None) -> Samples:  # noqa: B008
    collected = families(document, detail, markets)
    text_format(collected)  # whatever it holds can be written
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


def test_all_states_are_exported_on_request():
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


def test_replicas_are_counted_by_the_market_of_their_node():
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


def test_a_starting_replica_without_a_node_is_unplaced():
    document = sample()
    replicas = document["applications"]["main"]["deployments"]["Multi"]["replicas"]
    reported = [("STARTING", None), ("STARTING", None), ("STARTING", "n"), ("STOPPING", None), ("RUNNING", "n")]
    somewhere = replicas[0]
    nowhere = {key: value for key, value in somewhere.items() if key != "node_id"}  # as in Ray's response
    replicas[:] = [{**(somewhere if node else nowhere), "state": state} for state, node in reported]
    replicas[0]["node_id"] = None
    del document["applications"]["other"]["deployments"]["Plain"]["replicas"]
    found = of(samples(document), "deployment_unplaced_replicas")
    assert (found["main", "Multi"], found["main", "Scaler"]) == (2, 0)
    assert ("other", "Plain") not in found, "nothing is made up"


def test_what_may_hold_secrets_is_nowhere():
    document = sample()
    application = document["applications"]["main"]
    scaler = application["deployments"]["Scaler"]
    application["message"] = scaler["message"] = "\x1b[36mTraceback\n  password=hunter2"
    scaler["deployment_config"]["user_config"] = {"api_key": "hunter2"}
    scaler["deployment_config"]["ray_actor_options"]["runtime_env"] = {"env_vars": {"TOKEN": "hunter2"}}
    application["deployed_app_config"]["runtime_env"] = {"env_vars": {"TOKEN": "hunter2"}}
    text = text_format(families(document, Detail(all_states=True, each_replica=True)))
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
# Fuzzing: documents that Ray never sent, made from one that it did. Everything exported must be in the document.

JUNK = st.one_of(
    st.sampled_from(
        (
            None,
            True,
            0,
            -1,
            -2,
            0.5,
            1e308,
            10**400,
            "",
            "3",
            "HIBERNATING",
            "two\nlines",
            "\ud800",
            [],
            {},
        )
    ),
    st.integers() | st.floats() | st.text(max_size=20),
    st.recursive(
        st.none() | st.integers(-5, 5) | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=5,
    ),
)
SAMPLE_NODE = sample()["applications"]["main"]["deployments"]["Multi"]["replicas"][0]["node_id"]
# Where junk would hardly ever make sense: what nearly does, on both sides of every bound.
AMOUNTS = st.dictionaries(
    st.sampled_from(("CPU", "GPU", "memory", "other")),
    st.sampled_from((0, 0.5, 2, 3, 5e9, 1e308, 1e308, -1, None, True)),
    max_size=4,
)
TIMES = st.sampled_from((0, 0.5, 1, 1.8e9))
REPLICA = st.fixed_dictionaries(
    {"state": st.sampled_from(("STARTING", "STARTING", "STOPPING", "NEW"))},
    optional={
        "replica_id": st.sampled_from(("a", "b", "")),
        "node_id": st.sampled_from((None, None, "", "nowhere", SAMPLE_NODE)),
        "node_ip": st.sampled_from((None, "192.0.2.3")),
        "start_time_s": TIMES,
    },
)
LIKELY: dict[str, st.SearchStrategy[Any]] = {
    "placement_group_bundles": st.lists(AMOUNTS | st.just(3), min_size=1, max_size=3)
    | st.just([{"CPU": 1e308, "GPU": 1}] * 2)
    | st.just([{"CPU": 0.5, "memory": 5e9}, {"GPU": 2}]),
    "required_resources": AMOUNTS,
    "max_queued_requests": st.sampled_from((-2, -1, 0)),
    "state": st.sampled_from(("STARTING", "STOPPING", "NEW", "", "a b", "x" * 41)),
    "status": st.sampled_from(("UNHEALTHY", "NEW", "", "a b", "x" * 41)),
    "node_id": st.sampled_from((None, "", "nowhere")),
    "replicas": st.lists(REPLICA, max_size=4),
    "last_deployed_time_s": TIMES,
    "start_time_s": TIMES,
    "autoscaling_config": st.sampled_from((None, {}, {"max_replicas": 4})),
}
NAMES = st.sampled_from(
    ("\ud800", 'q"\\\n', "x" * 5000, "num_replicas", "autoscaling_config", "CPU", "GPU", "memory", "node_id", "state")
) | st.text(max_size=10)
# Most of the mutations fall on what the exporter reads; elsewhere they would mostly hit what it leaves alone.
READ = {
    "applications",
    "deployments",
    "replicas",
    "proxies",
    "status",
    "state",
    "route_prefix",
    "last_deployed_time_s",
    "target_num_replicas",
    "deployment_config",
    "autoscaling_config",
    "required_resources",
    "CPU",
    "node_id",
    "placement_group_bundles",
    "backpressure_config",
    "num_replicas",
    "deployed_app_config",
    "name",
    "GPU",
    "memory",
    "replica_id",
    "node_ip",
    "start_time_s",
    "min_replicas",
    "max_replicas",
    "initial_replicas",
    "status_code",
    "target_ongoing_requests",
    "upscale_delay_s",
    "downscale_delay_s",
    "max_ongoing_requests",
    "max_queued_requests",
    "rolling_update_percentage",
    "graceful_shutdown_timeout_s",
    "health_check_period_s",
    "health_check_timeout_s",
}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of everything inside a document."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in items:
        found += places(member, (*path, key))
    return found


def to_mutate() -> dict[str, Any]:
    """The real response, with placeholders for fields that Ray omits when unset."""
    document = sample()
    for application in document["applications"].values():
        for deployment in application["deployments"].values():
            deployment["deployment_config"].setdefault("placement_group_bundles", None)
    return document


ALL_PLACES = places(to_mutate())
READ_PLACES = [path for path in ALL_PLACES if path[-1] in READ]
# Every key is as likely as any other, however often it is in the document.
KEYS = {key: [path for path in READ_PLACES if path[-1] == key] for key in sorted({path[-1] for path in READ_PLACES})}
NAMED = [
    path for path in ALL_PLACES if path[0] == "applications" and (len(path), *path[2:3]) in ((2,), (4, "deployments"))
]
PLACES = (
    st.sampled_from(sorted(LIKELY)).flatmap(lambda key: st.sampled_from(KEYS[key]))
    | st.sampled_from(sorted(KEYS)).flatmap(lambda key: st.sampled_from(KEYS[key]))
    | st.sampled_from(NAMED)
    | st.sampled_from(ALL_PLACES)
)


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """The real answer with one to eight things removed, replaced, renamed, added or doubled."""
    document = to_mutate()
    for path in draw(st.lists(PLACES, min_size=1, max_size=8)):
        holder: Any = document
        for key in path[:-1]:
            holder = holder.get(key) if isinstance(holder, dict) else holder[key] if _holds(holder, key) else None
        key = path[-1]
        if not (isinstance(holder, dict) and key in holder) and not _holds(holder, key):
            continue  # an earlier mutation has taken it away
        how = draw(st.sampled_from((*["replace"] * 5, "remove", "rename", "add", "double")))
        if how == "remove":
            del holder[key]
        elif how == "rename" and isinstance(holder, dict):
            holder[draw(NAMES)] = holder.pop(key)
        elif how == "add" and isinstance(holder, dict):
            holder[draw(NAMES)] = draw(JUNK)
        elif how == "double" and isinstance(holder[key], list):
            holder[key] = holder[key] * 2
        else:
            holder[key] = draw(JUNK if draw(st.integers(0, 3)) == 3 else LIKELY.get(key, JUNK))
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


# Stated independently of the code: where Ray's answer has a deployment's figures, and the least that makes sense.
CONFIG, SCALING = ("deployment_config",), ("deployment_config", "autoscaling_config")
DEPLOYMENT_FIGURES: dict[str, tuple[tuple[str, ...], float]] = {
    "min_replicas": ((*SCALING, "min_replicas"), 0),
    "max_replicas": ((*SCALING, "max_replicas"), 0),
    "initial_replicas": ((*SCALING, "initial_replicas"), 0),
    "target_ongoing_requests": ((*SCALING, "target_ongoing_requests"), 0),
    "upscale_delay_seconds": ((*SCALING, "upscale_delay_s"), 0),
    "downscale_delay_seconds": ((*SCALING, "downscale_delay_s"), 0),
    "target_replicas": (("target_num_replicas",), 0),
    "max_ongoing_requests": ((*CONFIG, "max_ongoing_requests"), 0),
    "max_queued_requests": ((*CONFIG, "max_queued_requests"), -1),
    "backpressure_status_code": ((*CONFIG, "backpressure_config", "status_code"), 0),
    "rolling_update_percentage": ((*CONFIG, "rolling_update_percentage"), 0),
    "graceful_shutdown_timeout_seconds": ((*CONFIG, "graceful_shutdown_timeout_s"), 0),
    "health_check_period_seconds": ((*CONFIG, "health_check_period_s"), 0),
    "health_check_timeout_seconds": ((*CONFIG, "health_check_timeout_s"), 0),
}
RESERVED = {"replica_cpus": "CPU", "replica_gpus": "GPU", "replica_memory_bytes": "memory"}
# What --all-states exports as 0, as in the HELP texts of Ray's status gauges and its replica states have them.
APPLICATION_STATES = ("UNKNOWN", "DEPLOY_FAILED", "UNHEALTHY", "NOT_STARTED", "DELETING", "DEPLOYING", "RUNNING")
DEPLOYMENT_STATES = ("UNKNOWN", "DEPLOY_FAILED", "UNHEALTHY", "UPDATING", "UPSCALING", "DOWNSCALING", "HEALTHY")
PROXY_STATES = ("STARTING", "HEALTHY", "UNHEALTHY", "DRAINING", "DRAINED")
STATES_OF_REPLICAS = ("STARTING", "UPDATING", "RECOVERING", "RUNNING", "STOPPING", "PENDING_MIGRATION")
STATE_CHARACTERS = set(string.ascii_letters + string.digits + "_-")


def state_of(value: Any) -> str:
    """A state is a word of at most 40 characters, whatever else is there is OTHER."""
    return value if type(value) is str and 0 < len(value) <= 40 and set(value) <= STATE_CHARACTERS else "OTHER"


def objects(value: Any) -> list[tuple[str, dict[str, Any]]]:
    return [(name, one) for name, one in value.items() if type(one) is dict] if type(value) is dict else []


def elements(value: Any) -> list[Any]:
    return value if type(value) is list else []


def told_of(document: dict[str, Any], detail: Detail, markets: Markets | None) -> Samples:
    """What must be exported of a document, and no more, but for the fingerprints."""
    wanted: Samples = {}

    def expect(metric: str, value: float, **labels: Any) -> None:
        key = {name: written(text) if type(text) is str else "" for name, text in labels.items()}
        wanted[f"servescope_{metric}", tuple(sorted(key.items()))] = float(value)

    def tell_states(metric: str, label: str, present: list[Any], known: tuple[str, ...], **labels: str) -> None:
        counts = dict.fromkeys(known, 0) if detail.all_states else {}
        for value in present:
            counts[state_of(value)] = counts.get(state_of(value), 0) + 1
        for state, count in counts.items():
            expect(metric, count, **labels, **{label: state})

    def tell_deployment(one: dict[str, Any], **names: str) -> None:
        status = [one["status"]] if type(one.get("status")) is str else []
        tell_states("deployment_status", "status", status, DEPLOYMENT_STATES, **names)
        for metric, (path, least) in DEPLOYMENT_FIGURES.items():
            if is_figure(value := stands_at(one, *path), least):
                expect(f"deployment_{metric}", value, **names)
        config = one.get("deployment_config")
        if type(config) is dict and not config.get("autoscaling_config") and is_figure(config.get("num_replicas"), 0):
            expect("deployment_configured_replicas", config["num_replicas"], **names)
        bundles = elements(stands_at(config, "placement_group_bundles")) or [one.get("required_resources")]
        for metric, resource in RESERVED.items():
            shares = [bundle.get(resource, 0) if type(bundle) is dict else None for bundle in bundles]
            if all(is_figure(share, 0) for share in shares) and math.isfinite(total := sum(map(float, shares))):
                expect(f"deployment_{metric}", total, **names)
        replicas = [replica for replica in elements(one.get("replicas")) if type(replica) is dict]
        states = [replica.get("state") for replica in replicas]
        tell_states("deployment_replicas", "state", states, STATES_OF_REPLICAS, **names)
        if type(one.get("replicas")) is list:
            waiting = [replica for replica in replicas if replica.get("state") == "STARTING"]
            without = sum(replica.get("node_id") is None for replica in waiting)
            expect("deployment_unplaced_replicas", without, **names)
        tell_markets([replica.get("node_id") for replica in replicas], **names)
        if detail.each_replica:
            tell_each(replicas, **names)

    def tell_markets(hosts: list[Any], **names: str) -> None:
        placed = [host for host in hosts if type(host) is str and host] if markets is not None else []
        paid = [(markets or {}).get(written(host), "unknown") for host in placed]
        for market in set(paid):
            expect("deployment_market_replicas", paid.count(market), **names, market_type=market)

    def tell_each(replicas: list[dict[str, Any]], **names: str) -> None:
        first: dict[str, dict[str, Any]] = {}  # of two with one name, the first counts
        for replica in replicas:
            if type(name := replica.get("replica_id")) is str and name:
                first.setdefault(name, replica)
        for name, replica in first.items():
            if is_figure(replica.get("start_time_s"), 1):
                more = {"replica": name, "node_ip": replica.get("node_ip"), "state": state_of(replica.get("state"))}
                expect("replica_start_time_seconds", replica["start_time_s"], **names, **more)

    for application, reported in objects(document["applications"]):
        expect("application_info", 1, application=application, route_prefix=reported.get("route_prefix"))
        status = [reported["status"]] if type(reported.get("status")) is str else []
        tell_states("application_status", "status", status, APPLICATION_STATES, application=application)
        if is_figure(deployed := reported.get("last_deployed_time_s"), 1):
            expect("application_last_deployed_timestamp_seconds", deployed, application=application)
        for deployment, one in objects(reported.get("deployments")):
            tell_deployment(one, application=application, deployment=deployment)
    tell_states(
        "proxies", "status", [proxy.get("status") for _, proxy in objects(document.get("proxies"))], PROXY_STATES
    )
    return wanted


def configured(document: dict[str, Any]) -> set[tuple[str, str]]:
    """The deployments that have a configuration, and so a fingerprint."""
    return {
        (written(application), written(deployment))
        for application, reported in objects(document["applications"])
        for deployment, one in objects(reported.get("deployments"))
        if type(one.get("deployment_config")) is dict
    }


def written(text: str) -> str:
    """A name that can be encoded as UTF-8."""
    return text.encode(errors="backslashreplace").decode()


MARKETS = st.none() | st.dictionaries(
    st.sampled_from((SAMPLE_NODE, "\\ud800", "3")), st.sampled_from(("spot", "on-demand", "unknown"))
)


def at_the_bounds() -> dict[str, Any]:
    """What chance seldom puts together, for every run: a value on each side of a bound, and replicas of each kind."""
    document = to_mutate()
    main, other = (document["applications"][name] for name in ("main", "other"))
    deployments = main["deployments"]
    bundles = [[{"CPU": 1e308, "GPU": 1}] * 2, [{"CPU": 0.5, "memory": 5e9}, {"GPU": 2}]]
    for name, reported in zip(("Scaler", "Multi"), bundles, strict=True):
        deployments[name]["deployment_config"]["placement_group_bundles"] = reported
    for name, queued in (("Scaler", -2), ("Multi", -1), ("Gateway", 0)):
        deployments[name]["deployment_config"]["max_queued_requests"] = queued
    main["last_deployed_time_s"], other["last_deployed_time_s"] = 0.5, 1
    one = {"replica_id": "a", "state": "STARTING", "node_id": None, "node_ip": None, "start_time_s": 1}
    deployments["Multi"]["replicas"] = [
        one,
        {**one, "state": "RUNNING"},  # the same replica twice
        {**one, "replica_id": "b", "node_id": SAMPLE_NODE},
        {**one, "replica_id": "c", "node_id": ""},
        {**one, "replica_id": "d", "state": "STOPPING", "start_time_s": 0.5},
        {"replica_id": "e", "state": "STARTING", "node_ip": "192.0.2.3"},
        {"node_id": "nowhere"},
        None,
    ]
    return document


@example(document=at_the_bounds(), detail=Detail(all_states=True, each_replica=True), markets={SAMPLE_NODE: "spot"})
@example(document=at_the_bounds(), detail=Detail(), markets=None)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(document=mutated(), detail=st.builds(Detail, st.booleans(), st.booleans()), markets=MARKETS)
def test_no_document_crashes_it_or_makes_it_lie(document: Any, detail: Detail, markets: Markets | None):
    """Every figure that the document holds is exported, and no figure that it does not hold."""
    if type(document.get("applications")) is not dict:
        with pytest.raises(ServescopeError):
            families(document, detail, markets)
        return
    found = samples(document, detail, markets)
    assert all(math.isfinite(value) for value in found.values())
    infos = [dict(pairs) for metric, pairs in found if metric == "servescope_deployment_config_info"]
    assert all(re.fullmatch("[0-9a-f]{12}", info["fingerprint"]) for info in infos)
    assert sorted((info["application"], info["deployment"]) for info in infos) == sorted(configured(document))
    figures = {key: value for key, value in found.items() if key[0] != "servescope_deployment_config_info"}
    assert figures == pytest.approx(told_of(document, detail, markets))


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
    result = promtool.run("check", "metrics", stdin=text_format(families(sample(), detail)).decode())
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
