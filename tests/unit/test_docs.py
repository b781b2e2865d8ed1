"""The documentation holds: links and anchors lead somewhere, commands exist, code parses, names are real.

Each checker returns what it found wrong as a list of lines; each has a case below that it must refuse.
"""

from __future__ import annotations

import ast
import importlib
import json
import re
import subprocess
import warnings
from dataclasses import asdict
from functools import cache
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import typer
import yaml
from typer.testing import CliRunner

from demo import ROOT
from demo.stack.ports import Ports
from servescope import settings as settings_module
from servescope.catalog import METRICS
from servescope.cli import app
from servescope.dashboards import all_dashboards
from servescope.errors import ServescopeError
from servescope.pages import runbooks
from servescope.promql.layout import lay_out
from servescope.promql.lint import check
from servescope.rules.slo import objectives
from servescope.settings import Settings
from tests.support import markdown
from tests.support.markdown import Page
from tests.support.project import PROJECT

SETTINGS = Settings()
BOARDS = {board.uid: board for board in all_dashboards(SETTINGS)}
ALERTS = {alert.name for group in runbooks.all_groups(SETTINGS) for alert in group.alerts}
PICTURES = ROOT / "docs/pictures"
DASHBOARD_PAGES = ROOT / "docs/dashboards"

PATHS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = {path: markdown.read(path) for path in PATHS}
PAGE = pytest.mark.parametrize("page", [pytest.param(p, id=str(path.relative_to(ROOT))) for path, p in PAGES.items()])


def page_of(text: str, name: str = "docs/example.md") -> Page:
    """A page at a path of the repository."""
    return markdown.parse(text, ROOT / name)


# ---------------------------------------------------------------------------------------------------------------------
# Links


def broken_links(page: Page) -> list[str]:
    """Links to no file, to no anchor, out of the repository, or not over TLS."""
    findings = []
    for link in page.links:
        if not link.relative:
            if urlsplit(link.target).scheme != "https" and urlsplit(link.target).hostname != "localhost":
                findings.append(f"{link.target}: not https")
            continue
        target = (page.path.parent / link.path).resolve()
        if not link.path:
            findings += [] if link.anchor in page.anchors else [f"{link.target}: no such anchor"]
        elif link.path.startswith("/") or not target.is_relative_to(ROOT):
            findings.append(f"{link.target}: leaves the repository")
        elif target.is_relative_to(PICTURES) and not PICTURES.exists():
            continue  # `make pictures` draws them
        elif not target.exists():
            findings.append(f"{link.target}: no such file")
        elif link.anchor:
            known = markdown.read(target).anchors if target.suffix == ".md" else set()
            if link.anchor not in known:
                findings.append(f"{link.target}: no such anchor")
    return findings


@PAGE
def test_every_link_and_anchor_resolves(page):
    assert broken_links(page) == []


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("[x](nowhere.md)", "nowhere.md: no such file"),
        ("![x](nowhere.svg)", "nowhere.svg: no such file"),
        ("[x](slo.md#nothing)", "slo.md#nothing: no such anchor"),
        ("# A\n[x](#b)", "#b: no such anchor"),
        ("[x](../mkdocs.yml#L3)", "../mkdocs.yml#L3: no such anchor"),
        ("[x](../../elsewhere.md)", "../../elsewhere.md: leaves the repository"),
        ("[x](/docs/slo.md)", "/docs/slo.md: leaves the repository"),
        ("[x](http://example.com)", "http://example.com: not https"),
        ("[a][b]\n\n[b]: nowhere.md", "nowhere.md: no such file"),
    ],
)
def test_a_link_that_leads_nowhere_is_found(text, finding):
    assert broken_links(page_of(text)) == [finding]


@pytest.mark.parametrize(
    "text",
    [
        "[x](slo.md#what-counts) [y](../README.md) [z](https://example.com)",
        "# A, B & `c_d`\n[x](#a-b--c_d)",
        "# A\n# A\n[x](#a-1)",
        "```\n[x](nowhere.md)\n```\n`[y](nowhere.md)`",
    ],
)
def test_a_good_link_is_not(text):
    assert broken_links(page_of(text)) == []


# ---------------------------------------------------------------------------------------------------------------------
# Commands

MAKE_HELP = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
MAKE_TARGETS = {line.split()[1] for line in MAKE_HELP.splitlines()}
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


EXTRAS = set(PROJECT["optional-dependencies"])
OWN_PACKAGE = re.compile(r"(?:servescope|\.)\[([^\]]*)\]")


