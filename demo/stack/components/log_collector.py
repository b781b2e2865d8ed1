"""The OpenTelemetry Collector as the log agent, used if Fluent Bit is not installed."""

from __future__ import annotations

import os
from pathlib import Path

from demo import ROOT
from demo.stack.component import Component, answers, empty_folder, find
from demo.stack.components.loki import loki_url
from demo.stack.ports import LOOPBACK
from demo.stack.run import Run

SYNCHRONOUS = "--feature-gates=stanza.synchronousLogEmitter"  # the head of otel/logs.yaml says why


def collected_logs(run: Run) -> Path:
    """Where it writes the lines where there is no Loki; `servescope logs`, the preview and snapshots read them."""
    return run.directory / "collected-logs"


def log_collector(run: Run) -> Component:
    """The Collector, reading the log files itself."""
    state = run.directory / "otelcol-logs"
    metrics = f"http://{LOOPBACK}:{run.ports.log_agent}/metrics"
    exporters = "[otlp_http/logs, count/events]" if find("loki") else "[file/logs, count/events]"

    def prepare() -> None:
        empty_folder(state)
        empty_folder(collected_logs(run))

    return Component(
        name="log-collector",
        command=[
            find("otelcol") or "otelcol",
            SYNCHRONOUS,
            "--config",
            str(ROOT / "otel/logs.yaml"),
        ],
        ready=lambda: answers(metrics),
        address=metrics,
        ports=(run.ports.log_agent, run.ports.log_events, run.ports.log_health),
        env={
            "RAY_TMP": str(run.temp_dir),
            "LOGS_TO": exporters,
            "LOGS_DIR": str(collected_logs(run)),
            "LOGS_ENDPOINT": f"{loki_url(run)}/otlp",
            "OTEL_STATE": str(state),
            "OTEL_METRICS_PORT": str(run.ports.log_agent),
            "OTEL_EVENTS": f"{LOOPBACK}:{run.ports.log_events}",
            "OTEL_HEALTH": f"{LOOPBACK}:{run.ports.log_health}",
            "CLUSTER": run.cluster,
            "NODE_NAME": os.uname().nodename,
        },
        prepare=prepare,
        yields=True,
    )
