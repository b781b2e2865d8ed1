"""The tracing function: what it says of the process, how it rewrites Serve's spans, and that it never harms."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import logging
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import types
import venv
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from opentelemetry.trace import SpanKind, StatusCode
from packaging.requirements import Requirement

from demo import ROOT
from servescope import tracing
from servescope.errors import ServescopeError
from servescope.tracing import batch, destination, export, logs, ray_patches, resource
from servescope.tracing.semconv import SERVE_SCOPE, plain, rewritten
from tests.support.otlp_server import OtlpServer
from tests.support.servers import free_port


@pytest.fixture(autouse=True)
def no_otel_variables(monkeypatch):
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


# -- who the process is ------------------------------------------------------------------------------------------------


def test_a_replica_is_named_after_its_application_and_deployment():
    actor = resource.parse_actor("SERVE_REPLICA::main#Gateway#f3jxvnsq")
    assert actor == resource.Actor("main", "Gateway", "f3jxvnsq")
    assert actor.service == "main.Gateway"


def test_everything_else_is_a_proxy():
    assert resource.parse_actor("SERVE_PROXY_ACTOR-c395a7").service == "serve-proxy"
    assert resource.parse_actor("").service == "serve-proxy"


def test_resource_attributes(monkeypatch):
    monkeypatch.setenv("RAY_CLUSTER_NAME", "kuberay")
    found = resource.attributes(resource.Actor("main", "Gateway", "f3jxvnsq"), "c395a7251a68f50f", "2.60.0")
    assert found == {
        "service.instance.id": "f3jxvnsq",
        "serve.application": "main",
        "serve.deployment": "Gateway",
        "serve.replica": "f3jxvnsq",
        "host.name": socket.gethostname(),
        "ray.node.id": "c395a7251a68f50f",
        "ray.io.cluster": "kuberay",
        "ray.version": "2.60.0",
    }
    monkeypatch.setenv("SERVESCOPE_CLUSTER", "mine")
    proxy = resource.attributes(resource.Actor(), "c395a7251a68f50f", "2.60.0")
    assert proxy["ray.io.cluster"] == "mine"
    assert proxy["service.instance.id"] == "proxy-c395a7251a68"
    assert "serve.replica" not in proxy


# -- spans in OpenTelemetry's terms ------------------------------------------------------------------------------------


def serve_span(name, kind=SpanKind.SERVER, error=None, status=None, scope=SERVE_SCOPE, **attributes):
    """A span as Serve makes it, through a real provider."""
    memory = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    span = provider.get_tracer(scope).start_span(name, kind=kind)
    span.set_attributes({key.replace("__", "."): value for key, value in attributes.items()})
    if error is not None:
        span.record_exception(error)
    if status is not None:
        span.set_status(*status)
    span.end()
    (ended,) = memory.get_finished_spans()
    return ended


PROXY = {
    "request_id": "r1",
    "deployment": "Gateway",
    "app": "main",
    "request_type": "http",
    "request_method": "GET",
    "request_route_path": "/models/m1",
    "resource__name": "proxy_http_request Gateway GET /models/m1",
    "http__method": "GET",
}


def proxy_span(code, route="/models/{model}", **more):
    return serve_span(
        "proxy_http_request Gateway GET /models/m1", http__status_code=code, http__route=route, **PROXY, **more
    )


def test_the_proxy_span_has_the_template_and_not_the_path_in_its_name():
    span = rewritten(proxy_span(200, status=(StatusCode.OK,)))
    assert span.name == "GET /models/{model}"
    assert span.kind is SpanKind.SERVER
    assert span.status.status_code is StatusCode.UNSET
    assert dict(span.attributes) == {
        "request_id": "r1",
        "deployment": "Gateway",
        "app": "main",
        "request_type": "http",
        "url.path": "/models/m1",
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "http.route": "/models/{model}",
    }


def test_without_the_patch_the_route_is_the_raw_path_and_left_out():
    span = rewritten(proxy_span(200, route="/models/m1"), patched=False)
    assert span.name == "GET"
    assert "http.route" not in span.attributes
    assert span.attributes["url.path"] == "/models/m1"


@pytest.mark.parametrize(
    ("code", "status"), [(404, "UNSET"), (408, "UNSET"), (499, "UNSET"), (500, "ERROR"), (503, "ERROR")]
)
def test_only_a_5xx_is_an_error_of_the_server(code, status):
    span = rewritten(proxy_span(code, status=(StatusCode.ERROR, "whatever Serve says")))
    assert span.status.status_code.name == status
    assert span.attributes.get("error.type") == (str(code) if code >= 500 else None)


def test_a_router_is_a_client_and_loses_what_belongs_to_another_call():
    span = rewritten(
        serve_span(
            "route_to_replica Multi __call__",
            deployment="Multi",
            app="main",
            rpc__system="UNDEFINED",
            rpc__service="Scaler",
            rpc__method="__call__",
            http__method="__call__",
        )
    )
    assert span.name == "route_to_replica Multi __call__"
    assert span.kind is SpanKind.CLIENT
    assert dict(span.attributes) == {"deployment": "Multi", "app": "main", "peer.service": "main.Multi"}
    assert span.status.status_code is StatusCode.UNSET


def test_a_router_that_failed_stays_failed():
    failed = (StatusCode.ERROR, "BackPressureError: full")
    span = rewritten(serve_span("route_to_replica Multi __call__", deployment="Multi", app="main", status=failed))
    assert (span.status.status_code, span.status.description) == failed


def test_the_exception_of_a_replica_is_its_status_without_colours():
    error = ValueError("\x1b[36mray::Replica\x1b[39m as asked")
    span = rewritten(serve_span("replica_handle_request Gateway __call__", error=error, http__status_code="500"))
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == "ValueError: ray::Replica as asked"
    assert span.attributes["error.type"] == "ValueError"
    assert span.attributes["http.response.status_code"] == 500
    (event,) = span.events
    assert event.attributes["exception.message"] == "ray::Replica as asked"
    assert "\x1b" not in event.attributes["exception.stacktrace"]


def test_a_request_whose_client_has_gone_is_no_failure():
    span = rewritten(serve_span("replica_handle_request Gateway __call__", error=asyncio.CancelledError()))
    assert span.status.status_code is StatusCode.UNSET
    assert "error.type" not in span.attributes


def socket_span(code, what="proxy_websocket_request Talk WS /ws", error=None, **more):
    methods = {"request_method": "WS", "http__method": "WS"}
    return rewritten(serve_span(what, error=error, http__status_code=code, http__route="/ws", **methods, **more))


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (1000, "UNSET"),
        (1001, "UNSET"),
        (1005, "UNSET"),
        (1006, "UNSET"),
        (1008, "UNSET"),
        (1010, "UNSET"),
        (1011, "ERROR"),
        (1014, "ERROR"),
        (1015, "UNSET"),
        (4001, "UNSET"),
    ],
)
def test_a_session_is_an_error_by_the_close_codes_of_a_failed_server_only(code, status):
    span = socket_span(code)
    assert (span.name, span.status.status_code.name) == ("WS /ws", status)
    assert span.attributes["websocket.close_code"] == code
    assert "http.response.status_code" not in span.attributes
    assert span.attributes.get("error.type") == (str(code) if status == "ERROR" else None)


def test_the_session_of_a_replica_has_no_route_but_the_prefix_which_is_none():
    span = socket_span("1000", "replica_handle_request Talk __call__")
    assert span.status.status_code is StatusCode.UNSET
    assert span.attributes["websocket.close_code"] == 1000
    assert "http.route" not in span.attributes


def test_a_handshake_that_is_refused_has_a_status_of_http():
    span = socket_span(403)
    assert span.attributes["http.response.status_code"] == 403
    assert "websocket.close_code" not in span.attributes


class RequestCancelledError(Exception):
    pass


@pytest.mark.parametrize(
    ("code", "error", "status"),
    [
        (200, ValueError("broken"), "ERROR"),
        (200, TimeoutError(), "ERROR"),
        (200, RequestCancelledError(), "UNSET"),
        (200, asyncio.CancelledError(), "UNSET"),
        (408, TimeoutError(), "UNSET"),
        (499, RequestCancelledError(), "UNSET"),
        (500, ValueError("broken"), "ERROR"),
    ],
)
def test_an_exception_of_the_proxy_is_an_error_where_no_status_says_whose_it_is(code, error, status):
    span = rewritten(serve_span("proxy_http_request A GET /", error=error, http__status_code=code, **PROXY))
    assert span.status.status_code.name == status


def test_an_exception_that_ray_has_wrapped_is_known():
    wrapped = type("RayTaskError(CancelledError)", (Exception,), {})
    span = rewritten(serve_span("proxy_http_request A GET /", error=wrapped(), http__status_code=200, **PROXY))
    assert span.status.status_code is StatusCode.UNSET
    failed = type("RayTaskError(ValueError)", (Exception,), {})
    span = rewritten(serve_span("proxy_http_request A GET /", error=failed("as asked"), http__status_code=200, **PROXY))
    assert (span.status.status_code, span.status.description) == (
        StatusCode.ERROR,
        f"{failed.__module__}.RayTaskError(ValueError): as asked",
    )


@pytest.mark.parametrize(
    ("code", "status"), [("NOT_FOUND", "UNSET"), ("RESOURCE_EXHAUSTED", "UNSET"), ("INTERNAL", "ERROR")]
)
def test_an_exception_behind_a_grpc_status_is_judged_by_the_status(code, status):
    span = rewritten(
        serve_span("proxy_grpc_request A /s/M", error=ValueError("x"), rpc__method="/s/M", rpc__grpc__status_code=code)
    )
    assert span.status.status_code.name == status


@pytest.mark.parametrize(("code", "status"), [("OK", "UNSET"), ("NOT_FOUND", "UNSET"), ("INTERNAL", "ERROR")])
def test_a_grpc_request_is_named_by_service_and_method(code, status):
    span = rewritten(
        serve_span(
            "proxy_grpc_request Plain /pkg.Service/Method",
            rpc__system="grpc",
            rpc__method="/pkg.Service/Method",
            rpc__grpc__status_code=code,
        )
    )
    assert span.name == "pkg.Service/Method"
    assert span.status.status_code.name == status
    assert span.attributes["rpc.service"] == "pkg.Service"
    assert span.attributes["rpc.method"] == "Method"
    assert span.attributes["rpc.response.status_code"] == code


def test_spans_of_others_are_left_alone():
    span = serve_span("GET /embed/{text}", scope="opentelemetry.instrumentation.fastapi", http__method="GET")
    assert rewritten(span) is span


def test_plain_takes_out_colours_only():
    assert plain("\x1b[1;31mred\x1b[0m [36m") == "red [36m"


# -- export ------------------------------------------------------------------------------------------------------------


def use(monkeypatch, port, **variables):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def retrying(**more):
    to = destination.destination()
    return export.RetryingExporter(export.otlp_exporter(to), to=to, patched=True, **more)


def provider_with(processor):
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    return provider


def test_spans_arrive_and_shutdown_flushes(monkeypatch):
    with OtlpServer() as server:
        use(monkeypatch, server.port, OTEL_BSP_SCHEDULE_DELAY="60000")
        provider = provider_with(export.processor(patched=True))
        provider.get_tracer(SERVE_SCOPE).start_span("route_to_replica Multi __call__").end()
        assert server.names == []
        provider.shutdown()
        assert server.names == ["route_to_replica Multi __call__"]
        assert server.spans[0].kind == 3  # CLIENT: what is sent is rewritten


@pytest.mark.parametrize(("spans", "sent"), [(export.BATCH_SIZE - 1, 0), (export.BATCH_SIZE, export.BATCH_SIZE)])
def test_a_full_batch_does_not_wait_for_its_time(monkeypatch, spans, sent):
    with OtlpServer() as server:
        use(monkeypatch, server.port, OTEL_BSP_SCHEDULE_DELAY="60000")
        provider = provider_with(export.processor(patched=True))
        for number in range(spans):
            provider.get_tracer("t").start_span(f"span {number}").end()
        deadline = time.monotonic() + (10 if sent else 0.5)
        while len(server.spans) < export.BATCH_SIZE and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(server.spans) == sent
        provider.shutdown()
        assert len(server.spans) == spans


def test_an_outage_loses_nothing_that_the_queue_holds(monkeypatch):
    port = free_port()
    use(monkeypatch, port, OTEL_BSP_SCHEDULE_DELAY="50", OTEL_BSP_MAX_EXPORT_BATCH_SIZE="4")
    exporter = retrying(pause_s=0.1)
    processor = export.Processor(exporter)
    tracer = provider_with(processor).get_tracer("t")
    for number in range(20):
        tracer.start_span(f"span {number}").end()
    time.sleep(0.5)  # the first batch is being tried, in vain
    with OtlpServer(port) as server:
        deadline = time.monotonic() + 20
        while len(server.spans) < 20 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert sorted(server.names) == sorted(f"span {number}" for number in range(20))
        processor.shutdown()


def test_a_batch_is_given_up_when_the_outage_is_too_long(monkeypatch):
    with OtlpServer() as server:
        server.status = 400
        use(monkeypatch, server.port)
        exporter = retrying(outage_s=0.3, pause_s=0.05)
        assert exporter.export([serve_span("route_to_replica A f")]) is SpanExportResult.FAILURE
        assert server.requests > 2
        server.status = 200
        assert exporter.export([serve_span("route_to_replica A f")]) is SpanExportResult.SUCCESS
        exporter.shutdown()


def test_the_queue_is_bounded_and_ending_a_span_never_waits(monkeypatch):
    with OtlpServer() as server:
        server.release.clear()  # accepts connections and does not answer
        use(monkeypatch, server.port, OTEL_BSP_MAX_QUEUE_SIZE="64", OTEL_BSP_MAX_EXPORT_BATCH_SIZE="16")
        processor = export.processor(patched=True)
        tracer = provider_with(processor).get_tracer("t")
        for number in range(5000):
            tracer.start_span(f"span {number}").end()
        assert len(processor._batches._batch_processor._queue) == 64
        started = time.monotonic()
        processor.shutdown()
        assert time.monotonic() - started < export.FLUSH_S + 1
        processor.shutdown()  # a second one does nothing


def test_shutdown_with_nobody_there_takes_five_seconds_at_most(monkeypatch):
    use(monkeypatch, free_port())
    provider = provider_with(export.processor(patched=True))
    provider.get_tracer("t").start_span("lost").end()
    started = time.monotonic()
    provider.shutdown()
    assert time.monotonic() - started < export.FLUSH_S + 1


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "carrier-pigeon", "'carrier-pigeon' is not one of grpc, http/protobuf"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317", "'collector:4317' has no scheme"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon", "an OTEL_* variable is wrong"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "-3", "an OTEL_* variable is wrong"),
    ],
)
def test_a_wrong_variable_is_one_line(monkeypatch, name, value, says):
    monkeypatch.setenv(name, value)
    with pytest.raises(ServescopeError, match="OTEL_") as error:
        export.processor(patched=True)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_package_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, export.EXPORTERS["grpc"], None)
    with pytest.raises(ServescopeError, match="OTLP over grpc needs a missing package"):
        export.otlp_exporter(destination.destination())


SECRET = "Bearer-s3cr3t"


@pytest.mark.parametrize("name", ["OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"])
@pytest.mark.parametrize(
    ("value", "entry"),
    [
        (f"Authorization: {SECRET}", 1),
        (f"a=b,{SECRET}", 2),
        (f'a=b,c="{SECRET}"', 2),
        (f"x y={SECRET}", 1),
        (f"a={SECRET}\n", None),  # the SDK strips it
        (f"authorization=Basic {SECRET}==,x-tenant=a/b%20c", None),
        ("", None),
        (" , ", None),
    ],
)
def test_a_header_that_the_sdk_cannot_read_is_one_line_without_its_value(monkeypatch, caplog, name, value, entry):
    monkeypatch.setenv(name, value)
    if entry is None:
        made = export.otlp_exporter(destination.destination())
        assert not [line for line in caplog.messages if "Header format invalid" in line]
        made.shutdown()
        return
    with pytest.raises(ServescopeError) as error:
        export.processor(patched=True)
    assert str(error.value).startswith(f"{name}: entry {entry} is not name=value")
    assert SECRET not in f"{error.value}{caplog.text}"


@pytest.mark.parametrize("name", ["OTEL_EXPORTER_OTLP_CERTIFICATE", "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY"])
def test_a_file_that_is_not_there_is_one_line_where_it_is_read(monkeypatch, tmp_path, name):
    monkeypatch.setenv(name, str(tmp_path / "ca.pem"))
    destination.destination()  # without TLS nobody reads it
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector:4317")
    with pytest.raises(ServescopeError, match=f"{name}: .*ca.pem: cannot read this file"):
        destination.destination()


def failing(monkeypatch, caplog, protocol, endpoint, **variables):
    """The lines of the log after three attempts in vain."""
    monkeypatch.setattr(export.log, "propagate", True)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.5")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    exporter = retrying(outage_s=0.0, pause_s=0.01)
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            assert exporter.export([serve_span("route_to_replica A f")]) is SpanExportResult.FAILURE
    return exporter, told_of(caplog, urlsplit(endpoint).port)


def told_of(caplog, port: int) -> list[str]:
    """The lines about a port, each once: whether Ray's loggers hand a record on to each other is not ours to say."""
    lines = [record.getMessage() for record in dict.fromkeys(caplog.records)]
    return [line for line in lines if str(port) in line]  # not of other tests


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (401, "the credentials are refused; check OTEL_EXPORTER_OTLP_HEADERS"),
        (404, "there is no such path; OTEL_EXPORTER_OTLP_ENDPOINT is without /v1/traces"),
        (400, "the spans are refused"),
    ],
)
def test_what_refuses_the_spans_is_one_hint_and_its_end_another(monkeypatch, caplog, status, says):
    with OtlpServer() as server:
        server.status = status
        url = f"http://user:{SECRET}@127.0.0.1:{server.port}"
        exporter, lines = failing(monkeypatch, caplog, "http/protobuf", url)
        (line,) = lines
        assert says in line
        assert f"to http://127.0.0.1:{server.port} by http/protobuf" in line
        server.status = 200
        with caplog.at_level(logging.INFO):
            assert exporter.export([serve_span("route_to_replica A f")]) is SpanExportResult.SUCCESS
        assert told_of(caplog, server.port)[1:] == [
            f"servescope: spans are sent again to http://127.0.0.1:{server.port}; lost meanwhile: 3"
        ]
        assert SECRET not in caplog.text


