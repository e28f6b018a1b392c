"""A Celery task runs in the context in which it was published: real worker, real messages, both protocols."""

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

pytest.importorskip("celery")
pytestmark = pytest.mark.timeout(450)

TASKS = """
import os
import celery

app = celery.Celery("tasks", broker="filesystem://", backend="file://" + os.environ["FOLDER"] + "/results")
app.conf.broker_transport_options = {
    "data_folder_in": os.environ["FOLDER"] + "/queue",
    "data_folder_out": os.environ["FOLDER"] + "/queue",
    "control_folder": os.environ["FOLDER"] + "/control",
}
app.conf.broker_connection_retry_on_startup = True
app.conf.worker_hijack_root_logger = False
app.conf.task_protocol = int(os.environ["PROTOCOL"])

def call(text):
    import openai  # not before the first task: the agent of the worker is loaded inside it
    said = [{"role": "user", "content": text}]
    openai.OpenAI().chat.completions.create(model="gpt-4o-mini", messages=said)

@app.task
def ask(text):
    call(text)
    return text

@app.task(bind=True, max_retries=1)
def fails_once(self, text):
    if self.request.retries == 0:
        raise self.retry(countdown=0)
    call(text)
    ask.delay(text + " from a task")
    return text

@app.task
def eager(text):
    ask.apply(args=(text + " eagerly",))
    call(text)
    return text
"""

SEND = """
import tasks
from posthog_autoinstrument import posthog_context, posthog_span

def wait(answers):
    for answer in answers:
        answer.get(timeout=200)

waiting = []
with posthog_context("ada", session_id="chat-7", properties={"plan": "pro"}), posthog_span("step"):
    waiting.append(tasks.ask.delay("plain"))
    waiting.append(tasks.ask.apply_async(args=("with headers",), headers={"mine": "1"}))
    waiting.append(tasks.fails_once.delay("retried"))
    waiting.append(tasks.eager.delay("outer"))
wait(waiting)
wait([tasks.ask.delay(f"nobody {number}") for number in range(4)])
for number in range(4):
    with posthog_context(f"user {number}"):
        waiting.append(tasks.ask.delay(f"of user {number}"))
wait(waiting)
"""
OF_ADA = {"plain", "with headers", "retried", "retried from a task", "outer", "outer eagerly"}


@pytest.mark.parametrize(("pool", "protocol"), [("prefork", 2), ("threads", 1), ("solo", 2), ("prefork", 1)])
def test_tasks_are_of_the_context_they_were_published_in(
    tmp_path: Path, openai_server: Any, posthog_server: Any, pool: str, protocol: int
) -> None:
    for name in ("queue", "results", "control"):
        (tmp_path / name).mkdir()
    (tmp_path / "tasks.py").write_text(TASKS)
    (tmp_path / "send.py").write_text(SEND)
    own = {"FOLDER": str(tmp_path), "PROTOCOL": str(protocol), "POSTHOG_AUTOINSTRUMENT_EXIT_TIMEOUT_S": "20"}
    environ = environment(openai_server, posthog_server, **own)
    launcher = [sys.executable, "-m", "posthog_autoinstrument", sys.executable]
    options = ["--without-gossip", "--without-mingle", "--without-heartbeat", "-c", "2", "-P", pool]
    with (tmp_path / "output").open("wb") as output:
        worker = subprocess.Popen(
            [*launcher, "-m", "celery", "-A", "tasks", "worker", *options],
            cwd=tmp_path, env=environ, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    try:
        done = subprocess.run(
            [*launcher, "send.py"], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=240, check=False
        )
        assert done.returncode == 0, done.stderr + (tmp_path / "output").read_text()
        wait_until(lambda: not list((tmp_path / "queue").iterdir()), "a task is not taken", timeout_s=60)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(90) == 0, (tmp_path / "output").read_text()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
    (span,) = (event["properties"] for event in posthog_server.events if event["event"] == "$ai_span")
    calls = {
        event["properties"]["$ai_input"][0]["content"]: event
        for event in posthog_server.events
        if event["event"] == "$ai_generation"
    }
    assert set(calls) == OF_ADA | {f"{who} {n}" for who in ("nobody", "of user") for n in range(4)}
    for text in OF_ADA:
        said = calls[text]["properties"]
        assert calls[text]["distinct_id"] == "ada", text
        assert said["$ai_trace_id"] == span["$ai_trace_id"], text
        assert said["$ai_parent_id"] == span["$ai_span_id"], text
        assert (said["$ai_session_id"], said["plan"]) == ("chat-7", "pro"), text
    for number in range(4):
        assert calls[f"of user {number}"]["distinct_id"] == f"user {number}"
        nobody = calls[f"nobody {number}"]
        assert nobody["distinct_id"] == nobody["properties"]["$ai_trace_id"]
    assert len({call["properties"]["$ai_trace_id"] for call in calls.values()}) == 9
