"""Entry point of the `servescope` command: every failure a user can mend is one line on stderr and exit code 1."""

from __future__ import annotations

import sys

from servescope.errors import ServescopeError

# The extra in pyproject.toml that holds all that a command imports; several hold typer, so the module does not tell.
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
        print(
            f"servescope: the Python package {error.name} is missing; install the extra that holds it: "
            f"pip install 'servescope[{EXTRAS[command]}]'",
            file=sys.stderr,
        )
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
