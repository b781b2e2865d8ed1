"""Spans of sockets, of broken streams, and of processes that were instrumented before, of a Serve of their own."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import grpc
import httpx
import pytest
import yaml
from opentelemetry.instrumentation import auto_instrumentation
from ray.serve.generated.serve_pb2 import UserDefinedMessage
from ray.serve.generated.serve_pb2_grpc import UserDefinedServiceStub

from demo import ROOT
from demo.stack import component
from demo.stack.components.applications import applications
from demo.stack.components.ray import ray
from demo.stack.ports import LOOPBACK, Ports
from demo.stack.run import Run
from demo.stack.supervisor import Stack
from servescope.clients.model import Trace
from tests.live.collector import Collector
from tests.live.versions import ray_folder
from tests.support.waiting import wait_for

pytestmark = pytest.mark.skipif(
    component.find("otelcol") is None, reason="no Collector: make tools builds it where Go 1.21 is installed"
)

CONFIG = Path(__file__).parent / "spans_config.yaml"
PORTS = Ports.from_base(24000)
GRPC_PORT = 24090
SLOW_MS = 1500


class Serve:
    """A running Serve, and the Collector that takes its spans."""

    def __init__(self, run: Run, collector: Collector) -> None:
        self.run = run
        self.collector = collector

    def trace(self, trace_id: str, spans: int) -> Trace:
        """The trace when it has that many spans."""

        def there() -> bool:
            found = self.collector.traces().get(trace_id)
            return found is not None and len(found.spans) >= spans

        wait_for(there, 40, lambda: f"{trace_id}: {self.collector.traces().get(trace_id)}", pause_s=0.5)
        return self.collector.traces()[trace_id]


def parent() -> tuple[str, dict[str, str]]:
    """A new trace id, and the header that names it."""
    trace_id = os.urandom(16).hex()
    return trace_id, {"traceparent": f"00-{trace_id}-{os.urandom(8).hex()}-01"}


@contextmanager
def serve(directory: Path, applications_wanted: set[str], env: dict[str, str]) -> Iterator[Serve]:
    document = yaml.safe_load(CONFIG.read_text())
    document["applications"] = [one for one in document["applications"] if one["name"] in applications_wanted]
    document["grpc_options"]["port"] = GRPC_PORT
    config = directory / "spans.yaml"
    config.write_text(yaml.safe_dump(document))
    run = Run(
        directory=directory,
        ports=PORTS,
        serve_config=config,
        cluster="spans",
        ray=ray_folder(),
        traces=True,
        env={"RAY_worker_niceness": "0", **env},
    )
    settings = {"SAMPLE_PERCENT": "0", "SLOW_MS": str(SLOW_MS)} if not env else {}
    with (
        Collector(directory / "collector", PORTS.otlp_grpc, settings) as collector,
        Stack(run, [ray, applications], print),
    ):
        yield Serve(run, collector)


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Sockets and streams; the Collector keeps what failed or is slow, and nothing else."""
    with serve(tmp_path_factory.mktemp("ours"), {"sessions", "rpc"}, {}) as started:
        yield started


def session(url: str, code: int, *, stay_s: float = 0.0) -> tuple[str, int]:
    """A WebSocket session that the server ends with a code; returns the trace id and the code that the client saw."""
    trace_id, headers = parent()

    async def talk() -> int:
        async with (
            aiohttp.ClientSession() as client,
            client.ws_connect(f"{url}/sessions/session/{code}", headers=headers) as socket,
        ):
            await asyncio.sleep(stay_s)
            if code:
                await socket.send_str("end")
            while not (await socket.receive()).type.name.startswith("CLOS"):
                pass
            return socket.close_code or 0

    return trace_id, asyncio.run(talk())


def test_a_session_that_ends_well_is_no_error_and_a_long_one_is_not_slow(ours: Serve):
    good, seen = session(ours.run.serve_url, 1000, stay_s=SLOW_MS / 1000 + 1)
    failed, failed_seen = session(ours.run.serve_url, 1011)
    assert (seen, failed_seen) == (1000, 1011)
    trace = ours.trace(failed, 4)
    root = trace.roots[0]
    assert (root.service, root.name, root.status) == ("serve-proxy", "WS /sessions/session/{code}", "error")
    assert root.attributes["http.route"] == "/sessions/session/{code}"
    assert root.attributes["websocket.close_code"] == 1011
    assert "http.response.status_code" not in root.attributes
    calls = ours.collector.scrape
    line = 'span_name="WS /sessions/session/{code}"'
    wait_for(
        lambda: (
            sum(line in text and "_calls_total" in text and text.endswith(" 1.0") for text in calls().split("\n")) == 2
        ),
        30,
        lambda: "\n".join(text for text in calls().split("\n") if line in text and "_calls" in text),
        pause_s=0.5,
    )
    counted = [text for text in calls().split("\n") if line in text and "_calls_total" in text]
    assert {"STATUS_CODE_UNSET", "STATUS_CODE_ERROR"} == {
        text.partition('status_code="')[2].split('"')[0] for text in counted
    }
    # The failed one was later, and has arrived: the good one was not kept, although it was long.
    assert good not in ours.collector.traces()


def test_a_session_whose_handler_fails_is_an_error(ours: Serve):
    trace_id, _ = session(ours.run.serve_url, 0)
    root = ours.trace(trace_id, 4).roots[0]
    assert root.status == "error"


