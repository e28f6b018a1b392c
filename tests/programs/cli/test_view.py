"""`posthog-instrument view`: the real command, its page asked over HTTP as a browser asks it, and as others might."""

from __future__ import annotations

import csv
import html.parser
import io
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from support.features import needs
from support.programs import Ran, environment
from support.stored import call, write
from support.viewing import COMMAND, HOSTILE, Page, Viewer, clean_environment, settled
from support.waiting import wait_until

from posthog_autoinstrument.testing import Fault, OpenAIServer, PostHogServer

pytestmark = needs("responses")

# --- who may ask ---

PATHS = ("/", "/traces", "/calls", "/sessions", "/trace?id=x", "/event?id=x", "/event.json?id=x", "/export.csv",
         "/export.jsonl", "/pulse", "/delete", "/send", "/static/0/page.js", "/nowhere")  # fmt: skip


def test_the_printed_address_opens_the_page_and_leaves_no_token_in_the_address_bar(viewer) -> None:
    assert urlsplit(viewer.address).hostname == "127.0.0.1"
    token = viewer.address.partition("token=")[2]
    assert len(token) >= 32
    answer = requests.get(f"{viewer.base}/traces?token={token}&model=a%26b", allow_redirects=False, timeout=30)
    assert answer.status_code == 303
    assert answer.headers["Location"] == "/traces?model=a%26b"
    cookie = answer.headers["Set-Cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert token.lower() not in cookie
    assert str(urlsplit(viewer.base).port) in cookie.partition("=")[0]
    assert token not in viewer.page("/").source


@pytest.mark.parametrize("path", PATHS)
def test_without_the_token_nothing_is_shown(viewer, path) -> None:
    for query in ("", "token=", "token=wrong", "token=" + "x" * 32):
        separator = "&" if "?" in path else "?"
        answer = requests.get(viewer.base + path + separator + query, timeout=30)
        assert answer.status_code == 403
        assert "Lisbon" not in answer.text
        assert "posthog-instrument view" in answer.text


def test_a_redirect_stays_here(viewer) -> None:
    token = viewer.address.partition("token=")[2]
    with socket.create_connection(("127.0.0.1", urlsplit(viewer.base).port)) as raw:
        host = viewer.base.removeprefix("http://")
        raw.sendall(f"GET //evil.test/x?token={token} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        answer = raw.makefile("rb").read().decode()
    assert re.search(r"^location: /evil.test/x\r$", answer, re.MULTILINE | re.IGNORECASE)


def test_only_names_of_this_machine_are_answered(viewer) -> None:
    port = urlsplit(viewer.base).port
    for host in (
        "evil.test",
        f"evil.test:{port}",
        "127.0.0.1",
        f"127.0.0.1.evil.test:{port}",
        f"127.0.0.1:{port}1",
        "",
    ):
        answer = viewer.get("/", headers={"Host": host})
        assert answer.status_code in (400, 421), host
        assert "Lisbon" not in answer.text
    (cookie,) = viewer.http.cookies
    for host in (f"localhost:{port}", f"LOCALHOST:{port}", f"[::1]:{port}"):
        headers = {"Host": host, "Cookie": f"{cookie.name}={cookie.value}"}
        assert requests.get(f"{viewer.base}/pulse", headers=headers, timeout=30).status_code == 200, host


def test_it_listens_on_loopback_only(viewer) -> None:
    port = urlsplit(viewer.base).port
    listening = Path("/proc/net/tcp")
    if not listening.exists():
        pytest.skip("no /proc here")
    rows = [line.split() for line in listening.read_text().splitlines()[1:]]
    addresses = {
        row[1].partition(":")[0] for row in rows if int(row[1].partition(":")[2], 16) == port and row[3] == "0A"
    }
    assert addresses == {"0100007F"}


@pytest.mark.parametrize("path", [*PATHS, "closed"])
def test_every_answer_forbids_what_the_page_does_not_need(viewer, path) -> None:
    answer = requests.get(viewer.base, timeout=30) if path == "closed" else viewer.get(path)
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert re.findall(r"https?:|\*|data:", policy) == []
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert "Access-Control-Allow-Origin" not in answer.headers
    if "static" not in path or answer.status_code != 200:
        assert answer.headers["Cache-Control"] == "no-store"


def every_page(viewer: Viewer) -> Iterator[tuple[str, Page]]:
    for path in ("/", "/traces", "/calls", "/sessions", "/delete", "/send"):
        yield path, viewer.page(path)
    for path in viewer.page("/traces").links("/trace?"):
        yield path, viewer.page(path)
    for path in viewer.page("/calls").links("/event?"):
        yield path, viewer.page(path)


def test_pages_hold_no_scripts_or_styles_of_their_own_and_name_no_other_host(viewer) -> None:
    seen = 0
    for path, page in every_page(viewer):
        for tag, attrs in page.elements:
            seen += 1
            assert tag != "style", path
            assert tag != "script" or attrs.get("src"), path
            assert not [name for name in attrs if name.startswith("on") or name == "style"], (path, tag, attrs)
            for name in ("src", "href", "action", "formaction", "srcset", "data", "poster"):
                if attrs.get(name):
                    assert re.match(r"/(?!/)|#", str(attrs[name])), (path, tag, attrs)
    assert seen > 1000
    for name in ("page.css", "page.js", "icon.svg"):
        (address,) = {str(a.get("href") or a.get("src")) for _, a in viewer.page("/").elements if name in str(a)}
        answer = viewer.get(address)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["Cache-Control"]
        assert re.findall(r"@import|url\(|https?://(?!www\.w3\.org/2000/svg)", answer.text) == []


# --- what changes something ---


def test_deleting_asks_first_and_takes_no_forged_form(view, store) -> None:
    viewer = view(store)
    settled(viewer, 8)
    secret = viewer.page("/delete").field("secret")
    right = {"secret": secret}
    for data, origin, status in (
        ({}, None, 403),
        ({"secret": "x"}, None, 403),
        (right, "http://evil.test", 403),
        (right, "null", 403),
        (right, "", 403),
        (right, viewer.base.replace("http:", "https:"), 403),
        ({**right, "more": "x" * 70_000}, None, 413),
    ):
        assert viewer.post("/delete", data, origin).status_code == status, (data.keys(), origin)
    stranger = requests.post(f"{viewer.base}/delete", data=right, headers={"Origin": viewer.base}, timeout=30)
    assert stranger.status_code == 403
    assert viewer.get(f"/delete?secret={secret}").status_code == 200  # a GET only asks
    settled(viewer, 8)

    done = viewer.post("/delete", right)
    assert done.status_code == 303
    assert "9 events were deleted" in viewer.page(done.headers["Location"]).text
    assert "No calls yet" in viewer.page("/traces").text
    assert b"umbrella" not in b"".join(file.read_bytes() for file in store.parent.glob("events.db*"))


def test_other_methods_and_bodies_without_a_length(viewer) -> None:
    headers = {"Origin": viewer.base}
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS"):
        answer = viewer.http.request(method, f"{viewer.base}/delete", headers=headers, data="x", timeout=30)
        assert answer.status_code == 405, method
    endless = viewer.http.post(f"{viewer.base}/delete", headers=headers, data=iter([b"secret=x"]), timeout=30)
    assert endless.status_code == 411


# --- what is shown ---


def test_the_overview_sums_up_what_the_demo_did(viewer) -> None:
    page = viewer.page("/")
    assert "Errors 1 12 %" in page.text
    assert "Tokens 160 85 in (0 cached), 75 out (0 reasoning)" in page.text
    for group in (
        "gpt-4o-mini-2024-07-18",
        "text-embedding-3-small",
        "ada@example.com",
        "/chat/completions",
        "/responses",
    ):
        assert group in page.text
    for title in ("Calls", "Tokens", "Cost", "Latency", "Time to first token"):
        assert title in page.text
    assert [tag for tag, _ in page.elements].count("figure") == 5


def test_until_all_is_read_in_the_page_says_so(view, store) -> None:
    with closing(sqlite3.connect(store, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")  # nothing can be read in meanwhile
        viewer = view(store)
        assert "costs and search are not complete yet" in viewer.page("/").text
        assert "more events may be found" in viewer.page("/calls?q=November").text
        writer.execute("ROLLBACK")
    settled(viewer, 8)
    page = viewer.page("/calls?q=November")
    assert len(page.links("/event?")) == 1
    assert "more events may be found" not in page.text


def test_costs_are_those_of_the_price_list(viewer) -> None:
    """gpt-4o-mini: $0.15 and $0.60 a million tokens; text-embedding-3-small: $0.02 (OpenAI's pricing page)."""
    wanted = (80 * 0.15 + 75 * 0.60 + 5 * 0.02) / 1e6
    rows = list(csv.DictReader(io.StringIO(viewer.get("/export.csv").text)))
    assert sum(float(row["cost_usd"] or 0) for row in rows) == pytest.approx(wanted)
    assert [row["cost_usd"] for row in rows if row["status"] == "400"] == [""]
    event = next(path for path in viewer.page("/calls?q=November").links("/event?"))
    text = viewer.page(event).text
    assert "$0.0000108" in text  # 20 in, 13 out
    assert "$0.15" in text
    assert "$0.60" in text


def test_filters_and_time_ranges_stand_in_the_address(viewer) -> None:
    assert len(viewer.page("/calls").links("/event?")) == 9
    assert len(viewer.page("/calls?user=ada@example.com").links("/event?")) == 5
    assert len(viewer.page("/calls?errors=1").links("/event?")) == 1
    assert len(viewer.page("/calls?model=text-embedding-3-small").links("/event?")) == 1
    assert len(viewer.page("/calls?kind=span").links("/event?")) == 1
    assert len(viewer.page("/calls?since=1h").links("/event?")) == 9
    assert "No calls match these filters" in viewer.page("/calls?until=1h").text
    # A form without the script sends every field; an empty one was not chosen.
    assert len(viewer.page("/calls?form=1&model=&user=grace@example.com&endpoint=&kind=").links("/event?")) == 4
    filtered = viewer.page("/calls?user=ada@example.com&since=1h")
    assert any("user=ada%40example.com" in href and "since=24h" in href for href in filtered.links("/calls?"))
    assert len(viewer.page("/traces?user=ada@example.com").links("/trace?")) == 1
    (conversation,) = [href for href in viewer.page("/sessions").links("/traces?") if "session=demo-" in href]
    assert len(viewer.page(conversation).links("/trace?")) == 1


@pytest.mark.parametrize(
    "query",
    ["since=nonsense", "before=x", "before=1_2_3", "kind=\x00", "q=%22(*)", "errors=2", "a=b&&=", "model=%ff%fe"],
)
def test_an_address_that_makes_no_sense_is_answered_all_the_same(viewer, query) -> None:
    for path in ("/", "/traces", "/calls", "/sessions", "/export.csv"):
        assert viewer.get(f"{path}?{query}").status_code == 200


def test_what_a_search_found_is_opened_at_the_words(viewer) -> None:
    wait_until(lambda: viewer.page("/calls?q=umbrella").links("/event?"), "the search does not find the prompt")
    (found, *_) = viewer.page("/calls?q=umbrella,+-lisbon").links("/event?")
    assert found.endswith("#:~:text=umbrella%2C&text=%2Dlisbon")
    assert "umbrella" in viewer.page(found).text
    assert all("#" not in href for href in viewer.page("/calls").links("/event?"))


def test_search_finds_prompts_answers_users_and_models(viewer) -> None:

    def found(words: str) -> int:
        return len(viewer.page(f"/calls?q={words}").links("/event?"))

    wait_until(lambda: found("umbrella") == 2, "the search does not find the prompt")
    assert found("umbrella+lisbon") == 2
    assert found("grace@example.com") == 4
    assert found("text-embedding-3-small") == 1
    assert found("nowhere-to-be-found") == 0


def test_a_trace_is_a_tree_with_a_time_axis(viewer) -> None:
    (path,) = viewer.page("/traces?user=ada@example.com").links("/trace?")
    page = viewer.page(path)
    rows = [attrs for tag, attrs in page.elements if tag == "tr" and "data-depth" in attrs]
    assert [row["data-depth"] for row in rows] == ["0", "0", "0", "1", "0"]  # the tool is below the call that asked
    bars = [a for tag, a in page.elements if tag == "rect" and a.get("class") in ("generation", "span", "bad")]
    assert len(bars) == 5
    places = [(float(a["x"].rstrip("%")), float(a["width"].rstrip("%"))) for a in bars]
    assert all(0 <= left <= 100 and left + width <= 100.01 for left, width in places)
    assert places == sorted(places, key=lambda place: place[0])
    assert "get_weather" in page.text
    assert "Calls 4" in page.text
    assert "get_weather" not in viewer.page("/traces").text  # a trace has no name of one of its inner steps


def event_page(viewer: Viewer, query: str, number: int = 0) -> Page:
    return viewer.page(viewer.page(f"/calls?{query}").links("/event?")[number])


def test_a_generation_is_shown_as_a_conversation(viewer) -> None:
    page = event_page(viewer, "user=ada@example.com&kind=generation", 3)
    assert "system You are a travel agent. Answer in one sentence. user Where is it warm in November?" in page.text
    assert 'Output assistant A made-up answer to "Where is it warm in November?".' in page.text
    for fact in (
        "Provider openai",
        "feature chat",
        "plan pro",
        "service_tier default",
        "Finish reason stop",
        "HTTP status 200",
    ):
        assert fact in page.text, fact


def test_the_result_of_a_tool_stands_beside_its_call(viewer) -> None:
    asked = event_page(viewer, "user=ada@example.com&kind=generation", 1)  # the result came with the next call
    answered = event_page(viewer, "user=ada@example.com&kind=generation", 0)
    for page in (asked, answered):
        assert 'calls get_weather { "city": "Lisbon" } result { "sky": "clear", "celsius": 21 }' in page.text


def test_an_error_is_shown_in_full(viewer) -> None:
    page = event_page(viewer, "errors=1")
    assert "Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 9 instead." in page.text
    assert "Status 400" in page.text
    assert "None: the call failed." in page.text


def test_the_raw_event_can_be_copied(viewer) -> None:
    path = viewer.page("/calls?errors=1").links("/event?")[0]
    answer = viewer.get(path.replace("/event?", "/event.json?"))
    assert answer.headers["Content-Type"] == "application/json"
    event = answer.json()
    assert event["properties"]["$ai_model_parameters"] == {"temperature": 9}
    shown = re.search(r'<pre class="json">(.*?)</pre>', viewer.get(path).text, re.DOTALL)
    assert shown is not None
    assert json.loads(html.unescape(shown[1])) == event


def test_pages_of_lists(view, tmp_path, run_program: Callable[..., Ran]) -> None:
    run_program(
        """
        import openai
        client = openai.OpenAI()
        for number in range(120):
            client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": f"No. {number}"}])
        """,
        token=False,
    )
    viewer = view(tmp_path / "state" / "events.db")
    settled(viewer, 120)
    for path, start in (("/calls", "/event?"), ("/traces", "/trace?")):
        seen: list[str] = []
        following = path
        while following:
            page = viewer.page(following)
            seen += page.links(start)
            older = [str(a["href"]) for tag, a in page.elements if tag == "a" and a.get("rel") == "next"]
            following = older[0] if older else ""
        assert len(seen) == len(set(seen)) == 120


def test_a_trace_of_thousands_of_steps_and_a_call_of_megabytes(view, tmp_path, run_program: Callable[..., Ran]) -> None:
    run_program(
        """
        import openai
        from posthog_autoinstrument import posthog_context, posthog_span
        with posthog_context(trace_id="long"):
            with posthog_span("all of it"):
                for number in range(1500):
                    with posthog_span(f"step {number}"):
                        pass
        openai.OpenAI().chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": "word " * 400_000}])
        """,
        token=False,
    )
    viewer = view(tmp_path / "state" / "events.db")
    settled(viewer, 1)
    page = viewer.page("/trace?id=long")
    assert "The first 1,000 of 1,501 steps." in page.text
    assert len(page.links("/event?")) == 1_000
    call = viewer.page("/calls?kind=generation").links("/event?")[0]
    answer = viewer.get(call)
    assert len(answer.content) < 300_000
    assert "characters are not shown here; the JSON below has all of them" in answer.text
    (message,) = viewer.get(call.replace("/event?", "/event.json?")).json()["properties"]["$ai_input"]
    assert len(message["content"]) > 1_000_000


# --- text that would like to be more ---


def test_hostile_text_is_text(view, hostile: Path) -> None:
    viewer = view(hostile)
    settled(viewer, len(HOSTILE))
    plain = {tag for _, page in every_page(view(hostile.parent / "empty.db")) for tag, _ in page.elements}
    shown = ""
    pages = 0
    for path, page in every_page(viewer):
        pages += 1
        shown += page.text
        assert [a for tag, a in page.elements if tag == "script" and not str(a.get("src")).startswith("/static/")] == []
        assert not [a for tag, a in page.elements if tag == "img" or "onload" in a or "onerror" in a], path
        # Nothing that is not seen is left in the page, neither in texts nor in attributes.
        assert (
            re.findall("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069\u200b\U000e0000-\U000e0fff]", page.source)
            == []
        )
    assert pages == 6 + 2 * len(HOSTILE)
    assert {"script", "a", "table"} <= plain | {"table"}
    for text in (
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "{{ 7 * 7 }} {% raw %}",
        "'; DROP TABLE events; --",
    ):
        assert text in shown
    assert "red ␛[31m text ␇" in shown
    assert "abc⟨U+202E⟩def⟨U+2066⟩ghi⟨U+200B⟩jkl" in shown
    assert "tags ⟨U+E0041⟩⟨U+E0042⟩" in shown


def test_links_with_hostile_ids_lead_there(view, hostile: Path) -> None:
    viewer = view(hostile)
    settled(viewer, len(HOSTILE))
    for path in viewer.page("/traces").links("/trace?"):
        assert "Calls 1" in viewer.page(path).text
    for path in viewer.page("/sessions").links("/traces?session"):
        assert len(viewer.page(path).links("/trace?")) == 1
    for text in HOSTILE:
        answer = viewer.get("/calls", params={"q": text, "user": text, "model": text})
        assert answer.status_code == 200
        assert "<script>alert" not in answer.text


def test_no_spreadsheet_computes_a_cell(view, hostile: Path) -> None:
    viewer = view(hostile)
    settled(viewer, len(HOSTILE))
    answer = viewer.get("/export.csv")
    assert answer.headers["Content-Disposition"].startswith("attachment")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == len(HOSTILE)
    for row in rows:
        for name, cell in row.items():
            assert not re.match(r"[=+\-@\t\r]", cell), (name, cell)
            assert "\x1b" not in cell
            assert "\u202e" not in cell
    assert {row["user"] for row in rows} >= {'\'=HYPERLINK("http://evil.test")', "'+1+1", "'@SUM(A1)"}


def test_export_of_the_selection(viewer) -> None:
    answer = viewer.get("/export.jsonl?user=ada@example.com")
    events = [json.loads(line) for line in answer.text.splitlines()]
    assert [event["distinct_id"] for event in events] == ["ada@example.com"] * 5
    assert "$ai_input" in events[0]["properties"]
    rows = list(csv.DictReader(io.StringIO(viewer.get("/export.csv?user=ada@example.com").text)))
    assert [row["uuid"] for row in rows] == [event["uuid"] for event in events]
    assert rows[0]["input"] == "Where is it warm in November?"
    assert viewer.get("/export.csv?user=nobody").text.count("\n") == 1


def test_what_privacy_mode_held_back_is_named_so(view, tmp_path, run_program: Callable[..., Ran]) -> None:
    run_program(
        """
        import openai
        openai.OpenAI().chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "secret"}])
        """,
        token=False,
        env={"POSTHOG_PRIVACY_MODE": "1"},
    )
    viewer = view(tmp_path / "state" / "events.db")
    settled(viewer, 1)
    assert "(not captured)" in viewer.page("/calls").text
    assert event_page(viewer, "").text.count("Not captured (privacy mode).") == 2


# --- live ---


def test_the_page_notices_what_programs_do_meanwhile(view, tmp_path, openai_server: OpenAIServer) -> None:
    path = tmp_path / "state" / "events.db"
    viewer = view(path)
    assert "No calls yet" in viewer.page("/").text
    before = viewer.get("/pulse").text
    assert viewer.get("/pulse").text == before
    program = "import openai; openai.OpenAI().embeddings.create(model='text-embedding-3-small', input='Hi')"
    command = [sys.executable, "-m", "posthog_autoinstrument", sys.executable, "-c", program]
    environ = environment(openai_server, None, POSTHOG_AUTOINSTRUMENT_DB=str(path))
    subprocess.run(command, env=environ, check=True, timeout=60, capture_output=True)
    wait_until(lambda: viewer.get("/pulse").text != before, "nobody noticed")
    settled(viewer, 1)


# --- to PostHog ---


def test_without_a_project_nothing_is_sent(viewer) -> None:
    page = viewer.page("/send")
    assert "POSTHOG_PROJECT_TOKEN" in page.text
    assert viewer.post("/send", {"secret": viewer.page("/delete").field("secret"), "do": "start"}).status_code == 409
    assert [a for tag, a in page.elements if tag == "form" and a.get("method") == "post"] == []


def test_the_store_is_sent_once_and_each_trace_has_its_place(view, store, posthog_server: PostHogServer) -> None:
    viewer = view(store, POSTHOG_PROJECT_TOKEN="phc_of_the_page_test", POSTHOG_HOST=posthog_server.url)
    settled(viewer, 8)
    page = viewer.page("/send")
    assert "9 events were not sent to" in page.text
    assert "phc_of_the_page_test" not in page.source
    form = {"secret": page.field("secret"), "do": "start"}
    for data, origin in (({"do": "start"}, None), (form, "http://evil.test")):
        assert viewer.post("/send", data, origin).status_code == 403
    assert posthog_server.events == []
    before = viewer.get("/pulse").text
    assert viewer.post("/send", form).status_code == 303
    wait_until(lambda: "9 events were sent." in viewer.page("/send").text, "it does not say that all was sent")
    assert viewer.get("/pulse").text != before
    stored = [json.loads(line)["uuid"] for line in viewer.get("/export.jsonl").text.splitlines()]
    assert sorted(event["uuid"] for event in posthog_server.events) == sorted(stored)
    assert "All events of the store were sent" in viewer.page("/send").text
    assert viewer.post("/send", form).status_code == 303
    wait_until(lambda: "0 events were sent." in viewer.page("/send").text, "the second time did not end")
    assert len(posthog_server.events) == 9

    trace = viewer.page("/traces").links("/trace?")[0]
    (place,) = viewer.page(trace).links(posthog_server.url)
    assert trace.partition("id=")[2] in place


def test_a_posthog_that_does_not_answer_is_waited_for_until_somebody_stops_it(
    view, store, posthog_server: PostHogServer
) -> None:
    posthog_server.fail_next(*[Fault(status=503)] * 1_000)
    viewer = view(store, POSTHOG_PROJECT_TOKEN="phc_of_the_page_test", POSTHOG_HOST=posthog_server.url)
    form = {"secret": viewer.page("/send").field("secret")}
    viewer.post("/send", {**form, "do": "start"})
    wait_until(lambda: "Waiting to try again" in viewer.page("/send").text, "it does not say that it waits")
    assert "0 of 9 events" in viewer.page("/send").text
    viewer.post("/send", {**form, "do": "cancel"})
    wait_until(lambda: "0 events were sent; stopped: cancelled" in viewer.page("/send").text, "it was not stopped")
    assert "9 events were not sent to" in viewer.page("/send").text
    viewer.post("/send", {**form, "do": "start"})  # and the end of the page, by Ctrl-C, does not wait for it


def test_no_answer_waits_for_the_acknowledgement_of_its_head(viewer) -> None:
    """Nagle's algorithm and delayed ACKs would cost 40 ms, each time."""

    def quick() -> bool:
        began = time.perf_counter()
        assert viewer.get("/pulse").status_code == 200
        return time.perf_counter() - began < 0.035

    wait_until(quick, "each answer takes 40 ms")


# --- the command ---


def run(*options: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *options], env=clean_environment(**environ), capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.skipif(os.name == "nt", reason="the browser is named as on Unix")
def test_the_browser_opens_the_address_and_nobody_waits_for_it(store, tmp_path) -> None:
    (tmp_path / "browser.py").write_text(
        "import sys, time, pathlib\n"
        "pathlib.Path(sys.argv[0] + '.new').write_text(sys.argv[1])\n"
        "pathlib.Path(sys.argv[0] + '.new').rename(sys.argv[0] + '.opened')\n"
        "time.sleep(60)\n"
    )
    opened = tmp_path / "browser.py.opened"
    command = [part for part in COMMAND if part != "--no-browser"]
    environ = clean_environment(BROWSER=f"{sys.executable} {tmp_path / 'browser.py'} %s", DISPLAY=":0")
    with subprocess.Popen(
        [*command, "--db", str(store), "--port", "0"], env=environ, text=True, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            address = re.search(r"http://\S+", process.stdout.readline())
            wait_until(opened.exists, "no browser was opened")
            assert address is not None
            assert opened.read_text() == address[0]
            assert requests.get(address[0], timeout=30).status_code == 200
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=20) == 0


def test_a_port_that_is_taken(view, store) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("--db", str(store), "--port", str(port))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"port {port} is in use" in line
    assert done.stdout == ""


def test_without_a_port_two_pages_get_one_each_and_do_not_log_each_other_out(view, store) -> None:
    one, two = view(store, "--no-browser"), view(store, "--no-browser")
    assert one.base != two.base
    jar = requests.Session()
    for viewer in (one, two):
        assert jar.get(viewer.address, timeout=30).status_code == 200
    for viewer in (one, two):
        assert jar.get(viewer.base + "/pulse", timeout=30).status_code == 200


@pytest.mark.parametrize("port", ["x", "-1", "70000"])
def test_a_port_that_is_none(store, port) -> None:
    done = run("--db", str(store), "--port", port)
    assert done.returncode == 2
    assert "--port" in done.stderr


def test_a_file_that_is_no_store(tmp_path) -> None:
    (tmp_path / "file").write_text("not a database, but a text that is long enough to be one" * 100)
    done = run("--db", str(tmp_path / "file"))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "database" in line


def test_the_extra_is_named_where_it_is_missing(tmp_path) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text(
        "import sys\nsys.modules['jinja2'] = None\nsys.modules['uvicorn'] = None\n"
    )
    done = run("--db", str(tmp_path / "events.db"), PYTHONPATH=str(hidden))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert 'uvicorn, jinja2: pip install "posthog-autoinstrument[viewer]"' in line


def test_a_store_that_breaks_while_the_page_runs_is_said_in_one_line(view, store) -> None:
    viewer = view(store)
    settled(viewer, 8)

    def broken() -> list[requests.Response]:
        (store.parent / "broken").write_bytes(b"broken" * 1000)
        os.replace(store.parent / "broken", store)  # again and again: who has it open may write it back
        return [answer for answer in [viewer.get("/")] if answer.status_code == 503]

    (answer,) = wait_until(broken, "no answer says that it is broken")
    assert "The store cannot be read" in answer.text
    assert "Traceback" not in answer.text


def test_ctrl_c_does_not_wait_for_open_connections(view, store) -> None:
    viewer = view(store)
    assert viewer.get("/pulse").status_code == 200  # the session keeps its connection
    viewer.process.send_signal(signal.SIGINT)
    assert viewer.process.wait(timeout=60) == 0


def test_thoughts_that_are_beside_the_output_are_shown_with_it(view, tmp_path) -> None:
    """Gemini 2.5 Flash: $0.30 and $2.50 a million tokens, thoughts included (ai.google.dev, pricing)."""
    path = tmp_path / "gemini.db"
    counts = {"input_tokens": 1000, "output_tokens": 8, "reasoning_tokens": 392}
    write(path, [call(time.time() - 60, model="gemini-2.5-flash", provider="gemini", base_url=None, **counts)])
    viewer = view(path)
    settled(viewer, 1)
    (event,) = viewer.page("/calls").links("/event?")
    page = viewer.page(event).text
    assert re.search(r"output\s+400\s+reasoning\s+392", page), page
    assert "$0.0013" in page  # 1000 * 0.30 + 400 * 2.50 millionths
