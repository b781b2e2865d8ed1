"""The rule files of alerts and SLOs, as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from servescope import promql
from servescope.dashboards import all_dashboards
from servescope.grafana.layout import panel_id
from servescope.promql import Scope
from servescope.promql.durations import shorten, shortened
from servescope.promql.figures import FIGURES
from servescope.rules.alert import Group, rule
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


def document(settings: Settings, time_scale: float = 1, *, recorded: bool = True) -> dict[str, Any]:
    """The rule file as Prometheus reads it.

    The alerts read what the same file records, or with `recorded=False` Ray's own series alone. `time_scale` divides
    every range, offset, `for` and interval by one factor, so that a drill can wait minutes for what takes hours; the
    expressions are the same otherwise.
    """
    ids = panel_ids(settings)
    return {
        "groups": [
            {
                "name": f"servescope.{name}",
                "interval": shortened(f"{interval}s", time_scale),
                "rules": [_scaled(entry, time_scale) for entry in rules],
            }
            for group in groups(settings, recorded=recorded)
            for name, interval, rules in _by_interval(group, settings, ids, recorded=recorded)
        ]
    }


def _by_interval(
    group: Group, settings: Settings, ids: Mapping[tuple[str, str], int], *, recorded: bool
) -> Iterator[tuple[str, int, list[dict[str, Any]]]]:
    """Name, interval in seconds and rules of each of Prometheus' groups; figures come before what reads them."""
    entries: dict[int, list[dict[str, Any]]] = {}

    def rules_at(every_s: int) -> list[dict[str, Any]]:
        return entries.setdefault(max(every_s, settings.alert_interval_s), [])

    for figure in FIGURES if recorded else ():
        if figure.group == group.name:
            by = (*settings.cluster_key, *figure.labels)
            inner = figure.inner(Scope.of(settings), settings, "")
            rules_at(figure.every_s).append({"record": figure.record, "expr": promql.total(inner, by, figure.op)})
    for alert in group.alerts:
        rules_at(alert.every_s).append(rule(alert, settings, ids))
    for interval, rules in sorted(entries.items()):
        often = interval == settings.alert_interval_s
        yield group.name if often else f"{group.name}.{interval}s", interval, rules


def _scaled(document: dict[str, Any], time_scale: float) -> dict[str, Any]:
    scaled = {**document, "expr": shorten(document["expr"], time_scale)}
    if "for" in document:
        scaled["for"] = shortened(document["for"], time_scale)
    return scaled
