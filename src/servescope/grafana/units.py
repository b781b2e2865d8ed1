"""Figures as Grafana writes them: units, scaling, decimals. Source: Grafana's value formats."""

from __future__ import annotations

import math
from dataclasses import dataclass

Steps = tuple[tuple[float, str], ...]

_PLAIN: Steps = ((1, ""),)
_COUNT: Steps = ((1, ""), (1e3, " K"), (1e6, " Mil"), (1e9, " Bil"), (1e12, " Tri"))
_TIME_MS: Steps = ((1, " ms"), (1e3, " s"), (6e4, " min"), (3.6e6, " hour"), (8.64e7, " day"), (3.1536e10, " year"))
_TIME_S: Steps = (
    (1e-9, " ns"),
    (1e-6, " µs"),
    (1e-3, " ms"),
    (1, " s"),
    (60, " min"),
    (3600, " hour"),
    (86400, " day"),
    (604800, " week"),
    (31536000, " year"),
)
_TIME_H: Steps = ((1 / 60, " min"), (1, " hour"), (24, " day"), (168, " week"), (8760, " year"))
_BYTES: Steps = tuple((1024.0**i, f" {name}") for i, name in enumerate(("B", "KiB", "MiB", "GiB", "TiB", "PiB")))
_MEGABYTES: Steps = ((1, " MB"), (1e3, " GB"), (1e6, " TB"), (1e9, " PB"))
_BYTES_PER_S: Steps = tuple((1000.0**i, f" {name}/s") for i, name in enumerate(("B", "kB", "MB", "GB", "TB")))
_WATT: Steps = ((1, " W"), (1e3, " kW"), (1e6, " MW"))


