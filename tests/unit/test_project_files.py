"""The files around the code (workflows, issue forms, Renovate, pre-commit, policies) parse and name what exists."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import tomllib
import yaml

from demo import ROOT
from servescope.dashboards import all_dashboards
from servescope.settings import Settings
from tests.support import markdown

GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
FORMS = sorted(path for path in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")
WORKFLOW = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
FORM = pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
# What GitHub gives every new repository.
LABELS = {
    "bug",
    "documentation",
    "duplicate",
    "enhancement",
    "good first issue",
    "help wanted",
    "invalid",
    "question",
    "wontfix",
}


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


# ---------------------------------------------------------------------------------------------------------------------
# Workflows


def test_the_workflows():
    assert [path.stem for path in WORKFLOWS] == ["ci", "compose", "release"]


@WORKFLOW
def test_a_workflow_may_do_little_and_ends(path):
    document = load(path)
    assert document["permissions"] == {"contents": "read"}
    assert "${{ github.ref }}" in document["concurrency"]["group"]
    assert document["concurrency"]["group"].startswith(f"{path.stem}-")
    for name, job in document["jobs"].items():
        assert 5 <= job["timeout-minutes"] <= 90, name


@WORKFLOW
def test_actions_are_named_by_digest(path):
    used = re.findall(r"uses: (\S+)(.*)", path.read_text())
    assert used
    for action, comment in used:
        assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", action), action
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment), f"{action}: the version for a reader and for Renovate"


def test_one_action_has_one_version():
    versions: dict[str, set[str]] = {}
    for path in WORKFLOWS:
        for action, version in re.findall(r"uses: (\S+)@(.*)", path.read_text()):
            versions.setdefault(action, set()).add(version)
    assert {action for action, found in versions.items() if len(found) > 1} == set()


@WORKFLOW
def test_what_a_workflow_runs_is_there(path):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for job in load(path)["jobs"].values():
        for step in job["steps"]:
            for target in re.findall(r"^\s*make ([a-z-]+)", step.get("run", ""), re.MULTILINE):
                assert target in targets, target
            for script in re.findall(r"(?<![\w/])(?:scripts|\.ci)/[\w./]+", step.get("run", "")):
                assert (ROOT / script).is_file(), script


def test_actionlint_takes_the_workflows():
    program = ROOT / ".tools/bin/actionlint"
    if not program.is_file():
        pytest.skip("no actionlint in .tools/bin: make lint-workflows builds it where Go is")
    done = subprocess.run([program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_matrix_is_the_classifiers():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    claimed = [name.rpartition(" ")[2] for name in project["classifiers"] if re.search(r":: 3\.\d+$", name)]
    assert load(GITHUB / "workflows/ci.yml")["jobs"]["pythons"]["strategy"]["matrix"]["python"] == claimed
    assert project["requires-python"] == f">={claimed[0]}"


def test_a_release_waits_for_everything_and_publishes_our_images():
    document = load(GITHUB / "workflows/release.yml")
    assert document[True] == {"push": {"tags": ["v*"]}}  # YAML 1.1 reads `on` as true
    jobs = document["jobs"]
    assert set(jobs["release"]["needs"]) == {"files", "images"}
    assert {name: job.get("permissions") for name, job in jobs.items()} == {
        "files": None,
        "images": {"contents": "read", "packages": "write"},
        "release": {"contents": "write"},
    }
    (names,) = re.findall(r"for name in ([a-z ]+); do", jobs["images"]["steps"][-1]["run"])
    services = load(ROOT / "docker-compose.yml")["services"].values()
    built = {service["image"] for service in services if "build" in service}
    assert built == {f"servescope-{name}" for name in names.split()}


# ---------------------------------------------------------------------------------------------------------------------
# Issue forms


def test_the_forms():
    assert [path.stem for path in FORMS] == ["alert", "bug", "wrong-panel"]
    config = load(GITHUB / "ISSUE_TEMPLATE/config.yml")
    assert config["blank_issues_enabled"] is False


@FORM
def test_a_form_is_whole(path):
    form = load(path)
    assert set(form) == {"name", "description", "title", "labels", "body"}
    assert set(form["labels"]) <= LABELS
    ids = [field["id"] for field in form["body"]]
    assert len(ids) == len(set(ids))
    for field in form["body"]:
        assert field["type"] in ("input", "textarea", "dropdown")
        assert field["attributes"]["label"]
        assert (field["type"] == "dropdown") == ("options" in field["attributes"])
        assert isinstance(field.get("validations", {}).get("required", False), bool)
    text = path.read_text()
    assert "servescope --version" in text
    for name in re.findall(r"\bdocs/[\w./-]+\.md", text):
        assert (ROOT / name).is_file(), name


def test_the_form_for_panels_offers_every_dashboard():
    (field,) = [
        field for field in load(GITHUB / "ISSUE_TEMPLATE/wrong-panel.yml")["body"] if field["id"] == "dashboard"
    ]
    assert field["attributes"]["options"] == [board.uid for board in all_dashboards(Settings())]


# ---------------------------------------------------------------------------------------------------------------------
# Everything else


def test_the_repository_has_one_address():
    address = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
    owner = address.rpartition("/")[0]
    files = [*GITHUB.rglob("*"), *(ROOT / name for name in ("SECURITY.md", "CODE_OF_CONDUCT.md", "mkdocs.yml"))]
    found = 0
    for path in files:
        if path.is_file():
            for other in re.findall(r"https://github\.com/[\w.-]+/[\w.-]+", path.read_text()):
                assert other == address, path
                found += 1
    assert found >= 4
    groups = re.findall(r"@([\w.-]+)/", (GITHUB / "CODEOWNERS").read_text())
    assert {f"https://github.com/{group}" for group in groups} == {owner}
    for name, page in (("docs/runbooks/README.md", "config.yml"),):
        assert f"{address}/blob/main/{name}" in (GITHUB / "ISSUE_TEMPLATE" / page).read_text()
        assert (ROOT / name).is_file()


def test_owned_paths_exist():
    lines = (GITHUB / "CODEOWNERS").read_text().splitlines()
    owned = [line.split()[0] for line in lines if line and not line.startswith("#")]
    assert owned[0] == "*"
    for path in owned[1:]:
        assert path.startswith("/")
        assert (ROOT / path.strip("/")).is_dir(), path


@pytest.mark.parametrize("name", ["SECURITY.md", "CODE_OF_CONDUCT.md", ".github/pull_request_template.md"])
def test_links_of_the_policies_lead_somewhere(name):
    page = markdown.read(ROOT / name)
    for link in page.links:
        if link.relative:
            assert (page.path.parent / link.path).is_file(), link.target
        else:
            assert link.target.startswith(("https://", "mailto:")), link.target


def test_pre_commit_runs_what_lint_runs():
    (repo,) = load(ROOT / ".pre-commit-config.yaml")["repos"]
    assert repo["repo"] == "local", "nothing is downloaded"
    assert [hook["id"] for hook in repo["hooks"]] == ["ruff", "ruff-format", "generated"]
    makefile = (ROOT / "Makefile").read_text().replace("$(RUN)", ".venv/bin")
    for hook in repo["hooks"]:
        assert hook["language"] == "system"
        program, action, *_ = shlex.split(hook["entry"])
        assert f"{program} {action}" in makefile
        if "files" in hook:
            assert re.match(hook["files"], "dashboards/servescope-overview.json")
            assert re.match(hook["files"], "src/servescope/settings.py")


def test_the_editor_and_ruff_agree():
    config = configparser.ConfigParser()
    config.read_string("[top]\n" + (ROOT / ".editorconfig").read_text())
    ruff = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]
    assert config["*.py"]["max_line_length"] == str(ruff["line-length"])
    assert config["Makefile"]["indent_style"] == "tab"


def test_renovate_covers_python_and_the_pins_of_setup():
    rules = json.loads((ROOT / "renovate.json").read_text())
    assert rules["enabledManagers"] == ["custom.regex", "github-actions", "gomod", "pep621", "pip_requirements"]
    (pattern,) = rules["pip_requirements"]["managerFilePatterns"]
    for path in (ROOT / "requirements").iterdir():
        assert re.search(pattern.strip("/"), f"requirements/{path.name}")
    script = (ROOT / "scripts/setup.sh").read_text()
    pins = dict(re.findall(r"^([A-Z_]+_VERSION)=(\S+)$", script, re.MULTILINE))
    found = {}
    for manager in rules["customManagers"]:
        if manager["managerFilePatterns"] == [r"/^scripts\/setup\.sh$/"]:
            (expression,) = manager["matchStrings"]
            assert manager["datasourceTemplate"] in ("repology", "npm", "go")
            (found[expression.partition("=")[0]],) = re.findall(expression.replace("(?<", "(?P<"), script)
    assert found == pins
    backends = {"VICTORIA_LOGS_VERSION", "VICTORIA_METRICS_VERSION", "JAEGER_VERSION"}
    assert set(pins) == {"COMPOSE_VERSION", "MERMAID_VERSION", "ACTIONLINT_VERSION", *backends}
