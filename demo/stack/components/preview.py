"""The dashboards without Grafana, `servescope preview`."""

from __future__ import annotations

import sys

from demo.stack.component import Component, answers
from demo.stack.components.collector import trace_files
from demo.stack.components.log_collector import collected_logs
from demo.stack.ports import LOOPBACK
from demo.stack.run import Run


def preview(run: Run) -> Component:
    """The dashboards as pages, without Grafana."""
    url = f"http://{LOOPBACK}:{run.ports.preview}"
    return Component(
        name="preview",
        command=[
            sys.executable,
            "-m",
            "servescope",
            "preview",
            f"--prometheus={run.prometheus_url}",
            f"--port={run.ports.preview}",
            f"--traces={trace_files(run)}",
            f"--logs={collected_logs(run)}",
        ],
        ready=lambda: answers(f"{url}/-/ready"),
        address=url,
        ports=(run.ports.preview,),
    )
