"""A task of dask.distributed runs in the context in which it was submitted, in threads and in processes of workers."""

from __future__ import annotations

import pytest

pytest.importorskip("distributed")
pytestmark = pytest.mark.timeout(300)

PROGRAM = """
import dask
from distributed import Client, LocalCluster, get_client, secede
from posthog_autoinstrument import current_trace_id, posthog_context, posthog_span

def call(text):
    import openai  # not before the first task: the agent of the worker is loaded inside it
    said = [{{"role": "user", "content": text}}]
    openai.OpenAI().chat.completions.create(model="gpt-4o-mini", messages=said)
    return text

def nested(text):
    client = get_client()
    future = client.submit(call, text + " from a task", pure=False)
    secede()
    return future.result()

async def in_the_loop(text):
    import asyncio
    return await asyncio.to_thread(call, text)

def seen(*_):
    return current_trace_id()

if __name__ == "__main__":
    with posthog_context("of the cluster"):
        cluster = LocalCluster(
            n_workers=1, threads_per_worker=2, processes={processes}, dashboard_address=None, silence_logs=50
        )
        client = Client(cluster)
    with posthog_context("ada", session_id="chat-7", properties={{"plan": "pro"}}), posthog_span("step"):
        futures = [client.submit(call, "submitted"), *client.map(call, ["mapped 0", "mapped 1"])]
        futures += [client.submit(nested, "nested"), client.submit(in_the_loop, "async")]
        futures += [client.compute(dask.delayed(call)("computed")), dask.delayed(call)("persisted").persist()]
        assert dask.delayed(call)("delayed").compute() == "delayed"
    for number in range(2):
        futures.append(client.submit(call, f"nobody {{number}}"))
        with posthog_context(f"user {{number}}"):
            futures.append(client.submit(call, f"of user {{number}}"))
    for future in futures:
        future.result() if hasattr(future, "result") else future.compute()
    print(client.submit(seen, 1).result(), dask.get_annotations())
    client.close()
    cluster.close()
"""


@pytest.mark.parametrize("processes", [False, True])
def test_tasks_are_of_the_context_they_were_submitted_in(run_program, processes):
    ran = run_program(
        PROGRAM.format(processes=processes), env={"POSTHOG_AUTOINSTRUMENT_FLUSH_INTERVAL_S": "0.05"}, timeout_s=200
    )
    assert (ran.returncode, ran.stdout) == (0, "None {}\n"), ran.stderr
    (span,) = (event["properties"] for event in ran.events if event["event"] == "$ai_span")
    calls = {
        event["properties"]["$ai_input"][0]["content"]: event
        for event in ran.events
        if event["event"] == "$ai_generation"
    }
    of_ada = {"submitted", "mapped 0", "mapped 1", "nested from a task", "async", "computed", "persisted", "delayed"}
    assert set(calls) == of_ada | {f"{who} {number}" for who in ("nobody", "of user") for number in range(2)}
    for text in of_ada:
        said = calls[text]["properties"]
        assert calls[text]["distinct_id"] == "ada", text
        assert (said["$ai_trace_id"], said["$ai_parent_id"]) == (span["$ai_trace_id"], span["$ai_span_id"]), text
        assert (said["$ai_session_id"], said["plan"]) == ("chat-7", "pro"), text
    for number in range(2):
        assert calls[f"of user {number}"]["distinct_id"] == f"user {number}"
        nobody = calls[f"nobody {number}"]
        assert nobody["distinct_id"] == nobody["properties"]["$ai_trace_id"]
