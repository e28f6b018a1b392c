"""A function that runs in another thread, pool or process runs in the context in which it was submitted."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import inspect
import multiprocessing
import multiprocessing.pool
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import pytest
from support.tasks import seen, seen_and
from support.waiting import wait_until

import posthog_autoinstrument
from posthog_autoinstrument import current_trace_id, posthog_context, posthog_span, set_session
from posthog_autoinstrument.context import serialization
from posthog_autoinstrument.context.fields import Fields
from posthog_autoinstrument.context.scope import CONTEXT

SAID = [{"role": "user", "content": "Hi"}]


def ask(client: Any, text: str = "Hi") -> None:
    client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": text}])


def who(event: dict[str, Any]) -> tuple[Any, ...]:
    """Whose an event is, and where it stands."""
    said = event["properties"]
    return (
        event["distinct_id"],
        said["$ai_trace_id"],
        said.get("$ai_session_id"),
        said.get("$ai_parent_id"),
        said.get("plan"),
    )


@pytest.fixture
def here() -> Iterator[tuple[Any, ...]]:
    """An open context, with a span in it: what the events of its calls must say."""
    with posthog_context("ada", session_id="chat-7", properties={"plan": "pro"}), posthog_span("step") as span:
        yield ("ada", span.trace_id, "chat-7", span.id, "pro")


@pytest.fixture
def generations(posthog_events: Any, here: tuple[Any, ...]) -> Callable[[], list[tuple[Any, ...]]]:
    """Whose the calls of this trace are."""

    def read() -> list[tuple[Any, ...]]:
        assert posthog_autoinstrument.flush(15)
        return [
            who(event)
            for event in posthog_events()
            if event["event"] == "$ai_generation" and event["properties"].get("$ai_trace_id") == here[1]
        ]

    return read


class TestThreads:
    def test_a_call_in_a_thread_is_of_the_context_it_was_started_in(self, client, here, generations):
        thread = threading.Thread(target=ask, args=(client,))
        thread.start()
        thread.join()
        assert generations() == [here]

    def test_the_context_of_the_start_counts_not_that_of_the_making(self):
        found = []
        with posthog_context(trace_id="made"):
            thread = threading.Thread(target=lambda: found.append(seen()))
        with posthog_context(trace_id="started"):
            thread.start()
        thread.join()
        assert found == ["started"]

    def test_subclasses_and_timers(self):
        found = []

        class Own(threading.Thread):
            def start(self):
                super().start()

            def run(self):
                found.append(seen())

        with posthog_context(trace_id="t"):
            threads = [Own(), threading.Timer(0, lambda: found.append(seen()))]
            for thread in threads:
                thread.start()
        for thread in threads:
            thread.join()
        assert found == ["t", "t"]

    def test_nothing_but_our_own_variable_goes_along(self):
        variable = contextvars.ContextVar("variable", default="unset")
        found = []
        variable.set("set")
        with posthog_context():
            thread = threading.Thread(target=lambda: found.append(variable.get()))
            thread.start()
        thread.join()
        assert found == ["unset"]

    def test_nothing_is_left_on_the_thread_or_in_its_starter(self):
        with posthog_context(trace_id="t"):
            thread = threading.Thread(target=lambda: set_session("theirs"))
            thread.start()
            thread.join()
            assert CONTEXT.get().fields.session_id is None
            assert not [name for name in vars(thread) if "posthog" in name]
            with pytest.raises(RuntimeError, match="once"):
                thread.start()
            assert not [name for name in vars(thread) if "posthog" in name]

    def test_the_thread_that_sends_is_of_no_context(self, run_program):
        ran = run_program(
            """
            import openai, posthog_autoinstrument
            from posthog_autoinstrument import configure, current_trace_id, posthog_context

            configure(before_send=lambda event: print(event["distinct_id"], current_trace_id()) or event)
            with posthog_context("ada"):
                openai.OpenAI().chat.completions.create(model="gpt-4o-mini", messages=[])
            posthog_autoinstrument.flush(20)
            """
        )
        assert ran.stdout == "ada None\n", ran.stderr

    def test_a_traceback_of_a_thread_is_as_before(self):
        caught = []
        hook, threading.excepthook = threading.excepthook, caught.append
        try:
            with posthog_context():
                thread = threading.Thread(target=lambda: 1 / 0)
                thread.start()
            thread.join()
        finally:
            threading.excepthook = hook
        names, trace = [], caught[0].exc_traceback
        while trace is not None:
            names.append(trace.tb_frame.f_code.co_filename)
            trace = trace.tb_next
        assert not [name for name in names if "posthog_autoinstrument" in name]


class TestExecutors:
    def test_submit_map_and_the_loops_executor(self, client, here, generations):
        async def tasks() -> None:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(None, ask, client)
            await loop.run_in_executor(pool, ask, client)
            await asyncio.to_thread(ask, client)
            await asyncio.gather(asyncio.create_task(asyncio.to_thread(ask, client)))

        with ThreadPoolExecutor(2) as pool:
            pool.submit(ask, client).result()
            list(pool.map(ask, [client]))
            asyncio.run(tasks())
        assert generations() == [here] * 6

    def test_a_worker_keeps_nothing_of_its_first_task_or_of_any(self):
        with ThreadPoolExecutor(1) as pool:
            with posthog_context(trace_id="first"):
                assert pool.submit(seen).result() == "first"
            assert pool.submit(seen).result() is None
            with posthog_context(trace_id="second"):
                assert pool.submit(seen).result() == "second"
                later = pool.submit(time.sleep, 0.01)
                assert current_trace_id() == "second"
            later.result()
            assert pool.submit(seen).result() is None

    def test_an_exception_is_the_very_object_and_the_worker_is_clean_after_it(self):
        error = ValueError("theirs")

        def fail() -> None:
            raise error

        with ThreadPoolExecutor(1) as pool:
            with posthog_context():
                assert pool.submit(fail).exception() is error
            assert pool.submit(seen).result() is None

    def test_arguments_named_like_ours(self):
        with ThreadPoolExecutor(1) as pool, posthog_context():
            assert pool.submit(dict, fn=1, self=2, context=3).result() == {"fn": 1, "self": 2, "context": 3}

    @pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
    def test_processes(self, method):
        if method not in multiprocessing.get_all_start_methods():
            pytest.skip("not on this system")
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
            with posthog_context(trace_id="first"):
                assert pool.submit(seen).result() == "first"
                assert list(pool.map(seen_and, range(3), chunksize=2)) == ["first"] * 3
            assert pool.submit(seen).result() is None
            with posthog_context(trace_id="second"):
                assert pool.submit(seen).result() == "second"


class TestPools:
    @pytest.mark.parametrize("method", ["fork", "spawn", "threads"])
    def test_every_way_to_give_a_pool_work(self, method):
        if method != "threads" and method not in multiprocessing.get_all_start_methods():
            pytest.skip("not on this system")
        make = multiprocessing.pool.ThreadPool if method == "threads" else multiprocessing.get_context(method).Pool
        with posthog_context(trace_id="of the pool"):
            pool = make(1)
        with pool:
            assert pool.apply(seen) is None
            with posthog_context(trace_id="t"):
                found = [
                    pool.apply(seen),
                    pool.apply_async(seen).get(),
                    pool.apply_async(func=seen).get(),
                    *pool.map(seen_and, [1]),
                    *pool.map_async(seen_and, [1]).get(),
                    *pool.starmap(seen_and, [(1,)]),
                    *pool.imap(seen_and, [1, 2], chunksize=2),
                    *pool.imap_unordered(seen_and, [1]),
                ]
            assert found == ["t"] * 9
            assert pool.apply(seen) is None


PREAMBLE = """
import multiprocessing, os, subprocess, sys
import openai
from posthog_autoinstrument import posthog_context, posthog_span

