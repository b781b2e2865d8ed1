"""What the generated pages have in common: Markdown that holds whatever text the objects bring."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from servescope.errors import ServescopeError


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table. A `|` in a cell is escaped, for it would end the cell, in code spans too."""
    return [_row(headings), "|" + "---|" * len(headings), *(_row(row) for row in rows)]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def fill(page: str, lines: Iterable[str], *, begin: str, end: str, where: str) -> str:
    """The page with the lines between its two markers, comments; `where` is its path.

    Raises:
        ServescopeError: the markers are not there.
    """
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ServescopeError(f"{where}: the markers of the generated table are missing")
    return "\n".join([f"{before}{begin}", "", *lines, "", f"{end}{after}"])
