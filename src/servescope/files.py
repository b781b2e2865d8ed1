"""Atomic writes of generated files."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path

from servescope.errors import ServescopeError


def write_all(files: Mapping[Path, str]) -> list[Path]:
    """Write every file by replacing it atomically; nothing is replaced unless all of them could be written.

    A new file gets the permissions that the umask leaves; an existing one keeps its own. Returns the paths whose
    content changed.

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
            temporary = str(path.parent / f".{path.name}.{secrets.token_hex(8)}")
            mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else None
            # Opened with 0666, so that the system applies the umask; never wider than the file that it replaces.
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else mode & 0o600)
            staged.append((temporary, path))
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                if mode is not None:
                    os.fchmod(file.fileno(), mode)
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
