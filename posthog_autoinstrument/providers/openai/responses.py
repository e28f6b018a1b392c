"""Responses. Pure; never raises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..generation import Failure, Generation
from ..parsing import as_amount, as_dict, as_list, as_text, failure_of, in_words, read_failure, without_nulls
from .common import Message, count_web_searches, read_answer, read_request, read_usage
from .deltas import Items

_TERMINAL_STATUSES = ("completed", "failed", "cancelled", "incomplete")


def read_responses(request: bytes | None, response: bytes | None, chunks: Sequence[str] | None) -> Generation:
    """A call of `/responses`."""
    answer = read_answer(response, chunks, "output")
    generation = Generation(failure=answer.failure)
    final: dict[str, Any] = {}
    items = Items()
    for index, event in answer.events:
        kind = event.get("type")
        if not answer.streamed:
            final = event
        elif isinstance(kind, str):
            final = as_dict(event.get("response")) or final  # the one of the terminal event comes last
            items.add(kind, event)
            if kind == "error":
                generation.failure = failure_of({**event, "type": None})
            if kind.endswith(".delta") and generation.first_output_chunk is None:
                generation.first_output_chunk = index
    output = as_list(final.get("output"))
    if answer.streamed and (not output or final.get("status") not in _TERMINAL_STATUSES):
        output = items.output() or output
    final = {**final, "output": output}
    if final.get("status") == "failed":
        generation.failure = generation.failure or read_failure(final, "output") or Failure()
    usage = as_dict(final.get("usage"))
    generation.response_id = as_text(final.get("id"))
    generation.model = as_text(final.get("model"))
    generation.service_tier = as_text(final.get("service_tier"))
    generation.stop_reason = _stop_reason(final)
    generation.usage = read_usage(usage, count_web_searches(final) or None, generation.model)
    generation.cost_usd = as_amount(usage.get("cost"))
    generation.output = output_messages(final["output"])
    asked = read_request(generation, request)
    generation.background = bool(final.get("background") or (asked or {}).get("background"))
    generation.pending = generation.background and final.get("status") in ("queued", "in_progress")
    if asked is not None:
        generation.instructions = asked.get("instructions")
        generation.input = with_instructions(input_messages(asked.get("input")), generation.instructions)
        _add_prompt(generation, as_dict(asked.get("prompt")))
    return generation


def _add_prompt(generation: Generation, prompt: dict[str, Any]) -> None:
    """A stored prompt: which one it is is a parameter, what was put into it is input."""
    named = {name: prompt[name] for name in ("id", "version") if prompt.get(name) is not None}
    if named:
        generation.parameters["prompt"] = named
    if prompt.get("variables"):
        generation.input = [{"type": "prompt", **prompt}, *as_list(generation.input)]


def _stop_reason(final: dict[str, Any]) -> str | None:
    status = as_text(final.get("status"))
    if status not in _TERMINAL_STATUSES:
        return None
    reason = as_text(as_dict(final.get("incomplete_details")).get("reason"))
    return reason if status == "incomplete" and reason else status


def input_messages(sent: Any) -> list[Message]:
    """The messages of an input that is a text or a list of items."""
    if sent is None:
        return []
    return [_input_message(item) for item in sent] if isinstance(sent, list) else [_input_message(sent)]


def _input_message(item: Any) -> Message:
    if not isinstance(item, dict):
        return {"role": "user", "content": in_words(item)}
    present: Message = {name: value for name, value in item.items() if value is not None}
    kind = present.get("type", "message")
    if kind != "message" or not ("role" in present or "content" in present):
        return present  # a tool call, its output, reasoning, a reference
    message = {"role": present.get("role", "user"), "content": _without_logprobs(present.get("content", ""))}
    return {**message, "phase": present["phase"]} if "phase" in present else message


def _without_logprobs(content: Any) -> Any:
    """Content without the logprobs of answers that are sent back: they are many times as long as the text."""
    if not isinstance(content, list) or not any(as_dict(part).get("logprobs") for part in content):
        return content
    return [
        {name: value for name, value in part.items() if name != "logprobs"} if isinstance(part, dict) else part
        for part in content
    ]


def with_instructions(messages: list[Message], instructions: Any) -> list[Message]:
    """The messages with the instructions in their system message, as the wrapper shows them."""
    if instructions is None:
        return messages
    for message in messages:
        if message.get("role") == "system":
            content = message.get("content", "")
            if isinstance(content, list):  # the wrapper makes one string of it: pictures in it would escape redaction
                message["content"] = [*content, {"type": "input_text", "text": instructions}]
            else:
                message["content"] = f"{content}\n\n{instructions}"
            return messages
    return [{"role": "system", "content": instructions}, *messages]


def output_messages(output: list[Any]) -> list[Message]:
    """All items as one message, or no message when there is nothing in them."""
    items = [item for item in output if isinstance(item, dict)]
    content = [part for item in items for part in _item_content(item)]
    roles = [item["role"] for item in items if item.get("type") == "message" and as_text(item.get("role"))]
    return [{"role": roles[-1] if roles else "assistant", "content": content}] if content else []


_SHOWN_ELSEWHERE = ("type", "id", "call_id", "name", "arguments", "status")
"""Members that are shown elsewhere or are noise; the rest is passed on."""


def _item_content(item: dict[str, Any]) -> list[dict[str, Any]]:
    kind = item.get("type")
    if kind == "message":
        content = item.get("content")
        if not isinstance(content, list):
            return [] if content is None else [{"type": "text", "text": in_words(content)}]
        phase = {"phase": item["phase"]} if item.get("phase") is not None else {}
        return [{**shown, **phase} for part in content if (shown := _part(as_dict(part)))]
    if kind == "function_call":
        call_id = item.get("call_id") if item.get("call_id") is not None else item.get("id", "")
        function = {"name": item.get("name"), "arguments": item.get("arguments", {})}
        more = {name: value for name, value in without_nulls(item).items() if name not in _SHOWN_ELSEWHERE}
        return [{"type": "function", "id": call_id, "function": function, **more}]
    if kind == "image_generation_call":
        more = {name: value for name, value in without_nulls(item).items() if name != "id"}
        return [{"type": kind, "result": item.get("result"), "status": item.get("status"), **more}]
    shown = without_nulls(item)
    return [shown] if shown else []


_TEXTS = (None, "output_text", "text", "input_text", "summary_text", "reasoning_text")


def _part(part: dict[str, Any]) -> dict[str, Any]:
    """A part of a message as the wrapper shows it, with what it drops; a part that it does not know as it is."""
    kind = part.get("type")
    if kind == "refusal" and part.get("refusal") is not None:
        return {"type": "refusal", "refusal": part["refusal"]}
    if kind in _TEXTS and part.get("text") is not None:
        notes = part.get("annotations")
        return {"type": "text", "text": part["text"], **({"annotations": without_nulls(notes)} if notes else {})}
    if part.get("transcript") is not None and "data" not in part:  # sound, in Realtime
        return {"type": "audio", "transcript": part["transcript"]}
    if kind == "input_image" and part.get("image_url") is not None:
        return {"type": "image", "image": part["image_url"]}
    shown: dict[str, Any] = without_nulls({name: value for name, value in part.items() if name != "logprobs"})
    return shown
