"""For a report that is printed: how its page looks at the moment at which the browser puts it on paper."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page

# A browser prints when the handlers of the event have returned: what an asynchronous promise draws is not printed.
_BEFORE_PRINT = """() => {
    dispatchEvent(new Event("beforeprint"));
    const pictures = [...document.querySelectorAll(".plot .main-svg:first-child")];
    const room = (picture) => picture.closest(".plot").clientWidth;
    return {
        theme: document.documentElement.dataset.theme,
        drawn: pictures.length,
        closed: document.querySelectorAll("details.row:not([open])").length,
        too_wide: pictures.filter((picture) => picture.getBoundingClientRect().width > room(picture) + 1).length,
    };
}"""


def before_print(page: Page) -> dict[str, Any]:
    """Simulate the start of printing; returns its theme and how many plots are drawn, rows closed, plots wider
    than their place.
    """
    page.emulate_media(media="print", color_scheme="dark")
    shown: dict[str, Any] = page.evaluate(_BEFORE_PRINT)
    return shown


def after_print(page: Page) -> None:
    """Simulate the end of printing."""
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    page.emulate_media(media="screen", color_scheme="dark")


def theme(page: Page) -> str:
    """Dark or light."""
    found: str = page.evaluate("document.documentElement.dataset.theme")
    return found
