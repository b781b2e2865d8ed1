"""`make pictures`: docs/pictures/*.png of every dashboard, by Debian's Chromium, from a running demo or a new one.

The visual test uses the same functions.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

from demo import ROOT, local
from demo.stack import environment
from demo.stack.component import answers
from demo.stack.components.collector import trace_files
from demo.stack.ports import LOOPBACK
from demo.stack.run import Run
from demo.stack.serve_config import DEFAULT_SERVE_CONFIG
from demo.stack.supervisor import Stack
from servescope.clients import otlp_files
from servescope.clients.model import failed, slowest
from servescope.clients.prometheus import Prometheus
from servescope.dashboards import all_dashboards
from servescope.errors import ServescopeError
from servescope.report import collect
from servescope.report import page as report_page
from servescope.report.check import check_dashboards
from servescope.report.queries import Window
from servescope.settings import Settings

FOLDER = ROOT / "docs/pictures"
WIDTH, HEIGHT = 1300, 900
PHONE_WIDTH = 390
DATA_WITHIN_S = 420
FILLED_AFTER_S = 300  # a graph of a few points shows nothing
LONGEST_S = 900
COLORS, FREQUENT = 128, 80
# All deployments at once give indistinguishable lines.
CHOSEN = {"servescope-deployment": {"application": ["ocr"], "deployment": ["Recogniser"]}}
MISSING = "chromium is missing; `make tools` installs it (Debian packages chromium and fonts-dejavu-core)"
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")


def chromium() -> str | None:
    """The path of the system's Chromium; None if there is none."""
    return next((path for name in CHROMIUMS if (path := shutil.which(name))), None)


@dataclass
class Opened:
    """A page in the browser, and its errors."""

    page: Page
    complaints: list[str] = field(default_factory=list)

    def hear(self, message: ConsoleMessage) -> None:
        """Record an error from the page's console."""
        if message.type == "error":
            self.complaints.append(message.text)

    def hear_request(self, request: Request) -> None:
        """Record a request that the page must not make."""
        if not request.url.startswith(("file:", "data:", "blob:")):
            self.complaints.append(f"requests {request.url}")


@contextmanager
def browser() -> Iterator[Browser]:
    """A headless Chromium.

    Raises:
        ServescopeError: there is none.
    """
    path = chromium()
    if path is None:
        raise ServescopeError(MISSING)
    with sync_playwright() as playwright:
        # Chromium's sandbox does not work as root; only the project's own pages are opened.
        opened = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield opened
        opened.close()


@contextmanager
def open_page(
    browser: Browser,
    address: str,
    *,
    draw: bool = True,
    offline: bool = False,
    width: int = WIDTH,
    theme: Literal["dark", "light"] = "light",
) -> Iterator[Opened]:
    """Open a page, draw all of it including closed rows (or leave it as it opens), and record its errors.

    Offline, there is no network, and any request other than for the page's own file is an error.
    """
    context = browser.new_context(viewport={"width": width, "height": HEIGHT}, color_scheme=theme, timezone_id="UTC")
    try:
        context.set_offline(offline)
        page = context.new_page()
        page.set_default_timeout(60_000)
        opened = Opened(page)
        page.on("console", opened.hear)
        page.on("pageerror", lambda error: opened.complaints.append(str(error)))
        page.on("requestfailed", lambda request: opened.complaints.append(f"{request.url}: {request.failure}"))
        if offline:
            page.on("request", opened.hear_request)
        answer = page.goto(address)
        if answer and not answer.ok:
            raise ServescopeError(f"{address}: {answer.status} {answer.text().strip()}")
        if draw:
            page.evaluate("window.fillAll().then(() => window.drawAll())")
        yield opened
    finally:
        context.close()


