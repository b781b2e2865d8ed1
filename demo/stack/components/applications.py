"""The applications of a Serve config file, deployed to the Ray head of the stack."""

from __future__ import annotations

import httpx
import yaml

from demo.stack.component import Component, answers
from demo.stack.ports import LOOPBACK
from demo.stack.run import Run
from demo.stack.serve_api import serve_applications, why_it_failed
from demo.stack.serve_config import read_serve_config
from servescope.errors import ServescopeError


def applications(run: Run) -> Component:
    """The applications of a Serve config file, deployed as in production and awaited until every one is RUNNING."""
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
        name="applications",
        command=[f"{run.ray}/serve", "deploy", "-a", run.dashboard_url, str(config)],
        ready=ready,
        address=run.serve_url,
        ports=(run.ports.serve,),
        env=run.ray_env,
        timeout_s=180,
        once=True,
        prepare=prepare,
    )
