"""Two oracles for what Grafana reads: npm's @grafana/schema by tsc, and grafana-foundation-sdk by a round trip."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from servescope.dashboards import all_dashboards
from servescope.settings import Settings
from tests.oracles import foundation, typescript

BOARDS: dict[str, dict[str, Any]] = {
    f"{board.uid}{'-recorded' if recorded else ''}": board.to_json()
    for recorded in (False, True)
    for board in all_dashboards(Settings(), recorded=recorded)
}


def broken(change: Any) -> dict[str, Any]:
    document = copy.deepcopy(BOARDS["servescope-overview"])
    panel = next(panel for panel in document["panels"] if panel["type"] == "timeseries")
    change(panel)
    return document


BROKEN = {
    "unknown-option": broken(lambda panel: panel["options"].update(nullPointMode="connected")),
    "unknown-custom": broken(lambda panel: panel["fieldConfig"]["defaults"]["custom"].update(lineWidht=2)),
    "wrong-enum": broken(lambda panel: panel["options"]["tooltip"].update(mode="all")),
    "threshold-text": broken(
        lambda panel: panel["fieldConfig"]["defaults"]["thresholds"]["steps"][0].update(value="null")
    ),
}


@typescript.requires_npm
def test_panels_fit_grafanas_own_types():
    complaints = typescript.check(BOARDS | BROKEN)
    assert [line for line in complaints if not any(f"out/{name}.ts" in line for name in BROKEN)] == []
    for name in BROKEN:
        assert any(f"out/{name}.ts" in line for line in complaints), f"{name} was not refused"


@pytest.mark.parametrize("name", BOARDS)
def test_a_round_trip_through_the_foundation_sdk_loses_nothing(name):
    assert foundation.lost_keys(BOARDS[name]) == set()


def test_the_round_trip_finds_what_grafana_does_not_know():
    assert foundation.lost_keys(BROKEN["unknown-option"]) == {"panels[].options.nullPointMode"}
    assert foundation.lost_keys(BROKEN["unknown-custom"]) == {"panels[].fieldConfig.defaults.custom.lineWidht"}


def test_every_excuse_is_used():
    with_excuses = set()
    for document in BOARDS.values():
        returned = foundation.returned(document)
        with_excuses |= foundation.paths(document) - foundation.paths(returned)
    assert set(foundation.LOST_WITH_REASON) - with_excuses == set()