def test_nobody_there_tls_where_there_is_none_and_the_port_of_the_other_protocol(monkeypatch, caplog):
    port = free_port()
    for protocol in destination.PROTOCOLS:
        caplog.clear()
        _, (line,) = failing(monkeypatch, caplog, protocol, f"http://127.0.0.1:{port}")
        assert "it cannot be reached; is a Collector running there?" in line
    with OtlpServer() as server:
        for protocol in destination.PROTOCOLS:
            caplog.clear()
            url = f"https://127.0.0.1:{server.port}"
            # The SDK names the reason where there is time for a second attempt.
            _, (line,) = failing(monkeypatch, caplog, protocol, url, OTEL_EXPORTER_OTLP_TIMEOUT="2")
            assert "no TLS connection; check https:// or http://" in line
    wrong = destination.Destination("grpc", "http://127.0.0.1:4318")
    assert "4318 is the port of http/protobuf: set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf" in wrong.why(
        "UNAVAILABLE"
    )
    wrong = destination.Destination("http/protobuf", "http://127.0.0.1:4317/v1")
    assert "4317 is the port of grpc" in wrong.why("code: None, reason: aborted")


def test_the_pauses_grow_to_ten_seconds(monkeypatch):
    pauses = []
    exporter = export.RetryingExporter(
        types.SimpleNamespace(export=lambda batch: SpanExportResult.FAILURE),
        to=destination.Destination("grpc", "http://c"),
        patched=True,
    )
    monkeypatch.setattr(exporter, "_ending", types.SimpleNamespace(is_set=lambda: len(pauses) == 6, wait=pauses.append))
    exporter.export([])
    assert pauses == [2, 4, 8, 10, 10, 10]


