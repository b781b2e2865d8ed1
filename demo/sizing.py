"""`make steps`: how many requests should one replica carry?

Starts Ray and the demo's applications with one replica of each model and no limits in the way, raises concurrency in
steps (`demo/load/steps.py`), and prints throughput and latency of each step, the knee of the latency curve, and the
limits that the production guide derives from it. PORT_BASE=20000 moves every port.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from demo import ROOT
from demo.stack import environment
from demo.stack.component import own_program
from demo.stack.components.applications import applications
from demo.stack.components.ray import ray
from demo.stack.run import Run
from demo.stack.serve_config import DEFAULT_SERVE_CONFIG, read_serve_config
from demo.stack.supervisor import Stack
from servescope.errors import ServescopeError

# A step is worth it while throughput grows at least this much over a smaller one.
WORTH_IT = 1.10
NO_LIMIT = 1000  # above every step, so that requests wait for the model and not for a queue slot


@dataclass(frozen=True, kw_only=True)
class Step:
    """The result of one step: concurrency, requests per second, milliseconds, and failed requests."""

    concurrency: int
    throughput: float
    p50_ms: float
    p95_ms: float
    failed: int = 0


@dataclass(frozen=True, kw_only=True)
class Advice:
    """The advice: the concurrency at the knee, and the limits to set."""

    bend: int
    max_ongoing_requests: int
    target_ongoing_requests: int
    reached: bool  # False if throughput still grew at the last step


def advise(steps: Sequence[Step]) -> Advice:
    """The knee is the first step that no later one beats by a tenth of its throughput.

    Beyond it more concurrent requests only wait for each other. `max_ongoing_requests` is the knee, 2 at least, so that
    the next request is ready when one ends; `target_ongoing_requests` is half of it, so that there is capacity for a
    burst while the next replica starts.
    """
    bend = next(
        index
        for index, step in enumerate(steps)
        if all(later.throughput < WORTH_IT * step.throughput for later in steps[index + 1 :])
    )
    limit = max(2, steps[bend].concurrency)
    return Advice(
        bend=steps[bend].concurrency,
        max_ongoing_requests=limit,
        target_ongoing_requests=limit // 2,
        reached=bend < len(steps) - 1,
    )


def report(steps: Sequence[Step]) -> str:
    """The table and the advice, as text."""
    lines = ["in flight requests/s   p50 ms   p95 ms"]
    lines += [f"{s.concurrency:9d} {s.throughput:10.1f} {s.p50_ms:8.0f} {s.p95_ms:8.0f}" for s in steps]
    advice = advise(steps)
    if not advice.reached:
        lines.append("Throughput still grew at the last step: the knee is beyond it, so these limits are too low.")
    lines.append(
        f"Latency rises beyond {advice.bend} in flight: max_ongoing_requests {advice.max_ongoing_requests}, "
        f"target_ongoing_requests {advice.target_ongoing_requests}"
    )
    return "\n".join(lines)


def one_replica_each(document: dict[str, Any]) -> dict[str, Any]:
    """A Serve config file with one replica of each deployment and limits that no step reaches."""
    for application in document["applications"]:
        for deployment in application["deployments"]:
            deployment.pop("autoscaling_config", None)
            deployment |= {"num_replicas": 1, "max_ongoing_requests": NO_LIMIT, "max_queued_requests": -1}
    return document


def read_steps(path: Path) -> list[Step]:
    """The steps measured by the load.

    Raises:
        ServescopeError: a request failed, so the figures are invalid.
    """
    steps = [Step(**step) for step in json.loads(path.read_text())]
    failed = {step.concurrency: step.failed for step in steps if step.failed}
    if failed:
        counts = ", ".join(f"{count} with {concurrency} in flight" for concurrency, count in failed.items())
        raise ServescopeError(f"requests failed ({counts}), so the figures are invalid")
    return steps


def main() -> int:
    """Measure and print."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(130))
    directory = environment.directory_from_environment("steps")
    directory.mkdir(parents=True, exist_ok=True)
    config = directory / "one_replica.yaml"
    config.write_text(yaml.safe_dump(one_replica_each(read_serve_config(DEFAULT_SERVE_CONFIG))))
    run = Run(directory=directory, ports=environment.ports_from_environment(), serve_config=config)
    results = directory / "steps.json"
    results.unlink(missing_ok=True)
    started = time.monotonic()

    def say(line: str) -> None:
        print(f"[{time.monotonic() - started:4.0f} s] {line}", flush=True)

    try:
        with Stack(run, (ray, applications), say):
            say("measuring")
            command = [
                own_program("locust"),
                "-f",
                str(ROOT / "demo/load/steps.py"),
                "--headless",
                "--only-summary",
                "--loglevel",
                "WARNING",
                "--exit-code-on-error",
                "0",
                "--host",
                run.serve_url,
            ]
            variables = {**os.environ, "PYTHONPATH": str(ROOT), "STEPS": str(results)}
            log = directory / "logs/load.log"
            with log.open("wb") as out:
                done = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, env=variables, check=False)
            if done.returncode or not results.exists():
                raise ServescopeError(f"the load exited with {done.returncode} and without a result [{log}]")
            say("stopping")
    except KeyboardInterrupt:
        print("\nstopped")
        return 130
    print(report(read_steps(results)))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ServescopeError as error:
        print(f"steps: {error}", file=sys.stderr)
        sys.exit(1)
