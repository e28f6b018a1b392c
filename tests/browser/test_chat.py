"""The FastAPI example with its page in Chromium: every event is of the page, the session and the request it came from.

The page talks to `posthog-instrument uvicorn app:app` over real HTTP.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.paths import ROOT
from support.waiting import wait_until
from support.web import Site, site

from posthog_autoinstrument.testing import Answer, sse

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]
CHAT = ROOT / "examples" / "fastapi_chat"
USERS = 100
CHUNK = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-mini"}
IDS = "[localStorage.distinct_id, sessionStorage.session_id, sessionStorage.window_id]"


@pytest.fixture
def chat(tmp_path: Path) -> Iterator[Site]:
    folder = Path(shutil.copytree(CHAT, tmp_path / "chat"))
    with site("", "uvicorn --port {port} app:app", folder) as found:
        yield found


def opened(chromium: Any, chat: Site) -> Any:
    """The page in a browser of its own, as another person has."""
    page = chromium.new_context().new_page()
    page.goto(f"http://127.0.0.1:{chat.port}/")
    return page


def ask(page: Any, text: str) -> None:
    page.fill("#text", text)
    page.click("text=Ask")


def told(page: Any) -> str:
    """The answer, when it has come whole."""
    page.wait_for_selector("#good", state="visible", timeout=120_000)
    return str(page.inner_text("#answer"))


def tree_of(events: list[dict[str, Any]]) -> dict[str, str | None]:
    """What is below what: by name, or by kind where there is none. Every event is of one trace."""
    said = {event["properties"].get("$ai_span_id"): event for event in events if event["event"] != "$ai_trace"}
    names = {
        ident: event["properties"].get("$ai_span_name") or event["event"] for ident, event in said.items() if ident
    }
    assert len({event["properties"]["$ai_trace_id"] for event in events}) == 1
    return {names[ident]: names.get(said[ident]["properties"].get("$ai_parent_id")) for ident in names}


TREE = {"answer": None, "look up": "answer", "$ai_generation": "answer"}


def test_a_page_and_its_events(chromium: Any, chat: Site) -> None:
    page = opened(chromium, chat)
    person, session, window = page.evaluate(IDS)
    with page.expect_response("**/chat") as answered:
        ask(page, "How are you?")
    assert told(page) == 'A made-up answer to "How are you?".'
    trace = answered.value.headers["x-trace-id"]
    page.click("text=Just what I needed")
    wait_until(lambda: len(chat.posthog.events) == 5, f"not all events: {chat.posthog.events}")
    for event in chat.posthog.events:
        assert event["distinct_id"] == person
        assert event["properties"]["$session_id"] == session
        assert event["properties"]["$window_id"] == window
        assert event["properties"]["$ai_trace_id"] == trace
    assert tree_of([event for event in chat.posthog.events if event["event"] != "$ai_feedback"]) == TREE
    (feedback,) = [event for event in chat.posthog.events if event["event"] == "$ai_feedback"]
    assert feedback["properties"]["$ai_feedback_text"] == "Just what I needed"
    # The next question is another request of the same session, so another trace.
    ask(page, "And now?")
    wait_until(lambda: len(chat.posthog.events) == 9, f"not all events: {chat.posthog.events}")
    again = chat.posthog.events[5:]
    assert tree_of(again) == TREE
    assert again[0]["properties"]["$ai_trace_id"] != trace
    assert {(event["distinct_id"], event["properties"]["$session_id"]) for event in again} == {(person, session)}
    page.context.close()


def streamed_until(gate: threading.Event) -> Answer:
    """An answer that goes on when the gate opens."""

    made = sse(*({**CHUNK, "choices": [{"index": 0, "delta": {"content": text}}]} for text in ("Wait", " for all.")))
    first, *rest = made.chunks or ()
    return replace(made, chunks=[first, gate, *rest])


def test_a_hundred_people_at_once(chromium: Any, chat: Site) -> None:
    all_asked = threading.Event()
    chat.openai.script(*[streamed_until(all_asked) for _ in range(USERS)])
    pages = [opened(chromium, chat) for _ in range(USERS)]
    try:
        ids = [tuple(page.evaluate(IDS)) for page in pages]
        assert len(set(ids)) == USERS
        for number, page in enumerate(pages):
            ask(page, f"Question {number}")
        wait_until(lambda: len(chat.openai.requests) == USERS, "not all have asked", timeout_s=120)
        assert {event["event"] for event in chat.posthog.events} <= {"$ai_span"}, "all calls are still open"
        all_asked.set()
        for page in pages:
            assert told(page) == "Wait for all."
    finally:
        all_asked.set()
        for page in pages:
            page.context.close()
    wait_until(lambda: len(chat.posthog.events) == 4 * USERS, f"{len(chat.posthog.events)} events", timeout_s=60)
    by_trace: dict[str, list[dict[str, Any]]] = {}
    for event in chat.posthog.events:
        by_trace.setdefault(event["properties"]["$ai_trace_id"], []).append(event)
    assert len(by_trace) == USERS
    asked = {}
    for events in by_trace.values():
        assert tree_of(events) == TREE
        (who,) = {
            (event["distinct_id"], event["properties"]["$session_id"], event["properties"]["$window_id"])
            for event in events
        }
        (call,) = [event for event in events if event["event"] == "$ai_generation"]
        asked[who] = call["properties"]["$ai_input"][-1]["content"]
    assert asked == {who: f"Question {number}" for number, who in enumerate(ids)}
