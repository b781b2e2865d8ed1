"""A canned report in a browser, from a file: it draws, is silent, keeps hostile text as text, and prints."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from demo import screenshots
from servescope.clients.prometheus import Prometheus
from servescope.dashboards import all_dashboards
from servescope.report import page as report_page
from servescope.report import preview
from servescope.report.model import Section
from servescope.report.queries import panels_of
from servescope.settings import Settings
from tests.support.canned_report import HOSTILE, alerting_report, answer, hostile_report, panel
from tests.support.printed_page import after_print, before_print, theme
from tests.support.recording_server import recording_server
from tests.support.servers import running
from tests.support.store_server import store_server

pytestmark = pytest.mark.skipif(screenshots.chromium() is None, reason=screenshots.MISSING)


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    with screenshots.browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page with every kind of plot, one far below and one in a closed row."""
    report = hostile_report()
    (board,) = report.boards
    levels = [answer("A", ({"le": le}, [value] * 5)) for le, value in (("1", 1.0), ("2", 3.0))]
    calls = answer("A", ({"deployment": "a"}, [1, 2, 3, 4, 5]))
    axis = {"yAxis": {"unit": "ms"}, "cellValues": {"unit": "reqps"}}
    more = [panel("heatmap", levels, options=axis), *(panel("timeseries", [calls]) for _ in range(12))]
    for index, view in enumerate([*more, closed := panel("timeseries", [calls])]):
        view.id, view.title = f"m{index}", f"M{index}"
    for index, view in enumerate(board.sections[0].panels):
        view.title = f"{HOSTILE}{index}"
    closed.number = 77
    board.sections.extend([Section("more", more, False), Section("closed", [closed], True, numbers=[77])])
    file: Path = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(report_page.render(report, HOSTILE), encoding="utf-8")
    return file.as_uri()


def test_every_panel_draws_and_nothing_complains_or_asks_the_network(address, chrome):
    with screenshots.open_page(chrome, address, offline=True) as opened:
        found = screenshots.drawn(opened.page)
        assert len(found) == 19
        assert {text for text in found.values() if not text.endswith(" drawn") or text == "0 drawn"} == set()
        assert opened.complaints == []


def test_hostile_text_is_text_in_the_page_and_in_plots(address, chrome):
    with screenshots.open_page(chrome, address) as opened:
        page = opened.page
        dialogs: list[str] = []
        page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
        assert page.locator("h1").inner_text() == HOSTILE
        assert page.locator("img").count() == 0
        assert page.locator("script").count() == page.locator("head > script, body > script").count()
        # Plotly reads tags in its texts: the state timeline has the label on its axis.
        assert HOSTILE in page.locator(".state-timeline .ytick").all_text_contents()
        page.locator(".timeseries .nsewdrag").first.hover()
        page.locator(".hoverlayer text").first.wait_for()
        assert any(HOSTILE in text for text in page.locator(".hoverlayer text").all_text_contents())
        assert (dialogs, opened.complaints) == ([], [])


PLANTED = """(elsewhere) => {
    document.body.insertAdjacentHTML("beforeend", "<img src=x onerror='window.planted = 1'>");
    document.body.append(Object.assign(document.createElement("script"), { textContent: "window.planted = 2" }));
    document.body.append(Object.assign(document.createElement("img"), { src: elsewhere }));
    return new Promise((done) => setTimeout(() => done(window.planted ?? "nothing"), 300));
}"""


def test_what_is_planted_into_the_page_neither_runs_nor_asks_the_network(address, chrome):
    with recording_server() as server, screenshots.open_page(chrome, address) as opened:
        assert opened.page.evaluate(PLANTED, server.url) == "nothing"
        assert server.headers == []
        refused = [line for line in opened.complaints if "Content Security Policy" in line]
        assert len(refused) >= 3


def test_print_has_what_nobody_has_scrolled_to_and_gives_back_what_was_shown(address, chrome):
    with screenshots.open_page(chrome, address, draw=False, theme="dark") as opened:
        page = opened.page
        plots = page.locator(".plot").count()
        assert page.locator(".plot[data-drawn]").count() < plots
        assert before_print(page) == {"theme": "light", "drawn": plots, "closed": 0, "too_wide": 0}
        after_print(page)
        assert (theme(page), page.locator("details.row:not([open])").count()) == ("dark", 1)
        # What went out of sight comes back in the theme of then, and as wide as its place.
        page.locator("details.row:not([open]) > summary").click()
        plot = page.locator("details.row >> nth=-1").locator(".plot")
        plot.scroll_into_view_if_needed()
        drawn_width = "(plot) => plot.querySelector('.main-svg').getBoundingClientRect().width - plot.clientWidth"
        assert abs(plot.evaluate(drawn_width)) <= 1
        assert opened.complaints == []


def test_the_browsers_own_print_draws_everything(address, chrome):
    with screenshots.open_page(chrome, address, draw=False, theme="dark") as opened:
        page = opened.page
        count = "document.querySelectorAll('.plot .main-svg:first-child').length"
        page.evaluate(f"addEventListener('afterprint', () => {{ window.printed = {count}; }})")
        assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF")
        assert page.evaluate("window.printed") == page.locator(".plot").count()
        assert theme(page) == "dark"


