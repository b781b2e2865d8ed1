"""The backends of a running stack: where they answer, and how a check asks them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from demo.stack.ports import DEFAULT_PORTS, LOOPBACK

GRAFANA_PORT = 3000  # the one published port that no local process has


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
    jobs_left_out: Sequence[str] = ()  # of Prometheus, whose targets do not run
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


def addresses_from_environment() -> Addresses:
    """The ports that docker-compose.yml publishes, or what the environment says."""

    def at(name: str, port: int) -> str:
        return os.environ.get(f"{name}_URL", f"http://{LOOPBACK}:{port}").rstrip("/")

    grafana = at("GRAFANA", GRAFANA_PORT)
    return Addresses(
        serve=at("SERVE", DEFAULT_PORTS.serve),
        ray=at("RAY", DEFAULT_PORTS.dashboard),
        prometheus=at("PROMETHEUS", DEFAULT_PORTS.prometheus),
        alertmanager=at("ALERTMANAGER", DEFAULT_PORTS.alertmanager),
        grafana=grafana,
        loki=f"{grafana}/api/datasources/proxy/uid/loki",
        tempo=f"{grafana}/api/datasources/proxy/uid/tempo",
        exporter=True,
        blackbox=True,
        load=True,
    )
