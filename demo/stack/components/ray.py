"""The Ray head: one node, every port set."""

from __future__ import annotations

import shutil

from demo.stack.component import Component, answers
from demo.stack.ports import LOOPBACK
from demo.stack.run import Run


def ray(run: Run) -> Component:
    """A Ray head with every port set, in its own temporary directory."""
    p = run.ports
    command = [
        f"{run.ray}/ray",
        "start",
        "--head",
        "--block",
        "--disable-usage-stats",
        "--include-dashboard=true",
        "--num-cpus=8",
        f"--num-gpus={run.gpus}",
        f"--temp-dir={run.temp_dir}",
        f"--dashboard-host={LOOPBACK}",
        f"--port={p.gcs}",
        f"--ray-client-server-port={p.client_server}",
        f"--object-manager-port={p.object_manager}",
        f"--node-manager-port={p.node_manager}",
        f"--runtime-env-agent-port={p.runtime_env_agent}",
        f"--dashboard-port={p.dashboard}",
        f"--dashboard-agent-listen-port={p.dashboard_agent}",
        f"--dashboard-agent-grpc-port={p.dashboard_agent_grpc}",
        f"--metrics-export-port={p.metrics}",
        f"--min-worker-port={p.worker_min}",
        f"--max-worker-port={p.worker_max}",
    ]

    def prepare() -> None:
        # Ray never deletes old sessions; this directory belongs to the demo.
        shutil.rmtree(run.temp_dir, ignore_errors=True)

    discovery = run.temp_dir / "prom_metrics_service_discovery.json"

    def ready() -> bool:
        # The file lists the joined nodes. The dashboard responds before its own node has joined, and rejects deploys
        # until then.
        try:
            joined = f":{p.metrics}" in discovery.read_text()
        except OSError:
            return False
        return joined and answers(f"{run.dashboard_url}/api/version")

    return Component(
        name="ray",
        command=command,
        ready=ready,
        address=run.dashboard_url,
        ports=(
            p.gcs,
            p.client_server,
            p.object_manager,
            p.node_manager,
            p.runtime_env_agent,
            p.dashboard,
            p.dashboard_agent,
            p.dashboard_agent_grpc,
            p.metrics,
            p.autoscaler_metrics,
            p.dashboard_metrics,
        ),
        env=run.ray_env,
        timeout_s=180,
        public=True,
        prepare=prepare,
    )
