"""What demo/Dockerfile and exporter/Dockerfile install is what the tests ran with."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from demo import ROOT

LINE = re.compile(r"^([a-z0-9_.-]+)(?:\[[^]]*\])?==(\S+)((?: ; [^\\]+)?) \\$", re.MULTILINE)


def versions(name: str) -> dict[tuple[str, str], str]:
    """(package, marker) to version."""
    text = (ROOT / "requirements" / name).read_text()
    return {(package, marker.strip()): version for package, version, marker in LINE.findall(text)}


def packages(name: str) -> set[str]:
    return {package for package, _ in versions(name)}


# The one package that differs: the CPU's and the GPU's build exclude each other.
GPU_ONLY = {"onnxruntime-gpu"}


@pytest.mark.parametrize(("name", "least"), [("demo.txt", 100), ("demo-gpu.txt", 100), ("exporter.txt", 15)])
def test_every_line_is_pinned_and_hashed(name, least):
    text = (ROOT / "requirements" / name).read_text()
    blocks = re.split(r"\n(?=[a-z])", text.strip())
    assert len(blocks) > least
    for block in blocks:
        assert re.match(r"[a-z0-9_.-]+(\[[^]]*\])?==\S+", block), block
        assert "--hash=sha256:" in block, block
    assert "://" not in text


@pytest.mark.parametrize("name", ["demo.txt", "exporter.txt"])
def test_an_image_has_the_versions_of_the_tests(name):
    dev = versions("dev.txt")
    by_package: dict[str, set[str]] = {}
    for (package, _), version in dev.items():
        by_package.setdefault(package, set()).add(version)
    image = versions(name)
    assert {package for package, _ in image} <= packages("dev.txt")
    for (package, _), version in image.items():
        assert version in by_package[package], package


def test_the_gpu_image_differs_in_onnx_runtime_alone():
    cpu, gpu = versions("demo.txt"), versions("demo-gpu.txt")
    added = {key: version for key, version in gpu.items() if key not in cpu}
    assert all(package in GPU_ONLY or package.startswith("nvidia-") for package, _ in added)
    assert {package for package, _ in added} >= {"onnxruntime-gpu", "nvidia-cudnn-cu13", "nvidia-cublas"}
    assert {package for package, _ in cpu if (package, _) not in gpu} == {"onnxruntime"}
    for key in set(cpu) & set(gpu):
        assert cpu[key] == gpu[key], key


def test_the_image_has_what_it_runs():
    assert {
        "ray",
        "locust",
        "rapidocr",
        "opencv-python-headless",
        "prometheus-client",
        "opentelemetry-sdk",
    } <= packages("demo.txt")
    assert not {"playwright", "mypy", "ruff", "hypothesis"} & packages("demo.txt")


# ---------------------------------------------------------------------------------------------------------------------
# The exporter's image

MOST_BYTES = 35_000_000  # on top of the base


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """What exporter/Dockerfile lays into /opt/servescope."""
    folder = tmp_path_factory.mktemp("exporter") / "servescope"
    uv = Path(sys.executable).with_name("uv")
    command = [uv, "pip", "install", "--quiet", "--python", sys.executable, "--no-deps", "--require-hashes"]
    command += ["--compile-bytecode", "--link-mode=copy", "--target", folder]
    subprocess.run([*command, "-r", ROOT / "requirements/exporter.txt"], check=True)
    source = folder / "servescope"
    shutil.copytree(ROOT / "src/servescope", source, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([sys.executable, "-m", "compileall", "-q", source], check=True)
    return folder


def test_the_exporters_image_adds_at_most_35_mb(installed):
    size = sum(path.stat().st_size for path in installed.rglob("*") if path.is_file())
    print(f"the exporter's image adds {size / 1e6:.1f} MB to its base")
    assert 10_000_000 < size <= MOST_BYTES


def test_the_exporter_runs_with_nothing_else(installed):
    # -S: of this environment only the standard library.
    command = [sys.executable, "-S", "-m", "servescope", "exporter", "--once", "--address=http://127.0.0.1:1"]
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd="/")
    assert done.returncode == 1
    assert done.stderr.startswith("servescope: "), done.stderr
    assert "missing" not in done.stderr
    assert "refused" in done.stderr
    command[4:] = ["--version"]
    reported = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd="/").stdout
    assert reported.endswith(", no Ray)\n")


def test_the_exporters_image_has_nothing_of_the_demo():
    assert not {"ray", "locust", "onnxruntime", "opencv-python-headless", "grafanalib"} & packages("exporter.txt")
