"""For the documentation: a page as a Markdown parser sees it, with its links, anchors, code and plain text."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token

_PARSER = MarkdownIt("commonmark").enable("table")
_SHELL = frozenset({"sh", "bash", "shell", "console"})
_PROGRAMS = frozenset({"make", "servescope", "pip", "docker", "ray", "serve"})  # as commands in running text
_SEPARATORS = frozenset({"&&", "||", ";", "|", "&", "(", ")"})

_REDIRECTIONS = frozenset({">", ">>", "<"})


@dataclass(frozen=True, kw_only=True)
class Link:
    """A link or an image, with the text that a reader sees."""

    target: str
    text: str
    image: bool
    section: str  # the heading of level 2 above it

    @property
    def relative(self) -> bool:
        """Whether it leads to a file or an anchor of the repository."""
        return not urlsplit(self.target).scheme

    @property
    def path(self) -> str:
        """The file, "" for the page itself."""
        return unquote(urlsplit(self.target).path)

    @property
    def anchor(self) -> str:
        """What follows the #."""
        return unquote(urlsplit(self.target).fragment)


@dataclass(kw_only=True)
class Page:
    """What a page holds."""

    path: Path
    links: list[Link] = field(default_factory=list)
    sections: list[str] = field(default_factory=list)  # titles of level 2
    headings: list[tuple[str, str]] = field(default_factory=list)  # anchor and title
    fences: list[tuple[str, str]] = field(default_factory=list)  # language and content
    inline_code: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)

    @property
    def anchors(self) -> set[str]:
        """Every anchor."""
        return {anchor for anchor, _ in self.headings}

    def commands(self) -> Iterator[list[str]]:
        """Every command on the page that a reader would type, as words."""
        for language, content in self.fences:
            if language in _SHELL:
                yield from commands(content)
        for code in self.inline_code:
            if code.split(" ")[0] in _PROGRAMS:
                yield from commands(code)


def read(path: Path) -> Page:
    """Parse a file."""
    return parse(path.read_text(encoding="utf-8"), path)


def parse(text: str, path: Path) -> Page:
    """Parse Markdown with links relative to `path`."""
    page = Page(path=path)
    tokens = _PARSER.parse(text)
    seen: dict[str, int] = {}
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        if token.type in ("fence", "code_block"):
            page.fences.append((token.info.split(" ")[0], token.content))
        elif token.type == "heading_open" and following is not None:
            title = plain(following.children or [])
            slug = anchor(title)
            page.headings.append((f"{slug}-{seen[slug]}" if slug in seen else slug, title))
            seen[slug] = seen.get(slug, 0) + 1
            if token.tag == "h2":
                page.sections.append(title)
        elif token.type == "inline":
            _inline(token.children or [], page)
    return page


def _inline(children: list[Token], page: Page) -> None:
    section = page.sections[-1] if page.sections else ""
    open_links: list[tuple[str, int]] = []
    for index, token in enumerate(children):
        if token.type == "link_open":
            open_links.append((str(token.attrs["href"]), index))
        elif token.type == "link_close":
            target, start = open_links.pop()
            page.links.append(Link(target=target, text=plain(children[start:index]), image=False, section=section))
        elif token.type == "image":
            page.links.append(Link(target=str(token.attrs["src"]), text=token.content, image=True, section=section))
        elif token.type == "code_inline":
            page.inline_code.append(token.content)
        elif token.type == "text":
            page.text.append(token.content)


def plain(children: list[Token]) -> str:
    """The text of inline tokens, without marks."""
    return "".join(token.content for token in children if token.type in ("text", "code_inline"))


def anchor(title: str) -> str:
    """The anchor that GitHub gives a heading: lower case, punctuation gone, spaces as hyphens."""
    return "".join(c for c in title.lower().replace(" ", "-") if c.isalnum() or c in "-_")


def commands(script: str) -> Iterator[list[str]]:
    """The commands of a shell script as words, without assignments before them and without redirections.

    Raises:
        ValueError: a quote that is not closed.
    """
    words: list[str] = []
    previous = ""
    for word in _words(script):
        redirected, previous = previous in _REDIRECTIONS, word
        if redirected or word in _REDIRECTIONS:
            continue
        if word in _SEPARATORS:
            if words:
                yield words
            words = []
        elif words or "=" not in word.split("/")[0]:
            words.append(word)


def _words(script: str) -> Iterator[str]:
    """Words and separators, line by line: a comment ends with its line, a quote may go on in the next."""
    pending = ""
    for line in script.replace("\\\n", " ").splitlines():
        pending += line.removeprefix("$ ")
        lexer = shlex.shlex(pending, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        try:
            words = list(lexer)
        except ValueError:
            pending += "\n"
            continue
        pending = ""
        yield from [*words, ";"]
    if pending:
        raise ValueError(f"a quote that is not closed: {pending.splitlines()[0]}")
