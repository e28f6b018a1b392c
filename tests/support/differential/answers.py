"""What the server answers, in the shapes of OpenAI's documentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from posthog_autoinstrument.testing import Answer, sse

from ..calls import CHAT, EMBEDDINGS

Json = dict[str, Any]

MODEL: str = CHAT.arguments["model"]
EMBEDDING_MODEL: str = EMBEDDINGS.arguments["model"]

CHAT_USAGE: Json = {
    "prompt_tokens": 12,
    "completion_tokens": 7,
    "total_tokens": 19,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
}
RESPONSE_USAGE: Json = {
    "input_tokens": 12,
    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    "output_tokens": 7,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 19,
}


def function(number: int, arguments: str = '{"city": "Oslo"}') -> Json:
    """A call of a tool, as a chat message has it."""
    return {
        "id": f"call_{number}",
        "type": "function",
        "function": {"name": "weather", "arguments": arguments},
    }


def message(content: str | None = "Hello there.", **members: Any) -> Json:
    """A message of the assistant."""
    return {"role": "assistant", "content": content, "refusal": None, **members}


def choices(*messages: Json, finish_reason: str = "stop") -> list[Json]:
    """Messages as the choices of an answer."""
    return [
        {"index": index, "message": said, "logprobs": None, "finish_reason": finish_reason}
        for index, said in enumerate(messages)
    ]


def chat(*messages: Json, finish_reason: str = "stop", **members: Any) -> Answer:
    """A chat completion; `members` add to it or replace, None leaves a member out."""
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_750_000_000,
        "model": MODEL,
        "choices": choices(*(messages or (message(),)), finish_reason=finish_reason),
        "usage": CHAT_USAGE,
        "system_fingerprint": "fp_1",
        **members,
    }
    return Answer(body={name: value for name, value in body.items() if value is not None})


def chunk(delta: Json | None = None, index: int = 0, finish_reason: str | None = None, **members: Any) -> Json:
    """A chunk of a chat stream with the delta of one choice; without one, a chunk without choices."""
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_750_000_000,
        "model": MODEL,
        "choices": [choice] if delta is not None else [],
        **members,
    }


def chunks(*deltas: Json, finish_reason: str = "stop", usage: Json | None = CHAT_USAGE, **members: Any) -> list[Json]:
    """The chunks of a stream of one choice."""
    found = [chunk({"role": "assistant", "content": ""}, **members)]
    found += [chunk(delta, **members) for delta in deltas]
    found.append(chunk({}, finish_reason=finish_reason, **members))
    return found if usage is None else [*found, chunk(usage=usage, **members)]


def stream(*deltas: Json, finish_reason: str = "stop", usage: Json | None = CHAT_USAGE, **members: Any) -> Answer:
    """A whole chat stream of one choice."""
    return sse(*chunks(*deltas, finish_reason=finish_reason, usage=usage, **members))


def said(text: str = "Hello there.", **members: Any) -> Json:
    """An output item of the Responses API: a message."""
    content = [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}]
    return {
        "id": "msg_1",
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": content,
        **members,
    }


def response_body(*output: Json, **members: Any) -> Json:
    """A Response object; `members` add to it or replace."""
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1_750_000_000,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": MODEL,
        "output": list(output or (said(),)),
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": RESPONSE_USAGE,
        **members,
    }


def response(*output: Json, **members: Any) -> Answer:
    """A Response as the whole answer."""
    return Answer(body=response_body(*output, **members))


def response_events(*more: Json, created: Json | None = None, text: Sequence[str] = ("Hello ", "there.")) -> Answer:
    """A stream of the Responses API that says `text`, and then the events of `more`."""
    unfinished = response_body(status="in_progress", usage=None, **(created or {}))
    unfinished["output"] = []
    at = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    events: list[Json] = [
        {"type": "response.created", "response": unfinished},
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": {**said(), "status": "in_progress", "content": []},
        },
        {
            "type": "response.content_part.added",
            **at,
            "part": {"type": "output_text", "text": "", "annotations": [], "logprobs": []},
        },
    ]
    events += [{"type": "response.output_text.delta", **at, "delta": piece, "logprobs": []} for piece in text]
    events += more
    return sse(*({**event, "sequence_number": number} for number, event in enumerate(events)), done=False)


def ended(kind: str, *output: Json, **members: Any) -> Json:
    """The last event of a stream of the Responses API: `response.<kind>`."""
    return {"type": f"response.{kind}", "response": response_body(*output, **{"status": kind, **members})}


def embeddings(n: int = 1, **members: Any) -> Answer:
    """Vectors of two dimensions, in base64 as the SDK asks for them."""
    data = [{"object": "embedding", "index": index, "embedding": "AACAPwAAAAA="} for index in range(n)]
    usage = {"prompt_tokens": 5, "total_tokens": 5}
    return Answer(body={"object": "list", "data": data, "model": EMBEDDING_MODEL, "usage": usage, **members})


def error(status: int, text: str = "Something is wrong.", **members: Any) -> Answer:
    """An error in OpenAI's shape. The SDK tries some of them again; not after a wait."""
    body = {"message": text, "type": "invalid_request_error", "param": None, "code": None, **members}
    return Answer(status, {"retry-after-ms": "1", "x-request-id": "req_1"}, {"error": body})
