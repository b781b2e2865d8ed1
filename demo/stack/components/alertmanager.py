"""Alertmanager with the routes and inhibitions of this repository."""

from __future__ import annotations

from demo import ROOT
from demo.stack.checks import require
from demo.stack.component import Component, answers
from demo.stack.ports import LOOPBACK
from demo.stack.run import Run


def alertmanager(run: Run) -> Component:
    """A single Alertmanager with the bundled routes and inhibitions, without receivers."""
    config = ROOT / "alertmanager/alertmanager.yml"
    url = f"http://{LOOPBACK}:{run.ports.alertmanager}"

    def prepare() -> None:
        require("prometheus-alertmanager")

    return Component(
        name="alertmanager",
        command=[
            "prometheus-alertmanager",
            f"--config.file={config}",
            f"--storage.path={run.directory / 'alertmanager'}",
            f"--web.listen-address={LOOPBACK}:{run.ports.alertmanager}",
            "--cluster.listen-address=",
            "--log.level=warn",
        ],
        ready=lambda: answers(f"{url}/-/ready"),
        address=url,
        ports=(run.ports.alertmanager,),
        prepare=prepare,
    )
