"""Promise: nothing is captured twice: not what PostHog's own wrapper or gateway records, not the agent's own HTTP."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import openai
import pytest
from support import features
from support.calls import HELLO
from support.comparison import own_lines, run

from posthog_autoinstrument.testing import PostHogServer

pytestmark = pytest.mark.promise

RECORDED_BY_POSTHOG = {
    "chat": 'chats.create(**CHAT, posthog_distinct_id="theirs")',
    "chat stream": 'list(chats.create(**CHAT, stream=True, posthog_distinct_id="theirs"))',
    "embeddings": 'client.embeddings.create(**EMBEDDING, posthog_distinct_id="theirs")',
}
PASSED_THROUGH = {
    "raw": "chats.with_raw_response.create(**CHAT)",
    "streaming response": "enter(chats.with_streaming_response.create(**CHAT))",
    "raw embeddings": "client.embeddings.with_raw_response.create(**EMBEDDING)",
    "legacy": 'client.completions.create(model="gpt-3.5-turbo-instruct", prompt="x")',
}
"""What posthog 7.91.1 hands on to the SDK without recording it."""
if features.has("chat.completions.parse"):
    RECORDED_BY_POSTHOG |= {
        "chat parse": 'chats.parse(**CHAT, response_format=Book, posthog_distinct_id="theirs")',
    }
if features.has("chat.completions.stream"):
    PASSED_THROUGH |= {"chat helper": "manage(chats.stream(**CHAT))"}
if features.has("beta.chat.completions.parse"):
    RECORDED_BY_POSTHOG |= {
        "beta parse": 'client.beta.chat.completions.parse(**CHAT, response_format=Book, posthog_distinct_id="theirs")',
    }
if features.has("responses"):
    RECORDED_BY_POSTHOG |= {
        "responses": 'responses.create(**RESPONSE, posthog_distinct_id="theirs")',
        "responses stream": 'list(responses.create(**RESPONSE, stream=True, posthog_distinct_id="theirs"))',
        "responses parse": 'responses.parse(**RESPONSE, text_format=Book, posthog_distinct_id="theirs")',
    }
    PASSED_THROUGH |= {"responses helper": "manage(responses.stream(**RESPONSE))"}

WRAPPED = """
import posthog
import posthog_autoinstrument
from posthog.ai.openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

class Book(BaseModel):
    title: str

def manage(manager):
    with manager as stream:
        return list(stream)

def enter(manager):
    with manager as response:
        return response.read()

async def amanage(manager):
    async with manager as stream:
        return [event async for event in stream]

async def aenter(manager):
    async with manager as response:
        return await response.read()

async def alist(awaitable):
    return [chunk async for chunk in await awaitable]

