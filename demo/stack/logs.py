"""Which log agent the demo runs, and whether Loki: Fluent Bit, or the Collector where only that one is installed.

Both need programs that no Debian package brings, so the demo runs them where they are found (below .tools/ or on the
PATH) and says what is missing otherwise. An agent without a Loki still counts events.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from demo.stack.component import Component, find
from demo.stack.components.fluent_bit import fluent_bit
from demo.stack.components.log_collector import log_collector
from demo.stack.components.loki import loki
from demo.stack.ports import LOOPBACK
from demo.stack.run import Run


def agent(building: bool = False) -> Callable[[Run], Component] | None:
    """The agent that is installed; `building`: the Collector is not yet, but will be."""
    return fluent_bit if find("fluent-bit") else log_collector if building or find("otelcol") else None


def components(building: bool = False) -> tuple[Callable[[Run], Component], ...]:
    """Loki and the agent; the agent alone where there is no Loki, for what it counts; nothing without an agent."""
    reads = agent(building)
    if reads is None:
        return ()
    return (loki, reads) if find("loki") else (reads,)


def missing(building: bool = False) -> str:
    """What the demo lacks to show logs; "" when nothing."""
    if agent(building) is None:
        return "no logs: neither fluent-bit nor otelcol is installed, see docs/logs.md"
    if find("loki") is None:
        return "no logs but the events counted from them: loki is not installed, see docs/logs.md"
    return ""


def scrape_jobs(run: Run, building: bool = False) -> list[dict[str, Any]]:
    """What Prometheus scrapes of the agent: its own metrics, and what it counts in the logs."""
    if not components(building):
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
