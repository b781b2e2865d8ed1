"""Recorded panels say what plain ones say, at ranges of 15 minutes and of 6 hours.

promtool writes six hours of a steady load into blocks, then the recording rules over them, as one does who adds the
rules to a Prometheus that has been there before. A real Prometheus then answers both variants of each panel.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from itertools import product
from statistics import mean
from typing import Any

import pytest

from demo import ROOT
from servescope import catalog
from servescope.catalog.model import Kind
from servescope.clients.prometheus import Prometheus
from servescope.dashboards import all_dashboards
from servescope.errors import ServescopeError
from servescope.grafana.templating import Interpolation
from servescope.report.queries import Window, panels_of, select_variables
from servescope.settings import Settings
from tests.support.backfilled_prometheus import BackfilledPrometheus
from tests.support.promtool import requires_promtool

SETTINGS = Settings()
BOARDS = ("servescope-overview", "servescope-deployment")
NOT_STEADY = {"Last change, before and after"}  # answers after a deploy only, and a steady load has none
COUNTS = {"Replica starts", "Health check failures", "Failed calls"}  # of a step, or of a minute where recorded
WITHIN = 0.05
SCRAPE_S = 15
HOURS_S = 6 * 3600
START = 1_760_400_000  # unix seconds; any time will do
END = START + HOURS_S + 600  # the first windows look back before the range
RANGES = {"15 min": Window(END - 900, END, step_s=15), "6 h": Window(END - HOURS_S, END, step_s=30)}

# What each label may say; the others say "x". The rest follows from the catalogue.
VALUES = {
    "application": ("shop",),
    "deployment": ("Front.v1", "LLMServer:qwen-0_5b"),
    "replica": ("r1", "r2"),
    "status_code": ("200", "404", "429", "499", "500", "503"),
    "method": ("GET", "WS"),
    "Component": ("ray::ServeReplica:shop:Front.v1", "ray::ServeReplica:shop:LLMServer:qwen-0_5b.handle_request"),
}
# One deployment whose replicas are missing, one at rest: the timeline of states has both.
LEVELS = {
    ("ray_serve_autoscaling_target_replicas", "Front.v1"): 100,
    ("ray_serve_autoscaling_target_replicas", "LLMServer:qwen-0_5b"): 20,
    ("ray_serve_deployment_replica_healthy", "LLMServer:qwen-0_5b"): 20,
    ("servescope_deployment_max_replicas", "LLMServer:qwen-0_5b"): 20,
}
BOUNDS = ("50", "100", "200", "500", "1000", "2000", "5000", "+Inf")
SHARES = (0.05, 0.25, 0.5, 0.8, 0.93, 0.97, 0.995, 1.0)  # of observations up to each bound


def differing() -> Iterator[tuple[str, str, dict[str, Any], dict[str, Any]]]:
    """The targets that read recorded series: dashboard, panel, plain target, recorded target."""
    boards = {b.uid: b.to_json() for b in all_dashboards(SETTINGS) if b.uid in BOARDS}
    recorded = {b.uid: b.to_json() for b in all_dashboards(SETTINGS, recorded=True) if b.uid in BOARDS}
    for uid in BOARDS:
        for plain, other in zip(panels_of(boards[uid]), panels_of(recorded[uid]), strict=True):
            if plain["title"] in NOT_STEADY:
                continue
            for target, twin in zip(plain.get("targets", []), other.get("targets", []), strict=True):
                if target["datasource"]["type"] == "prometheus" and target["expr"] != twin["expr"]:
                    yield uid, plain["title"], target, twin


def samples_read() -> set[str]:
    """The names of all samples that the plain targets read."""
    names = {name for *_, target, _ in differing() for name in re.findall(r"[a-zA-Z_:][a-zA-Z0-9_:]*", target["expr"])}
    known = set()
    for name in names:
        try:
            catalog.metric_of_sample(name)
        except ServescopeError:
            continue
        known.add(name)
    return known


def steady_load(chance: random.Random) -> Iterator[str]:
    """Six hours of a steady load as OpenMetrics text: counters grow within 5 % of their pace, gauges are constant."""
    times = range(START, END + 1, SCRAPE_S)
    for sample in sorted(samples_read()):
        metric = catalog.metric_of_sample(sample)
        labels = [label for label in metric.labels if label != "le"]
        choices = [VALUES.get(label, ("x",)) for label in labels]
        combinations = list(product(*choices))
        if "status_code" in labels:  # what proxies answer for no application at all
            combinations += [tuple("" if label == "application" else "x" for label in labels)]
        for values in combinations:
            pairs = {label: value for label, value in zip(labels, values, strict=True) if value}
            pairs |= {"ray_io_cluster": "blocks", "job": "ray", "instance": "127.0.0.1:8080"}
            text = ",".join(f'{name}="{value}"' for name, value in pairs.items())
            pace = chance.uniform(1, 20)
            pace = LEVELS.get((sample, pairs.get("deployment", "")), pace)
            if metric.kind is Kind.GAUGE:
                yield from (f"{sample}{{{text}}} {pace:.0f} {t}\n" for t in times)
                continue
            grown = [chance.uniform(0.95, 1.05) * pace * SCRAPE_S for _ in times]
            bounds = zip(BOUNDS, SHARES, strict=True) if sample.endswith("_bucket") else [("", 1.0)]
            for bound, share in bounds:
                series = f'{sample}{{{text},le="{bound}"}}' if bound else f"{sample}{{{text}}}"
                count = 0.0
                for t, more in zip(times, grown, strict=True):
                    count += share * more
                    yield f"{series} {count:.3f} {t}\n"
    yield from (f'up{{job="ray",instance="127.0.0.1:8080",ray_io_cluster="blocks"}} 1 {t}\n' for t in times)
    yield "# EOF\n"


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus over six hours that it has never scraped, with the recording rules filled in afterwards."""
    backfilled = BackfilledPrometheus(tmp_path_factory.mktemp("blocks"))
    backfilled.backfill(steady_load(random.Random(7)))
    backfilled.backfill_rules([ROOT / "alerts/servescope-recording.yml"], START + 300, END)
    with backfilled.server() as url, Prometheus(url) as client:
        yield client


