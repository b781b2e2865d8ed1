"""Keep the demo's applications deployed in the compose stack: `python -m demo.deploy`, or `--check` for its health.

What a team would do with `serve deploy`, through the same REST API. A restarted head has lost its applications;
they are deployed again.

RAY_DASHBOARD_ADDRESS is the head's dashboard, RAY_AUTH_TOKEN_PATH the file of its token if it requires one,
SERVE_CONFIG the config; DEMO_NUM_GPUS puts the models on a GPU, with that share of one per replica. With
RAY_PROMETHEUS_HOST set, the deployment waits up to a minute until that Prometheus has scraped Ray.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import httpx

from demo.stack.ports import DEFAULT_PORTS, LOOPBACK
from demo.stack.serve_config import path_from_environment, read_serve_config
from servescope.clients.http import open_client
from servescope.clients.prometheus import Prometheus
from servescope.clients.ray import RayApi
from servescope.errors import ServescopeError

MODELS = ("Detector", "Recogniser")  # the deployments that can use a GPU
CHECK_EVERY_S = 5.0
CHECKS_FOR_PROMETHEUS = 12  # a minute; a missing Prometheus must not block the deployment


def configuration(path: Path, host: str, num_gpus: float) -> dict[str, Any]:
    """The Serve config in `path`, listening on `host`, its models with that share of a GPU per replica.

    Raises:
        ServescopeError: the file cannot be read, or is not a Serve config file.
    """
    document = read_serve_config(path)
    document["http_options"] = {**document.get("http_options", {}), "host": host}
    for application in document["applications"]:
        for deployment in application.get("deployments", []):
            if num_gpus > 0 and deployment["name"] in MODELS:
                deployment["user_config"] = {**deployment.get("user_config", {}), "cuda": True}
                deployment["ray_actor_options"] = {**deployment.get("ray_actor_options", {}), "num_gpus": num_gpus}
    return document


class Head:
    """Serve's REST API on a Ray head.

    Raises:
        ServescopeError: the address or the token is invalid.
    """

    def __init__(self, address: str, token_file: Path | None = None) -> None:
        headers = RayApi(url=address, token_file=token_file).request_headers()
        # No proxy that the environment names: over plain HTTP it would read the token.
        self._client = open_client(10, trust_env=False)
        self._client.base_url = httpx.URL(address.rstrip("/"))
        self._client.headers.update(headers)

    def states(self) -> dict[str, str]:
        """The state of each application, by name; empty if Serve does not run yet.

        Raises:
            httpx.HTTPError: the head is unreachable.
        """
        response = self._client.get("/api/serve/applications/")
        response.raise_for_status()
        return {name: application["status"] for name, application in response.json()["applications"].items()}

    def deploy(self, document: dict[str, Any]) -> None:
        """Submit a config. Serve responds before the replicas are ready.

        Raises:
            ServescopeError: Serve rejects it.
            httpx.HTTPError: the head is unreachable.
        """
        # Serve starts its controller within this call, if there is none yet.
        response = self._client.put("/api/serve/applications/", json=document, timeout=120)
        if response.status_code == 400:
            raise ServescopeError(f"Serve rejected the config: {response.text.strip().splitlines()[-1]}")
        response.raise_for_status()


def missing(states: dict[str, str], document: dict[str, Any]) -> list[str]:
    """The applications of a config that are not RUNNING, each with its state."""
    names = [application["name"] for application in document["applications"]]
    return [f"{name} is {states.get(name, 'not deployed')}" for name in names if states.get(name) != "RUNNING"]


def scraped(prometheus: str) -> bool:
    """Whether the Prometheus at this address has scraped all its Ray targets, at least one.

    No panel counts replicas that start before the first scrape (see `servescope.promql.increase`).
    """
    try:
        with Prometheus(prometheus, 2) as client:
            return bool(client.query('min(up{job="ray"}) == 1'))
    except ServescopeError:
        return False  # none is there, or something else is


def keep_deployed(
    head: Head, document: dict[str, Any], stopped: threading.Event, *, prometheus: str | None = None
) -> None:
    """Deploy the config whenever its applications are missing on the head, and print each change, until `stopped`."""
    reported = ""
    waited = 0
    while not stopped.is_set():
        try:
            states = head.states()
            line = "; ".join(missing(states, document)) or "all applications are RUNNING"
            if any(application["name"] not in states for application in document["applications"]):
                if prometheus and waited < CHECKS_FOR_PROMETHEUS and not scraped(prometheus):
                    waited += 1
                    line = "waiting for Prometheus to scrape Ray"
                else:
                    print("deploying", flush=True)
                    head.deploy(document)
                    waited = 0
        except httpx.HTTPError as error:
            line = f"the head is unreachable ({error or type(error).__name__})"
        if line != reported:
            print(line, flush=True)
            reported = line
        stopped.wait(CHECK_EVERY_S)


def main(arguments: list[str]) -> int:
    """Deploy and keep running; with --check, exit with 0 if everything is RUNNING."""
    try:
        num_gpus = float(os.environ.get("DEMO_NUM_GPUS", "0"))
    except ValueError:
        raise ServescopeError(f"DEMO_NUM_GPUS: expected a number, got {os.environ['DEMO_NUM_GPUS']!r}") from None
    document = configuration(path_from_environment(), "0.0.0.0", num_gpus)
    address = os.environ.get("RAY_DASHBOARD_ADDRESS", f"http://{LOOPBACK}:{DEFAULT_PORTS.dashboard}")
    token_path = os.environ.get("RAY_AUTH_TOKEN_PATH")
    head = Head(address, Path(token_path) if token_path else None)
    if arguments == ["--check"]:
        try:
            waiting = missing(head.states(), document)
        except httpx.HTTPError as error:
            waiting = [f"the head is unreachable ({error or type(error).__name__})"]
        print("\n".join(waiting))
        return 1 if waiting else 0
    if arguments:
        raise ServescopeError("usage: python -m demo.deploy [--check]")

    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    keep_deployed(head, document, stopped, prometheus=os.environ.get("RAY_PROMETHEUS_HOST"))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ServescopeError as error:
        sys.exit(f"deploy: {error}")
