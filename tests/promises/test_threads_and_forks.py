"""Promise: no thread before the first captured call, none started at exit; forks and finalisers cannot hang."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from support.comparison import own_lines, run, same

pytestmark = pytest.mark.promise

THREADS = """
def threads():
    task = "/proc/self/task"
    return len(os.listdir(task)) if os.path.isdir(task) else threading.active_count()
"""


def test_no_thread_before_the_first_call(tmp_path: Path) -> None:
    same(
        tmp_path,
        THREADS
        + """
from openai.resources.chat.completions import Completions
client, aclient = openai.OpenAI(), openai.AsyncOpenAI()
tell(client.chat.completions, client.embeddings, client.chat.completions.with_raw_response.create)
tell(aclient.responses)  # needs responses
tell(client.chat.completions.stream(**CHAT) is not None)  # needs chat.completions.stream
tell(client.models.list().data[0].id)
tell([thread.name for thread in threading.enumerate()], threads())
pid = os.fork()
if not pid:
    tell("child", threads())
    os._exit(0)
tell(os.waitpid(pid, 0)[1])
""",
        events=0,
        flags=["-W", "error"],
    )


def test_one_thread_after_it_and_none_is_started_at_exit(tmp_path: Path) -> None:
    ran = run(
        tmp_path,
        """
        client = openai.OpenAI()
        client.chat.completions.create(**CHAT)
        client.chat.completions.create(**CHAT)
        tell(sorted(thread.name for thread in threading.enumerate()), [t.daemon for t in threading.enumerate()])
        """,
    )
    assert ran.stdout == "['MainThread', 'posthog-autoinstrument-flusher'] [False, True]\n"
    assert len(ran.events) == 2
    ran = run(
        tmp_path,
        """
        def start(self):
            tell("started", self.name)
            raise RuntimeError("can't create new thread at interpreter shutdown")

        client = openai.OpenAI()
        kept = client.chat.completions.create(**CHAT, stream=True)  # ended by the agent or by the interpreter's end
        next(kept)
        atexit.register(lambda: client.chat.completions.create(**CHAT, posthog_distinct_id="before"))
        threading.Thread.start = start

        class Last:
            def __del__(self):
                client.chat.completions.create(**CHAT, posthog_distinct_id="last")

        last = Last()
        """,
        # Registered before the agent's own, so it runs after it.
        first="""
import atexit, threading
def last_call():
    client.chat.completions.create(**CHAT, posthog_distinct_id="after")
    tell([thread.name for thread in threading.enumerate()])
atexit.register(last_call)
""",
    )
    assert ran.returncode == 0
    # The call before the agent's end may try to start the thread: the interpreter has not begun to shut down for it.
    assert ran.stdout.splitlines()[-1] == "['MainThread']"
    assert ran.stdout.count("started") <= 1
    assert "Traceback" not in ran.stderr
    assert not own_lines(ran.stderr)
    users = [event["distinct_id"] for event in ran.events]
    assert users.count("before") == users.count("after") == 1
    assert len(users) >= 3


FORK = """
import faulthandler, signal, warnings
import posthog_autoinstrument

# A fork does not wait for a thread that is sending: from Python 3.12 on, it warns of one.
warnings.filterwarnings("ignore", ".*is multi-threaded, use of fork", DeprecationWarning)

# One that hangs prints where and dies. A signal: faulthandler's own timer hangs in forked children.
faulthandler.register(signal.SIGALRM, chain=True)
signal.alarm(60)
os.register_at_fork(after_in_child=lambda: signal.alarm(60))

def ended(pid):
    status = os.waitpid(pid, 0)[1]
    assert status == 0, status

def call(user):
    openai.OpenAI().chat.completions.create(**CHAT, posthog_distinct_id=user)
"""


def test_forks_while_the_flusher_runs(tmp_path: Path) -> None:
    ran = run(
        tmp_path,
        FORK
        + """
client = openai.OpenAI()
for number in range(10):
    call(f"parent-{number}")
    stream = client.chat.completions.create(**CHAT, stream=True, posthog_distinct_id=f"stream-{number}")
    next(stream)
    pid = os.fork()
    if not pid:
        call(f"child-{number}")
        if number % 5 == 0:
            list(stream)  # the parent's call: the parent tells of it
        if number % 5 == 1:
            posthog_autoinstrument.flush(5)
            os._exit(0)
        sys.exit(0)
    stream.close()
    ended(pid)
""",
        env={"POSTHOG_AUTOINSTRUMENT_FLUSH_AT": "1"},
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    users = Counter(event["distinct_id"] for event in ran.events)
    expected = {f"{kind}-{number}" for kind in ("parent", "child", "stream") for number in range(10)}
    assert {user: count for user, count in users.items() if count != 1} == {}
    assert set(users) == expected


def test_forks_while_requests_is_being_loaded(tmp_path: Path) -> None:
    """Processes without a copy of requests start to load it and fork in the middle, each at another file."""
    ran = run(
        tmp_path,
        FORK
        + """
