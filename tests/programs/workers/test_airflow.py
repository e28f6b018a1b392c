"""Task processes of Airflow 3: a stand-in with the names and the order of `airflow.sdk.execution_time` (task SDK 1.3).

Real Airflow is 200 packages; it was run by hand (3.3: scheduler with LocalExecutor, docs/architecture.md)."""

from __future__ import annotations

import textwrap

import pytest

from posthog_autoinstrument.testing import Fault

SUPERVISOR = """
import os, signal, sys

folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "airflow", "sdk", "execution_time")
os.makedirs(folder)
with open(os.path.join(folder, "task_runner.py"), "w") as file:
    file.write('''
def _execute_task(context, ti, log):
    return ti(**context)

def run(ti, context, log):
    try:
        state = _execute_task(context=context, ti=ti, log=log)
    except Exception as error:
        state = repr(error)
    print(state, flush=True)  # as the supervisor gets it
''')
from airflow.sdk.execution_time import task_runner

def ask(text):
    import openai  # a task may be the first to import it
    said = [{"role": "user", "content": text}]
    return openai.OpenAI().chat.completions.create(model="gpt-4o-mini", messages=said).choices[0].finish_reason

def fails(text):
    raise LookupError(ask(text))

def run_task(ti, **context):
    child = os.fork()
    if not child:
        task_runner.run(ti, context, None)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
"""
LATE = {"POSTHOG_AUTOINSTRUMENT_FLUSH_INTERVAL_S": "3600"}


@pytest.mark.parametrize(("task", "state"), [("ask", "stop"), ("fails", "LookupError('stop')")])
def test_what_a_task_captured_is_delivered_before_its_state_is_sent(run_program, task, state):
    """So nothing is lost of a process that is killed then, and nothing delays its end."""
    ran = run_program(f"{SUPERVISOR}\nfor text in 'abc':\n    run_task({task}, text=text)\n", env=LATE)
    assert (ran.stdout, ran.stderr) == (f"{state}\n" * 3, "")
    assert sorted(event["properties"]["$ai_input"][0]["content"] for event in ran.events) == ["a", "b", "c"]


def test_a_task_that_captures_nothing_does_not_wait(run_program, posthog_server):
    """The exit timeout is longer than the test's."""
    posthog_server.fail_next(*[Fault(hang=True)] * 40)
    ran = run_program(
        SUPERVISOR
        + textwrap.dedent(
            """
            ask("scheduler")
            run_task(dict)
            run_task(lambda: "nothing")
            os.kill(os.getpid(), signal.SIGKILL)
            """
        ),
        env={**LATE, "POSTHOG_AUTOINSTRUMENT_EXIT_TIMEOUT_S": "300"},
    )
    assert ran.stdout == "{}\nnothing\n", ran.stderr
