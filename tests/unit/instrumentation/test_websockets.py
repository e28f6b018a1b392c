"""Every response of a WebSocket connection is exactly one event; the program sends and receives what it would have."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from support.features import needs
from support.provider_contract import check_junk
from support.sabotage import SABOTAGE
from support.waiting import wait_until
from websockets.exceptions import ConnectionClosed, ConnectionClosedError
from websockets.sync.server import ServerConnection, serve

from posthog_autoinstrument import posthog_context
from posthog_autoinstrument.providers.openai import PROVIDER

# websockets 17 warns of how the SDK connects.
pytestmark = pytest.mark.filterwarnings("ignore:connect:DeprecationWarning")
has_responses = needs("responses.connect")  # 2.30 on
has_realtime = needs("realtime.connect")  # 1.109 on
has_beta_realtime = needs("beta.realtime.connect")  # 1.60 on

Event = dict[str, Any]
Script = Callable[["Session", Event], None]


class Session:
    """One accepted connection: answers what the script says, keeps what came."""

    def __init__(self, server: SocketServer, socket: ServerConnection) -> None:
        self.server = server
        self.socket = socket

    def send(self, *events: Event) -> None:
        for event in events:
            self.socket.send(json.dumps(event))


class SocketServer:
    """A WebSocket server on loopback that answers every message by a script."""

    def __init__(self, script: Script, greeting: tuple[Event, ...] = ()) -> None:
        self.script = script
        self.greeting = greeting
        self.paths: list[str] = []
        self.received: list[str] = []
        self._server = serve(self._talk, "127.0.0.1", 0)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.address = f"127.0.0.1:{self._server.socket.getsockname()[1]}"

    def _talk(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        self.paths.append(socket.request.path)
        session = Session(self, socket)
        try:
            session.send(*self.greeting)
            for message in socket:
                self.received.append(str(message))
                self.script(session, json.loads(message) if message[:1] == "{" else {"type": message})
        except ConnectionClosed:
            pass

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()


@pytest.fixture
def make_server() -> Iterator[Callable[..., SocketServer]]:
    made: list[SocketServer] = []

    def make(script: Script, *greeting: Event) -> SocketServer:
        made.append(SocketServer(script, greeting))
        return made[-1]

    yield make
    for server in made:
        server.stop()


def addresses(server: SocketServer) -> Event:
    # Versions before 3 make every address wss, but for one that is given.
    return {"base_url": f"http://{server.address}/v1", "websocket_base_url": f"ws://{server.address}/v1"}


def client_of(server: SocketServer) -> openai.OpenAI:
    return openai.OpenAI(**addresses(server), api_key="sk-test")


def async_client_of(server: SocketServer) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(**addresses(server), api_key="sk-test")


def facts(event: Event) -> Event:
    return event["properties"]


def until(connection: Any, last: str) -> list[Any]:
    """The events of a connection up to the first of this type."""
    seen = []
    for event in connection:
        seen.append(event)
        if event.type == last:
            break
    return seen


# --- Responses: developers.openai.com, "WebSocket mode" ---

USAGE = {
    "input_tokens": 12,
    "input_tokens_details": {"cached_tokens": 4},
    "output_tokens": 7,
    "output_tokens_details": {"reasoning_tokens": 2},
    "total_tokens": 19,
}


def response(number: int, status: str, text: str | None = None, **more: Any) -> Event:
    output = [message_item(number, text)] if text is not None else []
    return {
        "id": f"resp_{number}",
        "object": "response",
        "status": status,
        "model": "gpt-5-2025-08-07",
        "output": output,
        "usage": USAGE if status == "completed" else None,
        **more,
    }


def message_item(number: int, text: str) -> Event:
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {"type": "message", "id": f"msg_{number}", "status": "completed", "role": "assistant", "content": content}


def created(number: int, **more: Any) -> Event:
    return {"type": "response.created", "sequence_number": 0, "response": response(number, "in_progress"), **more}


def delta(number: int, text: str, **more: Any) -> Event:
    return {
        "type": "response.output_text.delta",
        "sequence_number": 1,
        "item_id": f"msg_{number}",
        "output_index": 0,
        "content_index": 0,
        "delta": text,
        **more,
    }


def completed(number: int, text: str, **more: Any) -> Event:
    return {
        "type": "response.completed",
        "sequence_number": 2,
        "response": response(number, "completed", text),
        **more,
    }


def answering(session: Session, message: Event) -> None:
    """Answers each request by what it asked, in capitals."""
    number = len(session.server.received)
    text = str(message["input"]).upper()
    session.send(created(number), delta(number, text[:2]), delta(number, text[2:]), completed(number, text))


def assert_answered(event: Event, asked: str, server: SocketServer, path: str = "/v1/responses") -> None:
    """The whole event, but for ids and clock readings."""
    found = facts(event)
    assert event["event"] == "$ai_generation"
    assert found.pop("$ai_latency") >= found.pop("$ai_time_to_first_token") > 0
    own = ("$ai_span_id", "$ai_trace_id", "$ai_lib_version", "$lib_version")
    assert {name: value for name, value in found.items() if name not in own} == {
        "$ai_lib": "posthog-autoinstrument",
        "$ai_provider": "openai",
        "$ai_model": "gpt-5-2025-08-07",
        "$ai_model_parameters": {"temperature": 0.5},
        "$ai_base_url": f"http://{server.address}/v1/",
        "$ai_request_url": f"ws://{server.address}{path}",
        "$ai_stream": True,
        "$ai_stop_reason": "completed",
        "$ai_instructions": "Shout.",
        "$ai_input": [{"role": "system", "content": "Shout."}, {"role": "user", "content": asked}],
        "$ai_output_choices": [{"role": "assistant", "content": [{"type": "text", "text": asked.upper()}]}],
        "$ai_input_tokens": 12,
        "$ai_output_tokens": 7,
        "$ai_cache_read_input_tokens": 4,
        "$ai_reasoning_tokens": 2,
        "$ai_usage": USAGE,
        "$ai_cache_reporting_exclusive": False,
        "$ai_tokens_source": "sdk",
        "$process_person_profile": False,
        "$lib": "posthog-autoinstrument",
        "$geoip_disable": True,
        "$is_server": True,
    }


ASK: Event = {"model": "gpt-5", "instructions": "Shout.", "temperature": 0.5}


@has_responses
class TestResponses:
    def test_each_response_is_one_event(self, make_server, captured):
        server = make_server(answering)
        with client_of(server) as client, client.responses.connect() as connection:
            for asked in ("hello", "and again"):
                connection.response.create(**ASK, input=asked)
                assert until(connection, "response.completed")[-1].response.output_text == asked.upper()
        first, second = captured(2)
        assert_answered(first, "hello", server)
        assert_answered(second, "and again", server)
        assert facts(first)["$ai_span_id"] != facts(second)["$ai_span_id"]

    def test_async(self, make_server, captured):
        server = make_server(answering)

        async def main() -> list[str]:
            seen = []
            async with async_client_of(server) as client, client.responses.connect() as connection:
                await connection.response.create(**ASK, input="hello")
                async for event in connection:
                    seen.append(event.type)
                    if event.type == "response.completed":
                        return seen
            return seen

        assert asyncio.run(main())[-1] == "response.completed"
        assert_answered(*captured(1), "hello", server)

    @needs("beta.responses.connect")
    def test_beta(self, make_server, captured):
        server = make_server(answering)
        with client_of(server) as client, client.beta.responses.connect() as connection:
            connection.response.create(**ASK, input="hello")
            until(connection, "response.completed")
        assert_answered(*captured(1), "hello", server, server.paths[0])

    def test_sent_before_connecting_raw_or_as_events(self, make_server, captured):
        server = make_server(answering)
        with client_of(server) as client:
            manager = client.responses.connect()
            manager.send({"type": "response.create", **ASK, "input": "queued"})
            with manager as connection:
                until(connection, "response.completed")
                connection.send_raw(json.dumps({**ASK, "input": "raw", "type": "response.create"}))
                while json.loads(connection.recv_bytes())["type"] != "response.completed":
                    pass
                connection.send({"type": "response.create", **ASK, "input": "handled"})
                connection.on("response.completed", lambda _: connection.close())
                connection.dispatch_events()
        for event, asked in zip(captured(3), ("queued", "raw", "handled"), strict=True):
            assert_answered(event, asked, server)

    def test_lanes_are_told_apart(self, make_server, captured):
        def script(session: Session, message: Event) -> None:
            if message["stream_id"] == "b":
                a, b = {"stream_id": "a"}, {"stream_id": "b"}
                session.send(created(1, **a), created(2, **b), delta(2, "FROM", **b), delta(1, "FR", **a))
                session.send(delta(1, "OM A", **a), completed(2, "FROM B", **b), completed(1, "FROM A", **a))

        server = make_server(script)
        with client_of(server) as client, client.responses.connect() as connection:
            connection.send({"type": "response.create", **ASK, "input": "from a", "stream_id": "a"})
            connection.send({"type": "response.create", **ASK, "input": "from b", "stream_id": "b"})
            until(connection, "response.completed")
            until(connection, "response.completed")
        second, first = captured(2)
        assert_answered(first, "from a", server)
        assert_answered(second, "from b", server)

    def test_what_only_looks_like_a_lane(self, make_server, captured):
        server = make_server(answering)
        with client_of(server) as client, client.responses.connect() as connection:
            for asked in ("hello", "bye"):
                connection.response.create(**ASK, input=asked, metadata={"stream_id": "of the program"})
                until(connection, "response.completed")
        first, second = captured(2)
        assert_answered(first, "hello", server)
        assert_answered(second, "bye", server)

    def test_sessions_of_the_sdk(self, make_server, captured):
        module = pytest.importorskip("openai.lib.responses_websocket")
        bounds = {"max_events_per_lane": 16, "max_events": 16, "max_bytes_per_lane": 1 << 20, "max_bytes": 1 << 20}
        limits = module.ResponsesWebSocketLimits(max_lanes=2, **bounds)

        def script(session: Session, message: Event) -> None:
            lane = {"stream_id": message["stream_id"]}
            session.send(created(1, **lane), delta(1, "HELLO", **lane), completed(1, "HELLO", **lane))

        server = make_server(script)
        with (
            client_of(server) as client,
            client.responses.connect() as connection,
            module.ResponsesWebSocketSession(connection, limits=limits) as session,
        ):
            lane = session.lane("one")
            lane.send({"type": "response.create", **ASK, "input": "hello"})
            assert lane.get_final_response(timeout=10).output_text == "HELLO"
        assert_answered(*captured(1), "hello", server)

    def test_failed_and_incomplete(self, make_server, captured):
        def script(session: Session, message: Event) -> None:
            error = {"code": "server_error", "message": "The model broke."}
            ends = {
                "fail": response(1, "failed", error=error),
                "stop": response(1, "incomplete", "BEGUN", incomplete_details={"reason": "max_output_tokens"}),
            }
            ended = ends[message["input"]]
            session.send(created(1), {"type": f"response.{ended['status']}", "sequence_number": 1, "response": ended})

        server = make_server(script)
        with client_of(server) as client, client.responses.connect() as connection:
            connection.response.create(model="gpt-5", input="fail")
            until(connection, "response.failed")
            connection.response.create(model="gpt-5", input="stop")
            until(connection, "response.incomplete")
        failed, incomplete = map(facts, captured(2))
        assert failed["$ai_is_error"] is True
        assert failed["$ai_error"] == "The model broke."
        assert failed["$ai_stop_reason"] == "failed"
        assert "$ai_is_error" not in incomplete
        assert incomplete["$ai_stop_reason"] == "max_output_tokens"

    def test_an_error_event_is_the_answer_to_its_request(self, make_server, captured):
        def script(session: Session, message: Event) -> None:
            if message["input"] != "wrong":
                return answering(session, message)
            error = {"type": "invalid_request_error", "code": "previous_response_not_found", "message": "Not found."}
            session.send({"type": "error", "status": 400, "error": {**error, "param": "previous_response_id"}})

        server = make_server(script)
        with client_of(server) as client, client.responses.connect() as connection:
            connection.response.create(model="gpt-5", input="wrong", previous_response_id="resp_0")
            until(connection, "error")
            connection.response.create(**ASK, input="hello")
            until(connection, "response.completed")
        wrong, right = captured(2)
        assert facts(wrong)["$ai_error"] == "Not found."
        assert facts(wrong)["$ai_input"] == [{"role": "user", "content": "wrong"}]
        assert facts(wrong)["$ai_model"] == "gpt-5"
        assert_answered(right, "hello", server)


# --- Realtime: developers.openai.com, "Realtime API", client and server events ---

SESSION = {
    "id": "sess_1",
    "object": "realtime.session",
    "type": "realtime",
    "model": "gpt-realtime-2025-08-28",
    "instructions": "Be kind.",
    "tools": [],
}
GREETING = {"type": "session.created", "event_id": "event_1", "session": SESSION}
REALTIME_USAGE = {
    "total_tokens": 253,
    "input_tokens": 132,
    "output_tokens": 121,
    "input_token_details": {
        "text_tokens": 119,
        "audio_tokens": 13,
        "cached_tokens": 64,
        "cached_tokens_details": {"text_tokens": 60, "audio_tokens": 4},
    },
    "output_token_details": {"text_tokens": 30, "audio_tokens": 91},
}
SOUND = "UklGRg" * 2000


def spoken(number: int, text: str) -> Event:
    content = [{"type": "output_audio", "transcript": text}]
    return {"id": f"item_{number}", "type": "message", "status": "completed", "role": "assistant", "content": content}


def realtime_response(name: str, status: str, *output: Event, **more: Any) -> Event:
    return {
        "object": "realtime.response",
        "id": name,
        "status": status,
        "status_details": None,
        "output": list(output),
        "usage": None if status == "in_progress" else REALTIME_USAGE,
        **more,
    }


def begins(name: str) -> Event:
    return {"type": "response.created", "event_id": "e", "response": realtime_response(name, "in_progress")}


def ends(name: str, status: str, *output: Event, **more: Any) -> Event:
    return {"type": "response.done", "event_id": "e", "response": realtime_response(name, status, *output, **more)}


def piece(name: str, kind: str, text: str) -> Event:
    return {
        "type": kind,
        "event_id": "e",
        "response_id": name,
        "item_id": "item_9",
        "output_index": 0,
        "content_index": 0,
        "delta": text,
    }


def speaking(session: Session, message: Event) -> None:
    """Confirms items, and answers in sound."""
    number = len(session.server.received)
    if message["type"] == "conversation.item.create":
        item = {"id": f"item_{number}", "object": "realtime.item", "status": "completed", **message["item"]}
        for kind in ("added", "done"):
            session.send({"type": f"conversation.item.{kind}", "event_id": "e", "previous_item_id": None, "item": item})
    elif message["type"] == "session.update":
        session.send({"type": "session.updated", "event_id": "e", "session": {**SESSION, **message["session"]}})
    elif message["type"] == "response.create":
        name, item = f"resp_{number}", spoken(number, "Good day.")
        empty = {**item, "status": "in_progress", "content": []}
        session.send(
            begins(name),
            {"type": "conversation.item.added", "event_id": "e", "previous_item_id": None, "item": empty},
            piece(name, "response.output_audio.delta", SOUND),
            piece(name, "response.output_audio_transcript.delta", "Good day."),
            {
                "type": "response.output_item.done",
                "event_id": "e",
                "response_id": name,
                "output_index": 0,
                "item": item,
            },
            {"type": "conversation.item.done", "event_id": "e", "previous_item_id": None, "item": item},
            ends(name, "completed", item),
        )


def said(text: str) -> Event:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


SPOKEN = [{"role": "assistant", "content": [{"type": "audio", "transcript": "Good day."}]}]
TOOL = {"type": "function", "name": "wave", "parameters": {"type": "object", "properties": {}}}


@has_realtime
class TestRealtime:
    def test_the_conversation_is_the_input(self, make_server, captured):
        server = make_server(speaking, GREETING)
        with client_of(server) as client, client.realtime.connect(model="gpt-realtime") as connection:
            connection.conversation.item.create(item=said("Hello"))
            connection.response.create()
            until(connection, "response.done")
            connection.session.update(session={"type": "realtime", "instructions": "Be brief.", "tools": [TOOL]})
            connection.conversation.item.create(item=said("Bye"))
            connection.response.create()
            until(connection, "response.done")
        first, second = map(facts, captured(2))
        assert first.pop("$ai_latency") >= first.pop("$ai_time_to_first_token") > 0
        own = ("$ai_span_id", "$ai_trace_id", "$ai_lib_version", "$lib_version")
        assert {name: value for name, value in first.items() if name not in own} == {
            "$ai_lib": "posthog-autoinstrument",
            "$ai_provider": "openai",
            "$ai_model": "gpt-realtime-2025-08-28",
            "$ai_model_parameters": {},
            "$ai_base_url": f"http://{server.address}/v1/",
            "$ai_request_url": f"ws://{server.address}/v1/realtime?model=gpt-realtime",
            "$ai_stream": True,
            "$ai_stop_reason": "completed",
            "$ai_instructions": "Be kind.",
            "$ai_input": [
                {"role": "system", "content": "Be kind."},
                {"role": "user", "content": [{"type": "input_text", "text": "Hello"}]},
            ],
            "$ai_output_choices": SPOKEN,
            "$ai_input_tokens": 132,
            "$ai_output_tokens": 121,
            "$ai_cache_read_input_tokens": 64,
            "$ai_cache_read_audio_tokens": 4,
            "$ai_audio_input_tokens": 13,
            "$ai_audio_output_tokens": 91,
            "$ai_text_output_tokens": 30,
            "$ai_usage": REALTIME_USAGE,
            "$ai_cache_reporting_exclusive": False,
            "$ai_tokens_source": "sdk",
            "$process_person_profile": False,
            "$lib": "posthog-autoinstrument",
            "$geoip_disable": True,
            "$is_server": True,
        }
        assert second["$ai_instructions"] == "Be brief."
        assert second["$ai_tools"] == [TOOL]
        assert second["$ai_input"] == [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "input_text", "text": "Hello"}]},
            {"role": "assistant", "content": [{"type": "output_audio", "transcript": "Good day."}]},
            {"role": "user", "content": [{"type": "input_text", "text": "Bye"}]},
        ]

    def test_async_with_cancelled_waits(self, make_server, captured):
        server = make_server(speaking, GREETING)

        async def main() -> None:
            async with async_client_of(server) as client, client.realtime.connect(model="gpt-realtime") as connection:
                assert (await connection.recv()).type == "session.created"
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(connection.recv(), 0.01)
                await connection.response.create(response={"input": [said("Hello")], "instructions": "Whisper."})
                while (await connection.recv()).type != "response.done":
                    pass

        asyncio.run(main())
        found = facts(*captured(1))
        assert found["$ai_output_choices"] == SPOKEN
        assert found["$ai_input"] == [
            {"role": "system", "content": "Whisper."},
            {"role": "user", "content": [{"type": "input_text", "text": "Hello"}]},
        ]
        assert "$ai_is_error" not in found

    def test_voice_detection_and_transcripts(self, make_server, captured):
        heard = {"id": "item_1", "type": "message", "role": "user", "content": [{"type": "input_audio"}]}

        def script(session: Session, message: Event) -> None:
            assert message["type"] == "input_audio_buffer.append"
            session.send(
                {"type": "conversation.item.added", "event_id": "e", "previous_item_id": None, "item": heard},
                begins("resp_1"),
                piece("resp_1", "response.output_audio.delta", SOUND),
                {
                    "type": "conversation.item.input_audio_transcription.completed",
                    "event_id": "e",
                    "item_id": "item_1",
                    "content_index": 0,
                    "transcript": "Hello?",
                    "usage": {"type": "duration", "seconds": 1},
                },
                ends("resp_1", "completed", spoken(2, "Good day.")),
            )

        server = make_server(script, GREETING)
        with client_of(server) as client, client.realtime.connect(model="gpt-realtime") as connection:
            connection.input_audio_buffer.append(audio=SOUND)
            with posthog_context(distinct_id="the_listener"):
                until(connection, "response.done")
        (event,) = captured(1)
        assert event["distinct_id"] == "the_listener"
        assert facts(event)["$ai_input"] == [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": [{"type": "input_audio", "transcript": "Hello?"}]},
        ]
        assert facts(event)["$ai_output_choices"] == SPOKEN
        assert SOUND[:100] not in json.dumps(event)

    def test_sound_that_the_program_sends_is_not_kept(self, make_server, captured):
        server = make_server(speaking, GREETING)
        content: Any = [{"type": "input_audio", "audio": SOUND}, {"type": "input_text", "text": "What is it?"}]
        with client_of(server) as client, client.realtime.connect(model="gpt-realtime") as connection:
            connection.conversation.item.create(item={"type": "message", "role": "user", "content": content})
            connection.response.create()
            until(connection, "response.done")
        (event,) = captured(1)
        assert facts(event)["$ai_input"][1]["content"] == [
            {"type": "input_audio"},
            {"type": "input_text", "text": "What is it?"},
        ]
        assert SOUND in server.received[0]
        assert SOUND[:100] not in json.dumps(event)

    def test_two_at_a_time(self, make_server, captured):
        def script(session: Session, message: Event) -> None:
            if len(session.server.received) == 2:
                kind = "response.output_audio_transcript.delta"
                session.send(begins("resp_a"), begins("resp_b"), piece("resp_b", kind, "B"), piece("resp_a", kind, "A"))
                session.send(ends("resp_b", "completed", spoken(2, "B")), ends("resp_a", "completed", spoken(1, "A")))

        server = make_server(script, GREETING)
        with client_of(server) as client, client.realtime.connect(model="gpt-realtime") as connection:
            for asked in ("a", "b"):
                connection.response.create(response={"conversation": "none", "input": [said(asked)]})
            until(connection, "response.done")
            until(connection, "response.done")
        b, a = map(facts, captured(2))
        for found, asked in ((a, "a"), (b, "b")):
            assert found["$ai_input"][1]["content"] == [{"type": "input_text", "text": asked}]
            assert found["$ai_output_choices"][0]["content"] == [{"type": "audio", "transcript": asked.upper()}]

    def test_cancelled_incomplete_failed(self, make_server, captured):
        details = (
            ("cancelled", {"type": "cancelled", "reason": "client_cancelled"}),
            ("incomplete", {"type": "incomplete", "reason": "content_filter"}),
            ("failed", {"type": "failed", "error": {"type": "server_error", "code": "oops", "message": "It broke."}}),
        )

        def script(session: Session, message: Event) -> None:
            number = len(session.server.received)
            status, why = details[number - 1]
            session.send(begins(f"resp_{number}"), ends(f"resp_{number}", status, status_details=why))

        server = make_server(script, GREETING)
        with client_of(server) as client, client.realtime.connect(model="gpt-realtime") as connection:
            for _ in details:
                connection.response.create()
                until(connection, "response.done")
        cancelled, incomplete, failed = map(facts, captured(3))
        assert cancelled["$ai_stop_reason"] == "client_cancelled"
        assert incomplete["$ai_stop_reason"] == "content_filter"
        assert failed["$ai_stop_reason"] == "failed"
        assert failed["$ai_error"] == "It broke."
        assert [("$ai_is_error" in found) for found in (cancelled, incomplete, failed)] == [False, False, True]

    def test_an_error_is_of_the_request_that_it_names(self, make_server, captured):
        def script(session: Session, message: Event) -> None:
            if message["event_id"] == "mine_1":
                error = {"type": "invalid_request_error", "message": "Bad session.", "event_id": "mine_1"}
                session.send({"type": "error", "event_id": "e", "error": {**error, "code": None, "param": None}})
            elif message["event_id"] == "mine_2":
                error = {"type": "invalid_request_error", "message": "Bad response.", "event_id": "mine_2"}
                session.send({"type": "error", "event_id": "e", "error": {**error, "code": None, "param": None}})
            else:
                speaking(session, message)

        server = make_server(script, GREETING)
        with client_of(server) as client, client.realtime.connect(model="gpt-realtime") as connection:
            connection.session.update(session={"type": "realtime"}, event_id="mine_1")
            connection.response.create(event_id="mine_2")
            connection.response.create(event_id="mine_3")
            until(connection, "response.done")
        refused, answered = map(facts, captured(2))
        assert refused["$ai_error"] == "Bad response."
        assert answered["$ai_output_choices"] == SPOKEN
        assert "$ai_is_error" not in answered


@has_beta_realtime
class TestBetaRealtime:
    def test_each_response_is_one_event(self, make_server, captured):
        def script(session: Session, message: Event) -> None:
            text = {"type": "text", "text": "Good day."}
            call = {"type": "function_call", "id": "i", "call_id": "call_1", "name": "wave", "arguments": "{}"}
            session.send(
                begins("resp_1"),
                piece("resp_1", "response.text.delta", "Good day."),
                ends("resp_1", "completed", {**spoken(1, ""), "content": [text]}, call),
            )

        session = {"id": "sess_1", "model": "gpt-4o-realtime", "instructions": "", "modalities": ["text"]}
        server = make_server(script, {"type": "session.created", "event_id": "e", "session": session})
        with client_of(server) as client, client.beta.realtime.connect(model="gpt-4o-realtime") as connection:
            connection.response.create()
            until(connection, "response.done")
        found = facts(*captured(1))
        assert found["$ai_model"] == "gpt-4o-realtime"
        assert found["$ai_time_to_first_token"] > 0
        assert found["$ai_output_choices"] == [
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "Good day."},
                    {"type": "function", "id": "call_1", "function": {"name": "wave", "arguments": "{}"}},
                ],
            }
        ]


@has_responses
class TestEnds:
    """Of a response that never ends there is one event, with what came."""

    @staticmethod
    def begin(session: Session, message: Event) -> None:
        session.send(created(1), delta(1, "Good "), delta(1, "da"))

    @staticmethod
    def assert_begun(found: Event) -> None:
        assert found["$ai_output_choices"] == [{"role": "assistant", "content": [{"type": "text", "text": "Good da"}]}]
        assert found["$ai_input"] == [{"role": "user", "content": "Hello"}]
        assert "$ai_output_tokens" not in found

    def ask(self, connection: Any) -> None:
        connection.response.create(model="gpt-5", input="Hello")
        until(connection, "response.output_text.delta")
        until(connection, "response.output_text.delta")

    def test_the_program_closes(self, make_server, captured):
        server = make_server(self.begin)
        with client_of(server) as client, client.responses.connect() as connection:
            self.ask(connection)
        found = facts(*captured(1))
        self.assert_begun(found)
        assert "$ai_is_error" not in found

    def test_the_server_closes(self, make_server, captured):
        def script(session: Session, message: Event) -> None:
            self.begin(session, message)
            session.socket.close(1011, "overloaded")

        server = make_server(script)
        with client_of(server) as client, client.responses.connect() as connection:
            self.ask(connection)
            # Attributes of websockets' exceptions warn whoever reads them.
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                with pytest.raises(ConnectionClosedError):
                    connection.recv()
        found = facts(*captured(1))
        self.assert_begun(found)
        assert found["$ai_is_error"] is True
        assert "overloaded" in found["$ai_error"]

    def test_the_program_drops_it(self, make_server, captured):
        server = make_server(self.begin)
        with client_of(server) as client:
            connection = client.responses.connect().enter()
            transport = connection._connection
            self.ask(connection)
            assert captured() == []
            del connection
            gc.collect()
            self.assert_begun(facts(*captured(1)))
            transport.close()

    def test_the_task_is_cancelled(self, make_server, captured):
        server = make_server(self.begin)

        async def main() -> None:
            begun = asyncio.Event()

            async def talk() -> None:
                async with async_client_of(server) as client, client.responses.connect() as connection:
                    await connection.response.create(model="gpt-5", input="Hello")
                    async for event in connection:
                        if event.type == "response.output_text.delta" and event.delta == "da":
                            begun.set()

            task = asyncio.ensure_future(talk())
            await begun.wait()
            task.cancel()
            await asyncio.wait([task])

        asyncio.run(main())
        found = facts(*captured(1))
        self.assert_begun(found)
        assert found["$ai_error"] == "cancelled"

    def test_the_program_ends(self, make_server, run_program):
        server = make_server(self.begin)
        done = run_program(
            f"""
            import os, openai
            client = openai.OpenAI(base_url="http://{server.address}/v1")
            connection = client.responses.connect().enter()
            connection.response.create(model="gpt-5", input="Hello")
            for event in connection:
                if getattr(event, "delta", None) == "da":
                    break
            """
        )
        assert done.returncode == 0, done.stderr
        (event,) = done.events
        self.assert_begun(facts(event))

    def test_a_reconnection_loses_and_doubles_nothing(self, make_server, captured):
        def script(session: Session, message: Event) -> None:
            if len(session.server.paths) == 1 and message["input"] == "lost":
                session.send(created(1), delta(1, "LO"))
                session.socket.close(1012, "restart")
            else:
                answering(session, message)

        server = make_server(script)
        seen: list[str] = []

        def again(event: Any) -> None:
            connection.send({"type": "response.create", **ASK, "input": "queued"})  # sent when there is a connection
            return None

        with client_of(server) as client:
            manager = client.responses.connect(on_reconnecting=again, initial_delay=0.001, max_delay=0.001)
            with manager as connection:
                connection.response.create(**ASK, input="hello")
                until(connection, "response.completed")
                connection.response.create(**ASK, input="lost")
                for event in connection:
                    seen.append(event.type)
                    if event.type == "response.completed":
                        break
                connection.response.create(**ASK, input="bye")
                until(connection, "response.completed")
        assert len(server.paths) == 2
        hello, lost, queued, bye = captured(4)
        for event, asked in ((hello, "hello"), (queued, "queued"), (bye, "bye")):
            assert_answered(event, asked, server)
        assert "restart" in facts(lost)["$ai_error"]
        assert facts(lost)["$ai_input"][-1] == {"role": "user", "content": "lost"}


class TestWho:
    @has_responses
    def test_the_context_is_that_of_the_request(self, make_server, captured):
        server = make_server(answering)
        with client_of(server) as client, client.responses.connect() as connection:
            with posthog_context(distinct_id="ada", properties={"plan": "pro"}, span_name="greet"):
                connection.response.create(**ASK, input="hello")
            with posthog_context(distinct_id="bob"):
                connection.response.create(**ASK, input="bye")
            until(connection, "response.completed")
            until(connection, "response.completed")
        ada, bob = captured(2)
        assert (ada["distinct_id"], bob["distinct_id"]) == ("ada", "bob")
        assert facts(ada)["plan"] == "pro"
        assert facts(ada)["$ai_span_name"] == "greet"
        assert "plan" not in facts(bob)

    @has_realtime
    def test_privacy_mode(self, make_server, captured):
        server = make_server(speaking, GREETING)
        with client_of(server) as client, client.realtime.connect(model="gpt-realtime") as connection:
            connection.conversation.item.create(item=said("my secret"))
            with posthog_context(privacy_mode=True):
                connection.response.create()
            until(connection, "response.done")
        (event,) = captured(1)
        for name in ("$ai_input", "$ai_output_choices", "$ai_instructions"):
            assert facts(event)[name] is None
        assert facts(event)["$ai_output_tokens"] == 121
        for secret in ("my secret", "Good day.", "Be kind."):
            assert secret not in json.dumps(event)

    @has_realtime
    def test_what_was_said_in_private_stays_private(self, make_server, captured):
        server = make_server(speaking, GREETING)
        with client_of(server) as client, client.realtime.connect(model="gpt-realtime") as connection:
            connection.conversation.item.create(item=said("in public"))
            connection.response.create()
            until(connection, "response.done")
            with posthog_context(privacy_mode=True):
                connection.conversation.item.create(item=said("my secret"))
            connection.response.create()
            until(connection, "response.done")
        before, after = captured(2)
        assert "in public" in json.dumps(before)
        assert facts(after)["$ai_input"] is None
        assert "my secret" not in json.dumps(after)

    @has_responses
    def test_there_are_no_arguments_of_ours(self, make_server, captured):
        server = make_server(answering)
        with (
            client_of(server) as client,
            client.responses.connect() as connection,
            pytest.raises(TypeError, match="posthog_distinct_id"),
        ):
            connection.response.create(**ASK, input="hello", posthog_distinct_id="ada")
        assert server.received == []
        captured(0)


BROKEN = (
    ("watch a connection",),
    ("follow a connection",),
    ("read a message to the server", "read a message of the server", "end a connection"),
)
PROGRAM = """
import inspect, json, os, sys, warnings
warnings.simplefilter("always")
warnings.showwarning = lambda m, c, f, n, *_: print(c.__name__, os.path.basename(f), n)
import openai
from openai.resources.BETA.realtime.realtime import AsyncRealtimeConnection, RealtimeConnection
for kind in (RealtimeConnection, AsyncRealtimeConnection):
    for name in ("__init__", "recv_bytes", "close"):
        method = getattr(kind, name)
        print(method.__qualname__, inspect.signature(method), inspect.iscoroutinefunction(method))
