"""What panels show, and what the page does with hostile text."""

from __future__ import annotations

import re

from servescope.clients.model import LogRecord, TraceSummary
from servescope.grafana.templating import Interpolation
from servescope.report import collect, views
from servescope.report.collect import Board, FiredAlert, Report, Section
from servescope.report.evidence import Logs, Traces
from servescope.report.queries import Series, TargetAnswer, Window
from servescope.settings import Settings

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>"
WINDOW = Window(1000, 1060, step_s=15)
SCOPE = Interpolation({}, {})


def answer(ref: str, *series: tuple[dict[str, str], list[float]], legend: str = "{{deployment}}") -> TargetAnswer:
    points = [Series(labels, [(1000 + 15 * i, v) for i, v in enumerate(values)]) for labels, values in series]
    return TargetAnswer(ref=ref, expression="x", legend=legend, series=points)


def panel(kind: str, answers: list[TargetAnswer], **model) -> views.View:
    base = {"type": kind, "title": "P", "description": "D", "gridPos": {"w": 8, "h": 8}, "options": {}}
    return views.view(base | model, answers, WINDOW, scope=SCOPE, identity="p")


def hostile_report() -> Report:
    hostile = answer("A", ({"deployment": HOSTILE}, [1, 2, 3, 4, 5]))
    table = panel("table", [hostile])
    config = {"defaults": {"unit": "reqps"}, "overrides": []}
    views = [
        table,
        panel("timeseries", [hostile], fieldConfig=config),
        panel("bargauge", [hostile], fieldConfig=config),
    ]
    views += [panel("stat", [hostile, hostile]), panel("state-timeline", [hostile])]
    for index, view in enumerate(views):
        view.id = f"p{index}"
    board = Board(
        uid="b",
        title=HOSTILE,
        description=HOSTILE,
        sections=[Section(HOSTILE, views, False)],
        marks=[],
        selections={},
        options={},
    )
    trace = TraceSummary(trace_id=HOSTILE, service=HOSTILE, name=HOSTILE, start_ns=1_000_000, ms=5, failed=True)
    return Report(
        window=WINDOW,
        created=1060,
        source=HOSTILE,
        boards=[board],
        alerts=[
            FiredAlert(
                name=HOSTILE,
                severity="critical",
                labels=HOSTILE,
                summary=HOSTILE,
                runbook_url="",
                runbook=HOSTILE,
                runs=[(1000_000, 1015_000, "firing")],
            )
        ],
        versions={"servescope": "0", "Ray": HOSTILE},
        traces=Traces(HOSTILE, [trace], [trace]),
        logs=Logs(
            source=HOSTILE,
            around=1_000_000,
            lines=[LogRecord(time_ns=10**12, source=HOSTILE, level=HOSTILE, text=HOSTILE)],
            left_out=0,
        ),
    )


def test_html_in_labels_logs_and_traces_stays_text():
    page = collect.render(hostile_report(), HOSTILE)
    without_library = page.replace(collect.plotly_js(), "")
    assert len(page) - len(without_library) > 1_000_000
    assert "<img" not in without_library
    assert "<script>alert" not in without_library
    assert without_library.count("&lt;script&gt;alert(1)") > 10
    # The data of the plots stand in script elements, where only `<` could end them.
    (data,) = re.findall(r'id="plots">(.*?)</script>', without_library, re.DOTALL)
    assert "\\u003cscript\\u003e" in data
    assert "<" not in data


def test_a_snapshot_asks_no_network():
    page = collect.render(hostile_report(), "t").replace(collect.plotly_js(), "")
    assert re.findall(r'(?:src|href)="(?!#|data:,")[^"]*"', page) == []


def test_a_gap_stays_a_gap():
    assert views.on_grid(Series({}, [(1000, 1.0), (1045, 2.0)]), WINDOW) == [1, None, None, 2, None]


def test_a_stat_shows_the_last_figure_in_the_colour_of_its_threshold():
    config = {"defaults": {"unit": "percentunit", "thresholds": {"steps": [
        {"value": None, "color": "blue"}, {"value": 0.01, "color": "red"}]}}}  # fmt: skip
    view = panel("stat", [answer("A", ({}, [0, 0.02]))], fieldConfig=config)
    assert (view.items[0]["value"], view.items[0]["color"]) == ("2%", views.NAMED_COLORS["red"])


def test_an_empty_panel_gives_its_reason():
    view = panel("timeseries", [answer("A")], fieldConfig={"defaults": {"noValue": "needs a GPU on a node"}})
    assert view.empty == "No data: needs a GPU on a node"


def test_heatmap_buckets_are_taken_apart():
    series = [({"le": le}, [value] * 5) for le, value in (("1", 1.0), ("2", 3.0), ("+Inf", 3.0))]
    options = {"yAxis": {"unit": "ms"}, "cellValues": {"unit": "reqps"}}
    view = panel("heatmap", [answer("A", *series)], options=options)
    assert [row[0] for row in view.figure["z"]] == [1, 2, None]
    assert view.figure["names"] == ["1 ms", "2 ms", "over"]


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


def test_states_become_stretches():
    mappings = [{"type": "value", "options": {"6": {"text": "HEALTHY", "color": "green"}}}]
    view = panel("state-timeline", [answer("A", ({}, [6, 6, 2]))], fieldConfig={"defaults": {"mappings": mappings}})
    assert [run[1:4] for run in view.figure["runs"]] == [[1000_000, 1030_000, "HEALTHY"], [1030_000, 1045_000, "2"]]


def test_every_dashboard_has_panels_of_types_that_can_be_drawn():
    boards = collect.load_dashboards(Settings(), None)
    assert len(boards) >= 5
    kinds = {p["type"] for board in boards for p in board["panels"]} - {"row", "text"}
    assert kinds <= set(views._BUILDERS)


def test_a_panel_of_loki_says_that_only_grafana_asks_it():
    targets = [{"datasource": {"type": "loki"}, "expr": "{}", "refId": "A"}]
    assert panel("timeseries", [], targets=targets).empty == "In Grafana only: asks Loki"
    assert panel("logs", [], targets=targets).empty == "In Grafana only: asks Loki"


def test_the_legend_has_the_highest_on_top_and_each_entry_knows_its_line():
    answers = [answer("A", ({"deployment": "a"}, [1, 1]), ({"deployment": "b"}, [5, 2]), ({"deployment": "c"}, [3, 3]))]
    view = panel("timeseries", answers, options={"legend": {"sortBy": "Max", "sortDesc": True}})
    names = [trace["name"] for trace in view.figure["traces"]]
    assert [(entry["name"], names[entry["trace"]]) for entry in view.legend] == [("b", "b"), ("c", "c"), ("a", "a")]
    assert [(entry["last"], entry["max"]) for entry in view.legend] == [("2", "5"), ("3", "3"), ("1", "1")]
