"""Loki and a log agent for the demo: Fluent Bit, or the Collector where only that one is installed.

Both need programs that no Debian package brings, so the demo runs them where they are found (on the PATH or below
.tools/) and says what is missing otherwise.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from demo.stack import LOOPBACK, ROOT, Component, Run, answers


def find(program: str) -> str | None:
    """The path of a program, on the PATH or below .tools/."""
    return shutil.which(program, path=os.pathsep.join((os.environ.get("PATH", ""), str(ROOT / ".tools"))))


def components() -> tuple[Callable[[Run], Component], ...]:
    """Loki and the agent, or nothing where one of them is missing."""
    if find("loki") and find("fluent-bit"):
        return (loki, fluent_bit)
    if find("loki") and find("otelcol"):
        return (loki, collector)
    return ()


def missing() -> str:
    """What the demo lacks to show logs; "" when nothing."""
    return "" if components() else "no logs: loki and fluent-bit (or otelcol) are not installed, see docs/logs.md"


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
        url(run),
        (run.ports.loki, run.ports.loki_grpc),
        {"LOKI_DATA": str(data), "LOKI_PORT": str(run.ports.loki), "LOKI_GRPC_PORT": str(run.ports.loki_grpc)},
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
        address,
        (run.ports.log_agent, run.ports.log_events),
        {
            "RAY_LOGS_TO": "loki",
            "RAY_TMP": str(run.temp_dir),
            "LOGS_PORT": str(run.ports.loki),
            "FLB_STATE": str(state),
            "FLB_HTTP_PORT": str(run.ports.log_agent),
            "FLB_METRICS_PORT": str(run.ports.log_events),
            "CLUSTER": run.cluster,
        },
        prepare=lambda: _empty(state),
    )


def collector(run: Run) -> Component:
    """The Collector that reads the logs itself."""
    state = run.directory / "otelcol-logs"
    metrics = f"http://{LOOPBACK}:{run.ports.log_agent}/metrics"
    return Component(
        "log-collector",
        [find("otelcol") or "otelcol", "--config", str(ROOT / "otel/logs.yaml")],
        lambda: answers(metrics),
        metrics,
        (run.ports.log_agent, run.ports.log_events, run.ports.log_health),
        {
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
