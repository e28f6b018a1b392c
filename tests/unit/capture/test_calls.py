"""Every call shape of the OpenAI SDK is exactly one event with the right facts, and the program gets its own result."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any, ClassVar

import openai
import pytest
from pydantic import BaseModel
from support import calls
from support.calls import HELLO
from support.features import httpx, needs

from posthog_autoinstrument.instrumentation import transport as wire
from posthog_autoinstrument.testing import Answer, sse

ANSWER = 'A made-up answer to "Hello".'
OUTPUT = [{"role": "assistant", "content": [{"type": "text", "text": ANSWER}]}]


class Book(BaseModel):
    title: str


def facts(event: dict[str, Any]) -> dict[str, Any]:
    return event["properties"]


def assert_generation(event: dict[str, Any], stream: bool = False, tokens: bool = True) -> dict[str, Any]:
    found = facts(event)
    assert event["event"] == "$ai_generation"
    assert found["$ai_model"] == "gpt-4o-mini-2024-07-18"
    assert found["$ai_provider"] == "openai"
    assert found["$ai_http_status"] == 200
    assert found["$ai_input"] == HELLO
    assert found["$ai_output_choices"] == OUTPUT
    assert found["$ai_stream"] is stream
    assert found["$ai_latency"] > 0
    assert ("$ai_input_tokens" in found) is tokens
    assert ("$ai_time_to_first_token" in found) is stream
    assert "$ai_is_error" not in found
    return found


def arun(coroutine: Any) -> Any:
    return asyncio.run(coroutine)


@pytest.fixture
def make_async(openai_server):
    def make() -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=openai_server.base_url, api_key="sk-test", max_retries=2)

    return make


CHAT = calls.CHAT.arguments


class TestChat:
    @pytest.mark.basics
    def test_create(self, client, captured):
        answer = client.chat.completions.create(**CHAT, temperature=0.5, max_tokens=9)
        assert answer.choices[0].message.content == ANSWER
        found = assert_generation(*captured(1))
        assert found["$ai_model_parameters"] == {"temperature": 0.5, "max_tokens": 9, "service_tier": "default"}

    @pytest.mark.basics
    def test_async_create(self, make_async, captured):
        async def main():
            async with make_async() as client:
                return await client.chat.completions.create(**CHAT)

        assert arun(main()).choices[0].message.content == ANSWER
        assert_generation(*captured(1))

    @needs("chat.completions.parse")
    def test_parse(self, client, captured):
        answer = client.chat.completions.parse(**CHAT, response_format=Book)
        assert isinstance(answer.choices[0].message.parsed, Book)
        (event,) = captured(1)
        assert facts(event)["$ai_output_choices"][0]["content"][0]["text"] == answer.choices[0].message.content

    @needs("chat.completions.parse")
    def test_async_parse(self, make_async, captured):
        async def main():
            async with make_async() as client:
                return await client.chat.completions.parse(**CHAT, response_format=Book)

        assert isinstance(arun(main()).choices[0].message.parsed, Book)
        captured(1)

    @pytest.mark.basics
    def test_stream(self, client, captured):
        stream = client.chat.completions.create(**CHAT, stream=True)
        assert type(stream) is openai.Stream
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == ANSWER
        assert_generation(*captured(1), stream=True, tokens=False)

    def test_stream_with_usage(self, client, captured):
        list(client.chat.completions.create(**CHAT, stream=True, stream_options={"include_usage": True}))
        found = assert_generation(*captured(1), stream=True)
        assert found["$ai_output_tokens"] > 0

    @pytest.mark.basics
    def test_async_stream(self, make_async, captured):
        async def main():
            async with make_async() as client:
                stream = await client.chat.completions.create(**CHAT, stream=True)
                assert type(stream) is openai.AsyncStream
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

        assert arun(main()) == ANSWER
        assert_generation(*captured(1), stream=True, tokens=False)

    @needs("chat.completions.stream")
    def test_stream_helper(self, client, captured):
        with client.chat.completions.stream(**CHAT, posthog_distinct_id="u7") as stream:
            assert stream.get_final_completion().choices[0].message.content == ANSWER
        (event,) = captured(1)
        assert_generation(event, stream=True, tokens=False)
        assert event["distinct_id"] == "u7"

    @needs("chat.completions.stream")
    def test_async_stream_helper(self, make_async, captured):
        async def main():
            async with (
                make_async() as client,
                client.chat.completions.stream(**CHAT, posthog_distinct_id="u8") as stream,
            ):
                return await stream.get_final_completion()

        assert arun(main()).choices[0].message.content == ANSWER
        (event,) = captured(1)
        assert_generation(event, stream=True, tokens=False)
        assert event["distinct_id"] == "u8"

    @needs("beta.chat.completions.parse")
    def test_beta_parse_and_stream_helper(self, client, make_async, captured):
        chats = client.beta.chat.completions
        chats.parse(**CHAT, response_format=Book, posthog_distinct_id="u1")
        with chats.stream(**CHAT, posthog_distinct_id="u2") as stream:
            stream.get_final_completion()

        async def main():
            async with make_async() as client:
                chats = client.beta.chat.completions
                await chats.parse(**CHAT, response_format=Book, posthog_distinct_id="u3")
                async with chats.stream(**CHAT, posthog_distinct_id="u4") as stream:
                    await stream.get_final_completion()

        arun(main())
        events = captured(4)
        assert [event["distinct_id"] for event in events] == ["u1", "u2", "u3", "u4"]
        assert [facts(event)["$ai_stream"] for event in events] == [False, True, False, True]

    @pytest.mark.basics
    def test_raw_response(self, client, captured):
        raw = client.chat.completions.with_raw_response.create(**CHAT, posthog_distinct_id="u9")
        assert raw.headers["x-request-id"]
        assert raw.parse().choices[0].message.content == ANSWER
        (event,) = captured(1)
        assert_generation(event)
        assert event["distinct_id"] == "u9"

    def test_raw_response_never_parsed(self, client, captured):
        client.chat.completions.with_raw_response.create(**CHAT)
        assert_generation(*captured(1))

    def test_raw_stream_parsed_in_another_thread(self, client, captured):
        raw = client.chat.completions.with_raw_response.create(**CHAT, stream=True)
        thread = threading.Thread(target=lambda: list(raw.parse()))
        thread.start()
        thread.join()
        assert_generation(*captured(1), stream=True, tokens=False)

    def test_raw_stream_read_as_lines(self, client, captured):
        raw = client.chat.completions.with_raw_response.create(**CHAT, stream=True)
        assert list(raw.http_response.iter_lines())[-2] == "data: [DONE]"
        found = facts(*captured(1))
        assert found["$ai_output_choices"] == OUTPUT
        assert found["$ai_stream"] is True

    def test_streaming_response_parsed(self, client, captured):
        with client.chat.completions.with_streaming_response.create(**CHAT) as response:
            assert response.parse().choices[0].message.content == ANSWER
        assert_generation(*captured(1))

    def test_streaming_response_lines(self, client, captured):
        with client.chat.completions.with_streaming_response.create(**CHAT, stream=True) as response:
            assert [line for line in response.iter_lines() if line][-1] == "data: [DONE]"
        found = facts(*captured(1))
        assert found["$ai_output_choices"] == OUTPUT

    def test_streaming_response_never_read(self, client, captured):
        with client.chat.completions.with_streaming_response.create(**CHAT) as response:
            assert response.status_code == 200
        found = facts(*captured(1))
        assert found["$ai_http_status"] == 200
        assert found["$ai_output_choices"] == []

    def test_async_raw_and_streaming_response(self, make_async, captured):
        async def main():
            async with make_async() as client:
                raw = await client.chat.completions.with_raw_response.create(**CHAT)
                assert raw.parse().choices[0].message.content == ANSWER
                async with client.chat.completions.with_streaming_response.create(**CHAT) as response:
                    assert (await response.parse()).choices[0].message.content == ANSWER
                async with client.chat.completions.with_streaming_response.create(**CHAT, stream=True) as response:
                    assert [line async for line in response.iter_lines() if line][-1] == "data: [DONE]"

        arun(main())
        first, second, third = captured(3)
        assert_generation(first)
        assert_generation(second)
        assert facts(third)["$ai_output_choices"] == OUTPUT

    @pytest.mark.basics
    def test_post_by_hand(self, client, captured):
        client.post("/chat/completions", body=CHAT, cast_to=openai.types.chat.ChatCompletion)
        assert_generation(*captured(1))

    def test_with_options_and_module_client(self, client, captured):
        client.with_options(timeout=5).chat.completions.create(**CHAT)
        assert_generation(*captured(1))

    def test_azure(self, openai_server, captured):
        client = openai.AzureOpenAI(
            azure_endpoint=openai_server.url, api_key="k", api_version="2024-10-21", azure_deployment="my-deployment"
        )
        client.chat.completions.create(**CHAT)
        found = facts(*captured(1))
        assert found["$ai_provider"] == "azure"
        assert found["$ai_model"].startswith("gpt-4o-mini")
        assert "/openai/deployments/my-deployment/chat/completions" in found["$ai_request_url"]
        client.close()

    @pytest.mark.basics
    def test_legacy_completions(self, client, captured):
        answer = client.completions.create(**calls.COMPLETIONS.arguments)
        found = facts(*captured(1))
        assert found["$ai_input"] == [{"role": "user", "content": "Hello"}]
        assert found["$ai_output_choices"][0]["content"] == [{"type": "text", "text": answer.choices[0].text}]

    @pytest.mark.basics
    def test_four_gathered_calls_keep_their_users(self, make_async, captured):
        async def main():
            async with make_async() as client:
                await asyncio.gather(
                    *(
                        client.chat.completions.create(**CHAT, posthog_distinct_id=f"user-{number}", user=f"{number}")
                        for number in range(4)
                    )
                )

        arun(main())
        assert sorted(event["distinct_id"] for event in captured(4)) == ["user-0", "user-1", "user-2", "user-3"]


@needs("responses")
class TestResponses:
    REQUEST: ClassVar[dict[str, Any]] = {"model": "gpt-4o-mini", "input": "Hello"}

    def test_create(self, client, captured):
        answer = client.responses.create(**self.REQUEST, instructions="Be brief.")
        found = facts(*captured(1))
        assert found["$ai_input"] == [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hello"},
        ]
        assert found["$ai_instructions"] == "Be brief."
        assert found["$ai_output_choices"] == [
            {"role": "assistant", "content": [{"type": "text", "text": answer.output_text}]}
        ]
        assert found["$ai_stop_reason"] == "completed"

    def test_parse_stream_raw_and_async(self, client, make_async, captured):
        client.responses.parse(**self.REQUEST, text_format=Book)
        assert list(client.responses.create(**self.REQUEST, stream=True))[-1].type == "response.completed"
        with client.responses.stream(**self.REQUEST) as stream:
            stream.get_final_response()
        client.responses.with_raw_response.create(**self.REQUEST)

        async def main():
            async with make_async() as aclient:
                await aclient.responses.create(**self.REQUEST)
                await aclient.responses.parse(**self.REQUEST, text_format=Book)
                async with aclient.responses.stream(**self.REQUEST) as stream:
                    await stream.get_final_response()
                async for _ in await aclient.responses.create(**self.REQUEST, stream=True):
                    pass

        arun(main())
        for event in captured(8):
            found = facts(event)
            assert found["$ai_input"] == [{"role": "user", "content": "Hello"}]
            assert found["$ai_output_tokens"] > 0
            assert found["$ai_output_choices"][0]["content"][0]["text"]
            assert ("$ai_time_to_first_token" in found) is found["$ai_stream"]

    def test_a_failed_response_is_an_error(self, client, openai_server, captured):
        failed = {
            "id": "resp_1",
            "object": "response",
            "created_at": 1,
            "status": "failed",
            "error": {"code": "server_error", "message": "The model broke."},
            "model": "gpt-4o-mini-2024-07-18",
            "output": [],
            "usage": {"input_tokens": 3, "output_tokens": 0, "total_tokens": 3},
        }
        openai_server.script(Answer(body=failed), sse({"type": "response.failed", "response": failed}, done=False))
        client.responses.create(**self.REQUEST)
        list(client.responses.create(**self.REQUEST, stream=True))
        for event in captured(2):
            found = facts(event)
            assert found["$ai_is_error"] is True
            assert found["$ai_error"] == "The model broke."
            assert found["$ai_input_tokens"] == 3


@pytest.mark.basics
class TestEmbeddings:
    def test_create(self, client, captured):
        answer = client.embeddings.create(model="text-embedding-3-small", input=["one", "two"])
        assert len(answer.data) == 2
        (event,) = captured(1)
        assert event["event"] == "$ai_embedding"
        found = facts(event)
        assert found["$ai_input"] == ["one", "two"]
        assert found["$ai_input_tokens"] == answer.usage.prompt_tokens
        assert found["$ai_model"] == "text-embedding-3-small"
        assert "$ai_output_choices" not in found

    def test_large_and_async(self, make_async, captured):
        async def main():
            async with make_async() as client:
                return await client.embeddings.create(
                    model="text-embedding-3-small", input=["x"] * 50, encoding_format="float"
                )

        answer = arun(main())
        found = facts(*captured(1))
        assert found["$ai_input_tokens"] == answer.usage.prompt_tokens
        assert found["$ai_model"] == "text-embedding-3-small"


class TestErrors:
    @pytest.mark.basics
    @pytest.mark.parametrize(
        ("model", "error", "status", "requests"),
        [
            ("error-400", openai.BadRequestError, 400, 1),
            ("error-401", openai.AuthenticationError, 401, 1),
            ("error-404", openai.NotFoundError, 404, 1),
            ("error-429", openai.RateLimitError, 429, 3),
            ("error-500", openai.InternalServerError, 500, 3),
        ],
    )
    @pytest.mark.parametrize("stream", [False, True])
    def test_status_errors(self, client, openai_server, captured, model, error, status, requests, stream):
        with pytest.raises(error) as raised:
            client.chat.completions.create(model=model, messages=HELLO, stream=stream)
        assert len(openai_server.requests) == requests
        found = facts(*captured(1))
        assert found["$ai_is_error"] is True
        assert found["$ai_http_status"] == status
        assert found["$ai_error"].startswith(f"{type(raised.value).__name__}: {raised.value}")
        assert found["$ai_model"] == model
        assert found["$ai_input"] == HELLO

    @pytest.mark.basics
    def test_async_status_error(self, make_async, captured):
        async def main():
            async with make_async() as client:
                await client.embeddings.create(model="error-429", input="x")

        with pytest.raises(openai.RateLimitError):
            arun(main())
        (event,) = captured(1)
        assert event["event"] == "$ai_embedding"
        assert facts(event)["$ai_http_status"] == 429

    @pytest.mark.basics
    def test_a_retry_that_succeeds_is_one_event_without_error(self, client, openai_server, captured):
        client.chat.completions.create(model="flaky-429", messages=HELLO)
        assert len(openai_server.requests) == 2
        found = facts(*captured(1))
        assert found["$ai_http_status"] == 200
        assert "$ai_is_error" not in found

    def test_timeout(self, client, captured):
        with pytest.raises(openai.APITimeoutError):
            client.with_options(timeout=0.1, max_retries=0).chat.completions.create(model="hang", messages=HELLO)
        found = facts(*captured(1))
        assert found["$ai_error"].startswith("APITimeoutError: Request timed out. (caused by ReadTimeout: ")
        assert found["$ai_http_status"] == 0
        assert found["$ai_input"] == HELLO
        assert found["$ai_model"] == "hang"

    @pytest.mark.basics
    def test_connection_refused(self, captured):
        with (
            openai.OpenAI(base_url="http://127.0.0.1:9/v1", api_key="sk-test", max_retries=0) as client,
            pytest.raises(openai.APIConnectionError),
        ):
            client.chat.completions.create(**CHAT)
        found = facts(*captured(1))
        assert "Connection error." in found["$ai_error"]
        assert "[Errno 111] Connection refused" in found["$ai_error"]
        assert found["$ai_error_type"] == "APIConnectionError"
        assert found["$ai_input"] == HELLO

    def test_arguments_that_do_not_fit(self, client, make_async, captured):
        with pytest.raises(TypeError):
            client.chat.completions.create(model="gpt-4o-mini")
        with pytest.raises(TypeError):
            make_async().chat.completions.create(model="gpt-4o-mini")  # at the call, not when awaited
        for event in captured(2):
            found = facts(event)
            assert found["$ai_is_error"] is True
            assert found["$ai_model"] == "gpt-4o-mini"

    @needs("chat.completions.parse", "LengthFinishReasonError")
    def test_a_length_error_of_parse_keeps_its_tokens(self, client, openai_server, captured):
        openai_server.script(
            Answer(
                body={
                    "id": "c",
                    "object": "chat.completion",
                    "created": 1,
                    "model": "gpt-4o-mini-2024-07-18",
                    "choices": [
                        {"index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": "{"}}
                    ],
                    "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12},
                }
            )
        )
        with pytest.raises(openai.LengthFinishReasonError):
            client.chat.completions.parse(**CHAT, response_format=Book)
        found = facts(*captured(1))
        assert found["$ai_is_error"] is True
        assert found["$ai_output_tokens"] == 7
        assert found["$ai_stop_reason"] == "length"


class TestStreamEnds:
    def test_closed_early(self, client, captured):
        stream = client.chat.completions.create(model="long", messages=HELLO, stream=True)
        for number, _ in enumerate(stream):
            if number == 5:
                break
        stream.close()
        found = facts(*captured(1))
        assert "$ai_is_error" not in found
        assert found["posthog_autoinstrument_ending"] == "left early"
        assert found["$ai_output_choices"][0]["content"][0]["text"]

    @pytest.mark.parametrize(
        ("choice", "done", "ending"),
        [
            ({"delta": {"content": "Half"}, "finish_reason": "length"}, True, "length"),
            ({"delta": {"content": "Half"}, "finish_reason": "content_filter"}, True, "content_filter"),
            ({"delta": {"refusal": "No."}, "finish_reason": "stop"}, True, "refusal"),
            ({"delta": {"content": "Half"}}, False, "cut short"),
            ({"delta": {"content": "All"}, "finish_reason": "stop"}, False, None),
            ({"delta": {"content": "All"}}, True, None),
        ],
    )
    def test_answers_that_are_not_whole(self, client, openai_server, captured, choice, done, ending):
        openai_server.script(sse({"id": "c", "model": "m", "choices": [{"index": 0, **choice}]}, done=done))
        list(client.chat.completions.create(**CHAT, stream=True))
        assert facts(*captured(1)).get("posthog_autoinstrument_ending") == ending

    def test_with_block_left_early(self, client, captured):
        with client.chat.completions.create(model="long", messages=HELLO, stream=True) as stream:
            next(stream)
        captured(1)

    @needs("chat.completions.stream")
    def test_manager_left_early(self, client, captured):
        with client.chat.completions.stream(model="long", messages=HELLO) as stream:
            next(iter(stream))
        captured(1)

    def test_abandoned(self, client, captured):
        stream = client.chat.completions.create(model="long", messages=HELLO, stream=True)
        next(stream)
        del stream
        gc.collect()
        found = facts(*captured(1))
        assert "$ai_is_error" not in found

    def test_never_iterated(self, client, captured):
        stream = client.chat.completions.create(model="long", messages=HELLO, stream=True)
        del stream
        gc.collect()
        found = facts(*captured(1))
        assert found["$ai_output_choices"] == []

    def test_broken_midway(self, client, captured, error_of_a_broken_stream):
        with pytest.raises(error_of_a_broken_stream) as raised:
            list(client.chat.completions.create(model="cut", messages=HELLO, stream=True))
        found = facts(*captured(1))
        assert found["$ai_is_error"] is True
        assert found["$ai_error"].startswith(f"{type(raised.value).__name__}: {raised.value}")
        assert found["$ai_output_choices"][0]["content"][0]["text"]

    def test_error_event_inside(self, client, captured):
        with pytest.raises(openai.APIError) as raised:
            list(client.chat.completions.create(model="error-in-stream", messages=HELLO, stream=True))
        found = facts(*captured(1))
        assert found["$ai_is_error"] is True
        assert found["$ai_error"] == str(raised.value)

    @pytest.mark.parametrize(
        ("body", "said"),
        [
            ({"error": "model 'x' not found, try pulling it first"}, "try pulling it first"),
            ([{"error": {"code": 404, "message": "models/x is not found", "status": "NOT_FOUND"}}], "is not found"),
            ({"detail": [{"loc": ["body"], "msg": "field required"}]}, "field required"),
            ("slow down", "slow down"),
        ],
    )
    def test_what_the_server_says_in_its_own_shape(self, client, openai_server, captured, body, said):
        openai_server.script(Answer(status=404, body=body))
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(**CHAT)
        found = facts(*captured(1))
        assert found["$ai_error"].startswith("NotFoundError: ")
        assert said in found["$ai_error"]
        assert found["$ai_error_type"] == "NotFoundError"

    @pytest.mark.parametrize("kind", ["application/json", "text/html", "text/event-stream"])
    @pytest.mark.parametrize("is_async", [False, True])
    def test_an_answer_to_a_stream_that_is_none(self, client, make_async, openai_server, captured, kind, is_async):
        whole = {
            "id": "c",
            "model": "m",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2},
        }
        bodies = ({"error": {"message": "Quota exceeded"}}, whole, "<html><h1>502 Bad Gateway</h1></html>")
        openai_server.script(*(Answer(body=body, headers={"content-type": kind}) for body in bodies))

        async def read():
            async with make_async() as client:
                return [chunk async for chunk in await client.chat.completions.create(**CHAT, stream=True)]

        for _ in bodies:
            assert (arun(read()) if is_async else list(client.chat.completions.create(**CHAT, stream=True))) == []
        refused, answered, page = map(facts, captured(3))
        assert refused["$ai_error"] == "Quota exceeded"
        assert answered["$ai_output_choices"][0]["content"] == [{"type": "text", "text": "Hello"}]
        assert answered["$ai_input_tokens"] == 3
        assert "$ai_is_error" not in answered
        assert "502 Bad Gateway" in page["$ai_error"]

    def test_cancelled_task(self, make_async, captured):
        async def main():
            async with make_async() as client:
                came = asyncio.Event()

                async def read():
                    async for _ in await client.chat.completions.create(
                        model="slow-stream", messages=HELLO, stream=True
                    ):
                        came.set()

                task = asyncio.create_task(read())
                await came.wait()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

        arun(main())
        found = facts(*captured(1))
        assert found["$ai_is_error"] is True
        assert found["$ai_error"] == "cancelled"

    def test_cancelled_before_the_answer(self, make_async, captured):
        async def main():
            async with make_async() as client:
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(client.chat.completions.create(model="hang", messages=HELLO), 0.2)

        arun(main())
        assert facts(*captured(1))["$ai_error"] == "cancelled"

    def test_async_closed_early_and_broken(self, make_async, captured, error_of_a_broken_stream):
        async def main():
            async with make_async() as client:
                async with await client.chat.completions.create(model="long", messages=HELLO, stream=True) as stream:
                    await stream.__anext__()
                with pytest.raises(error_of_a_broken_stream):
                    async for _ in await client.chat.completions.create(model="cut", messages=HELLO, stream=True):
                        pass

        arun(main())
        closed, broken = captured(2)
        assert "$ai_is_error" not in facts(closed)
        assert facts(broken)["$ai_is_error"] is True

    def test_async_abandoned(self, make_async, captured):
        async def main():
            async with make_async() as client:
                stream = await client.chat.completions.create(model="long", messages=HELLO, stream=True)
                await stream.__anext__()
                del stream
                gc.collect()
                await asyncio.sleep(0)

        arun(main())
        captured(1)

    def test_an_answer_already_in_memory(self, captured):
        body = b'data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\ndata: [DONE]\n\n'
        transport = httpx().MockTransport(
            lambda request: httpx().Response(200, content=body, headers={"content-type": "text/event-stream"})
        )
        with openai.OpenAI(api_key="k", http_client=httpx().Client(transport=transport)) as client:
            list(client.chat.completions.create(**CHAT, stream=True))
        found = facts(*captured(1))
        assert found["$ai_output_choices"] == [{"role": "assistant", "content": [{"type": "text", "text": "Hi"}]}]


class TestSharedContexts:
    def test_two_tasks_in_one_context_keep_their_answers(self, make_async, captured):
        import contextvars
        import sys

        if sys.version_info < (3, 11):
            pytest.skip("asyncio.create_task(context=) came with Python 3.11")

        async def main():
            async with make_async() as client:
                shared = contextvars.copy_context()

                async def ask(model: str, text: str) -> str:
                    answer = await client.chat.completions.create(
                        model=model, messages=[{"role": "user", "content": text}]
                    )
                    return answer.choices[0].message.content

                tasks = [
                    asyncio.create_task(ask("slow", "A"), context=shared),
                    asyncio.create_task(ask("gpt-4o-mini", "B"), context=shared),
                    asyncio.create_task(ask("slow", "C"), context=shared),
                ]
                return await asyncio.gather(*tasks)

        answers = arun(main())
        found = {
            event["properties"]["$ai_input"][0]["content"]: event["properties"]["$ai_output_choices"][0]["content"][0][
                "text"
            ]
            for event in captured(3)
        }
        assert found == dict(zip("ABC", answers, strict=True))


class TestCallsInsideCalls:
    def test_a_call_made_by_a_generator_of_messages(self, client, captured):
        def messages() -> Any:
            client.embeddings.create(model="text-embedding-3-small", input="lookup", posthog_distinct_id="inner")
            client.chat.completions.create(**CHAT, posthog_distinct_id="other")
            client.models.list()
            yield from HELLO

        client.chat.completions.create(model="gpt-4o-mini", messages=messages(), posthog_distinct_id="outer")
        embedding, other, chat = captured(3)
        assert (embedding["event"], embedding["distinct_id"]) == ("$ai_embedding", "inner")
        assert (other["event"], other["distinct_id"]) == ("$ai_generation", "other")
        assert (chat["event"], chat["distinct_id"]) == ("$ai_generation", "outer")
        assert facts(chat)["$ai_input"] == HELLO

    @pytest.mark.parametrize("path", ["/v1/chat/completions", "v1/chat/completions", "/v1/chat/completions/"])
    def test_the_path_in_the_call_instead_of_the_base_url(self, openai_server, captured, path):
        with openai.OpenAI(base_url=openai_server.url, api_key="sk-test", max_retries=0) as client:
            try:
                client.post(path, body=CHAT, cast_to=openai.types.chat.ChatCompletion)
            except openai.NotFoundError:
                pass  # with a slash at the end the bundled server may not know it
        assert facts(*captured(1))["$ai_input"] == HELLO


def _closes_only_at_its_end(response, events):
    yield from events
    response.close()


def _closes_in_any_case(response, events):
    try:
        yield from events
    finally:
        response.close()


async def _closes_in_any_case_async(response, events):
    try:
        async for event in events:
            if event is None:
                return
            yield event
    finally:
        await response.aclose()


def test_readers_that_leave_a_failed_stream_open_are_told_apart():
    """openai 1.x never closes, 2.8 only at the end, 2.9 and later always: the first two get a tap for errors."""
    assert not wire._closes(_closes_only_at_its_end)
    assert wire._closes(_closes_in_any_case)
    assert wire._closes(_closes_in_any_case_async)


@needs("chat.completions.parse")
def test_a_method_that_calls_another_keeps_the_arguments(client, captured, monkeypatch):
    """As `beta.chat.completions.parse` of openai 1.40 does with `create`: one event, of the user that was named."""
    site = type(client.chat.completions).parse
    monkeypatch.setattr(site, "__wrapped__", lambda self, **arguments: self.create(**arguments))
    client.chat.completions.parse(**CHAT, posthog_distinct_id="named")
    (event,) = captured(1)
    assert event["distinct_id"] == "named"
