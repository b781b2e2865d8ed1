"""`make pictures`: docs/pictures/*.png of every dashboard, by Debian's Chromium, from a running demo or one of its own.

The visual test stands on the same functions.
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
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from demo import local, stack
from demo.stack import ROOT, Run, Stack
from servescope import snapshot
from servescope.errors import ServescopeError
from servescope.evaluate import Prometheus, check_dashboards
from servescope.settings import Settings

FOLDER = ROOT / "docs/pictures"
WIDTH, HEIGHT = 1400, 900
PHONE_WIDTH = 390
DATA_WITHIN_S = 420
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")


def chromium() -> str | None:
    """The system's Chromium; None without one."""
    return next((path for name in CHROMIUMS if (path := shutil.which(name))), None)


@dataclass
class Opened:
    """A page in the browser, and what it complained about."""

    page: Page
    complaints: list[str] = field(default_factory=list)


@contextmanager
def browser() -> Iterator[Browser]:
    """A headless Chromium.

    Raises:
        ServescopeError: there is none.
    """
    path = chromium()
    if path is None:
        raise ServescopeError("chromium is missing: scripts/setup.sh browser installs it (Debian package chromium)")
    with sync_playwright() as playwright:
        # Root cannot run Chromium's sandbox; what is opened here is our own page.
        opened = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield opened
        opened.close()


def open_page(browser: Browser, address: str, *, dark: bool = False, width: int = WIDTH) -> Opened:
    """Open a page without any network but the address itself, draw all of it, and hear what it complains about."""
    context = browser.new_context(
        viewport={"width": width, "height": HEIGHT}, color_scheme="dark" if dark else "light", timezone_id="UTC"
    )
    page = context.new_page()
    page.set_default_timeout(60_000)
    opened = Opened(page)
    page.on("console", lambda message: message.type == "error" and opened.complaints.append(message.text))
    page.on("pageerror", lambda error: opened.complaints.append(str(error)))
    page.on("requestfailed", lambda request: opened.complaints.append(f"{request.url}: {request.failure}"))
    page.goto(address)
    page.evaluate("window.drawAll()")
    return opened


def drawn(page: Page) -> dict[str, str]:
    """For each panel (dashboard / title) what it shows: how many marks, figures or lines, or why there are none."""
    found: dict[str, str] = page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll(".panel")].map((panel) => {
            const name = `${panel.closest(".board").id} / ${panel.dataset.title}`;
            const empty = panel.querySelector(".empty");
            if (empty) return [name, empty.textContent.trim()];
            const marks = ".plot .trace path[d], .plot .points path[d], .plot .barlayer path[d], .plot .hm image, "
                + ".stat b, .bar b, tbody tr, .markdown p";
            return [name, `${panel.querySelectorAll(marks).length} drawn`];
        }))"""
    )
    return found


def shrink(path: Path) -> None:
    """Reduce a picture to 64 colours: plots need no more, and the repository stays small."""
    import cv2  # comes with the demo's OCR
    import numpy as np

    picture: Any = cv2.imread(str(path))
    levels = np.round(np.arange(256) / 17).astype(np.uint8) * 17
    cv2.imwrite(str(path), levels[picture], [cv2.IMWRITE_PNG_COMPRESSION, 9])


def take(prometheus_url: str, settings: Settings, window: snapshot.Window, folder: Path) -> list[Path]:
    """Write a picture of each dashboard, and one of the alerts' timeline."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with Prometheus(prometheus_url) as prometheus, browser() as chrome, tempfile.TemporaryDirectory() as scratch:
        for board in snapshot.load_dashboards(settings, None):
            report = snapshot.collect(prometheus, [board], window, settings)
            page = Path(scratch) / f"{board['uid']}.html"
            page.write_text(snapshot.render(report, board["title"]), encoding="utf-8")
            opened = open_page(chrome, page.as_uri())
            if opened.complaints:
                raise ServescopeError(f"{board['uid']}: {opened.complaints[0]}")
            name = board["uid"].removeprefix("servescope-")
            targets = {name: f"#{board['uid']}"} | ({"alerts": "#alerts"} if name == "overview" else {})
            for stem, selector in targets.items():
                picture = folder / f"{stem}.png"
                opened.page.locator(selector).screenshot(path=str(picture))
                shrink(picture)
                written.append(picture)
            opened.page.context.close()
    return written


def main() -> int:
    """Attach to a demo that runs on these ports, or run one until every panel that can has data."""
    settings = Settings()
    run = Run(ROOT / ".servescope/pictures", stack.ports_from_environment(), ROOT / "demo/serve_config.yaml")
    if stack.answers(f"{run.prometheus_url}/-/ready"):
        return _take(run, settings, 900)
    with Stack(run, local.COMPONENTS, print):
        begun = time.time()
        while any(check.missing for check in check_dashboards(run.prometheus_url, settings)):
            if time.time() - begun > DATA_WITHIN_S:
                break
            time.sleep(5)
        # A graph of a few points shows nothing.
        time.sleep(max(0.0, begun + 300 - time.time()))
        return _take(run, settings, 420)


def _take(run: Run, settings: Settings, seconds: float) -> int:
    now = time.time()
    window = snapshot.window_of(now - seconds, now, settings.scrape_interval_s)
    for path in take(run.prometheus_url, settings, window, FOLDER):
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ServescopeError as error:
        print(f"pictures: {error}", file=sys.stderr)
        sys.exit(1)
