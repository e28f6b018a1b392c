"""`flush()`: True only when all that was captured before has arrived, and never for longer than it is asked to wait."""

from __future__ import annotations

import inspect

import pytest

import posthog_autoinstrument
from posthog_autoinstrument.testing import Fault

CALL = """
import threading, time
import posthog_autoinstrument
from posthog_autoinstrument import flush
from openai import OpenAI
client = OpenAI()
def call(text="x"):
    client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": text}])
"""
LATE = {"POSTHOG_AUTOINSTRUMENT_FLUSH_INTERVAL_S": "3600"}


def test_it_waits_for_ten_seconds_where_nothing_is_said():
    assert inspect.signature(posthog_autoinstrument.flush).parameters["timeout_s"].default == 10.0


def test_an_outage_holds_the_program_for_the_timeout_only(run_program, posthog_server):
    posthog_server.fail_next(*[Fault(503)] * 10_000)
    ran = run_program(CALL + "call()\nprint(flush(1), flush(0), flush())\n")  # it is tried for 15 minutes
    assert ran.stdout == "False False False\n"


def test_a_pause_that_is_longer_than_the_timeout_is_not_waited_for(run_program, posthog_server):
    posthog_server.fail_next(Fault(429, {"retry-after": "3600"}))
    ran = run_program(CALL + "call()\nprint(flush(3000))\n")
    assert ran.stdout == "False\n"
    assert len(ran.events) == 1  # at the end


@pytest.mark.parametrize("timeout", ["None", "60"])
def test_what_is_tried_again_is_waited_for(run_program, posthog_server, timeout):
    posthog_server.fail_next(Fault(503), Fault(reset=True), Fault(429, {"retry-after": "1"}))
    ran = run_program(CALL + f"call()\nprint(flush({timeout}))\n")
    assert (ran.stdout, len(ran.events)) == ("True\n", 1)


def test_what_was_lost_is_told_once(run_program, posthog_server):
    ran = run_program(
        CALL
        + "for number in range(9): call(str(number))\nprint(flush(60), flush(60))\ncall('next')\nprint(flush(60))\n",
        env={"POSTHOG_AUTOINSTRUMENT_QUEUE_MAX_EVENTS": "4", **LATE},
    )
    assert ran.stdout == "False True\nTrue\n"
    assert len(ran.events) == 5


@pytest.mark.parametrize(
    ("hook", "is_whole"),
    [("return None", True), ("raise ValueError()", False), ("return 5", False), ("return event", True)],
)
def test_what_the_hook_drops_is_no_loss_and_what_it_fails_on_is(run_program, hook, is_whole):
    ran = run_program(
        CALL
        + f"""
def hook(event):
    {hook}
posthog_autoinstrument.configure(before_send=hook)
call()
print(flush(60))
""",
        env={"POSTHOG_AUTOINSTRUMENT_RAISE": "0"},
    )
    assert ran.stdout == f"{is_whole}\n", ran.stderr


def test_what_posthog_rejects_is_a_loss(run_program, posthog_server):
    posthog_server.fail_next(Fault(400))
    ran = run_program(CALL + "call()\nprint(flush(60), flush(60))\n")
    assert ran.stdout == "False True\n"


def test_what_is_left_in_the_spool_has_not_arrived(run_program, posthog_server, tmp_path):
    posthog_server.fail_next(*[Fault(401)] * 2)
    ran = run_program(CALL + "call()\nprint(flush(600))\n", env={"POSTHOG_SPOOL": str(tmp_path / "spool")})
    assert ran.stdout == "False\n"
    assert "1 event stays in the spool" in ran.stderr


@pytest.mark.parametrize("timeout", ["600", "None", ""])
def test_it_is_false_at_once_inside_before_send(run_program, timeout):
    ran = run_program(
        CALL
        + f"""
told = []
def hook(event):
    told.append(flush({timeout}))
    return event
posthog_autoinstrument.configure(before_send=hook)
for number in range(3): call()
print(flush(60), told)
call()
""",
        env=LATE,
    )
    assert ran.stdout == "True [False, False, False]\n", ran.stderr
    assert len(ran.events) == 4


def test_it_is_false_inside_before_send_where_the_program_itself_delivers(run_program):
    """A call in a late exit handler is delivered by its own thread: the flusher's is gone."""
    ran = run_program(
        "import atexit\natexit.register(lambda: (call('late'), print(told, flush(60))))\n"
        + CALL
        + """
told = []
def hook(event):
    told.append(flush(600))
    return event
posthog_autoinstrument.configure(before_send=hook)
call("early")
""",
    )
    assert ran.stdout == "[False, False] True\n", ran.stderr
    assert len(ran.events) == 2


def test_there_is_no_moment_at_which_a_call_is_overlooked(run_program):
    """PostHog is in the program here, so that it can look whether what was called has arrived."""
    ran = run_program(
        """
        import os, sys
        from posthog_autoinstrument.testing import PostHogServer
        posthog = PostHogServer()
        os.environ.update(POSTHOG_PROJECT_TOKEN="phc_x", POSTHOG_HOST=posthog.url)
        import posthog_autoinstrument.auto
        """.replace("\n        ", "\n")
        + CALL
        + """
def slow(frame, event, arg):  # the flusher's thread may be held up anywhere: here it is, everywhere
    if os.path.basename(frame.f_code.co_filename) in ("flusher.py", "queue.py"):
        time.sleep(0.001)
        return slow
threading.settrace(slow)
n_early = 0
for number in range(15):
    call()
    time.sleep(number * 0.005)
    if not flush(60) or len(posthog.events) <= number:
        n_early += 1
print(n_early, len(posthog.events))
os._exit(0)
""",
        launched=False,
        token=False,
        env={"POSTHOG_AUTOINSTRUMENT_FLUSH_INTERVAL_S": "0.01", "POSTHOG_AUTOINSTRUMENT_FLUSH_AT": "1"},
    )
    assert ran.stdout == "0 15\n", ran.stderr
