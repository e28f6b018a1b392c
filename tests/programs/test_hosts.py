"""The ways programs run many calls: gevent, thread pools, task groups, trio, uvloop, a Jupyter kernel.

Each is a program of its own, run bare and under the launcher: same output, one event for each call, and to each event
the user that its call was made for.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import jupyter_client
import pytest
from support.programs import Ran, environment
from support.waiting import wait_until

from posthog_autoinstrument.testing import OpenAIServer, PostHogServer, sse

Both = Callable[..., list[dict[str, Any]]]

SYNC = """
import sys
import openai
from posthog_autoinstrument import posthog_context

client = openai.OpenAI()

def ask(number):
    with posthog_context(distinct_id=f"user-{number}"):
        said = [{"role": "user", "content": f"Question {number}"}]
        text = client.chat.completions.create(model="gpt-4o-mini", messages=said).choices[0].message.content
        stream = client.chat.completions.create(model="gpt-4o-mini", messages=said, stream=True)
        streamed = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
        vector = client.embeddings.create(model="text-embedding-3-small", input=f"Text {number}").data[0].embedding
        return text, streamed, vector[0]
"""

ASYNC = """
import sys
import openai
from posthog_autoinstrument import posthog_context

async def ask(client, number):
    with posthog_context(distinct_id=f"user-{number}"):
        said = [{"role": "user", "content": f"Question {number}"}]
        answer = await client.chat.completions.create(model="gpt-4o-mini", messages=said)
        stream = await client.chat.completions.create(model="gpt-4o-mini", messages=said, stream=True)
        streamed = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        vectors = await client.embeddings.create(model="text-embedding-3-small", input=f"Text {number}")
        return answer.choices[0].message.content, streamed, vectors.data[0].embedding[0]
"""


def steady(run: Callable[[], Ran]) -> Ran:
    """What a program does that may crash by itself: gevent 26.9 with native threads ended the bare one by SIGSEGV, when
    it had printed everything, about once in 30 runs, and more often on a busy machine."""
    for _ in range(4):
        ran = run()
        if ran.returncode != -signal.SIGSEGV:
            return ran
    return run()


@pytest.fixture
def both(run_program: Callable[..., Ran]) -> Both:
    """Run a program bare and launched, hold one against the other, and give the events."""

    def run(*parts: str) -> list[dict[str, Any]]:
        source = "\n".join(textwrap.dedent(part) for part in parts)
        bare = steady(lambda: run_program(source, launched=False))
        if bare.returncode == -signal.SIGSEGV:
            pytest.skip("the bare program crashes here, time after time")
        launched = steady(lambda: run_program(source))
        assert bare.returncode == 0, bare.stderr
        assert bare.events == []
        assert (launched.stdout, launched.stderr, launched.returncode) == (bare.stdout, bare.stderr, 0)
        return launched.events

    return run


def asked(event: dict[str, Any]) -> tuple[str, str, str]:
    """Kind, user and number of the question that an event is about."""
    said = event["properties"]["$ai_input"]
    text = said if isinstance(said, str) else said[-1]["content"]
    return event["event"], event["distinct_id"], text.rpartition(" ")[2]


def of_askers(count: int) -> Counter[tuple[str, str, str]]:
    """What `asked` says of the events of `count` askers: two generations and one embedding each, their own."""
    wanted: Counter[tuple[str, str, str]] = Counter()
    for number in range(count):
        wanted["$ai_generation", f"user-{number}", str(number)] = 2
        wanted["$ai_embedding", f"user-{number}", str(number)] = 1
    return wanted


def by_prompt(events: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The properties of each event by the prompt of its call."""
    return {event["properties"]["$ai_input"][-1]["content"]: event["properties"] for event in events}


