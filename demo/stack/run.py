"""Where and how one stack runs."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from demo import ROOT
from demo.stack.ports import LOOPBACK, Ports


@dataclass(frozen=True, kw_only=True)
class Run:
    """Where and how one stack runs."""

    directory: Path
    ports: Ports
    serve_config: Path
    cluster: str = "demo"
    scrape_interval_s: int = 15
    rules: tuple[str, ...] = (str(ROOT / "alerts/*.yml"), str(ROOT / "demo/slo/*.yml"))
    probes: bool = False  # whether the component `blackbox` runs, so that Prometheus probes through it
    ray: str = str(Path(sys.executable).parent)  # the directory of the programs `ray` and `serve`
    env: dict[str, str] = field(default_factory=dict)
    traces: bool = False  # whether a Collector runs and Serve sends it spans
    gpus: int = 0  # Ray's logical CPUs
    extra_scrapes: Sequence[dict[str, Any]] = ()  # scrape jobs in addition to those of every stack

    @property
    def temp_dir(self) -> Path:
        """Ray's temporary directory: short, since the path of a Unix socket may have 107 characters at most."""
        return Path(tempfile.gettempdir()) / f"servescope-{self.ports.gcs}"

    @property
    def serve_url(self) -> str:
        """The HTTP URL of Serve."""
        return f"http://{LOOPBACK}:{self.ports.serve}"

    @property
    def dashboard_url(self) -> str:
        """The URL of Ray's dashboard and REST API."""
        return f"http://{LOOPBACK}:{self.ports.dashboard}"

    @property
    def prometheus_url(self) -> str:
        """The URL of Prometheus."""
        return f"http://{LOOPBACK}:{self.ports.prometheus}"

    @property
    def ray_env(self) -> dict[str, str]:
        """The environment of Ray's processes and its clients."""
        return {
            # A token file of an earlier Ray on this machine would otherwise switch token authentication on.
            "RAY_AUTH_MODE": "disabled",
            "RAY_USAGE_STATS_ENABLED": "0",
            # On two busy cores the dashboard exceeds Ray's timeout of 60 s, and a module of it that of 30 s.
            "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "150",
            "RAY_DASHBOARD_SUBPROCESS_MODULE_WAIT_READY_TIMEOUT": "120",
            "RAY_ADDRESS": f"{LOOPBACK}:{self.ports.gcs}",
            "RAY_PROMETHEUS_HOST": self.prometheus_url,
            "AUTOSCALER_METRIC_PORT": str(self.ports.autoscaler_metrics),
            "DASHBOARD_METRIC_PORT": str(self.ports.dashboard_metrics),
            "PYTHONPATH": os.pathsep.join(
                filter(None, (str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")))
            ),
            **(self.tracing_env if self.traces else {}),
            **self.env,
        }

    @property
    def tracing_env(self) -> dict[str, str]:
        """The variables that turn on Serve's traces."""
        return {
            "RAY_SERVE_TRACING_EXPORTER_IMPORT_PATH": "servescope.tracing:otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{LOOPBACK}:{self.ports.otlp_grpc}",
        }
