"""The fakes that users, the demo and our own tests rely on, seen through the real openai and requests packages."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import json
import struct
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
import requests
from pydantic import BaseModel
from support.features import needs

from posthog_autoinstrument.testing import Answer, Fault, OpenAIServer, PostHogServer, sse

pytestmark = needs("responses.parse", "chat.completions.parse")

QUESTION = [{"role": "user", "content": "Hi there"}]  # 8 characters: 2 tokens
ANSWER = 'A made-up answer to "Hi there".'  # 31 characters: 8 tokens
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
    },
}


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer() as running:
        yield running


@pytest.fixture
def client(server: OpenAIServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.base_url, api_key="sk-test", timeout=20) as made:
        yield made


@pytest.fixture
def posthog() -> Iterator[PostHogServer]:
    with PostHogServer() as running:
        yield running


def wait_until(predicate: Callable[[], bool], message: str, timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    changed = threading.Event()
    while not predicate():
        assert time.monotonic() < deadline, message
        changed.wait(0.005)


# --- OpenAI: chat completions ---


def test_chat_answers_with_usage_and_headers(server: OpenAIServer, client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="gpt-4o-mini", messages=QUESTION)
    completion = raw.parse()
    assert completion.choices[0].message.content == ANSWER
    assert completion.choices[0].finish_reason == "stop"
    assert completion.model == "gpt-4o-mini-2024-07-18"
    assert completion.usage.model_dump(exclude_unset=True) == {
        "prompt_tokens": 2,
        "completion_tokens": 8,
        "total_tokens": 10,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
    assert raw.headers["x-request-id"].startswith("req_")
    assert raw.headers["openai-processing-ms"]
    assert raw.headers["openai-organization"]
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert request.headers["authorization"] == "Bearer sk-test"
    assert request.json()["messages"] == QUESTION


def test_answers_are_the_same_in_every_run() -> None:
    bodies = []
    for _ in range(2):
        with OpenAIServer() as server, openai.OpenAI(base_url=server.base_url, api_key="k") as client:
            bodies.append([client.chat.completions.create(model="m", messages=QUESTION).model_dump() for _ in range(2)])
    assert bodies[0] == bodies[1]
    assert bodies[0][0]["id"] != bodies[0][1]["id"]


def test_chat_stream_has_no_usage_unless_asked(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(model="gpt-4o-mini", messages=QUESTION, stream=True))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == ANSWER
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert not any("usage" in chunk.model_fields_set for chunk in chunks)


def test_chat_stream_with_usage_ends_with_a_chunk_without_choices(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="gpt-4o-mini", messages=QUESTION, stream=True, stream_options={"include_usage": True}
    )
    *chunks, last = list(stream)
    assert all(chunk.usage is None and "usage" in chunk.model_fields_set for chunk in chunks)
    assert all(len(chunk.choices) == 1 for chunk in chunks)
    assert last.choices == []
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (2, 8)


def test_chat_n_choices(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(model="m", messages=QUESTION, n=3)
    assert [choice.index for choice in completion.choices] == [0, 1, 2]
    assert completion.usage.completion_tokens == 24
    chunks = list(client.chat.completions.create(model="m", messages=QUESTION, n=2, stream=True))
    for index in (0, 1):
        said = [c.choices[0].delta.content or "" for c in chunks if c.choices[0].index == index]
        assert "".join(said) == ANSWER


@pytest.mark.parametrize("streamed", [False, True])
def test_chat_tool_round_trip(client: openai.OpenAI, streamed: bool) -> None:
    if streamed:
        with client.chat.completions.stream(model="m", messages=QUESTION, tools=[TOOL]) as stream:
            choice = stream.get_final_completion().choices[0]
    else:
        choice = client.chat.completions.create(model="m", messages=QUESTION, tools=[TOOL]).choices[0]
    assert choice.finish_reason == "tool_calls"
    call = choice.message.tool_calls[0]
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": "example", "days": 1}
    asked = {"role": "assistant", "tool_calls": [{"id": call.id, "type": "function", "function": TOOL["function"]}]}
    result = {"role": "tool", "tool_call_id": call.id, "content": "rain"}
    answer = client.chat.completions.create(model="m", messages=[*QUESTION, asked, result], tools=[TOOL])
    assert answer.choices[0].message.content == "According to the tool: rain"


class Address(BaseModel):
    street: str
    number: int


class Person(BaseModel):
    name: str
    tags: list[str]
    address: Address


def test_structured_output_satisfies_the_schema(client: openai.OpenAI) -> None:
    parsed = client.chat.completions.parse(model="m", messages=QUESTION, response_format=Person)
    expected = Person(name="example", tags=["example"], address=Address(street="example", number=1))
    assert parsed.choices[0].message.parsed == expected
    assert client.responses.parse(model="m", input="Hi", text_format=Person).output_parsed == expected


def test_max_tokens_cuts_the_answer(client: openai.OpenAI) -> None:
    choice = client.chat.completions.create(model="m", messages=QUESTION, max_completion_tokens=2).choices[0]
    assert (choice.message.content, choice.finish_reason) == ("A made-u", "length")


def test_long_prompts_are_partly_cached(client: openai.OpenAI) -> None:
    usage = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x" * 8192}]).usage
    assert (usage.prompt_tokens, usage.prompt_tokens_details.cached_tokens) == (2048, 1024)


# --- OpenAI: other endpoints ---


def test_responses(client: openai.OpenAI) -> None:
    response = client.responses.create(model="gpt-4o-mini", input="Hi there", instructions="Be kind")
    assert response.output_text == ANSWER
    assert response.instructions == "Be kind"
    assert (response.usage.input_tokens, response.usage.output_tokens) == (4, 8)
    assert response.usage.input_tokens_details.cached_tokens == 0
    assert client.responses.retrieve(response.id) == response
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve("resp_unknown")


def test_responses_stream_has_the_full_sequence_of_events(client: openai.OpenAI) -> None:
    events = list(client.responses.create(model="m", input="Hi there", stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type.removeprefix("response.") for event in events]
    words = ANSWER.count(" ") + 1
    assert kinds == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        *["output_text.delta"] * words,
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert events[-1].response.output_text == ANSWER
    again = list(client.responses.retrieve(events[0].response.id, stream=True))
    assert again == events


def test_responses_tools(client: openai.OpenAI) -> None:
    tool: Any = {"type": "function", "strict": True, **TOOL["function"]}  # type: ignore[dict-item]
    with client.responses.stream(model="m", input="Hi", tools=[tool, {"type": "web_search"}]) as stream:
        search, call = stream.get_final_response().output
    assert (search.type, call.type) == ("web_search_call", "function_call")
    assert json.loads(call.arguments) == {"city": "example", "days": 1}
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}
    asked = {"type": "function_call", "call_id": call.call_id, "name": call.name, "arguments": call.arguments}
    answer = client.responses.create(model="m", input=[*QUESTION, asked, result], tools=[tool])
    assert answer.output_text == "According to the tool: rain"


def test_responses_incomplete_and_background(client: openai.OpenAI) -> None:
    cut = client.responses.create(model="m", input="Hi", max_output_tokens=2)
    assert (cut.status, cut.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    queued = client.responses.create(model="m", input="Hi there", background=True)
    states = [queued.status, *(client.responses.retrieve(queued.id).status for _ in range(2))]
    assert states == ["queued", "in_progress", "completed"]


def test_embeddings(server: OpenAIServer, client: openai.OpenAI) -> None:
    model = "text-embedding-3-small"
    one = client.embeddings.create(model=model, input="Hi there")  # the SDK asks for base64
    assert server.requests[0].json()["encoding_format"] == "base64"
    assert len(one.data[0].embedding) == 1536
    assert sum(number * number for number in one.data[0].embedding) == pytest.approx(1, abs=0.1)
    assert one.usage.prompt_tokens == 2
    floats = client.embeddings.create(model=model, input="Hi there", encoding_format="float")
    assert floats.data[0].embedding == pytest.approx(one.data[0].embedding)
    raw = requests.post(
        f"{server.base_url}/embeddings",
        json={"model": model, "input": ["a", "b"], "encoding_format": "base64", "dimensions": 4},
        timeout=10,
    ).json()
    assert [len(struct.unpack("<4f", base64.b64decode(item["embedding"]))) for item in raw["data"]] == [4, 4]
    ids = client.embeddings.create(model=model, input=[[1, 2, 3], [4]], dimensions=8)
    assert (len(ids.data), ids.usage.prompt_tokens) == (2, 4)
    assert len(client.embeddings.create(model=model, input=[1, 2, 3], dimensions=8).data) == 1


def test_legacy_completions(client: openai.OpenAI) -> None:
    completion = client.completions.create(model="m", prompt="Hi there")
    assert completion.choices[0].text == ANSWER
    assert completion.usage.total_tokens == 10
    stream = client.completions.create(
        model="m", prompt="Hi there", stream=True, stream_options={"include_usage": True}
    )
    *chunks, last = list(stream)
    assert "".join(chunk.choices[0].text for chunk in chunks) == ANSWER
    assert last.usage.total_tokens == 10


def test_models_and_unknown_paths(client: openai.OpenAI) -> None:
    assert "gpt-4o-mini" in [model.id for model in client.models.list()]
    with pytest.raises(openai.NotFoundError, match="Invalid URL"):
        client.post("/nothing", cast_to=object)


def test_azure_paths(server: OpenAIServer) -> None:
    with openai.AzureOpenAI(azure_endpoint=server.url, api_key="k", api_version="2024-10-21") as azure:
        completion = azure.chat.completions.create(model="my-deployment", messages=QUESTION)
    assert completion.model == "gpt-4o-mini-2024-07-18"
    assert server.requests[0].path == "/openai/deployments/my-deployment/chat/completions?api-version=2024-10-21"


async def ask_at_once(server: OpenAIServer, n: int) -> list[str]:
    async with openai.AsyncOpenAI(base_url=server.base_url, api_key="k") as client:

        async def ask(number: int) -> str:
            stream = await client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": str(number)}], stream=True
            )
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

        return await asyncio.gather(*(ask(number) for number in range(n)))


def test_async_calls_at_the_same_time(server: OpenAIServer) -> None:
    answers = asyncio.run(ask_at_once(server, 20))
    assert answers == [f'A made-up answer to "{number}".' for number in range(20)]
    assert len(server.requests) == 20


# --- OpenAI: faults ---


@pytest.mark.parametrize(
    ("model", "error"),
    [
        ("error-400", openai.BadRequestError),
        ("error-401", openai.AuthenticationError),
        ("error-404", openai.NotFoundError),
        ("error-429", openai.RateLimitError),
        ("error-500", openai.InternalServerError),
    ],
)
def test_errors_by_model_and_by_prompt(
    server: OpenAIServer, client: openai.OpenAI, model: str, error: type[openai.APIStatusError]
) -> None:
    with pytest.raises(error) as by_model:
        client.chat.completions.create(model=model, messages=QUESTION)
    assert by_model.value.body["message"]
    assert by_model.value.request_id.startswith("req_")
    assert len(server.requests) == (3 if by_model.value.status_code in (429, 500) else 1)
    with pytest.raises(error):
        client.responses.create(model="m", input=f"[{model}] Hi")


def test_a_request_openai_would_refuse(server: OpenAIServer, client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="m", messages=QUESTION, temperature=9)
    assert (refused.value.param, refused.value.code) == ("temperature", "decimal_above_max_value")
    assert requests.post(f"{server.base_url}/chat/completions", data=b"{", timeout=10).status_code == 400
    assert requests.post(f"{server.base_url}/responses", json={"model": "m"}, timeout=10).status_code == 400
    with pytest.raises(openai.AuthenticationError) as unknown:
        client.with_options(api_key="invalid").models.list()
    assert unknown.value.code == "invalid_api_key"


def test_flaky_429_once_for_each_prompt(server: OpenAIServer, client: openai.OpenAI) -> None:
    for prompt in ("one", "two"):
        client.chat.completions.create(model="flaky-429", messages=[{"role": "user", "content": prompt}])
    client.chat.completions.create(model="flaky-429", messages=[{"role": "user", "content": "one"}])
    assert [request.headers["x-stainless-retry-count"] for request in server.requests] == ["0", "1", "0", "1", "0"]


def test_slow_and_hang(client: openai.OpenAI) -> None:
    hasty = client.with_options(timeout=0.1, max_retries=0)
    for model in ("slow", "hang"):
        with pytest.raises(openai.APITimeoutError):
            hasty.chat.completions.create(model=model, messages=QUESTION)
    assert client.chat.completions.create(model="slow", messages=QUESTION).choices[0].message.content == ANSWER


def test_close_ends_a_hanging_call(server: OpenAIServer, client: openai.OpenAI) -> None:
    failed: list[openai.APIConnectionError] = []

    def call() -> None:
        try:
            client.with_options(max_retries=0).chat.completions.create(model="hang", messages=QUESTION)
        except openai.APIConnectionError as error:
            failed.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    wait_until(lambda: len(server.requests) == 1, "the request did not arrive")
    server.close()
    thread.join(10)
    assert failed


def test_cut_and_error_in_stream(client: openai.OpenAI) -> None:
    for model, error in (("cut", openai.APIConnectionError), ("error-in-stream", openai.APIError)):
        for stream in (
            client.chat.completions.create(model=model, messages=QUESTION, stream=True),
            client.responses.create(model=model, input="Hi", stream=True),
            client.completions.create(model=model, prompt="Hi", stream=True),
        ):
            assert next(stream)
            with pytest.raises(error):
                list(stream)
    with pytest.raises(openai.APIConnectionError):
        client.with_options(max_retries=0).chat.completions.create(model="cut", messages=QUESTION)


def test_long_and_slow_stream(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(model="long", messages=QUESTION, stream=True))
    assert sum(bool(chunk.choices[0].delta.content) for chunk in chunks) == 200
    started = time.monotonic()
    chunks = list(client.chat.completions.create(model="slow-stream", messages=QUESTION, stream=True))
    assert time.monotonic() - started > 0.02 * (len(chunks) - 1)


def test_script_comes_before_the_default_behaviour(server: OpenAIServer, client: openai.OpenAI) -> None:
    first, second = threading.Event(), threading.Event()
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    piece = f"data: {json.dumps({**chunk, 'choices': []})}\n\n"
    server.script(
        Answer(418, {"x-tea": "pot"}, {"error": {"message": "short and stout"}}),
        Answer(chunks=[piece, second, piece.encode(), "data: [DONE]\n\n"], hold=first),
        sse({**chunk, "choices": [{"index": 0, "delta": {"content": "scripted"}}]}),
        Answer(reset=True),
    )
    with pytest.raises(openai.APIStatusError, match="short and stout") as refused:
        client.chat.completions.create(model="m", messages=QUESTION)
    assert refused.value.response.headers["x-tea"] == "pot"
    assert refused.value.request_id
    first.set()
    stream = client.chat.completions.create(model="m", messages=QUESTION, stream=True)
    assert next(stream).choices == []
    second.set()
    assert len(list(stream)) == 1
    (only,) = client.chat.completions.create(model="m", messages=QUESTION, stream=True)
    assert only.choices[0].delta.content == "scripted"
    with pytest.raises(openai.APIConnectionError):
        client.with_options(max_retries=0).chat.completions.create(model="m", messages=QUESTION)
    assert client.chat.completions.create(model="m", messages=QUESTION).choices[0].message.content == ANSWER


def test_runs_as_a_program() -> None:
    command = [sys.executable, "-W", "error", "-m", "posthog_autoinstrument.testing.openai_server", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            base_url = process.stdout.readline().strip()
            with openai.OpenAI(base_url=base_url, api_key="k") as client:
                assert client.chat.completions.create(model="m", messages=QUESTION).choices
        finally:
            process.terminate()


def test_needs_no_openai_package() -> None:
    code = (
        "import sys, posthog_autoinstrument.testing as t; t.OpenAIServer().close(); t.PostHogServer().close();"
        "assert not {'openai', 'httpx', 'httpx2', 'requests'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- PostHog ---


def event(name: str = "$ai_generation", **more: Any) -> dict[str, Any]:
    return {"event": name, "distinct_id": "u", "uuid": str(uuid.uuid4()), "properties": {"a": 1}, **more}


def send(
    posthog: PostHogServer, *events: Any, path: str = "/i/v0/ai/batch/", token: str | None = "phc_x", **more: Any
) -> requests.Response:
    body = json.dumps({"api_key": token, "batch": events, **more}).encode()
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    return requests.post(posthog.url + path, data=gzip.compress(body), headers=headers, timeout=10)


def test_posthog_records_events(posthog: PostHogServer) -> None:
    sent = [event(), event("$ai_embedding"), event("$ai_span")]
    assert send(posthog, *sent[:2]).json() == {"status": "Ok"}
    assert send(posthog, sent[2]).status_code == 200
    assert posthog.wait_for(3) == sent == posthog.events
    first = posthog.requests[0]
    assert (first.path, first.status, first.headers["content-encoding"]) == ("/i/v0/ai/batch/", 200, "gzip")
    assert first.json()["batch"] == sent[:2]
    assert first.raw_size < len(first.body)
    assert requests.get(posthog.url, timeout=10).status_code == 200
    assert requests.get(posthog.url + "/nowhere", timeout=10).status_code == 404


def test_posthog_takes_other_events_elsewhere(posthog: PostHogServer) -> None:
    assert send(posthog, event("clicked"), path="/batch/").status_code == 200
    single = {**event("$groupidentify"), "token": "phc_x"}
    assert requests.post(posthog.url + "/i/v0/e/", json=single, timeout=10).status_code == 200
    assert [got["event"] for got in posthog.wait_for(2)] == ["clicked", "$groupidentify"]


def test_posthog_wait_says_what_came(posthog: PostHogServer) -> None:
    send(posthog, event())
    with pytest.raises(AssertionError, match=r"1 came: \['\$ai_generation'\].*\('/i/v0/ai/batch/', 200\)"):
        posthog.wait_for(2, timeout_s=0.01)


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        ({"event": ""}, 400),
        ({"event": None}, 400),
        ({"event": "clicked"}, 400),
        ({"distinct_id": None}, 400),
        ({"uuid": "not-a-uuid"}, 400),
        ({"uuid": 7}, 400),
        ({"properties": {"a": float("nan")}}, 400),
        ({"properties": {"a": "\ud800"}}, 400),
        ({"properties": []}, 400),
        ({"properties": {"a": "x" * 8 * 1024 * 1024}}, 413),
    ],
)
def test_posthog_refuses_a_batch_for_one_bad_event(posthog: PostHogServer, bad: dict[str, Any], status: int) -> None:
    assert send(posthog, event(), {**event(), **bad}).status_code == status
    assert posthog.events == []
    assert posthog.requests[0].status == status


def test_the_token_of_a_batch_wins_over_those_of_its_events(posthog: PostHogServer) -> None:
    """PostHog/posthog rust/capture/src/v0_request.rs, `extract_and_verify_token` and its tests."""
    sent = [event(token="phc_other"), event(properties={"token": "my own"}), event(properties={"token": 5})]
    assert send(posthog, *sent).status_code == 200
    assert send(posthog, *sent, path="/batch/", token=None, api_key="phc_y\n").status_code == 200
    assert posthog.wait_for(6) == sent + sent


def test_events_without_a_batch_must_agree_on_a_token(posthog: PostHogServer) -> None:
    def post(*tokens: str) -> int:
        events = [event("e", token=token) for token in tokens]
        return requests.post(posthog.url + "/e/", json=events, timeout=10).status_code

    assert [post("phc_a", "phc_a"), post("phc_a", "phc_b"), post(""), post("phx_a")] == [200, 401, 401, 401]
    own = event("e", properties={"token": "phc_a"})
    assert requests.post(posthog.url + "/e/", json=[own, event("e", **{"$token": "phc_a"})], timeout=10).ok


def test_posthog_refuses_bad_requests(posthog: PostHogServer) -> None:
    assert send(posthog).status_code == 400
    assert send(posthog, "text").status_code == 400
    for token in (None, "", " ", "phx_personal", "phc_" + "x" * 61, "phc_\xe9", "phc_\0"):
        assert send(posthog, event(), token=token).status_code == 401
    for data in (b"", b"{", b"[]", b"\xff", b"\x1f\x8bnot gzip"):
        assert requests.post(posthog.url + "/batch/", data=data, timeout=10).status_code == 400
    posthog.max_body_bytes = 10
    assert send(posthog, event()).status_code == 413


def test_posthog_limits_are_settable(posthog: PostHogServer) -> None:
    posthog.max_event_bytes, posthog.max_analytics_event_bytes = 2000, 1000
    large = event(properties={"a": "x" * 1500})
    assert send(posthog, large).status_code == 200
    assert send(posthog, large, path="/batch/").status_code == 413
    assert "over the 1000-byte limit" in send(posthog, large, path="/batch/").text


def test_posthog_faults(posthog: PostHogServer) -> None:
    posthog.fail_next(
        Fault(503, {"retry-after": "7"}),
        Fault(429, recorded=True),
        Fault(reset=True),
        Fault(reset=True, recorded=True),
        Fault(hang=True, recorded=True),
    )
    refused = send(posthog, event())
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "7")
    assert send(posthog, event()).status_code == 429
    for _ in range(2):
        with pytest.raises(requests.ConnectionError):
            send(posthog, event())
    with contextlib.closing(requests.Session()) as session, pytest.raises(requests.ReadTimeout):
        session.post(posthog.url + "/batch/", json={"api_key": "phc_x", "batch": [event()]}, timeout=0.1)
    assert send(posthog, event()).status_code == 200
    assert len(posthog.wait_for(4)) == 4
    assert [request.status for request in posthog.requests] == [503, 429, None, None, None, 200]


def test_posthog_without_an_ai_path(posthog: PostHogServer) -> None:
    posthog.ai_path = False
    assert send(posthog, event()).status_code == 404
    assert send(posthog, event(), path="/batch/").status_code == 200
    assert [request.status for request in posthog.requests] == [404, 200]


def test_posthog_knows_tokens_where_it_looks_them_up(posthog: PostHogServer) -> None:
    """PostHog/posthog#54670: capture takes any token; flags answer 401, the configuration 404 for one of no project."""

    def statuses(token: str) -> list[int]:
        asked = json.dumps({"api_key": token, "distinct_id": "d", "disable_flags": True}).encode()
        flags = requests.post(f"{posthog.url}/flags/?v=2", data=asked, timeout=10)
        return [flags.status_code, requests.get(f"{posthog.url}/array/{token}/config.js", timeout=10).status_code]

    assert statuses("phc_any") == [200, 200]
    assert statuses("other") == [401, 404]
    posthog.tokens = {"other"}
    assert statuses("phc_any") == [401, 404]
    assert statuses("other") == [200, 200]
    assert posthog.requests == []
