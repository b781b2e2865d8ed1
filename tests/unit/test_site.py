"""The documentation site: mkdocs builds what the pages of docs/ hold, and no page loads anything from elsewhere."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import tomllib
import yaml
from markdown_it import MarkdownIt

from demo import ROOT
from servescope.dashboards import all_dashboards
from servescope.settings import Settings
from tests.support import markdown
from website import hooks

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
PAGE = pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(DOCS))) for page in PAGES])
MKDOCS = ROOT / ".venv-docs/bin/mkdocs"
BUILT = MKDOCS.is_file() and (ROOT / ".tools/mermaid.min.js").is_file()
requires_mkdocs = pytest.mark.skipif(not BUILT, reason="no mkdocs in .venv-docs: make docs installs it")
REPOSITORY, REF = "https://code.example.org/us/servescope", "v0.1.0"


class Tags(yaml.SafeLoader):
    """YAML in which a tag of mkdocs' own (!ENV, !!python/...) gives the plain value below it."""


def _plain(loader: Tags, _: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node)
    return loader.construct_mapping(node) if isinstance(node, yaml.MappingNode) else node.value


Tags.add_multi_constructor("!ENV", _plain)
Tags.add_multi_constructor("tag:yaml.org,2002:python/", _plain)


def config() -> dict[str, Any]:
    document: dict[str, Any] = yaml.load((ROOT / "mkdocs.yml").read_text(), Tags)
    return document


def links_out() -> list[tuple[Path, str]]:
    """Every link of a page to a file of the repository outside docs/."""
    return [
        (path, link.target)
        for path in PAGES
        for link in markdown.read(path).links
        if link.relative and link.path and not (path.parent / link.path).resolve().is_relative_to(DOCS)
    ]


# ---------------------------------------------------------------------------------------------------------------------
# Links out of docs/


@pytest.mark.parametrize(
    ("target", "page", "address"),
    [
        ("../otel/collector.yaml", "architecture.md", f"{REPOSITORY}/blob/{REF}/otel/collector.yaml"),
        ("../README.md#licence", "README.md", f"{REPOSITORY}/blob/{REF}/README.md#licence"),
        ("../../src/servescope", "runbooks/README.md", f"{REPOSITORY}/tree/{REF}/src/servescope"),
        ("../docs/alerts.md", "slo.md", None),
        ("alerts.md#routing", "slo.md", None),
        ("../alerts.md", "runbooks/README.md", None),
        ("#here", "slo.md", None),
        ("https://example.org/x", "slo.md", None),
        ("mailto:somebody@example.org", "slo.md", None),
    ],
)
def test_where_a_link_leads(target, page, address):
    assert hooks.repository_url(target, page, repository=REPOSITORY, ref=REF) == address


@pytest.mark.parametrize("target", ["../nowhere.md", "../../elsewhere"])
def test_a_link_to_nothing_is_refused(target):
    with pytest.raises(FileNotFoundError, match="nothing of that name"):
        hooks.repository_url(target, "slo.md", repository=REPOSITORY, ref=REF)


def test_every_link_out_of_docs_works_in_the_repository_and_on_the_site():
    found = links_out()
    assert len(found) > 20
    for path, target in found:
        inside = (path.parent / urlsplit(target).path).resolve()
        assert inside.exists(), f"{path}: {target}"
        address = hooks.repository_url(target, str(path.relative_to(DOCS)), repository=REPOSITORY, ref=REF)
        assert address is not None
        kind = "tree" if inside.is_dir() else "blob"
        assert address.partition("#")[0] == f"{REPOSITORY}/{kind}/{REF}/{inside.relative_to(ROOT)}"


# ---------------------------------------------------------------------------------------------------------------------
# Lists


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("1. a\n\n   ```sh\n   b\n   ```\n2. c", "1.  a\n\n    ```sh\n    b\n    ```\n\n2.  c"),
        ("- a\n  b\n- c", "-   a\n    b\n-   c"),
        ("- a\n  - b\n    c\n- d", "-   a\n\n    -   b\n        c\n-   d"),
        ("1. a\n\n   b\n2. c\n3. d", "1.  a\n\n    b\n\n2.  c\n3.  d"),
        ("text\n- a", "text\n\n-   a"),
        ("text\n2. a", "text\n2. a"),
        ("```yaml\n- a\n  - b\n```\n- c", "```yaml\n- a\n  - b\n```\n\n-   c"),
        ("````\n```\n- a\n````", "````\n```\n- a\n````"),
        ("**bold**\n-5", "**bold**\n-5"),
    ],
)
def test_lists_are_written_for_python_markdown(text, written):
    assert "\n".join(hooks.indented(text.split("\n"))) == written


def test_anchors_are_githubs():
    anchors = hooks.Anchors()
    titles = ["A, B & `c_d`", "Nodes", "Nodes", "Nodes", "What's new?"]
    assert [anchors(title) for title in titles] == ["a-b--c_d", "nodes", "nodes-1", "nodes-2", "whats-new"]


