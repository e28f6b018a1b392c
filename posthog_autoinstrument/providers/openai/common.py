"""What all endpoints of OpenAI's API share: the request, the answer's events, usage. Pure; never raises."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from ..generation import Failure, Generation, Usage
from ..parsing import (
    as_count,
    as_dict,
    as_list,
    as_text,
    first_count,
    parse,
    read_events,
    read_failure,
    read_failure_text,
)

Message = dict[str, Any]

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


class Answer(NamedTuple):
    """The JSON objects of an answer with their positions: the events of a stream, or the one body."""

    events: list[tuple[int, dict[str, Any]]]
    streamed: bool
    failure: Failure | None


def read_answer(response: bytes | None, chunks: Sequence[str] | None, answer_key: str) -> Answer:
    """The JSON of an answer and its failure; one that has `answer_key` is no failure."""
    if chunks:
        events, failure = read_events(chunks)
        return Answer(events, True, failure)
    body = parse(response)
    failure = read_failure_text(response) if body is None else read_failure(body, answer_key)
    return Answer([(0, body)] if isinstance(body, dict) else [], False, failure)


def read_request(generation: Generation, request: bytes | None) -> dict[str, Any] | None:
    """Take what all requests have into `generation`, which already knows its answer. None for an unreadable request."""
    asked = parse(request)
    if not isinstance(asked, dict):
        return None
    generation.model = generation.model or as_text(asked.get("model"))
    generation.parameters = {name: asked[name] for name in PARAMETERS if asked.get(name) is not None}
    generation.tools = as_list(asked.get("tools")) or as_list(asked.get("functions")) or None
    return asked


def read_usage(raw: Any, web_search_count: int | None = None, model: str | None = None) -> Usage:
    """The token counts of a usage object: of chat (`prompt_tokens`) or of Responses (`input_tokens`).

    However the server counts: the input includes what was read from a cache and written into it, the output includes
    reasoning. What a server counts beside them is seen by the numbers.
    """
    usage = as_dict(raw)
    sent = as_dict(usage.get("prompt_tokens_details")) or as_dict(usage.get("input_tokens_details"))
    made = as_dict(usage.get("completion_tokens_details")) or as_dict(usage.get("output_tokens_details"))
    given = first_count(usage.get("prompt_tokens"), usage.get("input_tokens"))
    output = first_count(usage.get("completion_tokens"), usage.get("output_tokens"))
    thought = first_count(made.get("reasoning_tokens"))
    read, written = _cached(usage, sent)
    total = as_count(usage.get("total_tokens"))
    hides_thoughts = "gemini" in (model or "").lower()
    if given is not None and (output is not None or hides_thoughts):
        over = 0 if total is None else total - given - (output or 0)
        beside_input, beside_output = _beside(over, given, output or 0, (read or 0) + (written or 0), thought or 0)
        over -= beside_input + beside_output
        if hides_thoughts and not thought and over > 0:
            # Gemini's thoughts stand in the total alone (mozilla-ai/any-llm#1290).
            thought = beside_output = over
        given += beside_input
        output = output + beside_output if output is not None else beside_output or None
    else:
        beside_output = 0
    return Usage(
        input_tokens=given,
        output_tokens=output,
        cache_read_input_tokens=read,
        cache_creation_input_tokens=written,
        reasoning_tokens=thought,
        audio_input_tokens=first_count(sent.get("audio_tokens")),
        audio_output_tokens=first_count(made.get("audio_tokens")),
        image_input_tokens=first_count(sent.get("image_tokens")),
        image_output_tokens=first_count(made.get("image_tokens")),
        text_output_tokens=None if beside_output else first_count(made.get("text_tokens")),
        cache_read_audio_tokens=first_count(as_dict(sent.get("cached_tokens_details")).get("audio_tokens")),
        web_search_count=web_search_count,
        raw=usage or None,
    )


def _cached(usage: dict[str, Any], sent: dict[str, Any]) -> tuple[int | None, int | None]:
    """The input tokens that were read from a cache, and written into it. Some servers state a 0 in one place and the
    number in the other."""
    read = (
        sent.get("cached_tokens"),
        sent.get("cache_read_input_tokens"),
        usage.get("cached_tokens"),  # Moonshot, Together
        usage.get("cache_read_input_tokens"),  # LiteLLM
        usage.get("prompt_cache_hit_tokens"),  # DeepSeek
    )
    written = (
        sent.get("cache_write_tokens"),  # OpenAI, OpenRouter
        sent.get("cache_creation_tokens"),  # LiteLLM
        sent.get("cache_creation_input_tokens"),  # DashScope
        usage.get("cache_creation_input_tokens"),  # LiteLLM, older
    )
    return _most(read), _most(written)


def _most(values: tuple[Any, ...]) -> int | None:
    return max((count for value in values if (count := first_count(value)) is not None), default=None)


def _beside(over: int, given: int, output: int, cached: int, thought: int) -> tuple[int, int]:
    """What was counted beside the input, and beside the output. `over` is what the total has over the two of them."""
    if over > 0 and over in (thought, cached, thought + cached):
        thought_beside, cached_beside = over != cached or thought == cached, over != thought
    else:
        thought_beside, cached_beside = over > thought, False
    # A part is not larger than the whole.
    thought_beside = thought_beside or thought > output
    cached_beside = cached_beside or cached > given
    return cached if cached_beside else 0, thought if thought_beside else 0


def only_usage(usages: Collection[dict[str, Any]]) -> dict[str, Any]:
    """The usage that all choices of an answer state; nothing where they differ, since tokens may
    have been counted twice."""
    first = next(iter(usages), {})
    return first if all(usage == first for usage in usages) else {}


def count_web_searches(answer: dict[str, Any]) -> int:
    """The web searches of one answer or chunk: their number if reported (Responses), else 1 for a sign of any."""
    items = [as_dict(item) for item in as_list(answer.get("output"))]
    calls = [item for item in items if item.get("type") == "web_search_call"]
    if calls:  # a page that is opened, or searched through, is no search of the web
        return sum(as_dict(call.get("action")).get("type", "search") == "search" for call in calls)
    if answer.get("citations") or answer.get("search_results"):  # Perplexity
        return 1
    if as_dict(answer.get("usage")).get("search_context_size"):
        return 1
    cited = [part for item in items for part in as_list(item.get("content"))]
    for choice in as_list(answer.get("choices")):
        if isinstance(choice, dict):
            cited += choice.get("message"), choice.get("delta")
    for part in cited:
        if isinstance(part, dict) and part.get("annotations"):
            for note in as_list(part["annotations"]):
                if as_dict(note).get("type") == "url_citation":
                    return 1
    return 0


def files_of(asked: dict[str, Any]) -> list[Message]:
    """The files of a form, as they are described: `{"type": "file", "filename", "content_type", "bytes"}`."""
    values = (one for value in asked.values() for one in (value if isinstance(value, list) else [value]))
    return [one for one in values if isinstance(one, dict) and one.get("type") == "file"]
