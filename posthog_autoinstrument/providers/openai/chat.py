"""Chat and legacy completions. Pure; never raises."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from ..generation import Failure, Generation
from ..parsing import as_amount, as_dict, as_index, as_list, as_text, in_words, read_failure
from .common import Message, count_web_searches, only_usage, read_answer, read_request, read_usage
from .deltas import Choice
from .vendor import server_of


def _read_choices(response: bytes | None, chunks: Sequence[str] | None) -> Generation:
    """What chat and legacy completions answer, streamed or not."""
    answer = read_answer(response, chunks, "choices")
    generation = Generation(failure=answer.failure)
    choices: dict[int, Choice] = defaultdict(Choice)
    usage: dict[str, Any] = {}
    usages: dict[int, dict[str, Any]] = {}
    web_searches = 0
    for index, event in answer.events:
        text = _text_only(event, generation) if generation.first_output_chunk is not None else None
        if text is not None:
            choices[0].text.append(text)
            continue
        generation.response_id = generation.response_id or as_text(event.get("id"))
        generation.model = generation.model or as_text(event.get("model"))  # Azure's first chunk has an empty one
        generation.provider = generation.provider or server_of(event)
        generation.service_tier = as_text(event.get("service_tier")) or generation.service_tier
        # Servers that report it with every chunk report totals.
        usage = as_dict(event.get("usage")) or as_dict(as_dict(event.get("x_groq")).get("usage")) or usage
        web_searches = max(web_searches, count_web_searches(event))
        for position, choice in enumerate(as_list(event.get("choices"))):
            if not isinstance(choice, dict):
                continue
            number = as_index(choice.get("index"), position) if answer.streamed else position
            if choice.get("usage"):  # Moonshot
                usages[number] = as_dict(choice["usage"])
            error = choice.get("error")  # OpenRouter: the upstream broke off in the middle of an answer
            if error and generation.failure is None:
                generation.failure = read_failure({"error": error}, "choices")
            has_output = choices[number].add(choice, answer.streamed)
            if has_output and answer.streamed and generation.first_output_chunk is None:
                generation.first_output_chunk = index
    usage = usage or only_usage(usages.values())
    generation.usage = read_usage(usage, web_searches or None, generation.model)
    generation.cost_usd = as_amount(usage.get("cost"))  # OpenRouter
    generation.output = [choices[number].message() for number in sorted(choices)]
    if not any(message["content"] for message in generation.output):
        generation.output = []
    generation.stop_reason = choices[min(choices)].stop_reason if choices else None
    if generation.failure is None and any(choice.stop_reason == "error" for choice in choices.values()):
        generation.failure = Failure("The answer ended with finish_reason error")
    return generation


_COMMON = frozenset(
    ("id", "object", "created", "model", "service_tier", "system_fingerprint", "choices", "usage", "obfuscation")
)


def _text_only(event: dict[str, Any], known: Generation) -> str | None:
    """The text of a chunk that has nothing else that is not `known`, as most; None for others.

    It is a third of the time: nothing else is looked for in it.
    """
    sent = event.get("choices")
    if not (isinstance(sent, list) and len(sent) == 1 and isinstance(sent[0], dict) and event.keys() <= _COMMON):
        return None
    choice = sent[0]
    delta = choice.get("delta")
    if not isinstance(delta, dict) or len(delta) != 1 or choice.get("index") != 0 or choice.get("finish_reason"):
        return None
    if (
        event.get("usage")
        or choice.get("usage")
        or "text" in choice
        or "message" in choice
        or not (known.model and known.response_id)
    ):
        return None
    if event.get("service_tier", known.service_tier) != known.service_tier or server_of(event) != known.provider:
        return None
    return as_text(delta.get("content"))


def read_chat(request: bytes | None, response: bytes | None, chunks: Sequence[str] | None) -> Generation:
    """A call of `/chat/completions`."""
    generation = _read_choices(response, chunks)
    asked = read_request(generation, request)
    if asked is not None:
        sent = asked.get("messages")
        sent = sent if isinstance(sent, list) else [] if sent is None else [sent]
        generation.input = [_chat_message(message) for message in sent]
    return generation


def _chat_message(message: Any) -> Message:
    """A message as it was sent: role and content, then whatever else there is in it."""
    if not isinstance(message, dict):
        return {"role": "user", "content": in_words(message)}
    if len(message) == 2 and "content" in message and as_text(message.get("role")):
        return message
    # The SDK's own answers, sent back, are full of nulls and empty lists.
    rest = {name: value for name, value in message.items() if value is not None and value != []}
    role = rest.pop("role", "user")
    rest.pop("content", None)
    return {"role": role, "content": message.get("content"), **rest}


def read_completions(request: bytes | None, response: bytes | None, chunks: Sequence[str] | None) -> Generation:
    """A call of the legacy `/completions`: each prompt is a message of the user, each choice one of the assistant."""
    generation = _read_choices(response, chunks)
    asked = read_request(generation, request)
    if asked is not None:
        prompt = asked.get("prompt")
        several = isinstance(prompt, list) and all(isinstance(one, str) for one in prompt)  # else token ids
        prompts = as_list(prompt) if several else [prompt]
        generation.input = [{"role": "user", "content": one} for one in prompts if one is not None]
    return generation
