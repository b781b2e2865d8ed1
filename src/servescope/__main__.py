"""Entry point of the `servescope` command: every error is one line on stderr and an exit code.

1: the user's input or environment, as the line says, or findings. 2: wrong usage of the command line. 70: an internal
error, which is a bug of servescope; with --debug or SERVESCOPE_DEBUG=1 its traceback comes first. 130: Ctrl-C.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import metadata

from servescope import __version__
from servescope.errors import ServescopeError

WHEEL = f"servescope-{__version__}-py3-none-any.whl"  # of a release; no package index has it
# The extra in pyproject.toml with all that a command imports. Several have typer, so the module does not identify it.
EXTRAS = {
    "dashboards": "generate",
    "rules": "generate",
    "generate": "generate",
    "trace": "generate",
    "logs": "logs",
    "lint": "lint",
    "exporter": "exporter",
    "snapshot": "snapshot",
    "preview": "snapshot",
}


FAILED, INTERNAL_ERROR, INTERRUPTED = 1, 70, 130
DEBUG = "--debug"


def run(arguments: Sequence[str]) -> int:
    """Run a command and return its exit code. Every exception ends here, as one line."""
    debug = DEBUG in arguments or os.environ.get("SERVESCOPE_DEBUG", "") not in ("", "0")
    for argument in arguments:
        if not _is_unicode(argument):
            _say(f"argument {argument!r}: not valid UTF-8")
            return FAILED
    try:
        from servescope.cli import app

        app(args=[argument for argument in arguments if argument != DEBUG], prog_name="servescope")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return FAILED  # the reader of the output, such as head, has read enough
    except ServescopeError as error:
        _say(str(error))
        return FAILED
    except Exception as error:  # a bug: users get a line, too, and a way to report it
        if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("servescope"):
            _say(_missing(error.name, arguments))
            return FAILED
        if debug:
            sys.excepthook(*sys.exc_info())
        _say(internal_error(error))
        return INTERNAL_ERROR
    return 0


def _is_unicode(text: str) -> bool:
    """Whether a text of the command line was UTF-8; Python keeps other bytes as halves of surrogate pairs."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def internal_error(error: Exception) -> str:
    """What to print for a bug."""
    try:
        urls = metadata.metadata("servescope").get_all("Project-URL") or []
    except metadata.PackageNotFoundError:
        urls = []
    issues = next((f": {url}" for name, _, url in (line.partition(", ") for line in urls) if name == "Issues"), "")
    cause = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return f"internal error: {cause} (run again with {DEBUG} for the traceback, and report it{issues})"


def _missing(package: str, arguments: Sequence[str]) -> str:
    command = next((argument for argument in arguments if argument in EXTRAS), "generate")
    extra = EXTRAS[command]
    return (
        f"the Python package {package} is missing; install the extra {extra}: "
        f"pip install '.[{extra}]' in a clone, or pip install './{WHEEL}[{extra}]'"
    )


def _say(text: str) -> None:
    print(f"servescope: {' '.join(text.splitlines())}", file=sys.stderr)


def main() -> None:
    """Run the command line."""
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes again as it exits
    raise SystemExit(code)


if __name__ == "__main__":
    main()
