"""Documented exchanges of OpenAI: the bodies of its API reference, or after its schemas."""

from __future__ import annotations

import json
from typing import Any

from posthog_autoinstrument.providers.generation import Generation
from posthog_autoinstrument.providers.openai import PROVIDER

from ..provider_contract import Exchange, named
from .openai_others import MORE


def encode(value: Any) -> bytes:
    return json.dumps(value).encode()


def read(endpoint: str, request: Any = None, response: Any = None, chunks: Any = None) -> Generation:
    """Read Python values as if they had come over the wire; strings among `chunks` are taken as they are."""
    texts = None if chunks is None else [one if isinstance(one, str) else json.dumps(one) for one in chunks]
    bodies = [body if body is None or isinstance(body, bytes) else encode(body) for body in (request, response)]
    return named(PROVIDER, endpoint).read(bodies[0], bodies[1], texts)


CHAT_REQUEST = {
    "model": "gpt-4.1",
    "messages": [
        {"role": "developer", "content": "You are a helpful assistant."},
        {"role": "user", "content": "Hello!"},
    ],
    "temperature": 0.2,
    "max_completion_tokens": 100,
    "stop": ["\n"],
    "seed": 7,
    "user": "someone",
}


CHAT_USAGE = {
    "prompt_tokens": 19,
    "completion_tokens": 10,
    "total_tokens": 29,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 0,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}


CHAT_HEAD = {"id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT", "model": "gpt-4.1-2025-04-14", "service_tier": "default"}


CHAT_RESPONSE = {
    **CHAT_HEAD,
    "object": "chat.completion",
    "created": 1741569952,
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "Hello! How can I assist you today?",
                "refusal": None,
                "annotations": [],
            },
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": CHAT_USAGE,
}


def chunk(*choices: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {**CHAT_HEAD, "object": "chat.completion.chunk", "created": 1741569952, "choices": list(choices), **more}


def delta(index: int = 0, finish_reason: str | None = None, **said: Any) -> dict[str, Any]:
    return {"index": index, "delta": said, "logprobs": None, "finish_reason": finish_reason}


CHAT_CHUNKS = [
    chunk(delta(role="assistant", content="", refusal=None), usage=None),
    chunk(delta(content="Hello"), usage=None),
    chunk(delta(content="! How can I assist"), usage=None),
    chunk(delta(content=" you today?"), usage=None),
    chunk(delta(finish_reason="stop"), usage=None),
    chunk(usage=CHAT_USAGE),
    "[DONE]",
]


WEATHER_TOOL = {
    "type": "function",
    "function": {
        "name": "get_current_weather",
        "parameters": {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]},
    },
}


WEATHER_CALL = {
    "type": "function",
    "id": "call_abc123",
    "function": {"name": "get_current_weather", "arguments": '{\n"location": "Boston, MA"\n}'},
}


TOOL_RESPONSE = {
    **CHAT_RESPONSE,
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": None, "tool_calls": [WEATHER_CALL]},
            "logprobs": None,
            "finish_reason": "tool_calls",
        }
    ],
}


TOOL_CHUNKS = [
    chunk(
        delta(
            role="assistant",
            content=None,
            tool_calls=[
                {**WEATHER_CALL, "index": 0, "function": {"name": "get_current_weather", "arguments": ""}},
            ],
        )
    ),
    chunk(delta(tool_calls=[{"index": 0, "function": {"arguments": '{\n"location": '}}])),
    chunk(delta(tool_calls=[{"index": 0, "function": {"arguments": '"Boston, MA"\n}'}}])),
    chunk(delta(finish_reason="tool_calls")),
    chunk(usage=CHAT_USAGE),
    "[DONE]",
]


STORY = "In a peaceful grove beneath a silver moon, a unicorn named Lumina discovered a hidden pool."


RESPONSES_REQUEST = {
    "model": "gpt-4.1",
    "input": "Tell me a three sentence bedtime story about a unicorn.",
    "instructions": "Be brief.",
    "max_output_tokens": 300,
    "temperature": 1.0,
}


RESPONSES_USAGE = {
    "input_tokens": 36,
    "input_tokens_details": {"cached_tokens": 0},
    "output_tokens": 87,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 123,
}


STORY_ITEM = {
    "type": "message",
    "id": "msg_67ccd2bf17f0819081ff3bb2cf6508e6",
    "status": "completed",
    "role": "assistant",
    "content": [{"type": "output_text", "text": STORY, "annotations": []}],
}


