"""Records: what leaves the host's side. Plain data, serialisable to bytes, free of host and SDK objects."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from . import quickjson

End = Literal["complete", "closed", "abandoned", "failed", "cancelled"]
"""complete: the answer ended. closed: the program closed the stream early. abandoned: it dropped it. failed: an
exception left the SDK. cancelled: the task was cancelled."""


@dataclass(frozen=True)
class Error:
    """The exception that left the SDK, as text: the exception object keeps the host's frames alive."""

    name: str
    message: str
    status: int | None = None
    code: str | None = None
    type: str | None = None
    param: str | None = None
    request_id: str | None = None
    causes: tuple[str, ...] = ()


@dataclass
class Identity:
    """Who asked, in which trace. Everything is resolved; properties and groups are key -> JSON text."""

    distinct_id: str | None
    trace_id: str
    session_id: str | None = None
    replay_session_id: str | None = None
    properties: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    """Properties that say less than the call itself: tags of the posthog package's context."""
    privacy_mode: bool = False
    parent_id: str | None = None
    span_name: str | None = None
    provider: str | None = None


@dataclass  # not frozen, although nobody changes one: setting 25 fields the other way is a fifth of `seal`
class Call:
    """One logical SDK call, retries included.

    `request` and `response` are the bodies as they went over the wire (the response decompressed), or JSON that
    describes them where they are forms, pictures or sound (`providers.Reader`); `chunks` are the `data:` texts of a
    stream's events and `chunk_offsets_s` when each came, in seconds after the start. Times are epoch seconds. `cut` is
    the number of bytes of a bulky answer that were left out between the response's head and tail.
    """

    sdk: str
    endpoint: str
    uuid: str
    span_id: str
    client: str
    base_url: str
    request_url: str
    ended_at: float
    duration_s: float
    end: End
    stream: bool
    identity: Identity
    status: int | None = None
    request_id: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    """Those of the answer's headers that tell who answered."""
    error: Error | None = None
    model: str | None = None
    """Of a call that never reached the wire; otherwise the bodies say it."""
    cost_usd: float | None = None
    """A cost that a response header reported."""
    request: bytes | None = None
    response: bytes | None = None
    chunks: tuple[str, ...] | None = None
    chunk_offsets_s: tuple[float, ...] = ()
    cut: int = 0
    spooled: tuple[int, ...] = ()
    """The rows of this process's outbox that are done with when this call is."""

    def to_bytes(self) -> bytes:
        """This record as bytes: a JSON head and the bodies, length-prefixed, with a checksum."""
        head = {name: value for name, value in vars(self).items() if name not in ("request", "response", "spooled")}
        head["identity"] = vars(self.identity)
        head["error"] = vars(self.error) if self.error else None
        parts = [quickjson.dumps(head) or json.dumps(head, separators=(",", ":"), default=dict).encode("utf-8")]
        parts += [part if part is not None else b"" for part in (self.request, self.response)]
        present = (self.request is not None) | (self.response is not None) << 1
        body = b"".join(parts)
        return _HEAD.pack(_MAGIC, 1, present, *(len(part) for part in parts), zlib.crc32(body, present)) + body


_MAGIC = b"PHAC"
_HEAD = struct.Struct("<4sBBQQQI")


def call_from_bytes(data: bytes, spooled: tuple[int, ...] = ()) -> Call:
    """The record that `Call.to_bytes` wrote. Raises ValueError for anything else."""
    if len(data) < _HEAD.size:
        raise ValueError("not a record: too short")
    magic, version, present, *lengths, checksum = _HEAD.unpack_from(data)
    body = data[_HEAD.size :]
    if magic != _MAGIC or version != 1:
        raise ValueError("not a record of a known version")
    if len(body) != sum(lengths) or zlib.crc32(body, present) != checksum:
        raise ValueError("a damaged record")
    head_length, request_length, _ = lengths
    head = quickjson.loads(body[:head_length])
    head["identity"] = Identity(**head["identity"])
    if head["error"]:
        head["error"] = Error(**{**head["error"], "causes": tuple(head["error"]["causes"])})
    head["chunks"] = None if head["chunks"] is None else tuple(head["chunks"])
    head["chunk_offsets_s"] = tuple(head["chunk_offsets_s"])
    request_end = head_length + request_length
    return Call(
        **head,
        request=body[head_length:request_end] if present & 1 else None,
        response=body[request_end:] if present & 2 else None,
        spooled=spooled,
    )


Record = Call
"""Everything that travels from the host's side to the flusher. Spans, feedback and metrics join it."""


class Sealable(Protocol):
    """A finished record still made of references; sealing it, on the flusher's thread, makes the record."""

    sealed: bool
    """It was sealed early."""
    pid: int
    """The process in which it began. One that forked meanwhile leaves it to its parent."""
    size: int
    """Bytes of content it holds, for the queue's bound."""

    def seal(self) -> Record | None:
        """The record, or None where it must not be recorded after all."""
        ...


class Sealed:
    """A record that was sealed early, on the program's thread: it is in the spool already."""

    __slots__ = ("call", "pid", "size")
    sealed = True

    def __init__(self, call: Call, pid: int, size: int) -> None:
        self.call = call
        self.pid = pid
        self.size = size

    def seal(self) -> Record | None:
        return self.call
