"""A browser, and the report of a network open in it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest

from browser.networks import bare, deep, demo, odd
from lowtide.report import Report, report_json
from lowtide_plugins.emitters.html import page

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome", "msedge")


@attrs.frozen
class Opened:
    """A page with what it asked for and complained about.

    Attributes:
        requests: URLs other than that of the page itself.
        messages: what it wrote to the console, and errors of its script.
    """

    page: Page
    requests: list[str]
    messages: list[str]


Open = Callable[..., Opened]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The browser that LOWTIDE_BROWSER names, else the first that is installed."""
    named = os.environ.get("LOWTIDE_BROWSER", "")
    found = named or next(filter(None, map(shutil.which, PROGRAMS)), "")
    if not found:
        pytest.skip(f"no browser is installed ({', '.join(PROGRAMS)}) and LOWTIDE_BROWSER names none")
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with driver.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=found)
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def reports() -> Callable[[str], Report]:
    """Reports by name, each made once."""
    made: dict[str, Report] = {}

    def report(name: str) -> Report:
        if name not in made:
            made[name] = {"bare": bare, "deep": deep, "demo": demo, "odd": odd}[name]()
        return made[name]

    return report


@pytest.fixture
def opened(browser: Browser, reports: Callable[[str], Report], tmp_path: Path) -> Iterator[Open]:
    """Open the page of a report; when the test is done, nothing was asked for and nobody complained."""
    pages: list[Opened] = []

    def open_page(name: str, *, scheme: str = "light", width: int = 1280, height: int = 800) -> Opened:
        path = tmp_path / "report.html"
        path.write_text(page(report_json(reports(name), volatile=False)), "utf-8")
        context = browser.new_context(
            color_scheme="dark" if scheme == "dark" else "light", viewport={"width": width, "height": height}
        )
        made = Opened(context.new_page(), [], [])
        made.page.on("console", lambda message: made.messages.append(message.text))
        made.page.on("pageerror", lambda error: made.messages.append(f"{error}\n{error.stack}"))
        made.page.on("request", lambda request: made.requests.append(request.url))
        made.page.goto(path.as_uri())
        ready = made.page.evaluate("document.documentElement.dataset.ready")
        assert ready == "true", made.messages
        made.requests.remove(path.as_uri())
        pages.append(made)
        return made

    yield open_page
    for made in pages:
        assert [url for url in made.requests if not url.startswith("data:")] == []
        assert made.messages == []
        made.page.context.close()
