"""A Huey task runs in the context in which it was enqueued: real consumers, of threads, processes and greenlets."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.programs import environment
from support.waiting import wait_until

pytest.importorskip("huey")
pytestmark = pytest.mark.timeout(300)

TASKS = """
import os
from huey import SqliteHuey
from huey.serializer import SignedSerializer

options = {
    "plain": {}, "compressed": {"compression": True}, "signed": {"serializer": SignedSerializer(secret="s")},
}[os.environ["SERIALIZER"]]
huey = SqliteHuey(filename=os.environ["FOLDER"] + "/huey.db", **options)

def call(text):
    import openai  # not before the first task
    said = [{"role": "user", "content": text}]
    openai.OpenAI().chat.completions.create(model="gpt-4o-mini", messages=said)

@huey.task()
def ask(text, *_):
    call(text)
    return text

@huey.task(retries=1, retry_delay=0)
def fails_once(text):
    marker = os.environ["FOLDER"] + "/failed"
    if not os.path.exists(marker):
        open(marker, "w").close()
        raise ValueError("once")
    call(text)
    ask(text + " from a task")
    return text

@huey.task(context=True)
def with_task(text, task=None):
    assert task is not None
    call(text)
    return text
"""

SEND = """
import sys, tasks
from posthog_autoinstrument import posthog_context, posthog_span

waiting = []
with posthog_context("ada", session_id="chat-7", properties={"plan": "pro"}), posthog_span("step"):
    waiting.append(tasks.ask("plain"))
    waiting.append(tasks.ask.schedule(("delayed",), delay=1))
    tasks.fails_once("retried")
    waiting.append(tasks.with_task("with task"))
    waiting.append(tasks.huey.enqueue(tasks.ask.s("first of two").then(tasks.ask, "second of two")))
for number in range(3):
    waiting.append(tasks.ask(f"nobody {number}"))
    with posthog_context(f"user {number}"):
        waiting.append(tasks.ask(f"of user {number}"))
for result in waiting:
    result.get(blocking=True, timeout=100)
"""
OF_ADA = {"plain", "delayed", "retried", "retried from a task", "with task", "first of two", "second of two"}


CONSUMER = """
import sys
if "greenlet" in sys.argv:
    from gevent import monkey
    monkey.patch_all()
from huey.bin.huey_consumer import consumer_main
consumer_main()
"""


def start(folder: Path, environ: dict[str, str], worker: str) -> subprocess.Popen[bytes]:
    (folder / "consumer.py").write_text(CONSUMER)
    options = ["tasks.huey", "-k", worker, "-w", "2", "-d", "0.05", "-s", "1"]
    with (folder / "output").open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "posthog_autoinstrument", sys.executable, "consumer.py", *options],
            cwd=folder, env=environ, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("worker", "serializer"), [("thread", "plain"), ("process", "compressed"), ("greenlet", "signed")]
)
def test_tasks_are_of_the_context_they_were_enqueued_in(
    tmp_path: Path, openai_server: Any, posthog_server: Any, worker: str, serializer: str
) -> None:
    (tmp_path / "tasks.py").write_text(TASKS)
    (tmp_path / "send.py").write_text(SEND)
    environ = environment(openai_server, posthog_server, FOLDER=str(tmp_path), SERIALIZER=serializer)
    environ |= {"PYTHONPATH": str(tmp_path), "POSTHOG_AUTOINSTRUMENT_FLUSH_INTERVAL_S": "0.1"}
    consumer = start(tmp_path, environ, worker)
    command = [sys.executable, "-m", "posthog_autoinstrument", sys.executable, "send.py"]
    try:
        done = subprocess.run(
            command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=150, check=False
        )
        assert done.returncode == 0, done.stderr + (tmp_path / "output").read_text()

        def calls() -> dict[str, Any]:
            made = [event for event in posthog_server.events if event["event"] == "$ai_generation"]
            return {event["properties"]["$ai_input"][0]["content"]: event for event in made}

        expected = OF_ADA | {f"{who} {number}" for who in ("nobody", "of user") for number in range(3)}
        wait_until(lambda: calls().keys() >= expected, "a call is not captured", timeout_s=60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(consumer.pid, signal.SIGKILL)
        consumer.wait()
    found = calls()
    assert set(found) == expected
    (span,) = (event["properties"] for event in posthog_server.events if event["event"] == "$ai_span")
    for text in OF_ADA:
        said = found[text]["properties"]
        assert found[text]["distinct_id"] == "ada", text
        assert (said["$ai_trace_id"], said["$ai_parent_id"]) == (span["$ai_trace_id"], span["$ai_span_id"]), text
        assert (said["$ai_session_id"], said["plan"]) == ("chat-7", "pro"), text
    for number in range(3):
        assert found[f"of user {number}"]["distinct_id"] == f"user {number}"
        nobody = found[f"nobody {number}"]
        assert nobody["distinct_id"] == nobody["properties"]["$ai_trace_id"]


@pytest.mark.promise
@pytest.mark.parametrize("serializer", ["plain", "compressed", "signed"])
def test_a_consumer_without_the_agent_reads_the_messages(run_program, tmp_path: Path, serializer: str) -> None:
    (tmp_path / "tasks.py").write_text(TASKS)
    env = {"FOLDER": str(tmp_path), "SERIALIZER": serializer}
    sent = run_program(
        """
        import tasks
        from posthog_autoinstrument import posthog_context
        with posthog_context("ada"):
            tasks.ask("plain", {"their": ["arguments"]})
        tasks.huey.immediate = True
        with posthog_context("ada"):
            print(tasks.ask("at once").get())
        """,
        env=env,
    )
    assert (sent.returncode, sent.stdout) == (0, "at once\n"), sent.stderr
    assert [event["distinct_id"] for event in sent.events] == ["ada"]
    read = run_program(
        "import tasks\ntask = tasks.huey.dequeue()\nprint(task.args, task.kwargs, sorted(vars(task)) == sorted("
        "vars(type(task)())))",
        env=env,
        launched=False,
    )
    assert read.stdout == "('plain', {'their': ['arguments']}) {} True\n", read.stderr
