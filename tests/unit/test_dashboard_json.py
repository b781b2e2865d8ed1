"""Dashboards of other teams: what Grafana leaves out has its default, what cannot be read is named."""

from __future__ import annotations

import json
from typing import Any

import pytest

from servescope.dashboards import all_dashboards
from servescope.errors import ServescopeError
from servescope.grafana.dashboard_json import checked
from servescope.settings import Settings

BARE: dict[str, Any] = {"uid": "b", "title": "B", "panels": [], "templating": {"list": []}}


def panel(**fields: Any) -> dict[str, Any]:
    (result,) = checked({**BARE, "panels": [fields]})["panels"]
    return dict(result)


def test_nothing_of_our_own_is_changed():
    def added(before: Any, after: Any) -> int:
        if isinstance(before, dict):
            assert before.keys() <= after.keys()
            return len(after) - len(before) + sum(added(held, after[key]) for key, held in before.items())
        if isinstance(before, list):
            assert len(before) == len(after)
            return sum(map(added, before, after))
        assert before == after
        return 0

    for board in all_dashboards(Settings()):
        model = json.loads(json.dumps(board.to_json()))
        assert added(model, checked(model)) > 0  # defaults


def test_what_grafana_leaves_out_has_its_default():
    assert checked({**BARE, "time": None})["time"] == {"from": "now-1h", "to": "now"}
    assert checked({**BARE, "time": {"from": "now-6h"}})["time"] == {"from": "now-6h", "to": "now"}
    assert checked({**BARE, "refresh": False})["refresh"] == ""
    assert panel(type="stat")["gridPos"] == {"x": 0, "y": 0, "w": 12, "h": 8}
    assert panel(fieldConfig={"defaults": {"thresholds": {"steps": [{"color": "red"}]}}})["fieldConfig"] == {
        "defaults": {"thresholds": {"steps": [{"color": "red", "value": None}]}}
    }


@pytest.mark.parametrize(
    ("of_panel", "of_target", "kind"),
    [
        (None, None, "prometheus"),
        ("Prometheus", "Prometheus", "prometheus"),
        ({"type": "loki"}, None, "loki"),
        ({"type": "loki"}, {"type": "prometheus"}, "prometheus"),
        ("Loki", {"uid": "x"}, "prometheus"),
    ],
)
def test_a_target_without_a_datasource_has_its_panels(of_panel: Any, of_target: Any, kind: str):
    target = panel(type="stat", datasource=of_panel, targets=[{"expr": "up", "datasource": of_target}])["targets"][0]
    assert target["datasource"]["type"] == kind
    assert (target["expr"], target["refId"]) == ("up", "")


def test_a_target_without_an_expression_is_not_prometheus():
    (target,) = panel(type="stat", targets=[{"query": "x", "datasource": "Loki"}])["targets"]
    assert target["datasource"]["type"] == "unknown"


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"panels": 5}, "panels: expected a list, got 5"),
        ({"uid": None}, "dashboard: uid is missing"),
        ({"templating": None}, "dashboard: templating is missing"),
        ({"refresh": 5}, "refresh: expected a string, got 5"),
        ({"time": "now"}, "time: expected a mapping, got 'now'"),
        ({"panels": [{"gridPos": {"w": 0}}]}, "panels[0].gridPos.w: expected an integer from 1 to 24, got 0"),
        ({"panels": [{"targets": [{"expr": 1}]}]}, "panels[0].targets[0].expr: expected a string, got 1"),
        (
            {"panels": [{"type": "row", "panels": [{"title": []}]}]},
            "panels[0].panels[0].title: expected a string, got []",
        ),
        (
            {
                "panels": [
                    {"fieldConfig": {"overrides": [{"matcher": {"id": "byRegexp", "options": "("}, "properties": []}]}}
                ]
            },
            "panels[0].fieldConfig.overrides[0].matcher.options: '(' is not a regular expression "
            "(missing ), unterminated subpattern at position 0)",
        ),
        ({"templating": {"list": [{"type": "query"}]}}, "templating.list[0]: name is missing"),
    ],
)
def test_what_cannot_be_read_is_named(change: dict[str, Any], line: str):
    with pytest.raises(ServescopeError) as raised:
        checked({**BARE, **change})
    assert str(raised.value) == line