# -- a process that was instrumented before ----------------------------------------------------------------------------

INJECTED = """
import json, logging, os, sys
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from servescope.tracing import export, takeover
theirs = InMemorySpanExporter()
first = TracerProvider(resource=Resource({"service.name": "pod"}), shutdown_on_exit=False)
first.add_span_processor(SimpleSpanProcessor(theirs))
assert not takeover.is_instrumented()
trace.set_tracer_provider(first)
assert takeover.is_instrumented()
early = trace.get_tracer("early")
sent = []

class Ours:
    def export(self, batch):
        sent.extend((span.name, span.resource.attributes["service.name"]) for span in batch)
        return export.SpanExportResult.SUCCESS
    def shutdown(self):
        pass

os.environ["OTEL_SERVICE_NAME"] = "auto.Auto"
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
export.otlp_exporter = lambda to: Ours()
processor = export.processor(patched=True, everything=True)
takeover.take_over(processor)
mine = TracerProvider(shutdown_on_exit=False)
trace.set_tracer_provider(mine)  # as Serve does
trace.get_tracer_provider().add_span_processor(processor)
early.start_span("of a library").end()
trace.get_tracer("late").start_span("of Serve").end()
processor.shutdown()
ours = trace.get_tracer_provider() is mine
print(json.dumps({"theirs": len(theirs.get_finished_spans()), "sent": sent, "ours": ours}))
"""


