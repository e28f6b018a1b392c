"""One event in a few words: what a table row or a list of the viewer shows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EventSummary:
    """What people look at first. `None` is "not known", except where a field says otherwise."""

    time: str
    """When the event happened: ISO 8601, UTC."""
    kind: str
    """"generation", "embedding", "span", "trace", "feedback" or "metric"."""
    model: str | None = None
    provider: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    """Those of the input tokens that came from the provider's cache."""
    reasoning_tokens: int | None = None
    """Those of the output tokens that nobody sees."""
    latency_s: float | None = None
    ttft_s: float | None = None
    """Time to first token, of streams."""
    status: int | None = None
    """HTTP status of the answer."""
    is_error: bool = False
    error: str | None = None
    user: str | None = None
    """The distinct id."""
    trace: str | None = None
    session: str | None = None
    span: str | None = None
    """The id that the events below this one name as their parent."""
    parent: str | None = None
    name: str | None = None
    """What the program calls the step."""
    endpoint: str | None = None
    """The path below the base URL: `/chat/completions`."""
    anonymous: bool = False
    """Nobody said who the user is: `user` is a stand-in."""
    input_text: str | None = None
    """First words of the input. None: held back (privacy mode); "": there is none."""
    output_text: str | None = None
    """First words of the output, as `input_text`."""
    cost_usd: float | None = None
    """What the provider itself says that the call cost."""


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
    """What the provider itself says that it cost."""
