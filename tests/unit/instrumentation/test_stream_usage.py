"""Token counts of streamed chats: asked for at hosts that take the question, and the answer hidden from the program.

Each program runs bare and under the launcher, and what it saw must be the same to the last byte.
"""

from __future__ import annotations

import json
import textwrap
from typing import Any

import pytest

from posthog_autoinstrument.testing import Answer, OpenAIServer

CHUNKS_SEEN = """
import asyncio, openai, typing
T = typing.TypeVar("T")
CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello \\"usage\\": null"}], "stream": True}

def show(chunk):
    print(chunk.model_dump_json(exclude_unset=True), sorted(chunk.model_fields_set), flush=True)

client = openai.OpenAI()
"""


@pytest.fixture
def both(run_program):
    """Run a program bare and launched, each before a server of its own; the launched run, and what both were asked."""

    def run(source: str, listed: bool = True, **env: str):
        program = CHUNKS_SEEN + textwrap.dedent(source)
        with OpenAIServer() as server:
            bare = run_program(program, launched=False, env={"OPENAI_BASE_URL": server.base_url})
            asked_bare = bodies(server)
        with OpenAIServer() as server:
            host = server.url.removeprefix("http://")
            extra = {"POSTHOG_AUTOINSTRUMENT_STREAM_USAGE_HOSTS": f"example.com, {host}"} if listed else {}
            ran = run_program(program, env={"OPENAI_BASE_URL": server.base_url, **extra, **env})
            asked = bodies(server)
        assert (ran.returncode, ran.stdout) == (bare.returncode, bare.stdout), ran.stderr
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout
        return ran, asked, asked_bare

    return run


def bodies(server: Any) -> list[dict[str, Any]]:
    return [json.loads(request.body) for request in server.requests if request.body]


def properties(ran: Any) -> list[dict[str, Any]]:
    return [event["properties"] for event in ran.events]


ASKED = {"include_usage": True}


class TestAsked:
    def test_create(self, both):
        ran, asked, asked_bare = both(
            """
            for chunk in client.chat.completions.create(**CHAT):
                show(chunk)
            """
        )
        assert asked == [{**asked_bare[0], "stream_options": ASKED}]
        (found,) = properties(ran)
        assert found["$ai_input_tokens"] == 5  # 19 characters, one token for every 4 begun
        assert found["$ai_output_tokens"] > 0
        assert found["$ai_stream"] is True
        assert "stream_options" not in found["$ai_model_parameters"]

    def test_async_and_every_way_to_read(self, both):
        ran, asked, _ = both(
            """
            async def main():
                async with openai.AsyncOpenAI() as client:
                    async for chunk in await client.chat.completions.create(**CHAT):
                        show(chunk)
                    stream = await client.chat.completions.create(**CHAT, n=2)
                    show(await stream.__anext__())
                    async for chunk in stream:
                        show(chunk)
                    async with await client.chat.completions.create(**CHAT) as stream:
                        async for chunk in stream:
                            show(chunk)
                            break
                    legacy = {"model": "gpt-3.5-turbo-instruct", "prompt": "Hi", "stream": True}
                    async for chunk in await client.completions.create(**legacy):
                        show(chunk)
            asyncio.run(main())
            with client.chat.completions.create(**CHAT) as stream:
                show(next(stream))
                for chunk in stream:
                    show(chunk)
            for chunk in client.post("/chat/completions", body={**CHAT, "model": "gpt-4o"}, cast_to=object, stream=True,
                                     stream_cls=openai.Stream[openai.types.chat.ChatCompletionChunk]):
                print(repr(chunk))
            """
        )
        assert [body.get("stream_options") for body in asked] == [ASKED] * 6
        found = properties(ran)
        assert len(found) == 6
        # All but the one that was left after its first chunk.
        assert sum("$ai_output_tokens" in one for one in found) == 5

    def test_stream_helper(self, both):
        ran, asked, _ = both(
            """
            options = {name: value for name, value in CHAT.items() if name != "stream"}
            stream = getattr(client.chat.completions, "stream", None)
            if stream is None:
                print("no helper")
            else:
                with stream(**options) as events:
                    for event in events:
                        print(event)
                print(events.get_final_completion())
            """
        )
        if "no helper" in ran.stdout:
            pytest.skip("this SDK has no chat.completions.stream")
        assert asked[0]["stream_options"] == ASKED
        assert properties(ran)[0]["$ai_output_tokens"] > 0

    def test_other_stream_options_are_kept(self, both):
        ran, asked, _ = both(
            """
            for chunk in client.chat.completions.create(**CHAT, stream_options={"include_obfuscation": False}):
                show(chunk)
            """
        )
        assert asked[0]["stream_options"] == {"include_obfuscation": False, "include_usage": True}
        assert properties(ran)[0]["$ai_output_tokens"] > 0

    def test_what_the_program_gave_is_not_changed(self, both):
        both(
            """
            body = {**CHAT, "model": "gpt-4o"}
            list(client.post("/chat/completions", body=body, cast_to=object, stream=True,
                 stream_cls=openai.Stream[openai.types.chat.ChatCompletionChunk]))
            print(body)
            """
        )


