"""Every alert, and every panel of the overview and the deployment dashboard, in every world."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from servescope.clients.prometheus import Prometheus
from servescope.rules import alerts
from servescope.settings import Settings
from tests.support.backfilled_prometheus import BackfilledPrometheus
from tests.support.promtool import requires_promtool
from tests.worlds import __main__ as table
from tests.worlds import ask
from tests.worlds.language import SCRAPE_S, World, openmetrics, read
from tests.worlds.worlds import all_worlds, own_worlds

WORLDS = all_worlds()
OWN = own_worlds()
EACH = [pytest.param(world, id=world.name) for world in WORLDS]
# Each world has a day of its own in the past: block boundaries are at even hours.
FIRST = 1_760_400_000 // 86_400 * 86_400
START = {world.name: FIRST + 86_400 * number for number, world in enumerate(WORLDS)}


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
    backfilled = BackfilledPrometheus(tmp_path_factory.mktemp("worlds"))
    backfilled.backfill(_samples(WORLDS))
    with backfilled.server() as url, Prometheus(url) as client:
        yield client


def _samples(worlds: list[World]) -> Iterator[str]:
    for world in worlds:
        yield from openmetrics(world.series, START[world.name])
    yield "# EOF\n"


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