# ---------------------------------------------------------------------------------------------------------------------
# Navigation


def pages_in(entry: Any) -> list[str]:
    if isinstance(entry, str):
        return [entry]
    return [page for below in (entry.values() if isinstance(entry, dict) else entry) for page in pages_in(below)]


def test_every_page_has_one_place_in_the_navigation():
    listed = pages_in(hooks.expanded(config()["nav"], DOCS))
    assert sorted(listed) == [str(page.relative_to(DOCS)) for page in PAGES]


def test_the_navigation_has_a_reading_order_for_each_reader():
    sections = {title: pages for entry in config()["nav"] for title, pages in entry.items()}
    assert list(sections) == ["Start here", "On call", "Run it", "Maintain"]
    assert sections["Start here"][:2] == ["README.md", "getting-started.md"]
    on_call = pages_in(hooks.expanded(sections["On call"], DOCS))
    dashboards = [f"dashboards/{board.uid}.md" for board in all_dashboards(Settings())]
    assert [page for page in on_call if page.startswith("dashboards/")] == ["dashboards/README.md", *dashboards]
    assert on_call.index("runbooks/README.md") < on_call.index("runbooks/RayServeLatencyHigh.md")


def test_the_repository_has_one_address():
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
    assert config()["repo_url"] == urls["Repository"]


# ---------------------------------------------------------------------------------------------------------------------
# The built pages


class Built(HTMLParser):
    """The contents of a built page: sources, links, and how often each element is in its article."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.elements: Counter[str] = Counter()
        self._article = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.ids |= {attributes["id"]} if "id" in attributes else set()
        self._article |= tag == "article"
        if tag in ("script", "img", "iframe", "source") and attributes.get("src"):
            self.loads.append(attributes["src"])
        if tag == "link" and attributes.get("rel") not in ("canonical", "next", "prev", "edit"):
            self.loads.append(attributes["href"])
        if self._article:
            self.elements[tag] += 1
            if tag == "a":
                self.links.append(attributes.get("href", ""))

    def handle_endtag(self, tag: str) -> None:
        self._article &= tag != "article"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [MKDOCS, "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "DOCS_REF": REF},
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    return folder


def built(site: Path, page: Path) -> Built:
    return Built(address(site, page).read_text())


def address(site: Path, page: Path) -> Path:
    name = "index.html" if page.name == "README.md" else f"{page.stem}.html"
    return site / page.parent.relative_to(DOCS) / name


@requires_mkdocs
def test_nothing_comes_from_elsewhere(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > len(PAGES)
    for page in pages:
        text = page.read_text()
        for source in Built(text).loads:
            assert not urlsplit(source).netloc, f"{page}: {source}"
            if page.name != "404.html":  # it does not know how deep it is
                assert (page.parent / urlsplit(source).path).resolve().is_file(), f"{page}: {source}"
        assert "fonts.g" not in text
        assert 'data-md-component="source"' not in text, "Material's script would ask GitHub for stars"
    for sheet in site.rglob("*.css"):
        assert "url(http" not in sheet.read_text(), sheet


@requires_mkdocs
def test_diagrams_are_drawn_by_our_own_mermaid(site):
    with_diagrams = [page for page in PAGES if any(language == "mermaid" for language, _ in markdown.read(page).fences)]
    assert DOCS / "architecture.md" in with_diagrams
    for page in PAGES:
        local = [source for source in built(site, page).loads if source.endswith("mermaid.min.js")]
        assert bool(local) == (page in with_diagrams), page
    assert b"mermaid" in (site / hooks.MERMAID).read_bytes()


@requires_mkdocs
def test_every_link_out_of_docs_is_rewritten(site):
    repository = config()["repo_url"]
    for path, target in links_out():
        wanted = hooks.repository_url(target, str(path.relative_to(DOCS)), repository=repository, ref=REF)
        assert wanted in built(site, path).links, f"{path}: {target}"


@requires_mkdocs
@PAGE
def test_a_page_holds_what_its_markdown_holds(site, page):
    found = built(site, page)
    said = Counter(
        token.tag
        for token in MarkdownIt("commonmark").enable("table").parse(page.read_text())
        if token.nesting >= 0 and token.type not in ("inline", "html_block")
    )
    for tag in ("h1", "h2", "h3", "ol", "ul", "li"):
        assert found.elements[tag] == said[tag], tag
    assert found.elements["pre"] == len(markdown.read(page).fences)
    assert found.elements["table"] == said["table"]
    assert markdown.read(page).anchors <= found.ids


@requires_mkdocs
def test_an_alert_can_link_to_the_site(site):
    settings = Settings(runbook_url="https://docs.example.org/runbooks/{alert}.html")
    for page in (DOCS / "runbooks").glob("Ray*.md"):
        path = urlsplit(settings.runbook(page.stem)).path.lstrip("/")
        assert (site / path).is_file()
