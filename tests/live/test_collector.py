"""The Collector with the configuration that ships, fed over OTLP: no Ray here."""

from __future__ import annotations

import re
import signal
import time
from collections import Counter

import pytest
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from demo import ROOT
from demo.stack import component
from tests.live.collector import Backend, Collector, provider
from tests.support.waiting import wait_for

pytestmark = pytest.mark.skipif(
    component.find("otelcol") is None, reason="no Collector: make tools builds it where Go 1.21 is installed"
)

BASE = 22100
SERVE = "ray.serve._private.tracing_utils"
SECRET = "Bearer abcdefghijkl"
PLANTED = "planted-S3cr3t"
FAILURE = f"\x1b[31mred\x1b[0m {SECRET} redis://:{PLANTED}@h/0 password={PLANTED}"


def send_request(proxy, replica, path="/m/1", code=200, error=None, slow_s=0.0):
    """One request as Serve itself records it, rough as it is; returns the trace id."""
    outer, inner = proxy.get_tracer(SERVE), replica.get_tracer(SERVE)
    raw = {
        "request_method": "GET",
        "request_route_path": path,
        "http.method": "GET",
        "http.route": path,
        "http.status_code": code,
        "resource.name": f"proxy_http_request Gateway GET {path}",
        "http.request.header.authorization": SECRET,
        "http.response.header.set-cookie": "id=1",
        "x_tenant_pin": "1234",
        "db.connection_string": f"postgres://app:{PLANTED}@db:5432/x",
        "db.query.text": f"ALTER USER app PASSWORD='{PLANTED}'; SET token = {PLANTED}",
        "process.command_args": ["serve", f"password={PLANTED}"],
        "app.private_key": PLANTED,
        "gen_ai.usage.input_tokens": 7,
        "url.full": f"http://host{path}?token=1",
        "url.query": "token=1",
    }
    began = time.time_ns()
    server = SpanKind.SERVER
    with outer.start_as_current_span(
        f"proxy_http_request Gateway GET {path}", kind=server, attributes=raw, start_time=began - int(slow_s * 1e9)
    ) as root:
        root.set_status(StatusCode.ERROR if code >= 400 else StatusCode.OK)
        with (
            outer.start_as_current_span(
                "route_to_replica Gateway __call__",
                kind=server,
                attributes={"app": "main", "deployment": "Gateway", "http.method": "__call__", "rpc.service": "Other"},
            ),
            inner.start_as_current_span(
                "replica_handle_request Gateway __call__",
                kind=server,
                attributes={"http.status_code": str(code), "http.method": "GET", "rpc.system": "UNDEFINED"},
            ) as span,
        ):
            if error is not None:
                span.record_exception(error)
        return f"{root.get_span_context().trace_id:032x}"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("collector")


@pytest.fixture(scope="module")
def fed(data):
    """A Collector that keeps everything, after three requests: a good one, a failed one, a cancelled one."""
    env = {"REDACT_KEYS": "tenant_pin$"}
    with Collector(data / "all", BASE, env) as collector:
        with (
            provider(collector.otlp, "serve-proxy") as proxy,
            provider(collector.otlp, "main.Gateway", serve_application="main", serve_deployment="Gateway") as replica,
        ):
            import asyncio

            ids = {
                "good": send_request(proxy, replica),
                "failed": send_request(proxy, replica, code=500, error=ValueError(FAILURE)),
                "cancelled": send_request(proxy, replica, code=408, error=asyncio.CancelledError()),
            }
        wait_for(
            lambda: len(collector.traces()) == 3 and all(len(t.spans) == 3 for t in collector.traces().values()),
            30,
            lambda: f"{collector.traces()} {collector.log()[-1000:]}",
            pause_s=0.5,
        )
        yield collector, ids


def spans_of(fed, what):
    collector, ids = fed
    (root,) = collector.traces()[ids[what]].roots
    (router,) = collector.traces()[ids[what]].children(root)
    (replica,) = collector.traces()[ids[what]].children(router)
    return root, router, replica


