"""What demo/Dockerfile installs is what the tests ran with."""

from __future__ import annotations

import re

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


@pytest.mark.parametrize("name", ["demo.txt", "demo-gpu.txt"])
def test_every_line_is_pinned_and_hashed(name):
    text = (ROOT / "requirements" / name).read_text()
    blocks = re.split(r"\n(?=[a-z])", text.strip())
    assert len(blocks) > 100
    for block in blocks:
        assert re.match(r"[a-z0-9_.-]+(\[[^]]*\])?==\S+", block), block
        assert "--hash=sha256:" in block, block
    assert "://" not in text


def test_the_image_has_the_versions_of_the_tests():
    dev = versions("dev.txt")
    by_package: dict[str, set[str]] = {}
    for (package, _), version in dev.items():
        by_package.setdefault(package, set()).add(version)
    demo = versions("demo.txt")
    assert {package for package, _ in demo} <= packages("dev.txt")
    for (package, _), version in demo.items():
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
