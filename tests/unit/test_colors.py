"""The one table of colours: every colour of a dashboard has its value and its word."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import astuple
from typing import Any

from servescope.dashboards import all_dashboards
from servescope.grafana import colors
from servescope.grafana.colors import CLASSIC_PALETTE, COLORS, PALETTE
from servescope.settings import Settings


def colors_in(value: Any) -> Iterator[str]:
    """The colours of thresholds, states, overrides and annotations in a dashboard's JSON."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in ("color", "fixedColor", "iconColor") and isinstance(inner, str) and not inner.startswith("rgba"):
                yield inner
            yield from colors_in(inner)
    if isinstance(value, list):
        for inner in value:
            yield from colors_in(inner)


def test_every_colour_of_a_dashboard_is_in_the_table():
    used = {color for board in all_dashboards(Settings()) for color in colors_in(board.to_json())}
    assert {PALETTE.failing, PALETTE.growing, PALETTE.muted} <= used
    assert used - set(COLORS) == set()
    assert used - set(astuple(PALETTE)) == set()  # a colour without a meaning


def test_the_meanings_have_values_and_words_of_their_own():
    known = [COLORS[name] for name in astuple(PALETTE)]
    assert len({color.css for color in known}) == len({color.word for color in known}) == len(known)
    for css in (*(color.css for color in known), *CLASSIC_PALETTE):
        assert re.fullmatch(r"#[0-9a-f]{6}", css)


def test_what_the_table_lacks_is_css_already():
    assert (colors.css("orange"), colors.word("orange")) == ("#ff9830", "amber")
    assert (colors.css("#123456"), colors.word("#123456")) == ("#123456", "#123456")
    assert colors.css("text") == ""
