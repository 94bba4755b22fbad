"""A headless Chromium of the system's, in which no page may reach for anything but its own file, nor complain."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from pytest_ptq.report.html import html_report
from tests.report.made_history import history

NAMES = ("chromium", "chromium-browser", "google-chrome")
REQUIRED = "PTQ_BROWSER"
"""Set where a missing browser is to fail, as in CI; elsewhere these tests are skipped without one."""
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        why = f"no Chromium is installed ({', '.join(NAMES)})"
        if os.environ.get(REQUIRED):
            pytest.fail(why)
        pytest.skip(why)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(html_report(history(20)), encoding="utf-8")
    return path


@dataclass
class Window:
    """Opens pages, and keeps what they complained of and what they asked for."""

    browser: Browser
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    contexts: list[BrowserContext] = field(default_factory=list)

    def open(self, path: Path, **more: object) -> Page:
        """The page in `path`, once every chart of it is drawn."""
        context = self.browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **more})  # type: ignore[arg-type]
        self.contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda said: self.complaints.append(f"{said.type}: {said.text}"))
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("dialog", lambda dialog: self.complaints.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: self.requests.append(request.url))
        page.goto(path.as_uri())
        drawn(page)
        return page

    def check(self) -> None:
        assert self.complaints == []
        assert [url for url in self.requests if not url.startswith(("file:", "data:"))] == []
        assert sum(url.startswith("file:") for url in self.requests) == len(self.contexts)


def drawn(page: Page) -> None:
    """Wait until every chart in sight of somebody who scrolls is drawn."""
    page.wait_for_selector("html[data-drawn=yes]", state="attached")


@pytest.fixture
def window(browser: Browser) -> Iterator[Window]:
    window = Window(browser)
    yield window
    for context in window.contexts:
        context.close()
    window.check()


AS_OPENED = """() => {
  document.getElementById("reset").click();
  document.querySelector("input[name=theme]").click();
  for (const details of document.querySelectorAll("details[open]")) details.open = false;
  document.activeElement.blur();
  scrollTo(0, 0);
}"""


@pytest.fixture(scope="session")
def opened(browser: Browser, report: Path) -> Iterator[tuple[Window, Page]]:
    window = Window(browser)
    yield window, window.open(report)
    window.contexts[0].close()


@pytest.fixture
def page(opened: tuple[Window, Page]) -> Iterator[Page]:
    """One page for many tests, as it was when it was opened: opening takes longer than most of them."""
    window, page = opened
    page.emulate_media(media="screen", color_scheme="light")
    page.mouse.move(0, 0)
    page.evaluate(AS_OPENED)
    drawn(page)
    yield page
    window.check()


@pytest.fixture
def settled() -> Callable[[Page], None]:
    return drawn
