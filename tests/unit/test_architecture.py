"""The layers: the page shows what the imports are, and the lint refuses what goes against them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from demo import ROOT
from scripts import architecture, check_constructors
from servescope.rules.alert import Alert


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{folder / 'src'}{os.pathsep}{folder}"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for name in ("src", "demo"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_page_shows_the_layers_as_they_are():
    text = architecture.PAGE.read_text(encoding="utf-8")
    assert architecture.section() in text, "docs/architecture.md is stale: make generate"


def test_the_layers_hold_and_a_planted_import_against_them_is_refused(copy):
    assert lint_imports(copy).returncode == 0
    planted = copy / "src/servescope/promql/capacity.py"
    planted.write_text(planted.read_text(encoding="utf-8") + "\nfrom servescope.dashboards import common\n")
    refused = lint_imports(copy)
    assert refused.returncode == 1
    assert "servescope.promql.capacity -> servescope.dashboards" in refused.stdout


def test_every_sentence_of_the_page_is_one():
    for layer in architecture.layers():
        for name in layer:
            assert architecture.sentence(name).endswith("."), name


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("@dataclass\nclass A:\n a: int\n b: int\n c: int\n", []),
        ("@dataclass\nclass A:\n a: int\n b: int\n c: int\n d: int\n", ["dataclass A takes 4 fields by position"]),
        ("@dataclass(frozen=True, kw_only=True)\nclass A:\n a: int\n b: int\n c: int\n d: int\n", []),
        ("@dataclass\nclass A:\n a: int\n _: KW_ONLY\n b: int\n c: int\n d: int\n", []),
        ('A = (*("a", "b"), "c")\n', ["a tuple unpacked in place"]),
        ("A = (*(name for name in B), 'c')\n", []),
    ],
)
def test_constructors_that_do_not_say_what_they_are_given_are_refused(source, found):
    sentences = [sentence for _, sentence in check_constructors.complaints(source)]
    assert [sentence.split(":")[0] for sentence in sentences] == found


def test_an_alert_takes_nothing_by_position():
    with pytest.raises(TypeError, match="positional"):
        Alert("RayServeExample", "warning", "5m")
