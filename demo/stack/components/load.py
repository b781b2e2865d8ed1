"""The demo's load, run by Locust."""

from __future__ import annotations

import signal

from demo import ROOT
from demo.stack.component import Component, own_program
from demo.stack.run import Run

LOAD_RESULT = "load.json"


def load(run: Run) -> Component:
    """Locust with the demo's load; when it exits, its result is in LOAD_RESULT in the run's directory."""
    result = run.directory / LOAD_RESULT
    return Component(
        name="load",
        command=[
            own_program("locust"),
            "-f",
            str(ROOT / "demo/load/mix.py"),
            "--headless",
            "--only-summary",
            "--loglevel",
            "WARNING",
            "--host",
            run.serve_url,
        ],
        ready=lambda: True,
        stop_signal=signal.SIGINT,  # with a load shape locust ignores SIGTERM
        env={"PYTHONPATH": str(ROOT), "LOAD_RESULT": str(result)},
        prepare=lambda: result.unlink(missing_ok=True),
    )
