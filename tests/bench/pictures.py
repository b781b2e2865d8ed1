"""Pictures of the overview and the deployment dashboard of a hundred deployments, and what opening them takes.

    python -m tests.bench.pictures                       # writes docs/pictures/*-100.png
    python -m tests.bench.pictures FOLDER DASHBOARDS     # pictures of other dashboards, such as those of a release

The data are those of the other benchmarks (tests/bench/fleet.py), asked by the plain dashboards; the pictures are of a
snapshot of the last hour.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from demo import ROOT, screenshots
from servescope.clients.prometheus import Prometheus
from servescope.errors import ServescopeError
from servescope.report import collect
from servescope.report import page as report_page
from servescope.report.model import Board
from servescope.settings import Settings
from tests.bench.fleet import Fleet
from tests.bench.serve_series import ServeCluster

DEPLOYMENTS, REPLICAS, SECONDS = 100, 10, 66 * 60
BOARDS = ("servescope-overview", "servescope-deployment")


def main(folder: Path, dashboards: Path) -> None:
    """Write the pictures and print the counts."""
    settings = Settings()
    whole = Fleet(ServeCluster(DEPLOYMENTS, REPLICAS), SECONDS)
    window = collect.window_of(whole.end - 3600, whole.end, scrape_interval_s=settings.scrape_interval_s)
    with (
        whole.server() as server,
        Prometheus(server.url, timeout_s=150) as prometheus,
        screenshots.browser() as chrome,
        tempfile.TemporaryDirectory() as scratch,
    ):
        for document in collect.load_dashboards(settings, dashboards):
            if document["uid"] not in BOARDS:
                continue
            begun = time.monotonic()
            report = collect.collect(prometheus, [document], window, settings=settings)
            seconds = time.monotonic() - begun
            html, picture = Path(scratch, "page.html"), folder / f"{document['uid']}-{DEPLOYMENTS}.png"
            html.write_text(report_page.render(report, document["title"]), encoding="utf-8")
            with screenshots.open_page(chrome, html.as_uri(), draw=False) as opened:
                opened.page.evaluate("window.drawAll(false)")
                if opened.complaints:
                    raise ServescopeError(f"{document['uid']}: {opened.complaints[0]}")
                opened.page.locator(f"#{document['uid']}").screenshot(path=str(picture))
            screenshots.shrink(picture)
            print(f"{picture}: {counts(report.boards[0])}, {seconds:.1f} s", flush=True)


def counts(board: Board) -> str:
    """Open panels, their queries, and the lines of the largest plot."""
    panels = [panel for section in board.sections if not section.collapsed for panel in section.panels]
    queries = sum(len(panel.queries) for panel in panels)
    lines = max((len(panel.legend), panel.title) for panel in panels)
    return f"{len(panels)} open panels, {queries} queries, at most {lines[0]} lines ({lines[1]})"


if __name__ == "__main__":
    given = [Path(argument) for argument in sys.argv[1:]]
    try:
        main(*(given or (ROOT / "docs/pictures", ROOT / "dashboards")))
    except ServescopeError as error:
        sys.exit(f"bench: {error}")
