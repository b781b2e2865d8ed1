"""Serve config files, and what Serve's REST API says of the applications deployed from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import yaml

from demo.stack.component import last_words
from demo.stack.run import Run
from servescope.errors import ServescopeError


def read_serve_config(path: Path) -> dict[str, Any]:
    """A Serve config file.

    Raises:
        ServescopeError: it cannot be read, or it is none.
    """
    try:
        document = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ServescopeError(f"{path}: cannot read it ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ServescopeError(f"{path}: is no YAML ({' '.join(str(error).split())})") from error
    if not isinstance(document, dict) or not document.get("applications"):
        raise ServescopeError(f"{path}: names no applications; is it a Serve config file?")
    return document


def why_it_failed(application: dict[str, Any]) -> str:
    """The reason why an application is DEPLOY_FAILED, in one line, from what Ray's REST API tells of it.

    The application names the deployments that failed; the exception stands last in the message of the deployment.
    """
    for name, deployment in application.get("deployments", {}).items():
        if deployment["status"] == "DEPLOY_FAILED":
            return f"{name}: {last_words(deployment['message']) or 'no reason given'}"
    return last_words(application["message"]) or "no reason given"


def serve_applications(run: Run) -> dict[str, Any]:
    """The applications as Ray's REST API tells them, by name.

    Raises:
        httpx.HTTPError: the API does not answer.
    """
    response = httpx.get(f"{run.dashboard_url}/api/serve/applications/", timeout=5)
    response.raise_for_status()
    applications: dict[str, Any] = response.json()["applications"]
    return applications
