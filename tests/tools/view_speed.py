"""`make view-speed`: how long pages take with 100,000 calls in the store (VIEW_CALLS). First paint in Chromium, and the
whole answer over HTTP; medians of five, in milliseconds."""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "tools")]

from screenshots import chromium  # noqa: E402
from support.stores import CALLS_OF_A_RUN, spread  # noqa: E402
from support.viewing import Viewer, end, run_demo, start  # noqa: E402

PAGES = (
    ("overview, all", "/"),
    ("overview, 24 hours", "/?since=24h"),
    ("overview, one user", "/?user=ada@example.com"),
    ("traces", "/traces"),
    ("calls", "/calls"),
    ("errors", "/calls?errors=1"),
    ("search, in all calls", "/calls?q=lisbon"),
    ("search, in few", "/calls?q=umbrella+ada@example.com"),
    ("conversations", "/sessions"),
)
FIRST_PAINT = "(performance.getEntriesByName('first-contentful-paint')[0] || {}).startTime || null"
ROUNDS = 5


def main() -> None:
    """Make the store, open each page, print the table."""
    from playwright import sync_api

    calls = int(os.environ.get("VIEW_CALLS", "100000"))
    with tempfile.TemporaryDirectory() as folder, sync_api.sync_playwright() as driver:
        demo, store = Path(folder, "demo", "events.db"), Path(folder, "shown", "events.db")
        demo.parent.mkdir()
        run_demo(demo)
        began = time.monotonic()
        spread(demo, store, calls // CALLS_OF_A_RUN, hours=7 * 24, users=500)
        size = store.stat().st_size / 1e6
        print(f"{calls} calls, {size:.0f} MB, made in {time.monotonic() - began:.0f} s")
        browser = driver.chromium.launch(executable_path=chromium())
        page = browser.new_page()
        began = time.monotonic()
        viewer = start(store)
        print(f"first whole overview {time.monotonic() - began:.1f} s after the command")
        page.goto(viewer.address)
        paints = [first_paint(page, viewer.base) for _ in range(ROUNDS)]
        print(f"while everything is read in, the overview paints after {statistics.median(paints):.0f} ms")
        while (
            "still being processed" in viewer.page("/?since=15m").text
            or "without a known price" in viewer.page("/").text
        ):
            time.sleep(0.5)
        print(f"all priced and searchable after {time.monotonic() - began:.0f} s")
        trace = viewer.page("/traces").links("/trace?")[0]
        event = viewer.page("/calls").links("/event?")[0]
        print("| page | first paint | whole answer | KB |\n|---|---|---|---|")
        for name, path in (*PAGES, ("one trace", trace), ("one generation", event)):
            paints = [first_paint(page, viewer.base + path) for _ in range(ROUNDS)]
            answers, length = zip(*(answer(viewer, path) for _ in range(ROUNDS)), strict=True)
            print(
                f"| {name} | {statistics.median(paints):.0f} | {statistics.median(answers):.0f} | {length[0] // 1024} |"
            )
        browser.close()
        end(viewer)


def first_paint(page: Any, address: str) -> float:
    """Milliseconds from the click to something on the screen."""
    page.goto(address)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = page.evaluate(FIRST_PAINT)
        if found is not None:
            return float(found)
        page.wait_for_timeout(20)
    raise AssertionError(f"{address} was not painted")


def answer(viewer: Viewer, path: str) -> tuple[float, int]:
    """Milliseconds until the whole answer is there, and its bytes."""
    began = time.perf_counter()
    content = viewer.get(path).content
    return (time.perf_counter() - began) * 1000, len(content)


if __name__ == "__main__":
    main()
