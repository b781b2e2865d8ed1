"""The backends of a running stack: their URLs, and the HTTP client of the checks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from demo.stack.ports import DEFAULT_PORTS, LOOPBACK

GRAFANA_PORT = 3000  # the only published port without a local counterpart


class NotYet(Exception):
    """What is still missing, in one line."""


@dataclass(frozen=True, kw_only=True)
class Addresses:
    """The URLs of the components; None for one that does not run.

    Loki and Tempo may be reached through Grafana's proxy: then their URL is that of the proxy. The exporter and the
    probes are checked in Prometheus, so they are only true or false.
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
    trace_files: Path | None = None  # the directory that the Collector writes to, without Tempo


@dataclass(frozen=True)
class Request:
    """A completed request: its IDs in the backends."""

    trace_id: str
    request_id: str


@dataclass
class Backends:
    """The URLs, an HTTP client, and the request to look for in the backends."""

    at: Addresses
    http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=30, trust_env=False))
    request: Request | None = None

    def get(self, url: str, **parameters: str) -> Any:
        """The JSON at a URL.

        Raises:
            NotYet: it is unavailable.
        """
        try:
            response = self.http.get(url, params=parameters)
            if response.is_success:
                return response.json()
        except httpx.HTTPError as error:
            raise NotYet(f"{url} is unreachable ({error or type(error).__name__})") from error
        except ValueError as error:
            raise NotYet(f"{url} did not return JSON") from error
        raise NotYet(f"{url} returned {response.status_code}: {response.text.strip()[:100]}")

    def sent(self) -> Request:
        """The completed request.

        Raises:
            NotYet: there is none yet.
        """
        if self.request is None:
            raise NotYet("no request has completed")
        return self.request


def need(condition: object, missing: str) -> None:
    """Raise NotYet unless a condition is met."""
    if not condition:
        raise NotYet(missing)


def addresses_from_environment() -> Addresses:
    """The ports that docker-compose.yml publishes, or the environment's overrides."""

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