@cache
def _their_cli(program: str) -> Any:
    """Ray's own commands, as click knows them; nothing is run."""
    module = {"ray": "ray.scripts.scripts", "serve": "ray.serve.scripts"}[program]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Ray's own models
        return importlib.import_module(module).cli


def bad_commands(page: Page) -> list[str]:
    """Targets that the Makefile does not list, commands and options that servescope or Ray do not know, extras that the
    package does not have, compose files that are not there.
    """
    findings = []
    try:
        found = list(page.commands())
    except ValueError as error:
        return [str(error)]
    for words in found:
        program, *arguments = words
        if program == "make":
            targets = [word for word in arguments if "=" not in word and not word.startswith("-")]
            findings += [f"make {target}: no such target" for target in targets if target not in MAKE_TARGETS]
        elif program.split("/")[-1] == "servescope" and arguments:
            problem = _refused(arguments)
            findings += [f"{' '.join(words)}: {problem}"] if problem else []
        elif program in ("ray", "serve"):
            problem = _unknown_to_ray(program, arguments)
            findings += [f"{' '.join(words)}: {problem}"] if problem else []
        elif program == "pip":
            named = [extra.strip() for found in OWN_PACKAGE.findall(" ".join(arguments)) for extra in found.split(",")]
            findings += [f"{' '.join(words)}: no extra {extra}" for extra in named if extra not in EXTRAS]
        elif program == "docker":
            files = [file for option, file in pairwise(arguments) if option in ("-f", "--file")]
            findings += [f"{' '.join(words)}: no file {file}" for file in files if not (ROOT / file).is_file()]
    return findings


def _unknown_to_ray(program: str, arguments: list[str]) -> str:
    """The first subcommand or option that Ray's command line does not have."""
    command = _their_cli(program)
    for word in takewhile(lambda word: word != "--", arguments):
        if word.startswith("--"):
            option = word.partition("=")[0]
            if option != "--help" and not any(option in (*p.opts, *p.secondary_opts) for p in command.params):
                return f"no option {option}"
        elif hasattr(command, "commands"):
            if word not in command.commands:
                return f"no command {word}"
            command = command.commands[word]
    return ""


def _refused(arguments: list[str]) -> str:
    """What servescope's own parser says against these arguments; nothing is run."""
    name, *rest = arguments
    if name in ("--help", "--version"):
        return ""
    if name not in COMMANDS:
        return f"no command {name}"
    try:
        COMMANDS[name].make_context(name, rest)
    except typer.Exit:
        return ""  # --help
    except Exception as error:  # typer's own copy of click has no public name for its usage errors
        return str(error)
    return ""


@PAGE
def test_every_command_exists(page):
    assert bad_commands(page) == []


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("```sh\nmake coffee\n```", "make coffee: no such target"),
        ("Run `make generate coffee`.", "make coffee: no such target"),
        ("```sh\ncd x && DURATION=1 make demo coffee  # now\n```", "make coffee: no such target"),
        ("```sh\nservescope brew\n```", "servescope brew: no command brew"),
        ("`servescope --coffee`", "servescope --coffee: no command --coffee"),
        ("`servescope rules --sloo x`", "servescope rules --sloo x: No such option: --sloo"),
        (
            "```sh\nservescope exporter \\\n  --once 3\n```",
            "servescope exporter --once 3: got unexpected extra argument",
        ),
        ("```sh\n.venv/bin/servescope exporter --port many\n```", "exporter --port many: "),
        ("```sh\necho 'open\n```", "a quote that is not closed: echo 'open"),
        ("```sh\npip install 'servescope[coffee]'\n```", "no extra coffee"),
        ("`pip install '.[generate, coffee]'`", "no extra coffee"),
        ("```sh\ndocker compose -f docker-compose.yml -f coffee.yml up\n```", "no file coffee.yml"),
        ("`serve brew`", "serve brew: no command brew"),
        ("```sh\nray start --head --coffee=1\n```", "no option --coffee"),
        ("`ray job brew`", "no command brew"),
    ],
)
def test_a_command_that_does_not_exist_is_found(text, finding):
    (found,) = bad_commands(page_of(text))
    assert finding.lower() in found.lower()


