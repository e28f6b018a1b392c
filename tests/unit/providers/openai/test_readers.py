"""What the OpenAI readers make of documented requests and answers.

The bodies are those of OpenAI's API reference (platform.openai.com/docs/api-reference: chat, responses, embeddings,
completions, and their streaming pages) or follow its schemas; the expected values are written by hand from it, in the
shapes of posthog 7.91.1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.exchanges.openai import (
    CHAT_CHUNKS,
    CHAT_REQUEST,
    CHAT_RESPONSE,
    CHAT_USAGE,
    COMPLETIONS_REQUEST,
    COMPLETIONS_RESPONSE,
    COMPLETIONS_USAGE,
    EMBEDDINGS_REQUEST,
    EMBEDDINGS_RESPONSE,
    RESPONSES_CHUNKS,
    RESPONSES_REQUEST,
    RESPONSES_RESPONSE,
    RESPONSES_USAGE,
    STORY,
    STORY_ITEM,
    TOOL_CHUNKS,
    TOOL_RESPONSE,
    UNFINISHED,
    WEATHER_CALL,
    WEATHER_TOOL,
    chunk,
    delta,
    encode,
    read,
)

from posthog_autoinstrument.providers.generation import Failure, Generation, Usage


def text(role: str, said: str) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": said}]}


# --- chat ---


def test_chat() -> None:
    assert read("chat", CHAT_REQUEST, CHAT_RESPONSE) == Generation(
        model="gpt-4.1-2025-04-14",
        input=[
            {"role": "developer", "content": "You are a helpful assistant."},
            {"role": "user", "content": "Hello!"},
        ],
        output=[text("assistant", "Hello! How can I assist you today?")],
        parameters={"temperature": 0.2, "max_completion_tokens": 100, "stop": ["\n"]},
        usage=Usage(
            input_tokens=19,
            output_tokens=10,
            cache_read_input_tokens=0,
            reasoning_tokens=0,
            audio_input_tokens=0,
            audio_output_tokens=0,
            raw=CHAT_USAGE,
        ),
        stop_reason="stop",
        service_tier="default",
        response_id="chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
    )


def test_chat_streamed() -> None:
    streamed = read("chat", {**CHAT_REQUEST, "stream": True}, None, CHAT_CHUNKS)
    whole = read("chat", {**CHAT_REQUEST, "stream": True}, CHAT_RESPONSE)
    assert streamed.parameters["stream"] is True
    assert streamed.first_output_chunk == 1
    streamed.first_output_chunk = None
    assert streamed == whole


def test_chat_stream_without_usage_leaves_tokens_unknown() -> None:
    usage = read("chat", CHAT_REQUEST, None, [*CHAT_CHUNKS[:5], "[DONE]"]).usage
    assert usage == Usage()


def test_chat_stream_cut_midway_keeps_what_came() -> None:
    generation = read("chat", CHAT_REQUEST, None, CHAT_CHUNKS[:3])
    assert generation.output == [text("assistant", "Hello! How can I assist")]
    assert generation.stop_reason is None
    assert generation.failure is None


def test_every_choice_is_a_message() -> None:
    choices = [
        {"index": 0, "message": {"role": "assistant", "content": "Heads"}, "finish_reason": "stop"},
        {"index": 1, "message": {"role": "assistant", "content": "Tails"}, "finish_reason": "length"},
    ]
    chunks = [chunk(delta(1, content="Ta"), delta(0, content="Hea")), chunk(delta(1, content="ils"))]
    chunks += [chunk(delta(0, content="ds")), chunk(delta(1, "length")), chunk(delta(0, "stop"))]
    whole = read("chat", {**CHAT_REQUEST, "n": 2}, {**CHAT_RESPONSE, "choices": choices})
    streamed = read("chat", {**CHAT_REQUEST, "n": 2}, None, chunks)
    assert whole.output == streamed.output == [text("assistant", "Heads"), text("assistant", "Tails")]
    assert whole.stop_reason == streamed.stop_reason == "stop"
    assert whole.parameters["n"] == 2


def test_tool_calls() -> None:
    request = {**CHAT_REQUEST, "tools": [WEATHER_TOOL]}
    whole = read("chat", request, TOOL_RESPONSE)
    streamed = read("chat", request, None, TOOL_CHUNKS)
    assert whole.tools == [WEATHER_TOOL]
    assert whole.output == streamed.output == [{"role": "assistant", "content": [WEATHER_CALL]}]
    assert whole.stop_reason == streamed.stop_reason == "tool_calls"
    assert streamed.first_output_chunk == 0


def test_messages_keep_what_was_sent() -> None:
    messages = [
        {"role": "assistant", "content": None, "tool_calls": [WEATHER_CALL], "refusal": None, "annotations": []},
        {"role": "tool", "tool_call_id": "call_abc123", "content": "22 C"},
        {"role": "user", "name": "ada", "content": [{"type": "text", "text": "And now?"}], "weight": 1},
        {"role": "assistant", "content": "Rain.", "reasoning_content": "Clouds."},
    ]
    assert read("chat", {"model": "gpt-4.1", "messages": messages}).input == [
        {"role": "assistant", "content": None, "tool_calls": [WEATHER_CALL]},
        {"role": "tool", "content": "22 C", "tool_call_id": "call_abc123"},
        {"role": "user", "content": [{"type": "text", "text": "And now?"}], "name": "ada", "weight": 1},
        {"role": "assistant", "content": "Rain.", "reasoning_content": "Clouds."},
    ]
    assert read("chat", {"messages": "Hello"}).input == [{"role": "user", "content": "Hello"}]
    assert read("chat", {"messages": {"role": "user", "content": "Hi"}}).input == [{"role": "user", "content": "Hi"}]


def test_tool_calls_stand_by_their_numbers_whichever_came_first() -> None:
    def part(index: int, **said: Any) -> dict[str, Any]:
        return chunk(delta(tool_calls=[{"index": index, "function": said}]))

    chunks = [part(1, name="g"), part(0, name="f"), part(1, arguments="{}"), part(0, arguments="[]")]
    (said,) = read("chat", None, None, chunks).output or []
    assert [call["function"] for call in said["content"]] == [
        {"name": "f", "arguments": "[]"},
        {"name": "g", "arguments": "{}"},
    ]


def test_tool_calls_that_all_have_the_number_0() -> None:
    """As Gemini's compatible API numbers parallel calls: each comes whole, with an id and a name of its own."""
    calls = [
        {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{"}},
        {"index": 0, "function": {"arguments": "}"}},
        {"index": 0, "id": "b", "function": {"name": "g", "arguments": "["}},
        {"index": 0, "function": {"arguments": "]"}},
    ]
    (said,) = read("chat", None, None, [chunk(delta(tool_calls=[call])) for call in calls]).output or []
    assert [(call["id"], call["function"]) for call in said["content"]] == [
        ("a", {"name": "f", "arguments": "{}"}),
        ("b", {"name": "g", "arguments": "[]"}),
    ]


def test_content_in_parts_as_mistral_streams_it() -> None:
    def thinking(text: str) -> dict[str, Any]:
        return {"type": "thinking", "thinking": [{"type": "text", "text": text}]}

    whole = {
        "choices": [{"index": 0, "message": {"content": [thinking("9.11 is less."), {"type": "text", "text": "9.8"}]}}]
    }
    chunks = [chunk(delta(content=[thinking("9.11 ")])), chunk(delta(content=[thinking("is less.")]))]
    chunks += [chunk(delta(content="9.")), chunk(delta(content="8"))]
    expected = [{"type": "thinking", "thinking": "9.11 is less."}, {"type": "text", "text": "9.8"}]
    for generation in (read("chat", None, whole), read("chat", None, None, chunks)):
        assert generation.output == [{"role": "assistant", "content": expected}]


def test_tool_deltas_without_an_index() -> None:
    """As from servers that leave it out: an id or a name begins a call, anything else continues the latest."""
    calls = [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x"'}},
        {"function": {"arguments": ": 1}"}},
        {"function": {"name": "g", "arguments": "{}"}},
        {"id": "a", "function": {"arguments": " "}},
    ]
    streamed = read("chat", None, None, [chunk(delta(tool_calls=[call])) for call in calls])
    assert streamed.output == [
        {
            "role": "assistant",
            "content": [
                {"type": "function", "id": "a", "function": {"name": "f", "arguments": '{"x": 1} '}},
                {"type": "function", "id": "", "function": {"name": "g", "arguments": "{}"}},
            ],
        }
    ]


def test_custom_tools() -> None:
    call = {"id": "call_1", "type": "custom", "custom": {"name": "code_exec", "input": "print('hello')"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    whole = read("chat", None, {"choices": [{"index": 0, "message": message}]})
    begun = {**call, "index": 0, "custom": {"name": "code_exec", "input": "print("}}
    more = {"index": 0, "custom": {"input": "'hello')"}}
    streamed = read("chat", None, None, [chunk(delta(tool_calls=[begun])), chunk(delta(tool_calls=[more]))])
    expected = {"type": "function", "id": "call_1", "function": {"name": "code_exec", "arguments": "print('hello')"}}
    assert whole.output == streamed.output == [{"role": "assistant", "content": [expected]}]


def test_deprecated_functions() -> None:
    function = WEATHER_TOOL["function"]
    called = {"name": "get_current_weather", "arguments": "{}"}
    request = {"messages": [{"role": "assistant", "content": None, "function_call": called}], "functions": [function]}
    message = {"role": "assistant", "content": None, "function_call": called}
    whole = read("chat", request, {"choices": [{"index": 0, "message": message, "finish_reason": "function_call"}]})
    begun = delta(function_call={"name": "get_current_weather", "arguments": ""})
    streamed = read("chat", request, None, [chunk(begun), chunk(delta(function_call={"arguments": "{}"}))])
    assert whole.tools == [function]
    assert whole.input == [message]
    assert whole.output == [{"role": "assistant", "content": [{"type": "function", "id": None, "function": called}]}]
    assert streamed.output == whole.output
    assert streamed.first_output_chunk == 0


def test_refusal() -> None:
    message = {"role": "assistant", "content": None, "refusal": "I'm sorry, I cannot assist with that request."}
    whole = read("chat", None, {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})
    chunks = [chunk(delta(refusal="I'm sorry,")), chunk(delta(refusal=" I cannot assist with that request."))]
    streamed = read("chat", None, None, chunks)
    part = {"type": "refusal", "refusal": "I'm sorry, I cannot assist with that request."}
    assert whole.output == streamed.output == [{"role": "assistant", "content": [part]}]


def test_audio() -> None:
    audio = {"id": "audio_abc123", "expires_at": 1729018505, "data": "UklGRg==", "transcript": "Yes, they do."}
    whole = read("chat", None, {"choices": [{"index": 0, "message": {"role": "assistant", "audio": audio}}]})
    deltas = [
        {"id": "audio_abc123", "transcript": "Yes,"},
        {"data": "UklG"},
        {"transcript": " they do.", "data": "Rg=="},
        {"expires_at": 1729018505},
    ]
    streamed = read("chat", None, None, [chunk(delta(role="assistant"))] + [chunk(delta(audio=one)) for one in deltas])
    assert whole.output == streamed.output == [{"role": "assistant", "content": [{"type": "audio", **audio}]}]
    assert streamed.first_output_chunk == 1


@pytest.mark.parametrize("member", ["reasoning_content", "reasoning"])
def test_reasoning_of_compatible_servers(member: str) -> None:
    message = {"role": "assistant", member: "9.11 is 9 + 0.11.", "content": "9.8"}
    whole = read("chat", None, {"choices": [{"index": 0, "message": message}]})
    deltas: list[dict[str, Any]] = [{member: "9.11 is", "content": None}, {member: " 9 + 0.11."}, {"content": "9.8"}]
    streamed = read("chat", None, None, [chunk(delta(**said)) for said in deltas])
    parts = [{"type": "thinking", "thinking": "9.11 is 9 + 0.11."}, {"type": "text", "text": "9.8"}]
    assert whole.output == streamed.output == [{"role": "assistant", "content": parts}]
    assert streamed.first_output_chunk == 0


def test_reasoning_in_details() -> None:
    """OpenRouter sends them beside `reasoning`; MiniMax alone, in a stream all of them so far each time."""

    def detail(said: str, kind: str = "text") -> dict[str, Any]:
        return {"type": f"reasoning.{kind}", kind: said, "index": 0}

    said = [detail("9.11 is", "summary"), detail(" 9 + 0.11."), {"type": "reasoning.encrypted", "data": "Z2Fy"}]
    expected = [
        {
            "role": "assistant",
            "content": [{"type": "thinking", "thinking": "9.11 is 9 + 0.11."}, *text("", "9.8")["content"]],
        }
    ]
    for beside in ({}, {"reasoning": "9.11 is 9 + 0.11.", "reasoning_content": "9.11 is 9 + 0.11."}):
        message = {"role": "assistant", "content": "9.8", "reasoning_details": said, **beside}
        assert read("chat", None, {"choices": [{"index": 0, "message": message}]}).output == expected
    for pieces in (["9.11 is", " 9 + 0.11."], ["9.11", "9.11 is 9", "9.11 is 9 + 0.11."]):
        deltas = [delta(reasoning_details=[detail(piece)]) for piece in pieces]
        streamed = read("chat", None, None, [chunk(one) for one in [*deltas, delta(content="9.8")]])
        assert streamed.output == expected
        assert streamed.first_output_chunk == 0


def test_usage_details() -> None:
    usage = {
        "prompt_tokens": 1200,
        "completion_tokens": 300,
        "prompt_tokens_details": {
            "cached_tokens": 1024,
            "cache_write_tokens": 128,
            "audio_tokens": 50,
            "image_tokens": 70,
            "cached_tokens_details": {"audio_tokens": 20},
        },
        "completion_tokens_details": {"reasoning_tokens": 64, "audio_tokens": 30, "text_tokens": 206},
        "cost": 0.0125,
    }
    generation = read("chat", CHAT_REQUEST, {**CHAT_RESPONSE, "usage": usage})
    assert generation.cost_usd == 0.0125
    assert generation.usage == Usage(
        input_tokens=1200,
        output_tokens=300,
        cache_read_input_tokens=1024,
        cache_creation_input_tokens=128,
        reasoning_tokens=64,
        audio_input_tokens=50,
        audio_output_tokens=30,
        image_input_tokens=70,
        text_output_tokens=206,
        cache_read_audio_tokens=20,
        raw=usage,
    )


def test_web_search_in_chat_is_seen_by_its_citations() -> None:
    citation = {"type": "url_citation", "url_citation": {"url": "https://example.com", "title": "Example"}}
    message = {"role": "assistant", "content": "So it is.", "annotations": [citation]}
    whole = read("chat", None, {"choices": [{"index": 0, "message": message}]})
    streamed = read("chat", None, None, [chunk(delta(content="So it is.", annotations=[citation])), chunk(delta())])
    assert whole.usage.web_search_count == streamed.usage.web_search_count == 1


def test_model_of_a_stream_is_the_first_that_is_named() -> None:
    """Azure's first chunk carries content filter results, an empty model and no choices."""
    first = {"choices": [], "created": 0, "id": "", "model": "", "prompt_filter_results": [{"prompt_index": 0}]}
    generation = read("chat", {"model": "my-deployment"}, None, [first, *CHAT_CHUNKS])
    assert generation.model == "gpt-4.1-2025-04-14"
    assert generation.response_id == "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT"


def test_model_of_the_request_when_there_is_no_answer() -> None:
    assert read("chat", CHAT_REQUEST).model == "gpt-4.1"


# --- failures ---

INVALID_KEY = {
    "error": {
        "message": "Incorrect API key provided: abc.",
        "type": "invalid_request_error",
        "param": None,
        "code": "invalid_api_key",
    }
}


@pytest.mark.parametrize("endpoint", ["chat", "responses", "embeddings", "completions"])
@pytest.mark.parametrize(
    ("body", "failure"),
    [
        (
            INVALID_KEY,
            Failure("Incorrect API key provided: abc.", code="invalid_api_key", type="invalid_request_error"),
        ),
        ({"error": {"message": "No endpoints found.", "code": 404}}, Failure("No endpoints found.", code="404")),
        ({"error": "model not found"}, Failure("model not found")),
        ([{"error": {"code": 400, "message": "Bad", "status": "X"}}], Failure("Bad", code="400", type="X")),
        ({"detail": "Not Found"}, Failure("Not Found")),
        ({"detail": [{"msg": "required"}]}, Failure('[{"msg": "required"}]')),
        ({"object": "error", "message": "too long", "code": 400}, Failure("too long", code="400")),
        ({"success": False, "errors": [{"code": 7003, "message": "No route"}]}, Failure("No route", code="7003")),
        ({"error_code": 336003, "error_msg": "no messages"}, Failure("no messages", code="336003")),
        ({"base_resp": {"status_code": 1004, "status_msg": "login fail"}}, Failure("login fail", code="1004")),
        (
            {"error": "Model is overloaded", "error_type": "overloaded"},
            Failure("Model is overloaded", type="overloaded"),
        ),
        (b"upstream connect error", Failure("upstream connect error")),
        (b"<html>502</html>\n", Failure("<html>502</html>")),
        (b"", None),
        (b'{"error": {"mess', None),
        (b"{}", None),
    ],
)
def test_error_bodies(endpoint: str, body: Any, failure: Failure | None) -> None:
    assert read(endpoint, {"model": "m"}, body).failure == failure


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("error", "failure"),
    [
        ({"code": 502, "message": "Provider returned error"}, Failure("Provider returned error", code="502")),
        ("overloaded", Failure("overloaded")),
        (None, Failure("The answer ended with finish_reason error")),
    ],
)
def test_error_inside_a_choice(error: Any, failure: Failure, streamed: bool) -> None:
    member = "delta" if streamed else "message"
    choice = {"index": 0, member: {"content": "Half an "}, "finish_reason": "error", "error": error}
    body = {**CHAT_RESPONSE, "choices": [choice]}
    generation = read("chat", None, None, [body]) if streamed else read("chat", None, body)
    assert generation.failure == failure
    assert generation.stop_reason == "error"
    assert generation.output == [text("assistant", "Half an ")]


def test_error_inside_a_stream_ends_it() -> None:
    error = {"error": {"message": "The server had an error", "type": "server_error", "param": None, "code": None}}
    generation = read("chat", CHAT_REQUEST, None, [*CHAT_CHUNKS[:2], error, *CHAT_CHUNKS[2:]])
    assert generation.failure == Failure("The server had an error", type="server_error", raised=True)
    assert generation.output == [text("assistant", "Hello")]


def test_text_that_is_not_json_is_what_made_the_sdk_raise() -> None:
    generation = read("chat", CHAT_REQUEST, None, [*CHAT_CHUNKS[:2], '{"choices"', *CHAT_CHUNKS[2:]])
    assert generation.failure == Failure("Expecting ':' delimiter: line 1 column 11 (char 10)", raised=True)
    assert generation.output == [text("assistant", "Hello")]


def test_nothing_after_done_is_read() -> None:
    assert read("chat", CHAT_REQUEST, None, ["[DONE]", "not json"]).failure is None


# --- responses ---


def test_responses() -> None:
    assert read("responses", RESPONSES_REQUEST, RESPONSES_RESPONSE) == Generation(
        model="gpt-4.1-2025-04-14",
        input=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Tell me a three sentence bedtime story about a unicorn."},
        ],
        output=[text("assistant", STORY)],
        instructions="Be brief.",
        parameters={"temperature": 1.0},
        usage=Usage(
            input_tokens=36, output_tokens=87, cache_read_input_tokens=0, reasoning_tokens=0, raw=RESPONSES_USAGE
        ),
        stop_reason="completed",
        service_tier="default",
        response_id="resp_67ccd2bed1ec8190b14f964abc0542670bb6a6b452d3795b",
    )


def test_responses_streamed() -> None:
    streamed = read("responses", RESPONSES_REQUEST, None, RESPONSES_CHUNKS)
    assert streamed.first_output_chunk == 4
    streamed.first_output_chunk = None
    assert streamed == read("responses", RESPONSES_REQUEST, RESPONSES_RESPONSE)


@pytest.mark.parametrize(("seen", "said"), [(4, None), (5, STORY[:20]), (6, STORY), (7, STORY), (8, STORY)])
def test_responses_stream_cut_midway_is_put_together(seen: int, said: str | None) -> None:
    generation = read("responses", RESPONSES_REQUEST, None, RESPONSES_CHUNKS[:seen])
    assert generation.output == ([] if said is None else [text("assistant", said)])
    assert generation.model == "gpt-4.1-2025-04-14"
    assert generation.stop_reason is None
    assert generation.usage == Usage()


def test_responses_stream_of_all_kinds_cut_midway() -> None:
    call = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "get_weather", "arguments": ""}
    search = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
    chunks = [
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": {"type": "reasoning", "id": "rs_1", "summary": []},
        },
        {"type": "response.reasoning_summary_text.delta", "output_index": 0, "summary_index": 0, "delta": "First, "},
        {"type": "response.reasoning_summary_text.delta", "output_index": 0, "summary_index": 0, "delta": "think."},
        {"type": "response.reasoning_summary_text.delta", "output_index": 0, "summary_index": 1, "delta": "Then act."},
        {"type": "response.output_item.done", "output_index": 1, "item": search},
        {"type": "response.output_item.added", "output_index": 2, "item": call},
        {"type": "response.function_call_arguments.delta", "output_index": 2, "delta": '{"city":'},
        {"type": "response.function_call_arguments.delta", "output_index": 2, "delta": '"Paris'},
        {"type": "response.refusal.delta", "output_index": 3, "content_index": 0, "delta": "I cannot"},
    ]
    generation = read("responses", None, None, chunks)
    summary = [{"type": "summary_text", "text": "First, think."}, {"type": "summary_text", "text": "Then act."}]
    assert generation.output == [
        {
            "role": "assistant",
            "content": [
                {"type": "reasoning", "id": "rs_1", "summary": summary},
                search,
                {
                    "type": "function",
                    "id": "call_1",
                    "function": {"name": "get_weather", "arguments": '{"city":"Paris'},
                },
                {"type": "refusal", "refusal": "I cannot"},
            ],
        }
    ]
    assert generation.usage.web_search_count == 1
    assert generation.first_output_chunk == 1


