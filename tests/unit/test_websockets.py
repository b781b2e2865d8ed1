"""WebSocket sessions: a normal end is no failure, a failed one is, and a long one is not slow."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from servescope.dashboards import all_dashboards
from servescope.generate import rule_files
from servescope.promql import Scope
from servescope.promql.signals import REQUEST_LATENCY, Reader
from servescope.rules import prometheus, recording
from servescope.rules.series import (
    LIVING_CLUSTER,
    ROUTED_REQUESTS,
    finished_calls,
    http_requests,
    requests_in_progress,
)
from servescope.rules.slo.objectives import Slo
from servescope.settings import Settings
from tests.support import promtool

SETTINGS = Settings()
SLO = Slo(name="chat", application="main", availability=0.99, latency_objective=0.9, latency_ms=5000)
ASIDE = "ServescopeWatchdog|ServescopeSetup.*"
TARGET = {"ray_io_cluster": "a", "instance": "n1", "job": "ray"}
FIRING = f'count by (alertname) (ALERTS{{alertstate="firing", alertname!~"{ASIDE}"}})'


def every_expression() -> Iterator[tuple[str, str]]:
    """Each query of the dashboards and each expression of the rules, with where it is."""
    for board in all_dashboards(SETTINGS):
        for panel in board.panels:
            yield from ((f"{board.uid} / {panel.title}", query.expr) for query in panel.queries)
    documents = (recording.document(SETTINGS), prometheus.document(SETTINGS), prometheus.slo_document([SLO], SETTINGS))
    for document in documents:
        for group in document["groups"]:
            yield from ((rule.get("alert") or rule["record"], rule["expr"]) for rule in group["rules"])


def test_whatever_reads_the_latency_of_the_proxies_says_which_method_it_means():
    read = [
        (where, selector)
        for where, expression in every_expression()
        for selector in re.findall(r"ray_serve_http_request_latency_ms_\w+(?:\{[^}]*\})?", expression)
    ]
    assert len(read) > 10
    assert [entry for entry in read if "method" not in entry[1] and entry[0] not in ANY_METHOD] == []


# It asks whether there is any bucket at all.
ANY_METHOD = {"ServescopeSetupLatencyBucketsMissing"}


def sessions(method: str, code: str, values: str, length_ms: int = 300_000) -> dict[str, str]:
    """Sessions of one close code that lasted so long, as a proxy counts them."""
    labels = f'application="main", route="/ws", method="{method}", status_code="{code}"'
    latency = "ray_serve_http_request_latency_ms"
    result = {
        f"ray_serve_num_http_requests_total{{{labels}}}": values,
        f"{latency}_count{{{labels}}}": values,
    }
    for bound in (100, 1000, 5000, 300_000):
        result[f'{latency}_bucket{{{labels}, le="{bound}.0"}}'] = values if bound >= length_ms else "0x200"
    return result | {f'{latency}_bucket{{{labels}, le="+Inf"}}': values}


def stored(name: str) -> str:
    """The series as a Prometheus of one cluster stores it."""
    bare, _, inside = name.rstrip("}").partition("{")
    labels = [f'{label}="{value}"' for label, value in TARGET.items() if f'{label}="' not in inside]
    return f"{bare}{{{', '.join(filter(None, [inside, *labels]))}}}"


def said(folder: Path, series: dict[str, str], *asked: tuple[str, list[tuple[str, float]]]) -> None:
    """Let promtool run every rule over the series for half an hour, and ask."""
    for path, text in rule_files(SETTINGS, [SLO]).items():
        if len(path.parts) == 1:  # the copies in folders are for Grafana
            (folder / path.name).write_text(text)
    living = {name: f"{values}200" for name, values in LIVING_CLUSTER.items()}
    test = {
        "interval": "15s",
        "input_series": [{"series": stored(name), "values": values} for name, values in {**living, **series}.items()],
        "promql_expr_test": [
            {
                "expr": expression,
                "eval_time": "30m5s",
                "exp_samples": [{"labels": labels, "value": value} for labels, value in samples],
            }
            for expression, samples in asked
        ],
    }
    rules = sorted(path.name for path in folder.glob("*.yml"))
    path = folder / "case.yml"
    path.write_text(yaml.safe_dump({"rule_files": rules, "evaluation_interval": "1m", "tests": [test]}))
    result = promtool.run("test", "rules", path)
    assert result.returncode == 0, result.stdout + result.stderr


@promtool.requires_promtool
@pytest.mark.parametrize("method", ["WS", "WEBSOCKET"])
def test_long_sessions_that_end_well_are_neither_errors_nor_slow(tmp_path: Path, method: str):
    series = {
        **sessions(method, "1000", "0+30x200"),
        **sessions(method, "1001", "0+30x200"),
        **sessions(method, "1005", "0+30x200"),
        **sessions(method, "1006", "0+30x200"),
    }
    slo = 'slo="chat", application="main", ray_io_cluster="a"'
    name = "serve_slo:errors:events1m"
    reader = Reader(SETTINGS, Scope("ray_io_cluster"), window="1m")
    said(
        tmp_path,
        series,
        (FIRING, []),
        (f'{name}{{sli="availability"}}', [(f'{name}{{{slo}, sli="availability"}}', 0)]),
        ('serve_slo:requests:events1m{sli="latency"}', []),
        (reader.quantile(0.95, REQUEST_LATENCY), []),
    )


@promtool.requires_promtool
@pytest.mark.parametrize(("method", "fires"), [("WS", False), ("GET", True)])
def test_sessions_that_stay_open_are_not_hung_requests(tmp_path: Path, method: str, fires: bool):
    counted = http_requests("1000").replace('method="GET"', f'method="{method}"')
    series = {
        **{requests_in_progress(): "2x200", finished_calls(): "7x200", ROUTED_REQUESTS: "9x200"},
        **{counted: "7x200"},
    }
    hung = 'count by (deployment) (ALERTS{alertname="RayServeRequestsHung", alertstate="firing"})'
    said(tmp_path, series, (hung, [('{deployment="D"}', 1)] if fires else []))


# A third of the requests of one route; the burn rate is too high in both pairs of windows that page.
OF_A_THIRD = {"RayServeErrorRatioHigh": 1, "RayServeRouteFailing": 1, "RayServeErrorBudgetBurn": 2}


@promtool.requires_promtool
@pytest.mark.parametrize(
    "series",
    [
        pytest.param({**sessions("WS", "1000", "0+60x200"), **sessions("WS", "1011", "0+30x200")}, id="sessions"),
        pytest.param({http_requests("200"): "0+60x200", http_requests("500"): "0+30x200"}, id="requests"),
    ],
)
def test_failed_sessions_raise_what_failed_requests_raise(tmp_path: Path, series: dict[str, str]):
    labels = 'slo="chat", application="main", ray_io_cluster="a", sli="availability"'
    errors = "serve_slo:errors:events1m"
    said(
        tmp_path,
        series,
        (FIRING, [(f'{{alertname="{alert}"}}', count) for alert, count in OF_A_THIRD.items()]),
        (f'{errors}{{sli="availability"}}', [(f"{errors}{{{labels}}}", 120)]),
    )
