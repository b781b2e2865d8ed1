"""Stores that are not quite Prometheus: what they answer is shown, what is missing is named, nothing breaks off."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from servescope.cli import app
from servescope.clients.prometheus import Prometheus
from servescope.errors import ServescopeError
from servescope.report import preview
from servescope.report.page import plotly_js
from servescope.settings import Settings
from tests.support.servers import running
from tests.support.store_server import Store, store_server
from tests.support.stub_server import stub_server

RULES = "/api/v1/rules"
BUILD = "/api/v1/status/buildinfo"
FIGURES = '<td class="number"'  # of a table, which asks for one moment
LOKI = {"data": {"result": [{"stream": {"level": "ERROR"}, "values": [["1760400000000000000", "broke"]]}]}}


@pytest.fixture
def store() -> Iterator[Store]:
    with store_server() as served:
        yield served


def snapshot(store: Store, folder: Path, *arguments: str) -> tuple[Any, str]:
    """The command's result, and the page without the plotting library; "" where none was written."""
    output = folder / "report.html"
    command = ["snapshot", "-p", f"{store.url}{store.prefix}", "-d", "slo", "-o", str(output), *arguments]
    result = CliRunner().invoke(app, command)
    return result, output.read_text().replace(plotly_js(), "") if output.exists() else ""


def said(result: Any) -> str:
    assert isinstance(result.exception, ServescopeError), result.exception
    assert "\n" not in str(result.exception)
    return str(result.exception)


def problems(page: str) -> list[str]:
    return re.findall(r'<p class="problem">(.*?)</p>', page)


def shown(store: Store, address: str = "/d/servescope-slo", *, timeout_s: float = 60) -> httpx.Response:
    """What the preview answers."""
    with (
        Prometheus(f"{store.url}{store.prefix}") as prometheus,
        preview.serve(prometheus, port=0, folder=None, settings=Settings(), timeout_s=timeout_s) as server,
        running(server) as place,
    ):
        return httpx.get(f"http://{place}{address}", timeout=60)


def test_a_plain_prometheus_misses_nothing(store, tmp_path):
    result, page = snapshot(store, tmp_path)
    assert (result.exit_code, problems(page)) == (0, [])
    assert "The summary of the rule." in page
    assert "<span>Prometheus 2.53.0</span>" in page


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((404, "404 page not found"), "not a response of Prometheus (404)"),
        ((404, {"status": "error", "error": "no rules here"}), "Prometheus rejected the query: no rules here"),
        ((403, "no"), "Prometheus denies access (403: no); see "),
        ([], "not a response of Prometheus (TypeError: "),
        ({"groups": [{"rules": [1]}]}, "not a response of Prometheus (TypeError: "),
        ({}, "not a response of Prometheus (KeyError: "),
    ],
    ids=str,
)
def test_without_rules_the_summaries_are_missing_and_nothing_else(store, tmp_path, answer, reason):
    store.answers[RULES] = answer
    result, page = snapshot(store, tmp_path)
    (problem,) = problems(page)
    line = f"missing: alert summaries: {store.url}: {reason}"
    assert page.count("RayServeBackPressure") > 0
    assert FIGURES in page
    assert said(result).startswith(f"{tmp_path}/report.html: written, but incomplete: {line}")
    assert problem.replace("&#39;", "'").startswith(line)
    answered = shown(store)
    assert answered.status_code == 200
    assert problems(answered.text)[0].replace("&#39;", "'").startswith(line)


@pytest.mark.parametrize("answer", [{"groups": None}, {"groups": []}, {"groups": [{"rules": None}]}], ids=str)
def test_a_store_that_lists_no_rules_has_none(store, tmp_path, answer):
    store.answers[RULES] = answer
    result, page = snapshot(store, tmp_path)
    assert (result.exit_code, problems(page)) == (0, [])
    assert "RayServeBackPressure" in page
    assert shown(store).status_code == 200


def test_panels_that_are_refused_say_so_and_the_others_are_there(store, tmp_path):
    store.fails = lambda query: "rate(" in query or query == "ALERTS"
    result, page = snapshot(store, tmp_path)
    refused = f"{store.url}: Prometheus rejected the query: query is too expensive"
    (problem,) = problems(page)
    panels = ("Error ratio by application", "Requests by application")
    named = sorted(name.rpartition(" / ")[2] for name in problem.removeprefix("missing: ").split(": ")[0].split(", "))
    assert (named, problem.endswith(f": {refused}")) == ([*panels, "alerts"], True)
    assert refused in said(result)
    assert "Unknown: the query for alerts failed." in page
    assert "No alerts were pending or firing." not in page
    empty = re.findall(r'<p class="empty">No answer: (.*?)</p>', page)
    assert empty
    assert set(empty) == {refused}
    assert FIGURES in page


