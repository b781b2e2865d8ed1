"""The rule files of alerts and SLOs, as Prometheus reads them."""

from __future__ import annotations

from typing import Any

from servescope.dashboards import all_dashboards
from servescope.grafana.layout import panel_id
from servescope.promql.durations import shorten, shortened
from servescope.rules.alert import rule
from servescope.rules.alerts import groups
from servescope.rules.slo import rules as slo_rules
from servescope.rules.slo.objectives import Slo
from servescope.settings import Settings


def slo_document(slos: list[Slo], settings: Settings, time_scale: float = 1) -> dict[str, Any]:
    """The rule file of SLOs as Prometheus reads it."""
    return slo_rules.document(slos, settings, panel_ids(settings), scale=time_scale)


def panel_ids(settings: Settings) -> dict[tuple[str, str], int]:
    """The id of each panel by its dashboard's uid and its title."""
    return {
        (board.uid, panel.title): panel_id(board.uid, panel)
        for board in all_dashboards(settings)
        for panel in board.panels
    }


def document(settings: Settings, time_scale: float = 1) -> dict[str, Any]:
    """The rule file as Prometheus reads it.

    `time_scale` divides every range, offset, `for` and interval by one factor, so that a drill can wait minutes for
    what takes hours; the expressions are the same otherwise.
    """
    ids = panel_ids(settings)
    return {
        "groups": [
            {
                "name": f"servescope.{group.name}",
                "interval": shortened(f"{settings.evaluation_interval_s}s", time_scale),
                "rules": [_scaled(rule(alert, settings, ids), time_scale) for alert in group.alerts],
            }
            for group in groups(settings)
        ]
    }


def _scaled(document: dict[str, Any], time_scale: float) -> dict[str, Any]:
    scaled = {**document, "expr": shorten(document["expr"], time_scale)}
    if "for" in document:
        scaled["for"] = shortened(document["for"], time_scale)
    return scaled
