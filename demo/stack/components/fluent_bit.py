"""Fluent Bit as the log agent."""

from __future__ import annotations

from demo import ROOT
from demo.stack.component import Component, answers, empty_folder, find
from demo.stack.ports import LOOPBACK
from demo.stack.run import Run


def fluent_bit(run: Run) -> Component:
    """Fluent Bit with the bundled configuration, reading Ray's temporary directory."""
    state = run.directory / "fluent-bit"
    address = f"http://{LOOPBACK}:{run.ports.log_agent}"
    return Component(
        name="fluent-bit",
        command=[find("fluent-bit") or "fluent-bit", "-c", str(ROOT / "fluentbit/fluent-bit.yaml")],
        ready=lambda: answers(f"{address}/api/v1/health"),
        address=address,
        ports=(run.ports.log_agent, run.ports.log_events),
        env={
            "RAY_LOGS_TO": "loki" if find("loki") else "stdout",  # its output is logged as that of the other programs
            "RAY_TMP": str(run.temp_dir),
            "LOGS_PORT": str(run.ports.loki),
            "FLB_STATE": str(state),
            "FLB_HTTP_PORT": str(run.ports.log_agent),
            "FLB_METRICS_PORT": str(run.ports.log_events),
            "CLUSTER": run.cluster,
        },
        prepare=lambda: empty_folder(state),
        yields=True,
    )
