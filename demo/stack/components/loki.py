"""Loki, the log store."""

from __future__ import annotations

from demo import ROOT
from demo.stack.component import Component, answers, empty_folder, find
from demo.stack.ports import LOOPBACK
from demo.stack.run import Run


def loki_url(run: Run) -> str:
    """The URL of Loki."""
    return f"http://{LOOPBACK}:{run.ports.loki}"


def loki(run: Run) -> Component:
    """Loki with the bundled configuration and an empty store."""
    data = run.directory / "loki"
    return Component(
        name="loki",
        command=[find("loki") or "loki", f"-config.file={ROOT / 'loki/loki.yml'}", "-config.expand-env=true"],
        ready=lambda: answers(f"{loki_url(run)}/ready"),
        address=loki_url(run),
        ports=(run.ports.loki, run.ports.loki_grpc),
        env={"LOKI_DATA": str(data), "LOKI_PORT": str(run.ports.loki), "LOKI_GRPC_PORT": str(run.ports.loki_grpc)},
        timeout_s=90,
        prepare=lambda: empty_folder(data),
    )
