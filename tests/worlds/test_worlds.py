"""Every alert, and every panel of the overview and the deployment dashboard, in every world."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from servescope.clients.prometheus import Prometheus
from servescope.grafana.panel_json import NOTHING
from servescope.rules import alerts
from servescope.settings import Settings
from tests.support import remote_write
from tests.support.backfilled_prometheus import BackfilledPrometheus
from tests.support.promtool import requires_promtool
from tests.worlds import __main__ as table
from tests.worlds import ask, victoriametrics
from tests.worlds.language import SCRAPE_S, pushed, read
from tests.worlds.worlds import all_worlds, own_worlds

WORLDS = all_worlds()
OWN = own_worlds()
EACH = [pytest.param(world, id=world.name) for world in WORLDS]
# In the past, and apart by more than the longest window, the 30 days of an objective.
FIRST = 1_577_836_800
START = {world.name: FIRST + 32 * 86_400 * number for number, world in enumerate(WORLDS)}


def test_names_are_unique_and_alerts_exist():
    assert len({world.name for world in WORLDS}) == len(WORLDS)
    known = {alert.name for alert in alerts.all_alerts(Settings())} | {"RayServeErrorBudgetBurn"}
    for world in WORLDS:
        assert world.must | world.may <= known, world.name
        assert not world.must & world.may, world.name


def test_the_notation_of_promtool_is_read():
    assert read("x", "_x2 1 2x1 0+3x2 7", minutes=2.5).values == (None, None, 1, 2, 2, 0, 3, 6, 7, None, None)
    assert read('x{a="b"}', "1x20", minutes=0.5).values == (1, 1, 1)


def test_the_table_in_the_documentation_is_up_to_date():
    assert table.PAGE.read_text(encoding="utf-8") == table.page(), "run python -m tests.worlds --write"


@requires_promtool
@pytest.mark.parametrize("world", [pytest.param(world, id=world.name) for world in OWN])
def test_promtool_says_what_is_right(world, tmp_path):
    said = ask.run_promtool([world], tmp_path, world.settings)
    assert not said, f"{world.right}\n{said}"


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A real Prometheus that holds all worlds, one after the other."""
    place = BackfilledPrometheus(tmp_path_factory.mktemp("worlds"))
    with place.server("--web.enable-remote-write-receiver") as url, Prometheus(url) as client:
        for world in WORLDS:
            remote_write.push(f"{url}/api/v1/write", pushed(world.series, START[world.name]))
        yield client


@requires_promtool
@pytest.mark.parametrize("world", EACH)
def test_a_real_prometheus_says_the_same(world, prometheus):
    start = START[world.name] + SCRAPE_S
    names = ask.fired(prometheus, world, start)
    of_slos = {"RayServeErrorBudgetBurn"}  # reads recorded series
    assert world.must - of_slos <= names <= world.must | world.may, world.right


@requires_promtool
@pytest.mark.parametrize("world", EACH)
def test_every_panel_answers_and_shows_what_is_there(world, prometheus):
    shown = ask.shown(prometheus, world, START[world.name])
    assert len(shown) > 80
    assert {panel: shown[panel] for panel in world.shows} == dict(world.shows), world.right


@requires_promtool
def test_what_ends_is_gone_from_the_next_scrape_on(prometheus):
    (world,) = [world for world in WORLDS if world.name == "the only cluster, which served, ends"]
    ends = START[world.name] + 30 * 60
    counts = [len(prometheus.query("ray_serve_application_status", at)) for at in (ends - 1, ends)]
    assert counts == [1, 0]


@pytest.fixture(scope="module")
def victoria(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A VictoriaMetrics that holds all worlds, one after the other."""
    with _victoria(tmp_path_factory) as client:
        yield client


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Another one, into which vmalert writes what it makes of them."""
    with _victoria(tmp_path_factory) as client:
        yield client


@contextmanager
def _victoria(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with victoriametrics.server(tmp_path_factory.mktemp("victoria")) as url, Prometheus(url) as client:
        for world in WORLDS:
            remote_write.push(f"{url}/api/v1/write", pushed(world.series, START[world.name]))
        victoriametrics.flush(url)
        yield client


@victoriametrics.required
@pytest.mark.parametrize("world", EACH)
def test_vmalert_says_the_same(world, evaluated, tmp_path):
    start, end = START[world.name], START[world.name] + int(world.minutes) * 60
    rules = [*ask.documents(world.settings), ask.plain_rules(world.settings)]
    victoriametrics.replay(evaluated.url, rules, start=start, end=end, folder=tmp_path)
    names = {one["metric"]["alertname"] for one in evaluated.query(ask.fired_expression(world, ()), end)}
    assert world.must <= names <= world.must | world.may, world.right
    for expr in ask.differences(f"{int(world.minutes)}m"):
        assert evaluated.query(expr, end) == []
    figures = {expr: evaluated.query(f"round(sum({expr}), 0.001)", end) for expr in world.figures}
    assert {expr: float(vector[0]["value"][1]) if vector else None for expr, vector in figures.items()} == world.figures


# Where VictoriaMetrics answers otherwise, as docs/set-ups.md says: quantiles where one bound has two texts, `5000` and
# `5000.0`. It adds the two, also after one has ended.
DIFFERENT = {
    "Prometheus 2 becomes 3": {
        ("servescope-overview", "Latency"),
        ("servescope-overview", "Top deployments by latency (p95)"),
        ("servescope-deployment", "Processing time"),
        ("servescope-deployment", "Router wait"),
    }
}


@victoriametrics.required
@requires_promtool
@pytest.mark.parametrize("world", EACH)
def test_victoriametrics_shows_the_same_panels(world, prometheus, victoria):
    if int(prometheus.program_and_version()[1].split(".")[0]) < 3:
        pytest.skip("Prometheus 2 counts both ends of a window: make test-stores compares with a Prometheus 3")
    theirs, ours = (ask.shown(store, world, START[world.name]) for store in (prometheus, victoria))
    assert ours.keys() == theirs.keys()
    other = {panel for panel in ours if ours[panel] != pytest.approx(_without_nan(theirs[panel], panel))}
    assert other == DIFFERENT.get(world.name, set()), {panel: (theirs[panel], ours[panel]) for panel in other}


def _without_nan(values: tuple[float, ...], panel: tuple[str, str]) -> tuple[float, ...]:
    """Values as a store gives them that leaves NaN out; a figure of now has NOTHING then."""
    if values and panel in ask.FIGURES_OF_NOW and math.isnan(values[0]):
        return (NOTHING,)
    return tuple(value for value in values if not math.isnan(value))