def test_output_items() -> None:
    output = [
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": None},
        {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "x"}},
        {"type": "web_search_call", "id": "ws_2", "status": "completed", "action": None},
        {"type": "image_generation_call", "id": "ig_1", "result": "iVBORw0=", "status": "completed", "size": "auto"},
        {"type": "custom_tool_call", "call_id": "call_2", "name": "code_exec", "input": "print()"},
        {
            "type": "function_call",
            "id": "fc_1",
            "call_id": "call_1",
            "name": "f",
            "arguments": "{}",
            "status": "completed",
        },
        {**STORY_ITEM, "content": [{"type": "refusal", "refusal": "No."}, *STORY_ITEM["content"]]},
    ]
    generation = read("responses", None, {**RESPONSES_RESPONSE, "output": output})
    assert generation.usage.web_search_count == 2
    assert generation.output == [
        {
            "role": "assistant",
            "content": [
                {"type": "reasoning", "id": "rs_1", "summary": []},
                {
                    "type": "web_search_call",
                    "id": "ws_1",
                    "status": "completed",
                    "action": {"type": "search", "query": "x"},
                },
                {"type": "web_search_call", "id": "ws_2", "status": "completed"},
                {"type": "image_generation_call", "result": "iVBORw0=", "status": "completed", "size": "auto"},
                {"type": "custom_tool_call", "call_id": "call_2", "name": "code_exec", "input": "print()"},
                {"type": "function", "id": "call_1", "function": {"name": "f", "arguments": "{}"}},
                {"type": "refusal", "refusal": "No."},
                {"type": "text", "text": STORY},
            ],
        }
    ]