def test_the_spans_of_a_process_that_was_instrumented_before_go_out_once_under_our_names():
    done = subprocess.run([sys.executable, "-c", INJECTED], capture_output=True, text=True, check=False)
    *said, result = done.stdout.splitlines()
    assert json.loads(result) == {
        "theirs": 0,
        "sent": [["of a library", "auto.Auto"], ["of Serve", "auto.Auto"]],
        "ours": True,
    }
    assert said == [
        "servescope: this process was instrumented before (opentelemetry.sdk.trace.TracerProvider); its spans are now "
        "sent once, as Serve's service"
    ]
    assert done.stderr == ""


OF_ANOTHER_TRACER = """
from opentelemetry import trace
class Provider(trace.NoOpTracerProvider):
    pass
trace.set_tracer_provider(Provider())
from servescope.tracing import takeover
try:
    takeover.take_over(None)
except Exception as error:
    print(type(error).__name__, error)
"""


def test_beside_another_tracer_tracing_is_off_in_one_line():
    done = subprocess.run([sys.executable, "-c", OF_ANOTHER_TRACER], capture_output=True, text=True, check=True)
    assert done.stdout == (
        "ServescopeError another tracer is set up in this process: __main__.Provider; use that one or this one\n"
    )


# -- logs --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def correlated():
    original = logging.Logger.makeRecord
    logs.add_trace_ids()
    logs.add_trace_ids()  # twice is once
    yield
    logging.Logger.makeRecord = original


