"""Panels: their JSON, their layout, and what is rejected."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from servescope.dashboards import all_dashboards
from servescope.errors import ServescopeError
from servescope.grafana import layout, log_panels, panels, trace_panels, variables
from servescope.grafana.model import Column, Link, Threshold
from servescope.settings import Settings

ONE = [panels.query("up", "{{instance}}")]


def board(rows, **kw):
    return layout.dashboard(uid="u", title="T", description="?", rows=rows, variables=[], settings=Settings(), **kw)


def graph(title="A", **kw):
    return panels.timeseries(title, description="What it says.", unit="ms", queries=ONE, **kw)


def test_targets_leave_the_step_to_the_datasource():
    (target,) = graph().model["targets"]
    assert target == {
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "editorMode": "code",
        "expr": "up",
        "format": "time_series",
        "instant": False,
        "legendFormat": "{{instance}}",
        "range": True,
        "refId": "A",
    }
    assert "interval" not in graph().model
    assert "maxDataPoints" not in graph().model


def test_the_28th_target_has_a_reference_of_its_own():
    many = panels.timeseries("A", description="d", unit="ms", queries=[panels.query(f"up + {i}") for i in range(28)])
    assert [target["refId"] for target in many.model["targets"]][25:] == ["Z", "AA", "AB"]


def test_limits_may_be_fractions_and_the_first_threshold_has_a_true_null():
    panel = graph(min=0.5, max=1.5, thresholds=(Threshold(None, "blue"), Threshold(0.001, "red")))
    defaults = panel.model["fieldConfig"]["defaults"]
    assert (defaults["min"], defaults["max"]) == (0.5, 1.5)
    steps = [{"color": "blue", "value": None}, {"color": "red", "value": 0.001}]
    assert defaults["thresholds"] == {"mode": "absolute", "steps": steps}


def test_colours_and_dashes_name_series_by_legend_or_regex():
    panel = graph(colors={"ok": "blue"}, dashed=("/wanted$/",))
    colour, dash = panel.model["fieldConfig"]["overrides"]
    assert colour["matcher"] == {"id": "byName", "options": "ok"}
    assert colour["properties"] == [{"id": "color", "value": {"fixedColor": "blue", "mode": "fixed"}}]
    assert dash["matcher"] == {"id": "byRegexp", "options": "/wanted$/"}


def test_a_table_shows_its_columns_in_their_order_and_nothing_else():
    columns = [
        Column("application", "Application", links=(Link("open", "/d/x"),)),
        Column("Value #A", "Rate", unit="reqps", decimals=1, thresholds=(Threshold(None, "blue"), Threshold(1, "red"))),
    ]
    panel = panels.table("T", description="d", queries=ONE, columns=columns, sort_by="Rate")
    assert panel.model["targets"][0]["format"] == "table"
    assert panel.model["targets"][0]["instant"] is True
    merge, keep, organize = panel.model["transformations"]
    assert merge["id"] == "merge"
    # "Value" is what Grafana calls the figure of a single query.
    assert keep["options"]["include"]["names"] == ["application", "Value #A", "Value"]
    assert organize["options"]["indexByName"] == {"application": 0, "Value #A": 1, "Value": 2}
    titles = {"application": "Application", "Value #A": "Rate", "Value": "Rate"}
    assert organize["options"]["renameByName"] == titles
    assert panel.model["options"]["sortBy"] == [{"desc": True, "displayName": "Rate"}]
    rate = panel.model["fieldConfig"]["overrides"][1]
    assert {"id": "unit", "value": "reqps"} in rate["properties"]


def test_a_state_timeline_names_and_colours_its_states():
    panel = panels.state_timeline("S", description="d", queries=ONE, states={1: ("DOWN", "red"), 6: ("UP", "green")})
    (mapping,) = panel.model["fieldConfig"]["defaults"]["mappings"]
    assert mapping["options"]["6"] == {"color": "green", "index": 1, "text": "UP"}


def test_a_heatmap_reads_buckets():
    panel = panels.heatmap("H", description="d", unit="ms", target=panels.query("sum by (le) (x)"))
    assert panel.model["targets"][0]["format"] == "heatmap"
    assert panel.model["targets"][0]["legendFormat"] == "{{le}}"
    assert panel.model["options"]["calculate"] is False
    assert panel.model["options"]["yAxis"]["unit"] == "ms"


def test_an_absent_panel_says_why():
    panel = graph(absent="a GPU")
    assert panel.model["description"] == "What it says. No data without: a GPU."
    assert panel.model["fieldConfig"]["defaults"]["noValue"] == "needs a GPU"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: panels.timeseries("", description="d", unit="ms", queries=ONE), "without a title"),
        (lambda: panels.timeseries("A", description="", unit="ms", queries=ONE), "no description"),
        (lambda: panels.timeseries("A", description="d", unit="qps", queries=ONE), "'qps' is not one of the units"),
        (lambda: panels.timeseries("A", description="d", unit="ms", queries=[]), "no query"),
        (lambda: graph(width=25), "does not fit"),
        (lambda: graph(thresholds=(Threshold(1, "red"),)), "thresholds start with None"),
        (lambda: graph(thresholds=(Threshold(None, "a"), Threshold(2, "b"), Threshold(1, "c"))), "rise from there"),
        (
            lambda: panels.table("T", description="d", queries=ONE, columns=[Column("a", "A")], sort_by="B"),
            "sort_by names no column",
        ),
        (lambda: board([panels.row("R", [graph("A"), graph("A")])]), "two panels are called 'A'"),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(ServescopeError, match=message):
        make()


def test_unknown_options_are_errors():
    with pytest.raises(TypeError):
        graph(nullPointMode="connected")


def test_the_dashboard_is_self_contained():
    document = board([panels.row("R", [graph()])]).to_json()
    assert document["schemaVersion"] == 42
    assert document["id"] is None
    assert "__inputs" not in document
    assert {"grafana", "prometheus", "timeseries"} == {entry["id"] for entry in document["__requires"]}
    legacy = {"rows", "style", "hideControls", "sharedCrosshair", "tagsQuery", "useTags", "span", "intervalFactor"}
    assert not legacy & set(json.dumps(document).replace('"', " ").split())


def test_variables():
    datasource = variables.datasource_variable().model
    assert (datasource["type"], datasource["query"], datasource["name"]) == ("datasource", "prometheus", "datasource")
    variable = variables.label_variable("cluster", "Cluster", "label_values(up, c)", all_value=".*").model
    assert variable["allValue"] == ".*"
    assert variable["refresh"] == 2
    assert variable["query"]["query"] == "label_values(up, c)"
    assert variable["current"]["value"] == ["$__all"]


SIZES = st.lists(st.tuples(st.integers(1, 24), st.integers(1, 12)), min_size=1, max_size=12)


@settings(deadline=None)  # how long it takes depends on what else the machine does
@given(st.lists(st.tuples(SIZES, st.booleans()), min_size=1, max_size=4))
def test_no_layout_ever_overlaps(rows):
    number = iter(range(1000))
    made = [
        panels.row(f"R{i}", [graph(f"P{next(number)}", width=w, height=h) for w, h in sizes], collapsed=collapsed)
        for i, (sizes, collapsed) in enumerate(rows)
    ]
    document = board(made).to_json()
    cells = set()
    ids = []
    for panel in document["panels"]:
        ids += [panel["id"], *(inner["id"] for inner in panel.get("panels", []))]
        grid = panel["gridPos"]
        assert grid["x"] + grid["w"] <= 24
        mine = {
            (x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert not mine & cells
        cells |= mine
    assert len(ids) == len(set(ids))
    assert len(ids) == sum(len(sizes) for sizes, _ in rows) + len(rows)


def ids(document):
    """The id of each row and panel of a document, by its kind and title."""
    every = [inner for panel in document["panels"] for inner in (panel, *panel.get("panels", ()))]
    found = {("row" if panel["type"] == "row" else "panel", panel["title"]): panel["id"] for panel in every}
    assert len(found) == len(every) == len(set(found.values()))
    return found


def test_a_new_panel_changes_no_other_id():
    before = ids(board([panels.row("R", [graph("A"), graph("B")]), panels.row("S", [graph("C")])]).to_json())
    after = board(
        [
            panels.row("New row", [graph("D")]),
            panels.row("S", [graph("C")]),
            panels.row("R", [graph("B"), graph("E"), graph("A")], collapsed=True),
        ]
    ).to_json()
    assert {name: number for name, number in ids(after).items() if name in before} == before
    assert ids(after).keys() - before.keys() == {("row", "New row"), ("panel", "D"), ("panel", "E")}


def test_an_id_is_the_same_on_every_machine_and_another_on_every_dashboard():
    (panel,) = [graph("A")]
    assert layout.panel_id("u", panel) == 2118627940
    assert layout.panel_id("v", panel) != layout.panel_id("u", panel)
    assert layout.row_id("u", panels.row("A", [panel])) != layout.panel_id("u", panel)


MAKERS = {
    "timeseries": graph,
    "stat": lambda title, **kw: panels.stat(title, description="d", unit="ms", queries=ONE, **kw),
    "bar_gauge": lambda title, **kw: panels.bar_gauge(title, description="d", unit="ms", queries=ONE, **kw),
    "table": lambda title, **kw: panels.table(
        title, description="d", queries=ONE, columns=[Column("a", "A")], sort_by="A", **kw
    ),
    "state_timeline": lambda title, **kw: panels.state_timeline(title, description="d", queries=ONE, states={}, **kw),
    "heatmap": lambda title, **kw: panels.heatmap(title, description="d", unit="ms", target=ONE[0], **kw),
    "text": lambda title, **kw: panels.text(title, markdown="m", **kw),
    "logs": lambda title, **kw: log_panels.logs(title, description="d", expr="{}", **kw),
    "log_timeseries": lambda title, **kw: log_panels.log_timeseries(title, description="d", queries=ONE, **kw),
    "log_table": lambda title, **kw: log_panels.log_table(
        title, description="d", queries=ONE, columns=[Column("a", "A")], sort_by="A", **kw
    ),
    "log_lines_table": lambda title, **kw: log_panels.log_lines_table(
        title, description="d", expr="{}", columns=[Column("a", "A")], **kw
    ),
    "trace_table": lambda title, **kw: trace_panels.trace_table(title, description="d", traceql="{}", **kw),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_a_renamed_panel_keeps_its_id_by_its_key(make):
    first, renamed = make("Old"), make("New", key="Old")
    assert (renamed.title, renamed.model["title"]) == ("New", "New")
    assert layout.panel_id("u", renamed) == layout.panel_id("u", first) != layout.panel_id("u", make("New"))


def test_a_renamed_row_keeps_its_id_by_its_key():
    first, renamed = panels.row("Old", []), panels.row("New", [], key="Old")
    assert layout.row_id("u", renamed) == layout.row_id("u", first) != layout.row_id("u", panels.row("New", []))


@pytest.mark.parametrize(
    ("rows", "owners"),
    [
        ([panels.row("R", [graph("A"), graph("B", key="A")])], "panel 'A' and panel 'B'"),
        ([panels.row("R", [graph("A")]), panels.row("R", [graph("B")])], "row 'R' and row 'R'"),
        # Two titles whose hashes are alike, found by trying.
        ([panels.row("R", [graph("P6215")]), panels.row("S", [graph("P33634")])], "panel 'P6215' and panel 'P33634'"),
    ],
)
def test_two_of_one_id_are_refused(rows, owners):
    message = f"dashboard u: {owners} have the same id; give the newer one another key"
    with pytest.raises(ServescopeError, match=f"^{message}$"):
        board(rows)


@pytest.mark.parametrize("plain", all_dashboards(Settings()), ids=lambda found: found.uid)
def test_the_ids_of_the_dashboards(plain):
    (recorded,) = [found for found in all_dashboards(Settings(), recorded=True) if found.uid == plain.uid]
    found = ids(plain.to_json())
    assert found == ids(recorded.to_json())
    assert all(1 <= number <= 2**31 - 1 for number in found.values())
