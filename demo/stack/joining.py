"""Components that join a running stack when a job of that stack has made the program which they run."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from demo.stack.component import Component
from demo.stack.run import Run
from demo.stack.supervisor import Stack
from servescope.errors import ServescopeError

REPORT_EACH = 0.1  # of the job's way


class Joining:
    """Waits for a job of the stack and starts what needs it. Nothing here ends the stack: what fails is left out.

    `progress` gives how far the job is, in words and as a share (below 0 before it can be counted); `made` whether it
    has made what is needed; `say` hears what happens, a line at a time.
    """

    def __init__(
        self,
        stack: Stack,
        factories: Sequence[Callable[[Run], Component]],
        *,
        job: str,
        progress: Callable[[], tuple[str, float]],
        made: Callable[[], bool],
        say: Callable[[str], None],
    ) -> None:
        self.failure = ""  # of a component that did not start although its program is there
        self._stack = stack
        self._job = job
        self._waiting = list(factories)
        self._progress = progress
        self._made = made
        self._say = say
        self._ended = False
        self._reason = ""
        self._reported: int | None = None

    @property
    def missing(self) -> list[str]:
        """The names of those that have not joined."""
        return [factory(self._stack.run).name for factory in self._waiting]

    @property
    def left_out(self) -> str:
        """Which components have not joined, and why; "" when all have."""
        if not self._waiting:
            return ""
        return f"{', '.join(self.missing)} did not join: {self._reason or self._progress()[0]}"

    def poll_progress(self) -> None:
        """Say how far the job is, when that has changed by a tenth."""
        if self._ended or not self._stack.runs(self._job):
            return
        words, share = self._progress()
        tenth = math.floor(share / REPORT_EACH)
        if tenth != self._reported:
            self._reported = tenth
            self._say(words)

    def poll(self) -> None:
        """Say how far the job is; start what waits when the job has ended."""
        self.poll_progress()
        if self._ended or not self._waiting or self._stack.runs(self._job):
            return
        self._ended = True
        if not self._made():
            self._reason = self._stack.last_line(self._job).removeprefix("setup: ")
            self._say(self.left_out)
            return
        while self._waiting:
            component = self._waiting[0](self._stack.run)  # looks for the program, which is there only now
            try:
                self._stack.join(component)
            except ServescopeError as error:
                self.failure = self._reason = str(error)
                self._say(self.left_out)
                return
            del self._waiting[0]
            self._say(f"{component.name} has joined: {component.address}")
