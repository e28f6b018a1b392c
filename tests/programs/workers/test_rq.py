"""An RQ job runs in the context in which it was enqueued, and its events arrive: real worker, real Redis."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.ports import free_port
from support.programs import environment
from support.waiting import wait_until

pytest.importorskip("rq")
REDIS = shutil.which("redis-server")
pytestmark = [
    pytest.mark.timeout(450),
    pytest.mark.skipif(REDIS is None, reason="no redis-server here, RQ was not tried: apt-get install redis-server"),
]

JOBS = """
import os
from redis import Redis
from rq import Queue, get_current_job

tried = os.path.join(os.environ["FOLDER"], "tried")

def queue():
    return Queue(connection=Redis(port=int(os.environ["REDIS_PORT"])))

def call(text):
    import openai  # in the process of the job: the agent of the worker is loaded inside it
    said = [{"role": "user", "content": text}]
    openai.OpenAI().chat.completions.create(model="gpt-4o-mini", messages=said)

def ask(text):
    call(text)
    return text

def fails_once(text):
    if not os.path.exists(tried):
        open(tried, "w").close()
        raise ValueError("once")
    call(text)
    queue().enqueue(ask, text + " from a job")

def own_meta(text):
    call(text + " " + str(get_current_job().meta["mine"]))
"""
SEND = """
from rq import Retry
import jobs
from posthog_autoinstrument import posthog_context, posthog_span

queue = jobs.queue()
with posthog_context("ada", session_id="chat-7", properties={"plan": "pro"}), posthog_span("step"):
    queue.enqueue(jobs.ask, "plain")
    queue.enqueue(jobs.fails_once, "retried", retry=Retry(max=1))
    queue.enqueue(jobs.own_meta, "with meta", meta={"mine": 1})
for number in range(3):
    queue.enqueue(jobs.ask, f"nobody {number}")
    with posthog_context(f"user {number}"):
        queue.enqueue(jobs.ask, f"of user {number}")
"""
OF_ADA = {"plain", "retried", "retried from a job", "with meta 1"}


@pytest.fixture
def redis_port(tmp_path: Path) -> Iterator[int]:
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    server = subprocess.Popen([str(REDIS), *options], stdout=subprocess.DEVNULL)

    def answers() -> bool:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return True
        return False

    try:
        wait_until(answers, "redis does not start", timeout_s=30)
        yield port
    finally:
        server.kill()
        server.wait()


@pytest.mark.parametrize("worker", ["rq.Worker", "rq.SimpleWorker"])
@pytest.mark.parametrize("propagate", ["1", "0"])
def test_jobs_are_of_the_context_they_were_enqueued_in(
    tmp_path: Path, openai_server: Any, posthog_server: Any, redis_port: int, worker: str, propagate: str
) -> None:
    (tmp_path / "jobs.py").write_text(JOBS)
    (tmp_path / "send.py").write_text(SEND)
    environ = environment(
        openai_server,
        posthog_server,
        FOLDER=str(tmp_path),
        REDIS_PORT=str(redis_port),
        POSTHOG_AUTOINSTRUMENT_PROPAGATE=propagate,
    )
    launcher = [sys.executable, "-m", "posthog_autoinstrument", sys.executable]
    sent = subprocess.run(
        [*launcher, "send.py"], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=120, check=False
    )
    assert sent.returncode == 0, sent.stderr
    options = ["--url", f"redis://127.0.0.1:{redis_port}", "--worker-class", worker, "--burst", "--path", "."]
    with (tmp_path / "output").open("wb") as output:
        running = subprocess.Popen(
            [*launcher, "-m", "rq.cli", "worker", *options],
            cwd=tmp_path, env=environ, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    try:
        assert running.wait(240) == 0, (tmp_path / "output").read_text()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    calls = {
        event["properties"]["$ai_input"][0]["content"]: event
        for event in posthog_server.events
        if event["event"] == "$ai_generation"
    }
    assert set(calls) == OF_ADA | {f"{who} {n}" for who in ("nobody", "of user") for n in range(3)}, (
        tmp_path / "output"
    ).read_text()
    (span,) = (event["properties"] for event in posthog_server.events if event["event"] == "$ai_span")
    for text, event in calls.items():
        said = event["properties"]
        if propagate == "0" or text.startswith("nobody"):
            assert event["distinct_id"] == said["$ai_trace_id"], text
        elif text in OF_ADA:
            found = (event["distinct_id"], said["$ai_trace_id"], said["$ai_parent_id"], said["$ai_session_id"])
            assert found == ("ada", span["$ai_trace_id"], span["$ai_span_id"], "chat-7"), text
            assert said["plan"] == "pro"
        else:
            assert event["distinct_id"] == text.removeprefix("of ")
