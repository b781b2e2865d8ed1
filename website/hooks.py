"""What mkdocs needs to build docs/ as it is: written for GitHub, where links leave docs/ and Markdown is CommonMark.

The functions above the events need nothing but the standard library; the unit tests import them without mkdocs.
"""

from __future__ import annotations

import logging
import posixpath
import re
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[1]
MERMAID = "assets/javascripts/mermaid.min.js"
_ITEM = re.compile(r"(?:[-*+]|\d{1,9}[.)]) +(?=\S)")
_INTERRUPTS = re.compile(r"(?:[-*+]|1[.)]) ")  # only these begin a list right below a line of text
_FENCE = re.compile(r"(`{3,}|~{3,})")

_log = logging.getLogger("mkdocs.hooks.servescope")


def repository_url(target: str, page: str, *, repository: str, ref: str) -> str | None:
    """Where a link of a page leads in the repository on the web, None for a link that stays in docs/ or has a scheme.

    `page` is the page's path below docs/, `ref` a branch or a tag. A picture's address is that of its bytes.

    Raises:
        FileNotFoundError: it leaves docs/ and nothing is there.
    """
    parts = urlsplit(target)
    if parts.scheme or parts.netloc or not parts.path:
        return None
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), parts.path))
    if path.startswith("docs/"):
        return None
    if path.startswith("..") or not (ROOT / path).exists():
        raise FileNotFoundError(f"{page}: {target}: nothing of that name in the repository")
    kind = "tree" if (ROOT / path).is_dir() else "raw" if path.endswith((".png", ".svg")) else "blob"
    return f"{repository}/{kind}/{ref}/{path}" + (f"#{parts.fragment}" if parts.fragment else "")


def indented(lines: list[str]) -> list[str]:
    """The lines of a page with four spaces below each list item.

    CommonMark asks for as many as the item's mark is wide. Python-Markdown asks for four and for an empty line above a
    list, and makes paragraphs of the rest.
    """
    written: list[str] = []
    fence = ""
    in_list = loose = False
    index = 0
    while index < len(lines):
        line = lines[index]
        index += 1
        found = _FENCE.match(line)
        if fence or found:
            if found and (not fence or (found.group(1).startswith(fence) and not line.strip("`~ "))):
                fence = "" if fence else found.group(1)
            written.append(line)
            in_list = False
            continue
        item = _ITEM.match(line)
        if item is None:
            in_list = in_list and not line
            written.append(line)
            continue
        if written and written[-1] and not in_list and not _INTERRUPTS.match(line):
            written.append(line)
            continue
        if written and written[-1] and (not in_list or loose):
            written.append("")
        width = item.end()
        content = [line[width:]]
        while index < len(lines) and (not lines[index] or lines[index].startswith(" " * width)):
            content.append(lines[index][width:])
            index += 1
        below = indented(content)
        mark = line[:width].strip()
        written.append(f"{mark:<3} {below[0]}")
        written += [f"    {text}" if text else "" for text in below[1:]]
        in_list = True
        loose = "" in "\n".join(content).strip().split("\n")  # then the next item needs an empty line above it, too
    return written


class Anchors:
    """The anchors that GitHub gives the headings of a page: lower case, no punctuation, -1 on a second one."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def __call__(self, title: str, _separator: str = "-") -> str:
        """The anchor of the page's next heading."""
        slug = "".join(c for c in title.lower().replace(" ", "-") if c.isalnum() or c in "-_")
        count = self._seen.get(slug, 0)
        self._seen[slug] = count + 1
        return f"{slug}-{count}" if count else slug


def pages_of(folder: Path) -> list[str]:
    """The pages of a folder as paths below its parent: its README first, then by name."""
    names = sorted(path.name for path in folder.glob("*.md"))
    names.sort(key=lambda name: name != "README.md")
    return [f"{folder.name}/{name}" for name in names]


def expanded(entry: Any, docs: Path) -> Any:
    """An entry of `nav` with each folder (`runbooks/`) replaced by its pages."""
    if isinstance(entry, dict):
        return {title: expanded(below, docs) for title, below in entry.items()}
    if isinstance(entry, list):
        return [expanded(below, docs) for below in entry]
    return pages_of(docs / entry) if isinstance(entry, str) and entry.endswith("/") else entry


# ---------------------------------------------------------------------------------------------------------------------
# mkdocs' events

# Of the page that is being rendered; mkdocs renders one after the other.
_page = ""  # its path below docs/
_anchors = Anchors()


def on_config(config: Any) -> Any:
    """Fill in the folders of `nav`; send links that leave docs/ to the repository."""
    from markdown.extensions import Extension
    from markdown.treeprocessors import Treeprocessor

    config.nav = expanded(config.nav, Path(config.docs_dir))

    class Links(Treeprocessor):
        def run(self, root: Any) -> None:
            for element in root.iter():
                attribute = {"a": "href", "img": "src"}.get(element.tag)
                if attribute is None or attribute not in element.attrib:
                    continue
                try:
                    address = repository_url(
                        element.get(attribute), _page, repository=config.repo_url, ref=config.extra["repository_ref"]
                    )
                except FileNotFoundError as error:
                    _log.warning("%s", error)  # --strict ends on it
                    continue
                if address:
                    element.set(attribute, address)

    class LinksOutOfDocs(Extension):
        def extendMarkdown(self, md: Any) -> None:
            # After the inline patterns (20), before mkdocs' own treeprocessor (0), which would refuse them.
            md.treeprocessors.register(Links(md), "servescope_links", 10)

    config.markdown_extensions.append(LinksOutOfDocs())
    config.mdx_configs["toc"]["slugify"] = lambda title, separator: _anchors(title, separator)
    return config


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Give Python-Markdown the lists as it wants them."""
    global _page, _anchors
    _page, _anchors = page.file.src_uri, Anchors()
    return "\n".join(indented(markdown.split("\n")))


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Load our own copy of mermaid where a page has a diagram; Material would ask a foreign server for it."""
    if 'class="mermaid"' not in output:
        return output
    up = "../" * page.url.count("/")
    return output.replace("</head>", f'<script src="{up}{MERMAID}"></script></head>', 1)


def on_post_build(config: Any) -> None:
    """Put mermaid into the site."""
    source = Path(config.extra["mermaid"])
    target = Path(config.site_dir) / MERMAID
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(ROOT / source, target)
