"""From captured calls to PostHog: batches, faults of the server, the end of the process, forks."""

from __future__ import annotations

import random
import textwrap
import time

import pytest
from support.waiting import held_until

from posthog_autoinstrument.testing import Fault

CALL = """
import os, sys, threading, time
from openai import OpenAI
client, owner = OpenAI(), os.getpid()
def call(content="Hello", **more):
    global client, owner
    if owner != os.getpid():  # a forked child must not share its parent's connections
        client, owner = OpenAI(), os.getpid()
    return client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": content}], **more)
"""


def inputs(ran):
    return [event["properties"]["$ai_input"][0]["content"] for event in ran.events]


def test_five_thousand_calls_back_to_back(run_program):
    # A transport in memory: the host never waits for a network, so the flusher gets only what the GIL gives it.
    ran = run_program(
        """
        import json
        import openai
        from openai import DefaultHttpxClient
        httpx = __import__(DefaultHttpxClient.__mro__[1].__module__.partition(".")[0])
        body = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}}]}
        transport = httpx.MockTransport(lambda request: httpx.Response(200, json=body))
        client = openai.OpenAI(http_client=httpx.Client(transport=transport))
        for number in range(5000):
            client.chat.completions.create(model="m", messages=[{"role": "user", "content": str(number)}])
        """,
        timeout_s=110,
    )
    assert ran.returncode == 0
    assert ran.stderr == ""
    assert sorted(map(int, inputs(ran))) == list(range(5000))
    assert len({event["uuid"] for event in ran.events}) == 5000


def test_events_are_sent_while_the_program_runs(run_program, posthog_server):
    ran = run_program(
        CALL
        + """
call()
import urllib.request
deadline = time.monotonic() + 20
while time.monotonic() < deadline:
    if any("flusher" in thread.name for thread in threading.enumerate()):
        break
print("started")
import posthog_autoinstrument
print(posthog_autoinstrument.flush(10), posthog_autoinstrument.flush(10))
os._exit(0)
"""
    )
    assert ran.stdout == "started\nTrue True\n"
    assert len(ran.events) == 1


def test_the_interval_sends_without_a_flush(run_program, posthog_server, tmp_path):
    with held_until(lambda: posthog_server.events, tmp_path / "sent") as wait:
        ran = run_program(
            CALL + f"call()\nimport signal\n{wait}\nos.kill(os.getpid(), signal.SIGKILL)\n",
            env={"POSTHOG_AUTOINSTRUMENT_FLUSH_INTERVAL_S": "0.1"},
        )
    assert ran.returncode == -9
    assert len(ran.events) == 1


