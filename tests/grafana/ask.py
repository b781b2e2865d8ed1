"""The cases of the oracle: every panel of every dashboard, and what a real Prometheus answers it in each world."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from servescope.clients.prometheus import Prometheus
from servescope.grafana import templating
from servescope.grafana.panel_json import NOTHING
from servescope.grafana.templating import Interpolation
from servescope.json_types import Json
from servescope.report.queries import Choices, Series, TargetAnswer, Window, ask, panels_of, select_variables
from tests.grafana.world import WINDOWS

QUERIES_AT_ONCE = 4
MANY = 1000  # series of a target in the world `many`
POINTS_OF_MANY = 2  # of each, which is enough to read it

# Each world: the window of WINDOWS that it is asked in, and what is chosen.
WORLDS: Mapping[str, tuple[str, Choices]] = {
    "live": ("live", {}),
    "died": ("died", {}),
    "empty": ("empty", {}),
    "idle": ("live", {"application": ["lab"], "deployment": ["Quiet"], "slo": ["lab"]}),
    "one": ("live", {"application": ["shop"], "deployment": ["Front"], "replica": ["Front-0"], "slo": ["shop"]}),
}


@dataclass(frozen=True)
class Case:
    """One panel of one dashboard in one world, with its answers and their window."""

    board: str
    panel: Json
    world: str
    answers: Sequence[TargetAnswer]
    window: Window

    @property
    def name(self) -> str:
        """Dashboard, panel and world."""
        return f"{self.board} / {self.panel['title']} / {self.world}"

    def for_grafana(self) -> Json:
        """As tests/grafana/node/read.cjs takes it."""
        return {
            "panel": self.panel,
            "step_ms": 1000 * self.window.step_s,
            "answers": [
                {
                    "ref": answer.ref,
                    # Prometheus sorts the answers of ranges by their labels, as it does here.
                    "series": [
                        {
                            "name": templating.legend(answer.legend, one.labels, answer.expression),
                            "labels": one.labels,
                            "points": [[at, _for_json(value)] for at, value in one.points],
                        }
                        for one in answer.series
                    ],
                }
                for answer in self.answers
            ],
        }


def _for_json(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"


def cases(prometheus: Prometheus, boards: Sequence[Json], worlds: Sequence[str] = tuple(WORLDS)) -> list[Case]:
    """Every panel that asks Prometheus in every world."""
    with ThreadPoolExecutor(QUERIES_AT_ONCE) as pool:
        waiting = [
            (board["uid"], panel, world, pool.submit(ask, panel, prometheus, window=window_of(world), scope=scope))
            for board in boards
            for world in worlds
            for scope in [_scope(board, prometheus, world)]
            for panel in panels_of(board)
            if any(target["datasource"]["type"] == "prometheus" for target in panel["targets"])
        ]
        return [Case(uid, panel, world, found.result(), window_of(world)) for uid, panel, world, found in waiting]


def window_of(world: str) -> Window:
    """The range of a world."""
    return WINDOWS[WORLDS[world][0]]


def _scope(board: Json, prometheus: Prometheus, world: str) -> Interpolation:
    window = window_of(world)
    known = {variable["name"] for variable in board["templating"]["list"]}
    chosen = {name: values for name, values in WORLDS[world][1].items() if name in known}
    return Interpolation(select_variables(board, prometheus, window, chosen=chosen), window.macros())


def derived(live: Sequence[Case]) -> Iterator[Case]:
    """The worlds made from the answers of another: no figure is one, and a thousand series of the first target."""
    for case in live:
        yield replace(case, world="nan", answers=[_all(answer, math.nan) for answer in case.answers])
        if case.panel["type"] == "stat":
            yield replace(case, world="nothing", answers=[_all(answer, NOTHING) for answer in case.answers])
        if case.panel["type"] != "heatmap":  # its rows are buckets, of which there are never many
            first, *others = case.answers
            yield replace(case, world="many", answers=[_many(first), *map(_short, others)])


def _all(answer: TargetAnswer, figure: float) -> TargetAnswer:
    series = [Series(one.labels, [(at, figure) for at, _ in one.points]) for one in answer.series]
    return replace(answer, series=series)


def _short(answer: TargetAnswer) -> TargetAnswer:
    return replace(answer, series=[Series(one.labels, one.points[-POINTS_OF_MANY:]) for one in answer.series])


def _many(answer: TargetAnswer) -> TargetAnswer:
    if not answer.series or not answer.series[0].labels:
        return _short(answer)
    template = answer.series[0]
    label = sorted(template.labels)[0]
    series = []
    for number in range(MANY):
        labels: dict[str, Any] = {**template.labels, label: f"{template.labels[label]}-{number:04}"}
        points = [(at, value + number) for at, value in template.points[-POINTS_OF_MANY:]]
        series.append(Series(labels, points))
    return replace(answer, series=series)
