"""What panels show."""

from __future__ import annotations

import math

import pytest

from servescope.grafana import colors
from servescope.report import collect, views
from servescope.report.queries import Series
from servescope.settings import Settings
from tests.support.canned_report import SCOPE, WINDOW, answer, panel


def test_a_gap_stays_a_gap():
    assert views.on_grid(Series({}, [(1000, 1.0), (1045, 2.0)]), WINDOW) == [1, None, None, 2, None]


def test_a_stat_shows_the_last_figure_in_the_colour_of_its_threshold():
    config = {"defaults": {"unit": "percentunit", "thresholds": {"steps": [
        {"value": None, "color": "blue"}, {"value": 0.01, "color": "red"}]}}}  # fmt: skip
    view = panel("stat", [answer("A", ({}, [0, 0.02]))], fieldConfig=config)
    assert (view.items[0]["value"], view.items[0]["color"]) == ("2%", colors.css("red"))


def test_a_figure_that_stopped_is_not_shown_for_ever():
    """As in Grafana: `last` takes the last point, of NaN too, and a mapping gives it a word."""
    nothing = {"type": "special", "options": {"match": "null+nan", "result": {"text": "no data", "color": "#8e8e8e"}}}
    config = {"defaults": {"unit": "reqps", "mappings": [nothing]}}
    stopped = answer("A", ({}, [9.58, math.nan]))
    for calc, shown in (("last", ("no data", "#8e8e8e")), ("lastNotNull", ("9.58 req/s", ""))):
        view = panel("stat", [stopped], fieldConfig=config, options={"reduceOptions": {"calcs": [calc]}})
        assert (view.items[0]["value"], view.items[0]["color"]) == shown


def test_a_timeline_that_merges_by_thresholds_has_lost_its_names():
    states = {"type": "value", "options": {"1": {"text": "DEPLOY_FAILED", "color": "red"}}}
    steps = {"steps": [{"value": None, "color": "blue"}]}
    for mode, text in (("thresholds", "-∞+"), ("fixed", "DEPLOY_FAILED")):
        config = {"defaults": {"mappings": [states], "thresholds": steps, "color": {"mode": mode}}}
        view = panel("state-timeline", [answer("A", ({}, [1, 1]))], fieldConfig=config, options={"mergeValues": True})
        assert [run[3] for run in view.figure["runs"]] == [text]


def test_an_empty_cell_says_what_its_field_says():
    first, second = answer("A", ({"slo": "a"}, [1]), ({"slo": "b"}, [2])), answer("B", ({"slo": "a"}, [3]))
    nothing = {"type": "special", "options": {"match": "null+nan", "result": {"text": "-", "color": "#8e8e8e"}}}
    for mappings, text in (([], "needs an SLO"), ([nothing], "-")):
        config = {"defaults": {"noValue": "needs an SLO", "mappings": mappings}}
        assert [line[2]["text"] for line in panel("table", [first, second], fieldConfig=config).cells] == ["3", text]


def test_an_empty_cell_is_aligned_as_its_column_is():
    view = panel("table", [answer("A", ({"node": "a"}, [1]), ({"node": "b"}, [2])), answer("B", ({"node": "a"}, [3]))])
    assert [[cell["number"] for cell in line] for line in view.cells] == [[False, True, True], [False, True, True]]
    assert view.cells[1][2]["text"] == ""


def test_a_name_has_one_colour_whatever_its_place():
    assert views.palette_color("ocr", 0, by_name=True) == views.palette_color("ocr", 7, by_name=True)
    assert views.palette_color("ocr", 0, by_name=False) != views.palette_color("ocr", 7, by_name=False)


def test_an_empty_panel_gives_its_reason():
    view = panel("timeseries", [answer("A")], fieldConfig={"defaults": {"noValue": "needs a GPU on a node"}})
    assert view.empty == "No data: needs a GPU on a node"


def test_heatmap_buckets_are_taken_apart():
    series = [({"le": le}, [value] * 5) for le, value in (("1", 1.0), ("2", 3.0), ("+Inf", 3.0))]
    options = {"yAxis": {"unit": "ms"}, "cellValues": {"unit": "reqps"}}
    view = panel("heatmap", [answer("A", *series)], options=options)
    assert [row[0] for row in view.figure["z"]] == [1, 2, None]
    assert view.figure["names"] == ["1 ms", "2 ms", "+Inf"]


def test_table_merges_queries_and_sorts():
    first = answer("A", ({"deployment": "a"}, [1]), ({"deployment": "b"}, [5]))
    second = answer("B", ({"deployment": "b"}, [0.5]))
    transformations = [
        {"id": "merge", "options": {}},
        {"id": "organize", "options": {"renameByName": {"deployment": "D", "Value #A": "N", "Value #B": "R"}}},
    ]
    options = {"sortBy": [{"displayName": "N", "desc": True}]}
    view = panel("table", [first, second], transformations=transformations, options=options)
    assert view.columns == ["D", "N", "R"]
    assert [[cell["text"] for cell in line] for line in view.cells] == [["b", "5", "0.500"], ["a", "1", ""]]


