"""Ray and the Serve applications."""

from __future__ import annotations

import shutil

import httpx
import yaml

from demo.stack.component import Component, answers
from demo.stack.ports import LOOPBACK
from demo.stack.run import Run
from demo.stack.serve_config import read_serve_config, serve_applications, why_it_failed
from servescope.errors import ServescopeError

# ---------------------------------------------------------------------------------------------------------------------
# The components


def ray(run: Run) -> Component:
    """A Ray head with every port set, in a temporary directory of its own."""
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
        # Ray never deletes old sessions; this directory is ours alone.
        shutil.rmtree(run.temp_dir, ignore_errors=True)

    discovery = run.temp_dir / "prom_metrics_service_discovery.json"

    def ready() -> bool:
        # The file lists the nodes that have joined. The dashboard answers before its own node has, and refuses to
        # deploy until then.
        try:
            joined = f":{p.metrics}" in discovery.read_text()
        except OSError:
            return False
        return joined and answers(f"{run.dashboard_url}/api/version")

    return Component(
        "ray",
        command,
        ready,
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


def applications(run: Run) -> Component:
    """The applications of a Serve config file, deployed as a team would and awaited until every one is RUNNING."""
    config = run.directory / "serve_config.yaml"

    def prepare() -> None:
        document = read_serve_config(run.serve_config)
        document["http_options"] = {**document.get("http_options", {}), "host": LOOPBACK, "port": run.ports.serve}
        config.write_text(yaml.safe_dump(document, sort_keys=False))

    def ready() -> bool:
        try:
            applications = serve_applications(run)
        except httpx.HTTPError:
            return False
        for name, application in applications.items():
            if application["status"] == "DEPLOY_FAILED":
                raise ServescopeError(f"application {name} failed to deploy: {why_it_failed(application)}")
        states = {application["status"] for application in applications.values()}
        return states == {"RUNNING"} and answers(f"{run.serve_url}/-/routes")

    return Component(
        "applications",
        [f"{run.ray}/serve", "deploy", "-a", run.dashboard_url, str(config)],
        ready,
        address=run.serve_url,
        ports=(run.ports.serve,),
        env=run.ray_env,
        timeout_s=180,
        once=True,
        prepare=prepare,
    )
