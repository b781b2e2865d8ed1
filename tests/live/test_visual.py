"""Every dashboard as a browser shows it: each panel has drawn something or says why not, and nothing complains."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import httpx
import pytest
from demo import pictures
from demo.stack import Run
from playwright.sync_api import Browser

from servescope import preview
from servescope.dashboards import all_dashboards
from servescope.evaluate import Prometheus
from servescope.settings import Settings
from tests.live.waiting import wait_for

pytestmark = pytest.mark.skipif(pictures.chromium() is None, reason=pictures.MISSING)

SETTINGS = Settings()
BOARDS = {board.uid: board for board in all_dashboards(SETTINGS)}


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    with pictures.browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def address(stack, traffic) -> Iterator[str]:
    """The preview over the live Prometheus, once it has enough for a rate."""
    run: Run = stack.run
    with Prometheus(run.prometheus_url) as prometheus, preview.serve(prometheus, 0, None, SETTINGS) as server:
        query = "sum(rate(ray_serve_num_http_requests_total[1m])) > 0"
        wait_for(lambda: bool(prometheus.query(query)), 120, lambda: f"no data: {query}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("uid", BOARDS)
def test_every_panel_draws_or_says_why_not(uid: str, address: str, chrome: Browser):
    with pictures.open_page(chrome, f"{address}/d/{uid}?from=now-5m") as opened:
        shown = pictures.drawn(opened.page)
        assert opened.complaints == []
    titles = [panel.title for panel in BOARDS[uid].panels]
    assert list(shown) == [f"{uid} / {title}" for title in titles]
    assert [name for name, found in shown.items() if found == "0 drawn"] == []
    # What is empty for a reason says the reason that the dashboard gives; other gaps are the test application's.
    reasons = {f"{uid} / {panel.title}": panel.absent for panel in BOARDS[uid].panels if panel.absent}
    wrong = {
        name: found
        for name, found in shown.items()
        if found.startswith("No data") and name in reasons and found != f"No data: needs {reasons[name]}"
    }
    assert wrong == {}
    drawn = [name for name, found in shown.items() if found.endswith(" drawn")]
    assert len(drawn) > len(shown) / 3, shown


def test_the_plots_of_the_overview_have_marks_and_the_stats_have_figures(address: str, chrome: Browser):
    with pictures.open_page(chrome, f"{address}/d/servescope-overview?from=now-5m") as opened:
        shown = pictures.drawn(opened.page)
        figure = opened.page.locator('.panel[data-title="Requests"] .stat b').inner_text()
        served = httpx.get(opened.page.url).text
    for title in ("Requests", "Requests by application", "Latency distribution", "Applications", "Deployment status"):
        assert shown[f"servescope-overview / {title}"].endswith(" drawn"), shown
    assert figure.endswith("req/s")
    assert "Ray Serve / Overview" in served


def test_a_page_fits_a_phone_and_prints(address: str, chrome: Browser):
    with pictures.open_page(chrome, f"{address}/d/servescope-slo", width=pictures.PHONE_WIDTH) as opened:
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= pictures.PHONE_WIDTH
        opened.page.emulate_media(media="print")
        assert opened.page.locator("nav").is_hidden()
        assert opened.complaints == []
