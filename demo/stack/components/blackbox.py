"""The blackbox exporter, and the scrape job that probes Serve through it."""

from __future__ import annotations

from typing import Any

from demo import ROOT
from demo.stack.checks import require
from demo.stack.component import Component, answers
from demo.stack.ports import LOOPBACK
from demo.stack.run import Run


def blackbox(run: Run) -> Component:
    """The blackbox exporter, which probes Serve from outside."""
    url = f"http://{LOOPBACK}:{run.ports.blackbox}"

    def prepare() -> None:
        require("prometheus-blackbox-exporter")

    return Component(
        name="blackbox",
        command=[
            "prometheus-blackbox-exporter",
            f"--config.file={ROOT / 'blackbox/blackbox.yml'}",
            f"--web.listen-address={LOOPBACK}:{run.ports.blackbox}",
        ],
        ready=lambda: answers(f"{url}/-/healthy"),
        address=url,
        ports=(run.ports.blackbox,),
        prepare=prepare,
    )


def probe_job(run: Run) -> dict[str, Any]:
    """The probes of Serve by the blackbox exporter; `instance` is the probed URL."""
    return {
        "job_name": "probe",
        "metrics_path": "/probe",
        "params": {"module": ["serve"]},
        "static_configs": [
            {
                "targets": [f"{run.serve_url}/-/healthz", f"{run.serve_url}/-/routes"],
                "labels": {"ray_io_cluster": run.cluster},
            }
        ],
        "relabel_configs": [
            {"source_labels": ["__address__"], "target_label": "__param_target"},
            {"source_labels": ["__param_target"], "target_label": "instance"},
            {"target_label": "__address__", "replacement": f"{LOOPBACK}:{run.ports.blackbox}"},
        ],
    }
