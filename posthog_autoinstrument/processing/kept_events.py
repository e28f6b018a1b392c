"""Events in the spool that are part of a call in the background: the call, or one that asked how it stands.

In privacy mode, and where a record may hold credentials, the spool has the event instead of the record. What shows
that several events are one call is kept beside each.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from . import privacy

NOTE = "background"
"""Member of an event in the spool, beside those that are sent."""

Key = tuple[str, str, str]
"""SDK, base URL, id of the response."""


class State(NamedTuple):
    """How a call in the background stands, by one answer."""

    key: Key
    is_poll: bool
    pending: bool
    failed: bool
    private: bool
    stream: bool


@dataclass(frozen=True)
class KeptEvent:
    """An event as the spool has it, before the user's hook."""

    event: dict[str, Any]
    state: State
    spooled: tuple[int, ...]
    size: int


def state_of(note: Any) -> State:
    """The state of a `NOTE`. Raises ValueError or TypeError for anything else."""
    key, *flags = note
    sdk, base_url, response_id = map(str, key)
    return State((sdk, base_url, response_id), *map(bool, flags))


_OF_THE_ANSWER = frozenset(
    (
        "$ai_cost_passthrough",
        "$ai_error",
        "$ai_http_status",
        "$ai_is_error",
        "$ai_latency",
        "$ai_model",
        "$ai_output_choices",
        "$ai_service_tier",
        "$ai_stop_reason",
        "$ai_stream",
        "$ai_time_to_first_token",
        "$ai_tools_called",
        "$ai_total_cost_usd",
        "$ai_usage",
        "$ai_web_search_count",
    )
)


def _is_of_the_answer(name: str) -> bool:
    return name in _OF_THE_ANSWER or (name.startswith("$ai_") and name.endswith("_tokens"))


def merged(call: KeptEvent, poll: KeptEvent) -> KeptEvent:
    """One event: asked by the call, answered by the poll, as long as both took. See `background_responses._merged`."""
    ours, theirs = call.event["properties"], poll.event["properties"]
    properties = {name: value for name, value in ours.items() if not _is_of_the_answer(name)}
    properties.update({name: value for name, value in theirs.items() if _is_of_the_answer(name)})
    if call.state.private or poll.state.private:
        properties = privacy.reduce(properties)
        if not poll.state.private and properties.get("$ai_error"):
            properties["$ai_error"] = None  # not the summary that a private event has
    properties["$ai_stream"] = bool(ours.get("$ai_stream") or theirs.get("$ai_stream"))
    duration_s, poll_s = float(ours.get("$ai_latency") or 0.0), float(theirs.get("$ai_latency") or 0.0)
    started_at = _epoch(call.event) - duration_s
    duration_s = max(duration_s, _epoch(poll.event) - started_at)
    properties["$ai_latency"] = duration_s
    if "$ai_time_to_first_token" in theirs:
        properties["$ai_time_to_first_token"] = duration_s - poll_s + float(theirs["$ai_time_to_first_token"])
    event = {
        **call.event,
        "uuid": poll.event["uuid"],
        "timestamp": max(call.event["timestamp"], poll.event["timestamp"]),
        "properties": properties,
    }
    private = call.state.private or poll.state.private
    state = call.state._replace(private=private, pending=poll.state.pending, failed=poll.state.failed)
    return KeptEvent(event, state, call.spooled + poll.spooled, call.size + poll.size)


def _epoch(event: dict[str, Any]) -> float:
    return datetime.fromisoformat(str(event["timestamp"])).timestamp()
