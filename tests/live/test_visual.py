"""Every dashboard as a browser shows it: each panel has drawn something or says why not, and nothing complains."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from demo import screenshots
from demo.stack.supervisor import Stack
from servescope.clients.prometheus import Prometheus
from servescope.dashboards import all_dashboards
from servescope.report import preview
from servescope.report.check import check_board
from servescope.report.queries import Window
from servescope.settings import Settings
from tests.live.traffic import Background
from tests.support import printed_page
from tests.support.waiting import wait_for

pytestmark = pytest.mark.skipif(screenshots.chromium() is None, reason=screenshots.MISSING)

SETTINGS = Settings()
BOARDS = {board.uid: board for board in all_dashboards(SETTINGS)}


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    with screenshots.browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def address(stack: Stack, traffic: Background) -> Iterator[str]:
    """The preview over the live Prometheus, once it has enough for a rate."""
    with (
        Prometheus(stack.run.prometheus_url) as prometheus,
        preview.serve(prometheus, port=0, folder=None, settings=SETTINGS) as server,
    ):
        query = "sum(rate(ray_serve_num_http_requests_total[1m])) > 0"
        wait_for(lambda: bool(prometheus.query(query)), 120, lambda: f"no data: {query}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def dead(stack: Stack, uid: str) -> set[str]:
    """The panels for which Prometheus has nothing now, or had nothing a step ago: a page ends at a whole step."""
    found: set[str] = set()
    now = time.time()
    with Prometheus(stack.run.prometheus_url) as prometheus:
        for end in (now, now - SETTINGS.scrape_interval_s):
            check = check_board(BOARDS[uid], prometheus, Window(end - 300, end), every=False)
            found |= {*check.missing, *(title for title, _ in check.excused)}
    return found


def not_right(uid: str, found: dict[str, str], stack: Stack, without_data: set[str]) -> dict[str, str]:
    """The panels of a dashboard that have drawn nothing, though Prometheus has something, or do not say why."""
    shown = {name.removeprefix(f"{uid} / "): text for name, text in found.items() if name.startswith(f"{uid} / ")}
    panels = {panel.title: panel for panel in BOARDS[uid].panels}
    assert list(shown) == list(panels)
    empty = {title for title, text in shown.items() if panels[title].queries and not text.endswith(" drawn")}
    if empty - without_data:
        without_data |= dead(stack, uid)  # what went meanwhile proves nothing
    wrong = {}
    for title, text in shown.items():
        panel = panels[title]
        if not panel.queries and panel.type != "text":
            right = text.startswith(screenshots.WITHOUT_GRAFANA)
        elif text.endswith(" drawn"):
            right = text != "0 drawn"
        else:
            # A bar gauge says it where its figures would be, as in Grafana.
            nothing = "no data" if panel.type == "bargauge" else "No data"
            right = title in without_data and text == (f"{nothing}: needs {panel.absent}" if panel.absent else nothing)
        if not right:
            wrong[f"{uid} / {title}"] = text
    return wrong


@pytest.mark.parametrize("uid", BOARDS)
def test_every_panel_draws_what_prometheus_has_or_says_why_not(uid: str, stack: Stack, address: str, chrome: Browser):
    without_data = dead(stack, uid)
    with screenshots.open_page(chrome, f"{address}/d/{uid}?from=now-5m") as opened:
        found = screenshots.drawn(opened.page)
        assert opened.complaints == []
    assert not_right(uid, found, stack, without_data) == {}


def test_the_snapshot_of_the_command_shows_every_panel_of_every_dashboard_without_a_network(
    stack: Stack, address: str, chrome: Browser, tmp_path: Path
):
    without_data = {uid: dead(stack, uid) for uid in BOARDS}
    output = tmp_path / "incident.html"
    command = [sys.executable, "-m", "servescope", "snapshot", "-p", stack.run.prometheus_url, "--from", "now-5m"]
    done = subprocess.run([*command, "-o", str(output)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.startswith(f"{output}: ")) == (0, True), done.stderr
    with screenshots.open_page(chrome, output.as_uri(), offline=True) as opened:
        found = screenshots.drawn(opened.page)
        assert opened.complaints == []
    assert list(dict.fromkeys(name.split(" / ")[0] for name in found)) == list(BOARDS)
    assert [wrong for uid in BOARDS if (wrong := not_right(uid, found, stack, without_data[uid]))] == []


@pytest.mark.parametrize("uid", BOARDS)
def test_a_page_prints_what_nobody_has_scrolled_to_and_fits_a_phone(uid: str, address: str, chrome: Browser):
    place = f"{address}/d/{uid}?from=now-5m"
    with screenshots.open_page(chrome, place, draw=False, theme="dark", width=screenshots.PHONE_WIDTH) as opened:
        page = opened.page
        page.evaluate("window.fillAll()")
        plots = page.locator(".plot").count()
        closed = page.locator("details.row:not([open])").count()
        assert printed_page.before_print(page) == {"theme": "light", "drawn": plots, "closed": 0, "too_wide": 0}
        assert page.locator("nav").is_hidden()
        printed_page.after_print(page)
        assert printed_page.theme(page) == "dark"
        assert page.locator("details.row:not([open])").count() == closed
        page.evaluate("window.drawAll()")
        assert page.evaluate("document.documentElement.scrollWidth") <= screenshots.PHONE_WIDTH
        assert opened.complaints == []
