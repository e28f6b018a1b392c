"""Ray's workers end by SIGKILL: a stand-in with the names by which Ray 2.60 has them look up what they execute.

Real Ray is 250 MB; it was run by hand (2.60: tasks, actors, coroutines, generators, `ray.kill`, `ray.shutdown`)."""

from __future__ import annotations

import textwrap

import pytest

from posthog_autoinstrument.testing import Fault

WORKER = """
import asyncio, collections, os, signal, sys, time, types

source = '''
import collections
FunctionExecutionInfo = collections.namedtuple("FunctionExecutionInfo", ["function", "function_name", "max_calls"])
class FunctionActorManager:
    def __init__(self, *functions):
        self._function_execution_info = {one.__name__: FunctionExecutionInfo(one, one.__name__, 0) for one in functions}
    def get_execution_info(self, job_id, function_descriptor):
        return self._function_execution_info[function_descriptor]
'''
folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "ray", "_private")
os.makedirs(folder)
open(os.path.join(os.path.dirname(folder), "__init__.py"), "w").close()
open(os.path.join(folder, "__init__.py"), "w").close()
with open(os.path.join(folder, "function_manager.py"), "w") as file:
    file.write(source)
from ray._private.function_manager import FunctionActorManager

def ask(text):
    import openai  # a worker has it by its first task
    said = [{"role": "user", "content": text}]
    return openai.OpenAI().chat.completions.create(model="gpt-4o-mini", messages=said).choices[0].finish_reason

def plain(text):
    return ask(text)

def fails(text):
    raise LookupError(ask(text))

async def coroutine(text):
    await asyncio.sleep(0)
    return ask(text)

def generator(text):
    yield ask(text)

async def async_generator(text):
    yield ask(text)

async def all_of(items):
    return [item async for item in items]

coroutine.method = coroutine
manager = FunctionActorManager(plain, fails, coroutine, generator, async_generator)

def look_up(name):
    return manager.get_execution_info("job", name).function
"""
NEVER = {"POSTHOG_AUTOINSTRUMENT_FLUSH_INTERVAL_S": "3600"}


@pytest.mark.parametrize(
    ("execute", "shown"),
    [
        ("look_up('plain')('a')", "stop"),
        ("look_up('coroutine').method is coroutine, asyncio.run(look_up('coroutine')('a'))", "True stop"),
        ("list(look_up('generator')('a'))", "['stop']"),
        ("asyncio.run(all_of(look_up('async_generator')('a')))", "['stop']"),
    ],
)
def test_a_worker_that_is_killed_after_a_task(run_program, execute, shown):
    end = "os.kill(os.getpid(), signal.SIGKILL)"
    ran = run_program(f"{textwrap.dedent(WORKER)}\nprint({execute}, flush=True)\n{end}\n", env=NEVER)
    assert ran.stdout == f"{shown}\n", ran.stderr
    assert len(ran.events) == 1


def test_a_task_that_fails(run_program):
    ran = run_program(
        WORKER
        + textwrap.dedent(
            """
            try:
                look_up("fails")("a")
            except LookupError as error:
                print(error, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
            """
        ),
        env=NEVER,
    )
    assert ran.stdout == "stop\n", ran.stderr
    assert len(ran.events) == 1


def test_only_one_task_waits_for_a_posthog_that_does_not_answer(run_program, posthog_server):
    posthog_server.fail_next(*[Fault(hang=True)] * 40)
    ran = run_program(
        WORKER
        + textwrap.dedent(
            """
            for number in range(100):
                look_up("plain")(str(number))
            print(True, flush=True)  # 100 waits would end by the time limit of the test
            os.kill(os.getpid(), signal.SIGKILL)
            """
        ),
        env={**NEVER, "POSTHOG_AUTOINSTRUMENT_EXIT_TIMEOUT_S": "3"},
        timeout_s=120,
    )
    assert ran.stdout == "True\n", ran.stderr
