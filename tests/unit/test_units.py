"""The one table of units: complete, and holding all that the dashboards use."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from servescope.dashboards import all_dashboards
from servescope.grafana import units
from servescope.grafana.units import UNITS
from servescope.report import views
from servescope.settings import Settings


def units_in(value: Any) -> Iterator[str]:
    """Every unit that a dashboard's JSON names: of fields, of columns' overrides, of axes."""
    if isinstance(value, dict):
        if isinstance(value.get("unit"), str):
            yield value["unit"]
        if value.get("id") == "unit":
            yield value["value"]
        for inner in value.values():
            yield from units_in(inner)
    if isinstance(value, list):
        for inner in value:
            yield from units_in(inner)


def test_every_unit_of_a_dashboard_is_in_the_table():
    settings = Settings(price_per_cpu_hour=1)
    used = {unit for board in all_dashboards(settings) for unit in units_in(board.to_json())}
    assert {"ms", "reqps", "dateTimeFromNow"} <= used  # of a field, of a heatmap's cells, of a column
    assert used - set(UNITS) == set()


@pytest.mark.parametrize("unit", UNITS.values(), ids=UNITS)
def test_every_unit_has_its_words_its_steps_and_its_hover_text(unit):
    assert UNITS[unit.id] is unit
    assert re.fullmatch(r"[A-Za-z][^`]+", unit.words)
    sizes = [size for size, _ in unit.steps]
    assert sizes == sorted(sizes) != []
    assert re.fullmatch(r"\.\d~[fprs]", unit.hover_format)
    assert views._hover(unit.id) == {"format": unit.hover_format, "suffix": unit.hover_suffix}


def test_an_unknown_unit_is_shown_after_the_value():
    assert units.unit_of("lengthm").words == "`lengthm`"
    assert units.format_value(2.5, "lengthm") == "2.50 lengthm"
    assert views._hover("lengthm") == {"format": ".4~f", "suffix": " lengthm"}
    assert units.format_value(2.5, "") == "2.50"
