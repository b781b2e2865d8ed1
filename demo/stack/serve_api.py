"""The applications of a run, by Serve's REST API."""

from __future__ import annotations

from typing import Any

import httpx

from demo.stack.component import last_words
from demo.stack.run import Run


def why_it_failed(application: dict[str, Any]) -> str:
    """The reason why an application is DEPLOY_FAILED, in one line, from Ray's REST API.

    The application names the failed deployments; the exception is at the end of the deployment's message.
    """
    for name, deployment in application.get("deployments", {}).items():
        if deployment["status"] == "DEPLOY_FAILED":
            return f"{name}: {last_words(deployment['message']) or 'no reason given'}"
    return last_words(application["message"]) or "no reason given"


def serve_applications(run: Run) -> dict[str, Any]:
    """The applications in Ray's REST API, by name.

    Raises:
        httpx.HTTPError: the API is unreachable.
    """
    response = httpx.get(f"{run.dashboard_url}/api/serve/applications/", timeout=5)
    response.raise_for_status()
    applications: dict[str, Any] = response.json()["applications"]
    return applications
