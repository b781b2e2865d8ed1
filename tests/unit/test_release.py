"""The files of a release, and one version for all of them."""

from __future__ import annotations

import email
import hashlib
import subprocess
import sys
import tarfile
import zipfile

import pytest
import tomllib

import servescope
from demo import ROOT
from scripts import release

CHANGELOG = """# Changelog

## [Unreleased]

## [0.2.0] - 2026-12-01

### Added

- One thing.

## [0.1.0]

- The first.
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


# ---------------------------------------------------------------------------------------------------------------------
# The version


def test_the_command_prints_the_versions():
    done = run("-m", "servescope", "--version")
    assert (done.returncode, done.stderr) == (0, "")
    python = ".".join(map(str, sys.version_info[:3]))
    assert done.stdout.startswith(f"servescope {servescope.__version__} (Python {python}, Ray ")


def test_the_command_reports_that_ray_is_missing():
    code = """
import importlib.metadata as metadata
def version(name): raise metadata.PackageNotFoundError(name)
metadata.version = version
from servescope.cli import app
app(["--version"])
"""
    done = run("-c", code)
    assert done.stdout.endswith(", no Ray)\n"), done.stderr


def test_the_version_is_defined_in_one_place():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" not in project["project"]
    assert project["tool"]["hatch"]["version"]["path"] == "src/servescope/__init__.py"
    assert servescope.__version__.count(".") == 2


@pytest.mark.parametrize("tag", ["v0.2.0", "0.1.0", "v0.1.0-rc1", "main"])
def test_another_tag_is_refused(tag):
    with pytest.raises(release.ReleaseError, match=r"tag it v0\.1\.0"):
        release.check_tag(tag, "0.1.0")


def test_the_right_tag_passes():
    release.check_tag("v0.1.0", "0.1.0")


# ---------------------------------------------------------------------------------------------------------------------
# Notes


@pytest.mark.parametrize(
    ("version", "notes"), [("0.2.0", "### Added\n\n- One thing.\n"), ("0.1.0", "- The first.\n")], ids=str
)
def test_the_notes_are_the_versions_section(version, notes):
    assert release.notes(CHANGELOG, version) == notes


@pytest.mark.parametrize("version", ["Unreleased", "0.3.0", "0.1", "0x1.0"])
def test_a_version_without_a_section_is_refused(version):
    with pytest.raises(release.ReleaseError, match=": no text below"):
        release.notes(CHANGELOG, version)


def test_the_command_prints_notes_and_refuses_a_wrong_tag():
    assert run("-m", "scripts.release", "--notes").stdout.startswith("The first release.\n\n### Added\n")
    done = run("-m", "scripts.release", "--tag", "v9.9.9")
    assert done.returncode == 1
    assert done.stderr.startswith("release: the tag is v9.9.9, but ")


# ---------------------------------------------------------------------------------------------------------------------
# Files


def test_the_archive_holds_what_a_user_loads(tmp_path):
    files = release.configuration_files()
    for name in (
        "dashboards/servescope-overview.json",
        "dashboards/recorded/servescope-overview.json",
        "alerts/servescope-alerts.yml",
        "alerts/servescope-recording.yml",
        "alerts/grafana/servescope-alerts.yml",
        "alertmanager/example.yml",
        "LICENSE",
    ):
        assert files[name] == ROOT / name
    assert [name for name in files if name.startswith("alerts/") and ("tests" in name or "slo" in name)] == []
    target = tmp_path / "servescope-config-1.2.3.tar.gz"
    release.archive(files, target)
    with tarfile.open(target) as tar:
        assert tar.getnames() == sorted(f"servescope-config-1.2.3/{name}" for name in files)
        member = tar.extractfile("servescope-config-1.2.3/alerts/servescope-alerts.yml")
        assert member is not None
        assert member.read() == (ROOT / "alerts/servescope-alerts.yml").read_bytes()


def test_an_archive_has_the_same_bytes_each_time(tmp_path):
    program = tmp_path / "otelcol"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (tmp_path / "text").write_text("x")
    digests = set()
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        target = tmp_path / folder / "x.tar.gz"
        release.archive({"otelcol": program, "text": tmp_path / "text"}, target)
        digests.add(hashlib.sha256(target.read_bytes()).hexdigest())
        program.touch()
        assert target.read_bytes()[4:8] == bytes(4), "gzip's own time"
    assert len(digests) == 1
    with tarfile.open(target) as tar:
        assert [(m.name, m.mode, m.mtime, m.uid) for m in tar] == [
            ("x/otelcol", 0o755, 0, 0),
            ("x/text", 0o644, 0, 0),
        ]


def test_the_collector_comes_with_its_configurations(tmp_path):
    (tmp_path / "otelcol").write_text("")
    names = set(release.collector_files(tmp_path / "otelcol"))
    assert {"otelcol", "collector.yaml", "logs.yaml", "LICENSE"} <= names
    assert "builder.yaml" not in names
    with pytest.raises(release.ReleaseError, match=r"setup\.sh collector"):
        release.collector_files(tmp_path / "none")


def test_the_checksums_are_what_sha256sum_reads(tmp_path):
    (tmp_path / "servescope-b").write_text("b")
    (tmp_path / "servescope-a").write_text("a")
    release.write_checksums(tmp_path)
    lines = (tmp_path / "SHA256SUMS").read_text().splitlines()
    assert lines == [f"{hashlib.sha256(name.encode()).hexdigest()}  servescope-{name}" for name in "ab"]
    check = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    assert subprocess.run(check, cwd=tmp_path, check=False).returncode == 0
    (tmp_path / "servescope-a").write_text("other")
    assert subprocess.run(check, cwd=tmp_path, check=False, capture_output=True).returncode == 1


# What `servescope logs` runs to read Ray's own log files.
READ_BY_LUA = {
    f"fluentbit/{path.name}" for path in (*(ROOT / "fluentbit").glob("*.lua"), ROOT / "fluentbit/parsers.yaml")
}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    release.build_package(folder)
    return folder


def test_the_wheel_says_who_it_is(built):
    (wheel,) = built.glob("*.whl")
    assert wheel.name == f"servescope-{servescope.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as packed:
        names = set(packed.namelist())
        (metadata,) = [name for name in names if name.endswith(".dist-info/METADATA")]
        said = email.message_from_bytes(packed.read(metadata))
    sources = {
        str(path.relative_to(ROOT / "src"))
        for path in (ROOT / "src/servescope").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    sources |= {f"servescope/{name}" for name in READ_BY_LUA}
    assert {name for name in names if not name.split("/")[0].endswith(".dist-info")} == sources
    assert "servescope/py.typed" in names
    assert said["Version"] == servescope.__version__
    assert said["License-Expression"] == "Apache-2.0"
    assert said["Description-Content-Type"] == "text/markdown"
    assert said.get_payload() == (ROOT / "README.md").read_text()
    versions = {name.split(" :: ")[-1] for name in said.get_all("Classifier", []) if name.count("3.") == 1}
    assert versions == {"3.10", "3.11", "3.12", "3.13"}
    assert said["Requires-Python"] == ">=3.10"
    links = dict(line.split(", ") for line in said.get_all("Project-URL", []))
    assert set(links) == {"Repository", "Documentation", "Changelog", "Issues"}
    assert all(link.startswith(links["Repository"]) for link in links.values())


def test_the_sdist_has_what_the_wheel_is_made_of_and_no_more(built):
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    outside = {name for name in names if not name.startswith("src/servescope/")}
    assert outside == READ_BY_LUA | {"LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml", "PKG-INFO", ".gitignore"}
