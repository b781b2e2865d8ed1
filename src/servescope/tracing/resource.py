"""The resource attributes of this process' spans, by OpenTelemetry's names where they exist."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from urllib.parse import quote, unquote

PROXY_SERVICE = "serve-proxy"
REPLICA_PREFIX = "SERVE_REPLICA::"
# KubeRay sets the first in every pod; the second is for all other installations.
CLUSTER_VARIABLES = ("SERVESCOPE_CLUSTER", "RAY_CLUSTER_NAME")


@dataclass(frozen=True)
class Actor:
    """The parts of a Serve actor's name; the fields of a replica are empty for a proxy."""

    application: str = ""
    deployment: str = ""
    replica: str = ""

    @property
    def service(self) -> str:
        """The name of the service."""
        return f"{self.application}.{self.deployment}" if self.replica else PROXY_SERVICE


def parse_actor(name: str) -> Actor:
    """The actor of a name such as `SERVE_REPLICA::main#Gateway#f3jxvnsq`; anything else is a proxy."""
    parts = name.removeprefix(REPLICA_PREFIX).split("#")
    return Actor(*parts) if name.startswith(REPLICA_PREFIX) and len(parts) == 3 else Actor()


def attributes(actor: Actor, node_id: str, ray_version: str) -> dict[str, str]:
    """The resource attributes, without empty ones. `ray.io.cluster` becomes the label ray_io_cluster of the metrics."""
    cluster = next((os.environ[name] for name in CLUSTER_VARIABLES if os.environ.get(name)), "")
    found = {
        "service.instance.id": actor.replica or f"proxy-{node_id[:12]}",
        "serve.application": actor.application,
        "serve.deployment": actor.deployment,
        "serve.replica": actor.replica,
        "host.name": socket.gethostname(),
        "ray.node.id": node_id,
        "ray.io.cluster": cluster,
        "ray.version": ray_version,
    }
    return {key: value for key, value in found.items() if value}


def describe_process() -> None:
    """Put the attributes of this process into OTEL_RESOURCE_ATTRIBUTES, which the tracer provider reads next.

    Values set by the user stay, except those that identify this process.
    """
    import ray

    context = ray.get_runtime_context()
    actor = parse_actor(context.get_actor_name() or "")
    given = (pair.partition("=") for pair in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(",") if "=" in pair)
    merged = {key.strip(): unquote(value.strip()) for key, _, value in given}
    merged |= attributes(actor, context.get_node_id(), ray.__version__)
    os.environ["OTEL_SERVICE_NAME"] = actor.service
    os.environ["OTEL_RESOURCE_ATTRIBUTES"] = ",".join(f"{key}={quote(value)}" for key, value in merged.items())
