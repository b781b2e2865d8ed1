"""The running stack that is checked: its addresses and backends."""

from __future__ import annotations

import os
import secrets
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from demo.app import images
from servescope.report.queries import panels_of as panels_of
from servescope.settings import Settings

SETTINGS = Settings()

PROBED = ("/-/healthz", "/-/routes")


class NotYet(Exception):
    """What is still missing, in one line."""


@dataclass(frozen=True, kw_only=True)
class Addresses:
    """Where the components answer; None for one that does not run.

    Loki and Tempo may be reached through Grafana's proxy: then their address is that of the proxy. The exporter and the
    probes are asked of Prometheus, so they are only true or false.
    """

    serve: str
    ray: str
    prometheus: str
    alertmanager: str | None = None
    grafana: str | None = None
    loki: str | None = None
    tempo: str | None = None
    exporter: bool = False
    blackbox: bool = False
    load: bool = False
    trace_files: Path | None = None  # the folder to which the Collector writes, where there is no Tempo


@dataclass(frozen=True)
class Request:
    """A request that was answered: what it is known by in the backends."""

    trace_id: str
    request_id: str


@dataclass
class Backends:
    """The addresses, an HTTP client, and the request that the backends are asked for."""

    at: Addresses
    http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=30, trust_env=False))
    request: Request | None = None

    def get(self, url: str, **parameters: str) -> Any:
        """The JSON at an address.

        Raises:
            NotYet: it cannot be had.
        """
        try:
            response = self.http.get(url, params=parameters)
            if response.is_success:
                return response.json()
        except httpx.HTTPError as error:
            raise NotYet(f"{url} does not answer ({error or type(error).__name__})") from error
        except ValueError as error:
            raise NotYet(f"{url} answers, but no JSON") from error
        raise NotYet(f"{url} answers {response.status_code}: {response.text.strip()[:100]}")

    def sent(self) -> Request:
        """The request that was answered.

        Raises:
            NotYet: none was yet.
        """
        if self.request is None:
            raise NotYet("no request has been answered")
        return self.request


def need(condition: object, missing: str) -> None:
    """Raise NotYet unless something is so."""
    if not condition:
        raise NotYet(missing)


def answers(stack: Backends) -> str:
    """A picture of words is read right. This is the request that is looked for in traces and logs."""
    # The Collector keeps a share of traces by the end of their ids; this end is always within it.
    trace_id, request_id = secrets.token_hex(12) + "00000001", str(uuid.uuid4())
    lines = ["bridge silver"]
    headers = {"traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-01", "X-Request-ID": request_id}
    try:
        response = stack.http.post(f"{stack.at.serve}/read", content=images.draw(lines), headers=headers)
    except httpx.HTTPError as error:
        raise NotYet(f"{stack.at.serve} does not answer ({error or type(error).__name__})") from error
    need(response.status_code == 200, f"/read answers {response.status_code}: {response.text.strip()[:100]}")
    found = response.json()["lines"]
    need(images.same_text(found, lines), f"/read says {found} where the picture says {lines}")
    stack.request = Request(trace_id, request_id)
    return f"read {found[0]!r}"


def addresses_from_environment() -> Addresses:
    """The ports that docker-compose.yml publishes, or what the environment says."""

    def at(name: str, port: int) -> str:
        return os.environ.get(f"{name}_URL", f"http://127.0.0.1:{port}").rstrip("/")

    grafana = at("GRAFANA", 3000)
    return Addresses(
        serve=at("SERVE", 8000),
        ray=at("RAY", 8265),
        prometheus=at("PROMETHEUS", 9090),
        alertmanager=at("ALERTMANAGER", 9093),
        grafana=grafana,
        loki=f"{grafana}/api/datasources/proxy/uid/loki",
        tempo=f"{grafana}/api/datasources/proxy/uid/tempo",
        exporter=True,
        blackbox=True,
        load=True,
    )