@pytest.fixture
def serve_context():
    from ray.serve import context

    tokens = [
        (context._serve_request_context, context._serve_request_context.set(None)),
        (context._serve_batch_request_context, context._serve_batch_request_context.set(None)),
    ]
    yield context
    for variable, token in tokens:
        variable.reset(token)


def record_of(**extra):
    records = []
    logger = logging.Logger("of.the.user")
    logger.addHandler(type("Keep", (logging.Handler,), {"emit": lambda self, record: records.append(record)})())
    logger.info("hello", extra=extra or None)
    return records[0]


def test_a_record_carries_trace_span_and_request(correlated, serve_context):
    serve_context._serve_request_context.set(serve_context._RequestContext(request_id="r1"))
    with TracerProvider().get_tracer("t").start_as_current_span("s") as span:
        record = record_of()
    assert record.trace_id == trace.format_trace_id(span.get_span_context().trace_id)
    assert record.span_id == trace.format_span_id(span.get_span_context().span_id)
    assert record.request_id == "r1"


def test_what_the_application_says_itself_stays(correlated, serve_context):
    serve_context._serve_request_context.set(serve_context._RequestContext(request_id="r1"))
    record = record_of(request_id="mine", trace_id="also mine")
    assert (record.request_id, record.trace_id) == ("mine", "also mine")


def test_outside_of_everything_nothing_is_added(correlated, serve_context):
    record = record_of()
    assert not {"trace_id", "span_id", "request_id", "request_ids"} & set(vars(record))


def test_inside_a_batch_a_record_carries_all_request_ids(correlated, serve_context):
    batch_of = [serve_context._RequestContext(request_id=f"r{n}") for n in range(3)]
    serve_context._serve_batch_request_context.set(batch_of)
    record = record_of()
    assert record.request_ids == ["r0", "r1", "r2"]
    assert "request_id" not in vars(record)


# -- batches -----------------------------------------------------------------------------------------------------------

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def request_with(context, number, flags):
    carrier = {"traceparent": f"00-{TRACE}-{number:016x}-{flags}"}
    return context._RequestContext(request_id=f"r{number}", _ray_trace_ctx=carrier)