theirs = posthog.Posthog("phc_theirs", host=sys.argv[1])
client = OpenAI(posthog_client=theirs)
chats = client.chat.completions
responses = client.responses  # needs responses
"""


def test_calls_of_the_wrapper_of_posthog_are_left_alone(tmp_path: Path) -> None:
    lines = []
    for label, call in {**RECORDED_BY_POSTHOG, **PASSED_THROUGH}.items():
        lines.append(f"with posthog_autoinstrument.posthog_context(trace_id={label!r}):\n    {call}\n")
    awaited = []
    for label, call in {**RECORDED_BY_POSTHOG, **PASSED_THROUGH}.items():
        call = call.replace("list(", "alist(").replace("manage(", "amanage(").replace("enter(", "aenter(")
        awaited.append(
            f"    with posthog_autoinstrument.posthog_context(trace_id={'async ' + label!r}):\n        await {call}\n"
        )
    source = (
        WRAPPED
        + "".join(lines)
        + "async def main():\n    client = AsyncOpenAI(posthog_client=theirs)\n"
        + "    chats = client.chat.completions\n    responses = client.responses  # needs responses\n"
        + "".join(awaited)
        + "    await client.close()\nasyncio.run(main())\n"
        + 'with posthog_autoinstrument.posthog_context(trace_id="plain"):\n'
        + "    openai.OpenAI().chat.completions.create(**CHAT)\n"
        + "theirs.shutdown()\n"
    )
    with PostHogServer() as theirs:
        ran = run(tmp_path, source, args=[theirs.url])
        assert ran.returncode == 0, ran.stderr
        assert own_lines(ran.stderr) == []
        ours = Counter(event["properties"]["$ai_trace_id"] for event in ran.events)
        expected = [prefix + label for prefix in ("", "async ") for label in PASSED_THROUGH]
        assert ours == dict.fromkeys([*expected, "plain"], 1)
        assert len([event for event in theirs.events if event["distinct_id"] == "theirs"]) == 2 * len(
            RECORDED_BY_POSTHOG
        )
        assert len(theirs.events) == 2 * len(RECORDED_BY_POSTHOG)


@pytest.mark.parametrize(
    ("base_url", "events"),
    [
        ("https://gateway.us.posthog.com/v1", 0),
        ("https://gateway.eu.posthog.com/project/v1", 0),
        ("https://gateway.posthog.com/v1", 0),
        ("https://AI-Gateway.US.posthog.com:443/v1", 0),
        ("https://ai-gateway.eu.posthog.com/v1", 0),
        ("https://gateway.us.posthog.com.example.com/v1", 1),
        ("https://us.posthog.com/v1", 1),
    ],
)
def test_calls_to_the_gateway_of_posthog_are_left_alone(captured: Any, base_url: str, events: int) -> None:
    httpx = features.httpx()
    urls = []

    def answer(request: Any) -> Any:
        urls.append(request.url.host)
        if b'"stream":true' in request.content.replace(b" ", b""):
            return httpx.Response(200, content=b"data: [DONE]\n\n", headers={"content-type": "text/event-stream"})
        return httpx.Response(
            200, json={"id": "c", "object": "list", "model": "m", "choices": [], "data": [], "output": []}
        )

    transport = httpx.MockTransport(answer)
    with openai.OpenAI(api_key="k", base_url=base_url, http_client=httpx.Client(transport=transport)) as client:
        client.chat.completions.create(model="m", messages=HELLO)
        list(client.chat.completions.create(model="m", messages=HELLO, stream=True))
        client.completions.create(model="m", prompt="x")
        if features.has("responses"):
            client.responses.create(model="m", input="x")
        client.chat.completions.with_raw_response.create(model="m", messages=HELLO)
        client.post("/chat/completions", body={"model": "m", "messages": HELLO}, cast_to=object)
    assert len(urls) == (6 if features.has("responses") else 5)
    captured(len(urls) * events)


def test_who_records_a_call_is_said_once_and_only_to_who_asked(tmp_path: Path) -> None:
    source = WRAPPED + "for _ in range(3):\n    chats.create(**CHAT)\ntheirs.shutdown()\n"
    with PostHogServer() as theirs:
        quiet = run(tmp_path, source, args=[theirs.url])
        asked = run(tmp_path, source, args=[theirs.url], env={"POSTHOG_AUTOINSTRUMENT_DEBUG": "1"})
    assert own_lines(quiet.stderr) == []
    assert [line for line in own_lines(asked.stderr) if "left to" in line] == [
        "posthog-autoinstrument: calls that posthog.ai.openai records are left to it"
    ]
    assert quiet.events == asked.events == []


def test_calls_that_end_as_the_other_integration_does_not_record_are_ours(tmp_path: Path) -> None:
    """The parts of litellm (1.83) that say what its PostHog logger records; `make elsewhere` runs litellm itself.

    Its logger has no method for the failures of synchronous calls, and is not told of streams that are left.
    """
    ran = run(
        tmp_path,
        """
        import posthog_autoinstrument

        class PostHogLogger:
            def log_success_event(self): ...
            async def async_log_success_event(self): ...
            async def async_log_failure_event(self): ...

        litellm = types.ModuleType("litellm")
        litellm.global_disable_no_log_param = False
        for name in ("success_callback", "failure_callback", "_async_success_callback", "_async_failure_callback"):
            setattr(litellm, name, [])
        sys.modules["litellm"] = litellm
        sys.modules["litellm.integrations.posthog"] = types.SimpleNamespace(PostHogLogger=PostHogLogger)

        def call(logging_obj, create, **kwargs):
            return create(**kwargs)

        async def acall(logging_obj, create, **kwargs):
            return await create(**kwargs)

        caller = {"__name__": "litellm.llms.openai.openai"}
        call, acall = (types.FunctionType(own.__code__, caller) for own in (call, acall))

        class Logging:
            def __init__(self, **arguments):
                self.model_call_details = {"litellm_params": arguments}
                self.dynamic_success_callbacks = self.dynamic_failure_callbacks = None
                self.dynamic_async_success_callbacks = self.dynamic_async_failure_callbacks = None

        def fails(error, function, *args, **kwargs):
            try:
                function(*args, **kwargs)
            except error:
                return
            raise AssertionError("it did not fail")

        client = openai.OpenAI()
        create = client.chat.completions.create

        def calls(label):
            def block(kind):
                return posthog_autoinstrument.posthog_context(trace_id=f"{kind} {label}")

            with block("sync"):
                call(Logging(), create, **CHAT)
            with block("stream"):
                list(call(Logging(), create, **CHAT, stream=True))
            with block("embedding"):
                call(Logging(), client.embeddings.create, **EMBEDDING)
            with block("failure"):
                fails(openai.BadRequestError, call, Logging(), create, **chat("error-400"))
            with block("left"):
                stream = call(Logging(), create, **CHAT, stream=True)
                next(stream)
                stream.close()
            with block("not logged"):
                call(Logging(**{"no-log": True}), create, **CHAT)
            with block("beside"):
                create(**CHAT)

            async def main():
                async with openai.AsyncOpenAI() as client:
                    create = client.chat.completions.create
                    with block("async"):
                        await acall(Logging(acompletion=True), create, **CHAT)
                    with block("async failure"):
                        try:
                            await acall(Logging(acompletion=True), create, **chat("error-400"))
                        except openai.BadRequestError:
                            pass

            asyncio.run(main())

        calls("unset")
        logger = PostHogLogger()
        litellm.success_callback = litellm._async_success_callback = [logger]
        calls("successes")
        litellm.failure_callback = litellm._async_failure_callback = [logger]
        calls("both")
        """,
    )
    assert ran.returncode == 0, ran.stderr
    assert own_lines(ran.stderr) == []
    always = ("failure", "left", "not logged", "beside")
    expected = [f"{kind} unset" for kind in ("sync", "stream", "embedding", "async", "async failure", *always)]
    expected += [f"{kind} successes" for kind in ("async failure", *always)]
    expected += [f"{kind} both" for kind in always]
    assert Counter(event["properties"]["$ai_trace_id"] for event in ran.events) == dict.fromkeys(expected, 1)


def test_a_broken_integration_costs_no_event(tmp_path: Path) -> None:
    """What is not as we know it is not taken for a recorder, and the program does not notice."""
    ran = run(
        tmp_path,
        """
        for name in (
            "posthog.ai.openai", "posthog.ai.langchain.callbacks", "posthog.ai.langchain.middleware",
            "posthog.ai.openai_agents.processor", "litellm.integrations.posthog",
        ):
            sys.modules[name] = None  # blocked, as tests of programs do, or half imported by another thread
        openai.OpenAI().chat.completions.create(**CHAT)
        """,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    assert len(ran.events) == 1


def test_the_http_of_the_agent_is_not_instrumented(tmp_path: Path) -> None:
    """OpenTelemetry's instrumentation of `requests` does not see our batches: they go through a copy of it."""
    ran = run(
        tmp_path,
        """
        import contextvars
        import requests.sessions
        import posthog_autoinstrument

        # The part of opentelemetry-api that its instrumentations use.
        otel = types.ModuleType("opentelemetry.context")
        current = contextvars.ContextVar("current", default={})
        balance = []

        def set_value(key, value, context=None):
            return {**(current.get() if context is None else context), key: value}

        def attach(context):
            balance.append(threading.current_thread().name)
            return current.set(context)

        def detach(token):
            balance.pop()
            current.reset(token)

        otel.set_value, otel.attach, otel.detach = set_value, attach, detach
        otel.get_value = lambda key, context=None: current.get().get(key)
        otel.get_current = current.get
        otel._SUPPRESS_INSTRUMENTATION_KEY = "suppress_instrumentation-1"
        otel._SUPPRESS_HTTP_INSTRUMENTATION_KEY = "suppress_http_instrumentation-1"
        sys.modules["opentelemetry"] = types.ModuleType("opentelemetry")
        sys.modules["opentelemetry.context"] = otel

        spans, sent = [], []
        whole = requests.sessions.Session.send

        def send(self, request, **kwargs):
            sent.append(list(balance))
            if not otel.get_value("suppress_instrumentation") or not otel.get_value("suppress_http_instrumentation-1"):
                spans.append(request.url)
            return whole(self, request, **kwargs)

        requests.sessions.Session.send = send

        def hook(request):
            tell("the program's own", current.get())

        client = openai.OpenAI(http_client=openai.DefaultHttpxClient(event_hooks={"request": [hook]}))
        client.chat.completions.create(**CHAT)
        tell(posthog_autoinstrument.flush(10), sent, spans, balance, current.get())
        requests.get(client.base_url.copy_with(path="/v1/models"))
        tell(len(spans))
        """,
    )
    assert ran.stdout.splitlines() == [
        "the program's own {}",
        "True [] [] [] {}",
        "1",
    ]
    assert len(ran.events) == 1
