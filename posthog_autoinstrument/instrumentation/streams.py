"""Answers that are read after the call returned: SSE events, and bodies that the program reads itself.

Two signals make one end: the SDK's event decoder (texts, errors, exhaustion) and the response's byte stream (closing,
abandonment, raw readers). Nothing is held, changed or delayed; finalisers only append to the queue.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from types import FrameType
from typing import Any

from ..capture.calls import OpenCall
from ..capture.exceptions import CANCELLATIONS
from ..capture.response import Events, RawBytes, ResponseBuffer, TwoEnds
from ..core import guard
from .stream_usage import UsageFilter, hidden

SHORT = 32
"""Characters that the text of an event which ends a stream does not reach."""


class _Bytes:
    """A response's byte stream, forwarded. Mixed with the transport library's own ABCs by `_kind_of`."""

    def __init__(self, inner: Any, call: OpenCall) -> None:
        self.posthog_inner = inner
        self.posthog_call = call

    def __getattr__(self, name: str) -> Any:
        if name.startswith("posthog_"):
            raise AttributeError(name)
        return getattr(self.posthog_inner, name)

    def __iter__(self) -> Iterator[bytes]:
        call = self.posthog_call
        events = _events_to_come(call)
        if events is not None:
            return _before_events(self.posthog_inner, events)
        if not _may_be_read_raw(call):
            return iter(self.posthog_inner)
        pieces = _raw_body(self.posthog_inner, call)
        return _without_usage_raw(pieces) if _hides_usage(call) else pieces

    def __aiter__(self) -> AsyncIterator[bytes]:
        call = self.posthog_call
        events = _events_to_come(call)
        if events is not None:
            return _AsyncBeforeEvents(self.posthog_inner, events)
        if not _may_be_read_raw(call):
            return self.posthog_inner.__aiter__()  # type: ignore[no-any-return]
        pieces = _AsyncRawBody(self.posthog_inner, call)
        return _AsyncWithoutUsageRaw(pieces) if _hides_usage(call) else pieces

    def close(self) -> None:
        try:
            self.posthog_inner.close()
        finally:
            _closed(self.posthog_call)

    async def aclose(self) -> None:
        try:
            await self.posthog_inner.aclose()
        finally:
            _closed(self.posthog_call)

    def __del__(self) -> None:
        call = self.__dict__.get("posthog_call")
        if call is not None and call.end is None:
            call.finish("abandoned")


_kinds: dict[type, type] = {}


def _kind_of(inner: Any) -> type:
    """A subclass of `_Bytes` that is also what the transport checks for.

    httpx and httpx2 insist on their own `SyncByteStream` or `AsyncByteStream`; both may be in one process, and
    importing either would change what openai 3 does. So the bases are found by name among the stream's own.
    """
    own = type(inner)
    kind = _kinds.get(own)
    if kind is None:
        bases = tuple(base for base in own.__mro__ if base.__name__ in ("SyncByteStream", "AsyncByteStream"))
        names = {"__module__": own.__module__, "__qualname__": own.__qualname__, "__doc__": own.__doc__}
        kind = _kinds[own] = type(own.__name__, (_Bytes, *bases), names)
    return kind


@guard.guarded("watch a response", None)
def watch(response: Any, call: OpenCall) -> None:
    """Put a tap on the byte stream of `response`, whose body the program has yet to read."""
    inner = response.stream
    response.stream = _kind_of(inner)(inner, call)
    call.calls.streams.add(call)
    call.calls.expect()


@guard.guarded("end a stream", None)
def _closed(call: OpenCall) -> None:
    if call.events is not None and _is_being_read(call):
        return  # by the transport, at the end or on an error: the reader of events sees it next
    error = sys.exc_info()[1]
    if isinstance(error, GeneratorExit) or type(error).__name__ in CANCELLATIONS:
        call.fail(error)
    elif call.is_read_to_end:
        call.finish("complete")
    else:
        call.finish("closed")


def _is_being_read(call: OpenCall) -> bool:
    """Whether this thread is inside the tap on the call's events, waiting for the next one."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code in _READING and frame.f_locals.get("call") is call:
            return True
        frame = frame.f_back
    return False