client = openai.OpenAI(base_url="http://ADDRESS/v1", websocket_base_url="ws://ADDRESS/v1")
manager = client.BETA.realtime.connect(model="gpt-realtime")
with manager as connection:
    print(type(connection), type(connection._connection), sorted(vars(connection)))
    print(connection.recv_bytes())
    connection.conversation.item.create(item={"type": "message", "role": "user", "content": []})
    connection.response.create()
    getattr(connection, "send_raw", connection._connection.send)("not JSON")  # 1.60 has none
    for event in connection:
        print(event)
        if event.type == "response.done":
            break
    print(connection.recv_bytes(), connection.recv_bytes(), connection.recv_bytes())
    try:
        connection.recv()
    except Exception as error:
        print(repr(error), error.__context__ is None)
"""


class TestTheProgram:
    """Sees and sends the same, with the agent and without it, whatever the server sends."""

    def talk(self, session: Session, message: Event) -> None:
        speaking(session, message)
        if message["type"] == "not JSON":
            session.send({"type": "response.created", "response": None}, {"type": "error", "error": []})
            session.socket.send("\N{SNOWMAN} not JSON")
            session.socket.close(1008, "enough")

    @pytest.mark.parametrize(
        "beta", [pytest.param(False, marks=has_realtime), pytest.param(True, marks=has_beta_realtime)]
    )
    def test_same_bytes_and_results(self, make_server, run_program, beta):
        program = PROGRAM.replace("BETA.", "beta." if beta else "")

        def run(launched: bool, broken: tuple[str, ...] = ()) -> tuple[str, list[str], Any]:
            server = make_server(self.talk, GREETING)
            first = SABOTAGE + f"broken.update({broken!r})" if broken else ""
            done = run_program(first + program.replace("ADDRESS", server.address), launched=launched)
            assert done.returncode == 0, done.stderr
            for step in broken:
                assert f"could not {step} (Sabotage" in done.stderr
            return done.stdout.replace(server.address, "ADDRESS"), server.received, done.events

        bare = run(launched=False)
        assert "enough" in bare[0]
        *instrumented, events = run(launched=True)
        assert instrumented == [*bare[:2]]
        (event,) = events
        assert facts(event)["$ai_output_choices"] == SPOKEN
        for steps in BROKEN:
            assert run(launched=True, broken=steps)[:2] == bare[:2]

    @has_responses
    def test_stand_ins_for_the_transport(self, make_server, run_program):
        """As the SDK's own tests have them: anything in the place of the websockets connection."""
        program = """
            from unittest.mock import Mock
            import openai
            from openai.resources.responses.responses import ResponsesConnection
            for transport in (None, object(), Mock(recv=Mock(return_value=b"{}"))):
                try:
                    print(type(ResponsesConnection(transport).recv_bytes()))
                except (AttributeError, TypeError) as error:
                    print(type(error))
        """
        bare, launched = (run_program(program, launched=launched) for launched in (False, True))
        assert bare.stdout.count("\n") == 3
        assert (launched.returncode, launched.stdout, launched.stderr) == (0, bare.stdout, bare.stderr)

    @has_responses
    def test_connections_are_freed_when_they_were(self, make_server):
        server = make_server(answering)
        with client_of(server) as client:
            with client.responses.connect() as connection:
                watched = weakref.ref(connection._connection.protocol)
                connection.response.create(**ASK, input="hello")
                until(connection, "response.completed")
            assert watched() is not None
            del connection
            wait_until(lambda: gc.collect() is None or watched() is None, "the connection is kept")


