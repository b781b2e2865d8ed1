"""The runner of local processes, on processes that need no Ray."""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from demo import ROOT
from demo.stack.component import Component
from demo.stack.ports import Ports
from demo.stack.run import Run
from demo.stack.serve_api import why_it_failed
from demo.stack.supervisor import Stack
from servescope.errors import ServescopeError


def stack(directory: Path, *components: Component) -> Stack:
    run = Run(directory=directory, ports=Ports.from_base(24000), serve_config=directory / "serve.yaml")
    return Stack(run, [lambda run, component=component: component for component in components])


def shell(name: str, script: str, **more: object) -> Component:
    return Component(name=name, command=["sh", "-c", script], ready=lambda: True, **more)  # type: ignore[arg-type]


def test_the_reason_of_a_failed_deploy_is_the_exception():
    """As in Ray's API: the application's own message only names the deployment."""
    reported = json.loads((ROOT / "tests/fixtures/rest/serve_applications.json").read_text())["applications"]["broken"]
    assert reported["message"] == "Failed to update the deployments ['Broken']."
    assert why_it_failed(reported) == "Broken: RuntimeError: constructor always fails"
    # An import that fails has no deployments yet.
    message = (
        "Deploying app 'x' failed with exception:\nTraceback\n\x1b[36mModuleNotFoundError: No module named 'x'\x1b[0m\n"
    )
    assert why_it_failed({"message": message, "deployments": {}}) == "ModuleNotFoundError: No module named 'x'"


def children() -> Sequence[int]:
    return [child.pid for child in psutil.Process().children(recursive=True)]


def test_it_ends_what_it_started_with_all_that_came_of_it(tmp_path):
    before = children()
    # The grandchild leaves the process group and drops its environment, as Ray's workers do.
    with stack(tmp_path, shell("parent", "setsid env -i sleep 600 & wait")) as running:
        assert len(children()) > len(before)
        assert running.dead() == []
    assert children() == before


def test_a_second_interrupt_does_not_cut_the_stop_short(tmp_path):
    before = children()
    handler = signal.getsignal(signal.SIGINT)  # a shell that runs the tests in the background has it ignored
    impatient = "trap 'kill -INT $PPID; sleep 0.3; exit 0' TERM; while :; do sleep 0.1; done"
    with stack(tmp_path, shell("first", "exec sleep 600"), shell("impatient", impatient)):
        pass
    assert children() == before
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_component_that_ends_at_once_takes_the_others_with_it(tmp_path):
    before = children()
    broken = Component(
        name="broken", command=["sh", "-c", "echo no such model; echo .; exit 3"], ready=lambda: False, timeout_s=20
    )
    with (
        pytest.raises(ServescopeError, match=r"broken did not start \(ended\): no such model \[.*/logs/broken.log\]"),
        stack(tmp_path, shell("first", "exec sleep 600"), broken),
    ):
        pytest.fail("it has started")
    assert children() == before


def test_a_component_that_is_never_ready(tmp_path):
    slow = Component(name="slow", command=["sleep", "600"], ready=lambda: False, timeout_s=0.5)
    with (
        pytest.raises(ServescopeError, match=r"slow did not start \(not ready in 0.5 s\): no output"),
        stack(tmp_path, slow),
    ):
        pytest.fail("it has started")


def test_a_command_that_fails(tmp_path):
    with (
        pytest.raises(ServescopeError, match="deploy: sh failed: it is refused"),
        stack(tmp_path, shell("deploy", "echo it is refused >&2; exit 1", once=True)),
    ):
        pytest.fail("it has started")


def test_a_command_that_does_not_end(tmp_path):
    with (
        pytest.raises(ServescopeError, match=r"deploy did not exit within 0.5 s: waiting \["),
        stack(tmp_path, shell("deploy", "echo waiting; exec sleep 600", once=True, timeout_s=0.5)),
    ):
        pytest.fail("it has started")


@pytest.mark.parametrize("yields", [False, True])
def test_what_yields_comes_after_rays_workers(tmp_path, yields):
    reported = tmp_path / "nice"
    script = f"nice > {reported}; exec sleep 600"
    with stack(
        tmp_path,
        Component(
            name="agent",
            command=["sh", "-c", script],
            ready=lambda: reported.exists() and reported.read_text() != "",
            yields=yields,
        ),
    ):
        assert int(reported.read_text()) == (19 if yields else psutil.Process().nice())


def test_what_has_died_says_its_last_words(tmp_path):
    with stack(tmp_path, shell("mortal", "echo out of memory; sleep 0.2; exit 1")) as running:
        (process,) = [process for _, process in running._processes]
        process.process.wait(20)  # type: ignore[union-attr]
        assert running.dead() == ["mortal has exited: out of memory"]