def test_warnings_that_were_shown_once_are_not_shown_again(run_program):
    ran = run_program(
        CALL
        + """
import warnings, posthog_autoinstrument
def warn():
    warnings.warn("once", UserWarning)
call()  # the SDK's first call changes the filters by itself
before = list(warnings.filters)
warn()
posthog_autoinstrument.flush(10)
warn()
assert warnings.filters == before
assert "requests" not in sys.modules
""",
        env={"POSTHOG_AUTOINSTRUMENT_FLUSH_INTERVAL_S": "60"},
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr.count("UserWarning: once") == 1, ran.stderr


def test_what_requests_warns_of_when_we_load_it_is_not_the_programs(run_program):
    # requests warns when it finds a chardet that it does not know (requests 2.31 to 2.34, requests/__init__.py).
    ran = run_program(
        CALL
        + """
import types, warnings, posthog_autoinstrument
sys.modules["chardet"] = types.ModuleType("chardet")
sys.modules["chardet"].__version__ = "99.0"
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    call()
    posthog_autoinstrument.flush(10)
    warnings.warn("the program's own")
print([str(warning.message) for warning in seen], {os.path.basename(warning.filename) for warning in seen})
""",
        env={"POSTHOG_AUTOINSTRUMENT_FLUSH_INTERVAL_S": "60"},
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "[\"the program's own\"] {'program.py'}\n"
    assert ran.stderr == ""
    assert len(ran.events) == 1


def test_signals_never_come_to_the_flusher(run_program):
    ran = run_program(
        CALL
        + """
import signal
call()
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
os.kill(os.getpid(), signal.SIGUSR1)
print(signal.sigwait({signal.SIGUSR1}) == signal.SIGUSR1)
"""
    )
    assert (ran.returncode, ran.stdout) == (0, "True\n")
    assert len(ran.events) == 1


class TestWaysOut:
    def test_return_sys_exit_exception_and_interrupt(self, run_program):
        for source, code in (
            ("call()", 0),
            ("call(); sys.exit(5)", 5),
            ("call(); raise ValueError('x')", 1),
            ("call(); import signal; os.kill(os.getpid(), signal.SIGINT); time.sleep(5)", -2),
        ):
            ran = run_program(CALL + source + "\n")
            assert ran.returncode == code, ran.stderr
            assert len(ran.events) == 1, source

    def test_a_call_made_in_an_exit_handler(self, run_program):
        ran = run_program("import atexit\natexit.register(lambda: call('late'))\n" + CALL + "call('early')\n")
        assert inputs(ran) == ["early", "late"], ran.stderr

    def test_a_stream_that_is_open_at_the_end_of_a_multiprocessing_child(self, run_program):
        ran = run_program(
            CALL
            + """
import multiprocessing
def work():
    global kept
    kept = OpenAI().chat.completions.create(
        model="long", messages=[{"role": "user", "content": "Hello"}], stream=True)
    next(kept)
if __name__ == "__main__":
    for method in ("fork", "spawn"):
        child = multiprocessing.get_context(method).Process(target=work)
        child.start()
        child.join()
""",
            env={"PYTHONWARNINGS": "ignore"},
        )
        assert inputs(ran) == ["Hello", "Hello"], ran.stderr

    def test_a_stream_that_is_open_at_exit(self, run_program):
        ran = run_program(
            CALL
            + """
stream = client.chat.completions.create(model="long", messages=[{"role": "user", "content": "Hello"}], stream=True)
next(stream); next(stream)
"""
        )
        assert inputs(ran) == ["Hello"]

    def test_a_hanging_server_delays_the_exit_by_the_timeout_at_most(self, run_program, posthog_server):
        posthog_server.fail_next(*[Fault(hang=True)] * 5)
        ran = run_program(CALL + "call()\nprint(time.time())\n", env={"POSTHOG_AUTOINSTRUMENT_EXIT_TIMEOUT_S": "1"})
        assert time.time() - float(ran.stdout) < 14  # one attempt by itself may take 15 s
        assert ran.returncode == 0
        (line,) = ran.stderr.splitlines()
        assert "1 event was lost" in line

    def test_a_server_that_is_not_there(self, run_program):
        ran = run_program(
            CALL + "call()\nprint('done')\n",
            env={"POSTHOG_HOST": "http://127.0.0.1:9", "POSTHOG_AUTOINSTRUMENT_EXIT_TIMEOUT_S": "1"},
        )
        assert (ran.returncode, ran.stdout) == (0, "done\n")
        (line,) = ran.stderr.splitlines()
        assert "1 event was lost" in line


def test_a_program_that_logs_everything_does_not_see_our_requests(run_program, posthog_server):
    posthog_server.fail_next(Fault(status=503), Fault(reset=True))
    ran = run_program(
        """
import logging
logging.basicConfig(level=logging.DEBUG, format="%(name)s %(message)s")
"""
        + CALL
        + """
call()
import posthog_autoinstrument
posthog_autoinstrument.flush(20)
import requests
try:
    requests.get("http://127.0.0.1:9/")
except requests.ConnectionError:
    pass
"""
    )
    assert len(ran.events) == 1
    mine = [line for line in ran.stderr.splitlines() if line.startswith("urllib3")]
    assert mine == ["urllib3.connectionpool Starting new HTTP connection (1): 127.0.0.1:9"]


def test_what_the_host_does_to_requests_and_http_client_does_not_reach_us(run_program):
    ran = run_program(
        """
import http.client
http.client.HTTPConnection.debuglevel = 1
"""
        + CALL
        + """
call()
import requests, posthog_autoinstrument
posthog_autoinstrument.flush(10)  # the agent has its session by now
def refuse(*args, **kwargs):
    raise AssertionError("ours")
requests.adapters.HTTPAdapter.send = refuse
requests.Session.get_adapter = refuse
call()
"""
    )
    assert len(ran.events) == 2
    assert (ran.stdout, ran.stderr) == ("", "")


class TestServerBehaviour:
    def test_retries_resend_the_same_bytes(self, run_program, posthog_server):
        posthog_server.fail_next(
            Fault(status=503), Fault(status=429, headers={"Retry-After": "0"}), Fault(reset=True, recorded=True)
        )
        ran = run_program(CALL + "call()\nimport posthog_autoinstrument\nposthog_autoinstrument.flush(30)\n")
        assert ran.stderr == ""
        events = [event for request in posthog_server.requests for event in request.json()["batch"]]
        assert len(events) == 4
        assert all(event == events[0] for event in events)

    def test_the_end_of_the_program_does_not_wait_for_a_pause_that_was_asked_for(self, run_program, posthog_server):
        posthog_server.fail_next(Fault(status=429, headers={"Retry-After": "3600"}))
        ran = run_program(
            CALL + "call('a')\nimport posthog_autoinstrument\nprint(posthog_autoinstrument.flush(3))\ncall('b')\n"
        )
        assert (ran.stdout, ran.stderr) == ("False\n", "")
        assert sorted(inputs(ran)) == ["a", "b"]

    def test_a_host_without_the_ai_path(self, run_program, posthog_server):
        posthog_server.ai_path = False
        ran = run_program(CALL + "call()\n")
        assert len(ran.events) == 1
        assert [request.path.partition("?")[0] for request in posthog_server.requests] == [
            "/i/v0/ai/batch/",
            "/i/v0/ai/batch/",
            "/i/v0/ai/batch/",
            "/batch/",
        ]

    def test_a_rejected_batch_loses_only_its_poison(self, run_program, posthog_server):
        # Refused whole by the server, as PostHog's AI path does, for one event that is none of its.
        ran = run_program(
            """
import posthog_autoinstrument
def poison(event):
    if event["properties"]["$ai_input"][0]["content"] == "3":
        event["event"] = "no_ai_event"
    return event
posthog_autoinstrument.configure(before_send=poison)
"""
            + CALL
            + "for number in range(8): call(str(number))\n"
        )
        assert sorted(inputs(ran)) == ["0", "1", "2", "4", "5", "6", "7"]
        assert "400" in ran.stderr
        assert "1 event was lost" in ran.stderr.splitlines()[-1]

    def test_an_event_over_the_limit_is_cut_down_and_marked(self, run_program, posthog_server):
        posthog_server.max_event_bytes = 200_000
        ran = run_program(CALL + "call('x' * 1_000_000)\ncall('small')\n")
        assert len(ran.events) == 2
        large, small = sorted(ran.events, key=lambda event: -len(str(event)))
        assert large["properties"]["posthog_autoinstrument_truncated"] is True
        assert large["properties"]["$ai_http_status"] == 200
        assert small["properties"]["$ai_input"][0]["content"] == "small"

    def test_a_property_named_token_stops_nothing(self, run_program, posthog_server):
        ran = run_program(
            CALL + "call('a', posthog_properties={'token': 'phc_mine'})\ncall('b', posthog_properties={'token': 5})\n"
        )
        assert (inputs(ran), ran.stderr) == (["a", "b"], "")
        assert [request.status for request in posthog_server.requests] == [200]

    def test_hundreds_of_calls_make_few_requests(self, run_program, posthog_server):
        ran = run_program(CALL + "for number in range(300): call(str(number))\n")
        assert len(ran.events) == 300
        assert len(posthog_server.requests) <= 10


class TestBounds:
    def test_the_next_event_says_how_many_were_lost(self, run_program, posthog_server):
        flush = "import posthog_autoinstrument\nposthog_autoinstrument.flush()\n"
        ran = run_program(
            CALL + "for number in range(30): call(str(number))\n" + flush + "call('next')\n",
            env={"POSTHOG_AUTOINSTRUMENT_QUEUE_MAX_EVENTS": "5", "POSTHOG_AUTOINSTRUMENT_FLUSH_INTERVAL_S": "3600"},
        )
        told = [event["properties"].get("posthog_autoinstrument_lost_events", 0) for event in ran.events]
        assert sum(told) == 31 - len(ran.events) > 0

    def test_a_full_queue_drops_and_counts(self, run_program, posthog_server):
        ran = run_program(
            CALL + "for number in range(50): call(str(number))\n",
            env={"POSTHOG_AUTOINSTRUMENT_QUEUE_MAX_EVENTS": "10", "POSTHOG_AUTOINSTRUMENT_FLUSH_INTERVAL_S": "60"},
        )
        assert len(ran.events) == 10
        (line,) = ran.stderr.splitlines()
        assert "40 events were lost (40: queue full)" in line

    def test_calls_without_a_pause_go_in_full_batches(self, run_program, posthog_server):
        ran = run_program(
            CALL + "for number in range(95): call(str(number))\n",
            env={"POSTHOG_AUTOINSTRUMENT_FLUSH_INTERVAL_S": "60", "POSTHOG_AUTOINSTRUMENT_FLUSH_AT": "20"},
        )
        assert sorted(map(int, inputs(ran))) == list(range(95))
        assert [len(request.json()["batch"]) for request in posthog_server.requests] == [20, 20, 20, 20, 15]

    def test_what_a_batch_left_waits_no_longer_than_others(self, run_program, posthog_server, tmp_path):
        environ = {"POSTHOG_AUTOINSTRUMENT_FLUSH_INTERVAL_S": "1.5", "POSTHOG_AUTOINSTRUMENT_FLUSH_AT": "20"}
        with held_until(lambda: len(posthog_server.events) == 30, tmp_path / "sent") as wait:
            ran = run_program(CALL + f"for number in range(30): call(str(number))\n{wait}\nos._exit(0)\n", env=environ)
        assert sorted(map(int, inputs(ran))) == list(range(30))

    def test_flush_fetches_what_a_batch_left(self, run_program, posthog_server):
        source = """
            import posthog_autoinstrument
            for number in range(30): call(str(number))
            assert posthog_autoinstrument.flush(20)
            os._exit(0)
        """
        environ = {"POSTHOG_AUTOINSTRUMENT_FLUSH_INTERVAL_S": "3600", "POSTHOG_AUTOINSTRUMENT_FLUSH_AT": "20"}
        ran = run_program(CALL + textwrap.dedent(source), env=environ)
        assert ran.returncode == 0
        assert sorted(map(int, inputs(ran))) == list(range(30))

    def test_a_process_that_has_all_its_files_open_sends_later(self, run_program, tmp_path):
        """Not even the modules can be read that make events."""
        source = """
            import resource
            call("0")
            os.dup2(os.open("stderr.txt", os.O_CREAT | os.O_WRONLY), 2)
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
            held = []
            try:
                while True: held.append(open("/dev/null"))
            except OSError:
                pass
            for number in range(1, 6): call(str(number))
            while not os.path.getsize("stderr.txt"): time.sleep(0.01)
            for one in held: one.close()
            call("6")
        """
        ran = run_program(CALL + textwrap.dedent(source), env={"POSTHOG_AUTOINSTRUMENT_FLUSH_INTERVAL_S": "1"})
        assert sorted(map(int, inputs(ran))) == list(range(7))
        stderr = (tmp_path / "stderr.txt").read_text()
        assert "Too many open files" in stderr
        assert "lost" not in stderr

    def test_what_fails_is_counted_and_holds_up_nothing(self, run_program):
        source = """
            from posthog_autoinstrument.processing import pipeline
            process = pipeline.Pipeline.process
            def fail_once(self, record, source):
                pipeline.Pipeline.process = process
                raise RuntimeError("of ours")
            pipeline.Pipeline.process = fail_once
            call("1")
            call("2")
        """
        ran = run_program(CALL + textwrap.dedent(source), env={"POSTHOG_AUTOINSTRUMENT_RAISE": "0"})
        assert inputs(ran) == ["2"]
        assert "1 event was lost (1: could not be made)" in ran.stderr

    def test_the_random_numbers_of_the_program_are_its_own(self, run_program, posthog_server):
        """Also while PostHog is away, and we wait for random times."""
        posthog_server.fail_next(Fault(503), Fault(503))
        source = """
            import random
            import posthog_autoinstrument
            random.seed(7)
            call()
            if posthog_autoinstrument.flush(30): print(random.random())
        """
        environ = {"POSTHOG_AUTOINSTRUMENT_FLUSH_INTERVAL_S": "0.1"}
        launched = run_program(CALL + textwrap.dedent(source), env=environ)
        assert len(posthog_server.requests) >= 3
        random.seed(7)
        assert launched.stdout == f"{random.random()}\n"

    def test_what_is_large_does_not_wait_for_a_full_batch(self, run_program, posthog_server, tmp_path):
        """More of it than of small events would fill the memory meanwhile."""
        calls = 'for number in range(22): call(f"{number} " + "x" * 400_000)\n'
        environ = {"POSTHOG_AUTOINSTRUMENT_FLUSH_INTERVAL_S": "3600", "POSTHOG_AUTOINSTRUMENT_FLUSH_AT": "20"}
        with held_until(lambda: len(posthog_server.events) >= 18, tmp_path / "sent") as wait:
            ran = run_program(CALL + f"{calls}{wait}\nos._exit(0)\n", env=environ)
        assert len(ran.events) >= 18

    def test_what_is_large_is_sent_in_small_batches(self, run_program, posthog_server):
        """Events are in memory several times over while they are sent."""
        ran = run_program(
            CALL + "for number in range(30): call('x' * 400_000)\n",
            env={"POSTHOG_AUTOINSTRUMENT_FLUSH_INTERVAL_S": "60"},
        )
        assert len(ran.events) == 30
        assert len(posthog_server.requests) >= 5

    def test_what_is_being_sent_counts(self, run_program, posthog_server):
        posthog_server.fail_next(Fault(200, delay_s=8.0, recorded=True))
        ran = run_program(
            CALL + "for number in range(40): call('x' * 100_000)\n",
            env={
                "POSTHOG_AUTOINSTRUMENT_QUEUE_MAX_BYTES": "2000000",
                "POSTHOG_AUTOINSTRUMENT_FLUSH_AT": "10",
                "POSTHOG_AUTOINSTRUMENT_FLUSH_INTERVAL_S": "3600",
                "POSTHOG_AUTOINSTRUMENT_EXIT_TIMEOUT_S": "60",
            },
        )
        # Of 2 MB 13 calls at 150 KB: 10 on their way and 3 that wait.
        assert len(ran.events) == 13
        assert "27: queue full" in ran.stderr

    def test_bytes_are_bounded_too(self, run_program):
        ran = run_program(
            CALL + "for number in range(10): call('x' * 100_000)\n",
            env={"POSTHOG_AUTOINSTRUMENT_QUEUE_MAX_BYTES": "300000", "POSTHOG_AUTOINSTRUMENT_FLUSH_INTERVAL_S": "60"},
        )
        assert 1 <= len(ran.events) < 10
        lost = 10 - len(ran.events)
        assert f"{lost} event" in ran.stderr
        assert f"lost ({lost}: queue full)" in ran.stderr


class TestForks:
    def test_a_process_with_an_idle_flusher_forks_as_one_of_one_thread(self, run_program):
        # Python 3.12 warns of a fork in a process of several threads.
        ran = run_program(
            CALL
            + """
import warnings
warnings.simplefilter("error")
def threads():
    return [thread.name for thread in threading.enumerate() if "flusher" in thread.name]
call("first")
import posthog_autoinstrument
posthog_autoinstrument.flush(10)
deadline = time.monotonic() + 10
for _ in range(20):
    seen = []
    pid = os.fork()
    if pid == 0:
        os._exit(len(threads()))
    assert os.waitpid(pid, 0)[1] == 0
    call("again")
    assert threads()
print("ok")
"""
        )
        assert ran.stdout == "ok\n", ran.stderr
        assert sorted(inputs(ran)) == ["again"] * 20 + ["first"]

    def test_nothing_is_sent_twice_and_nothing_is_lost(self, run_program):
        ran = run_program(
            CALL
            + """
for number in range(20):
    call(f"parent-{number}")
children = []
for child in range(3):
    pid = os.fork()
    if pid == 0:
        call(f"child-{child}")
        sys.exit(0)
    children.append(pid)
assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]
call("after")
""",
            env={"PYTHONWARNINGS": "ignore"},
        )
        assert ran.returncode == 0, ran.stderr
        assert sorted(inputs(ran)) == sorted(
            [*(f"parent-{number}" for number in range(20)), *(f"child-{child}" for child in range(3)), "after"]
        )

    def test_forking_while_the_flusher_imports_requests(self, run_program):
        ran = run_program(
            CALL
            + """
call("parent")
for _ in range(15):
    pid = os.fork()
    if pid == 0:
        call("child")
        sys.exit(0)
    assert os.waitpid(pid, 0)[1] == 0
""",
            env={"PYTHONWARNINGS": "ignore", "POSTHOG_AUTOINSTRUMENT_FLUSH_INTERVAL_S": "0.01"},
        )
        assert ran.returncode == 0, ran.stderr
        assert sorted(inputs(ran)) == ["child"] * 15 + ["parent"]

    def test_a_stream_that_was_open_when_the_process_forked_is_one_event(self, run_program):
        ran = run_program(
            CALL
            + """
stream = client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "s"}], stream=True)
next(stream)
pid = os.fork()
if pid == 0:
    del stream
    sys.exit(0)
os.waitpid(pid, 0)
list(stream)
"""
        )
        assert inputs(ran) == ["s"], ran.stderr


class TestBeforeSend:
    def test_one_that_raises_what_ends_programs_or_makes_calls(self, run_program):
        for body in ("raise SystemExit(3)", "call('redact this')"):
            ran = run_program(
                "import posthog_autoinstrument\n"
                + CALL
                + f"""
ran = []
def hook(event):
    ran.append(1)
    {body}
    return event
posthog_autoinstrument.configure(before_send=hook)
call("one")
posthog_autoinstrument.flush(10)
call("two")
posthog_autoinstrument.flush(10)
print(len(ran))
"""
            )
            assert ran.stdout == "2\n", ran.stderr
            assert len(ran.events) == (0 if "raise" in body else 2)

    def test_one_that_stands_in_the_program_itself(self, run_program):
        ran = run_program(
            "print('top level')\ndef hook(event):\n    event['properties']['mine'] = 1\n    return event\n"
            + CALL
            + "call()\n",
            env={"POSTHOG_AUTOINSTRUMENT_BEFORE_SEND": "program:hook", "PYTHONPATH": "."},
        )
        assert ran.stdout == "top level\n"
        assert [event["properties"]["mine"] for event in ran.events] == [1]

    def test_one_that_cannot_be_loaded_sends_nothing(self, run_program):
        ran = run_program(CALL + "call('secret')\n", env={"POSTHOG_AUTOINSTRUMENT_BEFORE_SEND": "no_such_module:hook"})
        assert ran.events == []
        why, lost = ran.stderr.splitlines()
        assert "no_such_module:hook" in why
        assert "1 event was lost (1: before_send could not be loaded)" in lost

    @pytest.mark.parametrize("raised", ["SystemExit(3)", "GeneratorExit()", "RuntimeError()"])
    def test_one_whose_module_raises_sends_nothing(self, run_program, tmp_path, raised):
        (tmp_path / "hooks.py").write_text(f"raise {raised}")
        ran = run_program(
            CALL + "import posthog_autoinstrument\ncall('a')\nposthog_autoinstrument.flush(10)\ncall('b')\n",
            env={"POSTHOG_AUTOINSTRUMENT_BEFORE_SEND": "hooks:hook"},
        )
        assert (ran.returncode, ran.events) == (0, [])
        assert "before_send could not be loaded)" in ran.stderr

    def test_by_environment(self, run_program, tmp_path):
        (tmp_path / "hooks.py").write_text(
            "def hook(event):\n"
            "    if event['properties']['$ai_input'][0]['content'] == 'secret':\n"
            "        return None\n"
            "    if event['properties']['$ai_input'][0]['content'] == 'broken':\n"
            "        raise ValueError('secret')\n"
            "    event['properties']['mine'] = 1\n"
            "    return event\n"
        )
        ran = run_program(
            CALL + "call('a')\ncall('secret')\ncall('broken')\n",
            env={"POSTHOG_AUTOINSTRUMENT_BEFORE_SEND": "hooks:hook"},
        )
        (event,) = ran.events
        assert event["properties"]["mine"] == 1
        failed, lost = ran.stderr.splitlines()
        assert "could not run before_send" in failed
        assert "1 event was lost (1: before_send failed)" in lost
        assert "secret" not in ran.stderr

    @pytest.mark.parametrize("hook", ["no_such_module:hook", "hooks:nope", "hooks:number", "hooks:five"])
    def test_one_that_is_none_says_why(self, run_program, tmp_path, hook):
        (tmp_path / "hooks.py").write_text("number = 3\ndef five(event): return 5\n")
        ran = run_program(CALL + "call('a')\n", env={"POSTHOG_AUTOINSTRUMENT_BEFORE_SEND": hook})
        assert ran.events == []
        why = {
            "no_such_module:hook": "POSTHOG_AUTOINSTRUMENT_BEFORE_SEND=no_such_module:hook: No module named",
            "hooks:nope": "POSTHOG_AUTOINSTRUMENT_BEFORE_SEND=hooks:nope: module 'hooks' has no attribute 'nope'",
            "hooks:number": "POSTHOG_AUTOINSTRUMENT_BEFORE_SEND=hooks:number: number is not callable",
            "hooks:five": "before_send returned int",
        }[hook]
        assert why in ran.stderr.splitlines()[0]

    def test_what_it_breaks_is_put_right(self, run_program):
        """PostHog refuses the whole batch for one malformed id, name or time."""
        ran = run_program(
            """
import posthog_autoinstrument
BROKEN = {"uuid": "mine", "event": "", "timestamp": "yesterday", "distinct_id": "\\x00 ", "properties": None}
def hook(event):
    name = event["properties"]["$ai_input"][0]["content"]
    if name == "properties":
        event["properties"]["kept"] = float("nan")
    elif name != "all":
        event[name] = BROKEN[name]
    return {**event, **{key: BROKEN[key] for key in BROKEN if name == "all" and key != "properties"}}
posthog_autoinstrument.configure(before_send=hook)
"""
            + CALL
            + "for name in ('uuid', 'event', 'timestamp', 'distinct_id', 'properties', 'all'): call(name)\n"
        )
        assert ran.stderr == ""
        assert sorted(inputs(ran)) == sorted(["uuid", "event", "timestamp", "distinct_id", "properties", "all"])
        assert {event["event"] for event in ran.events} == {"$ai_generation"}
        assert len({event["uuid"] for event in ran.events}) == 6

    def test_ids_that_posthog_takes_for_nobody(self, run_program):
        ran = run_program(
            CALL
            + "call('a', posthog_distinct_id='Anonymous')\ncall('b', posthog_distinct_id='guest')\n"
            + "call('c', posthog_distinct_id='\\x00\\x01 ')\ncall('d', posthog_distinct_id='x' * 500)\n"
        )
        (line,) = ran.stderr.splitlines()
        assert "distinct_id 'Anonymous' is shared by many" in line
        ids = [event["distinct_id"] for event in ran.events]
        assert ids[:2] == ["Anonymous", "guest"]
        assert ids[2] == ran.events[2]["properties"]["$ai_trace_id"]
        assert ids[3] == "x" * 200

    @pytest.mark.parametrize("host", ["http://posthog.example", "http://127.0.0.1.example", "http://localhost.example"])
    def test_plain_http_is_for_this_machine_only(self, run_program, host):
        ran = run_program(CALL + "call('a')\n", env={"POSTHOG_HOST": host})
        assert "POSTHOG_AUTOINSTRUMENT_ALLOW_HTTP=1" in ran.stderr
        assert "1 event was lost" in ran.stderr
        assert "too late" not in ran.stderr  # the project was there from the start

    def test_what_an_address_holds_of_secrets_is_not_said(self, run_program):
        ran = run_program(
            CALL + "call('a')\n",
            env={
                "POSTHOG_HOST": "http://user:s3cret@posthog.example/?key=s3cret",
                "POSTHOG_AUTOINSTRUMENT_DEBUG": "1",
            },
        )
        assert "posthog.example is plain http" in ran.stderr
        assert "s3cret" not in ran.stderr
