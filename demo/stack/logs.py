"""Which log agent the demo runs, and whether it runs Loki: Fluent Bit, or the Collector if only that is installed.

Both need programs without a Debian package, so the demo runs them if they are found (below .tools/ or on the PATH) and
says what is missing otherwise. An agent without Loki still counts events.
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
    collects = building or find("otelcol")
    # Fluent Bit writes no files that the preview reads.
    if find("fluent-bit") and (find("loki") or not collects):
        return fluent_bit
    return log_collector if collects else None


def components(building: bool = False) -> tuple[Callable[[Run], Component], ...]:
    """Loki and the agent; without Loki the agent alone, to count events; nothing without an agent."""
    reads = agent(building)
    if reads is None:
        return ()
    return (loki, reads) if find("loki") else (reads,)


def missing(building: bool = False) -> str:
    """What the demo lacks to show logs; "" if nothing."""
    if agent(building) is None:
        return "no logs: neither fluent-bit nor otelcol is installed; see docs/logs.md"
    if find("loki") is None and agent(building) is fluent_bit:
        return (
            "no log lines, only the events counted from them: neither loki nor otelcol is installed; see docs/logs.md"
        )
    return ""


def scrape_jobs(run: Run, building: bool = False) -> list[dict[str, Any]]:
    """The scrape jobs of the agent: its own metrics, and the events it counts in the logs."""
    if not components(building):
        return []
    path = "/api/v2/metrics/prometheus" if agent(building) is fluent_bit else "/metrics"
    targets = (("log-agent", run.ports.log_agent, path), ("log-events", run.ports.log_events, "/metrics"))
    return [
        {
            "job_name": job,
            "metrics_path": metrics_path,
            "static_configs": [{"targets": [f"{LOOPBACK}:{port}"], "labels": {"ray_io_cluster": run.cluster}}],
        }
        for job, port, metrics_path in targets
    ]
