"""The environment variables of a run: PORT_BASE and DEMO_DIR."""

from __future__ import annotations

import os
from pathlib import Path

from demo import ROOT
from demo.stack.ports import DEFAULT_PORTS, Ports
from servescope.errors import ServescopeError


def directory_from_environment(name: str) -> Path:
    """The directory for a run's logs and data: in the repository, or DEMO_DIR."""
    return Path(os.environ.get("DEMO_DIR") or ROOT / ".servescope" / name).absolute()


def ports_from_environment() -> Ports:
    """The default ports, or a separate set starting at PORT_BASE.

    Raises:
        ServescopeError: PORT_BASE is not a number that leaves room for a thousand ports.
    """
    text = os.environ.get("PORT_BASE", "")
    if not text:
        return DEFAULT_PORTS
    if not text.isdigit() or not 1024 <= int(text) <= 64000:
        raise ServescopeError(f"PORT_BASE: expected a port between 1024 and 64000, got {text!r}")
    return Ports.from_base(int(text))
