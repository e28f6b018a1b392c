"""OpenAI and the APIs made like it, through the `openai` SDK. Read in 1.0.0 to 3.54.0; see `SITES` for what moved.

Input, output, tools and parameters have the shapes that PostHog's own wrapper gives them (posthog 7.91.1,
posthog/ai/openai/openai_converter.py and posthog/ai/utils.py), so that events of both can be read side by side. Wanted
differences: every choice is a message of its own, reasoning and legacy completions are kept, the model and the service
tier are those of the final answer, and an answer cut midway is put together from what arrived.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ..deltas import Choice, Items
from ..generation import Failure, Generation, Usage
from ..reading import (
    EDGE_BYTES,
    as_amount,
    as_dict,
    as_index,
    as_list,
    as_text,
    failure_of,
    find_member,
    first_count,
    in_words,
    parse,
    read_events,
    read_failure,
    read_failure_text,
    without_nulls,
)
from . import Endpoint, Provider, Site, Wire

Message = dict[str, Any]

# --- what every endpoint shares ---

PARAMETERS = (
    "temperature",
    "max_tokens",
    "max_completion_tokens",
    "top_p",
    "frequency_penalty",
    "presence_penalty",
    "n",
    "stop",
    "stream",
)
"""The wrapper's list (`get_model_params`). It adds the answer's service tier: that is `Generation.service_tier`."""


class _Answer(NamedTuple):
    """The JSON objects of an answer with their positions: the events of a stream, or the one body."""

    events: list[tuple[int, dict[str, Any]]]
    streamed: bool
    failure: Failure | None


def _read_answer(response: bytes | None, chunks: Sequence[str] | None, answer_key: str) -> _Answer:
    if chunks:
        events, failure = read_events(chunks)
        return _Answer(events, True, failure)
    body = parse(response)
    failure = read_failure_text(response) if body is None else read_failure(body, answer_key)
    return _Answer([(0, body)] if isinstance(body, dict) else [], False, failure)


def _read_request(generation: Generation, request: bytes | None) -> dict[str, Any] | None:
    """Take what all requests have into `generation`, which already knows its answer. None for an unreadable request."""
    asked = parse(request)
    if not isinstance(asked, dict):
        return None
    generation.model = generation.model or as_text(asked.get("model"))
    generation.parameters = {name: asked[name] for name in PARAMETERS if asked.get(name) is not None}
    generation.tools = as_list(asked.get("tools")) or as_list(asked.get("functions")) or None
    return asked


def read_usage(raw: Any, web_search_count: int | None = None) -> Usage:
    """The token counts of a usage object: of chat (`prompt_tokens`) or of Responses (`input_tokens`)."""
    usage = as_dict(raw)
    sent = as_dict(usage.get("prompt_tokens_details")) or as_dict(usage.get("input_tokens_details"))
    made = as_dict(usage.get("completion_tokens_details")) or as_dict(usage.get("output_tokens_details"))
    return Usage(
        input_tokens=first_count(usage.get("prompt_tokens"), usage.get("input_tokens")),
        output_tokens=first_count(usage.get("completion_tokens"), usage.get("output_tokens")),
        cache_read_input_tokens=first_count(
            sent.get("cached_tokens"),
            usage.get("prompt_cache_hit_tokens"),  # DeepSeek
        ),
        cache_creation_input_tokens=first_count(
            sent.get("cache_write_tokens"),  # OpenAI, OpenRouter
            sent.get("cache_creation_tokens"),  # LiteLLM
            usage.get("cache_creation_input_tokens"),  # LiteLLM, older
        ),
        reasoning_tokens=first_count(made.get("reasoning_tokens")),
        audio_input_tokens=first_count(sent.get("audio_tokens")),
        audio_output_tokens=first_count(made.get("audio_tokens")),
        image_input_tokens=first_count(sent.get("image_tokens")),
        image_output_tokens=first_count(made.get("image_tokens")),
        text_output_tokens=first_count(made.get("text_tokens")),
        cache_read_audio_tokens=first_count(as_dict(sent.get("cached_tokens_details")).get("audio_tokens")),
        web_search_count=web_search_count,
        raw=usage or None,
    )


def count_web_searches(answer: dict[str, Any]) -> int:
    """The web searches of one answer or chunk: their number where it says so (Responses), else 1 for a sign of any."""
    items = [as_dict(item) for item in as_list(answer.get("output"))]
    calls = [item for item in items if item.get("type") == "web_search_call"]
    if calls:
        return len(calls)
    context_size = as_dict(answer.get("usage")).get("search_context_size")
    if answer.get("citations") or answer.get("search_results") or context_size:  # Perplexity
        return 1
    choices = [as_dict(choice) for choice in as_list(answer.get("choices"))]
    cited = [choice.get(place) for choice in choices for place in ("message", "delta")]
    cited += [part for item in items for part in as_list(item.get("content"))]
    notes = (as_dict(note) for part in cited for note in as_list(as_dict(part).get("annotations")))
    return int(any(note.get("type") == "url_citation" for note in notes))


# --- chat and legacy completions ---


def _read_choices(response: bytes | None, chunks: Sequence[str] | None) -> Generation:
    """What chat and legacy completions answer, streamed or not."""
    answer = _read_answer(response, chunks, "choices")
    generation = Generation(failure=answer.failure)
    choices: dict[int, Choice] = {}
    usage: dict[str, Any] = {}
    web_searches = 0
    for index, event in answer.events:
        generation.response_id = generation.response_id or as_text(event.get("id"))
        generation.model = generation.model or as_text(event.get("model"))  # Azure's first chunk has an empty one
        generation.service_tier = as_text(event.get("service_tier")) or generation.service_tier
        usage = as_dict(event.get("usage")) or usage  # servers that report it with every chunk report totals
        web_searches = max(web_searches, count_web_searches(event))
        for position, choice in enumerate(as_list(event.get("choices"))):
            if not isinstance(choice, dict):
                continue
            number = as_index(choice.get("index"), position) if answer.streamed else position
            said = choices.setdefault(number, Choice()).add(choice, answer.streamed)
            if said and answer.streamed and generation.first_output_chunk is None:
                generation.first_output_chunk = index
    generation.usage = read_usage(usage, web_searches or None)
    generation.cost_usd = as_amount(usage.get("cost"))  # OpenRouter
    generation.output = [choices[number].message() for number in sorted(choices)]
    if not any(said["content"] for said in generation.output):
        generation.output = []
    generation.stop_reason = choices[min(choices)].stop_reason if choices else None
    return generation


def read_chat(request: bytes | None, response: bytes | None, chunks: Sequence[str] | None) -> Generation:
    """A call of `/chat/completions`."""
    generation = _read_choices(response, chunks)
    asked = _read_request(generation, request)
    if asked is not None:
        generation.input = [_chat_message(message) for message in as_list(asked.get("messages"))]
    return generation


_MESSAGE_MEMBERS = ("tool_calls", "tool_call_id", "name", "audio", "refusal", "function_call")
"""What is kept of a chat message beside role and content: the wrapper's list, and the deprecated `function_call`."""