def test_a_batch_span_links_to_every_recorded_request(serve_context):
    # The sampled flag is bit 0: 03 is sampled too.
    batch_of = [request_with(serve_context, n, flags) for n, flags in ((1, "01"), (2, "03"), (3, "00"))]
    serve_context._serve_batch_request_context.set([*batch_of, serve_context._RequestContext(request_id="r4")])
    found = batch.links(batch.batch_requests())
    assert [(f"{link.context.trace_id:032x}", link.context.span_id) for link in found] == [(TRACE, 1), (TRACE, 2)]
    assert [link.attributes["request_id"] for link in found] == ["r1", "r2"]
    assert batch.request_ids(batch.batch_requests()) == ["r1", "r2", "r3", "r4"]


def test_outside_a_batch_there_is_nothing_to_link(serve_context):
    assert list(batch.batch_requests()) == []
    with batch.trace_batch("work"):
        pass
    assert serve_context._serve_batch_request_context.get() is None  # looking did not make one


def test_a_ray_that_does_not_expose_the_requests_of_a_batch(monkeypatch):
    from ray.serve import context

    monkeypatch.delattr(context, "_serve_batch_request_context")
    assert list(batch.batch_requests()) == []
    memory = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    with batch.trace_batch("work"):
        pass
    (span,) = memory.get_finished_spans()
    assert (span.name, dict(span.attributes), list(span.links)) == ("work", {}, [])


# -- FastAPI -----------------------------------------------------------------------------------------------------------


def test_an_instrumented_application_can_be_shipped_and_has_one_span_for_a_request(monkeypatch):
    """Serve pickles the ingress' application; what is instrumented is what comes out at the other end."""
    from fastapi import FastAPI
    from fastapi.responses import StreamingResponse
    from fastapi.testclient import TestClient
    from ray import cloudpickle
    from ray.serve.api import ensure_serialization_context

    web = tracing.instrument_fastapi(FastAPI())

    @web.get("/stream/{text}")
    async def stream(text: str):
        return StreamingResponse(iter(text))

    @web.get("/fail")
    async def fail():
        raise ValueError("as asked")

    @web.get("/healthz")
    async def healthz():
        return "ok"

    ensure_serialization_context()
    shipped = cloudpickle.loads(cloudpickle.dumps(web))
    memory = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "http")
    client = TestClient(shipped, raise_server_exceptions=False)
    answers = [client.get(path).status_code for path in ("/stream/abc", "/fail", "/healthz")]
    assert answers == [200, 500, 200]
    spans = memory.get_finished_spans()
    assert [(span.name, span.status.status_code.name) for span in spans] == [
        ("GET /stream/{text}", "UNSET"),
        ("GET /fail", "ERROR"),
    ]
    assert spans[0].attributes["http.route"] == "/stream/{text}"


# -- the patches -------------------------------------------------------------------------------------------------------


def test_the_ray_that_is_installed_is_the_one_that_is_known():
    from ray.serve._private import tracing_utils

    assert ray_patches.differences(tracing_utils) == []


def test_another_ray_is_left_alone():
    class Other:
        TRACE_STACK = None

        class TraceContextManager:
            def __init__(self, trace_name):
                pass

        @staticmethod
        def _append_trace_stack(span, more):
            pass

    assert {"_append_trace_stack", "_pop_trace_stack", "TraceContextManager"} <= set(ray_patches.differences(Other))
    assert "TRACE_STACK" not in ray_patches.differences(Other)


def unknown_ray(monkeypatch, **names):
    """Serve's tracing module as another Ray may have it; returns it after the attempt to patch it."""
    module = types.ModuleType("tracing_utils")
    vars(module).update(names)
    monkeypatch.setattr("ray.serve._private.tracing_utils", module)
    assert ray_patches.patch_serve() is False
    return module


def test_on_an_unknown_ray_everything_is_sampled_where_nobody_has_decided(monkeypatch):
    monkeypatch.delenv(ray_patches.RATIO_VARIABLE, raising=False)
    module = unknown_ray(monkeypatch, ParentBasedTraceIdRatio=ParentBasedTraceIdRatio)
    tracer = TracerProvider(sampler=module.ParentBasedTraceIdRatio(0.0)).get_tracer("t")
    assert tracer.start_span("of nobody").is_recording()
    unsampled = trace.NonRecordingSpan(trace.SpanContext(1, 2, True, trace.TraceFlags(0)))
    assert not tracer.start_span("of a client", context=trace.set_span_in_context(unsampled)).is_recording()
    assert set(vars(module)) - set(vars(types.ModuleType("t"))) == {"ParentBasedTraceIdRatio"}


def test_on_an_unknown_ray_a_ratio_of_the_user_stays(monkeypatch):
    monkeypatch.setenv(ray_patches.RATIO_VARIABLE, "0.01")
    module = unknown_ray(monkeypatch, ParentBasedTraceIdRatio=ParentBasedTraceIdRatio)
    assert module.ParentBasedTraceIdRatio is ParentBasedTraceIdRatio


def test_a_ray_that_samples_differently_is_logged(monkeypatch, caplog):
    monkeypatch.delenv(ray_patches.RATIO_VARIABLE, raising=False)
    monkeypatch.setattr(ray_patches.log, "propagate", True)
    unknown_ray(monkeypatch)
    assert "set RAY_SERVE_TRACING_SAMPLING_RATIO=1" in caplog.text