PHASES = ["export/http_session.py", "urllib3/connectionpool.py", "requests/__init__.py", "requests/sessions.py"]
reached, forking = threading.Event(), threading.Event()

def hold(event, arguments):
    if event == "exec" and not reached.is_set() and arguments[0].co_filename.endswith("/" + phase):
        if threading.current_thread() is not threading.main_thread():
            reached.set()
            forking.wait(20)

openai.OpenAI().models.list()
for number, phase in enumerate(PHASES):
    signal.alarm(60)
    zygote = os.fork()
    if not zygote:
        sys.addaudithook(hold)
        call(f"parent-{number}")
        assert reached.wait(20), phase
        forking.set()
        pid = os.fork()
        if not pid:
            import requests.adapters
            call(f"child-{number}")
            sys.exit(0)
        ended(pid)
        sys.exit(0)
    ended(zygote)
""",
        env={"POSTHOG_AUTOINSTRUMENT_FLUSH_AT": "1"},
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    users = Counter(event["distinct_id"] for event in ran.events)
    assert users == {f"{kind}-{number}": 1 for kind in ("parent", "child") for number in range(4)}


def test_worker_processes(tmp_path: Path) -> None:
    ran = run(
        tmp_path,
        """
        import multiprocessing, concurrent.futures

        def call(user):
            import openai
            return openai.OpenAI().chat.completions.create(**CHAT, posthog_distinct_id=user).choices[0].finish_reason

        if __name__ == "__main__":
            tell(call("parent"))
            fork = multiprocessing.get_context("fork")
            for number in range(3):
                worker = fork.Process(target=call, args=(f"fork-{number}",))
                worker.start()
                worker.join()
                tell(worker.exitcode)
            with concurrent.futures.ProcessPoolExecutor(2, mp_context=fork) as pool:
                tell(list(pool.map(call, [f"pool-{number}" for number in range(6)])))
            worker = multiprocessing.get_context("spawn").Process(target=call, args=("spawn",))
            worker.start()
            worker.join()
            tell(worker.exitcode)
        """,
    )
    assert ran.stderr == ""
    assert ran.stdout.splitlines() == ["stop", "0", "0", "0", str(["stop"] * 6), "0"]
    users = Counter(event["distinct_id"] for event in ran.events)
    expected = [
        "parent",
        "spawn",
        *(f"fork-{number}" for number in range(3)),
        *(f"pool-{number}" for number in range(6)),
    ]
    assert users == dict.fromkeys(expected, 1)


def test_a_fork_without_the_hooks_of_python(tmp_path: Path) -> None:
    """As uWSGI forks its workers: in C, with none of `os.register_at_fork`."""
    ran = run(
        tmp_path,
        FORK
        + """
import ctypes
call("parent")
posthog_autoinstrument.flush(5)
pid = ctypes.PyDLL(None).fork()
if not pid:
    call("child")
    os._exit(0 if posthog_autoinstrument.flush(10) else 9)
ended(pid)
call("again")
""",
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert Counter(event["distinct_id"] for event in ran.events) == {"parent": 1, "child": 1, "again": 1}


def test_finalisers_in_odd_places_cannot_hang(tmp_path: Path) -> None:
    """A stream in a cycle is collected wherever the collector runs: under any lock, in a signal handler."""
    ran = run(
        tmp_path,
        FORK
        + """
import logging, signal, weakref
client = openai.OpenAI()

class Cycle:
    pass

made = 0

def abandon():
    global made
    cycle = Cycle()
    cycle.me = cycle
    cycle.stream = client.chat.completions.create(**CHAT, stream=True, posthog_distinct_id=f"stream-{made}")
    made += 1
    next(cycle.stream)

call("first")
from posthog_autoinstrument import api
from posthog_autoinstrument.export import posthog
flusher = api.running.flusher
posthog_autoinstrument.flush(5)
locks = [threading._active_limbo_lock, logging._lock, flusher._starting, flusher._pumping, flusher.queue._wake,
         api.starting]
gc.disable()
for lock in locks:
    abandon()
    held = lock.acquire(0)  # without waiting: blocking=0, or timeout_s=0
    gc.collect()
    if held:
        lock.release()

def collect(*args):
    gc.collect()

signal.signal(signal.SIGUSR1, collect)
for _ in range(5):
    abandon()
    os.kill(os.getpid(), signal.SIGUSR1)
    abandon()
    weakref.finalize(Cycle(), collect)
gc.enable()
gc.set_threshold(1, 1, 1)
for _ in range(10):
    abandon()
    pid = os.fork()
    if not pid:
        gc.collect()
        os._exit(0)
    ended(pid)
gc.collect()
tell(made)
""",
        env={"POSTHOG_AUTOINSTRUMENT_FLUSH_INTERVAL_S": "0.01"},
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    made = int(ran.stdout)
    users = Counter(event["distinct_id"] for event in ran.events)
    assert users == {"first": 1, **{f"stream-{number}": 1 for number in range(made)}}
