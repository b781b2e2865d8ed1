"""How a world of the drill and its applications are described."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.drill import DEPLOYMENT
from tests.drill.pace import SCALE


@dataclass(frozen=True, kw_only=True)
class App:
    """An application of one deployment. It takes the default for whatever the drill does not need to choose."""

    name: str
    rate: float = 1.0
    work_s: float = 0.0
    replicas: int = 1
    autoscaling: Mapping[str, Any] | None = None
    max_ongoing: int = 100
    max_queued: int = 500
    graceful_shutdown_s: float = 20
    resources: Mapping[str, float] = field(default_factory=dict)
    start: str = ""
    at_once: bool = True  # deployed before its fault, or only by it
    on_worker: bool = False  # its replicas and its traffic are on the second node

    def config(self) -> dict[str, Any]:
        """The application as in a Serve config file."""
        size = {"autoscaling_config": dict(self.autoscaling)} if self.autoscaling else {"num_replicas": self.replicas}
        resources = {**self.resources, **({"second": 0.01} if self.on_worker else {})}
        deployment = {
            "name": DEPLOYMENT,
            **size,
            "max_ongoing_requests": self.max_ongoing,
            "max_queued_requests": self.max_queued,
            "graceful_shutdown_timeout_s": self.graceful_shutdown_s,
            "health_check_period_s": round(10 / SCALE, 2),
            "ray_actor_options": {"num_cpus": 0 if self.on_worker else 0.1, "resources": resources},
        }
        return {
            "name": self.name,
            "route_prefix": f"/{self.name}",
            "import_path": "tests.drill.apps:build",
            "args": {"name": self.name, "work_s": self.work_s, "start": self.start},
            "deployments": [deployment],
        }


@dataclass(frozen=True, kw_only=True)
class Design:
    """How a world differs from the plain one; `env` is for every process of Ray's."""

    name: str
    env: Mapping[str, str] = field(default_factory=dict)
    head_options: tuple[str, ...] = ()
    fault_tolerant: bool = False
    memory_left: int = 0  # bytes above what is in use now at which Ray kills for memory; 0 leaves Ray's 95 %