@pytest.mark.parametrize(("descending", "wanted"), [(True, "dcabe"), (False, "acdbe")])
def test_a_table_sorts_nan_last_and_after_it_what_has_no_figure(descending, wanted):
    figures = {"a": 1, "b": math.nan, "d": 3, "c": 2}
    first = answer("A", *(({"deployment": name}, [value]) for name, value in figures.items()))
    second = answer("B", ({"deployment": "e"}, [1]))
    options = {"sortBy": [{"displayName": "Value #A", "desc": descending}]}
    view = panel("table", [first, second], options=options)
    names = "".join(line[view.columns.index("deployment")]["text"] for line in view.cells)
    assert names == wanted


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("https://w/${__value.text}.md", "https://w/50%25.md"),
        ("https://w/${__value.raw}/${__value.numeric}", "https://w/0.5/0.5"),
        ("https://w/${__value.raw:percentencode}?at=${__value.time}", "https://w/0.5?at=1060000"),
        ("https://w/${__value.calc}/${other}", "https://w/${__value.calc}/${other}"),
    ],
)
def test_a_link_has_the_value_that_it_is_on(url, wanted):
    assert views.fill_value(url, 0.5, "50%", at=1060) == wanted


def test_links_of_tables_and_bars_have_their_values():
    series = ({"deployment": "a/b & ${c}"}, [5, 5, 5, 5, 5])
    links = [{"title": "l", "url": "/d/x?var-d=${__value.text}&raw=${__value.raw}&at=${__value.time}"}]
    config = {"defaults": {"unit": "percent", "links": links}}
    table = panel("table", [answer("A", series)], fieldConfig=config)
    urls = {name: cell["links"][0]["url"] for name, cell in zip(table.columns, table.cells[0], strict=True)}
    assert urls["deployment"] == "/d/x?var-d=a%2Fb%20%26%20%24%7Bc%7D&raw=a%2Fb%20%26%20%24%7Bc%7D&at=1060000"
    assert urls["Value #A"] == "/d/x?var-d=5%25&raw=5&at=1060000"
    (bar,) = panel("bargauge", [answer("A", series)], fieldConfig=config).items
    assert bar["links"][0]["url"] == "/d/x?var-d=5%25&raw=5&at=1060000"


def test_no_link_of_our_dashboards_keeps_a_value():
    answers = [answer(ref, ({"application": "shop", "deployment": "A", "slo": "s"}, [1])) for ref in "ABCDEF"]
    for board in collect.load_dashboards(Settings(runbook_url="https://wiki"), None):
        for model in board["panels"]:
            if model["type"] in ("table", "bargauge") and all(
                target["datasource"]["type"] == "prometheus" for target in model["targets"]
            ):
                view = views.view(model, answers, WINDOW, scope=SCOPE, identity="p")
                links = [link for line in view.cells for cell in line for link in cell["links"]]
                links += [link for item in view.items for link in item["links"]]
                assert [link["url"] for link in links if "__value" in link["url"]] == []


def test_states_become_stretches():
    mappings = [{"type": "value", "options": {"6": {"text": "HEALTHY", "color": "green"}}}]
    view = panel("state-timeline", [answer("A", ({}, [6, 6, 2]))], fieldConfig={"defaults": {"mappings": mappings}})
    assert [run[1:4] for run in view.figure["runs"]] == [[1000_000, 1030_000, "HEALTHY"], [1030_000, 1045_000, "2"]]


def test_every_dashboard_has_panels_of_types_that_can_be_drawn():
    boards = collect.load_dashboards(Settings(), None)
    assert len(boards) >= 5
    kinds = {p["type"] for board in boards for p in board["panels"]} - {"row", "text"}
    assert kinds <= set(views._BUILDERS)


def test_a_panel_of_loki_says_what_it_lacks():
    targets = [{"datasource": {"type": "loki"}, "expr": "{}", "refId": "A"}]
    assert panel("timeseries", [], targets=targets).empty == "Not here: this query"
    assert panel("logs", [], targets=targets).empty == "Not here: this query"


def test_the_list_of_grafanas_own_alerts_says_that_only_grafana_has_it():
    assert panel("alertlist", []).empty == "Alerts that Grafana itself evaluates; this page is made without Grafana"


def test_the_legend_has_the_highest_on_top_and_each_entry_knows_its_line():
    answers = [answer("A", ({"deployment": "a"}, [1, 1]), ({"deployment": "b"}, [5, 2]), ({"deployment": "c"}, [3, 3]))]
    view = panel("timeseries", answers, options={"legend": {"sortBy": "Max", "sortDesc": True}})
    names = [trace["name"] for trace in view.figure["traces"]]
    assert [(entry["name"], names[entry["trace"]]) for entry in view.legend] == [("b", "b"), ("c", "c"), ("a", "a")]
    assert [(entry["last"], entry["max"]) for entry in view.legend] == [("2", "5"), ("3", "3"), ("1", "1")]
