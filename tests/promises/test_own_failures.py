"""Promise: the agent's own failure never reaches the program; it is said once, and the other facts are recorded."""

from __future__ import annotations

import ast
import signal
from pathlib import Path

import pytest
from support.comparison import other_lines, own_lines, run, same
from support.features import has
from support.sabotage import SABOTAGE

import posthog_autoinstrument

pytestmark = pytest.mark.promise


WORKLOAD = """
client = openai.OpenAI(max_retries=0)
EXTRA = {} if "posthog_autoinstrument.agent" not in sys.modules else {
    "posthog_distinct_id": "u", "posthog_properties": {"a": 1}, "posthog_groups": {"g": "h"}, "posthog_trace_id": "t"}

async def aworkload():
    http = openai.DefaultAsyncHttpxClient(verify=False)  # certificates take 50 ms to load
    async with openai.AsyncOpenAI(max_retries=0, http_client=http) as client:
        tell((await client.chat.completions.create(**CHAT, **EXTRA)).model_dump_json())
        tell([chunk.id async for chunk in await client.chat.completions.create(**CHAT, stream=True)])
        async with client.chat.completions.stream(**CHAT) as stream:  # needs chat.completions.stream
            tell((await stream.get_final_completion()).id)
        raw = await client.chat.completions.with_raw_response.create(**CHAT, stream=True)
        tell(len([line async for line in raw.http_response.aiter_lines()]))
        try:
            await client.embeddings.create(model="error-404", input="x")
        except openai.NotFoundError as error:
            tell(error)

def workload():
    tell(client.chat.completions.create(**CHAT, **EXTRA).model_dump_json())
    tell([chunk.model_dump_json() for chunk in client.chat.completions.create(**CHAT, stream=True)])
    with client.chat.completions.stream(**CHAT, **EXTRA) as stream:  # needs chat.completions.stream
        tell(stream.get_final_completion().model_dump_json())
    raw = client.chat.completions.with_raw_response.create(**CHAT, stream=True)
    tell(len(list(raw.http_response.iter_lines())))
    with client.responses.create(**RESPONSE, stream=True) as stream:  # needs responses
        tell(next(stream).type)
    tell(len(client.embeddings.create(**EMBEDDING).data))
    for model in ("error-400", "error-in-stream", "cut"):
        try:
            tell(len(list(client.chat.completions.create(**chat(model), stream=True))))
        except BROKEN as error:
            tell(type(error), error, type(error.__cause__))
    asyncio.run(aworkload())
"""


CALLS = 11 + 2 * has("chat.completions.stream") + has("responses")
"""How many calls `workload` makes."""


