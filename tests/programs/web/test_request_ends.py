"""A web request's context ends with the request: what it started and left running is not of its user for ever."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.programs import Ran
from support.waiting import wait_until
from support.web import ASK, Site, asked, site

pytestmark = pytest.mark.timeout(300)

APP = (
    ASK
    + """
import asyncio, queue, threading, time
from concurrent.futures import ThreadPoolExecutor
from flask import Flask
from posthog_autoinstrument import posthog_context, posthog_span

app = Flask("app")
client_of_app = app.test_client()
jobs, done = queue.Queue(), queue.Queue()

def work():
    while True:
        text = jobs.get()
        if text is None:
            return
        ask(text)
        done.put(text)

@app.get("/worker/<text>")
def worker(text):
    if not threading.active_count() > 1 or not any(t.name == "worker" for t in threading.enumerate()):
        threading.Thread(target=work, name="worker", daemon=True).start()
    jobs.put(text)
    return text

@app.get("/plain/<text>")
def plain(text):
    return ask(text)

def get(path, user):
    return client_of_app.get(path, headers={"X-POSTHOG-DISTINCT-ID": user}, buffered=True)
"""
)


def by_text(ran: Ran) -> dict[str, dict[str, Any]]:
    assert ran.returncode == 0, ran.stderr
    return {asked(event): event for event in ran.events if event["event"] == "$ai_generation"}


def is_nobodys(event: dict[str, Any]) -> bool:
    """A trace of its own, without a user, and of no request."""
    said = event["properties"]
    return (
        event["distinct_id"] == said["$ai_trace_id"]
        and said["$process_person_profile"] is False
        and "$request_path" not in said
        and "$ai_parent_id" not in said
    )


def test_a_worker_that_the_first_request_starts_is_not_of_its_user(run_program: Callable[..., Ran]) -> None:
    ran = run_program(
        APP
        + """
get("/worker/first", "ann")
done.get()
for user in ("bob", "eve"):
    get(f"/worker/for-{user}", user)
    done.get()
"""
    )
    events = by_text(ran)
    assert is_nobodys(events["for-bob"])
    assert is_nobodys(events["for-eve"])
    assert len({event["properties"]["$ai_trace_id"] for event in events.values()}) == 3


def test_while_it_lasts_and_right_after_it_is_the_requests(run_program: Callable[..., Ran]) -> None:
    ran = run_program(
        APP
        + """
@app.get("/thread/<text>")
def thread(text):
    def later():
        ask(text + " in it")
        inside.set()
        over.wait()
        ask(text + " after it")
    started.append(threading.Thread(target=later))
    started[0].start()
    inside.wait()
    return ask(text)
started, inside, over = [], threading.Event(), threading.Event()
get("/thread/one", "ann")
over.set()
started[0].join()
"""
    )
    events = by_text(ran)
    assert set(events) == {"one", "one in it", "one after it"}
    assert {event["distinct_id"] for event in events.values()} == {"ann"}
    assert len({event["properties"]["$ai_trace_id"] for event in events.values()}) == 1


def test_a_call_long_after_the_end_is_nobodys(run_program: Callable[..., Ran]) -> None:
    ran = run_program(
        APP
        + """
@app.get("/scheduler/<text>")
def scheduler(text):
    def tick():
        for number in range(200):
            pool.submit(ask, f"{text} {number}").result()
            if stop.wait(0.1):
                return
    with posthog_span("started"):
        threading.Thread(target=tick, name="ticks").start()
    return text
pool, stop = ThreadPoolExecutor(), threading.Event()
get("/scheduler/tick", "ann")
stop.wait(3.5)  # the schedule itself
stop.set()
"""
    )
    events = list(by_text(ran).values())
    assert len(events) > 3
    assert events[0]["distinct_id"] == "ann"
    assert is_nobodys(events[-1])
    named = [event["distinct_id"] == "ann" for event in events]
    assert named == sorted(named, reverse=True)  # once over, it does not come back


def test_what_waited_for_a_worker_is_the_requests_and_no_more(run_program: Callable[..., Ran]) -> None:
    ran = run_program(
        APP
        + """
@app.get("/submit/<text>")
def submit(text):
    pool.submit(work_of, text)
    return text

def work_of(text):
    ask(text)
    pool.submit(ask, text + " again").add_done_callback(lambda _: done.put(text))
    
pool, hold = ThreadPoolExecutor(1), threading.Event()
pool.submit(hold.wait)
for user in ("ann", "bob"):
    get(f"/submit/of-{user}", user)
get("/plain/other", "eve")
hold.set()
done.get(), done.get()
"""
    )
    events = by_text(ran)
    assert (events["of-ann"]["distinct_id"], events["of-bob"]["distinct_id"]) == ("ann", "bob")
    assert {event["distinct_id"] for text, event in events.items() if "ann" in text} == {"ann"}
    assert {event["distinct_id"] for text, event in events.items() if "bob" in text} == {"bob"}


def test_a_span_that_is_open_keeps_its_calls_and_a_block_what_it_names(run_program: Callable[..., Ran]) -> None:
    ran = run_program(
        APP
        + """
