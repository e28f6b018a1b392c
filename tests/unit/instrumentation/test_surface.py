"""What the SDK offers beside chat, Responses and embeddings: each call one event with what was asked and answered."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import warnings
from typing import Any, ClassVar

import openai
import pytest
from support.features import needs, needs_argument

from posthog_autoinstrument.testing import Answer, sse

PICTURE = base64.b64encode(bytes(range(256)) * 400).decode()  # 102,400 bytes: 136,536 characters
IMAGE_USAGE = {
    "input_tokens": 50,
    "input_tokens_details": {"image_tokens": 40, "text_tokens": 10},
    "output_tokens": 1056,
    "total_tokens": 1106,
}
IMAGES = {"created": 1_750_000_000, "data": [{"b64_json": PICTURE}], "usage": IMAGE_USAGE}


@pytest.fixture
def script(openai_server):
    return openai_server.script


@pytest.fixture
def run_async(openai_server):
    """`run_async(lambda client: coroutine)`."""

    def run(main):
        async def outer():
            async with openai.AsyncOpenAI(base_url=openai_server.base_url, api_key="sk-test") as client:
                return await main(client)

        return asyncio.run(outer())

    return run


def said(event: dict[str, Any]) -> dict[str, Any]:
    return event["properties"]


class TestImages:
    def test_generate(self, client, captured, script):
        script(Answer(body=IMAGES))
        answer = client.images.generate(model="gpt-image-1", prompt="A fox", size="1024x1024", posthog_distinct_id="u1")
        assert answer.data[0].b64_json == PICTURE
        (event,) = captured(1)
        found = said(event)
        assert event["event"] == "$ai_generation"
        assert event["distinct_id"] == "u1"
        assert found["$ai_model"] == "gpt-image-1"
        assert found["$ai_input"] == [{"role": "user", "content": "A fox"}]
        (message,) = found["$ai_output_choices"]
        (picture,) = message["content"]
        assert picture["type"] == "image"
        assert picture["image"].startswith("[base64 image redacted, ")
        assert 95_000 < int(picture["image"].split()[3]) < 110_000  # the middle was left out, not counted
        assert found["$ai_input_tokens"] == 50
        assert found["$ai_image_input_tokens"] == 40
        assert found["$ai_output_tokens"] == 1056
        assert found["$ai_model_parameters"] == {"size": "1024x1024"}
        assert PICTURE[5000:5100] not in json.dumps(event)

    def test_generate_with_urls(self, client, captured, script):
        script(Answer(body={"data": [{"url": "https://x/1.png", "revised_prompt": "A red fox"}]}))
        client.images.generate(model="dall-e-3", prompt="A fox")
        (event,) = captured(1)
        (message,) = said(event)["$ai_output_choices"]
        assert message["content"] == [
            {"type": "image", "image": "https://x/1.png"},
            {"type": "text", "text": "A red fox"},
        ]
        assert "$ai_output_tokens" not in said(event)

    @needs_argument("images.edit", "background")  # it came with lists of pictures
    def test_edit_describes_the_files(self, client, captured, script, tmp_path):
        script(Answer(body=IMAGES))
        path = tmp_path / "mask.png"
        path.write_bytes(b"\x89PNG" + b"m" * 996)
        with path.open("rb") as mask:
            client.images.edit(
                model="gpt-image-1",
                image=[
                    ("one.png", b"\x89PNG" + b"1" * 96, "image/png"),
                    ("two.png", io.BytesIO(b"2" * 200), "image/png"),
                ],
                mask=mask,
                prompt="Make it blue",
            )
        (event,) = captured(1)
        (message,) = said(event)["$ai_input"]
        assert message["role"] == "user"
        assert message["content"] == [
            {"type": "text", "text": "Make it blue"},
            {"type": "file", "filename": "one.png", "content_type": "image/png", "bytes": 100},
            {"type": "file", "filename": "two.png", "content_type": "image/png", "bytes": 200},
            {"type": "file", "filename": "mask.png", "content_type": "image/png", "bytes": 1000},
        ]

    def test_edit_sends_what_it_sends_without_us(self, client, captured, script, openai_server):
        script(Answer(body=IMAGES))
        client.images.edit(model="gpt-image-1", image=io.BytesIO(b"2" * 200_000), prompt="x")
        assert b"2" * 200_000 in openai_server.requests[-1].body
        captured(1)

    def test_variation(self, client, captured, script):
        script(Answer(body={"data": [{"url": "https://x/1.png"}]}))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            client.images.create_variation(image=b"\x89PNG", n=1)
        (event,) = captured(1)
        assert said(event)["$ai_request_url"].endswith("/images/variations")

    @needs_argument("images.generate", "stream")
    @pytest.mark.parametrize("is_async", [False, True])
    def test_stream(self, client, run_async, captured, script, is_async):
        script(
            sse(
                {"type": "image_generation.partial_image", "b64_json": PICTURE, "partial_image_index": 0},
                {"type": "image_generation.completed", "b64_json": PICTURE, "usage": IMAGE_USAGE},
                done=False,
            )
        )
        asked: Any = {"model": "gpt-image-1", "prompt": "A fox", "stream": True, "partial_images": 1}
        if is_async:

            async def main(client):
                return [event async for event in await client.images.generate(**asked)]

            events = run_async(main)
        else:
            events = list(client.images.generate(**asked))
        assert [event.b64_json == PICTURE for event in events] == [True, True]
        (event,) = captured(1)
        found = said(event)
        (message,) = found["$ai_output_choices"]
        assert len(message["content"]) == 1
        assert found["$ai_output_tokens"] == 1056
        assert found["$ai_time_to_first_token"] > 0
        assert len(json.dumps(event)) < 10_000


class TestAudio:
    SOUND = bytes(range(256)) * 200

    def speech(self) -> Answer:
        return Answer(body=self.SOUND, headers={"content-type": "audio/mpeg"})

    def assert_speech(self, event: dict[str, Any]) -> None:
        found = said(event)
        assert event["event"] == "$ai_generation"
        assert found["$ai_model"] == "gpt-4o-mini-tts"
        assert found["$ai_input"] == [{"role": "user", "content": "Good morning"}]
        (message,) = found["$ai_output_choices"]
        (sound,) = message["content"]
        assert sound == {
            "type": "audio",
            "mime_type": "audio/mpeg",
            "data": f"[base64 audio redacted, {len(self.SOUND)} bytes]",
        }
        assert found["$ai_model_parameters"] == {"voice": "coral"}

    def test_speech(self, client, captured, script):
        script(self.speech())
        answer = client.audio.speech.create(model="gpt-4o-mini-tts", input="Good morning", voice="coral")
        assert answer.content == self.SOUND
        self.assert_speech(*captured(1))

    def test_speech_streamed_to_a_file(self, client, captured, script, tmp_path):
        script(self.speech())
        with client.audio.speech.with_streaming_response.create(
            model="gpt-4o-mini-tts", input="Good morning", voice="coral"
        ) as answer:
            answer.stream_to_file(tmp_path / "a.mp3")
        assert (tmp_path / "a.mp3").read_bytes() == self.SOUND
        self.assert_speech(*captured(1))

    def test_speech_async(self, run_async, captured, script):
        script(self.speech())

        async def main(client):
            async with client.audio.speech.with_streaming_response.create(
                model="gpt-4o-mini-tts", input="Good morning", voice="coral"
            ) as answer:
                return b"".join([piece async for piece in answer.iter_bytes()])

        assert run_async(main) == self.SOUND
        self.assert_speech(*captured(1))

    USAGE: ClassVar[Any] = {
        "type": "tokens",
        "input_tokens": 14,
        "input_token_details": {"text_tokens": 0, "audio_tokens": 14},
        "output_tokens": 45,
        "total_tokens": 59,
    }

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    @pytest.mark.parametrize("method", ["transcriptions", "translations"])
    def test_text_of_speech(self, client, captured, script, method):
        script(Answer(body={"text": "Good morning", "usage": self.USAGE}))
        answer = getattr(client.audio, method).create(
            model="gpt-4o-transcribe", file=("a.mp3", io.BytesIO(self.SOUND), "audio/mpeg"), prompt="A greeting"
        )
        assert answer.text == "Good morning"
        (event,) = captured(1)
        found = said(event)
        assert found["$ai_input"] == [
            {
                "role": "user",
                "content": [
                    {"type": "file", "filename": "a.mp3", "content_type": "audio/mpeg", "bytes": len(self.SOUND)},
                    {"type": "text", "text": "A greeting"},
                ],
            }
        ]
        assert found["$ai_output_choices"] == [
            {"role": "assistant", "content": [{"type": "text", "text": "Good morning"}]}
        ]
        assert (found["$ai_input_tokens"], found["$ai_output_tokens"]) == (14, 45)
        assert found["$ai_audio_input_tokens"] == 14

    def test_a_file_of_the_programs_own_kind_is_asked_what_the_sdk_asks(self, openai_server, run_program):
        source = """
            import openai

            class File:
                pieces = [b"abc", b"de", b""]

                def read(self, size=-1):
                    return self.pieces.pop(0)

                def __getattr__(self, name):
                    print("asked", name)
                    raise AttributeError(name)

            try:
                openai.OpenAI(max_retries=0).audio.transcriptions.create(model="whisper-1", file=("a.wav", File()))
            except openai.NotFoundError:
                print("sent")
        """
        bare, ran = run_program(source, launched=False), run_program(source)
        assert (set(ran.stdout.split("\n")), ran.returncode) == (set(bare.stdout.split("\n")), 0), ran.stderr
        (event,) = ran.events
        (message,) = event["properties"]["$ai_input"]
        assert [part["filename"] for part in message["content"] if part["type"] == "file"] == ["a.wav"]

    def test_plain_text(self, client, captured, script):
        script(Answer(body="1\n00:00 --> 00:01\nGood morning\n", headers={"content-type": "text/plain"}))
        answer = client.audio.transcriptions.create(model="whisper-1", file=b"RIFF", response_format="srt")
        assert "Good morning" in answer
        (event,) = captured(1)
        (message,) = said(event)["$ai_output_choices"]
        assert message["content"][0]["text"] == answer
        assert "$ai_is_error" not in said(event)

    @needs_argument("audio.transcriptions.create", "stream")
    def test_streamed(self, client, captured, script):
        script(
            sse(
                {"type": "transcript.text.delta", "delta": "Good"},
                {"type": "transcript.text.delta", "delta": " morning"},
                {"type": "transcript.text.done", "text": "Good morning", "usage": self.USAGE},
                done=False,
            )
        )
        list(client.audio.transcriptions.create(model="gpt-4o-transcribe", file=b"RIFF", stream=True))
        (event,) = captured(1)
        found = said(event)
        assert found["$ai_output_choices"][0]["content"] == [{"type": "text", "text": "Good morning"}]
        assert found["$ai_output_tokens"] == 45
        assert found["$ai_time_to_first_token"] > 0


class TestJudgements:
    def test_moderations(self, client, captured, script):
        results = [{"flagged": True, "categories": {"violence": True}, "category_scores": {"violence": 0.99}}]
        script(Answer(body={"id": "modr-1", "model": "omni-moderation-latest", "results": results}))
        answer = client.moderations.create(input="I want to kill them.", posthog_distinct_id="u1")
        assert answer.results[0].flagged
        (event,) = captured(1)
        found = said(event)
        assert event["event"] == "$ai_span"
        assert event["distinct_id"] == "u1"
        assert found["$ai_span_name"] == "moderation"
        assert found["$ai_input_state"] == "I want to kill them."
        assert found["$ai_output_state"] == results
        assert found["$ai_latency"] > 0
        assert found["$ai_model"] == "omni-moderation-latest"
        assert not {"$ai_input", "$ai_output_choices", "$ai_input_tokens", "$ai_tokens_source"} & set(found)

    def test_moderations_in_private(self, client, captured, script):
        script(Answer(body={"id": "modr-1", "model": "m", "results": []}))
        client.moderations.create(input="secret", posthog_privacy_mode=True)
        (event,) = captured(1)
        assert said(event)["$ai_input_state"] is None
        assert said(event)["$ai_output_state"] is None
        assert "secret" not in json.dumps(event)

    def test_moderations_that_fail(self, client, captured, script):
        script(Answer(status=400, body={"error": {"message": "no", "type": "invalid_request_error"}}))
        with pytest.raises(openai.BadRequestError):
            client.moderations.create(input="x")
        (event,) = captured(1)
        assert event["event"] == "$ai_span"
        assert said(event)["$ai_is_error"] is True
        assert said(event)["$ai_http_status"] == 400

    def test_decisions(self, client, captured, script):
        if not hasattr(client, "decisions"):
            pytest.skip("this SDK has no decisions")
        answers = [{"type": "predicate", "name": "complaint", "probability": 0.97}]
        usage = {
            "input_tokens": 30,
            "output_tokens": 2,
            "total_tokens": 32,
            "input_tokens_details": {"cached_tokens": 8},
        }
        script(Answer(body={"answers": answers, "model": "gpt-6-luna", "usage": usage}))
        question: Any = {"type": "predicate", "name": "complaint", "question": "Is this a complaint?"}
        client.decisions.create(model="gpt-6-luna", input="The parcel never came.", questions=[question])
        (event,) = captured(1)
        found = said(event)
        assert event["event"] == "$ai_generation"
        assert found["$ai_input"][0] == {"role": "user", "content": "The parcel never came."}
        assert json.loads(found["$ai_input"][1]["content"]) == [question]
        assert found["$ai_output_choices"] == [{"role": "assistant", "content": answers}]
        assert (found["$ai_input_tokens"], found["$ai_cache_read_input_tokens"]) == (30, 8)


ASKED: Any = {"model": "gpt-4o-mini", "input": "Hello"}
HELLO = [{"role": "user", "content": "Hello"}]
ANSWER = [{"role": "assistant", "content": [{"type": "text", "text": 'A made-up answer to "Hello".'}]}]


@needs("responses")
class TestBackground:
    def test_the_poll_that_sees_the_outcome_makes_the_event(self, client, captured):
        response = client.responses.create(**ASKED, background=True, posthog_distinct_id="u1")
        assert response.status == "queued"
        assert captured() == []
        polls = 0
        while response.status in ("queued", "in_progress"):
            response = client.responses.retrieve(response.id)
            polls += 1
        assert polls == 2
        (event,) = captured(1)
        found = said(event)
        assert event["distinct_id"] == "u1"
        assert found["$ai_input"] == HELLO
        assert found["$ai_output_choices"] == ANSWER
        assert found["$ai_output_tokens"] > 0
        assert found["$ai_stop_reason"] == "completed"
        client.responses.retrieve(response.id)
        captured(1)

    def test_a_stream_that_is_taken_up_again(self, client, captured):
        stream = client.responses.create(**ASKED, background=True, stream=True)
        first = next(stream)
        stream.close()
        assert captured() == []
        list(client.responses.retrieve(first.response.id, stream=True))
        (event,) = captured(1)
        found = said(event)
        assert found["$ai_input"] == HELLO
        assert found["$ai_output_choices"] == ANSWER
        assert found["$ai_time_to_first_token"] > 0
        assert found["$ai_latency"] >= found["$ai_time_to_first_token"]

    def test_the_outcome_may_come_before_the_stream_is_let_go(self, client, captured):
        stream = client.responses.create(**ASKED, background=True, stream=True)
        ident = next(stream).response.id
        while client.responses.retrieve(ident).status != "completed":
            pass
        stream.close()
        (event,) = captured(1)
        assert said(event)["$ai_output_choices"] == ANSWER

    def test_cancelled(self, client, captured, script):
        response = client.responses.create(**ASKED, background=True)
        script(Answer(body={**response.model_dump(mode="json"), "status": "cancelled"}))
        client.responses.cancel(response.id)
        (event,) = captured(1)
        assert said(event)["$ai_stop_reason"] == "cancelled"
        assert said(event)["$ai_input"] == HELLO

    def test_streamed_to_the_end_at_once(self, client, captured):
        stream = list(client.responses.create(**ASKED, background=True, stream=True))
        captured(1)
        client.responses.retrieve(stream[0].response.id)
        list(client.responses.retrieve(stream[0].response.id, stream=True))
        captured(1)

    def test_looking_at_an_answer_again_is_no_call(self, client, captured):
        response = client.responses.create(**ASKED)
        client.responses.retrieve(response.id)
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve("resp_unknown")
        captured(1)

    def test_a_stream_of_somebody_elses(self, client, captured, openai_server):
        created = openai_server._responses  # made by another process, as far as the agent can know
        response = client.responses.create(**ASKED)
        captured(1)
        created["resp_other"] = {**created[response.id], "id": "resp_other"}
        list(client.responses.retrieve("resp_other", stream=True))
        events = captured(2)
        assert said(events[1])["$ai_output_choices"] == ANSWER

    def test_at_exit_with_what_is_known(self, run_program):
        ran = run_program(
            """
            import openai
            client = openai.OpenAI()
            first = client.responses.create(model="gpt-4o-mini", input="Hello", background=True)
            client.responses.create(model="gpt-4o-mini", input="Other", background=True)
            client.responses.retrieve(first.id)
            """
        )
        assert ran.returncode == 0, ran.stderr
        assert [event["event"] for event in ran.events] == ["$ai_generation"] * 2
        assert [said(event)["$ai_input"][0]["content"] for event in ran.events] == ["Hello", "Other"]
        assert all("$ai_output_tokens" not in said(event) for event in ran.events)
        assert not ran.stderr

    def test_after_ten_minutes(self, run_program):
        ran = run_program(
            """
            import openai, posthog_autoinstrument, time
            from posthog_autoinstrument.processing import background_responses
            background_responses.WAIT_S = 0.0
            client = openai.OpenAI()
            pending = client.responses.create(model="gpt-4o-mini", input="Hello", background=True)
            posthog_autoinstrument.flush(10)
            client.embeddings.create(model="text-embedding-3-small", input="x")
            posthog_autoinstrument.flush(10)
            while client.responses.retrieve(pending.id).status != "completed":
                pass
            """
        )
        assert sorted(event["event"] for event in ran.events) == ["$ai_embedding", "$ai_generation"]

    def test_a_forked_child_tells_nothing_of_it(self, run_program):
        ran = run_program(
            """
            import openai, os, posthog_autoinstrument
            client = openai.OpenAI()
            pending = client.responses.create(model="gpt-4o-mini", input="Hello", background=True)
            posthog_autoinstrument.flush(10)
            pid = os.fork()
            if pid:
                os.waitpid(pid, 0)
            else:
                client.embeddings.create(model="text-embedding-3-small", input="x")
            """
        )
        assert sorted(event["event"] for event in ran.events) == ["$ai_embedding", "$ai_generation"]

    @needs("responses.compact")
    def test_compact(self, client, captured, script):
        if not hasattr(client.responses, "compact"):
            pytest.skip("this SDK has no responses.compact")
        usage = {"input_tokens": 139, "output_tokens": 438, "total_tokens": 577}
        output = [{"type": "compaction", "id": "cmp_001", "encrypted_content": "gAAA"}]
        script(
            Answer(
                body={
                    "id": "resp_1",
                    "object": "response.compaction",
                    "created_at": 1,
                    "output": output,
                    "usage": usage,
                }
            )
        )
        client.responses.compact(model="gpt-5", input=HELLO)
        (event,) = captured(1)
        found = said(event)
        assert found["$ai_input"] == HELLO
        assert (found["$ai_input_tokens"], found["$ai_output_tokens"]) == (139, 438)
        assert found["$ai_request_url"].endswith("/responses/compact")

    def test_beta(self, client, captured):
        if not hasattr(client.beta, "responses"):
            pytest.skip("this SDK has no beta.responses")
        client.beta.responses.create(**ASKED, posthog_distinct_id="u1")
        (event,) = captured(1)
        assert event["distinct_id"] == "u1"
        assert said(event)["$ai_output_choices"] == ANSWER

    @needs("beta.responses.retrieve")
    def test_beta_in_the_background(self, client, captured):
        responses = client.beta.responses
        response = responses.create(**ASKED, background=True, posthog_distinct_id="u1")
        while responses.retrieve(response.id).status != "completed":
            pass
        (event,) = captured(1)
        assert event["distinct_id"] == "u1"
        assert said(event)["$ai_output_choices"] == ANSWER


CHAT: Any = {"model": "gpt-4o-mini", "messages": HELLO}


class TestClients:
    def test_with_options(self, client, captured):
        client.with_options(timeout=5, max_retries=0).chat.completions.create(**CHAT, posthog_distinct_id="u1")
        assert captured(1)[0]["distinct_id"] == "u1"

    @pytest.mark.parametrize("is_async", [False, True])
    def test_azure(self, openai_server, captured, is_async):
        azure: Any = {"azure_endpoint": openai_server.url, "api_key": "k", "api_version": "2024-10-21"}
        if is_async:

            async def main():
                async with openai.AsyncAzureOpenAI(**azure) as client:
                    await client.chat.completions.create(**{**CHAT, "model": "my-deployment"})

            asyncio.run(main())
        else:
            with openai.AzureOpenAI(**azure) as client:
                client.chat.completions.create(**{**CHAT, "model": "my-deployment"})
        found = said(captured(1)[0])
        assert found["$ai_provider"] == "azure"
        assert "/deployments/my-deployment/chat/completions" in found["$ai_request_url"]
        assert found["$ai_model"] != "my-deployment"  # the answer's: PostHog prices by it

    def test_module_level(self, run_program):
        ran = run_program(
            """
            import openai
            openai.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "Hello"}])
            openai.embeddings.create(model="text-embedding-3-small", input="x")
            """
        )
        assert [event["event"] for event in ran.events] == ["$ai_generation", "$ai_embedding"]

    @needs("OpenAI.chat")  # an attribute of the instance, before it was one of the class
    def test_subclasses(self, openai_server, captured):
        from openai.resources.chat import Chat, Completions

        class MyCompletions(Completions):
            def create(self, *args: Any, **kwargs: Any) -> Any:
                return super().create(*args, **{**kwargs, "temperature": 0})

        class MyChat(Chat):
            completions = property(lambda self: MyCompletions(self._client))  # type: ignore[assignment]

        class MyOpenAI(openai.OpenAI):
            chat = property(lambda self: MyChat(self))  # type: ignore[assignment]

        with MyOpenAI(base_url=openai_server.base_url, api_key="sk-test") as client:
            client.chat.completions.create(**CHAT, posthog_distinct_id="u1")
        (event,) = captured(1)
        assert event["distinct_id"] == "u1"
        assert said(event)["$ai_model_parameters"]["temperature"] == 0

    def test_clients_built_and_used_before(self, run_program):
        ran = run_program(
            """
            import openai
            CHAT = dict(model="gpt-4o-mini", messages=[{"role": "user", "content": "Hello"}])
            client = openai.OpenAI()
            raw = client.chat.completions.with_raw_response
            raw.create(**CHAT)
            bound = client.chat.completions.create
            bound(**CHAT)
            list(client.chat.completions.create(**CHAT, stream=True))
            import posthog_autoinstrument.auto
            client.chat.completions.create(**CHAT, posthog_distinct_id="after")
            raw.create(**CHAT)
            bound(**CHAT)
            list(client.chat.completions.create(**CHAT, stream=True))
            client.images.generate
            """,
            launched=False,
        )
        assert ran.returncode == 0, ran.stderr
        assert len(ran.events) == 4
        assert ran.events[0]["distinct_id"] == "after"

    @pytest.mark.parametrize(
        ("path", "body", "event"),
        [
            ("/chat/completions", CHAT, "$ai_generation"),
            ("/moderations", {"input": "x"}, "$ai_span"),
            ("/images/generations", {"prompt": "x"}, "$ai_generation"),
        ],
    )
    def test_post(self, client, captured, script, path, body, event):
        script(Answer(body={"choices": [], "results": [], "data": []}))
        client.post(path, body=body, cast_to=object)
        assert captured(1)[0]["event"] == event

    @pytest.mark.parametrize(
        "path", ["/responses/input_tokens", "/files", "/conversations", "/chat/completions/chatcmpl-1"]
    )
    def test_what_is_no_call_of_a_model(self, client, captured, script, path):
        script(Answer(body={"id": "x", "object": "x"}))
        client.post(path, body={"input": "x"}, cast_to=object)
        captured(0)
