"""Fail when a committed file is not what `make generate` would write, naming the first difference of each."""

from __future__ import annotations

import sys

from servescope.cli import commands
from servescope.generate import repository_files
from servescope.settings import Settings


def main() -> int:
    """Compare; 0 if everything is up to date."""
    stale = [
        path
        for path, text in repository_files(Settings(), commands()).items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]
    for path in stale:
        print(f"{path}: out of date; run `make generate` and commit the result", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
