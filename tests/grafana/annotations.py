"""Grafana's marks and regions of a dashboard's annotations, as rules in words of our own.

Grafana asks for a hundred points of the range, none closer than the step of the annotation, and takes points without a
gap for one region, so that a rollout is one and not a mark for each point. What a gap is differs between versions: in
10 more than the annotation itself declares, in 13 more than the distance of the answer's points.
"""

from __future__ import annotations

from collections.abc import Iterator

from servescope.clients.prometheus import Prometheus
from servescope.grafana import templating
from servescope.grafana.templating import Interpolation
from servescope.json_types import Json
from servescope.promql.durations import milliseconds
from servescope.report.queries import Window, select_variables

POINTS = 100
RULES = ("as declared", "as answered")


def read(board: Json, prometheus: Prometheus, window: Window, rule: str) -> dict[str, list[str]]:
    """What a person reads of each annotation: a text and its minutes before the range's end, by annotation."""
    found = {}
    for annotation in board["annotations"]["list"]:
        if "expr" in annotation:
            found[annotation["name"]] = list(_marks(annotation, board, prometheus, window, rule))
    return found


def _marks(annotation: Json, board: Json, prometheus: Prometheus, window: Window, rule: str) -> Iterator[str]:
    declared = annotation["step"] if rule == "as declared" else annotation["target"]["interval"]
    declared_s = milliseconds(declared) / 1000
    spacing = templating.interval(window.end - window.start, POINTS, declared_s)
    gap = declared_s if rule == "as declared" else spacing
    scope = Interpolation(
        select_variables(board, prometheus, window), window.macros() | {"__interval": f"{spacing:g}s"}
    )
    expr = annotation["expr"] if rule == "as declared" else annotation["target"]["expr"]
    for series in prometheus.query_range(scope.promql(expr), start=window.start, end=window.end, step_s=spacing):
        text = templating.legend(annotation["textFormat"], series["metric"], "")
        runs: list[list[float]] = []
        for at in (float(at) for at, value in series["values"] if float(value)):
            if runs and at - runs[-1][1] <= gap:
                runs[-1][1] = at
            else:
                runs.append([at, at])
        for first, last in runs:
            minutes = [f"{(at - window.end) / 60:g}" for at in dict.fromkeys((first, last))]
            yield f"{text}: {' to '.join(minutes)}"
