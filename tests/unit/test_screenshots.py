"""What `make pictures` does not let pass."""

from __future__ import annotations

from demo.screenshots import unexplained
from servescope.dashboards import all_dashboards
from servescope.settings import Settings


def test_a_panel_that_shows_nothing_and_does_not_say_what_it_needs_is_found():
    panels = {f"{board.uid} / {p.title}": p for board in all_dashboards(Settings()) for p in board.panels}
    excused = {name: f"No data: needs {panel.absent}" for name, panel in panels.items() if panel.absent}
    demanding = next(name for name, panel in panels.items() if not panel.absent)
    assert len(excused) > 5
    shown = dict.fromkeys(panels, "3 drawn") | excused
    shown |= {"servescope-cluster / Logs": "Not here: log lines: start with --logs FOLDER"}
    assert unexplained(shown, Settings()) == []
    for text in ("No data", "0 drawn", "No data: needs luck", "Cannot be drawn here: a panel of the type x"):
        assert unexplained(shown | {demanding: text}, Settings()) == [f"{demanding}: {text}"]
    first = next(iter(excused))
    assert unexplained(shown | {first: "No data"}, Settings()) == [f"{first}: No data"]