def test_gevent(both: Both) -> None:
    """Greenlets take turns inside one thread: each has its own context."""
    events = both(
        "from gevent import monkey; monkey.patch_all()",
        SYNC,
        """
        import gevent
        jobs = [gevent.spawn(ask, number) for number in range(20)]
        gevent.joinall(jobs, raise_error=True)
        for job in jobs:
            print(*job.value)
        """,
    )
    assert Counter(map(asked, events)) == of_askers(20)
    assert len({event["properties"]["$ai_trace_id"] for event in events}) == 20


def test_gevent_delivers_while_the_program_runs(
    run_program: Callable[..., Ran], openai_server: OpenAIServer, posthog_server: PostHogServer
) -> None:
    """The flusher is a greenlet there: it comes to its turn while the others wait, and nothing waits for it."""
    ran = run_program(
        "from gevent import monkey; monkey.patch_all()\n"
        + SYNC
        + textwrap.dedent("""
        import gevent, os
        ask(0)
        import posthog_autoinstrument
        print(posthog_autoinstrument.flush(20))
        sys.stdout.flush()
        os._exit(3)  # nothing is sent at exit
        """)
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (3, "True\n", "")
    assert Counter(map(asked, ran.events)) == of_askers(1)


def test_gevent_pool_of_real_threads(both: Both) -> None:
    """A hub for each native thread: the queue is shared by threads that have an event loop of their own each."""
    events = both(
        "from gevent import monkey; monkey.patch_all()",
        SYNC,
        """
        import gevent
        from gevent.threadpool import ThreadPool

        def ask_alone(number):
            # Closed in its thread: freed at exit, after the thread's hub, gevent 26.9 crashed the bare program once.
            with openai.OpenAI() as own:
                said = [{"role": "user", "content": f"Question {number}"}]
                return own.chat.completions.create(model="gpt-4o-mini", messages=said).choices[0].message.content

        pool = ThreadPool(4)
        print(ask(99))
        for text in pool.map(ask_alone, range(8)):
            print(text)
        pool.kill()
        """,
    )
    numbers = Counter(number for _, _, number in map(asked, events))
    assert numbers == {"99": 3, **{str(number): 1 for number in range(8)}}


def test_thread_pool(both: Both) -> None:
    events = both(
        SYNC,
        """
        from concurrent.futures import ThreadPoolExecutor
        with ThreadPoolExecutor(8) as pool:
            for answer in pool.map(ask, range(24)):
                print(*answer)
        """,
    )
    assert Counter(map(asked, events)) == of_askers(24)


def test_thread_pool_still_working_at_exit(both: Both) -> None:
    """The interpreter joins the pool's threads after the main program's last line: their calls count too."""
    events = both(
        SYNC,
        """
        from concurrent.futures import ThreadPoolExecutor
        pool = ThreadPoolExecutor(3)
        for number in range(9):
            pool.submit(ask, number)
        print("the last line")
        """,
    )
    assert Counter(map(asked, events)) == of_askers(9)


TASKS = """
import asyncio

async def main():
    async with openai.AsyncOpenAI() as client:
        if sys.version_info >= (3, 11):
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(ask(client, number)) for number in range(16)]
            answers = [task.result() for task in tasks]
        else:
            answers = await asyncio.gather(*(ask(client, number) for number in range(16)))
        for answer in answers:
            print(*answer)
"""


def test_task_group(both: Both) -> None:
    events = both(ASYNC, TASKS, "asyncio.run(main())")
    assert Counter(map(asked, events)) == of_askers(16)


def test_task_group_that_fails(both: Both) -> None:
    """One task's error cancels the others: each of them is one event all the same."""
    events = both(
        ASYNC,
        """
        import anyio

        async def call(client, prompt, started=None):
            if started is not None:
                await started.wait()
            said = [{"role": "user", "content": prompt}]
            await client.chat.completions.create(model="gpt-4o-mini", messages=said)

        async def main():
            async with openai.AsyncOpenAI(max_retries=0) as client:
                await call(client, "first")  # which asks a thread what machine this is: no task waits for that later
                started = anyio.Event()
                try:
                    async with anyio.create_task_group() as group:
                        for number in range(3):
                            group.start_soon(call, client, f"[hang] {number}")
                        group.start_soon(call, client, "[error-400] No", started)
                        await anyio.wait_all_tasks_blocked()
                        started.set()
                except BaseException as error:
                    print(type(error).__name__, [type(one).__name__ for one in error.exceptions])

        anyio.run(main)
        """,
    )
    errors = {prompt: properties.get("$ai_error") for prompt, properties in by_prompt(events).items()}
    assert len(events) == 5
    assert [errors[f"[hang] {number}"] for number in range(3)] == ["cancelled"] * 3
    assert "400" in errors["[error-400] No"]


@pytest.fixture(scope="session")
def sdk_on_trio() -> None:
    """Skips where the bare SDK does not run on trio: openai 1.60 asks asyncio for a thread."""
    ask = (
        "import anyio, openai\nasync def main():\n    async with openai.AsyncOpenAI() as client:\n"
        "        await client.embeddings.create(model='text-embedding-3-small', input='x')\n"
        "anyio.run(main, backend='trio')"
    )
    with OpenAIServer() as server:
        done = subprocess.run(
            [sys.executable, "-c", ask], env=environment(server, None), capture_output=True, text=True, check=False
        )
    if "no running event loop" in done.stderr:
        pytest.skip("this openai does not run on trio")
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("sdk_on_trio")
def test_trio(both: Both) -> None:
    """The SDK's asynchronous client runs on trio through anyio: no event loop of asyncio anywhere."""
    events = both(
        ASYNC,
        """
        import anyio, trio

        async def main():
            answers = {}

            async def keep(number):
                answers[number] = await ask(client, number)

            async with openai.AsyncOpenAI() as client:
                async with anyio.create_task_group() as group:
                    for number in range(8):
                        group.start_soon(keep, number)
            for number in range(8):
                print(*answers[number])

        anyio.run(main, backend="trio")
        """,
    )
    assert Counter(map(asked, events)) == of_askers(8)


@pytest.mark.usefixtures("sdk_on_trio")
def test_trio_cancelled_scopes(both: Both) -> None:
    """A scope that is cancelled while a call waits, and one that is not."""
    events = both(
        ASYNC,
        """
        import anyio, trio

        def prompt(text):
            return {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": text}]}

        async def main():
            async with openai.AsyncOpenAI() as client:
                with trio.CancelScope() as scope:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(lambda: client.chat.completions.create(**prompt("[hang] Waiting")))
                        await trio.testing.wait_all_tasks_blocked(0.05)
                        scope.cancel()
                print("waiting", scope.cancelled_caught)
                with trio.move_on_after(60) as scope:
                    answer = await client.chat.completions.create(**prompt("In time"))
                print(answer.choices[0].message.content, scope.cancelled_caught)

        import trio.testing
        anyio.run(main, backend="trio")
        """,
    )
    found = by_prompt(events)
    assert len(events) == 2
    assert found["[hang] Waiting"]["$ai_error"] == "cancelled"
    assert "$ai_is_error" not in found["In time"]


@pytest.mark.usefixtures("sdk_on_trio")
def test_trio_stream_in_a_cancelled_scope(both: Both, openai_server: OpenAIServer) -> None:
    words = [{"choices": [{"index": 0, "delta": {"content": word}}]} for word in ("One ", "two ", "three")]
    never = threading.Event()
    answer = replace(sse(), chunks=[*(sse(*words, done=False).chunks or ()), never])
    openai_server.script(answer, answer)  # for the bare run and for the other
    events = both(
        ASYNC,
        """
        import anyio, trio

        async def main():
            said = [{"role": "user", "content": "Count"}]
            async with openai.AsyncOpenAI() as client:
                with trio.CancelScope() as scope:
                    stream = await client.chat.completions.create(model="gpt-4o-mini", messages=said, stream=True)
                    async for chunk in stream:
                        word = chunk.choices[0].delta.content
                        print(word)
                        if word == "three":
                            scope.cancel()
                print(scope.cancelled_caught)

        anyio.run(main, backend="trio")
        """,
    )
    assert len(events) == 1
    assert events[0]["properties"]["$ai_error"] == "cancelled"
    assert events[0]["properties"]["$ai_output_choices"][0]["content"][0]["text"] == "One two three"


def test_uvloop(both: Both) -> None:
    events = both(ASYNC, TASKS, "import uvloop", "uvloop.run(main())")
    assert Counter(map(asked, events)) == of_askers(16)


# --- a Jupyter kernel ---

CELLS = (
    "import openai, asyncio\nclient = openai.OpenAI()\naclient = openai.AsyncOpenAI()",
    """
    said = [{"role": "user", "content": "From a cell"}]
    client.chat.completions.create(model="gpt-4o-mini", messages=said).choices[0].message.content
    """,
    """
    said = [{"role": "user", "content": "Awaited at the top"}]
    answer = await aclient.chat.completions.create(model="gpt-4o-mini", messages=said)
    print(answer.choices[0].message.content)
    """,
    """
    said = [{"role": "user", "content": "Streamed"}]
    stream = await aclient.chat.completions.create(model="gpt-4o-mini", messages=said, stream=True)
    [chunk.choices[0].delta.content async for chunk in stream]
    """,
    "1 / 0",
)
LAST_CELL = """
    said = [{"role": "user", "content": "Just before the end"}]
    client.chat.completions.create(model="gpt-4o-mini", messages=said).choices[0].message.content
    """


@contextmanager
def kernel(environ: dict[str, str]) -> Iterator[Any]:
    """A running kernel and its client."""
    manager = jupyter_client.KernelManager(kernel_name="python3")  # of the interpreter that runs this
    manager.start_kernel(env=environ)
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        yield manager, client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()


def execute(client: Any, cell: str) -> list[tuple[str, str]]:
    """Run a cell; what it showed, by kind of message."""
    shown: list[tuple[str, str]] = []

    def keep(message: dict[str, Any]) -> None:
        kind, content = message["msg_type"], message["content"]
        if kind == "stream":
            shown.append((content["name"], content["text"]))
        elif kind == "execute_result":
            shown.append((kind, content["data"]["text/plain"]))
        elif kind == "error":
            shown.append((kind, f"{content['ename']}: {content['evalue']}"))

    client.execute_interactive(textwrap.dedent(cell), output_hook=keep, timeout=60, stop_on_error=False)
    return shown


def test_jupyter_kernel(
    run_program: Callable[..., Ran], openai_server: OpenAIServer, posthog_server: PostHogServer
) -> None:
    """Events arrive while the kernel lives on, and its shutdown loses none."""
    shows_environment = "import json, os; print(json.dumps(dict(os.environ)))"
    environ = json.loads(run_program(shows_environment).stdout)
    with kernel(environment(openai_server, None)) as (_, client):
        bare = [execute(client, cell) for cell in (*CELLS, LAST_CELL)]
    with kernel(environ) as (manager, client):
        launched = [execute(client, cell) for cell in CELLS]
        wait_until(lambda: len(posthog_server.events) == 3, "the events of the first cells did not come")
        assert manager.is_alive()
        launched.append(execute(client, LAST_CELL))
        manager.shutdown_kernel()
        wait_until(lambda: not manager.is_alive(), "the kernel did not end")
    assert launched == bare
    assert launched[-2] == [("error", "ZeroDivisionError: division by zero")]
    prompts = [event["properties"]["$ai_input"][-1]["content"] for event in posthog_server.events]
    assert sorted(prompts) == ["Awaited at the top", "From a cell", "Just before the end", "Streamed"]
