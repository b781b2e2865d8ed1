"""Grafana-managed copies of the alerts, as Grafana's file provisioning reads them (alerts/grafana/).

They are made from Prometheus' own rule documents, so expression, `for`, labels and texts cannot drift apart. Grafana
interpolates environment variables neither in annotations nor in queries, so `$labels` needs no escape there; in labels
it does, and the template of `team` (servescope.rules.teams) has no `$`.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from typing import Any

from servescope.errors import ServescopeError
from servescope.promql.durations import milliseconds
from servescope.rules import teams
from servescope.settings import Settings

FOLDER = "servescope"
_TICK_S = 10  # Grafana evaluates at multiples of its scheduler's tick
_WINDOW_S = 600  # an instant query reads its end alone; Grafana still wants a range
# Prometheus fires for every sample that an expression returns, a 0 too; Grafana only for what is not 0.
_HAS_SAMPLE = "is_number($A) || is_nan($A) || is_inf($A)"
_LINK = re.compile(r"/d/(?P<uid>[\w-]+)\?viewPanel=(?P<panel>\d+)")


def document(prometheus: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """The provisioning file of one Prometheus rule document; recording rules stay with Prometheus."""
    groups = []
    for group in prometheus["groups"]:
        rules = [_rule(rule, settings) for rule in group["rules"] if "alert" in rule]
        if rules:
            groups.append(
                {
                    "orgId": 1,
                    "name": group["name"],
                    "folder": FOLDER,
                    "interval": f"{_TICK_S * math.ceil(milliseconds(group['interval']) / 1000 / _TICK_S)}s",
                    "rules": rules,
                }
            )
    return {"apiVersion": 1, "groups": groups}


def _rule(rule: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    labels = {name: value for name, value in rule["labels"].items() if name not in ("severity", teams.LABEL)}
    title = " ".join((rule["alert"], *labels.values()))
    annotations = {name: text.replace("$value", "$values.A.Value") for name, text in rule["annotations"].items()}
    link = _LINK.search(annotations["dashboard_url"])
    if link is None:
        raise ServescopeError(f"{rule['alert']}: dashboard_url has no panel")
    return {
        # At most 40 characters, the same each time: Grafana keeps an alert's history by it.
        "uid": f"servescope-{hashlib.sha256(title.encode()).hexdigest()[:20]}",
        "title": title,
        "condition": "B",
        "for": rule.get("for", "0s"),
        # In Prometheus an expression without a result means that the alert does not fire.
        "noDataState": "OK",
        # "Error" would page somebody once for each rule whenever Prometheus restarts. That it stays away is for the
        # dead man's switch behind ServescopeWatchdog to say, as with Prometheus' own rules.
        "execErrState": "OK",
        "labels": dict(rule["labels"]),
        # Grafana's own exports name the panel in both places.
        "dashboardUid": link["uid"],
        "panelId": int(link["panel"]),
        "annotations": {**annotations, "__dashboardUid__": link["uid"], "__panelId__": link["panel"]},
        "data": [
            _query("A", "prometheus", settings.grafana_datasource_uid, expr=rule["expr"], instant=True, range=False),
            _query("B", "__expr__", "__expr__", type="math", expression=_HAS_SAMPLE),
        ],
    }


def _query(ref: str, kind: str, uid: str, **model: Any) -> dict[str, Any]:
    return {
        "refId": ref,
        "relativeTimeRange": {"from": _WINDOW_S, "to": 0},
        "datasourceUid": uid,
        "model": {"refId": ref, "datasource": {"type": kind, "uid": uid}, **model},
    }