def test_names_kinds_and_status_of_serves_own_spans(fed):
    root, router, replica = spans_of(fed, "good")
    # The template is not known to the Collector; a path is no name.
    assert (root.name, root.kind, root.status) == ("GET", "server", "unset")
    assert (router.name, router.kind, router.status) == ("route_to_replica Gateway __call__", "client", "unset")
    assert (replica.name, replica.kind) == ("replica_handle_request Gateway __call__", "server")
    assert root.attributes["http.response.status_code"] == 200
    assert root.attributes["url.path"] == "/m/1"
    assert "http.route" not in root.attributes
    assert router.attributes == {"app": "main", "deployment": "Gateway", "peer.service": "main.Gateway"}
    assert replica.attributes == {
        "http.response.status_code": 200,
        "http.request.method": "GET",
        "rpc.system": "ray_serve",
    }


def test_a_failure_is_recorded_by_proxy_and_replica(fed):
    root, router, replica = spans_of(fed, "failed")
    assert (root.status, router.status, replica.status) == ("error", "unset", "error")
    assert replica.message == "red **** redis://****@h/0 ****"  # without colours, without the token
    assert replica.attributes["error.type"] == "ValueError"
    ((name, event),) = replica.events
    assert (name, event["exception.message"]) == ("exception", "red **** redis****h/0 ****")
    assert "\x1b" not in event["exception.stacktrace"]
    assert SECRET not in event["exception.stacktrace"]
    assert PLANTED not in event["exception.stacktrace"]


def send_proxy_span(proxy, code, *, error=None, method="GET", slow_s=0.0):
    """A proxy's span of Serve's own, without anything below it; returns the trace id."""
    kind = "websocket" if method == "WS" else "http"
    span = proxy.get_tracer(SERVE).start_span(
        f"proxy_{kind}_request Talk {method} /x",
        kind=SpanKind.SERVER,
        attributes={"request_method": method, "http.method": method, "http.status_code": code},
        start_time=time.time_ns() - int(slow_s * 1e9),
    )
    if error is not None:
        span.record_exception(error)
    span.set_status(StatusCode.ERROR if code != 1000 else StatusCode.OK)
    span.end()
    return f"{span.get_span_context().trace_id:032x}"


class RequestCancelledError(Exception):
    pass


def test_sessions_and_broken_streams_of_other_exporters(data):
    """Close codes, exceptions behind a status of 200, and a session that is long and not slow."""
    env = {"SAMPLE_PERCENT": "0", "SLOW_MS": "1500"}
    with Collector(data / "sessions", BASE + 50, env) as collector:
        with provider(collector.otlp, "serve-proxy") as proxy:
            ids = {
                "good": send_proxy_span(proxy, 1000, method="WS", slow_s=60),
                "gone": send_proxy_span(proxy, 1006, method="WS"),
                "failed": send_proxy_span(proxy, 1011, method="WS"),
                "broken": send_proxy_span(proxy, 200, error=ValueError("as asked")),
                "left": send_proxy_span(proxy, 200, error=RequestCancelledError()),
                "late": send_proxy_span(proxy, 408, error=TimeoutError()),
                "slow": send_proxy_span(proxy, 200, slow_s=2),
            }
        wait_for(lambda: len(collector.traces()) >= 3, 30, lambda: f"{collector.traces()} {ids}", pause_s=0.5)
        kept = collector.traces()
        assert {name for name, trace_id in ids.items() if trace_id in kept} == {"failed", "broken", "slow"}
        spans = {name: kept[trace_id].spans[0] for name, trace_id in ids.items() if trace_id in kept}
        assert {name: span.status for name, span in spans.items()} == {
            "failed": "error",
            "broken": "error",
            "slow": "unset",
        }
        assert spans["failed"].attributes == {"http.request.method": "WS", "websocket.close_code": 1011}
        assert (spans["broken"].message, spans["broken"].attributes["error.type"]) == ("as asked", "ValueError")

        def counted():
            found = Counter()
            for sample in samples(collector.scrape(), "traces_spanmetrics_calls_total"):
                found[sample.labels["status_code"], sample.labels["exemplars"]] += sample.value
            return found

        # Exemplars come from what is kept, and from nothing else.
        expected = {("STATUS_CODE_ERROR", "yes"): 2, ("STATUS_CODE_UNSET", "yes"): 1, ("STATUS_CODE_UNSET", "no"): 4}
        wait_for(lambda: counted() == expected, 30, lambda: str(counted()), pause_s=0.5)


