"""Runs of assistants (`beta.threads`), which the SDK marks deprecated. Pure; never raises.

A run is one generation: what creates it, answers it with tool outputs and asks how it stands are steps of it. Its
messages stand in the thread; they are seen only where the run is streamed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..generation import Failure, Generation
from ..parsing import as_dict, as_list, as_text, parse, read_failure, read_failure_text
from .common import Message, read_answer, read_request, read_usage

_UNFINISHED = ("queued", "in_progress", "requires_action", "cancelling")


def read_runs(request: bytes | None, response: bytes | None, chunks: Sequence[str] | None) -> Generation:
    """A call of `/threads/runs` or `/threads/{}/runs`, or one that goes on with a run or asks for it."""
    generation = Generation()
    run: dict[str, Any] = {}
    said: list[Message] = []
    pieces: list[str] = []
    if chunks:
        answer = read_answer(None, chunks, "object")
        generation.failure = answer.failure
        for index, event in answer.events:
            kind = event.get("object")
            if kind == "thread.run":
                run = event
            elif kind == "thread.message.delta":
                pieces += _texts(as_dict(event.get("delta")))
                if generation.first_output_chunk is None:
                    generation.first_output_chunk = index
            elif kind == "thread.message" and event.get("status") == "completed":
                said += [{"type": "text", "text": text} for text in _texts(event)]
                pieces = []
    else:
        body = parse(response)
        run = as_dict(body)
        generation.failure = read_failure_text(response) if body is None else read_failure(body, "id")
    if pieces:
        said.append({"type": "text", "text": "".join(pieces)})
    action = as_dict(as_dict(run.get("required_action")).get("submit_tool_outputs"))
    for call in map(as_dict, as_list(action.get("tool_calls"))):
        said.append({"type": "function", "id": call.get("id"), "function": call.get("function")})
    status = as_text(run.get("status"))
    generation.response_id = as_text(run.get("id")) if status else None
    generation.background = status is not None
    generation.pending = status in _UNFINISHED
    generation.stop_reason = None if generation.pending else status
    generation.model = as_text(run.get("model"))
    generation.usage = read_usage(run.get("usage"))
    generation.output = [{"role": "assistant", "content": said}] if said else []
    error = as_dict(run.get("last_error"))
    if status in ("failed", "expired"):
        generation.failure = Failure(message=as_text(error.get("message")) or status, code=as_text(error.get("code")))
    asked = read_request(generation, request)
    if asked is not None:
        generation.instructions = asked.get("instructions")
        sent = as_list(as_dict(asked.get("thread")).get("messages")) + as_list(asked.get("additional_messages"))
        messages: list[Message] = [message for message in sent if isinstance(message, dict)]
        if generation.instructions is not None:
            messages.insert(0, {"role": "system", "content": generation.instructions})
        generation.input = messages
    return generation


def _texts(message: dict[str, Any]) -> list[str]:
    parts = map(as_dict, as_list(message.get("content")))
    return [text for part in parts if (text := as_text(as_dict(part.get("text")).get("value"))) is not None]
