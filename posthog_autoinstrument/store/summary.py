"""One event in a few words: what a row of a list shows, and what a call used of what providers bill."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class EventFields:
    """What lists show of an event. None: not known, except where a field says otherwise."""

    kind: str = ""
    """"generation", "embedding", "span", "trace", "feedback" or "metric"."""
    is_error: bool = False
    model: str | None = None
    provider: str | None = None
    endpoint: str | None = None
    """The path below the base URL: `/chat/completions`."""
    user: str | None = None
    """The distinct id."""
    trace: str | None = None
    session: str | None = None
    span: str | None = None
    """The id that the events below this one name as their parent."""
    parent: str | None = None
    name: str | None = None
    """What the program calls the step."""
    status: int | None = None
    """HTTP status of the answer."""
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    """Those of the input tokens that came from the provider's cache."""
    reasoning_tokens: int | None = None
    """Those of the output tokens that are not part of the answer."""
    latency_s: float | None = None
    ttft_s: float | None = None
    """Time to first token, of streams."""
    cost_usd: float | None = None
    input_text: str | None = None
    """First words of the input. None: not captured (privacy mode); "": there is none."""
    output_text: str | None = None
    """First words of the output, as `input_text`."""


@dataclass(frozen=True, kw_only=True)
class EventSummary(EventFields):
    """The fields of a whole event. `cost_usd` is what the provider itself reports."""

    time: str = ""
    """When the event happened: ISO 8601, UTC."""
    error: str | None = None
    anonymous: bool = False
    """The event has no known user: `user` is a generated id."""


@dataclass(frozen=True)
class TokenUse:
    """What a call used of what providers bill. `None` is "not known" or "none of it"."""

    time: str
    """When: ISO 8601. Prices change."""
    model: str | None = None
    provider: str | None = None
    base_url: str | None = None
    tier: str | None = None
    """The service tier that served: "flex", "priority", "default", ..."""
    is_embedding: bool = False
    input_tokens: int | None = None
    output_tokens: int | None = None
    # Parts of the two above:
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    input_audio_tokens: int | None = None
    output_audio_tokens: int | None = None
    cache_audio_read_tokens: int | None = None
    input_image_tokens: int | None = None
    output_image_tokens: int | None = None
    web_searches: int | None = None
    cache_beside_input: bool = False
    """The input tokens are counted without what the cache held (Anthropic's own way of counting)."""
    reported_usd: float | None = None
    """The cost that the provider itself reports."""