def test_a_4xx_and_a_client_that_left_are_no_failures(fed):
    assert [span.status for span in spans_of(fed, "cancelled")] == ["unset", "unset", "unset"]


def test_secrets_are_masked_and_counts_of_tokens_are_not(fed):
    root, *_ = spans_of(fed, "good")
    assert root.attributes["http.request.header.authorization"] == "****"
    assert root.attributes["http.response.header.set-cookie"] == "****"
    assert root.attributes["x_tenant_pin"] == "****"  # REDACT_KEYS
    assert root.attributes["url.full"] == "http://host/m/1?****"
    assert root.attributes["url.query"] == "****"
    assert root.attributes["gen_ai.usage.input_tokens"] == 7
    assert root.attributes["db.connection_string"] == "postgres****db:5432/x"
    assert root.attributes["db.query.text"] == "ALTER USER app ****'; SET ****"
    assert root.attributes["process.command_args"] == '["serve","****"]'
    assert root.attributes["app.private_key"] == "****"
    collector, _ = fed
    assert PLANTED not in str(collector.traces())


def samples(text, name):
    return [s for family in text_string_to_metric_families(text) for s in family.samples if s.name == name]


def test_metrics_of_the_spans(fed):
    collector, _ = fed

    def complete():
        # A series first appears with 0 and has its value with the next flush.
        text = collector.scrape()
        edges = samples(text, "traces_service_graph_request_total")
        return sum(s.value for s in samples(text, "traces_spanmetrics_calls_total")) == 9 and bool(edges)

    wait_for(complete, 30, collector.scrape, pause_s=0.5)
    text = collector.scrape()
    calls = samples(text, "traces_spanmetrics_calls_total")
    count = Counter()
    for sample in calls:
        count[sample.labels["service_name"], sample.labels["span_kind"], sample.labels["status_code"]] += sample.value
    assert count == {
        ("serve-proxy", "SPAN_KIND_SERVER", "STATUS_CODE_UNSET"): 2,
        ("serve-proxy", "SPAN_KIND_SERVER", "STATUS_CODE_ERROR"): 1,
        ("serve-proxy", "SPAN_KIND_CLIENT", "STATUS_CODE_UNSET"): 3,
        ("main.Gateway", "SPAN_KIND_SERVER", "STATUS_CODE_UNSET"): 2,
        ("main.Gateway", "SPAN_KIND_SERVER", "STATUS_CODE_ERROR"): 1,
    }
    allowed = {
        "service_name",
        "span_name",
        "span_kind",
        "status_code",
        "application",
        "deployment",
        "exemplars",
        "ray_io_cluster",
    }
    assert {label for sample in calls for label in sample.labels} <= allowed
    replica = [s for s in calls if s.labels["service_name"] == "main.Gateway"]
    assert {(s.labels["application"], s.labels["deployment"]) for s in replica} == {("main", "Gateway")}
    (edge,) = {(s.labels["client"], s.labels["server"]) for s in samples(text, "traces_service_graph_request_total")}
    assert edge == ("serve-proxy", "main.Gateway")
    assert sum(s.value for s in samples(text, "traces_service_graph_request_failed_total")) == 1
    counted = samples(text, "traces_spanmetrics_latency_count")
    assert sum(s.value for s in counted) == 9


def test_it_exports_its_own_metrics(fed):
    collector, _ = fed
    assert re.search(r"^otelcol_receiver_accepted_spans.* 9$", collector.own(), re.MULTILINE)