PATCHED = """
import asyncio, json, os
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from ray.serve._private import tracing_utils as t
if os.environ["PATCH"] == "1":
    from servescope.tracing import ray_patches
    assert ray_patches.patch_serve()
memory = InMemorySpanExporter()
provider = TracerProvider(sampler=t.ParentBasedTraceIdRatio(0.0 if os.environ.get("RATIO") == "0" else 1.0))
provider.add_span_processor(SimpleSpanProcessor(memory))
trace.set_tracer_provider(provider)
t._tracing_enabled = True

async def call(name, wait):
    with t.TraceContextManager(f"route_to_replica {name}"):
        await asyncio.sleep(wait)
        t.set_span_attributes({"of": name})
        recording = t.is_span_recording()
        sent = t.create_propagated_context()
    return sent

async def main():
    with t.TraceContextManager("replica_handle_request Gateway"):
        return await asyncio.gather(call("A", 0.01), call("B", 0.02), call("C", 0.03))

sent = asyncio.run(main())
with t.TraceContextManager("proxy_http_request Gateway"):
    described = t.is_span_recording()
    with t.TraceContextManager("route_to_replica Gateway"):
        sent.append(t.create_propagated_context() if t.is_span_recording() else None)
    described = [described, t.is_span_recording()]
try:
    with t.TraceContextManager("route_to_replica Full"):
        raise RuntimeError("\\x1b[31mfull\\x1b[0m")
except RuntimeError:
    pass
print(json.dumps({
    "of": {s.name: (s.attributes or {}).get("of") for s in memory.get_finished_spans()},
    "status": {s.name: [s.status.status_code.name, s.status.description] for s in memory.get_finished_spans()},
    "kind": {s.name: s.kind.name for s in memory.get_finished_spans()},
    # The sampled flag is bit 0 of the last two digits.
    "described": [*described, t.is_span_recording()],
    "sent": [int(s["traceparent"][-2:], 16) & 1 if s else None for s in sent],
}))
"""


