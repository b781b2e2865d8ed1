"""Starts components side by side, and stops them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

import psutil
from mirakuru import Executor
from mirakuru.exceptions import ExecutorError, ProcessExitedWithError

from demo import ROOT
from demo.stack.checks import FREE_DISK_BYTES, check_port, require
from demo.stack.component import YIELDING, Component, last_words
from demo.stack.run import Run
from servescope.errors import ServescopeError

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Process(Executor):
    """A process that has started when its component is ready."""

    def __init__(self, component: Component, log: IO[bytes]) -> None:
        super().__init__(
            [*(YIELDING if component.yields else ()), *component.command],
            timeout=component.timeout_s,
            stop_signal=component.stop_signal,
            envvars=component.env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=str(ROOT),
        )
        self._component = component

    def pre_start_check(self) -> bool:
        return False  # its ports have been checked

    def after_start_check(self) -> bool:
        return self._component.ready()


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Ignore termination signals, in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in ENDING_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Stack:
    """Components running side by side; use it as a context manager, which stops all that it started.

    `say` receives progress, a line at a time.
    """

    def __init__(
        self, run: Run, factories: Sequence[Callable[[Run], Component]], say: Callable[[str], None] = lambda line: None
    ) -> None:
        self.run = run
        self.components = [factory(run) for factory in factories]
        self._say = say
        self._processes: list[tuple[Component, _Process]] = []
        self._descendants: dict[int, float] = {}
        self._lock: IO[str] | None = None

    def log(self, component: Component) -> Path:
        """The log file of a component."""
        return self.run.directory / "logs" / f"{component.name}.log"

    def __enter__(self) -> Stack:
        try:
            self._check()
            for component in self.components:
                started = time.monotonic()
                self._say(f"starting {component.name}")
                self._start(component)
                self._say(f"{component.name} is ready after {time.monotonic() - started:.0f} s")
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def dead(self) -> list[str]:
        """The components that exited unexpectedly, with the last line of output of each."""
        return [
            f"{component.name} has exited: {self._last_line(component)}"
            for component, process in self._processes
            if not component.once and not component.job and not process.running()
        ]

    def runs(self, name: str) -> bool:
        """Whether the component of that name was started and has not ended."""
        return any(component.name == name and process.running() for component, process in self._processes)

    def last_line(self, name: str) -> str:
        """The last line that the component of that name printed."""
        return next(self._last_line(component) for component in self.components if component.name == name)

    def join(self, component: Component) -> None:
        """Start one more component beside those that run, and wait until it is ready.

        Raises:
            ServescopeError: it did not start; nothing is left of it, and the others run on.
        """
        self._prepare([component])
        try:
            self._start(component)
        except ServescopeError:
            joined, process = self._processes[-1]
            if joined is component:
                self._remember_descendants(process)
                with contextlib.suppress(ExecutorError):
                    process.stop()
                del self._processes[-1]
            raise
        self.components.append(component)

    def processes(self) -> list[psutil.Process]:
        """The process group leaders of the components."""
        pids = [process.process.pid for _, process in self._processes if process.process is not None]
        return [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]

    def stop(self) -> None:
        """Stop every process that was started here, the last one first, and nothing else."""
        with uninterrupted():  # a second Ctrl-C would leave the rest running
            for _, process in reversed(self._processes):
                self._remember_descendants(process)
                with contextlib.suppress(ExecutorError):  # its exit status no longer matters
                    process.stop()
            self._processes.clear()
            self._end_descendants()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _check(self) -> None:
        directory = self.run.directory
        try:
            (directory / "logs").mkdir(parents=True, exist_ok=True)
            self._lock = (directory / "lock").open("w")
        except OSError as error:
            raise ServescopeError(f"{directory}: cannot write ({error.strerror})") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            self._lock = None
            raise ServescopeError(
                f"already running in {directory}: stop that run first (Ctrl-C in its terminal)"
            ) from None
        free = shutil.disk_usage(directory).free
        if free < FREE_DISK_BYTES:
            raise ServescopeError(
                f"{directory}: {free / 1e9:.1f} GB of disk free, {FREE_DISK_BYTES / 1e9:.1f} GB are needed for the "
                "time series and logs: free some, or choose another directory with DEMO_DIR"
            )
        self._prepare(self.components)

    def _prepare(self, components: Sequence[Component]) -> None:
        for component in components:
            require(component.command[0])
            for port in component.ports:
                check_port(port, component)
        try:
            for component in components:
                if component.prepare:
                    component.prepare()
        except OSError as error:
            raise ServescopeError(f"{error.filename}: cannot write ({error.strerror})") from error

    def _start(self, component: Component) -> None:
        with self.log(component).open("wb") as log:
            process = _Process(component, log)
            try:
                if component.once:
                    self._run_once(component, log)
                else:
                    self._processes.append((component, process))
                    process.start()
                    return
            except ExecutorError as error:
                how = (
                    "ended" if isinstance(error, ProcessExitedWithError) else f"not ready in {component.timeout_s:g} s"
                )
                raise ServescopeError(
                    f"{component.name} did not start ({how}): {self._last_line(component)} [{self.log(component)}]"
                ) from error
        self._await(component)

    def _run_once(self, component: Component, log: IO[bytes]) -> None:
        environment = {**os.environ, **component.env}
        command = list(component.command)
        try:
            done = subprocess.run(
                command, stdout=log, stderr=subprocess.STDOUT, env=environment, timeout=component.timeout_s, check=False
            )
        except subprocess.TimeoutExpired:
            raise ServescopeError(
                f"{component.name} did not exit within {component.timeout_s:g} s: {self._last_line(component)} "
                f"[{self.log(component)}]"
            ) from None
        if done.returncode:
            program = Path(command[0]).name
            raise ServescopeError(
                f"{component.name}: {program} failed: {self._last_line(component)} [{self.log(component)}]"
            )

    def _await(self, component: Component) -> None:
        deadline = time.monotonic() + component.timeout_s
        while not component.ready():
            dead = self.dead()
            if dead:
                raise ServescopeError(f"{component.name} did not start, because {dead[0]}")
            if time.monotonic() > deadline:
                raise ServescopeError(
                    f"{component.name} did not start (not ready in {component.timeout_s:g} s) [{self.log(component)}]"
                )
            time.sleep(0.5)

    def _last_line(self, component: Component) -> str:
        try:
            text = self.log(component).read_text(errors="replace")
        except OSError:
            return "no output"
        return last_words(text) or "no output"

    def _remember_descendants(self, process: _Process) -> None:
        """Ray's workers change their process title, which erases mirakuru's mark, so they are tracked by pid."""
        if process.process is None:
            return
        try:
            for child in psutil.Process(process.process.pid).children(recursive=True):
                self._descendants[child.pid] = child.create_time()
        except psutil.Error:
            pass  # already exited

    def _end_descendants(self) -> None:
        left = []
        for pid, started_at in self._descendants.items():
            try:
                process = psutil.Process(pid)
                if process.create_time() == started_at:  # not a later process with the same pid
                    left.append(process)
            except psutil.Error:
                continue
        # Workers exit by themselves within a second or two of their raylet.
        _, alive = psutil.wait_procs(left, timeout=5)
        for process in alive:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(alive, timeout=5)
        self._descendants.clear()
