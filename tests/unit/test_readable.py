"""Dashboards that can be read on call: few open panels, titles and columns that fit, figures that lead somewhere."""

from __future__ import annotations

import re
from itertools import product

import pytest

from servescope.dashboards import all_dashboards, common
from servescope.grafana.layout import Dashboard, panel_id
from servescope.grafana.model import Panel
from servescope.settings import Settings

BOARDS = [board for recorded in (False, True) for board in all_dashboards(Settings(), recorded=recorded)]
PANELS = [(board, panel) for board in BOARDS for panel in board.panels]
MOST_OPEN = 20  # figures counted
MOST_LINES = 25

# A window of 1440 pixels: what is left of it beside Grafana's margins, and a panel's own frame. A letter of a title
# takes 7.5 pixels on average.
GRID_PX, FRAME_PX, LETTER_PX = 1408, 16, 7.5


def named(pair: tuple[Dashboard, Panel]) -> str:
    board, panel = pair
    return f"{board.uid} / {panel.title}"


def room(panel: Panel) -> float:
    """The pixels inside of a panel."""
    return GRID_PX * panel.width / 24 - FRAME_PX


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.uid)
def test_few_panels_are_open_and_a_page_says_where_to_look_first(board):
    if board.uid in ("servescope-overview", "servescope-deployment"):
        assert len(board.open_panels) <= MOST_OPEN
        first = board.rows[0].panels
        assert {"Firing alerts"} < {panel.title for panel in first[:2]}
        assert re.search("change", first[1].title, re.IGNORECASE)
    assert 60 < len(board.first_look) < 600


def test_the_ranges_fit_the_questions():
    hour = dict.fromkeys(("servescope-overview", "servescope-deployment", "servescope-cluster"), "now-1h")
    ranges = hour | {"servescope-slo": "now-7d", "servescope-capacity": "now-24h"}
    assert {board.uid: board.to_json()["time"]["from"] for board in BOARDS} == ranges


def test_a_dashboard_of_one_deployment_has_no_all():
    (board, _) = [board for board in BOARDS if board.uid == "servescope-deployment"]
    models = {variable.name: variable.model for variable in board.variables}
    for name in ("application", "deployment"):
        assert models[name]["includeAll"] is False
        assert models[name]["sort"] == 0  # the order of the answer, which has the most errors first
        assert models[name]["query"]["query"].startswith("query_result(sort_desc(")
    assert models["replica"]["includeAll"] is True


def test_titles_fit():
    cut = [named(pair) for pair in PANELS if len(pair[1].title) * LETTER_PX > room(pair[1]) - 24]
    assert cut == []


def test_all_columns_of_a_table_are_in_sight():
    hidden = {}
    for pair in PANELS:
        model = pair[1].model
        if pair[1].type != "table" or not pair[1].queries:
            continue
        least = model["fieldConfig"]["defaults"]["custom"]["minWidth"]
        wide = {
            one["matcher"]["options"]: item["value"]
            for one in model["fieldConfig"]["overrides"]
            for item in one["properties"]
            if item["id"] == "custom.minWidth"
        }
        (organize,) = [one["options"] for one in model["transformations"] if one["id"] == "organize"]
        width = sum(wide.get(title, least) for title in set(organize["renameByName"].values()))
        if width > room(pair[1]):
            hidden[named(pair)] = (width, room(pair[1]))
    assert hidden == {}


def test_every_figure_leads_to_a_panel_that_is_there():
    ids = {(board.uid, panel_id(board.uid, panel)) for board, panel in PANELS}
    for pair in PANELS:
        if pair[1].type == "stat":
            (link,) = pair[1].model["fieldConfig"]["defaults"]["links"]
            uid, number = re.match(r"/d/([\w-]+)\?viewPanel=(\d+)&", link["url"]).groups()
            assert (uid, int(number)) in ids, named(pair)


def test_no_timeline_is_coloured_by_thresholds():
    timelines = [panel.model["fieldConfig"]["defaults"] for _, panel in PANELS if panel.type == "state-timeline"]
    assert len(timelines) >= 14
    assert {defaults["color"]["mode"] for defaults in timelines} == {"fixed"}


def test_every_panel_names_the_version_of_its_form():
    assert {panel.model["pluginVersion"] for _, panel in PANELS} == {"10.0.0"}


MANY = {"{{application}}", "{{application}}/{{deployment}}", "{{instance}}", "{{node_ip_address}}", "{{slo}} {{sli}}"}


def test_no_graph_of_all_deployments_or_nodes_draws_more_lines_than_can_be_told_apart():
    """On dashboards of everything, what has a line for each application, deployment, node or SLO draws the largest."""
    unlimited = {}
    for pair in PANELS:
        board, panel = pair
        if panel.type != "timeseries" or board.uid == "servescope-deployment":
            continue
        lines = 0
        for query in panel.queries:
            if not any(query.legend.startswith(legend) for legend in MANY):
                continue
            limit = re.search(r"(?:top|bottom)k\((\d+), ", query.expr)
            lines += int(limit[1]) if limit else 1000
        if lines > MOST_LINES:
            unlimited[named(pair)] = lines
    assert unlimited == {}


def test_a_series_that_is_small_at_the_end_stays_where_it_was_large():
    ranked = "max_over_time((up)[$__range:2m] @ end()) or max_over_time((up)[2m:2m] @ end())"
    assert common.largest("up", most=3) == f"(up) and topk(3, {ranked})"
    ranked = common.largest("a", among="b", smallest=True)
    lowest = "min_over_time((b)[$__range:2m] @ end()) or min_over_time((b)[2m:2m] @ end())"
    assert ranked == f"(a) and bottomk(20, {lowest})"


@pytest.mark.parametrize(("board", "word"), product(BOARDS, ("orgId", ":regex}", '".+"')), ids=str)
def test_links_hold_nothing_that_grafana_takes_for_something_else(board, word):
    text = board.dumps()
    if word == '".+"':
        assert not any(variable.model.get("allValue") == ".+" for variable in board.variables)
    else:
        assert word not in text
