"""Colours: what each means on a dashboard, Grafana's name for it, its hex value and the word for it in the docs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Palette:
    """Colours mean one thing each, on every dashboard."""

    failing: str = "red"
    at_risk: str = "orange"
    neutral: str = "blue"
    good: str = "green"
    growing: str = "dark-blue"  # these two are shades of neutral
    shrinking: str = "light-blue"
    muted: str = "#8e8e8e"
    other: str = "purple"


PALETTE = Palette()


@dataclass(frozen=True)
class Color:
    """A colour that Grafana knows by name: the value for CSS ("" is the page's own text colour), and a word for it."""

    css: str
    word: str


COLORS = {
    "green": Color("#56a64b", "green"),
    "red": Color("#e02f44", "red"),
    "orange": Color("#ff9830", "amber"),
    "yellow": Color("#f2cc0c", "yellow"),
    "blue": Color("#3274d9", "blue"),
    "dark-blue": Color("#1f4e9c", "dark-blue"),
    "light-blue": Color("#8ab8ff", "light-blue"),
    "purple": Color("#a352cc", "violet"),
    "#8e8e8e": Color("#8e8e8e", "grey"),
    "text": Color("", "text"),
}

# Grafana's classic palette: the colours of series that have none of their own, in order.
CLASSIC_PALETTE = (
    "#73bf69",
    "#f2cc0c",
    "#8ab8ff",
    "#ff780a",
    "#f2495c",
    "#5794f2",
    "#b877d9",
    "#705da0",
    "#37872d",
    "#fade2a",
    "#447ebc",
    "#c15c17",
    "#890f02",
    "#0a437c",
    "#6d1f62",
    "#584477",
    "#b7dbab",
    "#f4d598",
    "#70dbed",
    "#f9ba8f",
)


def css(name: str) -> str:
    """The colour for CSS; a name that Grafana's palette lacks is taken for CSS already."""
    return COLORS[name].css if name in COLORS else name


def word(name: str) -> str:
    """The colour as the docs call it."""
    return COLORS[name].word if name in COLORS else name
