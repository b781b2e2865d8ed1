"""The OpenTelemetry Collector for traces."""

from __future__ import annotations

from pathlib import Path

from demo import ROOT
from demo.stack.component import Component, answers, empty_folder, find
from demo.stack.ports import LOOPBACK
from demo.stack.run import Run


def trace_files(run: Run) -> Path:
    """The directory of the Collector's trace files."""
    return run.directory / "collector"


def collector(run: Run) -> Component:
    """The OpenTelemetry Collector with the bundled configuration, writing traces to files.

    Without sampling: the files are small, and a request must be found by its ID.
    """
    p = run.ports
    data = trace_files(run)
    url = f"http://{LOOPBACK}:{p.collector_health}"

    def prepare() -> None:
        empty_folder(data)
        # `servescope trace` finds the logs of this very Ray there.
        (data / "serve-logs").symlink_to(run.temp_dir / "session_latest/logs/serve")

    return Component(
        name="collector",
        command=[find("otelcol") or "otelcol", f"--config={ROOT / 'otel/collector.yaml'}"],
        ready=lambda: answers(url),
        address=f"http://{LOOPBACK}:{p.otlp_grpc}",
        ports=(p.otlp_grpc, p.otlp_http, p.span_metrics, p.collector_metrics, p.collector_health),
        env={
            "COLLECTOR_DATA": str(data),
            "COLLECTOR_HEALTH_ENDPOINT": f"{LOOPBACK}:{p.collector_health}",
            "COLLECTOR_METRICS_PORT": str(p.collector_metrics),
            "DECISION_WAIT": "5s",
            "OTLP_GRPC_ENDPOINT": f"{LOOPBACK}:{p.otlp_grpc}",
            "OTLP_HTTP_ENDPOINT": f"{LOOPBACK}:{p.otlp_http}",
            "SAMPLE_PERCENT": "100",
            "SPAN_METRICS_ENDPOINT": f"{LOOPBACK}:{p.span_metrics}",
            "TRACES_TO": "[file/traces]",
        },
        prepare=prepare,
        yields=True,
    )
