"""The LogQL of the dashboards: parsed by Grafana's grammar, over labels that the agents write, never in the way."""

from __future__ import annotations

import json
import re
from urllib.parse import unquote

import yaml

from demo import ROOT
from servescope.dashboards import all_dashboards
from servescope.grafana.templating import Interpolation
from servescope.settings import Settings
from tests.oracles import grammar
from tests.support.log_cases import CONFIG

BOARDS = all_dashboards(Settings())
# The text that Grafana puts in for what is chosen: All, or several.
CHOSEN = {
    "cluster": ".*",
    "application": "(main|other)",
    "deployment": ".+",
    "request_id": "r1",
    "__interval": "15s",
    "__range": "3600s",
}
PANELS = [
    (board.uid, row, panel) for board in BOARDS for row in board.rows for panel in row.panels if panel.log_queries
]
EXPRESSIONS = {
    f"{uid} / {panel.title}": Interpolation({}, CHOSEN).promql(query.expr)
    for uid, _, panel in PANELS
    for query in panel.log_queries
}
LABELS = {"job", "cluster", "node", "component", "application", "deployment", "level"}


@grammar.requires_npm
def test_every_expression_is_understood():
    assert len(EXPRESSIONS) >= 10
    found = grammar.complaints("logql", list(EXPRESSIONS.values()))
    assert [pair for pair in zip(EXPRESSIONS, found, strict=True) if pair[1] is not None] == []


@grammar.requires_npm
def test_the_grammar_finds_what_is_wrong():
    wrong = ['{job="ray"', 'sum by (level (count_over_time({job="ray"} [1m]))', '{job="ray"} | label_format']
    assert None not in grammar.complaints("logql", wrong)


def test_streams_are_chosen_by_labels_that_the_agents_write():
    output = yaml.safe_load((CONFIG / "output-loki.yaml").read_text())["pipeline"]["outputs"][0]
    assert {pair.split("=")[0].strip() for pair in output["labels"].split(",")} == LABELS
    loki = yaml.safe_load((ROOT / "loki/loki.yml").read_text())["limits_config"]["otlp_config"]["resource_attributes"]
    assert set(loki["attributes_config"][0]["attributes"]) == LABELS
    for name, expression in EXPRESSIONS.items():
        for selector in re.findall(r"\{([^{}]*=[^{}]*)\}", re.sub(r"`[^`]*`", "", expression)):
            assert set(re.findall(r"(\w+)\s*(?:=~|!~|=|!=)", selector)) <= LABELS, name


def test_logs_are_asked_for_only_when_somebody_opens_the_row():
    for uid, row, panel in PANELS:
        assert row.collapsed, f"{uid} / {panel.title}"
        assert panel.model["datasource"] == {"type": "loki", "uid": "${logs}"}
        assert {target["datasource"]["uid"] for target in panel.model["targets"]} == {"${logs}"}
    for board in BOARDS:
        names = [variable.name for variable in board.variables]
        assert ("logs" in names) == any(uid == board.uid for uid, _, _ in PANELS)
        assert not any('"uid": "${logs}"' in json.dumps(v.model) for v in board.variables), "a variable asks Loki"


def test_links_lead_to_a_trace_a_request_and_the_logs_of_the_window():
    (table,) = [panel for _, _, panel in PANELS if panel.title == "Failed and slow requests"]
    links = {
        override["matcher"]["options"]: override["properties"][0]["value"][0]["url"]
        for override in table.model["fieldConfig"]["overrides"]
    }
    assert "var-request_id=${__value.raw}" in links["Request"]
    pane = json.loads(unquote(links["Trace"].split("panes=")[1]))["a"]
    assert (pane["datasource"], pane["queries"][0]["query"]) == ("${traces}", "${__value.raw}")
    (deployment,) = [board for board in BOARDS if board.uid == "servescope-deployment"]
    (calls,) = [panel for panel in deployment.panels if panel.title == "Calls by outcome"]
    (link,) = calls.model["fieldConfig"]["defaults"]["links"]
    pane = json.loads(unquote(link["url"].split("panes=")[1]))["a"]
    assert pane["range"] == {"from": "${__from}", "to": "${__to}"}
