"""The Serve config file of a run: which one, and what it holds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from demo import ROOT
from servescope.errors import ServescopeError

DEFAULT_SERVE_CONFIG = ROOT / "demo/serve_config.yaml"


def path_from_environment() -> Path:
    """The file that SERVE_CONFIG names, or the demo's own."""
    return Path(os.environ.get("SERVE_CONFIG", DEFAULT_SERVE_CONFIG))


def read_serve_config(path: Path) -> dict[str, Any]:
    """A Serve config file.

    Raises:
        ServescopeError: it cannot be read, or it is none.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ServescopeError(f"{path}: cannot read it ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ServescopeError(f"{path}: is no YAML ({' '.join(str(error).split())})") from error
    if not isinstance(document, dict) or not document.get("applications"):
        raise ServescopeError(f"{path}: names no applications; is it a Serve config file?")
    return document
