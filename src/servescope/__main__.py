"""Entry point of the `servescope` command: an error that a user can fix is one line on stderr and exit code 1."""

from __future__ import annotations

import sys

from servescope import __version__
from servescope.errors import ServescopeError

WHEEL = f"servescope-{__version__}-py3-none-any.whl"  # of a release; no package index has it
# The extra in pyproject.toml with all that a command imports. Several have typer, so the module does not identify it.
EXTRAS = {
    "dashboards": "generate",
    "rules": "generate",
    "generate": "generate",
    "trace": "generate",
    "lint": "lint",
    "exporter": "exporter",
    "snapshot": "snapshot",
    "preview": "snapshot",
}


def main() -> None:
    """Run the command line."""
    try:
        from servescope.cli import app

        app()
    except ServescopeError as error:
        print(f"servescope: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except ModuleNotFoundError as error:
        if not error.name or error.name.startswith("servescope"):
            raise
        command = next((argument for argument in sys.argv[1:] if argument in EXTRAS), "generate")
        extra = EXTRAS[command]
        print(
            f"servescope: the Python package {error.name} is missing; install the extra {extra}: "
            f"pip install '.[{extra}]' in a clone, or pip install './{WHEEL}[{extra}]'",
            file=sys.stderr,
        )
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