@guard.guarded("keep a piece of a body", None)
def _keep(buffer: ResponseBuffer, piece: Any) -> None:
    buffer.keep(piece)


def _may_be_read_raw(call: OpenCall) -> bool:
    """Whether the program is about to read the body itself, for the first time."""
    return call.end is None and call.events is None and not isinstance(call.response, (RawBytes, TwoEnds))


def _raw_body(inner: Any, call: OpenCall) -> Iterator[bytes]:
    """The pieces of a body that the program reads itself, kept."""
    buffer = call.begin_body()
    ended = False
    try:
        for piece in inner:
            _keep(buffer, piece)
            yield piece
        ended = call.is_read_to_end = True
    finally:
        if not ended:
            call.fail(sys.exc_info()[1])


class _AsyncRawBody:
    """Asynchronous `_raw_body`. A class: one more async generator is one more for the loop to finalise."""

    def __init__(self, inner: Any, call: OpenCall) -> None:
        self._buffer = call.begin_body()
        self._call = call
        self._pieces = inner.__aiter__()

    def __aiter__(self) -> _AsyncRawBody:
        return self

    async def __anext__(self) -> bytes:
        came = False
        try:
            piece: bytes = await self._pieces.__anext__()
            came = True
        finally:
            if not came:
                _broke_off(self._call, raw=True)
        _keep(self._buffer, piece)
        return piece

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pieces, name)


def _events_to_come(call: OpenCall) -> Events | None:
    """The buffer of the events that the SDK is about to read, if nothing of the answer was kept yet."""
    events = call.events
    fresh = events is not None and call.end is None and not events.texts and events.before is None
    return events if fresh else None


def _before_events(inner: Any, events: Events) -> Iterator[bytes]:
    """The pieces of a body that the SDK reads events from: kept until there is one."""
    events.before = RawBytes()
    for piece in inner:
        if events.before is not None:
            _keep(events, piece)
        yield piece


class _AsyncBeforeEvents:
    """Asynchronous `_before_events`."""

    def __init__(self, inner: Any, events: Events) -> None:
        events.before = RawBytes()
        self._events = events
        self._pieces = inner.__aiter__()

    def __aiter__(self) -> _AsyncBeforeEvents:
        return self

    async def __anext__(self) -> bytes:
        piece: bytes = await self._pieces.__anext__()
        if self._events.before is not None:
            _keep(self._events, piece)
        return piece

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pieces, name)


def _hides_usage(call: OpenCall) -> bool:
    """Whether the program, reading this body itself, would read the usage that we asked for."""
    headers = call.headers or {}
    kind = headers.get("content-type", "")
    return bool(call.usage_host) and "event-stream" in kind and not headers.get("content-encoding")


def _without_usage_raw(pieces: Iterator[bytes]) -> Iterator[bytes]:
    filtered = UsageFilter()
    for piece in pieces:
        shown = filtered.feed(piece)
        if shown:
            yield shown
    rest = filtered.rest()
    if rest:
        yield rest