class TestNotAsked:
    @pytest.mark.parametrize(
        ("call", "stream_options"),
        [
            ('client.chat.completions.create(**CHAT, stream_options={"include_usage": True})', {"include_usage": True}),
            (
                'client.chat.completions.create(**CHAT, stream_options={"include_usage": False})',
                {"include_usage": False},
            ),
            ('client.chat.completions.create(**CHAT, extra_body={"stream_options": None})', None),
            ("client.chat.completions.with_raw_response.create(**CHAT).parse()", None),
        ],
    )
    def test_where_the_program_sees_it(self, both, call, stream_options):
        ran, asked, asked_bare = both(
            f"""
            for chunk in {call}:
                show(chunk)
            """
        )
        assert asked == asked_bare
        assert asked[0].get("stream_options") == stream_options
        expected = stream_options == ASKED
        assert ("$ai_output_tokens" in properties(ran)[0]) is expected

    def test_raw_streaming_response(self, both):
        _, asked, asked_bare = both(
            """
            with client.chat.completions.with_streaming_response.create(**CHAT) as response:
                for line in response.iter_lines():
                    print(line)
            """
        )
        assert asked == asked_bare

    def test_a_stream_whose_body_the_program_reads(self, both):
        ran, asked, _ = both(
            """
            print(list(client.chat.completions.create(**CHAT).response.iter_lines()))
            print(client.chat.completions.create(**CHAT).response.read())

            async def main():
                client = openai.AsyncOpenAI()
                stream = await client.chat.completions.create(**CHAT)
                print([line async for line in stream.response.aiter_lines()])
                stream = await client.chat.completions.create(**CHAT)
                print(b"".join([piece async for piece in stream.response.aiter_raw()]))

            asyncio.run(main())
            """
        )
        assert [body["stream_options"] for body in asked] == [ASKED] * 4
        assert ["$ai_output_tokens" in found for found in properties(ran)] == [True] * 4

    def test_a_body_that_does_not_ask_for_a_stream_after_all(self, both):
        _, asked, asked_bare = both(
            """
            print(len(list(client.chat.completions.create(**CHAT, extra_body={"stream": False}))))
            """
        )
        assert asked == asked_bare

    def test_hosts_that_nobody_listed(self, both):
        ran, asked, asked_bare = both("print(len(list(client.chat.completions.create(**CHAT))))", listed=False)
        assert asked == asked_bare
        found = properties(ran)[0]
        assert not {"$ai_input_tokens", "$ai_output_tokens", "$ai_usage"} & set(found)

    def test_switched_off(self, both):
        _, asked, asked_bare = both(
            "print(len(list(client.chat.completions.create(**CHAT))))", POSTHOG_AUTOINSTRUMENT_STREAM_USAGE="0"
        )
        assert asked == asked_bare

    def test_calls_that_do_not_stream(self, both):
        _, asked, asked_bare = both(
            """
            print(client.chat.completions.create(**{**CHAT, "stream": False}))
            print(client.embeddings.create(model="text-embedding-3-small", input="x").usage)
            """
        )
        assert asked == asked_bare

    def test_a_stream_class_of_the_programs_own(self, both):
        _, asked, asked_bare = both(
            """
            class Lines(openai.Stream[T]):
                def _iter_events(self):
                    for event in super()._iter_events():
                        print(event.data)
                        yield event
            lines = Lines[object]
            print(len(list(client.post("/chat/completions", body=CHAT, cast_to=object, stream=True, stream_cls=lines))))
            """
        )
        assert asked == asked_bare