@app.get("/start/<text>")
def start(text):
    def in_a_span():
        with posthog_span("left running"):
            ready.set()
            over.wait()
            ask("in the span")
            with posthog_context(properties={"inner": 1}):
                ask("in a block in it")
        ask("behind the span")
    def in_a_block():
        over.wait()
        ask("in the block")
        with posthog_context(session_id="own"):
            ask("in its own")
            with posthog_context(distinct_id="job"):
                ask("in its job")
        ask("behind its own")
    started.append(threading.Thread(target=in_a_span))
    started[-1].start()
    with posthog_context("explicit", properties={"plan": "pro"}), posthog_span("over"):
        started.append(threading.Thread(target=in_a_block))
        started[-1].start()
    ready.wait()
    return ask(text)
started, ready, over = [], threading.Event(), threading.Event()
get("/start/one", "ann")
get("/plain/other", "bob")
over.set()
for thread in started:
    thread.join()
"""
    )
    events = by_text(ran)
    traces = {text: event["properties"]["$ai_trace_id"] for text, event in events.items()}
    (span,) = [event for event in ran.events if event["properties"].get("$ai_span_name") == "left running"]
    for text in ("in the span", "in a block in it"):
        assert events[text]["distinct_id"] == "ann"
        assert events[text]["properties"]["$ai_parent_id"] == span["properties"]["$ai_span_id"]
        assert traces[text] == traces["one"]
    assert is_nobodys(events["behind the span"])
    for text in ("in the block", "in its own", "in its job", "behind its own"):
        assert events[text]["distinct_id"] == ("job" if text == "in its job" else "explicit")
        assert events[text]["properties"]["plan"] == "pro"
        assert traces[text] != traces["one"]
        assert "$ai_parent_id" not in events[text]["properties"]
        assert "$request_path" not in events[text]["properties"]
    assert traces["in its own"] == traces["in its job"]
    assert len({traces[text] for text in ("in the block", "in its own", "behind its own")}) == 3


def test_privacy_outlives_the_request(run_program: Callable[..., Ran]) -> None:
    ran = run_program(
        APP
        + """
headers = {"baggage": "posthog.privacy_mode=1"}
client_of_app.get("/worker/secret-1", headers=headers, buffered=True)
done.get()
get("/worker/secret-2", "bob")
done.get()
""",
        env={"POSTHOG_AUTOINSTRUMENT_TRUST_BAGGAGE": "1"},
    )
    assert ran.returncode == 0, ran.stderr
    assert len(ran.events) == 2
    assert "secret" not in str([event["properties"].get("$ai_input") for event in ran.events])


UNDER_UVICORN = (
    ASK
    + """
import asyncio, queue, threading
from fastapi import FastAPI

client_async = openai.AsyncOpenAI()
app = FastAPI()
workers, jobs = {}, {}

async def ask_async(text):
    await client_async.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": text}])

async def task_worker():
    while True:
        text, answer = await jobs["task"].get()
        await ask_async(text)
        answer.set()

def thread_worker():
    while True:
        text, answer = jobs["thread"].get()
        ask(text)
        answer.set()

@app.get("/task/{text}")
async def task(text: str):
    if "task" not in workers:
        jobs["task"] = asyncio.Queue()
        workers["task"] = asyncio.create_task(task_worker())
    answer = asyncio.Event()
    await jobs["task"].put((text, answer))
    await answer.wait()
    return text

@app.get("/thread/{text}")
def thread(text: str):
    if "thread" not in workers:
        jobs["thread"] = queue.Queue()
        workers["thread"] = threading.Thread(target=thread_worker, daemon=True)
        workers["thread"].start()
    answer = threading.Event()
    jobs["thread"].put((text, answer))
    answer.wait()
    return text

async def every_so_often(text):
    number = 0
    while True:
        await ask_async(f"{text} {number}")
        number += 1
        await asyncio.sleep(0.1)

@app.get("/timer/{text}")
async def timer(text: str):
    workers["timer"] = asyncio.create_task(every_so_often(text))
    return text

@app.get("/stop")
async def stop():
    workers["timer"].cancel()
"""
)


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(UNDER_UVICORN, "uvicorn --port {port} app:app", tmp_path_factory.mktemp("ends")) as found:
        yield found


@pytest.mark.parametrize("kind", ["task", "thread"])
def test_lazy_workers_under_uvicorn(started: Site, kind: str) -> None:
    found = started.afresh()
    for user in ("ann", "bob", "eve"):
        found.get(f"/{kind}/{kind}-{user}", {"X-POSTHOG-DISTINCT-ID": user})
    assert found.event(f"{kind}-ann")["distinct_id"] == "ann"
    for user in ("bob", "eve"):
        assert is_nobodys(found.event(f"{kind}-{user}"))


def test_a_timer_under_uvicorn(started: Site) -> None:
    found = started.afresh()
    found.get("/timer/tick", {"X-POSTHOG-DISTINCT-ID": "ann"})

    def ticks() -> list[dict[str, Any]]:
        return [event for event in found.posthog.events[found.past :] if str(asked(event)).startswith("tick ")]

    wait_until(lambda: any(is_nobodys(event) for event in ticks()), "it is ann's for ever", timeout_s=60)
    assert ticks()[0]["distinct_id"] == "ann"
    found.get("/stop")


def test_a_lazy_worker_under_gunicorn(tmp_path: Path) -> None:
    with site(APP, "gunicorn -b 127.0.0.1:{port} -w 1 -k gthread --threads 8 app:app", tmp_path) as found:
        for user in ("ann", "bob"):
            found.get(f"/worker/{user}s-job", {"X-POSTHOG-DISTINCT-ID": user})
            found.event(f"{user}s-job")
        assert found.event("anns-job")["distinct_id"] == "ann"
        assert is_nobodys(found.event("bobs-job"))
