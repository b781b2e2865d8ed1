"""Traces of a live Ray Serve through the real Collector: one request is one trace, and it is right.

Other tests' traffic runs beside; every test looks at the traces of its own requests alone.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from demo.stack import component
from servescope.clients import log_lines, otlp_files
from servescope.clients.prometheus import Prometheus
from servescope.dashboards import all_dashboards
from servescope.errors import ServescopeError
from servescope.grafana.templating import Interpolation
from servescope.report.queries import Window, ask, panels_of, select_variables
from servescope.settings import Settings
from tests.support.waiting import wait_for

pytestmark = pytest.mark.skipif(
    component.find("otelcol") is None, reason="no Collector: make tools builds it where Go 1.21 is installed"
)

REPLICA = "replica_handle_request"
ROUTER = "route_to_replica"


class Client:
    """Sends requests with a trace id of its own choice, and finds the traces."""

    def __init__(self, run):
        self.run = run
        self.folder = run.directory / "collector"
        self.logs = run.temp_dir / "session_latest/logs/serve"

    def get(self, path, flags="01", **headers):
        trace_id, span_id = os.urandom(16).hex(), os.urandom(8).hex()
        headers |= {"traceparent": f"00-{trace_id}-{span_id}-{flags}"}
        response = httpx.get(f"{self.run.serve_url}/traced{path}", headers=headers, timeout=60)
        return trace_id, span_id, response

    def traces(self, holding=""):
        try:
            return otlp_files.read_traces(self.folder, holding)
        except ServescopeError:
            return {}

    def trace(self, trace_id, spans):
        """The trace when it has that many spans; the Collector decides some seconds after the request."""
        found = {}

        def there():
            found.update(self.traces(trace_id))
            return trace_id in found and len(found[trace_id].spans) >= spans

        wait_for(
            there, 40, lambda: f"{trace_id}: {shape(found[trace_id]) if trace_id in found else 'nothing'}", pause_s=1
        )
        return found[trace_id]


def shape(trace, span=None):
    """The tree as nested tuples: service, kind, name, children."""
    below = trace.roots if span is None else trace.children(span)
    return [(s.service, s.kind, s.name, shape(trace, s)) for s in below]


def route(deployment, method, below=(), caller="traced.Front", service=None):
    """A call of a deployment as the tree has it."""
    server = (service or f"traced.{deployment}", "server", f"{REPLICA} {deployment} {method}", list(below))
    return (caller, "client", f"{ROUTER} {deployment} {method}", [server])


def request(path, *below):
    """A request through proxy and ingress as the tree has it."""
    ingress = ("traced.Front", "internal", f"GET {path}", list(below))
    front = route("Front", "__call__", [ingress], caller="serve-proxy")
    return [("serve-proxy", "server", f"GET /traced{path}", [front])]


@pytest.fixture(scope="module")
def client(stack):
    return Client(stack.run)


@pytest.mark.parametrize(
    ("path", "template", "spans", "below"),
    [
        ("/chain/a", "/chain/{text}", 8, [route("First", "chain", [route("Second", "plain", caller="traced.First")])]),
        ("/parallel/a", "/parallel/{text}", 8, [route("First", "plain"), route("Second", "plain")]),
        ("/stream/abc", "/stream/{text}", 6, [route("Second", "parts")]),
        ("/grpc/a", "/grpc/{text}", 6, [route("Second", "plain")]),
        (
            "/batch/a",
            "/batch/{text}",
            7,
            [
                (
                    "traced.Front",
                    "client",
                    f"{ROUTER} Second batched",
                    [
                        (
                            "traced.Second",
                            "server",
                            f"{REPLICA} Second batched",
                            [("traced.Second", "internal", "many", [])],
                        )
                    ],
                )
            ],
        ),
    ],
    ids=["chain", "parallel", "stream", "grpc", "batch"],
)
def test_a_request_is_one_trace_with_the_right_parents_names_kinds_and_services(client, path, template, spans, below):
    trace_id, parent, response = client.get(path)
    assert response.status_code == 200
    trace = client.trace(trace_id, spans)
    assert _unordered(shape(trace)) == _unordered(request(template, *below))
    assert trace.roots[0].parent_id == parent
    assert {span.status for span in trace.spans} == {"unset"}
    root = trace.roots[0]
    assert root.attributes["http.route"] == f"/traced{template}"
    assert root.attributes["http.response.status_code"] == 200
    assert root.attributes["url.path"] == path  # all that Serve records: the path below the application's prefix
    for span in trace.spans:
        if span.kind == "client":
            assert span.attributes["peer.service"] == f"traced.{span.name.split()[1]}"
        if span.service != "serve-proxy":
            assert span.resource["serve.application"] == "traced"
            assert span.service == f"traced.{span.resource['serve.deployment']}"
        assert span.resource["ray.version"]
        assert span.resource["ray.node.id"]


def _unordered(nodes):
    return sorted((*node[:3], str(_unordered(node[3]))) for node in nodes)


def test_a_failure_is_recorded_where_it_happened(client):
    trace_id, _, response = client.get("/fail/x")
    assert response.status_code == 500
    trace = client.trace(trace_id, 6)
    status = {span.name: span.status for span in trace.spans}
    assert status == {
        "GET /traced/fail/{text}": "error",
        f"{ROUTER} Front __call__": "unset",
        f"{REPLICA} Front __call__": "error",
        "GET /fail/{text}": "error",
        f"{ROUTER} Second fail": "unset",
        f"{REPLICA} Second fail": "error",
    }
    (second,) = [span for span in trace.spans if span.name == f"{REPLICA} Second fail"]
    assert second.attributes["error.type"] == "ValueError"
    assert second.message == "failed x"
    assert not any("\x1b" in str((span.message, span.events)) for span in trace.spans)


def test_concurrent_requests_of_a_batch_are_linked_from_its_span(client):
    with ThreadPoolExecutor(4) as pool:
        sent = list(pool.map(lambda n: client.get(f"/batch/{n}"), range(4)))
    ids = {trace_id for trace_id, _, _ in sent}
    found = {trace_id: client.trace(trace_id, 6) for trace_id in ids}
    batches = [span for trace in found.values() for span in trace.spans if span.name == "many"]
    linked = [link.trace_id for span in batches for link in span.links]
    assert sorted(linked) == sorted(ids)  # each request in exactly one batch
    assert sum(span.attributes["serve.batch.size"] for span in batches) == 4
    known = {
        span.span_id for trace in found.values() for span in trace.spans if span.name == f"{ROUTER} Second batched"
    }
    assert {link.span_id for span in batches for link in span.links} == known
    requests = {trace.request_ids[0] for trace in found.values()}
    assert {request for span in batches for request in span.attributes["serve.batch.request_ids"]} == requests


def test_the_decision_of_a_client_not_to_sample_is_honoured(client):
    """Nothing of the request is recorded, under its trace id or any other."""
    unsampled, _, response = client.get("/chain/unsampled", flags="00")
    request_id = response.headers["x-request-id"]
    sampled, _, _ = client.get("/chain/after")
    client.trace(sampled, 8)  # sent later, and arrived: whatever the first one left would have, too
    every = client.traces()
    assert unsampled not in every
    assert not [t for t in every.values() if request_id in t.request_ids]


def test_the_state_of_a_client_travels_along(client):
    """Serve's own proxy drops `tracestate`."""
    trace_id, _, _ = client.get("/chain/state", tracestate="vendor=blue")
    client.trace(trace_id, 8)
    states = [
        span.get("traceState")
        for file in client.folder.glob(otlp_files.FILES)
        for line in file.read_text().splitlines()
        if trace_id in line
        for resource in json.loads(line)["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
        if span["traceId"] == trace_id
    ]
    assert states == ["vendor=blue"] * 8


def test_500_concurrent_requests_are_500_whole_traces(client):
    """All in flight at once: the ingress lets nobody go on before the last of them has come."""
    number, crowd = 500, os.urandom(4).hex()
    parents = {os.urandom(16).hex(): os.urandom(8).hex() for _ in range(number)}

    async def send():
        url = f"{client.run.serve_url}/traced/together/{crowd}/{number}"
        limits = httpx.Limits(max_connections=number)
        async with httpx.AsyncClient(timeout=120, limits=limits) as http:
            headers = [{"traceparent": f"00-{trace_id}-{parent}-01"} for trace_id, parent in parents.items()]
            return await asyncio.gather(*(http.get(url, headers=header) for header in headers))

    assert {response.status_code for response in asyncio.run(send())} == {200}
    expected = _unordered(request("/together/{crowd}/{number}", route("First", "plain"), route("Second", "plain")))
    found = {}

    def whole():
        found.update({i: t for i, t in client.traces().items() if i in parents})
        return len(found) == 500 and all(len(trace.spans) >= 8 for trace in found.values())

    wait_for(whole, 90, lambda: f"{sum(len(t.spans) == 8 for t in found.values())} of {len(found)} are whole")
    assert all(_unordered(shape(trace)) == expected for trace in found.values())
    assert all(trace.roots[0].parent_id == parents[i] for i, trace in found.items())
    # No span carries the request id of another request.
    assert {len(trace.request_ids) for trace in found.values()} == {1}


def test_log_lines_of_proxy_and_replicas_carry_the_trace(client):
    trace_id, _, response = client.get("/chain/logged")
    trace = client.trace(trace_id, 8)
    wait_for(
        lambda: len(log_lines.of_trace(trace, client.logs)) >= 7,
        30,
        lambda: str(log_lines.of_trace(trace, client.logs)),
        pause_s=1,
    )
    lines = log_lines.of_trace(trace, client.logs)
    said = {(line.source, re.sub(r"\d+\.\d+ms.*", "", line.text)) for line in lines}
    assert {
        ("traced/Front", "front has logged"),
        ("traced/First", "first has logged"),
        ("traced/Second", "second has logged"),
    } <= said
    assert {"serve_proxy", "traced/Front", "traced/First", "traced/Second"} == {line.source for line in lines}
    spans = {span.span_id for span in trace.spans}
    assert {line.span_id for line in lines} <= spans
    assert trace.request_ids == [response.headers["x-request-id"]]


def test_log_lines_inside_a_batch_carry_the_ids_of_its_requests(client):
    trace_id, _, response = client.get("/batch/told")
    trace = client.trace(trace_id, 7)
    request_id = response.headers["x-request-id"]
    lines = [
        json.loads(line)
        for file in client.logs.glob("replica_traced_Second*")
        for line in file.read_text().splitlines()
        if request_id in line and "a batch of" in line
    ]
    (line,) = lines
    assert request_id in line["request_ids"]
    assert line["trace_id"] == trace_id
    (batch,) = [span for span in trace.spans if span.name == "many"]
    assert line["span_id"] == batch.span_id


def test_health_checks_of_the_ingress_make_no_span_of_fastapi(client):
    trace_id, _, response = client.get("/healthz")
    assert response.status_code == 200
    names = {span.name for span in client.trace(trace_id, 3).spans}
    assert names == {"GET /traced/healthz", f"{ROUTER} Front __call__", f"{REPLICA} Front __call__"}


def test_span_metrics_agree_with_serves_own_counters(client, stack):
    """Within 2 %: what the Collector counted of a deployment is what Serve counted of it."""
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda n: client.get(f"/chain/{n}"), range(100)))
        list(pool.map(lambda n: client.get(f"/fail/{n}"), range(20)))
    spans = 'sum by (deployment) (traces_spanmetrics_calls_total{application="traced", span_name=~"replica_handle.*"})'
    serve = (
        'sum by (deployment) ({__name__=~"ray_serve_deployment_(request_counter|error_counter)_total", '
        'application="traced"})'
    )
    with Prometheus(stack.run.prometheus_url) as prometheus:

        def counts(expression):
            return {s["metric"]["deployment"]: float(s["value"][1]) for s in prometheus.query(expression)}

        def agree():
            ours, theirs = counts(spans), counts(serve)
            return set(theirs) == {"Front", "First", "Second"} == set(ours) and all(
                theirs[name] >= 100 and abs(ours[name] - theirs[name]) <= 0.02 * theirs[name] for name in theirs
            )

        wait_for(agree, 90, lambda: f"spans {counts(spans)}, Serve {counts(serve)}")