def drawn(page: Page) -> dict[str, str]:
    """The content of each panel (dashboard / title): how many marks, values or lines, or why there are none."""
    found: dict[str, str] = page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll(".panel")].map((panel) => {
            const name = `${panel.closest(".board").id} / ${panel.dataset.title}`;
            const empty = panel.querySelector(".empty");
            if (empty) return [name, empty.textContent.trim()];
            const marks = ".plot .trace path[d], .plot .points path[d], .plot .barlayer path[d], .plot .hm image, "
                + ".stat b, .bar b, tbody tr, .markdown p, .log > div";
            return [name, `${panel.querySelectorAll(marks).length} drawn`];
        }))"""
    )
    return found


# How a panel of logs, traces or Grafana's own alerts begins where it has nothing to show.
WITHOUT_GRAFANA = ("Not here: ", "None in this time range", "Alerts that Grafana itself evaluates")


def unexplained(found: dict[str, str], settings: Settings) -> list[str]:
    """The panels of `drawn` that are empty without saying what they need."""
    reasons = {
        f"{board.uid} / {panel.title}": panel.absent for board in all_dashboards(settings) for panel in board.panels
    }
    wrong = []
    for name, text in found.items():
        reason = reasons.get(name)
        explained = text.startswith(WITHOUT_GRAFANA) or bool(reason and text == f"No data: needs {reason}")
        if text == "0 drawn" or not (text.endswith(" drawn") or explained):
            wrong.append(f"{name}: {text}")
    return wrong


def shrink(path: Path) -> None:
    """Reduce a picture to a palette: plots need no more colours, and the repository stays small."""
    picture = Image.open(path).convert("RGB")
    # The most frequent colours unchanged, so that backgrounds and areas keep theirs; the others by coverage, so that
    # thin lines keep the colours of the legend.
    counted = cast(list[tuple[int, tuple[int, int, int]]], picture.getcolors(picture.width * picture.height))
    frequent = [color for _, color in sorted(counted, reverse=True)[:FREQUENT]]
    covering = picture.quantize(COLORS - FREQUENT, Image.Quantize.MAXCOVERAGE).getpalette() or []
    palette = Image.new("P", (1, 1))
    palette.putpalette([part for color in frequent for part in color] + covering)
    picture.quantize(palette=palette, dither=Image.Dither.NONE).save(path, optimize=True)


def take(prometheus_url: str, settings: Settings, window: Window, *, folder: Path) -> list[Path]:
    """Write a picture of each dashboard, as it opens, and return the files.

    Before that, a snapshot of all dashboards with everything chosen and the closed rows open must show each panel.

    Raises:
        ServescopeError: there is no Chromium, Prometheus is unreachable, a page has errors, or a panel is empty
            without a reason.
    """
    boards = collect.load_dashboards(settings, None)
    written = []
    with Prometheus(prometheus_url) as prometheus, browser() as chrome, tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch) / "all.html"
        report = collect.collect(prometheus, boards, window, settings=settings, every=True)
        whole.write_text(report_page.render(report, "Ray Serve"), encoding="utf-8")
        with open_page(chrome, whole.as_uri(), offline=True) as opened:
            if wrong := [*opened.complaints, *unexplained(drawn(opened.page), settings)]:
                raise ServescopeError(f"panels empty without a reason: {'; '.join(wrong)}")
        for board in boards:
            report = collect.collect(prometheus, [board], window, settings=settings, chosen=CHOSEN.get(board["uid"]))
            html, picture = Path(scratch) / f"{board['uid']}.html", Path(scratch) / f"{board['uid']}.png"
            html.write_text(report_page.render(report, board["title"]), encoding="utf-8")
            with open_page(chrome, html.as_uri(), draw=False) as opened:
                opened.page.evaluate("window.drawAll(false)")
                if opened.complaints:
                    raise ServescopeError(f"{board['uid']}: {opened.complaints[0]}")
                opened.page.locator(f"#{board['uid']}").screenshot(path=str(picture))
            shrink(picture)
            written.append(picture)
        # All or none: pictures of different times would contradict each other.
        folder.mkdir(parents=True, exist_ok=True)
        return [Path(shutil.copy(picture, folder)) for picture in written]


def take_waterfall(preview_url: str, traces: Path, *, folder: Path) -> Path:
    """A picture of the preview's page of one trace: the latest that failed and has log lines, else the slowest.

    Raises:
        ServescopeError: there is no trace, or the page has errors.
    """
    found = otlp_files.read_traces(traces).values()
    chosen = [*failed(found)[:20], *slowest(found, 1)]
    with browser() as chrome:
        for trace in chosen:
            with open_page(chrome, f"{preview_url}/trace/{trace.trace_id}", draw=False) as opened:
                if opened.complaints:
                    raise ServescopeError(f"{trace.trace_id}: {opened.complaints[0]}")
                if opened.page.locator(".waterfall .log").count() or trace is chosen[-1]:
                    picture = folder / "waterfall.png"
                    opened.page.locator(".waterfall").first.screenshot(path=str(picture))
                    shrink(picture)
                    return picture
    raise ServescopeError(f"{traces}: no traces")


def main() -> int:
    """Attach to a running demo on these ports, or run one until every panel that can have data has it."""
    if chromium() is None:
        raise ServescopeError(MISSING)
    settings = Settings()
    directory = environment.directory_from_environment("pictures")
    run = Run(
        directory=directory, ports=environment.ports_from_environment(), serve_config=DEFAULT_SERVE_CONFIG, probes=True
    )
    if answers(f"{run.prometheus_url}/-/ready"):
        print(f"attached to the demo at {run.prometheus_url}")
        return _take(run, settings)
    with Stack(run, local.COMPONENTS, print):
        return _take(run, settings)


def _take(run: Run, settings: Settings) -> int:
    with Prometheus(run.prometheus_url) as prometheus:
        (started_at,) = prometheus.query('process_start_time_seconds{job="prometheus"}')
    began = float(started_at["value"][1])
    deadline = time.time() + DATA_WITHIN_S
    while missing := [f"{c.title} / {m}" for c in check_dashboards(run.prometheus_url, settings) for m in c.missing]:
        if time.time() > deadline:
            raise ServescopeError(f"no data after {DATA_WITHIN_S} s: {', '.join(missing)}")
        time.sleep(5)
    print("all panels have data")
    time.sleep(max(0.0, began + FILLED_AFTER_S - time.time()))
    now = time.time()
    window = collect.window_of(max(began, now - LONGEST_S), now, scrape_interval_s=settings.scrape_interval_s)
    written = take(run.prometheus_url, settings, window, folder=FOLDER)
    if answers(f"http://{LOOPBACK}:{run.ports.preview}/-/ready"):
        written.append(take_waterfall(f"http://{LOOPBACK}:{run.ports.preview}", trace_files(run), folder=FOLDER))
    for path in written:
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ServescopeError as error:
        print(f"pictures: {error}", file=sys.stderr)
        sys.exit(1)