def test_page_and_plots_are_dark_or_light_as_the_reader_has_it_and_chooses(address, chrome):
    colors = """() => [document.body, document.querySelector(".ytick text")].map((element) => getComputedStyle(element))
        .map((style) => [style.backgroundColor, style.fill])"""
    dark, light = ["rgb(17, 18, 23)", "rgb(204, 204, 220)"], ["rgb(244, 245, 245)", "rgb(36, 41, 46)"]

    def shown() -> list[str]:
        (ground, _), (_, text) = opened.page.evaluate(colors)
        return [ground, text]

    with screenshots.open_page(chrome, address, theme="light") as opened:
        assert shown() == light
    with screenshots.open_page(chrome, address, theme="dark") as opened:
        assert shown() == dark
        opened.page.locator("#theme").click()
        assert shown() == light
        assert opened.complaints == []


@pytest.mark.parametrize("storage", ["there", "refused"])
def test_dark_or_light_is_kept_over_a_refresh_where_the_browser_lets_it(address, chrome, storage):
    with screenshots.open_page(chrome, address, draw=False, theme="dark") as opened:
        page = opened.page
        if storage == "refused":
            refuse = "get() { throw new DOMException('no', 'SecurityError'); }"
            page.add_init_script(f"Object.defineProperty(window, 'sessionStorage', {{ {refuse} }});")
            page.reload()
        assert theme(page) == "dark"
        page.locator("#theme").click()
        assert theme(page) == "light"
        page.reload()
        assert theme(page) == ("light" if storage == "there" else "dark")
        assert opened.complaints == []


def test_pending_alerts_are_below_those_that_fire_and_do_not_look_like_them(chrome, tmp_path):
    file = tmp_path / "alerts.html"
    file.write_text(report_page.render(alerting_report(), "Alerts"), encoding="utf-8")
    look = """(summaries) => summaries.map((one) => {
        const name = one.querySelector(".name"), panel = getComputedStyle(one.parentElement);
        return [name.textContent, getComputedStyle(name).color, panel.borderLeftStyle, one.getBoundingClientRect().top];
    })"""
    with screenshots.open_page(chrome, file.as_uri(), draw=False, theme="light") as opened:
        shown = opened.page.locator(".alert > summary").evaluate_all(look)
        assert [name for name, *_ in shown] == ["Fires", "Over", "Soon", "Long", "Passed"]
        assert [top for *_, top in shown] == sorted(top for *_, top in shown)
        text, red = "rgb(36, 41, 46)", "rgb(224, 47, 68)"
        assert [tuple(style) for _, *style, _ in shown] == [
            (red, "solid"),
            (text, "solid"),
            *[(text, "dashed")] * 3,
        ]
        assert opened.page.locator(".passed-alerts[open]").count() == 1
        # What it says is read without opening it.
        assert opened.page.get_by_text("It may break.").first.is_visible()
        assert opened.complaints == []


EXPLAIN = """(panel) => {
    const { top, bottom } = panel.getBoundingClientRect();
    return [panel.dataset.title, panel.closest("details.row").open, top >= 0 && bottom <= innerHeight];
}"""


def test_a_link_to_a_panel_opens_its_row_and_brings_it_into_sight(chrome):
    """In the preview of a dashboard whose store answers everything: from a figure to the panel that explains it."""
    boards = {board.uid: board for board in all_dashboards(Settings())}
    with (
        store_server() as store,
        Prometheus(store.url) as prometheus,
        preview.serve(prometheus, port=0, folder=None, settings=Settings()) as server,
        running(server) as place,
        screenshots.open_page(chrome, f"http://{place}/d/servescope-overview?from=now-5m", draw=False) as opened,
    ):
        page = opened.page
        links = page.locator('.stat a[href*="#"]')
        links.first.wait_for()
        found = links.evaluate_all("(links) => links.map((link) => link.getAttribute('href'))")
        assert len(found) == 8
        for link in dict.fromkeys(found):
            uid, number = link.partition("#")[2].split("/")
            (title,) = {p["title"] for p in panels_of(boards[uid].to_json()) if str(p["id"]) == number}
            page.goto(f"http://{place}{link}")
            page.locator(f'.panel.asked[data-number="{number}"]').wait_for()
            page.wait_for_function(f"() => ({EXPLAIN})(document.querySelector('.panel.asked'))[2]")
            assert page.locator(".panel.asked").evaluate_all(f"(panels) => panels.map({EXPLAIN})") == [
                [title, True, True]
            ]
        assert opened.complaints == []


def test_a_link_to_a_panel_opens_a_closed_row_of_a_file(address, chrome):
    with screenshots.open_page(chrome, f"{address}#b/77", draw=False) as opened:
        assert opened.page.locator(".panel.asked").evaluate(EXPLAIN) == ["M13", True, True]
        assert opened.complaints == []
