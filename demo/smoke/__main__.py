"""`python -m demo.smoke`: the checks against the compose stack."""

from __future__ import annotations

import os
import sys

from demo.smoke.backends import addresses_from_environment
from demo.smoke.runner import report_results, run_checks
from servescope.errors import ServescopeError


def main() -> int:
    """Run the checks against the compose stack; 1 if a check fails."""
    text = os.environ.get("SMOKE_SECONDS", "300")
    try:
        within_s = float(text)
    except ValueError:
        raise ServescopeError(f"SMOKE_SECONDS: expected seconds, got {text!r}") from None
    missing = report_results(run_checks(addresses_from_environment(), within_s))
    if missing:
        print(f"smoke: {missing[0]}", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ServescopeError as error:
        sys.exit(f"smoke: {error}")
