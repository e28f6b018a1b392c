"""Greenlets of gevent and eventlet run in the context in which they were started, however they are."""

from __future__ import annotations

import textwrap

import pytest

pytestmark = pytest.mark.timeout(120)

BEGIN = """
import contextvars, sys, threading
from posthog_autoinstrument import current_trace_id, posthog_context

theirs = contextvars.ContextVar("theirs", default="unset")
theirs.set("set")
found = {}

def see(*_):
    assert theirs.get() == "unset", "only our own variable goes along"
    return current_trace_id()
"""

GEVENT = """
class Own(gevent.Greenlet):
    def _run(self):
        return see()

class OwnRun(gevent.Greenlet):
    def run(self):
        found["own run"] = see()
        super().run()

pool, group, threads = gevent.pool.Pool(2), gevent.pool.Group(), gevent.threadpool.ThreadPool(1)
executor = gevent.threadpool.ThreadPoolExecutor(1)
with posthog_context(trace_id="made"):
    made = gevent.Greenlet(see)
with posthog_context(trace_id="t"):
    made.start()
    own, later = Own(), gevent.spawn_later(0.01, see)
    own.start()
    own_run = OwnRun.spawn(lambda: None)
    raw = gevent.spawn_raw(lambda: found.update(raw=see()))
    found.update(
        spawn=gevent.spawn(see).get(), of_the_class=gevent.Greenlet.spawn(see).get(), nested=gevent.spawn(
            lambda: gevent.spawn(see).get()).get(),
        pool=pool.spawn(see).get(), apply=pool.apply(see), apply_async=pool.apply_async(see).get(),
        map=pool.map(see, [1, 2])[1], map_async=pool.map_async(see, [1]).get()[0], imap=list(pool.imap(see, [1]))[0],
        imap_unordered=list(pool.imap_unordered(see, [1]))[0], group=group.spawn(see).get(),
        thread=threads.spawn(see).get(), thread_map=threads.map(see, [1])[0],
        hub=gevent.get_hub().threadpool.apply(see),
        thread_imap=list(threads.imap(see, [1]))[0], executor=executor.submit(see).result(),
        executor_map=list(executor.map(see, [1]))[0],
    )
    thread = threading.Thread(target=lambda: found.update(threading=see()))
    thread.start()
    copied = gevent.Greenlet(lambda: (theirs.get(), current_trace_id()))
    copied.gr_context = contextvars.copy_context()
    copied.start()
    inner = gevent.spawn(lambda: posthog_context(trace_id="left open").__enter__())
    inner.join()
    found["ours"] = current_trace_id()
    gevent.joinall([made, own, later, own_run])
    gevent.sleep(0.01)
found.update(made=made.get(), own=own.get(), later=later.get())
assert copied.get() == ("set", "t")
thread.join()
print([name for name, trace in found.items() if trace != "t"], len(found))
print({gevent.spawn(see).get(), pool.apply(see), threads.apply(see), executor.submit(see).result(), current_trace_id()})
"""

EVENTLET = """
from eventlet import GreenPool, GreenPile, tpool
pool, pile, calls = GreenPool(2), GreenPile(2), []
with posthog_context(trace_id="t"):
    eventlet.spawn_n(lambda: found.update(n=see()))
    pool.spawn_n(lambda: found.update(pool_n=see()))
    local = eventlet.greenthread.spawn_after_local(0, see)
    found.update(
        spawn=eventlet.spawn(see).wait(), after=eventlet.spawn_after(0.01, see).wait(), local=local.wait(),
        nested=eventlet.spawn(lambda: eventlet.spawn(see).wait()).wait(), pool=pool.spawn(see).wait(),
        imap=list(pool.imap(see, [1]))[0], starmap=list(pool.starmap(see, [(1,)]))[0], thread=tpool.execute(see),
        proxy=tpool.Proxy(dict(one=see), autowrap=(type(see),))["one"](),
    )
    pile.spawn(see)
    found["pile"] = list(pile)[0]
    thread = threading.Thread(target=lambda: found.update(threading=see()))
    thread.start()
    eventlet.spawn(lambda: posthog_context(trace_id="left open").__enter__()).wait()
    eventlet.sleep(0.01)
    found["ours"] = current_trace_id()
thread.join()
pool.waitall()
print([name for name, trace in found.items() if trace != "t"], len(found))
print({eventlet.spawn(see).wait(), pool.spawn(see).wait(), tpool.execute(see), current_trace_id()})
"""
NO_DNS = {"EVENTLET_NO_GREENDNS": "yes"}


@pytest.mark.parametrize("patched", ["patched before", "patched", "as it is"])
def test_gevent(run_program, patched):
    pytest.importorskip("gevent")
    imports = "import gevent, gevent.pool, gevent.threadpool\n"
    monkey = "from gevent import monkey; monkey.patch_all()\n"
    if patched == "patched before":
        source = monkey + imports + BEGIN
    else:
        source = BEGIN + (monkey if patched == "patched" else "") + imports
    ran = run_program(source + textwrap.dedent(GEVENT))
    assert ran.stdout == "[] 24\n{None}\n", ran.stderr
    assert "Traceback" not in ran.stderr, ran.stderr


@pytest.mark.parametrize("patched", ["patched before", "patched", "as it is"])
def test_eventlet(run_program, patched):
    pytest.importorskip("eventlet")
    monkey = "import eventlet; eventlet.monkey_patch()\n"
    if patched == "patched before":
        source = monkey + BEGIN
    else:
        source = BEGIN + (monkey if patched == "patched" else "import eventlet\n")
    ran = run_program(source + textwrap.dedent(EVENTLET), env=NO_DNS)
    assert ran.stdout == "[] 14\n{None}\n", ran.stderr
    assert "Traceback" not in ran.stderr, ran.stderr


@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_a_call_in_a_greenlet_is_of_the_context_it_was_started_in(run_program, library):
    pytest.importorskip(library)
    ran = run_program(
        f"""
        import sys
        sys.modules["trio"] = None  # the tests bring it, and it cannot be imported under eventlet
        import {library}
        {"from gevent import monkey; monkey.patch_all()" if library == "gevent" else "eventlet.monkey_patch()"}
        import openai
        from posthog_autoinstrument import posthog_context, posthog_span
        {"wait = gevent.wait" if library == "gevent" else "wait = lambda all: [one.wait() for one in all]"}

        client = openai.OpenAI()

        def ask(text):
            client.chat.completions.create(model="gpt-4o-mini", messages=[{{"role": "user", "content": text}}])

        with posthog_context("ada", session_id="chat-7"), posthog_span("step"):
            ada = {library}.spawn(ask, "ada")
        wait([ada, {library}.spawn(ask, "nobody")])
        """,
        env=NO_DNS,
    )
    assert ran.returncode == 0, ran.stderr
    (span,) = (event["properties"] for event in ran.events if event["event"] == "$ai_span")
    calls = {
        event["properties"]["$ai_input"][0]["content"]: event
        for event in ran.events
        if event["event"] == "$ai_generation"
    }
    said = calls["ada"]["properties"]
    assert (calls["ada"]["distinct_id"], said["$ai_trace_id"], said["$ai_parent_id"], said["$ai_session_id"]) == (
        "ada", span["$ai_trace_id"], span["$ai_span_id"], "chat-7",
    )  # fmt: skip
    assert calls["nobody"]["distinct_id"] == calls["nobody"]["properties"]["$ai_trace_id"]
