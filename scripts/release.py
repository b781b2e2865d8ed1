"""The files of a release: `python -m scripts.release [--tag v0.1.0] [--collector .tools/otelcol]`.

Wheel and sdist, the dashboards, rules and Alertmanager configurations as one archive, the Collector if it is given, and
a SHA256SUMS of all of them. The archives hold the same bytes each time. `--notes` prints the release's notes instead,
which are the version's section of CHANGELOG.md.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import platform
import re
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

from servescope import __version__

ROOT = Path(__file__).resolve().parents[1]
CHECKSUMS = "SHA256SUMS"
_NOT_FOR_USERS = ("alerts/tests/",)  # promtool's tests of the rules
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


class ReleaseError(Exception):
    """The release cannot be built; the message says why."""


def notes(changelog: str, version: str) -> str:
    """The section of a version in a changelog, without its heading.

    Raises:
        ReleaseError: there is none, or it is empty.
    """
    section = re.search(rf"^## \[{re.escape(version)}\][^\n]*\n(.*?)(?=^## |\Z)", changelog, re.DOTALL | re.MULTILINE)
    text = section.group(1).strip() if section else ""
    if not text:
        raise ReleaseError(f"CHANGELOG.md: no text below '## [{version}]'")
    return f"{text}\n"


def check_tag(tag: str, version: str) -> None:
    """Compare a tag with the package's version.

    Raises:
        ReleaseError: they differ.
    """
    if tag != f"v{version}":
        raise ReleaseError(f"the tag is {tag}, but src/servescope/__init__.py says {version}: tag it v{version}")


def configuration_files() -> dict[str, Path]:
    """Files by path in the archive: what a user loads into Grafana, Prometheus and Alertmanager."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "dashboards", "alerts", "alertmanager", "LICENSE"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    names = [name for name in listed.stdout.decode().split("\0") if name]
    return {name: ROOT / name for name in names if not name.startswith(_NOT_FOR_USERS)}


def collector_files(program: Path) -> dict[str, Path]:
    """Files by path in the archive: the Collector and its configurations."""
    if not program.is_file():
        raise ReleaseError(f"{program}: no such file; `scripts/setup.sh collector` builds the Collector")
    return {"otelcol": program, "LICENSE": ROOT / "LICENSE"} | {
        path.name: path for path in (ROOT / "otel").glob("*.yaml") if path.name != "builder.yaml"
    }


def archive(files: Mapping[str, Path], target: Path) -> None:
    """Write a .tar.gz with the files in a directory of its name; reproducible, without times and users."""
    folder = target.name.removesuffix(".tar.gz")
    with (
        target.open("wb") as raw,
        gzip.GzipFile(fileobj=raw, mode="wb", filename="", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for name, path in sorted(files.items()):
            content = path.read_bytes()
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size = len(content)
            entry.mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
            tar.addfile(entry, io.BytesIO(content))


def build_package(folder: Path) -> None:
    """Write the sdist, and the wheel from it, with the build tools of requirements/build.txt."""
    uv = Path(sys.executable).with_name("uv")
    command: list[str | Path] = [uv, "build", "--quiet", "--out-dir", folder, "--no-create-gitignore"]
    command += ["--build-constraints", ROOT / "requirements/build.txt", "--require-hashes", ROOT]
    subprocess.run(command, check=True)


def write_checksums(folder: Path) -> None:
    """Write the hash of each file of a directory, in the format of `sha256sum --check`."""
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in sorted(folder.glob("servescope-*"))
    ]
    (folder / CHECKSUMS).write_text("".join(lines), encoding="utf-8")


def main() -> int:
    """Build all files; 0 on success."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--tag", help="the tag of the release; without it the notes may be the unreleased ones")
    parser.add_argument("--collector", type=Path, help="the built Collector, to archive")
    parser.add_argument("--notes", action="store_true", help="print the notes and build nothing")
    parser.add_argument("--output", "-o", type=Path, default=ROOT / "dist")
    given = parser.parse_args()
    try:
        changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
        if given.tag:
            check_tag(given.tag, __version__)
            text = notes(changelog, __version__)
        else:
            released = f"## [{__version__}]" in changelog
            text = notes(changelog, __version__ if released else "Unreleased")
        collector = collector_files(given.collector) if given.collector else {}
    except ReleaseError as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    if given.notes:
        print(text, end="")
        return 0
    given.output.mkdir(parents=True, exist_ok=True)
    for old in [*given.output.glob("servescope-*"), given.output / CHECKSUMS]:
        old.unlink(missing_ok=True)
    build_package(given.output)
    archive(configuration_files(), given.output / f"servescope-config-{__version__}.tar.gz")
    if collector:
        machine = _MACHINES.get(platform.machine(), platform.machine())
        archive(collector, given.output / f"servescope-otelcol-{__version__}-linux-{machine}.tar.gz")
    write_checksums(given.output)
    for path in sorted(given.output.iterdir()):
        print(f"{path.stat().st_size / 1e6:7.2f} MB  {path.name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
