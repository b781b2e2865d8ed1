"""Prometheus over every component of the stack, with the rules of this repository."""

from __future__ import annotations

import shutil
from typing import Any

import yaml

from demo.stack.checks import check_prometheus
from demo.stack.component import Component, answers
from demo.stack.components.blackbox import probe_job
from demo.stack.ports import LOOPBACK
from demo.stack.run import Run


def prometheus(run: Run) -> Component:
    """Prometheus with the bundled rules and an empty database."""
    config, data = run.directory / "prometheus.yml", run.directory / "prometheus"

    def prepare() -> None:
        check_prometheus()
        shutil.rmtree(data, ignore_errors=True)
        config.write_text(yaml.safe_dump(prometheus_config(run), sort_keys=False))

    return Component(
        name="prometheus",
        command=[
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={data}",
            f"--web.listen-address={LOOPBACK}:{run.ports.prometheus}",
            "--enable-feature=exemplar-storage",
            "--log.level=warn",
        ],
        ready=lambda: answers(f"{run.prometheus_url}/-/ready"),
        address=run.prometheus_url,
        ports=(run.ports.prometheus,),
        prepare=prepare,
    )


def prometheus_config(run: Run) -> dict[str, Any]:
    """Prometheus' configuration: Ray's service discovery file, and the bundled rules."""
    return {
        "global": {
            "scrape_interval": f"{run.scrape_interval_s}s",
            "evaluation_interval": f"{run.scrape_interval_s}s",
        },
        "rule_files": list(run.rules),
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"{LOOPBACK}:{run.ports.alertmanager}"]}]}]},
        "scrape_configs": [
            {
                "job_name": "ray",
                "file_sd_configs": [
                    {
                        "files": [str(run.temp_dir / "prom_metrics_service_discovery.json")],
                        "refresh_interval": "5s",
                    }
                ],
                "relabel_configs": [
                    # The file has the host's address; all targets are on this machine, so loopback reaches them.
                    {
                        "source_labels": ["__address__"],
                        "regex": r".*:(\d+)",
                        "target_label": "__address__",
                        "replacement": f"{LOOPBACK}:$1",
                    },
                    {"target_label": "ray_io_cluster", "replacement": run.cluster},
                ],
                "metric_relabel_configs": [{"action": "labeldrop", "regex": "otel_scope_.*"}],
            },
            {
                "job_name": "servescope",
                "static_configs": [
                    {"targets": [f"{LOOPBACK}:{run.ports.exporter}"], "labels": {"ray_io_cluster": run.cluster}}
                ],
            },
            {
                "job_name": "prometheus",
                "static_configs": [{"targets": [f"{LOOPBACK}:{run.ports.prometheus}"]}],
            },
            *((probe_job(run),) if run.probes else ()),
            *(_collector_jobs(run) if run.traces else ()),
            *run.extra_scrapes,
        ],
    }


def _collector_jobs(run: Run) -> list[dict[str, Any]]:
    cluster = {"ray_io_cluster": run.cluster}
    return [
        {
            "job_name": "traces",
            "honor_labels": True,  # spans may have the cluster's label
            "static_configs": [{"targets": [f"{LOOPBACK}:{run.ports.span_metrics}"], "labels": cluster}],
        },
        {
            "job_name": "collector",
            "static_configs": [{"targets": [f"{LOOPBACK}:{run.ports.collector_metrics}"], "labels": cluster}],
        },
    ]