@pytest.mark.parametrize(
    "answer",
    [[], {"resultType": "matrix"}, {"resultType": "matrix", "result": [{"metric": [], "values": [[1, "x"]]}]}],
    ids=str,
)
def test_figures_of_another_shape_are_missing_one_by_one(store, tmp_path, answer):
    store.answers["/api/v1/query_range"] = answer
    result, page = snapshot(store, tmp_path)
    assert "not a response of Prometheus" in said(result)
    assert FIGURES in page
    assert shown(store).status_code == 200
    row = shown(store, "/d/servescope-overview/1?at=1760000000")
    assert row.status_code in (200, 502)
    assert "not a response of Prometheus" in row.text


def test_a_series_of_native_histograms_has_no_figures(store, tmp_path):
    histogram = {"metric": {"a": "b"}, "histograms": [[1, {"count": "1"}]]}
    store.answers["/api/v1/query_range"] = {"resultType": "matrix", "result": [histogram]}
    store.answers["/api/v1/query"] = {"resultType": "vector", "result": [{"metric": {}, "histogram": [1, {}]}]}
    result, page = snapshot(store, tmp_path)
    assert (result.exit_code, problems(page)) == (0, [])


def test_without_label_values_a_variable_stands_for_all(store, tmp_path):
    for label in ("ray_io_cluster", "application", "deployment", "slo", "route"):
        store.answers[f"/api/v1/label/{label}/values"] = (404, "404 page not found")
    result, page = snapshot(store, tmp_path)
    assert "missing: values of " in said(result)
    assert FIGURES in page
    answered = shown(store)
    assert answered.status_code == 200
    assert any(line.startswith("missing: ") for line in problems(answered.text))


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({"warnings": ["store 10.0.0.1: rpc error"]}, "partial answer: store 10.0.0.1: rpc error"),
        ({"isPartial": True}, "partial answer: some storage nodes did not answer (isPartial)"),
        ({"warnings": ["PromQL warning: mix of classic and native"]}, ""),
        ({"warnings": None, "isPartial": False}, ""),
        ({"infos": ["PromQL info: metric might not be a counter"]}, ""),
    ],
    ids=str,
)
def test_partial_answers_are_told(store, tmp_path, more, line):
    store.more = more
    result, page = snapshot(store, tmp_path)
    row = shown(store, "/d/servescope-slo/0?at=1760000000").json()["html"]
    if not line:
        assert (result.exit_code, problems(page), problems(row)) == (0, [], [])
        return
    assert said(result).endswith(line)
    assert problems(page) == problems(row) == [f"{store.url}: {line}"]


def test_a_wrong_password_is_tried_once_and_leaves_no_file(store, tmp_path):
    store.lets_in = lambda headers: False
    result, page = snapshot(store, tmp_path)
    assert said(result).startswith(f"{store.url}: Prometheus denies access (401: no org id); see --bearer-token-file")
    assert (page, len(store.paths)) == ("", 1)
    answered = shown(store)
    assert (answered.status_code, answered.text.count("\n")) == (502, 1)


def test_without_figures_the_logs_are_written(store, tmp_path):
    store.lets_in = lambda headers: False
    with stub_server(LOKI) as (loki, _):
        result, page = snapshot(store, tmp_path, "--loki", loki, "--from", "1760400000000", "--to", "1760400060000")
    assert "missing: dashboards and alerts: " in said(result)
    assert "broke" in page
    assert "Unknown: the query for alerts failed." in page


def test_a_tenant_and_a_path_prefix(store, tmp_path):
    store.prefix = "/prometheus"
    store.lets_in = lambda headers: headers["X-Scope-OrgID"] == "team-a"
    result, page = snapshot(store, tmp_path, "--tenant", "team-a")
    assert (result.exit_code, problems(page)) == (0, [])
    store.prefix = "/prometheus/"
    assert snapshot(store, tmp_path, "--tenant", "team-b")[0].exit_code == 1


def test_a_slow_store_gives_what_fits_into_the_time(store, tmp_path):
    store.pause_s = 0.25
    result, page = snapshot(store, tmp_path, "--timeout", "1.5")
    assert "the time for all queries is used up" in said(result)
    assert problems(page)
    assert len(store.paths) < 30
    answered = shown(store, timeout_s=0.6)
    assert answered.status_code == 200
    assert "the time for all queries is used up" in " ".join(problems(answered.text))


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        ({"application": "Grafana Mimir", "version": "2.12.0", "revision": "x"}, "Grafana Mimir 2.12.0"),
        ({"version": "2.24.0"}, "Prometheus-compatible store "),
        ((404, "none"), "Prometheus-compatible store "),
        ([1], "Prometheus-compatible store "),
        ({"version": "3.5.0", "revision": "x"}, "Prometheus 3.5.0"),
    ],
    ids=str,
)
def test_a_store_is_named_as_it_names_itself(store, tmp_path, answer: Any, name):
    store.answers[BUILD] = answer
    result, page = snapshot(store, tmp_path)
    assert result.exit_code == 0
    assert f"<span>{name}</span>" in page