@pytest.mark.parametrize(
    "text",
    [
        "```sh\nDURATION=120 make demo  # it's over after that\n```",
        "```sh\nprintf 'a: b' > settings.yml && servescope rules --settings settings.yml -o alerts > log\n```",
        "`make generate test-unit`, `servescope exporter --help`, `servescope --version`",
        "```text\nmake coffee\n```",
        "`ray start --head`, `ray`, `serve deploy x.yaml`, `ray job submit --no-wait -- python --version`",
        "```sh\npip install 'servescope[snapshot,generate]' && pip install -r x\n```",
        "```sh\ndocker compose -f docker-compose.yml -f docker-compose.gpu.yml up\n```",
    ],
)
def test_a_good_command_is_not(text):
    assert bad_commands(page_of(text)) == []


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_describes_its_options(name):
    shown = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert shown.exit_code == 0
    assert [p.opts[0] for p in COMMANDS[name].params if p.opts[0] not in shown.output and p.name != "help"] == []


# ---------------------------------------------------------------------------------------------------------------------
# Code


def bad_code(page: Page) -> list[str]:
    """Fenced YAML, JSON, Python and PromQL that does not parse; our own settings and SLOs that are refused."""
    findings = []
    for language, content in page.fences:
        try:
            if language in ("yaml", "yml"):
                documents = list(yaml.safe_load_all(content))
                if content.startswith("# settings.yml"):
                    settings_module.from_mapping(documents[0])
            elif language == "json":
                json.loads(content)
            elif language == "python":
                ast.parse(content)
            elif language == "promql" and page.path.parent != DASHBOARD_PAGES:  # those are linted as panels
                findings += [str(finding) for finding in check(content, SETTINGS)]
        except (yaml.YAMLError, ValueError, SyntaxError, ServescopeError) as error:
            findings.append(f"{language}: {' '.join(str(error).split())}")
    return findings


@PAGE
def test_every_block_of_code_parses(page):
    assert bad_code(page) == []


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("```yaml\na: [\n```", "yaml: "),
        ("```yaml\na: 1\n---\nb: }\n```", "yaml: "),
        ("```yaml\n# settings.yml\nno_such_setting: 1\n```", "yaml: unknown setting 'no_such_setting'"),
        ("```json\n{a: 1}\n```", "json: "),
        ("```python\ndef f(:\n```", "python: "),
        ("```promql\nsum by (application (up)\n```", "syntax: "),
        ("```promql\nrate(ray_serve_no_such_metric_total[1m])\n```", "metric: "),
        ("- a list\n\n  ```promql\n  sum(ray_serve_num_ongoing_http_requests)\n  ```", "event-gauge: "),
    ],
)
def test_code_that_does_not_parse_is_found(text, finding):
    first, *_ = bad_code(page_of(text))
    assert first.startswith(finding)


def test_good_code_is_not():
    text = "```yaml\n# settings.yml\nlatency_ms: 1000\n```\n```python\nx = 1\n```\n```promql\nup\n```\n```\n{[\n```"
    assert bad_code(page_of(text)) == []


def test_the_slos_of_the_guide_are_accepted(tmp_path):
    blocks = [c for _, c in PAGES[ROOT / "docs/slo.md"].fences if c.startswith("# slo.yaml")]
    assert len(blocks) == 1
    (tmp_path / "slo.yaml").write_text(blocks[0])
    assert [found.name for found in objectives.load(tmp_path / "slo.yaml")] == ["checkout"]


# ---------------------------------------------------------------------------------------------------------------------
# Names

_ALERT_NAME = re.compile(r"\b(?:RayServe|RayCluster|RayGpu|Servescope)[A-Z][A-Za-z]+\b")


def wrong_names(page: Page) -> list[str]:
    """Links to a panel or an alert under another name than its own, and alerts that do not exist."""
    findings = []
    for link in page.links:
        folder, name = Path(link.path).parent.name, Path(link.path).stem
        if folder == "dashboards" and name in BOARDS and link.anchor and not link.image:
            rows_and_panels = markdown.read(ROOT / f"docs/dashboards/{name}.md").headings[1:]
            titles = {title for anchor, title in rows_and_panels if anchor == link.anchor}
            if link.text not in titles:
                findings.append(f"{link.text!r} is no panel at {name}#{link.anchor}")
        elif folder == "runbooks" and name in ALERTS and link.text != name:
            findings.append(f"{link.text!r} leads to {name}")
    said = " ".join([*page.text, *page.inline_code])
    findings += [f"no alert {name}" for name in sorted(set(_ALERT_NAME.findall(said)) - ALERTS)]
    return findings