def test_sampling_keeps_whole_traces_all_errors_and_all_that_is_slow(data):
    """At 10 %, and every exemplar leads to a trace that was kept."""
    env = {"SAMPLE_PERCENT": "10", "SLOW_MS": "1500"}
    with Collector(data / "sampled", BASE + 10, env) as collector:
        seen = {"exemplars": set()}

        def counted():
            text = collector.scrape()
            latencies = samples(text, "traces_spanmetrics_latency_bucket")
            seen["exemplars"] |= {sample.exemplar.labels["trace_id"] for sample in latencies if sample.exemplar}
            return sum(s.value for s in samples(text, "traces_spanmetrics_calls_total"))

        with provider(collector.otlp, "serve-proxy") as proxy, provider(collector.otlp, "main.Gateway") as replica:
            ordinary = [send_request(proxy, replica) for _ in range(1000)]
            failed = [send_request(proxy, replica, code=500, error=ValueError("x")) for _ in range(50)]
            slow = [send_request(proxy, replica, slow_s=2) for _ in range(50)]
        share = {trace_id for trace_id in ordinary if int(trace_id[-7:], 16) < 10 * 2684355}
        assert 60 < len(share) < 140  # the client's own dice; a share of 10 % in 1000
        expected = {*share, *failed, *slow}
        # Counts do not depend on sampling; an exemplar is exposed for one flush.
        wait_for(
            lambda: counted() == 3300 and bool(seen["exemplars"]),
            40,
            lambda: f"{counted()} of 3300, {seen}",
            pause_s=0.5,
        )
        wait_for(
            lambda: len(collector.traces()) >= len(expected),
            40,
            lambda: f"{len(collector.traces())} of {len(expected)}",
        )
        kept = collector.traces()
        assert set(kept) == expected
        assert {len(trace.spans) for trace in kept.values()} == {3}
        assert seen["exemplars"]
        assert seen["exemplars"] <= expected


def send_spans(collector, number):
    with provider(collector.otlp, "serve-proxy") as spans:
        made = [spans.get_tracer("t").start_span(f"span {n}") for n in range(number)]
        for span in made:
            span.end()
    return {span.get_span_context().span_id.to_bytes(8, "big") for span in made}


def test_a_backend_that_is_away_and_a_killed_collector_lose_nothing_that_is_queued(data):
    """The queue is on disk: it outlives both the backend's outage and SIGKILL."""
    backend = Backend(BASE + 29)
    env = {"TRACES_TO": "[otlp_grpc/tempo]", "TEMPO_ENDPOINT": f"127.0.0.1:{backend.port}", "DECISION_WAIT": "1s"}
    with Collector(data / "queued", BASE + 20, env) as collector:
        sent = send_spans(collector, 2000)

        def queued():
            sizes = re.findall(r"^otelcol_exporter_queue_size\{.*\} (\S+)$", collector.own(), re.MULTILINE)
            return sum(map(float, sizes))

        wait_for(lambda: queued() >= 2000, 30, lambda: f"{queued()} spans queued", pause_s=0.5)
        collector.stop(signal.SIGKILL)
        backend.start()
        assert backend.span_ids == []
        collector.start()
        try:
            wait_for(
                lambda: set(backend.span_ids) >= sent, 60, lambda: f"{len(set(backend.span_ids))} arrived", pause_s=0.5
            )
        finally:
            backend.stop()


def test_the_gateway_sends_a_trace_to_one_collector(data):
    env = {"TIER_HOSTNAME": "localhost", "TIER_PORT": str(BASE + 40), "OTLP_HTTP_ENDPOINT": f"127.0.0.1:{BASE + 31}"}
    with (
        Collector(data / "tier", BASE + 40) as tier,
        Collector(data / "agent", BASE + 30, env, ROOT / "otel/gateway.yaml") as agent,
    ):
        with provider(agent.otlp, "serve-proxy") as proxy, provider(agent.otlp, "main.Gateway") as replica:
            sent = {send_request(proxy, replica) for _ in range(50)}
        wait_for(
            lambda: len(tier.traces()) == 50,
            40,
            lambda: f"{len(tier.traces())} traces {agent.log()[-500:]}",
            pause_s=0.5,
        )
        assert set(tier.traces()) == sent
        assert {len(trace.spans) for trace in tier.traces().values()} == {3}