def test_input_items() -> None:
    sent = [
        {"role": "system", "content": "Be kind."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
        {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}", "status": None},
        {"type": "function_call_output", "call_id": "call_1", "output": "22 C"},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": None},
        "And now?",
    ]
    generation = read("responses", {"input": sent, "instructions": "Be brief."})
    assert generation.input == [
        {"role": "system", "content": "Be kind.\n\nBe brief."},
        {"role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
        {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "22 C"},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"role": "user", "content": "And now?"},
    ]


def test_instructions_after_a_system_message_of_parts() -> None:
    picture = {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0="}
    generation = read("responses", {"input": [{"role": "system", "content": [picture]}], "instructions": "Be brief."})
    assert generation.input == [{"role": "system", "content": [picture, {"type": "input_text", "text": "Be brief."}]}]


def test_stored_prompt_takes_the_model_from_the_answer() -> None:
    prompt = {"id": "pmpt_123", "version": "2", "variables": {"city": "Paris"}}
    generation = read("responses", {"prompt": prompt, "input": "Hello"}, RESPONSES_RESPONSE)
    assert generation.model == "gpt-4.1-2025-04-14"
    assert generation.parameters == {"prompt": {"id": "pmpt_123", "version": "2"}}  # not what was put into it
    assert generation.input == [{"type": "prompt", **prompt}, {"role": "user", "content": "Hello"}]
    assert read("responses", {"prompt": {"id": "pmpt_123"}}).input == []


def test_a_bad_byte_in_an_answer_costs_one_character() -> None:
    body = encode(CHAT_RESPONSE).replace(b"How can I", b"How \xff can I")
    generation = read("chat", CHAT_REQUEST, body)
    assert generation.usage.input_tokens == 19
    assert generation.output == [text("assistant", "Hello! How \ufffd can I assist you today?")]


def test_a_response_that_was_polled_shows_what_came_after_its_last_state() -> None:
    """`responses.retrieve(stream=True)`: the snapshot that the stream begins with has the first item already."""
    begun = {**UNFINISHED, "output": [STORY_ITEM]}
    more = {"type": "response.output_item.done", "output_index": 1, "item": {**STORY_ITEM, "id": "msg_2"}}
    events = [{"type": "response.in_progress", "response": begun}, {**more, "output_index": 0}, more]
    generation = read("responses", None, None, events)
    assert generation.output is not None
    assert len(generation.output[0]["content"]) == 2


@pytest.mark.parametrize(
    ("status", "details", "stop_reason"),
    [
        ("completed", None, "completed"),
        ("incomplete", {"reason": "max_output_tokens"}, "max_output_tokens"),
        ("incomplete", None, "incomplete"),
        ("cancelled", None, "cancelled"),
        ("queued", None, None),
        ("in_progress", None, None),
    ],
)
def test_stop_reason_of_responses(status: str, details: Any, stop_reason: str | None) -> None:
    response = {**RESPONSES_RESPONSE, "status": status, "incomplete_details": details}
    kind = "response.incomplete" if status == "incomplete" else "response.completed"
    streamed = read("responses", None, None, [{"type": kind, "response": response}])
    whole = read("responses", None, response)
    assert whole.stop_reason == streamed.stop_reason == stop_reason
    assert whole.failure is None


def test_failed_response() -> None:
    error = {"code": "server_error", "message": "The model failed to generate a response."}
    failed = {**UNFINISHED, "status": "failed", "error": error}
    expected = Failure("The model failed to generate a response.", code="server_error")
    whole = read("responses", None, failed)
    streamed = read("responses", None, None, [*RESPONSES_CHUNKS[:5], {"type": "response.failed", "response": failed}])
    assert whole.failure == streamed.failure == expected
    assert whole.stop_reason == streamed.stop_reason == "failed"
    assert whole.output == []
    assert streamed.output == [text("assistant", STORY[:20])]


def test_failed_response_that_says_no_more() -> None:
    assert read("responses", None, {**UNFINISHED, "status": "failed"}).failure == Failure()


def test_error_event_of_responses() -> None:
    event = {
        "type": "error",
        "code": "rate_limit_exceeded",
        "message": "Slow down",
        "param": None,
        "sequence_number": 1,
    }
    generation = read("responses", None, None, [*RESPONSES_CHUNKS[:5], event])
    assert generation.failure == Failure("Slow down", code="rate_limit_exceeded")


# --- embeddings ---


def test_embeddings() -> None:
    assert read("embeddings", EMBEDDINGS_REQUEST, EMBEDDINGS_RESPONSE) == Generation(
        model="text-embedding-ada-002-v2",
        input="The food was delicious and the waiter...",
        usage=Usage(input_tokens=8, raw={"prompt_tokens": 8, "total_tokens": 8}),
    )


@pytest.mark.parametrize("sent", ["one", ["one", "two"], [1, 2, 3], [[1, 2], [3]]])
def test_embedding_input_is_kept_as_it_was_sent(sent: Any) -> None:
    assert read("embeddings", {"input": sent}).input == sent


@pytest.mark.parametrize("order", [("object", "data", "model", "usage"), ("model", "usage", "object", "data")])
@pytest.mark.parametrize("vector", ["A" * 20_000, [0.0023064255] * 5000], ids=["base64", "floats"])
@pytest.mark.parametrize("cut", [False, True], ids=["whole", "cut"])
def test_long_embeddings_are_read_at_their_ends(order: tuple[str, ...], vector: Any, cut: bool) -> None:
    answer = {**EMBEDDINGS_RESPONSE, "data": [{"object": "embedding", "index": 0, "embedding": vector}]}
    body = encode({name: answer[name] for name in order})
    if cut:
        body = body[:4096] + b"\n...\n" + body[-4096:]
    generation = read("embeddings", EMBEDDINGS_REQUEST, body)
    assert generation.model == "text-embedding-ada-002-v2"
    assert generation.usage.input_tokens == 8
    assert generation.failure is None


# --- legacy completions ---


def test_completions() -> None:
    assert read("completions", COMPLETIONS_REQUEST, COMPLETIONS_RESPONSE) == Generation(
        model="gpt-3.5-turbo-instruct",
        input=[{"role": "user", "content": "Say this is a test"}],
        output=[text("assistant", "\n\nThis is indeed a test")],
        parameters={"max_tokens": 7, "temperature": 0},
        usage=Usage(input_tokens=5, output_tokens=7, raw=COMPLETIONS_USAGE),
        stop_reason="length",
        response_id="cmpl-uqkvlQyYK7bGYrRHQ0eXlWi7",
    )


@pytest.mark.parametrize(
    ("prompt", "contents"),
    [(["one", "two"], ["one", "two"]), ([1, 2], [[1, 2]]), ([[1], [2]], [[[1], [2]]]), (None, [])],
)
def test_prompts(prompt: Any, contents: list[Any]) -> None:
    expected = [{"role": "user", "content": content} for content in contents]
    assert read("completions", {"prompt": prompt}).input == expected


# --- the contract's samples ---


# --- any split of any answer ---

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
names = st.text("abcdefgh_", min_size=1, max_size=8)
calls = st.lists(st.builds(lambda name, arguments: {"name": name, "arguments": arguments}, names, words), max_size=3)
messages = st.builds(
    lambda thinking, content, refusal, calls: {
        "role": "assistant",
        "reasoning_content": thinking,
        "content": content,
        "refusal": refusal,
        "tool_calls": [
            {"id": f"call_{position}", "type": "function", "function": call} for position, call in enumerate(calls)
        ],
    },
    st.none() | words,
    st.none() | words,
    st.none() | words,
    calls,
)


def pieces(draw: Callable[[st.SearchStrategy[list[int]]], list[int]], whole: str) -> list[str]:
    """`whole` cut anywhere, empty pieces too."""
    cuts = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=4)))
    return [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]