def broken_stream(ours: Serve, headers: dict[str, str]) -> int:
    """The status of a response that breaks after its first byte."""
    url = f"{ours.run.serve_url}/sessions/stream/breaks"
    with httpx.stream("GET", url, headers=headers, timeout=30) as response:
        with pytest.raises(httpx.RemoteProtocolError):
            response.read()
        return response.status_code


def test_a_response_that_breaks_after_its_first_byte_is_an_error_of_proxy_and_replica(ours: Serve):
    trace_id, headers = parent()
    assert broken_stream(ours, headers) == 200
    trace = ours.trace(trace_id, 4)
    root = trace.roots[0]
    assert (root.status, root.attributes["http.response.status_code"]) == ("error", 200)
    assert "ValueError" in root.attributes["error.type"]
    status = {span.name: span.status for span in trace.spans if span.service != "serve-proxy"}
    assert status["replica_handle_request chat/talk v1.5 __call__"] == "error"


def test_a_client_that_leaves_a_stream_is_no_error(ours: Serve):
    left, headers = parent()
    with httpx.stream("GET", f"{ours.run.serve_url}/sessions/stream/endless", headers=headers, timeout=30) as response:
        next(response.iter_raw())
    trace_id, headers = parent()
    broken_stream(ours, headers)
    ours.trace(trace_id, 4)  # sent later, and arrived
    assert left not in ours.collector.traces()  # neither failed nor slow, so not kept


def test_a_grpc_stream_that_breaks_after_its_first_message_is_an_error(ours: Serve):
    def call(name: str) -> tuple[str, str]:
        trace_id, headers = parent()
        metadata = (("application", "rpc"), *headers.items())
        with grpc.insecure_channel(f"{LOOPBACK}:{GRPC_PORT}") as channel:
            answers = UserDefinedServiceStub(channel).Streaming(UserDefinedMessage(name=name), metadata=metadata)
            assert next(answers).greeting == "first"
            try:
                return trace_id, next(answers).greeting
            except grpc.RpcError as error:
                return trace_id, error.code().name

    good, said = call("ends")
    failed, code = call("breaks")
    assert (said, code) == ("last", "INTERNAL")
    trace = ours.trace(failed, 3)
    root = trace.roots[0]
    assert (root.name, root.status) == ("ray.serve.UserDefinedService/Streaming", "error")
    assert root.attributes["rpc.response.status_code"] == "INTERNAL"
    assert {span.status for span in trace.spans if span.name.startswith("replica_handle")} == {"error"}
    assert good not in ours.collector.traces()


@pytest.fixture(scope="module")
def injected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """A Serve whose every process, proxies too, loads OpenTelemetry's own sitecustomize, as the operator injects it.

    The operator's image has opentelemetry-distro, whose configurator is the SDK's; here the SDK's is registered alone.
    """
    directory = tmp_path_factory.mktemp("injected")
    distribution = directory / "site/distro_stand_in-1.dist-info"
    distribution.mkdir(parents=True)
    (distribution / "METADATA").write_text("Metadata-Version: 2.1\nName: distro-stand-in\nVersion: 1\n")
    (distribution / "entry_points.txt").write_text(
        "[opentelemetry_configurator]\nsdk = opentelemetry.sdk._configuration:_OTelSDKConfigurator\n"
    )
    places = [str(Path(auto_instrumentation.__file__).parent), str(distribution.parent), str(ROOT), str(ROOT / "src")]
    variables = {
        "PYTHONPATH": os.pathsep.join(places),
        "OTEL_SERVICE_NAME": "raycluster-worker",
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
    }
    with serve(directory, {"sessions", "injected"}, variables) as started:
        yield started


def test_injected_proxies_and_replicas_send_each_span_once_under_serves_names(injected: Serve):
    trace_id, headers = parent()
    assert httpx.get(f"{injected.run.serve_url}/injected/", headers=headers, timeout=30).text == "plain"
    streamed, headers = parent()
    assert httpx.get(f"{injected.run.serve_url}/sessions/stream/ends", headers=headers, timeout=30).status_code == 200
    trace = injected.trace(trace_id, 3)
    names = {"serve-proxy", "injected.Plain"}
    assert {span.service for span in trace.spans} == names
    assert {span.resource.get("serve.deployment") for span in trace.spans} == {None, "Plain"}
    of_fastapi = injected.trace(streamed, 4)
    assert {span.service for span in of_fastapi.spans} == {"serve-proxy", "sessions.chat/talk v1.5"}
    # Nobody else delivers them too: of each there is one line in the Collector's file.
    written = [line for file in injected.collector.data.glob("traces*.json") for line in file.read_text().splitlines()]
    ids = re.findall(r'"spanId":"(\w+)"', "".join(line for line in written if trace_id in line or streamed in line))
    assert len(ids) == len(set(ids)) == len(trace.spans) + len(of_fastapi.spans)
    assert "raycluster-worker" not in "".join(line for line in written if "ray.serve" in line)
    said = [
        (file.name, line)
        for file in (injected.run.temp_dir / "session_latest/logs/serve").glob("*.log")
        for line in file.read_text().splitlines()
        if "was instrumented before" in line
    ]
    assert {name.split("_")[0] for name, _ in said} == {"proxy", "replica"}
    assert len(said) == 3  # one in the proxy and one in each replica
    everything = "".join(
        file.read_text(errors="replace") for file in (injected.run.temp_dir / "session_latest/logs").glob("worker-*")
    )
    assert "Overriding of current TracerProvider" not in everything
