"""The Serve state exporter, `servescope exporter`."""

from __future__ import annotations

import sys

from demo.stack.component import Component, answers
from demo.stack.ports import LOOPBACK
from demo.stack.run import Run


def exporter(run: Run) -> Component:
    """The Serve state exporter."""
    url = f"http://{LOOPBACK}:{run.ports.exporter}"
    return Component(
        name="exporter",
        command=[
            sys.executable,
            "-m",
            "servescope",
            "exporter",
            f"--address={run.dashboard_url}",
            f"--port={run.ports.exporter}",
            "--interval=5",
        ],
        ready=lambda: answers(f"{url}/-/healthz"),
        address=url,
        ports=(run.ports.exporter,),
    )