@st.composite
def streamed_answers(draw: st.DrawFn) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A chat answer of one to three choices, and chunks that say the same: choices interleaved, deltas cut anywhere."""
    choices, queues = [], []
    for index, message in enumerate(draw(st.lists(messages, min_size=1, max_size=3))):
        reason = draw(st.sampled_from(["stop", "length", "tool_calls"]))
        choices.append({"index": index, "message": message, "finish_reason": reason})
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
        for member in ("reasoning_content", "content", "refusal"):
            deltas += [{member: piece} for piece in pieces(draw, message[member] or "")]
        for position, call in enumerate(message["tool_calls"]):
            begun = {**call, "index": position, "function": {"name": call["function"]["name"], "arguments": ""}}
            parts = [
                {"index": position, "function": {"arguments": piece}}
                for piece in pieces(draw, call["function"]["arguments"])
            ]
            deltas += [{"tool_calls": [part]} for part in [begun, *parts]]
        queues.append([delta(index, **said) for said in deltas] + [delta(index, reason)])
    chunks = []
    while queues:
        queue = draw(st.sampled_from(queues))
        chunks.append(chunk(queue.pop(0)))
        queues = [queue for queue in queues if queue]
    return {**CHAT_RESPONSE, "choices": choices}, [*chunks, chunk(usage=CHAT_USAGE)]


@given(streamed_answers())
@settings(deadline=None)
def test_any_split_of_a_chat_answer_gives_the_same_generation(
    answer: tuple[dict[str, Any], list[dict[str, Any]]],
) -> None:
    response, chunks = answer
    streamed = read("chat", CHAT_REQUEST, None, [*chunks, "[DONE]"])
    streamed.first_output_chunk = None
    assert streamed == read("chat", CHAT_REQUEST, response)


@given(st.lists(words.filter(bool), min_size=1, max_size=4), st.data())
@settings(deadline=None)
def test_any_split_of_a_response_gives_the_same_output(parts: list[str], data: st.DataObject) -> None:
    content = [{"type": "output_text", "text": part, "annotations": []} for part in parts]
    whole = read("responses", None, {**RESPONSES_RESPONSE, "output": [{**STORY_ITEM, "content": content}]})
    chunks = [
        {"type": "response.output_text.delta", "output_index": 0, "content_index": position, "delta": piece}
        for position, part in enumerate(parts)
        for piece in pieces(data.draw, part)
    ]
    assert read("responses", None, None, [*RESPONSES_CHUNKS[:3], *chunks]).output == whole.output
