"""The panels that ask Tempo: TraceQL by Grafana's grammar, over attributes that spans have, never in the way."""

from __future__ import annotations

import json
import re

from servescope.dashboards import all_dashboards
from servescope.grafana.templating import Interpolation, Selection
from servescope.settings import Settings
from servescope.tracing import resource
from tests.oracles import grammar

BOARDS = all_dashboards(Settings())
CHOSEN = {
    "application": Selection(values=("main", "other")),
    "deployment": Selection(values=("Gateway",), everything=True, all_value=".*"),
}
PANELS = [
    (board.uid, row, panel, target)
    for board in BOARDS
    for row in board.rows
    for panel in row.panels
    for target in panel.model.get("targets", ())
    if target.get("queryType") == "traceql"
]
EXPRESSIONS = {panel.title: Interpolation(CHOSEN, {}).promql(target["query"]) for _, _, panel, target in PANELS}


def test_the_queries_are_those_of_this_deployment():
    assert [panel.title for uid, _, panel, _ in PANELS] == ["Failed traces", "Slow traces", "Traces"]
    start = 'resource.serve.application=~"main|other" && resource.serve.deployment=~".*" && '
    assert EXPRESSIONS["Failed traces"] == f"{{ {start}status = error }}"
    known = resource.attributes(resource.Actor("main", "Gateway", "f3jxvnsq"), "node", "2.60.0")
    for expression in EXPRESSIONS.values():
        assert (
            set(re.findall(r"resource\.([\w.]+)", expression))
            == {"serve.application", "serve.deployment"}
            <= set(known)
        )


@grammar.requires_npm
def test_every_query_is_understood():
    found = grammar.complaints("traceql", list(EXPRESSIONS.values()))
    assert [pair for pair in zip(EXPRESSIONS, found, strict=True) if pair[1] is not None] == []


@grammar.requires_npm
def test_the_grammar_finds_what_is_wrong():
    wrong = ["{ status = error", "{ status == error }", '{ resource.serve.application =~ "a" & kind = server }']
    assert None not in grammar.complaints("traceql", wrong)


def test_tempo_is_asked_only_when_somebody_opens_the_row():
    for uid, row, panel, _ in PANELS:
        assert row.collapsed, f"{uid} / {panel.title}"
        assert panel.model["datasource"] == {"type": "tempo", "uid": "${traces}"}
        assert {target["datasource"]["uid"] for target in panel.model["targets"]} == {"${traces}"}
    asking = {uid for uid, *_ in PANELS}
    for board in BOARDS:
        for row in board.rows:
            sources = {json.dumps(panel.model.get("datasource")) for panel in row.panels}
            assert row.collapsed or not any('"${traces}"' in source for source in sources), f"{board.uid} / {row.title}"
        names = [variable.name for variable in board.variables]
        assert "traces" in names or board.uid not in asking
        assert not any('"uid": "${traces}"' in json.dumps(v.model) for v in board.variables), "a variable asks Tempo"