def ask(text="Hi"):
    said = [{"role": "user", "content": str(text)}]
    openai.OpenAI().chat.completions.create(model="gpt-4o-mini", messages=said)
"""


def same_as_here(events: list[dict[str, Any]], count: int) -> None:
    """The calls, `count` of them, are children of the span of the same program."""
    (span,) = (event for event in events if event["event"] == "$ai_span")
    calls = [event for event in events if event["event"] == "$ai_generation"]
    said = span["properties"]
    assert [who(call) for call in calls] == [
        ("ada", said["$ai_trace_id"], "chat-7", said["$ai_span_id"], "pro")
    ] * count


OPEN = 'posthog_context("ada", session_id="chat-7", properties={"plan": "pro"}), posthog_span("step")'


class TestProcesses:
    @pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
    def test_a_process_of_multiprocessing(self, run_program, method):
        ran = run_program(
            PREAMBLE
            + textwrap.dedent(
                f"""
                if __name__ == "__main__":
                    before = dict(os.environ)
                    with {OPEN}:
                        process = multiprocessing.get_context("{method}").Process(target=ask)
                        process.start()
                        process.join()
                    print(process.exitcode, dict(os.environ) == before, [n for n in vars(process) if "posthog" in n])
                """
            )
        )
        assert ran.stdout == "0 True []\n", ran.stderr
        same_as_here(ran.events, 1)

    @pytest.mark.parametrize("privacy", [False, True])
    def test_a_child_program_and_its_own_child(self, run_program, privacy):
        ran = run_program(
            PREAMBLE
            + textwrap.dedent(
                f"""
                CHILD = '''
                import sys, threading, subprocess
                import openai
                ask = lambda: openai.OpenAI().chat.completions.create(
                    model="gpt-4o-mini", messages=[{{"role": "user", "content": "Hi"}}]
                )
                ask()
                thread = threading.Thread(target=ask)
                thread.start(); thread.join()
                if len(sys.argv) == 1:
                    subprocess.run([sys.executable, sys.argv[0], "last"], check=True)
                '''
                import textwrap
                open("child.py", "w").write(textwrap.dedent(CHILD))
                before, own = dict(os.environ), dict(os.environ)
                with {OPEN}, posthog_context(privacy_mode={privacy}):
                    subprocess.run([sys.executable, "child.py"], env=own, check=True)
                    subprocess.check_call([sys.executable, "child.py", "only"])
                print(own == before, dict(os.environ) == before)
                """
            )
        )
        assert ran.stdout == "True True\n", ran.stderr
        same_as_here(ran.events, 6)
        asked = [event["properties"]["$ai_input"] for event in ran.events if event["event"] == "$ai_generation"]
        assert asked == [None if privacy else SAID] * 6

    @pytest.mark.skipif(os.name != "posix", reason="programs that POSIX starts")
    def test_a_child_that_os_starts_in_private(self, run_program):
        ran = run_program(
            PREAMBLE
            + textwrap.dedent(
                f"""
                if len(sys.argv) > 1:
                    ask()
                    sys.exit(3)
                import shlex

                own = [sys.executable, __file__, "child"]
                before = dict(os.environ)
                with {OPEN}, posthog_context(privacy_mode=True):
                    print(os.waitstatus_to_exitcode(os.system(shlex.join(own))))
                    print(os.waitstatus_to_exitcode(os.system(shlex.join(own).encode())))
                    print(os.waitstatus_to_exitcode(os.waitpid(os.posix_spawn(own[0], own, before), 0)[1]))
                    print(os.spawnv(os.P_WAIT, own[0], own), os.spawnve(os.P_WAIT, own[0], own, before))
                print(dict(os.environ) == before, os.system("exit 4") >> 8)
                sys.stdout.flush()
                with posthog_context(privacy_mode=True):
                    os.execvp(own[0], own)
                """
            )
        )
        assert (ran.stdout, ran.returncode) == ("3\n3\n3\n3 3\nTrue 4\n", 3), ran.stderr
        calls = [event for event in ran.events if event["event"] == "$ai_generation"]
        assert [event["properties"]["$ai_input"] for event in calls] == [None] * 6

    def test_a_child_of_an_asyncio_program(self, run_program):
        ran = run_program(
            PREAMBLE
            + textwrap.dedent(
                f"""
                import asyncio

                async def main():
                    async with {OPEN}:
                        child = await asyncio.create_subprocess_exec(sys.executable, __file__, "child")
                        print(await child.wait())

                if sys.argv[1:]:
                    ask()
                else:
                    asyncio.run(main())
                """
            )
        )
        assert ran.stdout == "0\n", ran.stderr
        same_as_here(ran.events, 1)

    def test_a_block_in_the_child_is_inside_the_parents(self, run_program):
        ran = run_program(
            PREAMBLE
            + textwrap.dedent(
                f"""
                if sys.argv[1:]:
                    with posthog_context(properties={{"child": 1}}):
                        ask()
                else:
                    with {OPEN}:
                        subprocess.run([sys.executable, __file__, "child"], check=True)
                """
            )
        )
        same_as_here(ran.events, 1)

    @pytest.mark.parametrize("switch", ["PROPAGATE=0", "DISABLED=1"])
    def test_switched_off(self, run_program, switch):
        name, _, value = switch.partition("=")
        ran = run_program(
            PREAMBLE
            + textwrap.dedent(
                f"""
                import threading
                from concurrent.futures import ThreadPoolExecutor
                from posthog_autoinstrument import current_trace_id
                found = []
                with {OPEN}:
                    thread = threading.Thread(target=lambda: found.append(current_trace_id()))
                    thread.start(); thread.join()
                    found.append(ThreadPoolExecutor().submit(current_trace_id).result())
                    show = "import os; print([n for n in os.environ if n.endswith('_CONTEXT')])"
                    subprocess.run([sys.executable, "-c", show], check=True)
                patched = [threading.Thread.start, subprocess.Popen.__init__, ThreadPoolExecutor.submit]
                print(found, [hasattr(one, "__wrapped__") for one in patched])
                """
            ),
            env={f"POSTHOG_AUTOINSTRUMENT_{name}": value},
        )
        assert ran.stdout == "[]\n[None, None] [False, False, False]\n", ran.stderr

    def test_without_an_open_context_a_child_gets_nothing(self):
        show = "import os; print([name for name in os.environ if name.endswith('_CONTEXT')])"
        assert CONTEXT.get() is None
        assert subprocess.run([sys.executable, "-c", show], stdout=subprocess.PIPE, text=True).stdout == "[]\n"

    def test_what_is_imported_later_is_patched_then(self, run_program):
        ran = run_program(
            """
            from posthog_autoinstrument import posthog_context
            import sys
            names = ("subprocess", "concurrent.futures.thread", "multiprocessing.pool", "multiprocessing.process")
            print([name for name in names if name in sys.modules])
            import concurrent.futures, multiprocessing.pool, subprocess
            patched = [
                concurrent.futures.ThreadPoolExecutor.submit, subprocess.Popen.__init__,
                multiprocessing.pool.Pool.apply_async, multiprocessing.Process.start,
            ]
            print([hasattr(one, "__wrapped__") for one in patched], "openai" in sys.modules)
            """
        )
        assert ran.stdout == "[]\n[True, True, True, True] False\n", ran.stderr

    def test_what_importing_openai_loads(self, run_program):
        """A program that opens no context does not load propagation."""
        ran = run_program(
            "import sys, openai, threading\n"
            "found = [name for name in sys.modules if '.propagation' in name]\n"
            "print(found, hasattr(threading.Thread.start, '__wrapped__'))"
        )
        assert ran.stdout == "[] False\n"


class TestTheHostsPromises:
    PATCHED = (
        threading.Thread.start,
        ThreadPoolExecutor.submit,
        ProcessPoolExecutor.submit,
        multiprocessing.process.BaseProcess.start,
        multiprocessing.pool.Pool.apply_async,
        multiprocessing.pool.Pool.imap,
        subprocess.Popen.__init__,
    )

    @pytest.mark.parametrize("function", PATCHED, ids=lambda function: function.__qualname__)
    def test_it_looks_like_the_original(self, function):
        original = function.__wrapped__
        assert inspect.signature(function) == inspect.signature(original)
        assert (function.__name__, function.__qualname__, function.__module__, function.__doc__) == (
            original.__name__,
            original.__qualname__,
            original.__module__,
            original.__doc__,
        )
        assert inspect.getsource(function) == inspect.getsource(original)
        assert pickle.loads(pickle.dumps(function)) is function
        assert copy.deepcopy(function) is function

    def test_the_signature_of_a_program_to_start(self):
        assert "env" in inspect.signature(subprocess.Popen).parameters

    def test_an_environment_given_by_position_and_with_bytes(self):
        show = "import os; print(sorted(n for n in os.environ if n in ('A', 'B') or n.startswith('POSTHOG_')))"
        environ = {b"A": b"1", "B": "2"}
        with posthog_context():
            child = subprocess.Popen(
                [sys.executable, "-c", show], -1, None, None, subprocess.PIPE, None, None, True, False, None, environ
            )
            said, _ = child.communicate()
        assert said.decode().split() == ["['A',", "'B',", "'POSTHOG_AUTOINSTRUMENT_CONTEXT']"]
        assert environ == {b"A": b"1", "B": "2"}

    def test_what_is_no_environment_fails_as_before(self):
        with posthog_context(), pytest.raises(AttributeError, match="items"):
            subprocess.Popen([sys.executable, "-c", ""], env=[("A", "1")])

    def test_what_cannot_be_pickled_fails_as_before(self):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool, posthog_context():
            with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
                pool.submit(lambda: 1).result()
            assert pool.submit(seen).result() == current_trace_id()


class TestMixedUsers:
    N = 50

    def test_threads_pools_and_tasks_never_mix(self, client, posthog_events):
        mark = f"mixed-{time.time_ns()}"

        def work(pool: Executor, number: int) -> None:
            user = f"{mark}-{number}"
            with posthog_context(user, session_id=user):
                inner = threading.Thread(target=ask, args=(client, user))
                inner.start()
                pool.submit(ask, client, user).result()
                inner.join()

        async def task(pool: Executor, number: int) -> None:
            user = f"{mark}-{number}"
            async with posthog_context(user, session_id=user):
                await asyncio.gather(
                    asyncio.get_running_loop().run_in_executor(pool, ask, client, user),
                    asyncio.create_task(asyncio.to_thread(ask, client, user)),
                )

        async def tasks(pool: Executor) -> None:
            await asyncio.gather(*[task(pool, number) for number in range(self.N, 2 * self.N)])

        with ThreadPoolExecutor(7) as pool:
            threads = [threading.Thread(target=work, args=(pool, number)) for number in range(self.N)]
            for thread in threads:
                thread.start()
            asyncio.run(tasks(pool))
            for thread in threads:
                thread.join()
        assert posthog_autoinstrument.flush(30)

        def of_this() -> list[dict[str, Any]]:
            return [event for event in posthog_events() if str(event["distinct_id"]).startswith(mark)]

        events = wait_until(lambda: len(of_this()) == 4 * self.N and of_this(), "events are missing")
        for event in events:
            said = event["properties"]
            assert said["$ai_input"][0]["content"] == event["distinct_id"] == said["$ai_session_id"]
        traces = {(event["distinct_id"], event["properties"]["$ai_trace_id"]) for event in events}
        assert len(traces) == 2 * self.N


class TestPacking:
    FULL = Fields(
        distinct_id="ada\n\x00ü",
        trace_id="t",
        session_id="s",
        replay_session_id="r",
        properties={"plan": '"pro"', "n": "1"},
        groups={"company": '"acme"'},
        privacy_mode=True,
        parent_id="p",
        span_name="n",
        provider="q",
    )

    def test_there_and_back(self):
        text = serialization.pack(self.FULL)
        assert text.isascii()
        assert text.isprintable()
        assert vars(Fields(**serialization.unpack(text))) == vars(self.FULL)

    def test_too_long_leaves_out_the_least_important_but_never_privacy(self):
        long = copy.copy(self.FULL)
        long.properties = {"a": '"' + "x" * serialization.MAX_CHARS + '"'}
        found = serialization.unpack(serialization.pack(long))
        assert "properties" not in found
        assert (found["distinct_id"], found["privacy_mode"]) == ("ada\n\x00ü", True)
        long.distinct_id = "x" * serialization.MAX_CHARS
        assert serialization.unpack(serialization.pack(long)) == {"privacy_mode": True}

    @pytest.mark.parametrize(
        "text",
        ["", "{", "[]", "1", '"a"', "[" * 10_000, '{"distinct_id": 1, "properties": [], "privacy_mode": "x"}',
         '{"properties": {"a": "not json", "b": 1}}', "x" * 100_000],
    )  # fmt: skip
    def test_anything_else_is_nothing(self, text):
        assert serialization.unpack(text) == {}
