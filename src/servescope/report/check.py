"""Which panels of the dashboards have data in a live Prometheus, and which lack it for no known reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from servescope.clients.prometheus import Prometheus
from servescope.dashboards import all_dashboards
from servescope.grafana.layout import Dashboard
from servescope.grafana.templating import Interpolation
from servescope.report.queries import Choices, Window, ask, panels_of, select_variables
from servescope.settings import Settings


@dataclass(frozen=True, kw_only=True)
class DashboardCheck:
    """Data coverage of a dashboard: panels that query, panels with data, and those that should have data but lack it.

    `excused` are panels without data that need what this machine lacks, with the reason.
    """

    uid: str
    title: str
    panels: int
    with_data: int
    missing: tuple[str, ...]
    excused: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class SeriesCount:
    """How many series of one target of one panel have a value that is not NaN."""

    panel: str
    ref: str
    expression: str
    series: int


def count_series(
    dashboard: Mapping[str, Any],
    prometheus: Prometheus,
    window: Window,
    *,
    chosen: Choices | None = None,
    every: bool = True,
) -> list[SeriesCount]:
    """Run every Prometheus target of a dashboard over a window and count the series that have data.

    A dashboard of one deployment is asked for all of them, or with `every=False` for the one on which it opens.

    Raises:
        ServescopeError: Prometheus is unreachable or rejects a query.
    """
    scope = Interpolation(select_variables(dashboard, prometheus, window, chosen=chosen, every=every), window.macros())
    return [
        SeriesCount(panel=panel["title"], ref=answer.ref, expression=answer.expression, series=answer.series_with_data)
        for panel in panels_of(dashboard)
        for answer in ask(panel, prometheus, window=window, scope=scope)
    ]


def check_dashboards(
    prometheus_url: str, settings: Settings, *, recorded: bool = False, minutes: float = 5
) -> list[DashboardCheck]:
    """Check every dashboard against a live Prometheus.

    Raises:
        ServescopeError: Prometheus is unreachable or rejects a query.
    """
    window = Window.last(60 * minutes, settings.scrape_interval_s)
    with Prometheus(prometheus_url) as prometheus:
        return [check_board(board, prometheus, window) for board in all_dashboards(settings, recorded=recorded)]


def check_board(board: Dashboard, prometheus: Prometheus, window: Window, *, every: bool = True) -> DashboardCheck:
    """Check one dashboard against a live Prometheus; `every` as of `count_series`.

    Raises:
        ServescopeError: Prometheus is unreachable or rejects a query.
    """
    alive: dict[str, bool] = {}
    for count in count_series(board.to_json(), prometheus, window, every=every):
        alive[count.panel] = alive.get(count.panel, False) or count.series > 0
    reasons = {panel.title: panel.absent for panel in board.panels if panel.absent}
    dead = [title for title, has_data in alive.items() if not has_data]
    return DashboardCheck(
        uid=board.uid,
        title=board.title,
        panels=len(alive),
        with_data=sum(alive.values()),
        missing=tuple(title for title in dead if title not in reasons),
        excused=tuple((title, reasons[title]) for title in dead if title in reasons),
    )
