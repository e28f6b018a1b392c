"""Calls that run on in the background after their answer: one event each, when their result is seen.

`responses.create(background=True)` returns a queued response; `responses.retrieve` later returns its state. The call is
held here until an answer has its outcome; after `WAIT_S`, or at exit, its event goes out with what was known last.
Lives on the flusher's thread.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from time import monotonic
from typing import Any, NamedTuple

from ..core.records import Call
from ..providers.generation import Generation
from ..providers.provider import Endpoint
from . import kept_events, redaction
from .kept_events import KeptEvent, Key, State

WAIT_S = 600.0
MAX_CALLS = 1_000
MAX_BYTES = 32 * 1024 * 1024
MAX_EARLY = 32
MAX_KNOWN = 10_000
"""Ids remembered of calls whose event is out: asking for them again makes no second one."""

Waiting = Call | KeptEvent


class _Held(NamedTuple):
    call: Waiting
    since: float
    """By the monotonic clock."""
    size: int


class Background:
    """The calls whose result has yet to be seen. Bounded; what is pushed out goes as it is.

    `build` makes the event of a call, for one that the spool has part of as an event only.
    """

    def __init__(self, build: Callable[[Call], dict[str, Any]]) -> None:
        self._build = build
        self._held: OrderedDict[Key, _Held] = OrderedDict()
        self._bytes = 0
        self._out: OrderedDict[Key, None] = OrderedDict()
        self._early: OrderedDict[Key, _Held] = OrderedDict()
        """Outcomes that were seen before the call they belong to ended: its stream is still open."""
        self._due: list[Waiting] = []

    def __len__(self) -> int:
        return len(self._held) + len(self._due)

    def merge(self, call: Call, endpoint: Endpoint | None, generation: Generation) -> Waiting | None:
        """The call that an event is to be made of now: this one, an earlier one with its result, or none."""
        is_poll = endpoint is not None and endpoint.kind == "poll"
        if not is_poll and not generation.background:
            return call
        state = state_of(call, endpoint, generation)
        if state is None:
            return None if is_poll else call  # refused, or unreadable: no state of anything
        return self._merge(call, state)

    def merge_event(self, event: KeptEvent) -> Waiting | None:
        """The same of an event in the spool."""
        return self._merge(event, event.state)

    def _merge(self, call: Waiting, state: State) -> Waiting | None:
        key = state.key
        if not state.is_poll:
            return self._begun(key, call, state)
        held = self._held.get(key)
        if held is None:
            return self._unknown(key, call, state)
        merged = self._merged(held.call, call, state)
        if state.pending:
            self._hold(key, merged, held.since)
            return None
        self._drop(key)
        self._note(key)
        return merged

    def _merged(self, call: Waiting, poll: Waiting, state: State) -> Waiting:
        if isinstance(call, Call) and isinstance(poll, Call):
            return _merged(call, poll)
        return kept_events.merged(self._as_event(call, state._replace(is_poll=False)), self._as_event(poll, state))

    def _as_event(self, call: Waiting, state: State) -> KeptEvent:
        if isinstance(call, KeptEvent):
            return call
        state = state._replace(private=call.identity.privacy_mode)
        return KeptEvent(self._build(call), state, call.spooled, _size_of(call))

    def _begun(self, key: Key, call: Waiting, state: State) -> Waiting | None:
        if not state.pending:
            self._note(key)
            return call
        if key in self._out:
            return None
        early = self._early.pop(key, None)
        if early is not None:
            self._note(key)
            return self._merged(call, early.call, state)
        self._hold(key, call, monotonic())
        return None

    def _unknown(self, key: Key, call: Waiting, state: State) -> Waiting | None:
        """A state of a call that is not held: over already, still being streamed, or of another process."""
        if state.pending or key in self._out:
            return None
        if state.stream and not state.failed:
            self._note(key)
            return call  # streamed to this program, which did not create it
        self._early[key] = _Held(call, monotonic(), 0)
        while len(self._early) > MAX_EARLY:
            self._early.popitem(last=False)
        return None

    def keeps(self, spooled: tuple[int, ...]) -> bool:
        """Whether a call in the spool is waited for, or waits itself."""
        calls = [held.call for held in (*self._held.values(), *self._early.values())] + self._due
        return any(set(spooled) & set(one.spooled) for one in calls)

    def overdue(self, final: bool) -> list[Waiting]:
        """The calls that are waited for no longer; with `final`, at exit, all of them."""
        until = monotonic() - WAIT_S
        for key, held in list(self._held.items()):
            if final or held.since <= until:
                self._drop(key)
                self._note(key)
                self._due.append(held.call)
        due, self._due = self._due, []
        return due

    def clear(self) -> None:
        """Forget everything: in a forked child, whose parent has it."""
        self.__init__(self._build)  # type: ignore[misc]

    def _hold(self, key: Key, call: Waiting, since: float) -> None:
        size = _size_of(call)
        before = self._held.get(key)
        self._bytes += size - (before.size if before is not None else 0)
        self._held[key] = _Held(call, since, size)
        while len(self._held) > MAX_CALLS or (self._bytes > MAX_BYTES and len(self._held) > 1):
            oldest, pushed = next(iter(self._held.items()))
            self._drop(oldest)
            self._note(oldest)
            self._due.append(pushed.call)

    def _drop(self, key: Key) -> None:
        held = self._held.pop(key, None)
        if held is not None:
            self._bytes -= held.size

    def _note(self, key: Key) -> None:
        self._out[key] = None
        if len(self._out) > MAX_KNOWN:
            self._out.popitem(last=False)


def state_of(call: Call, endpoint: Endpoint | None, generation: Generation) -> State | None:
    """How a call in the background stands by this answer; None where it is none, or has no id."""
    is_poll = endpoint is not None and endpoint.kind == "poll"
    if generation.response_id is None or not (is_poll or generation.background):
        return None
    key = (call.sdk, redaction.redact_url(call.base_url), generation.response_id)
    failed, private = generation.failure is not None, call.identity.privacy_mode
    return State(key, is_poll, generation.pending, failed, private, call.stream)


def _size_of(call: Waiting) -> int:
    if isinstance(call, KeptEvent):
        return call.size
    return len(call.request or b"") + len(call.response or b"") + sum(map(len, call.chunks or ()))


def _merged(call: Call, poll: Call) -> Call:
    """The call as the poll knows it: asked by the one, answered by the other, as long as both took."""
    started_at = call.ended_at - call.duration_s
    duration_s = max(call.duration_s, poll.ended_at - started_at)
    before_s = duration_s - poll.duration_s
    private = call.identity.privacy_mode or poll.identity.privacy_mode
    return replace(
        call,
        identity=replace(call.identity, privacy_mode=private),
        uuid=poll.uuid,
        ended_at=max(call.ended_at, poll.ended_at),
        duration_s=duration_s,
        end=poll.end,
        stream=call.stream or poll.stream,
        status=poll.status,
        request_id=poll.request_id,
        headers=poll.headers,
        error=poll.error,
        response=poll.response,
        chunks=poll.chunks,
        chunk_offsets_s=tuple(before_s + offset for offset in poll.chunk_offsets_s),
        cut=poll.cut,
        spooled=call.spooled + poll.spooled,
    )