@has_responses
@needs("beta.responses.connect")
def test_doctor_shows_the_connections(run_program):
    done = run_program(
        "import sys; from posthog_autoinstrument.cli import main; sys.exit(main(['doctor']))", token=True
    )
    patched = "__init__, recv_bytes, close, _flush_send_queue"
    for kind in ("responses.responses.Responses", "beta.responses.responses.Responses", "realtime.realtime.Realtime"):
        lines = [line.split() for line in done.stdout.splitlines() if f"openai.resources.{kind}Connection:" in line]
        assert lines == [["matched", f"openai.resources.{kind}Connection:", *patched.split()]]
    assert "is not patched" not in done.stdout


@pytest.mark.parametrize(
    "endpoint", dict.fromkeys(socket.endpoint for socket in PROVIDER.websockets), ids=lambda e: e.name
)
def test_readers_take_anything(endpoint):
    check_junk(endpoint)
    odd = [
        {"type": "session.created", "session": 1},
        {"type": "conversation.item.create", "item": {"id": [], "content": 2}},
    ]
    odd += [
        {"type": "conversation.item.added", "item": "x"},
        {"type": "response.create", "response": {"input": [1]}},
        3,
    ]
    done = {"type": "response.done", "response": {"output": [1], "usage": [], "status_details": 4, "status": "failed"}}
    generation = endpoint.read(json.dumps(odd).encode(), None, ['{"type": 5}', "[]", json.dumps(done)])
    assert generation.failure is not None
