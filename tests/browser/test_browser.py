"""What people do with the page, in Chromium."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.features import needs
from support.programs import environment
from support.viewing import HOSTILE, Viewer, clean_environment, end, settled, start, started
from support.waiting import wait_until
from support.window import Window

from posthog_autoinstrument.testing import Fault, OpenAIServer, PostHogServer

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300), needs("responses")]

Open = Callable[..., Window]
SCREENS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "phone": {"width": 360, "height": 740, "has_touch": True, "is_mobile": True},
}


def addresses(viewer: Viewer) -> Iterator[str]:
    """Every kind of page that there is."""
    yield from ("/", "/traces", "/calls", "/sessions", "/delete", "/send", "/calls?q=nowhere", "/?since=1h&errors=1")
    yield from viewer.page("/traces").links("/trace?")
    yield from viewer.page("/calls").links("/event?")


def rows(page: Any) -> int:
    return int(page.locator(".rows tbody tr:visible").count())


@pytest.mark.parametrize("screen", SCREENS)
def test_every_page_is_sound_and_accessible(viewer: Viewer, window: Open, screen: str) -> None:
    axe_module = pytest.importorskip("axe_playwright_python.sync_playwright")
    shown = window(viewer, **SCREENS[screen])
    axe = axe_module.Axe()
    for path in addresses(viewer):
        page = shown.go(path)
        found = axe.run(page).response["violations"]
        assert [(path, one["id"], one["nodes"][0]["html"]) for one in found] == []
        assert page.locator("h1").count() == 1
        room = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        assert room[0] <= room[1], f"{path} is wider than the screen"
    assert len(shown.requested) > 20


def test_dark_is_dark(viewer: Viewer, window: Open) -> None:
    def brightness(color_scheme: str) -> int:
        page = window(viewer, color_scheme=color_scheme).page
        color = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(map(int, re.findall(r"\d+", color)[:3]))

    assert brightness("light") > 600
    assert brightness("dark") < 150


def test_from_the_overview_to_one_generation_and_back(viewer: Viewer, window: Open) -> None:
    page = window(viewer).page
    page.get_by_role("link", name="Traces", exact=True).click()
    page.wait_for_url("**/traces")
    page.get_by_role("link", name="Where is it warm in November?").click()
    page.wait_for_url("**/trace?*")
    assert rows(page) == 5
    page.locator("tr", has_text="get_weather").first.get_by_role("link").click()
    page.wait_for_url("**/event?*")
    tool = page.locator(".tool").first
    call, result = tool.locator("section").nth(0).bounding_box(), tool.locator("section").nth(1).bounding_box()
    assert abs(call["y"] - result["y"]) < 2, "the result does not stand beside its call"
    assert result["x"] > call["x"] + call["width"] - 1
    first = page.url
    page.get_by_role("link", name="next →").click()
    page.wait_for_url(lambda url: url != first)
    assert "get_weather" in page.locator("h1").inner_text()
    page.get_by_role("link", name="← previous").click()
    page.wait_for_url(first)
    page.locator("[data-up]").click()
    page.wait_for_url("**/trace?*")


def test_the_command_that_the_demo_prints_shows_its_calls_with_costs(tmp_path: Path, window: Open) -> None:
    scripts = str(Path(sys.executable).parent)
    environ = clean_environment(
        POSTHOG_AUTOINSTRUMENT_DB=str(tmp_path / "events.db"), PATH=f"{scripts}{os.pathsep}{os.environ['PATH']}"
    )
    demo = subprocess.run(
        ["posthog-instrument", "--local", "demo"], env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    printed = re.search(r"^ +(\S*posthog-instrument view( --db \S+)?)$", demo.stdout, re.MULTILINE)
    assert printed is not None, demo.stdout
    viewer = started([*printed[1].split(), "--no-browser", "--port", "0"], environ, tmp_path)
    try:
        settled(viewer, 8)
        wait_until(lambda: "all calls have a price" in viewer.page("/").text, "no costs")
        page = window(viewer).go("/")
        assert page.get_by_text("8 in total").count() == 1
        assert page.locator(".tiles").get_by_text(re.compile(r"^\$0\.0000\d+")).count() == 1
    finally:
        end(viewer)


def test_filters_apply_at_once_and_stay_in_the_address(viewer: Viewer, window: Open) -> None:
    page = window(viewer).go("/calls")
    assert rows(page) == 9
    page.locator("select[name=user]").select_option("ada@example.com")
    page.wait_for_url("**user=ada*")
    assert rows(page) == 5
    assert "model=" not in page.url
    page.locator("select[name=kind]").select_option("span")
    page.wait_for_url("**kind=span*")
    assert rows(page) == 1
    page.reload()
    assert page.locator("select[name=user]").input_value() == "ada@example.com"
    assert rows(page) == 1
    page.get_by_role("link", name="1 hour").click()
    page.wait_for_url("**since=1h*")
    assert "user=ada" in page.url
    page.get_by_role("link", name="clear filters").click()
    page.wait_for_url("**/calls")
    page.get_by_label("errors only").check()
    page.wait_for_url("**errors=1*")
    assert rows(page) == 1
    page.go_back()
    page.wait_for_url("**/calls")
    assert rows(page) == 9


def test_without_scripts_the_page_works_too(viewer: Viewer, window: Open) -> None:
    page = window(viewer, java_script_enabled=False).go("/calls")
    page.locator("select[name=user]").select_option("ada@example.com")
    page.get_by_role("button", name="Apply").click()
    assert page.locator(".rows tbody tr").count() == 5
    page.locator(".open").first.click()
    assert page.locator(".message").count() > 0


def test_search_by_keyboard(viewer: Viewer, window: Open) -> None:
    page = window(viewer).page
    wait_until(lambda: viewer.page("/calls?q=umbrella").links("/event?"), "the search does not find it")
    page.keyboard.press("/")
    page.keyboard.type("umbrella")
    page.keyboard.press("Enter")
    page.wait_for_url("**/calls?q=umbrella")
    assert rows(page) == 2
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    assert page.evaluate("document.activeElement.className") == "open"
    page.keyboard.press("Enter")
    page.wait_for_url("**/event?*")
    page.keyboard.press("u")
    page.wait_for_url("**/trace?*")


def test_the_keyboard_reaches_everything_and_shows_where_it_is(viewer: Viewer, window: Open) -> None:
    page = window(viewer).go("/traces")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    assert page.locator(".skip").bounding_box()["x"] >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    seen = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        where, outline = page.evaluate(
            "[document.activeElement.outerHTML.slice(0, 300), getComputedStyle(document.activeElement).outlineStyle]"
        )
        if where.startswith("<body"):
            break
        seen.add(where)
        assert outline != "none", where
    wanted = ("<select", 'name="errors"', "/trace?id=", "export.csv", "/delete")
    assert [one for one in wanted if not any(one in html for html in seen)] == []


@pytest.mark.parametrize("screen", ["light", "phone"])
def test_the_times_on_the_axis_of_a_trace_stand_apart(view: Any, window: Open, tmp_path: Path, screen: str) -> None:
    viewer = view(tmp_path / "events.db", "--receive", "--port", "0")
    durations = (0.004, 0.217, 0.2, 1.0, 1.04, 1.09, 2.2, 9.9, 10.0, 59.0, 480.0, 7_300.0)
    for seconds in durations:
        said = {"$ai_trace_id": f"t{seconds}", "$ai_latency": seconds}
        event = {"event": "$ai_generation", "distinct_id": "ann", "properties": said}
        sent = viewer.http.post(viewer.base + "/batch/", json={"api_key": "phc_any", "batch": [event]}, timeout=30)
        assert sent.status_code == 200
    shown = window(viewer, **SCREENS[screen])
    for seconds in durations:
        page = shown.go(f"/trace?id=t{seconds}")
        lane, *boxes = page.evaluate(
            "[...document.querySelectorAll('th.lane, .axis text')].map(e => e.getBoundingClientRect())"
            ".map(box => [box.left, box.right])"
        )
        assert len(boxes) > 2
        edges = [lane[0], *(edge for box in boxes for edge in box), lane[1]]
        assert edges == sorted(edges), f"{seconds} s: {edges}"


def test_steps_of_a_trace_can_be_folded(viewer: Viewer, window: Open) -> None:
    page = window(viewer).go("/traces")
    page.get_by_role("link", name="Where is it warm in November?").click()
    page.wait_for_url("**/trace?*")
    button = page.locator(".fold")
    button.focus()
    page.keyboard.press("Enter")
    assert button.get_attribute("aria-expanded") == "false"
    assert rows(page) == 4
    page.keyboard.press("Space")
    assert rows(page) == 5


def test_exports_are_downloaded(viewer: Viewer, window: Open, tmp_path: Path) -> None:
    page = window(viewer).go("/calls?user=ada@example.com")
    for name in ("JSONL", "CSV"):
        with page.expect_download() as download:
            page.get_by_role("link", name=name).click()
        download.value.save_as(tmp_path / name)
    lines = (tmp_path / "JSONL").read_text().splitlines()
    assert {json.loads(line)["distinct_id"] for line in lines} == {"ada@example.com"}
    with (tmp_path / "CSV").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == len(lines) == 5


def test_the_event_is_copied(viewer: Viewer, window: Open) -> None:
    shown = window(viewer, permissions=["clipboard-read", "clipboard-write"])
    page = shown.go(viewer.page("/calls?errors=1").links("/event?")[0])
    page.get_by_role("button", name="Copy JSON").click()
    page.get_by_text("Copied").wait_for()
    event = json.loads(page.evaluate("navigator.clipboard.readText()"))
    assert event["properties"]["$ai_model_parameters"] == {"temperature": 9}


def test_a_bar_of_a_plot_leads_to_its_time(viewer: Viewer, window: Open) -> None:
    page = window(viewer).page
    slot = page.locator(".plot").first.locator(".slot")
    assert "succeeded" in slot.last.locator("title").inner_html()
    slot.last.click()
    page.wait_for_url("**since=*until=*")
    assert page.get_by_role("link", name="custom time range").count() == 1


def test_deleting_asks_first(store: Path, view: Callable[..., Viewer], window: Open) -> None:
    viewer = view(store)
    settled(viewer, 8)
    page = window(viewer).page
    page.get_by_role("link", name="Delete all").click()
    page.get_by_role("link", name="Keep them").click()
    page.wait_for_url(viewer.base + "/")
    assert page.get_by_text("8 in total").count() == 1
    page.get_by_role("link", name="Delete all").click()
    page.get_by_role("button", name="Delete all").click()
    page.get_by_text("9 events were deleted").wait_for()
    assert page.get_by_text("No calls yet").count() == 1


def test_sending_is_followed(
    store: Path, view: Callable[..., Viewer], window: Open, posthog_server: PostHogServer
) -> None:
    posthog_server.fail_next(Fault(status=503))
    viewer = view(store, POSTHOG_PROJECT_TOKEN="phc_of_the_page_test", POSTHOG_HOST=posthog_server.url)
    settled(viewer, 8)
    page = window(viewer).page
    page.get_by_role("link", name="Send to PostHog").click()
    page.get_by_role("button", name="Send 9 events").click()
    page.get_by_text("9 events were sent.").wait_for()  # by itself: nobody loads the page again
    assert len(posthog_server.events) == 9


def call_once(path: Path, server: OpenAIServer, words: str) -> None:
    """A program that makes one call, under the launcher."""
    program = (
        "import sys, openai; openai.OpenAI().chat.completions.create("
        "model='gpt-4o', messages=[{'role': 'user', 'content': sys.argv[1]}])"
    )
    command = [sys.executable, "-m", "posthog_autoinstrument", sys.executable, "-c", program, words]
    environ = environment(server, None, POSTHOG_AUTOINSTRUMENT_DB=str(path))
    subprocess.run(command, env=environ, check=True, timeout=60, capture_output=True)


def test_calls_appear_while_programs_run_and_nothing_is_disturbed(
    store: Path, view: Callable[..., Viewer], window: Open, openai_server: OpenAIServer
) -> None:
    viewer = view(store)
    settled(viewer, 8)
    page = window(viewer, height=300).go("/calls?kind=generation")
    page.locator(".live[data-state=live]").wait_for()
    row = page.locator("tr", has_text="Name three things")
    link = row.get_by_role("link")
    link.focus()
    link.scroll_into_view_if_needed()
    scrolled, place = page.evaluate("scrollY"), row.bounding_box()["y"]
    assert scrolled > 0
    page.evaluate("window.untouched = true")

    call_once(store, openai_server, "Is it live?")
    page.get_by_role("link", name="Is it live?").wait_for()
    assert rows(page) == 8
    assert page.evaluate("window.untouched"), "the page was loaded again"
    assert page.evaluate("document.activeElement.textContent").startswith("Name three things")
    assert abs(row.bounding_box()["y"] - place) < 3, "what was in view has moved"
    assert page.locator("select[name=kind]").input_value() == "generation"

    page.go_back()  # the overview
    page.get_by_text("9 in total").wait_for()
    page.locator("#figures-table summary").click()
    page.locator(".live[data-state=live]").wait_for()
    call_once(store, openai_server, "And the overview?")
    page.get_by_text("10 in total").wait_for()
    assert page.locator("#figures-table").get_attribute("open") is not None


def test_a_viewer_that_has_ended_is_said(store: Path, window: Open) -> None:
    viewer = start(store)
    shown = window(viewer)
    shown.page.locator(".live[data-state=live]").wait_for()
    viewer.process.terminate()
    viewer.process.communicate(timeout=20)
    viewer.http.close()
    shown.page.get_by_text("Not connected").wait_for()
    shown.complaints[:] = [one for one in shown.complaints if "net::ERR_" not in one]


def test_hostile_text_does_nothing(hostile: Path, view: Callable[..., Viewer], window: Open) -> None:
    viewer = view(hostile)
    settled(viewer, len(HOSTILE))
    shown = window(viewer)
    seen = ""
    for path in addresses(viewer):
        page = shown.go(path)
        seen += page.locator("main").inner_text()
        assert page.locator("img, iframe, object, embed, main script, main style").count() == 0
        assert page.locator("[onload], [onerror], [onclick]").count() == 0
    for text in (HOSTILE[0], HOSTILE[1], HOSTILE[2], HOSTILE[3]):
        assert text in seen
    assert "abc⟨U+202E⟩def" in seen
    shown.check()  # no dialog, no script that the policy had to stop


def test_a_script_that_slips_in_is_not_run(viewer: Viewer, window: Open) -> None:
    """The second line of defence: as if a template had forgotten to escape."""
    shown = window(viewer)
    shown.page.evaluate(
        """() => {
            const made = document.createElement("div");
            made.innerHTML = "<img src=x onerror='window.slipped = 1'><b style='position: fixed'>x</b>";
            document.body.append(made);
            const script = document.createElement("script");
            script.textContent = "window.slipped = 1";
            document.body.append(script);
            const foreign = document.createElement("script");
            foreign.src = "https://evil.test/x.js";
            document.body.append(foreign);
        }"""
    )
    wait_until(lambda: shown.page.evaluate("1") and len(shown.complaints) >= 4, f"only {shown.complaints}")
    assert shown.page.evaluate("window.slipped") is None
    assert all("Content Security Policy" in one or "404" in one for one in shown.complaints), shown.complaints
    shown.complaints.clear()
    shown.requested.clear()  # one that the policy stopped is among them
