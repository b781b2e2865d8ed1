"""Atomic writes of generated files."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from servescope.errors import ServescopeError


def write_all(files: Mapping[Path, str]) -> list[Path]:
    """Write every file by replacing it atomically; nothing is replaced unless all of them could be written.

    Returns the paths whose content changed.

    Raises:
        ServescopeError: a directory cannot be created or a file cannot be written; the old files are unchanged.
    """
    staged: list[tuple[str, Path]] = []
    changed = []
    try:
        for path, text in files.items():
            content = text.encode()
            if path.is_file() and path.read_bytes() == content:
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
            staged.append((temporary, path))
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.chmod(temporary, 0o644)
            changed.append(path)
        for temporary, path in staged:
            os.replace(temporary, path)
    except OSError as error:
        raise ServescopeError(f"{path}: cannot write ({error.strerror})") from error
    finally:
        for temporary, _ in staged:
            if os.path.exists(temporary):
                os.unlink(temporary)
    return changed
