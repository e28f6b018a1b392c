"""`make screenshots`: the README's pictures, of the pages as the demo's calls fill them."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "tools")]

from support.stores import CALLS_OF_A_RUN, spread  # noqa: E402
from support.viewing import end, run_demo, settled, start  # noqa: E402
from support.waiting import wait_until  # noqa: E402

IMAGES = ROOT / "docs" / "images"
RUNS = 150
MAX_BYTES = 150 * 1024


def main() -> None:
    """Write all pictures."""
    from playwright import sync_api

    with tempfile.TemporaryDirectory() as folder:
        demo, store = Path(folder, "demo", "events.db"), Path(folder, "shown", "events.db")
        demo.parent.mkdir()
        run_demo(demo)
        spread(demo, store, RUNS, hours=24)
        viewer = start(store)
        settled(viewer, RUNS * CALLS_OF_A_RUN)
        wait_until(lambda: "still being processed" not in viewer.page("/").text, "the events are not read in")
        trace = viewer.page("/traces?user=ada@example.com&q=umbrella").links("/trace?")[0]
        tool = viewer.page("/calls?q=umbrella").links("/event?")[1]
        with sync_api.sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=chromium())
            for name, path, height, look in (
                ("overview", "/?since=24h", 1000, "light"),
                ("trace", trace, 560, "light"),
                ("generation", tool, 700, "dark"),
            ):
                page = browser.new_page(viewport={"width": 1180, "height": height}, color_scheme=look)
                page.goto(viewer.address)
                page.goto(viewer.base + path)
                take(page, IMAGES / f"{name}.png")
            browser.close()
        end(viewer)


def chromium() -> str:
    """Where the browser is. Ends the program where there is none."""
    from shutil import which

    found = next(filter(None, map(which, ("chromium", "chromium-browser", "google-chrome"))), None)
    return found or sys.exit("no chromium here: there are no new pictures")


def take(page: Any, path: Path) -> None:
    """One picture, small enough for a repository."""
    page.locator(".live").evaluate("line => { line.dataset.state = 'live'; line.textContent = 'Live'; }")
    path.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=path)
    size = path.stat().st_size
    assert size <= MAX_BYTES, f"{path.name} has {size} bytes"
    print(f"{path.relative_to(ROOT)}: {size // 1024} KB")


if __name__ == "__main__":
    main()