class TestRefused:
    REFUSAL = Answer(
        status=400,
        body={
            "error": {"message": "Unrecognized request argument supplied: stream_options", "type": "invalid_request"}
        },
    )

    def test_a_host_that_refuses_is_not_asked_again(self, run_program, openai_server):
        openai_server.script(self.REFUSAL)
        host = openai_server.url.removeprefix("http://")
        ran = run_program(
            CHUNKS_SEEN
            + textwrap.dedent(
                """
                try:
                    client.chat.completions.create(**CHAT)
                except openai.BadRequestError as error:
                    print("refused", error.status_code)
                for number in range(2):
                    print(len(list(client.chat.completions.create(**CHAT))))
                """
            ),
            env={"POSTHOG_AUTOINSTRUMENT_STREAM_USAGE_HOSTS": host},
        )
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.startswith("refused 400\n")
        assert [body.get("stream_options") for body in bodies(openai_server)] == [ASKED, None, None]
        assert ran.stderr.count("is not asked again") == 1
        assert host in ran.stderr
        assert [event["properties"].get("$ai_is_error", False) for event in ran.events] == [True, False, False]


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        ('{"choices":[{"delta":{"content":"a"}}],"usage":null}', '{"choices":[{"delta":{"content":"a"}}]}'),
        ('{"choices":[{"x":1}],"usage":null,"obfuscation":"q7"}', '{"choices":[{"x":1}],"obfuscation":"q7"}'),
        ('{"usage":null,"choices":[{"x":1}]}', '{"choices": [{"x": 1}]}'),
        ('{"choices":[{"usage":null}],"usage":null}', '{"choices": [{"usage": null}]}'),
        ('{"choices":[{"usage":null}]}', '{"choices":[{"usage":null}]}'),
        ('{"choices":[{"d":"\\\\"usage\\\\":null"}],"usage":null}', '{"choices":[{"d":"\\\\"usage\\\\":null"}]}'),
        ('{"choices":[{"d":1}],"usage":{"total_tokens":3}}', '{"choices": [{"d": 1}]}'),
        ('{"choices":[],"usage":{"total_tokens":3}}', None),
        ('{"id":"c","choices":[],"usage":{"a":3},"x_groq":{"id":"r"},"provider":"Groq"}', None),
        ('{"choices":[],"usage":{"a":3},"moderation":{"b":1}}', '{"choices": [], "moderation": {"b": 1}}'),
        ('{"choices":[],"moderation":{"b":1},"usage":{"a":3}}', '{"choices": [], "moderation": {"b": 1}}'),
        ('{"choices":[],"usage":{"a":3},"next":[0]}', '{"choices": [], "next": [0]}'),
        ('{"choices":[],"usage":null,"prompt_filter_results":[]}', '{"choices": [], "prompt_filter_results": []}'),
        ('{"error":{"message":"usage"},"usage":{}}', '{"error": {"message": "usage"}}'),
        ('{"choices":[],"usage":', '{"choices":[],"usage":'),
        ('["usage"]', '["usage"]'),
    ],
)
def test_what_is_hidden(data: str, shown: str | None) -> None:
    from openai._streaming import ServerSentEvent

    from posthog_autoinstrument.instrumentation.stream_usage import hidden

    event = hidden(ServerSentEvent(event="message", data=data, id="7", retry=5))
    assert (event.data if event is not None else None) == shown
    if event is not None:
        assert (event.event, event.id, event.retry) == ("message", "7", 5)


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b'data: {"choices":[1],"usage":null}\n\ndata: [DONE]\n\n', b'data: {"choices":[1]}\n\ndata: [DONE]\n\n'),
        (b'data: {"choices":[],"usage":{}}\r\n\r\ndata: [DONE]\r\n\r\n', b"data: [DONE]\r\n\r\n"),
        (b': hi\rid: 1\rdata: {"choices":[1],"usage":null}\r\r', b': hi\rid: 1\rdata: {"choices":[1]}\r\r'),
        (b'data: {"choices":[1],\ndata: "usage":null}\n\n', b'data: {"choices":[1]}\n\n'),
        (b'data: {"usage":null\n\n\n\ndata:{"a":"\xff"}\n\n', b'data: {"usage":null\n\n\n\ndata:{"a":"\xff"}\n\n'),
        (b'data: {"a":"\xff","usage":null}\n\n', b'data: {"a":"\xff"}\n\n'),
        (b'data: {"choices":[1],"usage":nu', b'data: {"choices":[1],"usage":nu'),
        (b"", b""),
    ],
)
def test_what_is_hidden_of_a_body_in_any_pieces(body: bytes, shown: bytes) -> None:
    from posthog_autoinstrument.instrumentation.stream_usage import UsageFilter

    for size in (1, 2, 3, 7, 1000):
        filtered = UsageFilter()
        pieces = [filtered.feed(body[start : start + size]) for start in range(0, len(body), size)]
        assert b"".join([*pieces, filtered.rest()]) == shown
