"""Exporters: what delivers events to one place, PostHog's HTTP API or the local store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from ..core.records import EncodedEvent


@dataclass(frozen=True)
class ExportResult:
    """What became of one attempt to deliver a batch."""

    kind: Literal["delivered", "retry", "too_large", "invalid", "paused", "stopped"]
    """delivered: taken. retry: not now, try the same bytes again. too_large: the batch or one event in it is over a
    size limit. invalid: some event in it is malformed. paused: nothing is accepted until the user corrects the token,
    quota or address: try the same bytes again, much later. stopped: there is nowhere to send to, for good."""
    detail: str = ""
    """For the log: status and what it means. Never content of an event."""
    retry_after_s: float | None = None
    """What the server asked for, seconds from now."""
    fate_unknown: bool = False
    """With "retry": the server may have taken the batch although no answer came."""
    less_may_fit: bool = False
    """With "retry": there is no room for all of the batch; there may be for a part of it."""


class Exporter(Protocol):
    """A destination. Used by one thread at a time; owns its connections and reopens them after a fork."""

    name: str
    max_event_bytes: int
    """Events larger than this are cut down before they are added to a batch. May shrink when the endpoint changes."""
    max_batch_bytes: int

    def send(self, events: Sequence[EncodedEvent], timeout_s: float) -> ExportResult:
        """Try once to deliver `events`, giving up after about `timeout_s` seconds. Never raises."""
        ...

    def close(self) -> None:
        """Let connections go. Never raises."""
        ...