class _AsyncWithoutUsageRaw:
    """Asynchronous `_without_usage_raw`."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces
        self._filtered = UsageFilter()

    def __aiter__(self) -> _AsyncWithoutUsageRaw:
        return self

    async def __anext__(self) -> bytes:
        while True:
            try:
                shown = self._filtered.feed(await self._pieces.__anext__())
            except StopAsyncIteration:
                shown = self._filtered.rest()
                if not shown:
                    raise
            if shown:
                return shown

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pieces, name)


@guard.guarded("end a stream", None)
def _broke_off(call: OpenCall, raw: bool = False) -> None:
    """The exception in flight ended the reading of an asynchronous stream."""
    error = sys.exc_info()[1]
    if isinstance(error, StopAsyncIteration):
        if raw:
            call.is_read_to_end = True
        else:
            call.finish("complete")
    else:
        call.fail(error)


def _call_of(stream: Any) -> OpenCall | None:
    """The call whose answer an SDK stream object reads."""
    tap = getattr(getattr(stream, "response", None), "stream", None)
    return tap.posthog_call if isinstance(tap, _Bytes) else None


def tap_events(wrapped: Callable[[Any], Iterator[Any]]) -> Callable[[Any], Iterator[Any]]:
    """Wrap `Stream._iter_events`: the decoded events of one answer, before the SDK parses them."""

    def _iter_events(self: Any) -> Iterator[Any]:
        call = guard.quietly(_call_of, self)
        if call is None:
            return wrapped(self)
        events = wrapped(self)
        if call.end is None and call.events is None:
            events = _events(events, call, call.begin_events())
        return _without_usage(events) if call.usage_host else events

    return _iter_events


def _without_usage(inner: Iterator[Any]) -> Iterator[Any]:
    for event in inner:
        shown = hidden(event)
        if shown is not None:
            yield shown


def _events(inner: Iterator[Any], call: OpenCall, kept: Events) -> Iterator[Any]:
    ended = False
    add = kept.add
    try:
        for event in inner:
            text = event.data
            add(text)
            # openai 1.0 never closes the response: the marker is the only end it gives.
            if len(text) < SHORT and text[:6] == "[DONE]":
                call.finish("complete")
            yield event
        ended = True
    finally:
        if call.end is None:
            if ended:
                call.finish("complete")
            else:
                call.fail(sys.exc_info()[1])


def tap_reader(wrapped: Callable[[Any], Iterator[Any]]) -> Callable[[Any], Iterator[Any]]:
    """Wrap `Stream.__stream__` of versions that leave the response open when they raise."""

    def __stream__(self: Any) -> Iterator[Any]:
        ended = False
        try:
            yield from wrapped(self)
            ended = True
        finally:
            if not ended:
                _failed(self)

    return __stream__


def tap_async_reader(wrapped: Callable[[Any], AsyncIterator[Any]]) -> Callable[[Any], AsyncIterator[Any]]:
    """Wrap `AsyncStream.__stream__`, as `tap_reader`."""

    async def __stream__(self: Any) -> AsyncIterator[Any]:
        ended = False
        try:
            async for item in wrapped(self):
                yield item
            ended = True
        finally:
            if not ended:
                _failed(self)

    return __stream__


@guard.guarded("end a failed stream", None)
def _failed(stream: Any) -> None:
    """An exception is leaving the SDK's reader of events: as if it had closed the response, which is what it does
    from openai 2.9 on."""
    call = _call_of(stream)
    error = sys.exc_info()[1]
    if call is None or call.end is not None or isinstance(error, GeneratorExit):
        return
    if type(error).__name__ in CANCELLATIONS:
        call.fail(error)
    else:
        call.finish("closed")


def tap_async_events(wrapped: Callable[[Any], AsyncIterator[Any]]) -> Callable[[Any], AsyncIterator[Any]]:
    """Wrap `AsyncStream._iter_events`."""

    def _iter_events(self: Any) -> AsyncIterator[Any]:
        call = guard.quietly(_call_of, self)
        if call is None:
            return wrapped(self)
        events = wrapped(self)
        if call.end is None and call.events is None:
            events = _AsyncEvents(events, call, call.begin_events())
        return _AsyncWithoutUsage(events) if call.usage_host else events

    return _iter_events


class _AsyncWithoutUsage:
    """Asynchronous `_without_usage`."""

    __slots__ = ("_inner",)

    def __init__(self, inner: AsyncIterator[Any]) -> None:
        self._inner = inner

    def __aiter__(self) -> _AsyncWithoutUsage:
        return self

    async def __anext__(self) -> Any:
        while True:
            shown = hidden(await self._inner.__anext__())
            if shown is not None:
                return shown

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _AsyncEvents:
    """Asynchronous `_events`."""

    __slots__ = ("_add", "_call", "_inner", "_next")

    def __init__(self, inner: AsyncIterator[Any], call: OpenCall, kept: Events) -> None:
        self._inner = inner
        self._next = inner.__anext__
        self._call = call
        self._add = kept.add

    def __aiter__(self) -> _AsyncEvents:
        return self

    async def __anext__(self) -> Any:
        call = self._call  # `_is_being_read` looks for it
        came = False
        try:
            event = await self._next()
            came = True
        finally:
            if not came:
                _broke_off(call)
        text = event.data
        self._add(text)
        if len(text) < SHORT and text[:6] == "[DONE]":
            call.finish("complete")
        return event

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


_READING = (_events.__code__, _AsyncEvents.__anext__.__code__)
