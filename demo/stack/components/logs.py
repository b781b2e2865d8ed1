"""Loki and a log agent for the demo: Fluent Bit, or the Collector where only that one is installed.

Both need programs that no Debian package brings, so the demo runs them where they are found (below .tools/ or on the
PATH) and says what is missing otherwise. An agent without a Loki still counts events.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from demo import ROOT
from demo.stack.component import Component, answers, find
from demo.stack.ports import LOOPBACK
from demo.stack.run import Run

SYNCHRONOUS = "--feature-gates=stanza.synchronousLogEmitter"  # the head of otel/logs.yaml tells why


def agent() -> Callable[[Run], Component] | None:
    """The agent that is installed."""
    return fluent_bit if find("fluent-bit") else collector if find("otelcol") else None


def components() -> tuple[Callable[[Run], Component], ...]:
    """Loki and the agent; the agent alone where there is no Loki, for what it counts; nothing without an agent."""
    reads = agent()
    if reads is None:
        return ()
    return (loki, reads) if find("loki") else (reads,)


def missing() -> str:
    """What the demo lacks to show logs; "" when nothing."""
    if agent() is None:
        return "no logs: neither fluent-bit nor otelcol is installed, see docs/logs.md"
    if find("loki") is None:
        return "no logs but the events counted from them: loki is not installed, see docs/logs.md"
    return ""


def url(run: Run) -> str:
    """The address of Loki."""
    return f"http://{LOOPBACK}:{run.ports.loki}"


def loki(run: Run) -> Component:
    """Loki with the configuration that ships; a new store each time."""
    data = run.directory / "loki"
    return Component(
        "loki",
        [find("loki") or "loki", f"-config.file={ROOT / 'loki/loki.yml'}", "-config.expand-env=true"],
        lambda: answers(f"{url(run)}/ready"),
        address=url(run),
        ports=(run.ports.loki, run.ports.loki_grpc),
        env={"LOKI_DATA": str(data), "LOKI_PORT": str(run.ports.loki), "LOKI_GRPC_PORT": str(run.ports.loki_grpc)},
        timeout_s=90,
        prepare=lambda: _empty(data),
    )


def fluent_bit(run: Run) -> Component:
    """Fluent Bit with the configuration that ships, over Ray's temporary directory."""
    state = run.directory / "fluent-bit"
    address = f"http://{LOOPBACK}:{run.ports.log_agent}"
    return Component(
        "fluent-bit",
        [find("fluent-bit") or "fluent-bit", "-c", str(ROOT / "fluentbit/fluent-bit.yaml")],
        lambda: answers(f"{address}/api/v1/health"),
        address=address,
        ports=(run.ports.log_agent, run.ports.log_events),
        env={
            "RAY_LOGS_TO": "loki" if find("loki") else "stdout",  # its output is kept beside that of the other programs
            "RAY_TMP": str(run.temp_dir),
            "LOGS_PORT": str(run.ports.loki),
            "FLB_STATE": str(state),
            "FLB_HTTP_PORT": str(run.ports.log_agent),
            "FLB_METRICS_PORT": str(run.ports.log_events),
            "CLUSTER": run.cluster,
        },
        prepare=lambda: _empty(state),
        yields=True,
    )


def collector(run: Run) -> Component:
    """The Collector that reads the logs itself."""
    state = run.directory / "otelcol-logs"
    metrics = f"http://{LOOPBACK}:{run.ports.log_agent}/metrics"
    count_only = "yaml:service::pipelines::logs/ray::exporters: [count/events]"
    return Component(
        "log-collector",
        [
            find("otelcol") or "otelcol",
            SYNCHRONOUS,
            "--config",
            str(ROOT / "otel/logs.yaml"),
            *(() if find("loki") else ("--config", count_only)),
        ],
        lambda: answers(metrics),
        address=metrics,
        ports=(run.ports.log_agent, run.ports.log_events, run.ports.log_health),
        env={
            "RAY_TMP": str(run.temp_dir),
            "LOGS_ENDPOINT": f"{url(run)}/otlp",
            "OTEL_STATE": str(state),
            "OTEL_METRICS_PORT": str(run.ports.log_agent),
            "OTEL_EVENTS": f"{LOOPBACK}:{run.ports.log_events}",
            "OTEL_HEALTH": f"{LOOPBACK}:{run.ports.log_health}",
            "CLUSTER": run.cluster,
            "NODE_NAME": os.uname().nodename,
        },
        prepare=lambda: _empty(state),
        yields=True,
    )


def scrape_jobs(run: Run) -> list[dict[str, object]]:
    """What Prometheus scrapes of the agent: its own metrics, and what it counts in the logs."""
    if not components():
        return []
    path = "/api/v2/metrics/prometheus" if find("fluent-bit") else "/metrics"
    targets = (("log-agent", run.ports.log_agent, path), ("log-events", run.ports.log_events, "/metrics"))
    return [
        {
            "job_name": job,
            "metrics_path": metrics_path,
            "static_configs": [{"targets": [f"{LOOPBACK}:{port}"], "labels": {"ray_io_cluster": run.cluster}}],
        }
        for job, port, metrics_path in targets
    ]


def _empty(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