def test_an_exemplar_leads_to_a_trace(client, stack):
    """The dots of the panel: those of its own expression, as Grafana asks for them."""
    (document,) = [b.to_json() for b in all_dashboards(Settings()) if b.uid == "servescope-deployment"]
    (panel,) = [p for p in panels_of(document) if p["title"] == "Span duration with exemplars"]
    (target,) = [t for t in panel["targets"] if t.get("exemplar")]

    def exemplars():
        window = Window.last(120)  # the Collector's files of traces are rotated, so an old dot may have lost its trace
        with Prometheus(stack.run.prometheus_url) as prometheus:
            selected = select_variables(document, prometheus, window, chosen={"application": ["traced"]}, every=True)
            (answer,) = ask(
                {"targets": [target]}, prometheus, window=window, scope=Interpolation(selected, window.macros())
            )
        found = httpx.get(
            f"{stack.run.prometheus_url}/api/v1/query_exemplars",
            params={"query": answer.expression, "start": f"{window.start:.0f}", "end": f"{window.end:.0f}"},
        ).json()["data"]
        dots = {e["labels"]["trace_id"]: series["seriesLabels"] for series in found for e in series["exemplars"]}
        return dots if answer.series_with_data else {}

    client.get("/chain/exemplar")
    wait_for(lambda: bool(exemplars()), 60, lambda: "no exemplar")
    shown = exemplars()
    wait_for(lambda: set(shown) <= set(client.traces()), 30, lambda: f"no trace of {set(shown) - set(client.traces())}")
    every = client.traces()
    for trace_id, labels in shown.items():
        handled = [span for span in every[trace_id].spans if span.name == labels["span_name"]]
        assert labels["application"] == "traced"
        assert labels["deployment"] in {span.resource["serve.deployment"] for span in handled}


def test_the_command_shows_the_tree_and_its_log_lines(client):
    from typer.testing import CliRunner

    from servescope.cli import app

    trace_id, _, response = client.get("/chain/shown")
    client.trace(trace_id, 8)
    places = ["--traces", str(client.folder), "--logs", str(client.logs)]
    for wanted in (trace_id, trace_id[:12], response.headers["x-request-id"]):
        shown = CliRunner().invoke(app, ["trace", wanted, *places])
        assert shown.exit_code == 0, shown.output
        for part in ("GET /traced/chain/{text}", "traced.First", f"{ROUTER} Second plain", "second has shown"):
            assert part in shown.output
    failed, _, _ = client.get("/fail/shown")
    client.trace(failed, 6)
    listed = CliRunner().invoke(app, ["trace", "--errors", *places]).output
    assert failed in listed
    assert trace_id not in listed
