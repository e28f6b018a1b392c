"""The exchanges that are compared. Longer than other files: it is one table.

A difference that is wanted is named in the case that shows it, so that it fails there when it is gone.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import decimal
import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import openai
import posthog
from openai.types.chat import ChatCompletionMessage
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseReasoningItem
from pydantic import BaseModel

from posthog_autoinstrument.testing import Answer, sse

from .. import calls
from ..calls import HELLO
from . import Case
from .answers import (
    CHAT_USAGE,
    MODEL,
    RESPONSE_USAGE,
    Json,
    chat,
    chunk,
    chunks,
    embeddings,
    ended,
    error,
    function,
    message,
    response,
    response_events,
    said,
    stream,
)

PICTURE = base64.b64encode(bytes(range(256))).decode()
"""344 characters of base64."""
PICTURE_URL = f"data:image/png;base64,{PICTURE}"
SOUND = "UklGRiQAAABXQVZF"
TOOL: Json = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
FLAT_TOOL: Json = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False}
FIRST = ("time to first token",)


class Book(BaseModel):
    title: str


def asking(**arguments: Any) -> Json:
    """The arguments of a chat call."""
    return {**calls.CHAT.arguments, **arguments}


def streaming(**arguments: Any) -> Json:
    """The arguments of a streamed chat call."""
    return asking(stream=True, **arguments)


def prompting(**arguments: Any) -> Json:
    """The arguments of a call of the Responses API."""
    return {**calls.RESPONSES.arguments, **arguments}


def embedding(**arguments: Any) -> Json:
    """The arguments of an embedding."""
    return {**calls.EMBEDDINGS.arguments, **arguments}


@contextlib.contextmanager
def in_posthog_context() -> Iterator[None]:
    """The posthog package's own context, with a user, a session and a tag."""
    with posthog.new_context(capture_exceptions=False):
        posthog.identify_context("user-2")
        posthog.set_context_session("session-2")
        posthog.tag("plan", "pro")
        yield


CHAT, PARSE = calls.CHAT.method, f"{calls.CHAT.resource}.parse"
RESPONSES, EMBEDDINGS = calls.RESPONSES.method, calls.EMBEDDINGS.method


def spoken(name: str, arguments: Json, *answers: Answer, wanted: tuple[str, ...] = (), **members: Any) -> Case:
    """A chat call."""
    return Case(f"chat: {name}", CHAT, arguments, answers, wanted, **members)


def streamed(name: str, *answers: Answer, wanted: tuple[str, ...] = FIRST, **members: Any) -> Case:
    """A streamed chat call."""
    return Case(f"chat stream: {name}", CHAT, members.pop("arguments", streaming()), answers, wanted, **members)


def responded(name: str, arguments: Json, *answers: Answer, wanted: tuple[str, ...] = (), **members: Any) -> Case:
    """A call of the Responses API."""
    return Case(f"responses: {name}", RESPONSES, arguments, answers, wanted, **members)


