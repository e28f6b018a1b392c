"""One event in a few words: what a table row or a list of the viewer shows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Summary:
    """What people look at first. `None` is "not known", except where a field says otherwise."""

    time: str
    """When the event happened: ISO 8601, UTC."""
    kind: str
    """"generation", "embedding", "span", "trace", "feedback" or "metric"."""
    model: str | None = None
    provider: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
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
    anonymous: bool = False
    """Nobody said who the user is: `user` is a stand-in."""
    input_text: str | None = None
    """First words of the input. None: held back (privacy mode); "": there is none."""
    output_text: str | None = None
    """First words of the output, as `input_text`."""
    cost_usd: float | None = None
