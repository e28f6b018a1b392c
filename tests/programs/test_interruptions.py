"""A signal handler of the program's that raises while the agent is at work: time limits of tasks, alarms, debuggers."""

from __future__ import annotations

import json
import re
import signal
import sys
from collections import Counter

import pytest

from posthog_autoinstrument.core import diagnostics, guard

PROGRAM = """
import asyncio, gc, itertools, os, signal, sys
import openai

gc.disable()  # what an interrupted answer leaves, collected in the middle of a request, hangs in httpcore's pool

client = openai.OpenAI(max_retries=0)
OURS = os.sep + "posthog_autoinstrument" + os.sep

class Limit(BASE):
    pass

def stop(number, frame):
    raise Limit

marks = itertools.count()

def said():
    return [{"role": "user", "content": f"mark {next(marks)}."}]

signal.signal(signal.SIGALRM, stop)
unraisable = []
sys.unraisablehook = lambda failed: unraisable.append(failed.exc_type.__name__)

def chat():
    client.chat.completions.create(model="gpt-4o-mini", messages=said())

def stream():
    for _ in client.chat.completions.create(model="gpt-4o-mini", messages=said(), stream=True):
        pass

def coroutine():
    async def call():
        async with openai.AsyncOpenAI(max_retries=0) as other:
            await other.chat.completions.create(model="gpt-4o-mini", messages=said())
    asyncio.run(call())

def embeddings():
    client.embeddings.create(model="text-embedding-3-small", input=said()[0]["content"])

def refused():
    try:
        client.chat.completions.create(model="gpt-4o-mini", messages=5)
    except (TypeError, openai.APIStatusError):
        pass

def entered(call, target):
    '''How many functions of the agent the call enters; at the entry of number `target` the alarm goes off.'''
    seen = []
    def look(frame, event, argument):
        # Python 3.10 leaves a coroutine whose resumption is interrupted here without its `finally`.
        resumed = sys.version_info < (3, 11) and frame.f_lasti >= 0
        if event == "call" and OURS in frame.f_code.co_filename and not resumed:
            seen.append(frame.f_code.co_qualname if hasattr(frame.f_code, "co_qualname") else frame.f_code.co_name)
            if len(seen) == target:
                signal.raise_signal(signal.SIGALRM)
    sys.setprofile(look)
    try:
        call()
    except Limit:
        return "raised", seen
    except openai.APIConnectionError as error:  # inside of what the SDK itself guards
        return type(error.__cause__).__name__, seen
    finally:
        sys.setprofile(None)
    return "nothing", seen

for call in (chat, stream, coroutine, embeddings, refused):
    call(), call()
    _, seen = entered(call, 0)
    number = 0
    while number < len(seen):
        number += 1
        what, got = entered(call, number)
        if what == "nothing" and "Limit" in unraisable:
            what = "raised"  # at the end of a generator that nobody holds any longer: so it is in the SDK's own
        unraisable.clear()
        if what not in ("raised", "Limit") and len(got) >= number:
            print(call.__name__, number, what, got[-1:])
        if number % 4 == 0:
            gc.collect()
            _, seen = entered(call, 0)  # all goes on as before
    print(call.__name__, "entered", number > 3)
"""


@pytest.mark.timeout(240)
@pytest.mark.parametrize("base", ["Exception", "KeyboardInterrupt"])
@pytest.mark.parametrize("spool", [False, True], ids=["memory", "spool"])
def test_what_a_handler_raises_reaches_the_program_and_no_call_is_lost(
    run_program, tmp_path, openai_server, base, spool
):
    environ = {"POSTHOG_AUTOINSTRUMENT_RAISE": "0"} | ({"POSTHOG_SPOOL": str(tmp_path / "spool")} if spool else {})
    ran = run_program(PROGRAM.replace("BASE", base), env=environ, timeout_s=200)
    assert ran.stdout.splitlines() == [
        f"{call} entered True" for call in ("chat", "stream", "coroutine", "embeddings", "refused")
    ]
    assert ran.returncode == 0
    # asyncio tells of coroutines and generators that were interrupted while they began or ended: without us, too.
    assert diagnostics.PREFIX not in ran.stderr
    asked = Counter(found for request in openai_server.requests for found in MARK.findall(request.body.decode()))
    inputs = [json.dumps(event["properties"]["$ai_input"]) for event in ran.events]
    told = Counter(found for text in inputs for found in MARK.findall(text))
    assert len(asked) > 100
    assert set(asked) - set(told) == set()
    assert [mark for mark, times in told.items() if times > 1] == []


MARK = re.compile(r"mark \d+\.")


class Limit(Exception):
    pass


class Handler:
    def stop(self, number, frame):
        raise Limit

    def stop_by_another(self, number, frame):
        self.stop(number, None)

    def __call__(self, *anything):
        raise Limit

    def once(self, number, frame):
        signal.signal(number, signal.SIG_IGN)
        raise Limit


@pytest.mark.parametrize("handler", ["stop", "stop_by_another", "__call__", "once"])
@pytest.mark.parametrize("step", [guard.attempt, guard.contain])
def test_any_handler_is_known(handler, step):
    before = signal.signal(signal.SIGUSR1, getattr(Handler(), handler))
    try:
        with pytest.raises(Limit):
            step("count", signal.raise_signal, signal.SIGUSR1)
        signal.signal(signal.SIGUSR1, getattr(Handler(), handler))
        with pytest.raises(Limit):
            guard.quietly(signal.raise_signal, signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_failure_of_ours_is_none(monkeypatch):
    monkeypatch.setattr(guard, "raise_failures", False)
    monkeypatch.setattr(guard, "failures", {})

    def fails(frame=None):
        raise Limit

    assert guard.attempt("count", fails) is None
    assert guard.attempt("count", fails, sys._getframe()) is None
    assert guard.quietly(Handler(), 1, 2) is None
    assert guard.failures["count"] == 2


def test_a_failure_of_a_value_of_the_programs_is_none():
    class Value:
        def look(self, frame):
            raise Limit

        def __repr__(self):
            self.look(sys._getframe())

    assert guard.describe(Value()) == "<Value whose repr raised Limit>"
    assert guard.quietly(repr, Value()) is None


def test_what_a_debugger_raises_reaches_the_program():
    def trace(frame, event, argument):
        if event == "line" and frame.f_code is step.__code__:
            raise Limit
        return trace

    def step():
        return 1

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        with pytest.raises(Limit):
            guard.attempt("count", step)
    finally:
        sys.settrace(before)