@PAGE
def test_panels_and_alerts_are_called_by_their_names(page):
    assert wrong_names(page) == []


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        (
            "[Waiting](dashboards/servescope-overview.md#error-ratio)",
            "'Waiting' is no panel at servescope-overview#error-ratio",
        ),
        (
            "[RayServeBackPressure](runbooks/RayServeNoReplicas.md)",
            "'RayServeBackPressure' leads to RayServeNoReplicas",
        ),
        ("RayServeOnFire and `RayServeOnFire`", "no alert RayServeOnFire"),
    ],
)
def test_a_wrong_name_is_found(text, finding):
    assert wrong_names(page_of(text)) == [finding]


def test_a_right_name_is_not():
    panel = "[Error ratio](dashboards/servescope-overview.md#error-ratio)"
    alert = "[RayServeNoReplicas](runbooks/RayServeNoReplicas.md)"
    assert wrong_names(page_of(f"{panel}, {alert}, RayServe and `RayServeUnavailable`")) == []


def unwatched(page: Page) -> list[str]:
    """Sections that name no panel, or no alert."""
    findings = []
    for section in page.sections:
        folders = {Path(link.path).parent.name for link in page.links if link.section == section}
        findings += [f"{section}: no link to {what}" for what in ("dashboards", "runbooks") if what not in folders]
    return findings


def test_each_part_of_the_production_guide_says_what_watches_it():
    page = PAGES[ROOT / "docs/production.md"]
    assert page.sections == [
        "Health checks",
        "Rolling updates",
        "Capacity planning",
        "Failure handling",
        "Security",
        "Cost control",
        "Several applications",
    ]
    assert unwatched(page) == []


def test_a_part_that_nothing_watches_is_found():
    text = "## A\n[x](dashboards/x.md#y) [Z](runbooks/Z.md)\n## B\n[x](dashboards/x.md#y)"
    assert unwatched(page_of(text)) == ["B: no link to runbooks"]


def test_the_upgrade_guide_names_what_ray_changed():
    code = set(PAGES[ROOT / "docs/upgrading.md"].inline_code)
    changed = {m.name for m in METRICS if m.since == "2.60" or m.newer_labels or m.older_labels}
    assert "ray_serve_deployment_error_counter_total" in changed
    assert changed - code == set()


def test_the_architecture_page_knows_every_port_of_the_demo():
    table = re.findall(r"^\| ([0-9][0-9, ;to]*) \|", (ROOT / "docs/architecture.md").read_text(), re.MULTILINE)
    reported = {int(port) for cell in table for port in re.findall(r"\d+", cell)}
    assert set(asdict(Ports()).values()) - reported == set()


def test_every_page_is_reached_from_the_readme_or_the_index():
    reached = set()
    waiting = [ROOT / "README.md", ROOT / "docs/README.md"]
    while waiting:
        path = waiting.pop()
        if path in reached or path not in PAGES:
            continue
        reached.add(path)
        waiting += [(path.parent / link.path).resolve() for link in PAGES[path].links if link.relative and link.path]
    assert set(PAGES) - reached == set()


# ---------------------------------------------------------------------------------------------------------------------
# The pages of the dashboards


@pytest.mark.parametrize("uid", BOARDS)
def test_a_dashboards_page_describes_each_panel(uid):
    page = PAGES[ROOT / f"docs/dashboards/{uid}.md"]
    board = BOARDS[uid]
    titles = [title for row in board.rows for title in (row.title, *(panel.title for panel in row.panels))]
    assert [title for _, title in page.headings] == [board.title, "In the first ten seconds", *titles]
    for language, queries in (
        ("promql", [lay_out(query.expr) for panel in board.panels for query in panel.queries]),
        ("logql", [query.expr for panel in board.panels for query in panel.log_queries]),
    ):
        assert [content.rstrip("\n") for known, content in page.fences if known == language] == queries
    text = "".join(page.text)
    for panel in board.panels:
        # Markdown must not eat a part of it.
        assert "`" in panel.description or panel.description in text


@pytest.mark.parametrize("uid", BOARDS)
def test_a_dashboards_page_shows_its_picture(uid):
    pictures = [link.target for link in PAGES[ROOT / f"docs/dashboards/{uid}.md"].links if link.image]
    assert pictures == [f"../pictures/{uid}.png"]


def test_every_alert_is_led_to_by_the_page_of_its_panel():
    for group in runbooks.all_groups(SETTINGS):
        for alert in group.alerts:
            uid, title = alert.panel
            text = (ROOT / f"docs/dashboards/{uid}.md").read_text()
            (part,) = [p for p in text.split("\n### ") if p.startswith(f"{title}\n")]
            assert f"[{alert.name}](../runbooks/{alert.name}.md) ({alert.severity})" in part