def answers(
    prometheus: Prometheus, target: dict[str, Any], scope: Interpolation, window: Window
) -> dict[Any, list[float]]:
    """Each series that a target draws, with its points."""
    expression = scope.promql(target["expr"])
    if target.get("instant"):
        found = [(s["metric"], [s["value"]]) for s in prometheus.query(expression, window.end)]
    else:
        found = [
            (s["metric"], s["values"])
            for s in prometheus.query_range(expression, start=window.start, end=window.end, step_s=window.step_s)
        ]
    return {frozenset(metric.items()): [float(value) for _, value in points] for metric, points in found}


@requires_promtool
@pytest.mark.parametrize("name", RANGES)
def test_recorded_panels_say_what_plain_ones_say(prometheus, name):
    window = RANGES[name]
    boards = {b.uid: b.to_json() for b in all_dashboards(SETTINGS) if b.uid in BOARDS}
    scopes = {
        uid: Interpolation(select_variables(board, prometheus, window, every=True), window.macros())
        for uid, board in boards.items()
    }
    compared: set[tuple[str, str]] = set()
    apart = {}
    for uid, title, plain, recorded in differing():
        truth, said = (answers(prometheus, target, scopes[uid], window) for target in (plain, recorded))
        figure = sum if title in COUNTS else mean
        truth, said = ({key: figure(points) for key, points in one.items()} for one in (truth, said))
        assert truth, f"{uid} / {title}: no data for {plain['expr']}"
        compared.add((uid, title))
        for labels in truth.keys() | said.keys():
            pair = (truth.get(labels), said.get(labels))
            within = 2 * WITHIN if title in COUNTS else WITHIN  # a range ends within a minute
            if None in pair or not abs(pair[1] - pair[0]) <= within * abs(pair[0]):
                apart[f"{uid} / {title} / {plain['refId']} {dict(labels)}"] = pair
    assert apart == {}
    assert compared == {(uid, title) for uid, title, *_ in differing()}
    assert len(compared) >= 20
