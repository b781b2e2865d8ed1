"""The command in this process, as `python -m servescope` runs it: exit code, output, and lines on stderr."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from servescope.__main__ import run


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


def servescope(*arguments: str | Path) -> Ended:
    """Run a command; its output has to be UTF-8, as in a terminal or a pipe."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors=errors) for errors in ("strict", "replace"))
    with redirect_stdout(out), redirect_stderr(err):
        code = run([str(argument) for argument in arguments])
    texts = []
    for stream in (out, err):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode())
    return Ended(code, *texts)


def assert_known(ended: Ended) -> None:
    """A command succeeded, or reported one known mistake in one line; an internal error (70) is a bug."""
    assert ended.code in (0, 1), ended.err
    if ended.code:
        assert ended.err.startswith("servescope: "), ended.err
        assert ended.err.count("\n") == 1, ended.err
