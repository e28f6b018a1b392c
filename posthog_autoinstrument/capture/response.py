"""What is kept of an answer: a whole body, the events of a stream, raw bytes, or the two ends of a bulky body.

A call has one buffer at a time. On the program's thread each keeps references only; `content` puts them together later,
on the flusher's thread.
"""

from __future__ import annotations

from collections import deque
from time import perf_counter
from typing import NamedTuple, Protocol

from ..core import guard
from ..providers.provider import EDGE_BYTES, gap

TEXT_LIMIT = 32 * 1024 * 1024
"""Characters kept of a stream's events; beyond it only the last event is. PostHog takes events of 8 MiB."""
RAW_LIMIT = 32 * 1024 * 1024
"""Bytes kept of a body that the program reads raw; beyond it the event has what is known without it."""
BODY_LIMIT = 32 * 1024 * 1024
"""Bytes of a request or an answer that are held by reference. A larger one is shortened when the call ends: the program
may be done with it, and as long as it waits here it would be in memory beside the next one."""


class Content(NamedTuple):
    """What was kept of an answer, put together."""

    body: bytes | None = None
    texts: list[str] | None = None
    """The texts of a stream's events."""
    times: list[float] | tuple[()] = ()
    """When each of them came, by `perf_counter`."""
    n_bytes: int = 0
    """Size of the whole body."""
    cut: int = 0
    """Bytes left out between its two ends."""
    is_raw: bool = False
    """The body may be compressed."""


class ResponseBuffer(Protocol):
    """What is kept of one answer."""

    def keep(self, piece: bytes) -> None:
        """Take a piece of the raw body, which the program reads itself."""

    def release(self) -> int:
        """The call ends: drop what is not needed. Bytes and characters that are left."""

    def content(self) -> Content:
        """What was kept, on the flusher's thread."""


class WholeBody:
    """A body that was in memory when the call returned; of a bulky one its two ends."""

    __slots__ = ("_body", "_cut")

    def __init__(self, body: bytes, two_ends: bool) -> None:
        self._cut = 0
        if two_ends and len(body) > 3 * EDGE_BYTES:
            self._cut = len(body) - 2 * EDGE_BYTES
            body = body[:EDGE_BYTES] + gap(self._cut).encode() + body[-EDGE_BYTES:]
        self._body: bytes | None = body

    def keep(self, piece: bytes) -> None:
        """It is here already."""

    def release(self) -> int:
        if self._body is not None and len(self._body) > BODY_LIMIT:
            self._body = shortened(self._body)
        return len(self._body) if self._body is not None else 0

    def content(self) -> Content:
        body = self._body
        size = 2 * EDGE_BYTES + self._cut if self._cut else len(body or b"")
        return Content(body, n_bytes=size, cut=self._cut)


class Events:
    """The texts of a stream's events, as the SDK's decoder gives them, and when each came.

    Before the first one comes, `before` is what was kept of the body: it may be one JSON object or a page of a proxy,
    in which the SDK finds no event, yields nothing and raises nothing.
    """

    __slots__ = ("_room", "_two_ends", "before", "texts", "times")

    def __init__(self, before: ResponseBuffer | None, two_ends: bool) -> None:
        self.before = before
        self.texts: list[str] = []
        self.times: list[float] = []
        self._two_ends = two_ends
        self._room = TEXT_LIMIT

    def add(self, text: str) -> None:
        """Take the text of an event."""
        size = len(text)
        if self._two_ends and size > 3 * EDGE_BYTES:
            text = text[:EDGE_BYTES] + gap(size - 2 * EDGE_BYTES) + text[-EDGE_BYTES:]
            size = len(text)
        self._room = room = self._room - size
        if room > 0:
            self.times.append(perf_counter())
            self.texts.append(text)
        else:
            self.texts[-1:] = [text]  # the last one has the end and the usage

    def keep(self, piece: bytes) -> None:
        if self.texts:
            self.before = None  # it is a stream
        elif self.before is not None:
            self.before.keep(piece)

    def release(self) -> int:
        if self.texts or self.before is None:
            self.before = None
            return sum(map(len, self.texts))
        return self.before.release()

    def content(self) -> Content:
        content = self.before.content() if self.before is not None and not self.texts else None
        if content is None or not content.body:
            return Content(texts=self.texts, times=self.times)
        return content


class RawBytes:
    """Undecoded pieces of a body that the program reads itself."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0

    def keep(self, piece: bytes) -> None:
        if self._size < RAW_LIMIT:
            self._pieces.append(piece)
        self._size += len(piece)

    def release(self) -> int:
        return sum(map(len, self._pieces))

    def content(self) -> Content:
        return Content(b"".join(self._pieces) if self._pieces else None, n_bytes=self._size, is_raw=True)


class TwoEnds:
    """The first and the last bytes of a bulky body that the program reads itself, uncompressed."""

    def __init__(self) -> None:
        self._head: list[bytes] = []
        self._tail: deque[bytes] = deque()
        self._size = 0

    def keep(self, piece: bytes) -> None:
        before = self._size
        self._size += len(piece)
        if before < EDGE_BYTES:
            self._head.append(piece)
            return
        tail = self._tail
        tail.append(piece)
        if self._size <= 3 * EDGE_BYTES:
            return
        if len(tail) > 2 and len(piece) >= EDGE_BYTES:
            tail.clear()
            tail.append(piece)
        elif len(tail) > 256:
            last = b"".join(tail)[-EDGE_BYTES:]
            tail.clear()
            tail.append(last)

    def release(self) -> int:
        return sum(map(len, self._head)) + sum(map(len, self._tail))

    def content(self) -> Content:
        if not self._head:
            return Content(is_raw=True)
        head, tail = b"".join(self._head), b"".join(self._tail)
        if self._size <= 3 * EDGE_BYTES or not tail:
            return Content(head + tail, n_bytes=self._size, is_raw=True)
        if len(tail) < EDGE_BYTES:
            tail = head[EDGE_BYTES:] + tail
        cut = self._size - 2 * EDGE_BYTES
        body = head[:EDGE_BYTES] + gap(cut).encode() + tail[-EDGE_BYTES:]
        return Content(body, n_bytes=self._size, cut=cut, is_raw=True)


@guard.guarded("shorten a large body", None)
def shortened(body: bytes) -> bytes | None:
    """A body larger than `BODY_LIMIT`, short enough to be kept; None where that cannot be had quickly."""
    from ..providers import bodies  # only for what is as large as this

    return bodies.bounded(body)