def _chat_message(message: Any) -> Message:
    if not isinstance(message, dict):
        return {"role": "user", "content": in_words(message)}
    kept = {name: message[name] for name in _MESSAGE_MEMBERS if message.get(name) is not None}
    role = message.get("role")
    return {"role": "user" if role is None else role, "content": message.get("content"), **kept}


def read_completions(request: bytes | None, response: bytes | None, chunks: Sequence[str] | None) -> Generation:
    """A call of the legacy `/completions`: each prompt is a message of the user, each choice one of the assistant."""
    generation = _read_choices(response, chunks)
    asked = _read_request(generation, request)
    if asked is not None:
        prompt = asked.get("prompt")
        several = isinstance(prompt, list) and all(isinstance(one, str) for one in prompt)  # else token ids
        prompts = as_list(prompt) if several else [prompt]
        generation.input = [{"role": "user", "content": one} for one in prompts if one is not None]
    return generation


# --- responses ---

_TERMINAL_STATUSES = ("completed", "failed", "cancelled", "incomplete")


def read_responses(request: bytes | None, response: bytes | None, chunks: Sequence[str] | None) -> Generation:
    """A call of `/responses`."""
    answer = _read_answer(response, chunks, "output")
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
    final = {**final, "output": as_list(final.get("output")) or items.output()}
    if final.get("status") == "failed":
        generation.failure = generation.failure or read_failure(final, "output") or Failure()
    usage = as_dict(final.get("usage"))
    generation.response_id = as_text(final.get("id"))
    generation.model = as_text(final.get("model"))
    generation.service_tier = as_text(final.get("service_tier"))
    generation.stop_reason = _stop_reason(final)
    generation.usage = read_usage(usage, count_web_searches(final) or None)
    generation.cost_usd = as_amount(usage.get("cost"))
    generation.output = _output_messages(final["output"])
    asked = _read_request(generation, request)
    if asked is not None:
        generation.instructions = asked.get("instructions")
        generation.input = _with_instructions(_input_messages(asked.get("input")), generation.instructions)
    return generation