def run_patched(patched, ratio="1"):
    environment = {**os.environ, "PATCH": "1" if patched else "0", "RATIO": ratio}
    environment["RAY_SERVE_TRACING_SAMPLING_RATIO"] = ratio
    done = subprocess.run(
        [sys.executable, "-c", PATCHED], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_concurrent_calls_keep_their_own_attributes_and_failures_are_recorded():
    found = run_patched(patched=True)
    own = {f"route_to_replica {name}": name for name in "ABC"}
    assert {name: of for name, of in found["of"].items() if name in own} == own
    assert found["status"]["route_to_replica Full"] == ["ERROR", "RuntimeError: full"]
    assert found["kind"]["route_to_replica A"] == "CLIENT"
    assert found["kind"]["replica_handle_request Gateway"] == "SERVER"


def test_without_the_patch_they_do_not():
    """The defect is still there; when this fails, Ray has fixed it (docs/ray-issues)."""
    found = run_patched(patched=False)
    assert found["of"]["route_to_replica A"] is None
    assert found["of"]["route_to_replica C"] == "A"
    assert found["status"]["route_to_replica Full"] == ["UNSET", None]
    assert found["kind"]["route_to_replica A"] == "SERVER"


def test_a_decision_not_to_sample_is_passed_on_only_with_the_patch():
    assert run_patched(patched=True, ratio="0")["sent"] == [0, 0, 0, 0]
    assert run_patched(patched=False, ratio="0")["sent"] == [None, None, None, None]


def test_a_proxy_describes_only_what_is_sampled():
    """Before, after the router's span, and outside: Serve builds attributes where this is true."""
    assert run_patched(patched=True)["described"] == [True, True, False]
    assert run_patched(patched=True, ratio="0")["described"] == [False, False, False]


SOCKET_ROUTE = """
import os
from ray.serve._private import tracing_utils as t
from ray.serve._private.proxy_router import ProxyRouter
from ray.serve._private.thirdparty.get_asgi_route_name import RoutePattern
from servescope.tracing import ray_patches
assert ray_patches.patch_serve()
router = ProxyRouter.__new__(ProxyRouter)
socket, get = RoutePattern(methods=None, path="/ws/{room}"), RoutePattern(methods=["GET"], path="/a/{b}")
router.route_patterns = {"/chat": [socket, get]}
router._route_pattern_apps = {}
for kind, path in (("websocket", "/chat/ws/7"), ("http", "/chat/a/7"), ("websocket", "/chat/none")):
    scope = {"type": kind, "path": path, "root_path": "/chat", "method": "GET"}
    print(router.match_route_pattern("/chat", scope), ray_patches._socket_route.get() or "-")
"""


def test_the_route_of_a_socket_is_found_for_its_span_and_not_for_serves_metrics():
    done = subprocess.run([sys.executable, "-c", SOCKET_ROUTE], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-3:] == ["/chat /chat/ws/{room}", "/chat/a/{b} -", "/chat /chat"]


STATE = """
import os
from opentelemetry import trace
from ray.serve._private import tracing_utils as t
from ray.serve._private.proxy_request_response import ASGIProxyRequest
if os.environ["PATCH"] == "1":
    from servescope.tracing import ray_patches
    assert ray_patches.patch_serve()
t._tracing_enabled = True
parent = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
headers = [(b"tracestate", b"vendor=blue"), (b"traceparent", parent), (b"tracestate", b"other=red")]
ASGIProxyRequest({"type": "http", "headers": headers}, None, None).populate_tracing_context()
context = trace.get_current_span().get_span_context()
print(f"{context.trace_id:032x}", context.trace_state.to_header())
"""


@pytest.mark.parametrize(("patched", "state"), [("1", "vendor=blue,other=red"), ("0", "")])
def test_the_proxy_takes_the_state_of_a_trace_only_with_the_patch(patched, state):
    """When the second case fails, Ray has fixed docs/ray-issues/tracestate-dropped.md."""
    done = subprocess.run(
        [sys.executable, "-c", STATE], env={**os.environ, "PATCH": patched}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[-2] == f"4bf92f3577b34da6a3ce929d0e0e4736 {state}"


OTHER_FORMAT = """
from opentelemetry import trace
from ray.serve._private import tracing_utils as t
from ray.serve._private.proxy_request_response import ASGIProxyRequest
from servescope.tracing import ray_patches
assert ray_patches.patch_serve()
t._tracing_enabled = True
headers = [(b"x-hop", b"7b:1c8"), (b"baggage", b"a=b")]
ASGIProxyRequest({"type": "http", "headers": headers}, None, None).populate_tracing_context()
print(trace.get_current_span().get_span_context().trace_id)
"""
HOP = """
from opentelemetry import trace
from opentelemetry.propagators.textmap import TextMapPropagator

class Hop(TextMapPropagator):
    fields = {"x-hop"}

    def extract(self, carrier, context=None, getter=None):
        trace_id, span_id = (int(part, 16) for part in carrier["x-hop"].split(":"))
        parent = trace.SpanContext(trace_id, span_id, True, trace.TraceFlags(1))
        return trace.set_span_in_context(trace.NonRecordingSpan(parent), context)

    def inject(self, carrier, context=None, setter=None):
        pass
"""


@pytest.mark.parametrize(("named", "found"), [("hop", "123"), ("", "0"), ("baggage,tracecontext", "0")])
def test_the_proxy_reads_the_formats_of_otel_propagators(tmp_path, named, found):
    """A propagator as its package registers it."""
    (tmp_path / "hop.py").write_text(HOP)
    (tmp_path / "hop-1.dist-info").mkdir()
    (tmp_path / "hop-1.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: hop\nVersion: 1\n")
    (tmp_path / "hop-1.dist-info/entry_points.txt").write_text("[opentelemetry_propagator]\nhop = hop:Hop\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "OTEL_PROPAGATORS": named}
    done = subprocess.run(
        [sys.executable, "-c", OTHER_FORMAT], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[-2] == found
    assert "OTEL_PROPAGATORS: " not in done.stderr


def test_a_propagator_that_nobody_has_is_one_line():
    """Asked without Serve, whose FastAPI does not import with such a name."""
    code = "from servescope.tracing import ray_patches; print(ray_patches.other_propagators())"
    environment = {**os.environ, "OTEL_PROPAGATORS": "b4"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"
    assert re.findall("OTEL_PROPAGATORS: .*b4.*", done.stderr), done.stderr


# -- the extra ---------------------------------------------------------------------------------------------------------


def closure(name, extras=()):
    """The installed distributions that `name[extras]` needs, itself among them."""
    found, waiting = {}, [(name, extras)]
    while waiting:
        name, extras = waiting.pop()
        distribution = importlib.metadata.distribution(name)
        new = distribution.metadata["Name"] not in found
        found[distribution.metadata["Name"]] = distribution
        for text in distribution.requires or () if new or extras else ():
            requirement = Requirement(text)
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in (*extras, "")):
                try:
                    importlib.metadata.distribution(requirement.name)
                except importlib.metadata.PackageNotFoundError:
                    continue
                if requirement.name not in found:
                    waiting.append((requirement.name, tuple(requirement.extras)))
    return found


def test_it_runs_with_the_tracing_extra_alone(tmp_path):
    """An environment with what the extra asks for, copied from this one, and nothing else: no Ray, no FastAPI."""
    environment = tmp_path / "venv"
    venv.create(environment, with_pip=False)
    (site,) = environment.glob("lib/python*/site-packages")
    needed = closure("servescope", ("tracing",))
    assert "opentelemetry-exporter-otlp-proto-grpc" in needed
    assert not {"ray", "fastapi", "typer", "httpx", "pyyaml"} & set(needed)
    for name, distribution in needed.items():
        for file in distribution.files or () if name != "servescope" else ():
            source = Path(distribution.locate_file(file))
            if source.is_file() and ".." not in file.parts and source.suffix != ".pyc":
                target = site / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)
    shutil.copytree(ROOT / "src/servescope", site / "servescope")
    code = """
import sys
import servescope.tracing as tracing
assert "ray" not in sys.modules
assert tracing.otlp() == [], "without Ray tracing is off"
with tracing.trace_batch("b"):
    pass
from servescope.tracing import export
export.processor(patched=False).shutdown()
print("fine")
"""
    done = subprocess.run(
        [environment / "bin/python", "-I", "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout == "fine\n", done.stderr
    assert "tracing is off" in done.stderr
    assert "Traceback" not in done.stderr
