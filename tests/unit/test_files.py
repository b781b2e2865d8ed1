"""Generated files are replaced whole, and nobody may read them whom the umask or the file's own mode keeps out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from servescope.files import write_all


@pytest.fixture(params=[0o002, 0o022, 0o027, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_a_new_file_follows_the_umask(tmp_path, umask):
    path = tmp_path / "new" / "snapshot.html"
    assert write_all({path: "a"}) == [path]
    assert mode(path) == 0o666 & ~umask


@pytest.mark.parametrize("kept", [0o600, 0o640, 0o664])
def test_an_existing_file_keeps_its_mode(tmp_path, umask, kept):
    path = tmp_path / "snapshot.html"
    path.write_text("old")
    path.chmod(kept)
    write_all({path: "new"})
    assert (path.read_text(), mode(path)) == ("new", kept)
    assert os.listdir(tmp_path) == ["snapshot.html"]