def _stop_reason(final: dict[str, Any]) -> str | None:
    status = as_text(final.get("status"))
    if status not in _TERMINAL_STATUSES:
        return None
    reason = as_text(as_dict(final.get("incomplete_details")).get("reason"))
    return reason if status == "incomplete" and reason else status


def _input_messages(sent: Any) -> list[Message]:
    if sent is None:
        return []
    return [_input_message(item) for item in sent] if isinstance(sent, list) else [_input_message(sent)]


def _input_message(item: Any) -> Message:
    if not isinstance(item, dict):
        return {"role": "user", "content": in_words(item)}
    present: Message = {name: value for name, value in item.items() if value is not None}
    if "type" in present and "role" not in present and "content" not in present:
        return present  # a tool call, its output, reasoning, a reference
    return {"role": present.get("role", "user"), "content": present.get("content", "")}


def _with_instructions(messages: list[Message], instructions: Any) -> list[Message]:
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


def _output_messages(output: list[Any]) -> list[Message]:
    """All items as one message, or no message when there is nothing in them."""
    items = [item for item in output if isinstance(item, dict)]
    content = [part for item in items for part in _item_content(item)]
    roles = [item["role"] for item in items if item.get("type") == "message" and as_text(item.get("role"))]
    return [{"role": roles[-1] if roles else "assistant", "content": content}] if content else []


def _item_content(item: dict[str, Any]) -> list[dict[str, Any]]:
    kind = item.get("type")
    if kind == "message":
        content = item.get("content")
        if not isinstance(content, list):
            return [] if content is None else [{"type": "text", "text": in_words(content)}]
        return [shown for part in content if (shown := _part(as_dict(part))) is not None]
    if kind == "function_call":
        call_id = item.get("call_id") if item.get("call_id") is not None else item.get("id", "")
        function = {"name": item.get("name"), "arguments": item.get("arguments", {})}
        return [{"type": "function", "id": call_id, "function": function}]
    if kind == "image_generation_call":
        return [{"type": kind, "result": item.get("result"), "status": item.get("status")}]
    return [] if kind is None else [without_nulls(item)]


def _part(part: dict[str, Any]) -> dict[str, Any] | None:
    kind = part.get("type")
    if kind == "refusal" and part.get("refusal") is not None:
        return {"type": "refusal", "refusal": part["refusal"]}
    if part.get("text") is not None:
        return {"type": "text", "text": part["text"]}
    if kind == "input_image" and part.get("image_url") is not None:
        return {"type": "image", "image": part["image_url"]}
    return None


# --- embeddings ---


