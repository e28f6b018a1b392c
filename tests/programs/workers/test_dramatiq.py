"""A Dramatiq message is processed in the context in which it was made: real workers on Dramatiq's broker for tests."""

from __future__ import annotations

import textwrap

import pytest

pytest.importorskip("dramatiq")

PROGRAM = """
import dramatiq
from dramatiq.brokers.stub import StubBroker

broker = StubBroker()
broker.emit_after("process_boot")
dramatiq.set_broker(broker)
tries = []

@dramatiq.actor(min_backoff=1, max_backoff=1)
def ask(text):
    import openai  # not before the first message
    if text == "retried" and not tries:
        tries.append(1)
        raise ValueError("once")
    said = [{"role": "user", "content": text}]
    openai.OpenAI().chat.completions.create(model="gpt-4o-mini", messages=said)
    if text == "plain":
        ask.send("from an actor")

from posthog_autoinstrument import posthog_context, posthog_span

with posthog_context("of the worker"):
    worker = dramatiq.Worker(broker, worker_timeout=50, worker_threads=2)
    worker.start()
with posthog_context("ada", session_id="chat-7"), posthog_span("step"):
    ask.send("plain")
    ask.send_with_options(args=("delayed",), delay=10)
    ask.send("retried")
broker.join(ask.queue_name)
worker.join()
for number in range(3):
    ask.send(f"nobody {number}")
    with posthog_context(f"user {number}"):
        ask.send(f"user {number}")
broker.join(ask.queue_name)
worker.join()
worker.stop()
"""


@pytest.mark.timeout(200)
def test_messages_are_of_the_context_they_were_made_in(run_program):
    ran = run_program(textwrap.dedent(PROGRAM), timeout_s=150)
    assert ran.returncode == 0, ran.stderr
    (span,) = (event["properties"] for event in ran.events if event["event"] == "$ai_span")
    calls = {
        event["properties"]["$ai_input"][0]["content"]: event
        for event in ran.events
        if event["event"] == "$ai_generation"
    }
    of_ada = {"plain", "from an actor", "delayed", "retried"}
    assert set(calls) == of_ada | {f"{who} {number}" for who in ("nobody", "user") for number in range(3)}
    for text in of_ada:
        said = calls[text]["properties"]
        found = (calls[text]["distinct_id"], said["$ai_trace_id"], said["$ai_parent_id"], said["$ai_session_id"])
        assert found == ("ada", span["$ai_trace_id"], span["$ai_span_id"], "chat-7"), text
    for number in range(3):
        assert calls[f"user {number}"]["distinct_id"] == f"user {number}"
        nobody = calls[f"nobody {number}"]
        assert nobody["distinct_id"] == nobody["properties"]["$ai_trace_id"]


def test_a_worker_that_was_started_in_a_private_block_is_private_whatever_a_message_says(run_program):
    env = {"POSTHOG_AUTOINSTRUMENT_CONTEXT": '{"privacy_mode":true}'}
    ran = run_program(textwrap.dedent(PROGRAM), timeout_s=120, env=env)
    assert ran.returncode == 0, ran.stderr
    calls = [event["properties"] for event in ran.events if event["event"] == "$ai_generation"]
    assert len(calls) == 10
    assert [call["$ai_input"] for call in calls] == [None] * 10
