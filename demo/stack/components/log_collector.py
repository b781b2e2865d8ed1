"""The OpenTelemetry Collector as the log agent, used if Fluent Bit is not installed."""

from __future__ import annotations

import os

from demo import ROOT
from demo.stack.component import Component, answers, empty_folder, find
from demo.stack.components.loki import loki_url
from demo.stack.ports import LOOPBACK
from demo.stack.run import Run

SYNCHRONOUS = "--feature-gates=stanza.synchronousLogEmitter"  # the head of otel/logs.yaml says why


def log_collector(run: Run) -> Component:
    """The Collector, reading the log files itself."""
    state = run.directory / "otelcol-logs"
    metrics = f"http://{LOOPBACK}:{run.ports.log_agent}/metrics"
    count_only = "yaml:service::pipelines::logs/ray::exporters: [count/events]"
    return Component(
        name="log-collector",
        command=[
            find("otelcol") or "otelcol",
            SYNCHRONOUS,
            "--config",
            str(ROOT / "otel/logs.yaml"),
            *(() if find("loki") else ("--config", count_only)),
        ],
        ready=lambda: answers(metrics),
        address=metrics,
        ports=(run.ports.log_agent, run.ports.log_events, run.ports.log_health),
        env={
            "RAY_TMP": str(run.temp_dir),
            "LOGS_ENDPOINT": f"{loki_url(run)}/otlp",
            "OTEL_STATE": str(state),
            "OTEL_METRICS_PORT": str(run.ports.log_agent),
            "OTEL_EVENTS": f"{LOOPBACK}:{run.ports.log_events}",
            "OTEL_HEALTH": f"{LOOPBACK}:{run.ports.log_health}",
            "CLUSTER": run.cluster,
            "NODE_NAME": os.uname().nodename,
        },
        prepare=lambda: empty_folder(state),
        yields=True,
    )