def read_embeddings(request: bytes | None, response: bytes | None, chunks: Sequence[str] | None) -> Generation:
    """A call of `/embeddings`. Of a long answer only the two ends are looked at: between them are vectors."""
    asked = as_dict(parse(request))
    short = response is not None and len(response) <= 2 * EDGE_BYTES
    body = parse(response) if short else None
    if isinstance(body, dict):
        answer = body
    else:
        answer = {name: find_member(response or b"", name) for name in ("model", "usage")}
    usage = as_dict(answer.get("usage"))
    return Generation(
        model=as_text(answer.get("model")) or as_text(asked.get("model")),
        input=asked.get("input"),
        usage=read_usage(usage),
        failure=read_failure_text(response) if body is None else read_failure(body, "data"),
        cost_usd=as_amount(usage.get("cost")),
    )


ENDPOINTS = (
    Endpoint("chat", "/chat/completions", "generation", read_chat),
    Endpoint("responses", "/responses", "generation", read_responses),
    Endpoint("embeddings", "/embeddings", "embedding", read_embeddings, bulky=True),
    Endpoint("completions", "/completions", "generation", read_completions),
)


# --- where the SDK is patched ---


def _pair(
    module: str, cls: str, endpoint: str, methods: tuple[str, ...], streams: tuple[str, ...] = ()
) -> tuple[Site, Site]:
    """A class and its asynchronous twin. `stream` is a plain `def` in both."""
    return (
        Site(module, cls, endpoint, methods, streams=streams),
        Site(module, f"Async{cls}", endpoint, methods, is_async=True, streams=streams),
    )


SITES = (
    *_pair(
        "openai.resources.chat.completions.completions", "Completions", "chat", ("create", "parse"), ("stream",)
    ),  # 1.68 on; parse and stream from 1.92
    *_pair("openai.resources.chat.completions", "Completions", "chat", ("create",)),  # 1.0 to 1.60; later a re-export
    *_pair("openai.resources.beta.chat.completions", "Completions", "chat", ("parse",), ("stream",)),  # 1.60 to 1.76
    *_pair(
        "openai.resources.responses.responses", "Responses", "responses", ("create", "parse"), ("stream",)
    ),  # 1.68 on
    *_pair("openai.resources.embeddings", "Embeddings", "embeddings", ("create",)),
    *_pair("openai.resources.completions", "Completions", "completions", ("create",)),
)

WIRE = Wire(
    base_module="openai._base_client",
    sync_client="SyncAPIClient",
    async_client="AsyncAPIClient",
    streaming_module="openai._streaming",
    sync_stream="Stream",
    async_stream="AsyncStream",
)

HOSTS = {
    "openai.azure.com": "azure",
    "services.ai.azure.com": "azure",
    "cognitiveservices.azure.com": "azure",
    "openrouter.ai": "openrouter",
    "api.groq.com": "groq",
    "api.together.xyz": "together",
    "api.together.ai": "together",
    "api.deepseek.com": "deepseek",
    "api.x.ai": "xai",
    "api.mistral.ai": "mistral",
    "api.perplexity.ai": "perplexity",
    "api.fireworks.ai": "fireworks",
    "api.cerebras.ai": "cerebras",
    "api.deepinfra.com": "deepinfra",
    "api.anthropic.com": "anthropic",
    "generativelanguage.googleapis.com": "gemini",
}
"""Hosts, with all below them, that serve this API under another name. PostHog prices by these names."""


def provider_of(client_class: str, base_url: str) -> str:
    """Who answers: by the class of the client, then by the host; "openai" for hosts nobody knows."""
    if "Azure" in client_class:
        return "azure"
    try:
        host = urlsplit(base_url if "//" in base_url else f"//{base_url}").hostname or ""
    except ValueError:
        host = ""
    return next((name for known, name in HOSTS.items() if f".{host}".endswith(f".{known}")), "openai")


PROVIDER = Provider("openai", "openai", WIRE, SITES, ENDPOINTS, provider_of)