def _rate(name: str) -> Steps:
    return ((1, f" {name}"), (1e3, f"K {name}"), (1e6, f"M {name}"), (1e9, f"B {name}"))


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One unit: Grafana's id of it, words for a reader of the docs, and how figures of it are written.

    `steps` pair the size from which a step holds with the text behind the figure divided by that size, smallest first.
    `hover_format` (d3) and `hover_suffix` are for the report's plots, whose script writes a figure under the pointer.
    """

    id: str
    words: str
    steps: Steps
    hover_format: str = ".4~f"
    hover_suffix: str


# Every unit that the bundle's dashboards use, and the only place to add one.
UNITS = {
    unit.id: unit
    for unit in (
        Unit(id="none", words="a number without unit", steps=_PLAIN, hover_suffix=""),
        Unit(id="short", words="a count, abbreviated (1.2 K)", steps=_COUNT, hover_suffix=""),
        Unit(id="reqps", words="requests per second", steps=_rate("req/s"), hover_suffix=" req/s"),
        Unit(id="ops", words="operations per second", steps=_rate("ops/s"), hover_suffix=" ops/s"),
        Unit(id="ms", words="milliseconds", steps=_TIME_MS, hover_format=".5~r", hover_suffix=" ms"),
        Unit(id="s", words="seconds", steps=_TIME_S, hover_suffix=" s"),
        Unit(id="h", words="hours", steps=_TIME_H, hover_suffix=" hours"),
        Unit(id="percent", words="percent, 0 to 100", steps=((1, "%"),), hover_suffix="%"),
        # d3's `p` multiplies by 100 and writes the sign itself.
        Unit(
            id="percentunit",
            words="a ratio, shown in percent",
            steps=((0.01, "%"),),
            hover_format=".3~p",
            hover_suffix="",
        ),
        Unit(id="bytes", words="bytes", steps=_BYTES, hover_format=".4~s", hover_suffix="B"),
        Unit(id="decmbytes", words="megabytes", steps=_MEGABYTES, hover_suffix=" MB"),
        Unit(id="Bps", words="bytes per second", steps=_BYTES_PER_S, hover_format=".4~s", hover_suffix="B/s"),
        Unit(id="celsius", words="degrees Celsius", steps=((1, " °C"),), hover_suffix=" °C"),
        Unit(id="watt", words="watts", steps=_WATT, hover_suffix=" W"),
        # Written by `from_now` and not scaled; the figure is unix milliseconds.
        Unit(id="dateTimeFromNow", words="time ago", steps=_PLAIN, hover_suffix=""),
    )
}


def unit_of(unit_id: str) -> Unit:
    """The unit of this id. A dashboard that is not ours may have any other: its id is written behind the figure."""
    suffix = f" {unit_id}" if unit_id else ""
    other = Unit(id=unit_id, words=f"`{unit_id}`", steps=((1, suffix),), hover_suffix=suffix)
    return UNITS.get(unit_id, other)


def scale(value: float, unit: str) -> tuple[float, str]:
    """By what a figure of this size is divided, and what follows it."""
    steps = unit_of(unit).steps
    fitting = [step for step in steps if abs(value) >= step[0] * (1 - 1e-9)]
    if fitting:
        return fitting[-1]
    # Zero and what is smaller than the smallest step: the step that holds plain figures.
    return min(steps, key=lambda step: abs(math.log(step[0]))) if value == 0 else steps[0]


def decimals(value: float) -> int:
    """How many decimals Grafana shows of a figure when none are set: about three significant digits."""
    if value == 0 or value % 1 == 0:
        return 0
    power = math.floor(math.log10(abs(value)))
    wanted = 1 - power
    # Written with `wanted` decimals the figure has one digit more than its first two where that says something.
    if abs(value) / 10.0**-wanted > 2.25:
        wanted += 1
    return max(0, wanted)


def format_value(value: float | None, unit: str, places: int | None = None, *, now: float | None = None) -> str:
    """A figure with its unit; "" without one, NaN as such. `dateTimeFromNow` takes unix milliseconds and `now` in s."""
    if value is None:
        return ""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if unit == "dateTimeFromNow":
        return from_now(value / 1000, now if now is not None else value / 1000)
    divisor, suffix = scale(value, unit)
    # A multiplication where Grafana multiplies: 0.07 / 0.01 is not 7.
    figure = value * round(1 / divisor) if divisor < 1 else value / divisor
    digits = decimals(figure) if places is None else places
    plural = "s" if suffix in _PLURAL and abs(figure) > 1 else ""
    return f"{_half_up(figure, digits):.{digits}f}{suffix}{plural}"


_PLURAL = (" min", " hour", " day", " week", " year")


def _half_up(figure: float, digits: int) -> float:
    """Rounded as JavaScript rounds: a half goes up, where Python takes the even neighbour."""
    factor = 10.0**digits
    scaled = figure * factor
    return math.floor(scaled + 0.5) / factor if math.isfinite(scaled) else figure


def from_now(at: float, now: float) -> str:
    """A point in time in words, as Grafana's `dateTimeFromNow`; both in unix seconds."""
    seconds = abs(now - at)
    for limit, size, singular, name in (
        (44.5, 1, "a few seconds", "seconds"),
        (89.5, 60, "a minute", "minutes"),
        (44.5 * 60, 60, "", "minutes"),
        (89.5 * 60, 3600, "an hour", "hours"),
        (21.5 * 3600, 3600, "", "hours"),
        (35.5 * 3600, 86400, "a day", "days"),
        (math.inf, 86400, "", "days"),
    ):
        if seconds < limit:
            words = singular or f"{round(seconds / size)} {name}"
            break
    return f"{words} ago" if at <= now else f"in {words}"


def ticks(low: float, high: float, unit: str, *, count: int = 5) -> list[tuple[float, str]]:
    """Round places on an axis with what to write there, from the first at or below `low` to the last at or above."""
    if not low < high:
        high = low + (abs(low) or 1)
    divisor, suffix = scale(max(abs(low), abs(high)), unit)
    base = 2.0 if unit == "bytes" else 10.0
    step = _nice((high - low) / divisor / max(count - 1, 1), base) * divisor
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    places = max(0, -math.floor(math.log10(step / divisor) + 1e-9))
    if round(step / divisor * 10**places, 6) % 1:
        places += 1
    return [(i * step, f"{i * step / divisor:.{places}f}{suffix}") for i in range(first, last + 1)]


def _nice(step: float, base: float) -> float:
    if base == 2 and step >= 1:
        return 2.0 ** math.ceil(math.log2(step) - 1e-9)
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= step * (1 - 1e-9))
