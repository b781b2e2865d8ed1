"""The table of worlds and alerts in docs/alerts.md, generated from the worlds.

python -m tests.worlds --write    # writes it into docs/alerts.md; without --write it is printed
"""

from __future__ import annotations

import sys

from demo import ROOT
from servescope.files import write_all
from servescope.pages.markdown import table
from tests.worlds.language import World
from tests.worlds.worlds import all_worlds

PAGE = ROOT / "docs/alerts.md"
BEGIN, END = "<!-- worlds: made by tests/worlds -->", "<!-- /worlds -->"


def rows() -> list[str]:
    """The table: each world, what is right in it, and its alerts."""
    return table(
        ("world", "what is right", "must fire", "may fire"),
        [(world.name, world.right + _settings(world), _names(world.must), _names(world.may)) for world in all_worlds()],
    )


def _settings(world: World) -> str:
    """The settings that differ from the defaults, as a remark."""
    ours = {
        "extra_cluster_labels": list(world.settings.extra_cluster_labels),
        "service_label": world.settings.service_label,
    }
    return "".join(f" `{name}: {value}`" for name, value in ours.items() if value)


def _names(alerts: frozenset[str]) -> str:
    return ", ".join(f"[{name}](runbooks/{name}.md)" for name in sorted(alerts)) or "none"


def page() -> str:
    """docs/alerts.md with the table as it must be."""
    before, begin, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin, f"{PAGE}: {BEGIN} is missing"
    assert end, f"{PAGE}: {END} is missing"
    return "\n".join([f"{before}{begin}", "", *rows(), "", f"{end}{after}"])


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        write_all({PAGE: page()})
    else:
        print("\n".join(rows()))
