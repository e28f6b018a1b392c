"""What a provider's reader understood of one call: plain data, no provider types."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Usage:
    """Token counts of one call. `None`: the provider did not report it; 0: it reported none."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    reasoning_tokens: int | None = None
    audio_input_tokens: int | None = None
    audio_output_tokens: int | None = None
    image_input_tokens: int | None = None
    image_output_tokens: int | None = None
    text_output_tokens: int | None = None
    cache_read_audio_tokens: int | None = None
    web_search_count: int | None = None
    raw: dict[str, Any] | None = None
    """The provider's own usage object, unchanged."""


@dataclass
class Failure:
    """An error in the answer itself: an error body, a failed response, an error event inside a stream."""

    message: str | None = None
    code: str | None = None
    type: str | None = None
    param: str | None = None
    raised: bool = False
    """The SDK raises an exception for it, although the HTTP status was 200."""


@dataclass
class Generation:
    """One call as the provider's documentation would describe it.

    `input` is a list of `{"role", "content", ...}` messages, or for embeddings and spans the input as it was sent (a
    string, a list of strings, or token ids). `output` is a list of `{"role": str, "content": [{"type": ...}, ...]}`,
    one entry a choice; for spans what came out, as JSON; `None` where there is no such thing (embeddings). Content is
    not redacted yet: base64 media is in it.
    """

    model: str | None = None
    input: Any = None
    output: list[dict[str, Any]] | None = None
    instructions: Any = None
    tools: list[Any] | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)
    stop_reason: str | None = None
    service_tier: str | None = None
    failure: Failure | None = None
    response_id: str | None = None
    background: bool = False
    """The call runs on after its answer; other calls ask how it stands, by `response_id`."""
    pending: bool = False
    """This answer is not the last word on a call in the background."""
    provider: str | None = None
    """Who answered, where the answer itself gives it away: "ollama", "vllm"."""
    cost_usd: float | None = None
    """A total cost that the provider itself reported, in US dollars."""
    truncated: bool = False
    """A text in it was too long for an event and lost its middle before it was read."""
    first_output_chunk: int | None = None
    """Index of the first streamed chunk that carried output of the model (text, tool call, refusal, audio)."""


def placeholder(kind: str, size: int | None = None) -> str:
    """What stands in an event for media that was left out: "image", "audio", "video" or "file", and its bytes."""
    return f"[base64 {kind} redacted]" if size is None else f"[base64 {kind} redacted, {size} bytes]"
