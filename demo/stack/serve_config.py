"""The Serve config file of a run: its path and contents."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from demo import ROOT
from servescope.errors import ServescopeError

DEFAULT_SERVE_CONFIG = ROOT / "demo/serve_config.yaml"


def path_from_environment() -> Path:
    """The file in SERVE_CONFIG, or the demo's own."""
    return Path(os.environ.get("SERVE_CONFIG", DEFAULT_SERVE_CONFIG))


def read_serve_config(path: Path) -> dict[str, Any]:
    """A Serve config file.

    Raises:
        ServescopeError: it cannot be read or is not one.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ServescopeError(f"{path}: cannot read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ServescopeError(f"{path}: not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(document, dict) or not document.get("applications"):
        raise ServescopeError(f"{path}: no applications found; is it a Serve config file?")
    return document
