"""The real Collector with the configuration that ships, on ports of its own, fed over OTLP."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import httpx
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as service_grpc
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from demo import ROOT
from demo.stack import component
from demo.stack.ports import LOOPBACK, Ports
from servescope.clients import otlp_files
from servescope.clients.model import Trace
from servescope.errors import ServescopeError
from tests.support.waiting import wait_for


@dataclass
class Collector:
    """One Collector; `env` overrides what the configuration takes from the environment."""

    data: Path
    base: int
    env: dict[str, str] = field(default_factory=dict)
    config: Path = ROOT / "otel/collector.yaml"
    _process: subprocess.Popen[bytes] | None = None

    @property
    def ports(self) -> Ports:
        return Ports(
            **{
                name: self.base + i
                for i, name in enumerate(
                    ("otlp_grpc", "otlp_http", "span_metrics", "collector_metrics", "collector_health")
                )
            }
        )

    @property
    def otlp(self) -> str:
        return f"http://{LOOPBACK}:{self.ports.otlp_grpc}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> Collector:
        p = self.ports
        self.data.mkdir(parents=True, exist_ok=True)
        environment = {
            **os.environ,
            "COLLECTOR_DATA": str(self.data),
            "COLLECTOR_HEALTH_ENDPOINT": f"{LOOPBACK}:{p.collector_health}",
            "COLLECTOR_METRICS_PORT": str(p.collector_metrics),
            "DECISION_WAIT": "2s",
            "OTLP_GRPC_ENDPOINT": f"{LOOPBACK}:{p.otlp_grpc}",
            "OTLP_HTTP_ENDPOINT": f"{LOOPBACK}:{p.otlp_http}",
            "SAMPLE_PERCENT": "100",
            "SPAN_METRICS_FLUSH": "3s",
            "SPAN_METRICS_ENDPOINT": f"{LOOPBACK}:{p.span_metrics}",
            "TRACES_TO": "[file/traces]",
            **self.env,
        }
        program = component.find("otelcol")
        assert program is not None
        with (self.data.parent / f"{self.data.name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*component.YIELDING, program, f"--config={self.config}"], env=environment, stdout=log, stderr=log
            )
        wait_for(self._ready, 60, lambda: f"the Collector is not up: {self.log()[-500:]}", pause_s=0.2)
        return self

    def _ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log()[-2000:]
        return component.answers(f"http://{LOOPBACK}:{self.ports.collector_health}")

    def log(self) -> str:
        return (self.data.parent / f"{self.data.name}.log").read_text()

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(30)
            self._process = None

    def traces(self) -> dict[str, Trace]:
        """What it has written so far."""
        try:
            return otlp_files.read_traces(self.data)
        except ServescopeError:
            return {}

    def scrape(self) -> str:
        """The span metrics in OpenMetrics, as Prometheus gets them."""
        headers = {"Accept": "application/openmetrics-text"}
        return httpx.get(f"http://{LOOPBACK}:{self.ports.span_metrics}/metrics", headers=headers).text

    def own(self) -> str:
        """Its own metrics."""
        return httpx.get(f"http://{LOOPBACK}:{self.ports.collector_metrics}/metrics").text

    def __enter__(self) -> Collector:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


@contextmanager
def provider(address: str, service_name: str, **attributes: str) -> Iterator[TracerProvider]:
    """A tracer provider of one process that sends everything before it ends."""
    resource = Resource.create(
        {"service.name": service_name, **{key.replace("_", "."): value for key, value in attributes.items()}}
    )
    found = TracerProvider(resource=resource, shutdown_on_exit=False)
    found.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(address, insecure=True), max_queue_size=100_000))
    yield found
    found.shutdown()


class Backend(service_grpc.TraceServiceServicer):
    """A fake Tempo: takes spans over OTLP, can be stopped and come back on its port."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.span_ids: list[bytes] = []
        self._lock = threading.Lock()
        self._server: grpc.Server | None = None

    def Export(self, request, context):
        with self._lock:
            self.span_ids += [s.span_id for r in request.resource_spans for g in r.scope_spans for s in g.spans]
        return service.ExportTraceServiceResponse()

    def start(self) -> Backend:
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        service_grpc.add_TraceServiceServicer_to_server(self, self._server)
        assert self._server.add_insecure_port(f"{LOOPBACK}:{self.port}") == self.port
        self._server.start()
        return self

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop(0).wait()
            self._server = None
