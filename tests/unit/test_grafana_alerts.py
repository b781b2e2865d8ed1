"""The Grafana-managed copies say what Prometheus' rules say, in the fields that Grafana's provisioning reads."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import pytest
import yaml
from grafana_foundation_sdk.models.alerting import Rule

from demo import ROOT
from servescope.rules import grafana_managed
from servescope.settings import Settings
from tests.oracles.foundation import paths

# Each with the folder that it is in; that of the SLOs is the demo's.
FILES = (ROOT / "alerts/plain/servescope-alerts.yml", ROOT / "demo/slo/servescope-slo.yml")
# pkg/services/provisioning/alerting/rules_types.go: what Grafana 13 reads; a key it does not know it drops in silence.
GROUP_KEYS = {"orgId", "name", "folder", "interval", "rules"}
RULE_KEYS = {
    "uid",
    "title",
    "condition",
    "data",
    "dashboardUid",
    "panelId",
    "noDataState",
    "execErrState",
    "for",
    "keepFiringFor",
    "missing_series_evals_to_resolve",
    "annotations",
    "labels",
    "isPaused",
    "record",
    "notification_settings",
}
QUERY_KEYS = {"refId", "queryType", "relativeTimeRange", "datasourceUid", "model"}


@cache
def _document(path: Path) -> dict:
    return json.loads(path.read_text()) if path.suffix == ".json" else yaml.safe_load(path.read_text())


def _copy(path: Path) -> Path:
    folder = path.parent.parent if path.parent.name == "plain" else path.parent
    return folder / "grafana" / path.name


def _alerts(path: Path) -> list[dict]:
    groups = _document(path)["groups"]
    return [rule for group in groups for rule in group["rules"] if "record" not in rule]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_alert_is_there_with_the_same_rule(path):
    rules, copies = _alerts(path), _alerts(_copy(path))
    assert len(rules) == len(copies) >= 16
    for rule, copy in zip(rules, copies, strict=True):
        query, condition = copy["data"]
        assert query["model"]["expr"] == rule["expr"]
        assert (query["datasourceUid"], query["model"]["instant"]) == ("prometheus", True)
        assert (copy["condition"], condition["refId"], condition["datasourceUid"]) == ("B", "B", "__expr__")
        assert copy["for"] == rule.get("for", "0s")
        assert copy["labels"] == rule["labels"]
        assert copy["title"].startswith(rule["alert"])
        assert copy["annotations"]["summary"] == rule["annotations"]["summary"]
        assert copy["noDataState"] == "OK", "an expression without a result is the good case"


def test_a_sample_of_0_fires_too():
    # A deployment with 0 replicas: PromQL's `== 0` returns the value 0, which Grafana by itself takes for false.
    (rule,) = [r for r in _alerts(FILES[0]) if r["alert"] == "RayServeNoReplicas"]
    (copy,) = grafana_managed.document({"groups": [{"name": "g", "interval": "15s", "rules": [rule]}]}, Settings())[
        "groups"
    ][0]["rules"]
    assert copy["data"][1]["model"]["expression"] == "is_number($A) || is_nan($A) || is_inf($A)"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_grafana_reads_every_field(path):
    document = _document(_copy(path))
    assert set(document) == {"apiVersion", "groups"}
    for group in document["groups"]:
        assert set(group) <= GROUP_KEYS
        assert int(group["interval"].removesuffix("s")) % 10 == 0, "not a multiple of Grafana's tick"
        for rule in group["rules"]:
            assert set(rule) <= RULE_KEYS
            assert {key for query in rule["data"] for key in query} <= QUERY_KEYS
            assert re.fullmatch(r"[\w-]{1,40}", rule["uid"])
            assert len(rule["title"]) <= 190
            # The SDK's model of the API is the second witness; the panel's two fields are the file format's own.
            kept = {key for key in paths(Rule.from_json(rule).to_json()) if "." not in key}
            assert set(rule) - kept == {"dashboardUid", "panelId"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_texts_use_grafanas_variables_and_panels_exist(path):
    for rule in _alerts(_copy(path)):
        texts = " ".join(rule["annotations"].values())
        assert not re.search(r"\$value\b", texts), "in Grafana $value is a text of all queries"
        assert "${" not in texts, "Grafana would take it for an environment variable"
        board = _document(ROOT / f"dashboards/{rule['dashboardUid']}.json")
        assert rule["panelId"] in [p["id"] for row in board["panels"] for p in (row, *row.get("panels", ()))]
        assert rule["annotations"]["__panelId__"] == str(rule["panelId"])


def test_uids_and_titles_are_unique_in_the_folder():
    rules = [rule for path in FILES for rule in _alerts(_copy(path))]
    for key in ("uid", "title"):
        values = [rule[key] for rule in rules]
        assert len(values) == len(set(values))


def test_the_datasource_follows_the_settings():
    rule = _alerts(FILES[0])[0]
    prometheus = {"groups": [{"name": "g", "interval": "15s", "rules": [rule]}]}
    copy = grafana_managed.document(prometheus, Settings(grafana_datasource_uid="mimir"))["groups"][0]
    assert copy["rules"][0]["data"][0]["datasourceUid"] == "mimir"
    assert copy["interval"] == "20s"
