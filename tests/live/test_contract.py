"""The contract with a live Ray Serve: its metrics are those of the catalogue, and every panel gets an answer."""

from __future__ import annotations

import os
import re

import pytest

from demo.stack.component import find
from servescope import catalog
from servescope.catalog import model
from servescope.catalog.model import Kind, Source
from servescope.clients.prometheus import Prometheus
from servescope.dashboards import all_dashboards, slo
from servescope.dashboards.rows import traces
from servescope.errors import ServescopeError
from servescope.report.check import count_series
from servescope.report.queries import Window
from servescope.settings import Settings
from tests.live.versions import newer_labels, newer_metrics, older
from tests.support.waiting import wait_for

SETTINGS = Settings()
TRACES = find("otelcol") is not None
SPANS = (Source.COLLECTOR,) if TRACES else ()
SOURCES = (Source.NODE_AGENT, Source.AUTOSCALER, Source.DASHBOARD, Source.EXPORTER, *SPANS)


@pytest.fixture(scope="module")
def prometheus(traffic_done):
    """Prometheus after the traffic has triggered everything once and a few scrapes have seen it."""
    with Prometheus(traffic_done.prometheus_url) as client:
        yield client


def series_of(prometheus: Prometheus, selector: str) -> list[dict[str, str]]:
    return [series["metric"] for series in prometheus.query(f"last_over_time({selector}[15m])")]


def sample_name(metric: model.Metric) -> str:
    return f"{metric.name}_bucket" if metric.kind is Kind.HISTOGRAM else metric.name


def expected_labels(metric: model.Metric, version: str) -> set[str]:
    newer = {label for label, since in metric.newer_labels.items() if older(version, since)}
    gone = {label for label, until in metric.older_labels.items() if not older(version, until)}
    return set(metric.labels) - newer - gone


@pytest.fixture(scope="module")
def ray_version(prometheus) -> str:
    (version,) = {metric["Version"] for metric in series_of(prometheus, "ray_serve_application_status")}
    assert version == (os.environ.get("RAY_VERSION") or version)
    return version


def test_every_family_that_the_test_triggers_appears(prometheus, ray_version):
    wanted = [m for m in catalog.METRICS if m.source in SOURCES and not m.needs and not older(ray_version, m.since)]
    assert len(wanted) > 100

    def missing() -> list[str]:
        names = set(prometheus.label_values("__name__", None, start=0, end=4e9))
        return [metric.name for metric in wanted if sample_name(metric) not in names]

    wait_for(lambda: not missing(), 120, lambda: f"never exported: {missing()}")


def test_every_serve_family_that_ray_exports_is_known(prometheus, ray_version):
    names = [n for n in prometheus.label_values("__name__", None, start=0, end=4e9) if n.startswith("ray_serve_")]
    assert len(names) > 70
    # Some names had another kind before the version from which the catalogue knows them.
    other_kind = {metric.name for metric in catalog.METRICS if older(ray_version, metric.since)}
    unknown = []
    for name in names:
        try:
            catalog.metric_of_sample(name)
        except ServescopeError:
            if name not in other_kind:
                unknown.append(name)
    assert unknown == []


def test_labels_are_those_of_the_catalogue(prometheus, ray_version):
    wrong = []
    checked = 0
    for metric in catalog.METRICS:
        if metric.source not in SOURCES or older(ray_version, metric.since):
            continue
        for labels in series_of(prometheus, sample_name(metric)):
            checked += 1
            have = set(labels) - {"__name__", SETTINGS.cluster_label}
            # Prometheus does not store a label whose value is empty, so a declared label may be missing on one series.
            unknown = have - set(catalog.allowed_labels(metric))
            if unknown:
                wrong.append(f"{metric.name}: carries {sorted(unknown)}")
        union = {label for labels in series_of(prometheus, sample_name(metric)) for label in labels}
        lacking = expected_labels(metric, ray_version) - union if union else set()
        if lacking:
            wrong.append(f"{metric.name}: never carries {sorted(lacking)}")
    assert checked > 500
    assert sorted(set(wrong)) == []


@pytest.mark.parametrize("recorded", [False, True], ids=["plain", "recorded"])
@pytest.mark.parametrize("scrape_interval_s", [15, 30, 60])
def test_every_target_of_every_panel_is_answered(prometheus, ray_version, recorded, scrape_interval_s):
    """At 30 and 60 s the rate windows are those that Grafana takes for a datasource of that scrape interval."""
    boards = all_dashboards(SETTINGS, recorded=recorded)
    excused = {
        (board.uid, panel.title)
        for board in boards
        for panel in board.panels
        # The tests have objectives, and spans where the Collector is built.
        if panel.absent not in ("", slo.ABSENT, *((traces.ABSENT,) if TRACES else ()))
    }

    # A timeline draws what is not at rest, which in a healthy Serve is nothing, and one band for all others.
    at_rest = {
        (board.uid, panel.title, "A")
        for board in boards
        for panel in board.panels
        if panel.type == "state-timeline" and [query.legend for query in panel.queries][1:] == ["all others"]
    }

    def unanswered() -> list[str]:
        window = Window.last(300, scrape_interval_s)
        return [
            f"{board.uid} / {answer.panel} / {answer.ref}: {answer.expression}"
            for board in boards
            for answer in count_series(board.to_json(), prometheus, window)
            if answer.series == 0
            and (board.uid, answer.panel) not in excused
            and (board.uid, answer.panel, answer.ref) not in at_rest
            and not newer_metrics(answer.expression, ray_version, SETTINGS)
        ]

    # An event shows at the first full step after the scrape that saw it: at 60 s, a minute and a half later.
    wait_for(lambda: not unanswered(), 120, lambda: "\n".join(["no data:", *unanswered()]))


def test_no_legend_is_blank(prometheus, ray_version):
    """Every label that a legend names is there on every series that the panel draws, where this Ray has it."""
    window = Window.last(300)
    blank = set()
    for board in all_dashboards(SETTINGS):
        legends = {(panel.title, i): q.legend for panel in board.panels for i, q in enumerate(panel.queries)}
        counters: dict[str, int] = {}
        for answer in count_series(board.to_json(), prometheus, window):
            position = counters.get(answer.panel, 0)
            counters[answer.panel] = position + 1
            named = set(re.findall(r"\{\{(\w+)\}\}", legends[answer.panel, position]))
            for label in named - newer_labels(answer.expression, ray_version):
                metrics = [series["metric"] for series in prometheus.query(answer.expression)]
                if any(not metric.get(label) for metric in metrics) and (board.uid, answer.panel) not in MAY_BE_BLANK:
                    blank.add(f"{board.uid} / {answer.panel}: {{{{{label}}}}}")
    assert blank == set()


# Series whose label is empty because that is the fact they state.
MAY_BE_BLANK = {
    ("servescope-overview", "Unmatched and probe traffic"),  # no route matched
    ("servescope-deployment", "Calls by route"),  # a call outside any request
    ("servescope-deployment", "Processing time p95 by route"),
    ("servescope-deployment", "Event loop lag p99"),
}
