"""Entry point of the `servescope` command: every failure a user can mend is one line on stderr and exit code 1."""

from __future__ import annotations

import sys

from servescope.errors import ServescopeError


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
        print(
            f"servescope: the Python package {error.name} is missing; install the extra of this command, "
            "for instance: pip install 'servescope[generate]'",
            file=sys.stderr,
        )
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