RESPONSES_RESPONSE = {
    "id": "resp_67ccd2bed1ec8190b14f964abc0542670bb6a6b452d3795b",
    "object": "response",
    "created_at": 1741476542,
    "status": "completed",
    "error": None,
    "incomplete_details": None,
    "instructions": "Be brief.",
    "max_output_tokens": 300,
    "model": "gpt-4.1-2025-04-14",
    "output": [STORY_ITEM],
    "service_tier": "default",
    "tools": [],
    "usage": RESPONSES_USAGE,
}


UNFINISHED = {**RESPONSES_RESPONSE, "status": "in_progress", "output": [], "usage": None, "service_tier": "auto"}


STORY_PLACE = {"item_id": STORY_ITEM["id"], "output_index": 0, "content_index": 0}


RESPONSES_CHUNKS = [
    {"type": "response.created", "response": UNFINISHED},
    {"type": "response.in_progress", "response": UNFINISHED},
    {"type": "response.output_item.added", "output_index": 0, "item": {**STORY_ITEM, "content": []}},
    {"type": "response.content_part.added", **STORY_PLACE, "part": {"type": "output_text", "text": ""}},
    {"type": "response.output_text.delta", **STORY_PLACE, "delta": STORY[:20]},
    {"type": "response.output_text.delta", **STORY_PLACE, "delta": STORY[20:]},
    {"type": "response.output_text.done", **STORY_PLACE, "text": STORY},
    {"type": "response.output_item.done", "output_index": 0, "item": STORY_ITEM},
    {"type": "response.completed", "response": RESPONSES_RESPONSE},
]


EMBEDDINGS_REQUEST = {
    "model": "text-embedding-ada-002",
    "input": "The food was delicious and the waiter...",
    "encoding_format": "base64",
}


EMBEDDINGS_RESPONSE = {
    "object": "list",
    "data": [{"object": "embedding", "index": 0, "embedding": "AACAPwAAAEA="}],
    "model": "text-embedding-ada-002-v2",
    "usage": {"prompt_tokens": 8, "total_tokens": 8},
}


COMPLETIONS_REQUEST = {
    "model": "gpt-3.5-turbo-instruct",
    "prompt": "Say this is a test",
    "max_tokens": 7,
    "temperature": 0,
}


COMPLETIONS_HEAD = {
    "id": "cmpl-uqkvlQyYK7bGYrRHQ0eXlWi7",
    "object": "text_completion",
    "created": 1589478378,
    "model": "gpt-3.5-turbo-instruct",
}


COMPLETIONS_USAGE = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}


COMPLETIONS_RESPONSE = {
    **COMPLETIONS_HEAD,
    "choices": [{"text": "\n\nThis is indeed a test", "index": 0, "logprobs": None, "finish_reason": "length"}],
    "usage": COMPLETIONS_USAGE,
}


COMPLETIONS_CHUNKS = [
    {**COMPLETIONS_HEAD, "choices": [{"text": "\n\nThis is", "index": 0, "logprobs": None, "finish_reason": None}]},
    {**COMPLETIONS_HEAD, "choices": [{"text": " indeed a test", "index": 0, "logprobs": None, "finish_reason": None}]},
    {**COMPLETIONS_HEAD, "choices": [{"text": "", "index": 0, "logprobs": None, "finish_reason": "length"}]},
    {**COMPLETIONS_HEAD, "choices": [], "usage": COMPLETIONS_USAGE},
    "[DONE]",
]


def exchange(endpoint: str, request: Any, response: Any, chunks: Any = None) -> Exchange:
    texts = None if chunks is None else tuple(one if isinstance(one, str) else json.dumps(one) for one in chunks)
    return Exchange(endpoint, encode(request), encode(response), texts)


EXCHANGES = (
    exchange("chat", CHAT_REQUEST, CHAT_RESPONSE, CHAT_CHUNKS),
    exchange("chat", {**CHAT_REQUEST, "tools": [WEATHER_TOOL]}, TOOL_RESPONSE, TOOL_CHUNKS),
    exchange("responses", RESPONSES_REQUEST, RESPONSES_RESPONSE, RESPONSES_CHUNKS),
    exchange("embeddings", EMBEDDINGS_REQUEST, EMBEDDINGS_RESPONSE),
    exchange("completions", COMPLETIONS_REQUEST, COMPLETIONS_RESPONSE, COMPLETIONS_CHUNKS),
    *MORE,
)
