"""The field's own words: what a reader searches for. The words of this project alone are kept out of all it shows."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import typer

from demo import ROOT
from servescope.cli import app
from servescope.dashboards import all_dashboards
from servescope.pages import runbooks
from servescope.settings import Settings

# Each with the word to write in its place; docs/glossary.md has the whole vocabulary.
PRIVATE = {
    r"mend(s|ed|ing)?": "fix, patch, mitigate",
    r"tells?|told|telling": "report, show, say, distinguish",
    r"born|births?": "a series that first appears",
    r"stands?|stood|standing": "is, is in, is listed",
    r"anew": "again",
    r"without a place": "unschedulable",
    r"hand(s|ed)? (out|over)": "allocate, pass",
    r"at rest": "steady",
    r"promis(e|es|ed|ing)": "objective, target",
    r"out of step": "mismatch, stale",
    r"bears?|bearing": "tolerate",
    r"ill": "unhealthy",
    r"heal(s|ed|ing)?": "recover",
    r"news": "update",
    r"turn(s|ed)? away": "reject",
    r"floods?|flooded": "traffic surge",
    r"gives? way|gave way": "is replaced",
    r"whoever": "anyone who",
    r"held against|hold(s)? against": "compared with",
    r"answered well": "success",
}
WORDS = re.compile("|".join(rf"\b(?:{pattern})\b" for pattern in PRIVATE), re.IGNORECASE)
CODE = re.compile(r"^ *```.*?^ *```$|`[^`\n]*`|\]\([^)\n]*\)", re.MULTILINE | re.DOTALL)


def private_words(text: str) -> list[str]:
    """The private words of a text, in lower case; code and the targets of links may say what they want."""
    return [match.group().lower() for match in WORDS.finditer(CODE.sub(" ", text))]


def texts_of_dashboards() -> Iterator[tuple[str, str]]:
    for board in all_dashboards(Settings()):
        yield board.uid, f"{board.title}. {board.description} {board.first_look}"
        for row in board.rows:
            yield f"{board.uid}, row", row.title
            for panel in row.panels:
                legends = " ".join(query.legend for query in (*panel.queries, *panel.log_queries))
                yield f"{board.uid}, {panel.title}", f"{panel.title}. {panel.description} {legends}"


def texts_of_alerts() -> Iterator[tuple[str, str]]:
    for group in runbooks.all_groups(Settings()):
        yield group.name, group.title
        for alert in group.alerts:
            yield alert.name, runbooks.page(alert)
            yield alert.name, f"{alert.summary} {alert.description}"


def texts_of_commands() -> Iterator[tuple[str, str]]:
    for name, command in typer.main.get_command(app).commands.items():
        yield name, command.help or ""
        yield from ((f"{name} {parameter.name}", getattr(parameter, "help", "") or "") for parameter in command.params)


PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob(".github/**/*.md")])


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_page_uses_the_fields_words(path):
    assert private_words(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("texts", [texts_of_dashboards, texts_of_alerts, texts_of_commands])
def test_titles_descriptions_and_help_use_the_fields_words(texts):
    found = {name: words for name, text in texts() if (words := private_words(text))}
    assert found == {}


def test_a_private_word_is_found():
    assert private_words("It is MENDED and told anew; a `stand` in [code](stands.md) is none.") == [
        "mended",
        "told",
        "anew",
    ]
    assert private_words("a standard, an understanding, unhealthy, fill") == []