CHATS = (
    spoken("text", asking(), chat()),
    spoken(
        "parameters",
        asking(
            temperature=0.5,
            max_tokens=9,
            max_completion_tokens=9,
            top_p=0.9,
            frequency_penalty=0.1,
            presence_penalty=0,
            n=1,
            stop=["end"],
            seed=7,
            stream=False,
            user="someone",
            extra_body={"top_k": 3},
        ),
        chat(),
    ),
    spoken("system prompt", asking(messages=[{"role": "system", "content": "Be brief."}, *HELLO]), chat()),
    spoken(
        "developer and names",
        asking(messages=[{"role": "developer", "content": "Be brief."}, {**HELLO[0], "name": "Ada"}]),
        chat(),
    ),
    spoken(
        "content parts",
        asking(messages=[{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]),
        chat(),
    ),
    spoken("tools", asking(tools=[TOOL]), chat(message(None, tool_calls=[function(1)]), finish_reason="tool_calls")),
    spoken(
        "parallel tool calls with text",
        asking(tools=[TOOL], parallel_tool_calls=True),
        chat(message("Looking.", tool_calls=[function(1), function(2, "{}")]), finish_reason="tool_calls"),
    ),
    spoken(
        "tool results",
        asking(
            messages=[
                *HELLO,
                {"role": "assistant", "content": None, "tool_calls": [function(1)]},
                {"role": "tool", "tool_call_id": "call_1", "content": "Rain"},
            ]
        ),
        chat(),
    ),
    spoken(
        "the SDK's own message sent back",
        asking(
            messages=[
                *HELLO,
                ChatCompletionMessage.model_validate(message(None, tool_calls=[function(1)])),
                {"role": "tool", "tool_call_id": "call_1", "content": "Rain"},
            ]
        ),
        chat(),
    ),
    spoken(
        "deprecated functions",
        asking(
            functions=[TOOL["function"]],
            messages=[*HELLO, message(None, function_call={"name": "weather", "arguments": "{}"})],
        ),
        chat(message(None, function_call={"name": "weather", "arguments": "{}"}), finish_reason="function_call"),
        wanted=("function_call",),
    ),
    spoken(
        "custom tool",
        asking(tools=[{"type": "custom", "custom": {"name": "sql"}}]),
        chat(
            message(
                None,
                tool_calls=[{"id": "call_1", "type": "custom", "custom": {"name": "sql", "input": "SELECT 1"}}],
            ),
            finish_reason="tool_calls",
        ),
    ),
    spoken("two choices", asking(n=2), chat(message("One."), message("Two.")), wanted=("choices apart",)),
    spoken("refusal", asking(), chat(message(None, refusal="I cannot."))),
    spoken("empty answer", asking(), chat(message(""))),
    spoken("no usage", asking(), chat(usage=None)),
    spoken("content filter", asking(), chat(message(None), finish_reason="content_filter")),
    spoken(
        "image in base64",
        asking(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": PICTURE_URL}}]}]),
        chat(),
        wanted=("media size",),
    ),
    spoken(
        "image by address",
        asking(
            messages=[
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What is it?"},
                        {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}},
                    ],
                }
            ]
        ),
        chat(),
    ),
    spoken(
        "sound and file sent",
        asking(
            messages=[
                {
                    "role": "user",
                    "content": [
                        {"type": "input_audio", "input_audio": {"data": PICTURE, "format": "wav"}},
                        {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{PICTURE}"}},
                    ],
                }
            ]
        ),
        chat(),
        wanted=("media size",),
    ),
    spoken(
        "audio output",
        asking(modalities=["text", "audio"], audio={"voice": "alloy", "format": "wav"}),
        chat(
            message(None, audio={"id": "audio_1", "data": SOUND, "expires_at": 1_750_000_000, "transcript": "Hello"}),
            usage={
                **CHAT_USAGE,
                "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 4},
                "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 5, "text_tokens": 2},
            },
        ),
        wanted=("audio placeholder", "modality tokens"),
    ),
    spoken(
        "long audio output",
        asking(modalities=["text", "audio"], audio={"voice": "alloy", "format": "wav"}),
        chat(
            message(None, audio={"id": "audio_1", "data": PICTURE, "expires_at": 1_750_000_000, "transcript": "Hello"})
        ),
        wanted=("media size",),
    ),
    spoken(
        "cached tokens",
        asking(),
        chat(usage={**CHAT_USAGE, "prompt_tokens_details": {"cached_tokens": 8, "audio_tokens": 0}}),
    ),
    spoken(
        "cache writes",
        asking(),
        chat(usage={**CHAT_USAGE, "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 8}}),
        wanted=("cache writes",),
    ),
    spoken(
        "reasoning tokens",
        asking(reasoning_effort="low"),
        chat(usage={**CHAT_USAGE, "completion_tokens_details": {"reasoning_tokens": 5}}),
    ),
    spoken(
        "reasoning text", asking(), chat(message("42", reasoning_content="Let me see.")), wanted=("reasoning text",)
    ),
    spoken(
        "web search",
        asking(web_search_options={}),
        chat(
            message(
                annotations=[
                    {
                        "type": "url_citation",
                        "url_citation": {
                            "start_index": 0,
                            "end_index": 5,
                            "title": "A",
                            "url": "https://example.com",
                        },
                    }
                ]
            )
        ),
        wanted=("citations",),
    ),
    spoken(
        "media inside a tool's answer",
        asking(
            messages=[
                {"role": "tool", "tool_call_id": "call_1", "content": f'{{"shot": "{PICTURE_URL[:-4]}", "ok": true}}'},
                *HELLO,
            ]
        ),
        chat(),
        wanted=("media inside a text",),
    ),
    spoken(
        "members of messages that the wrapper does not know",
        asking(messages=[*HELLO, message(reasoning_content="Let me see.", annotations=[])]),
        chat(),
        wanted=("details of input",),
    ),
    spoken("Perplexity's citations", asking(), chat(citations=["https://example.com"])),
    spoken("service tier asked and another served", asking(service_tier="flex"), chat(service_tier="default")),
    spoken("dated model", asking(), chat(model="gpt-4o-mini-2024-07-18"), wanted=("served model",)),
    spoken("answer after one 429", asking(), error(429), chat()),
    Case(
        "chat parse: structured output",
        PARSE,
        asking(response_format=Book),
        (chat(message('{"title": "Emma"}')),),
        ("sent parameters",),
    ),
    Case(
        "chat parse: tools",
        PARSE,
        asking(tools=[openai.pydantic_function_tool(Book)]),
        (
            chat(
                message(
                    None,
                    tool_calls=[
                        {
                            "id": "call_1",
                            "type": "function",
                            "function": {"name": "Book", "arguments": '{"title": "Emma"}'},
                        }
                    ],
                ),
                finish_reason="tool_calls",
            ),
        ),
        ("sent parameters",),
    ),
    Case(
        "chat parse: refusal",
        PARSE,
        asking(response_format=Book),
        (chat(message(None, refusal="I cannot.")),),
        ("sent parameters",),
    ),
    Case(
        "chat parse: cut short",
        PARSE,
        asking(response_format=Book),
        (chat(message('{"titl'), finish_reason="length"),),
        ("sent parameters", "answer behind an error"),
    ),
)

HELLO_DELTAS: tuple[Json, ...] = ({"content": "Hello "}, {"content": "there."})


def tool_delta(index: int, arguments: str = "", **members: Any) -> Json:
    """A piece of a streamed tool call."""
    call = {"index": index, "function": {"arguments": arguments, **members.pop("function", {})}, **members}
    return {"tool_calls": [call]}


CHAT_STREAMS = (
    streamed("text", stream(*HELLO_DELTAS)),
    streamed("usage asked for", stream(*HELLO_DELTAS), arguments=streaming(stream_options={"include_usage": True})),
    streamed("no usage", stream(*HELLO_DELTAS, usage=None)),
    streamed(
        "cached and reasoning tokens",
        stream(
            *HELLO_DELTAS,
            usage={
                **CHAT_USAGE,
                "prompt_tokens_details": {"cached_tokens": 8},
                "completion_tokens_details": {"reasoning_tokens": 5},
            },
        ),
    ),
    streamed(
        "usage without details",
        stream(*HELLO_DELTAS, usage={"prompt_tokens": 12, "completion_tokens": 7, "total_tokens": 19}),
        wanted=(*FIRST, "counts nobody gave"),
    ),
    streamed(
        "usage of zeros",
        stream(*HELLO_DELTAS, usage={"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}),
        wanted=(*FIRST, "counts nobody gave"),
    ),
    streamed(
        "parallel tools",
        stream(
            tool_delta(0, id="call_1", type="function", function={"name": "weather"}),
            tool_delta(0, '{"city": '),
            tool_delta(0, '"Oslo"}'),
            tool_delta(1, id="call_2", type="function", function={"name": "weather"}),
            tool_delta(1, "{}"),
            finish_reason="tool_calls",
        ),
        arguments=streaming(tools=[TOOL]),
    ),
    streamed(
        "text and a tool",
        stream(
            *HELLO_DELTAS,
            tool_delta(0, "{}", id="call_1", type="function", function={"name": "weather"}),
            finish_reason="tool_calls",
        ),
        arguments=streaming(tools=[TOOL]),
    ),
    streamed(
        "custom tool",
        stream(
            {"tool_calls": [{"index": 0, "id": "call_1", "type": "custom", "custom": {"name": "sql", "input": "SEL"}}]},
            {"tool_calls": [{"index": 0, "custom": {"input": "ECT 1"}}]},
            finish_reason="tool_calls",
        ),
        wanted=(*FIRST, "streamed custom tool"),
    ),
    streamed(
        "two choices",
        sse(
            *(chunk({"role": "assistant", "content": ""}, index) for index in (0, 1)),
            *(chunk({"content": word}, index) for word in ("Hello ", "there.") for index in (1, 0)),
            *(chunk({}, index, reason) for index, reason in ((0, "stop"), (1, "length"))),
            chunk(usage=CHAT_USAGE),
        ),
        arguments=streaming(n=2),
        wanted=(*FIRST, "choices apart"),
    ),
    streamed("refusal", stream({"refusal": "I "}, {"refusal": "cannot."})),
    streamed(
        "audio",
        stream(
            {"audio": {"id": "audio_1", "transcript": "Hello"}},
            {"audio": {"data": SOUND}},
            {"audio": {"data": SOUND}},
            {"audio": {"expires_at": 1_750_000_000}},
        ),
        wanted=(*FIRST, "audio placeholder"),
    ),
    streamed(
        "reasoning text", stream({"reasoning_content": "Let me see."}, *HELLO_DELTAS), wanted=(*FIRST, "reasoning text")
    ),
    streamed("empty", stream(), wanted=("nothing said",)),
    streamed("service tier", stream(*HELLO_DELTAS, service_tier="default"), arguments=streaming(service_tier="flex")),
    streamed("dated model", stream(*HELLO_DELTAS, model="gpt-4o-mini-2024-07-18"), wanted=(*FIRST, "served model")),
    streamed(
        "Azure's first chunk",
        sse({**chunk(), "model": "", "prompt_filter_results": []}, *chunks(*HELLO_DELTAS)),
        azure=True,
        wanted=(*FIRST, "azure"),
    ),
    streamed("Perplexity's citations", stream(*HELLO_DELTAS, citations=["https://example.com"])),
    streamed("closed early", stream(*HELLO_DELTAS), read=2),
    streamed("connection lost", replace(sse(*chunks(*HELLO_DELTAS)[:3], done=False), cut=True)),
    streamed(
        "error event",
        sse(*chunks(*HELLO_DELTAS)[:3], {"error": {"message": "Broken.", "type": "server_error", "code": "broken"}}),
    ),
    streamed("not JSON", Answer(chunks=[*(sse(*chunks(*HELLO_DELTAS)[:3], done=False).chunks or ()), "data: {no\n\n"])),
    streamed("400", error(400), wanted=("nothing said",)),
    streamed(
        "private 400",
        error(400, code="bad", param="messages[0].content"),
        arguments=streaming(posthog_privacy_mode=True),
        wanted=(),
    ),
    streamed(
        "private error event",
        sse(*chunks(*HELLO_DELTAS)[:3], {"error": {"message": "Broken.", "type": "server_error", "code": "broken"}}),
        arguments=streaming(posthog_privacy_mode=True),
    ),
)

SEARCH: Json = {
    "id": "ws_1",
    "type": "web_search_call",
    "status": "completed",
    "action": {"type": "search", "query": "Oslo", "sources": None},
}
REASONING: Json = {
    "id": "rs_1",
    "type": "reasoning",
    "summary": [{"type": "summary_text", "text": "Let me see."}],
    "encrypted_content": None,
    "status": None,
}
CALL: Json = {
    "id": "fc_1",
    "type": "function_call",
    "status": "completed",
    "call_id": "call_1",
    "name": "weather",
    "arguments": '{"city": "Oslo"}',
}
DRAWING: Json = {"id": "ig_1", "type": "image_generation_call", "status": "completed", "result": PICTURE}
CITED: list[Json] = [
    {
        "type": "output_text",
        "text": "Rain.",
        "logprobs": [],
        "annotations": [
            {"type": "url_citation", "start_index": 0, "end_index": 4, "title": "A", "url": "https://example.com"}
        ],
    }
]

ANSWERS = (
    responded("text", prompting(), response()),
    responded(
        "parameters",
        prompting(temperature=0.5, top_p=0.9, max_output_tokens=9, store=False, metadata={"a": "b"}),
        response(),
    ),
    responded("messages", prompting(input=[{"role": "system", "content": "Be brief."}, *HELLO]), response()),
    responded("tools", prompting(tools=[FLAT_TOOL]), response(CALL, {**CALL, "id": "fc_2", "call_id": "call_2"})),
    responded(
        "tool results",
        prompting(input=[*HELLO, CALL, {"type": "function_call_output", "call_id": "call_1", "output": "Rain"}]),
        response(),
    ),
    responded(
        "the SDK's own items sent back",
        prompting(
            input=[
                *HELLO,
                ResponseReasoningItem.model_validate(REASONING),
                ResponseFunctionToolCall.model_validate(CALL),
                {"type": "function_call_output", "call_id": "call_1", "output": "Rain"},
                ResponseOutputMessage.model_validate(said()),
            ]
        ),
        response(),
    ),
    responded(
        "reasoning",
        prompting(reasoning={"effort": "low", "summary": "auto"}),
        response(REASONING, said(), usage={**RESPONSE_USAGE, "output_tokens_details": {"reasoning_tokens": 5}}),
    ),
    responded(
        "cached tokens",
        prompting(),
        response(usage={**RESPONSE_USAGE, "input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 0}}),
    ),
    responded(
        "web search",
        prompting(tools=[{"type": "web_search"}]),
        response(SEARCH, SEARCH, said(content=CITED)),
        wanted=("citations",),
    ),
    responded("citations without a search", prompting(), response(said(content=CITED)), wanted=("citations",)),
    responded("instructions", prompting(instructions="Sing."), response(instructions="Sing.")),
    responded(
        "instructions and a system message",
        prompting(input=[{"role": "system", "content": "Be brief."}, *HELLO], instructions="Sing."),
        response(),
    ),
    responded(
        "instructions and a system message in parts",
        prompting(
            input=[{"role": "system", "content": [{"type": "input_text", "text": "Be brief."}]}, *HELLO],
            instructions="Sing.",
        ),
        response(),
        wanted=("instructions in parts",),
    ),
    responded(
        "drawing", prompting(tools=[{"type": "image_generation"}]), response(DRAWING, said()), wanted=("media size",)
    ),
    responded(
        "phase, namespace and rewritten prompt",
        prompting(),
        response(
            said(phase="commentary"),
            {**CALL, "namespace": "crm"},
            {**DRAWING, "result": "x", "revised_prompt": "A cat"},
        ),
        wanted=("details of output",),
    ),
    responded(
        "parts of unknown kinds",
        prompting(),
        response(
            said(content=[{"type": "output_text", "text": "a", "annotations": []}, {"type": "output_3d", "mesh": 1}])
        ),
        wanted=("parts of unknown kinds",),
    ),
    responded(
        "reasoning and tools sent back",
        prompting(
            input=[
                {
                    "type": "reasoning",
                    "id": "rs_1",
                    "summary": [],
                    "content": [{"type": "reasoning_text", "text": "Hm."}],
                },
                {"type": "additional_tools", "role": "developer", "tools": [FLAT_TOOL]},
            ]
        ),
        response(),
        wanted=("items with a content",),
    ),
    responded(
        "stored prompt",
        {"prompt": {"id": "pmpt_1", "version": "2", "variables": {"city": "Oslo"}}, "model": MODEL, "input": "Hello"},
        response(),
        wanted=("stored prompt",),
    ),
    responded(
        "images sent",
        prompting(
            input=[
                {
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": "What is it?"},
                        {"type": "input_image", "image_url": PICTURE_URL},
                        {"type": "input_image", "image_url": "https://example.com/a.png", "detail": "low"},
                    ],
                }
            ]
        ),
        response(),
        wanted=("media size",),
    ),
    responded(
        "MCP server",
        prompting(
            tools=[
                {
                    "type": "mcp",
                    "server_label": "a",
                    "server_url": "https://example.com/mcp",
                    "headers": {"Authorization": "Bearer x"},
                    "authorization": "x",
                }
            ]
        ),
        response(
            {"id": "mcp_1", "type": "mcp_call", "server_label": "a", "name": "t", "arguments": "{}", "output": "x"},
            said(),
        ),
    ),
    responded(
        "MCP server with a key in its URL",
        prompting(tools=[{"type": "mcp", "server_label": "a", "server_url": "https://example.com/mcp?key=secret"}]),
        response(),
        wanted=("keys in tools",),
    ),
    responded(
        "custom tool and code interpreter",
        prompting(tools=[{"type": "custom", "name": "sql"}]),
        response(
            {"id": "ct_1", "type": "custom_tool_call", "call_id": "call_1", "name": "sql", "input": "SELECT 1"},
            {
                "id": "ci_1",
                "type": "code_interpreter_call",
                "status": "completed",
                "code": "1 + 1",
                "container_id": "c",
                "outputs": [{"type": "logs", "logs": "2"}],
            },
        ),
    ),
    responded("refusal", prompting(), response(said(content=[{"type": "refusal", "refusal": "I cannot."}]))),
    responded("empty", prompting(), response(said(content=[]))),
    responded(
        "incomplete",
        prompting(max_output_tokens=16),
        response(status="incomplete", incomplete_details={"reason": "max_output_tokens"}),
    ),
    responded(
        "failed",
        prompting(),
        response(status="failed", error={"code": "server_error", "message": "The model broke."}),
        wanted=("failed answer",),
    ),
    responded("service tier", prompting(service_tier="auto"), response(service_tier="default")),
    responded("dated model", prompting(), response(model="gpt-4o-mini-2024-07-18"), wanted=("served model",)),
    responded("400", prompting(), error(400)),
    Case(
        "responses parse: structured output",
        "responses.parse",
        prompting(text_format=Book),
        (response(said('{"title": "Emma"}')),),
    ),
    Case("responses parse: tools", "responses.parse", prompting(tools=[FLAT_TOOL]), (response(CALL),)),
)

STREAMING = prompting(stream=True)
ANSWER_STREAMS = (
    responded("stream: completed", STREAMING, response_events(ended("completed")), wanted=FIRST),
    responded("stream: tools", STREAMING, response_events(ended("completed", CALL)), wanted=FIRST),
    responded(
        "stream: web search and reasoning",
        STREAMING,
        response_events(
            ended(
                "completed",
                REASONING,
                SEARCH,
                said(content=CITED),
                usage={
                    **RESPONSE_USAGE,
                    "input_tokens_details": {"cached_tokens": 8},
                    "output_tokens_details": {"reasoning_tokens": 5},
                },
            )
        ),
        wanted=(*FIRST, "citations"),
    ),
    responded("stream: no usage", STREAMING, response_events(ended("completed", usage=None)), wanted=FIRST),
    responded(
        "stream: incomplete",
        STREAMING,
        response_events(ended("incomplete", incomplete_details={"reason": "max_output_tokens"})),
        wanted=FIRST,
    ),
    responded(
        "stream: failed",
        STREAMING,
        response_events(ended("failed", error={"code": "server_error", "message": "The model broke."})),
        wanted=(*FIRST, "failed answer"),
    ),
    responded(
        "stream: error event",
        STREAMING,
        response_events({"type": "error", "code": "server_error", "message": "The model broke.", "param": None}),
        wanted=(*FIRST, "failed answer", "cut answer"),
    ),
    responded(
        "stream: error event that the SDK raises",
        STREAMING,
        response_events({"type": "error", "error": {"message": "Broken.", "type": "server_error", "code": "broken"}}),
        wanted=(*FIRST, "cut answer"),
    ),
    responded("stream: closed early", STREAMING, response_events(), wanted=(*FIRST, "cut answer"), read=5),
    responded(
        "stream: connection lost", STREAMING, replace(response_events(), cut=True), wanted=(*FIRST, "cut answer")
    ),
    responded(
        "stream: service tier",
        STREAMING,
        response_events(ended("completed", service_tier="default"), created={"service_tier": "auto"}),
        wanted=(*FIRST, "last service tier"),
    ),
    responded(
        "stream: instructions and tools",
        prompting(stream=True, instructions="Sing.", tools=[FLAT_TOOL], temperature=0.5),
        response_events(ended("completed")),
        wanted=FIRST,
    ),
    responded("stream: 400", STREAMING, error(400)),
    responded(
        "stream: private",
        prompting(stream=True, instructions="Sing.", posthog_privacy_mode=True),
        response_events(ended("completed")),
        wanted=FIRST,
    ),
)

VECTORS = tuple(
    Case(f"embeddings: {name}", EMBEDDINGS, arguments, answers)
    for name, arguments, answers in (
        ("string", embedding(), (embeddings(),)),
        ("list", embedding(input=["Hello", "there"], dimensions=2), (embeddings(2),)),
        ("token ids", embedding(input=[1, 2, 3]), (embeddings(),)),
        ("lists of token ids", embedding(input=[[1, 2], [3]], encoding_format="float", user="me"), (embeddings(2),)),
        ("no usage", embedding(), (embeddings(usage=None),)),
        ("400", embedding(), (error(400),)),
        ("private", embedding(posthog_privacy_mode=True), (embeddings(),)),
        ("private 400", embedding(posthog_privacy_mode=True), (error(400, code="bad"),)),
        (
            "identity",
            embedding(
                posthog_distinct_id="user-1",
                posthog_trace_id="trace-1",
                posthog_properties={"plan": "pro", "$ai_input_tokens": 99},
                posthog_groups={"company": "acme"},
                posthog_provider_override="deepseek",
            ),
            (embeddings(),),
        ),
    )
)

ERRORS = (
    spoken("400", asking(), error(400, code="bad", param="messages")),
    spoken("401", asking(), error(401, "Incorrect API key provided: sk-te*t.", code="invalid_api_key")),
    spoken(
        "401 with a key in it",
        asking(),
        error(401, "Incorrect API key provided: sk-live-0123456789abcdef."),
        wanted=("keys in errors",),
    ),
    spoken("404", asking(), error(404, code="model_not_found")),
    spoken("429 after retries", asking(), *[error(429, code="rate_limit_exceeded", type="requests")] * 3),
    spoken("500 after retries", asking(), *[error(500, type="server_error")] * 3),
    spoken("a proxy's page", asking(), Answer(502, {}, "<html>Bad gateway</html>"), client={"max_retries": 0}),
    spoken("an error of text", asking(), Answer(400, {}, {"error": "no"})),
    spoken("no error object", asking(), Answer(422, {}, {"detail": [{"loc": ["body"], "msg": "no"}]})),
    spoken("connection lost", asking(), Answer(reset=True), client={"max_retries": 0}),
    spoken("timeout", asking(), Answer(hold=threading.Event()), client={"max_retries": 0, "timeout": 0.2}),
)

PRIVATE = asking(posthog_privacy_mode=True)
IDENTITIES = (
    spoken("a user", asking(posthog_distinct_id="user-1"), chat()),
    spoken("anonymous in a trace", asking(posthog_trace_id="trace-1"), chat()),
    streamed("anonymous in a trace", stream(*HELLO_DELTAS), arguments=streaming(posthog_trace_id="trace-1")),
    spoken("groups", asking(posthog_distinct_id="user-1", posthog_groups={"company": "acme", "team": 7}), chat()),
    spoken(
        "properties",
        asking(posthog_properties={"plan": "pro", "n": 3, "x": 1.5, "none": None, "deep": {"list": [1, True, None]}}),
        chat(),
    ),
    spoken(
        "properties of other types",
        asking(
            posthog_properties={
                "when": datetime.datetime(2026, 11, 23, 12, tzinfo=datetime.timezone.utc),
                "day": datetime.date(2026, 11, 23),
                "price": decimal.Decimal("1.5"),
                "id": uuid.UUID(int=7),
                "pair": (1, "two"),
                "set": {1},
                "nan": float("nan"),
                7: "number as key",
            }
        ),
        chat(),
    ),
    spoken("a user by number", asking(posthog_distinct_id=7, posthog_trace_id="trace-1"), chat()),
    spoken(
        "properties in place of our own",
        asking(
            posthog_properties={
                "$ai_model": "mine",
                "$ai_provider": "mine",
                "$ai_session_id": "session-1",
                "$ai_span_name": "greet",
                "$ai_parent_id": "parent-1",
                "$ai_latency": 9.0,
                "$ai_http_status": 201,
                "$ai_base_url": "mine",
                "$ai_input": "mine",
                "$ai_output_choices": "mine",
                "$ai_tools": "mine",
                "$ai_stop_reason": "mine",
                "$ai_model_parameters": {"mine": 1},
                "$process_person_profile": True,
                "$ai_tokens_source": "mine",
                "$lib": "mine",
                "$groups": {"team": "mine"},
            },
            posthog_groups={"company": "acme"},
        ),
        chat(),
    ),
    spoken("token counts as properties", asking(posthog_properties={"$ai_input_tokens": 99}), chat()),
    streamed(
        "token counts as properties",
        stream(*HELLO_DELTAS),
        arguments=streaming(posthog_properties={"$ai_reasoning_tokens": 99, "$ai_total_tokens": 1}),
    ),
    streamed(
        "properties in place of our own",
        stream(*HELLO_DELTAS),
        arguments=streaming(posthog_properties={"$ai_stop_reason": "mine", "$ai_model": "mine", "$lib": "mine"}),
        wanted=(*FIRST, "properties win"),
    ),
    spoken("properties beside an error", asking(posthog_properties={"$ai_error": "mine", "plan": "pro"}), error(400)),
    spoken("provider override", asking(posthog_provider_override="deepseek"), chat()),
    spoken(
        "provider override over a property",
        asking(posthog_provider_override="deepseek", posthog_properties={"$ai_provider": "mine"}),
        chat(),
    ),
    spoken("private", PRIVATE, chat()),
    spoken(
        "private with tools",
        {**PRIVATE, "tools": [TOOL]},
        chat(message(None, tool_calls=[function(1)]), finish_reason="tool_calls"),
        wanted=("private tools",),
    ),
    streamed("private", stream(*HELLO_DELTAS), arguments=streaming(posthog_privacy_mode=True)),
    responded("private", prompting(instructions="Sing.", posthog_privacy_mode=True), response()),
    spoken("private 400", PRIVATE, error(400, "Bad: Hello", code="bad", param="messages[0].content")),
    spoken("private 400 of prose", PRIVATE, error(400, code="a prompt with spaces", param="a b", type="x y")),
    spoken("private 429", PRIVATE, *[error(429, code="rate_limit_exceeded", type="requests")] * 3),
    spoken(
        "private 502", PRIVATE, Answer(502, {"x-request-id": "req_1"}, "<html>Hello</html>"), client={"max_retries": 0}
    ),
    spoken("private timeout", PRIVATE, Answer(hold=threading.Event()), client={"max_retries": 0, "timeout": 0.2}),
    spoken("posthog's context", asking(), chat(), around=in_posthog_context),
    spoken("posthog's context, and an error", asking(), error(400), around=in_posthog_context),
    spoken(
        "posthog's context under arguments",
        asking(posthog_distinct_id="user-1", posthog_properties={"plan": "free"}),
        chat(),
        around=in_posthog_context,
    ),
    streamed(
        "posthog's context",
        stream(*HELLO_DELTAS),
        around=in_posthog_context,
        wanted=(*FIRST, "context user"),
    ),
    Case(
        "embeddings: posthog's context",
        EMBEDDINGS,
        embedding(),
        (embeddings(),),
        ("context user",),
        around=in_posthog_context,
    ),
    spoken("azure", asking(), chat(model="gpt-4o-2024-08-06"), azure=True, wanted=("azure", "served model")),
    spoken("azure 400", asking(), error(400), azure=True, wanted=("azure",)),
)
CANCELLED = (
    spoken("cancelled", asking(), Answer(hold=threading.Event()), cancelled=True),
    spoken("private cancelled", PRIVATE, Answer(hold=threading.Event()), cancelled=True),
    streamed(
        "cancelled",
        Answer(chunks=[*(sse(*chunks(*HELLO_DELTAS)[:3], done=False).chunks or ()), threading.Event()]),
        wanted=(*FIRST, "cancelled stream"),
        cancelled=True,
        read=3,
    ),
)
"""Asynchronous only. The wrapper sends nothing for a cancelled embedding."""

CASES = (*CHATS, *CHAT_STREAMS, *ANSWERS, *ANSWER_STREAMS, *VECTORS, *ERRORS, *IDENTITIES)