def guarded_steps() -> list[str]:
    """The names of all guarded steps, read from the package's source; those made up at run time are left out."""
    found = set()
    for path in Path(posthog_autoinstrument.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                if name in ("guarded", "attempt") and isinstance(node.args[0].value, str):
                    found.add(node.args[0].value)
    return sorted(found)


def test_no_guarded_step_that_fails_is_seen_by_the_program(tmp_path: Path) -> None:
    steps = [*guarded_steps(), "quietly", "name the call", "write the content", "write the tokens", "write the timings",
             "write the identity"]  # fmt: skip
    ran = same(
        tmp_path,
        WORKLOAD
        + f"""
import posthog_autoinstrument
for step in {steps!r}:
    broken.add(step)
    tell("==", step)
    workload()
    posthog_autoinstrument.flush(0.2)
    broken.clear()
import gc
gc.collect()  # streams that were dropped above end now, not among the last events
posthog_autoinstrument.flush(10)
workload()
gc.collect()
posthog_autoinstrument.flush(10)
if reached:  # not in the bare run
    with open("reached", "w") as file:
        file.write(repr(sorted(reached)))
import os
import signal
sys.stdout.flush()
os.kill(os.getpid(), signal.SIGKILL)  # at exit the calls would come whose end was broken above
""",
        events=None,
        returncode=-signal.SIGKILL,
        first=SABOTAGE,
        agent_lines=True,
    )
    said = own_lines(ran.stderr)
    reached = ast.literal_eval((tmp_path / "reached").read_text())
    for step in steps:
        lines = [line for line in said if f"could not {step} (" in line]
        assert len(lines) == (1 if step in reached and step != "quietly" else 0), (step, lines)
    assert {"open a call", "follow a request", "read an answer", "end a call", "end a failed call", "watch a response",
            "end a stream", "keep a piece of a body", "build an event", "deliver events",
            "read an error", "write the identity"} <= set(reached)  # fmt: skip
    for step in ("prepare a stream manager", "read the context"):
        assert (step in reached) is has("chat.completions.stream")
    # After all that the agent is whole again: the last workload is captured in full.
    assert len(ran.events) >= CALLS
    last = [event["properties"] for event in ran.events[-CALLS:]]
    assert sum("$ai_error" in facts for facts in last) == 4


def test_a_program_with_an_agent_that_fails_everywhere(tmp_path: Path) -> None:
    """From its first step, when nothing is patched yet, to the last at exit."""
    ran = same(
        tmp_path,
        WORKLOAD + "EXTRA = {}\nworkload()",  # nothing is patched that could take them out
        events=0,
        first=SABOTAGE + 'broken.add("*")\n',
        agent_lines=True,
    )
    assert len(own_lines(ran.stderr)) == len(set(own_lines(ran.stderr))) >= 1


DEEPER = {
    "intent": "identity.Intent.__init__ = fail",
    "client": "calls.OpenCall.set_client = fail",
    "answer": "calls.OpenCall.set_response = fail",
    "request": "calls.OpenCall.set_request = fail",
    "kind of stream": "streams._kind_of = fail",
    "clock": "calls.time = fail",
    "size of a record": "api.running.flusher.queue.add = fail",
    "start of the thread": "api.running.flusher.start = fail",
    "no more threads": "flusher.threads.make = fail",
    "wake-up": "api.running.flusher.queue.wake = fail",
    "record": "calls.OpenCall.assemble = fail",
    "identity": "finalize.resolve = fail",
    "build": "event.build = fail",
    "serialise": "sanitize.dumps = fail",
    "sink": "api.running.delivery._choose_exporter = fail",
    "send": "posthog.PostHogExporter._body = fail",
    "requests": "posthog.http_session.requests = fail",
    "shutdown": "api.running.flusher.close = fail",
}
"""Where the agent breaks, inside and beside its guards."""


def test_the_agent_breaks_anywhere(tmp_path: Path) -> None:
    """One after the other in one program: each is put right again before the next."""
    ran = same(
        tmp_path,
        WORKLOAD
        + f"""
import posthog_autoinstrument
AGENT = "posthog_autoinstrument.agent" in sys.modules  # not in the bare run
if AGENT:
    from posthog_autoinstrument import api
    from posthog_autoinstrument.processing import event
    from posthog_autoinstrument.export import flusher
    from posthog_autoinstrument.processing import sanitize
    from posthog_autoinstrument.capture import calls
    from posthog_autoinstrument.context import identity
    from posthog_autoinstrument.capture import finalize
    from posthog_autoinstrument.instrumentation import streams
    from posthog_autoinstrument.export import posthog

def fail(*args, **kwargs):
    raise RuntimeError("sabotage")

for name, sabotage in {DEEPER!r}.items():
    tell("==", name)
    owner, _, attribute = sabotage.partition(" = ")[0].rpartition(".")
    if AGENT:
        owner = eval(owner)
        whole, own = getattr(owner, attribute), attribute in vars(owner)
        exec(sabotage)
    workload()
    posthog_autoinstrument.flush(0.2)
    if AGENT and own:
        setattr(owner, attribute, whole)
    elif AGENT:
        delattr(owner, attribute)
workload()
tell("end")
posthog_autoinstrument.flush(10)
""",
        events=None,
        agent_lines=True,
    )
    assert len(own_lines(ran.stderr)) == len(set(own_lines(ran.stderr)))
    assert len(ran.events) >= CALLS
    assert not other_lines(ran.stderr)


def test_a_reader_that_fails_costs_its_own_facts_only(tmp_path: Path) -> None:
    ran = run(
        tmp_path,
        """
        client = openai.OpenAI()
        from posthog_autoinstrument import api
        import dataclasses

        def read(*args):
            raise RuntimeError("sabotage")

        made = api.running
        provider = made.providers["openai"]
        endpoints = tuple(dataclasses.replace(endpoint, read=read) for endpoint in provider.endpoints)
        made.providers["openai"] = dataclasses.replace(provider, endpoints=endpoints)
        for _ in range(2):
            tell(client.chat.completions.create(**CHAT, posthog_distinct_id="u1", posthog_trace_id="t1").id)
        list(client.chat.completions.create(**CHAT, stream=True, posthog_distinct_id="u1", posthog_trace_id="t1"))
        """,
    )
    assert ran.returncode == 0
    assert len(own_lines(ran.stderr)) == 1
    assert len(ran.events) == 3
    for event in ran.events:
        facts = event["properties"]
        assert event["distinct_id"] == "u1"
        assert facts["$ai_trace_id"] == "t1"
        assert facts["$ai_http_status"] == 200
        assert facts["$ai_latency"] > 0
        assert facts["$ai_provider"] == "openai"
        assert facts["$ai_request_url"].endswith("/chat/completions")
        assert facts["$ai_model"] == "gpt-4o-mini"
    assert [event["properties"]["$ai_stream"] for event in ran.events] == [False, False, True]
