"""The pages in a real browser: Debian's Chromium, driven by playwright. Without it every test here is skipped.

The browser can reach the page under test and nothing else: other names do not resolve, and a request that leaves is
recorded all the same.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.viewing import Viewer
from support.window import Window

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """The browser itself."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright here: make browser installs it")
    if CHROMIUM is None:
        pytest.skip("no Chromium here, the pages were not opened: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM,
            args=["--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1", "--disable-background-networking"],
        )
        yield browser
        browser.close()


@pytest.fixture
def window(chromium: Any) -> Iterator[Callable[..., Window]]:
    """`window(viewer)`: a window that has opened the printed address; what it complains of fails the test."""
    opened: list[tuple[Any, Window]] = []

    def window(viewer: Viewer, width: int = 1280, height: int = 900, **options: Any) -> Window:
        context = chromium.new_context(viewport={"width": width, "height": height}, **options)
        context.set_default_timeout(15_000)
        made = Window(context.new_page(), viewer.base)
        made.page.on("console", lambda message: made.complaints.append(f"{message.type}: {message.text}"))
        made.page.on("pageerror", lambda error: made.complaints.append(str(error)))
        made.page.on("dialog", lambda dialog: (made.complaints.append(dialog.message), dialog.dismiss()))
        context.on("request", lambda request: made.requested.append(request.url))
        made.page.goto(viewer.address)
        opened.append((context, made))
        return made

    yield window
    for context, made in opened:
        made.check()
        context.close()
