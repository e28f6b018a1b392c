"""Results of queries: sums, groups, lists, one event with its cost. Plain frozen values; None is "not known"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from .columns import CALLS
from .summary import EventFields


@dataclass(frozen=True)
class Part:
    """One line of a bill."""

    name: str
    """"input", "cached input", "output", "audio input", "web search", ..."""
    amount: int
    """Tokens, or searches."""
    per_million_usd: float | None
    """The price of a million tokens; None where it is not a price of tokens, or depends on the size of the request."""
    usd: float


@dataclass(frozen=True)
class Cost:
    """The cost of a call."""

    total_usd: float
    parts: tuple[Part, ...]
    """Empty if the provider reports only the total."""
    source: str
    """Source of the price: "reported by the provider", "your prices (FILE)", "genai-prices 0.2.3"."""
    model: str | None = None
    """The model as the price list names it."""


class Pricing(Protocol):
    """What `Queries` needs of prices (`prices.Prices`)."""

    version: str
    """Changes whenever a price changes."""

    def cost(self, event: dict[str, Any]) -> Cost | None:
        """The cost of an event's call; None if it is not known. Never raises."""
        ...


@dataclass(frozen=True)
class Totals:
    """Sums over calls: generations and embeddings. None: not known for any of them."""

    calls: int = 0
    errors: int = 0
    """Calls that failed."""
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_usd: float | None = None
    unpriced: int = 0
    """Calls that succeeded and whose cost is not known; the sum does not include them."""
    first: float | None = None
    """When the first call ended, in epoch seconds."""
    last: float | None = None
    latency_p50_s: float | None = None
    latency_p95_s: float | None = None
    ttft_p50_s: float | None = None
    """Time to first token, of streams."""
    ttft_p95_s: float | None = None


@dataclass(frozen=True)
class Point:
    """One step of a chart, from `start` (epoch seconds) on."""

    start: float
    totals: Totals


@dataclass(frozen=True)
class Series:
    """Sums over time, without gaps; no points where there are no calls."""

    start: float
    step_s: float
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Group:
    """Sums over the calls with the same value; key None: the calls without a value."""

    key: str | None
    totals: Totals


@dataclass(frozen=True)
class GroupPage:
    """One page of groups, newest first; `next` is the key of the page after it, "" if there is none."""

    rows: tuple[Group, ...]
    next: str


@dataclass(frozen=True, kw_only=True)
class Entry(EventFields):
    """One event without its body. `user` is None where the event is anonymous."""

    number: int
    """Larger than that of every event that was stored before."""
    uuid: str
    epoch: float
    """When it ended, in epoch seconds."""

    @property
    def started(self) -> float:
        """When it began, in epoch seconds."""
        return self.epoch - (self.latency_s or 0.0)

    @property
    def is_call(self) -> bool:
        """A call of a model, not a step of the program or feedback."""
        return self.kind in CALLS


@dataclass(frozen=True)
class EventPage:
    """One page of events, newest first; `next` is the key of the page after it, "" if there is none."""

    entries: tuple[Entry, ...]
    next: str


@dataclass(frozen=True)
class TraceRow:
    """One trace in a list: the whole trace, also its events that are not in the selection."""

    trace: str
    started: float
    """When its first event began, in epoch seconds."""
    ended: float
    events: int
    calls: int
    errors: int
    """Events of any kind that failed."""
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: float | None
    unpriced: int
    user: str | None
    session: str | None
    name: str | None
    """The name of the trace or of its outermost span."""
    models: tuple[str, ...]
    input_text: str | None
    """First words of its first call's input."""

    @property
    def duration_s(self) -> float:
        """From the begin of its first event to the end of its last."""
        return max(0.0, self.ended - self.started)


@dataclass(frozen=True)
class TracePage:
    """One page of traces, newest first; `next` is the key of the page after it, "" if there is none."""

    rows: tuple[TraceRow, ...]
    next: str


@dataclass(frozen=True)
class Full:
    """One whole event."""

    entry: Entry
    event: dict[str, Any]
    cost: Cost | None
    """The parts of the cost. None: not known, or `Queries` was opened without prices."""
