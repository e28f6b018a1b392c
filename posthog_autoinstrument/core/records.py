"""Records: what leaves the host's side. Plain data, serialisable to bytes, free of host and SDK objects."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from . import fastjson

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
    """Names of the exceptions behind it."""
    reasons: tuple[str, ...] = ()
    """Their texts: "ConnectError: [Errno 111] Connection refused"."""


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
    """Properties of lower precedence than those of the call: tags of the posthog package's context."""
    privacy_mode: bool = False
    parent_id: str | None = None
    span_name: str | None = None
    provider: str | None = None


@dataclass  # not frozen, although it never changes: setting 25 fields the other way is a fifth of `finalize`
class Call:
    """One logical SDK call, retries included.

    `request` and `response` are the bodies as they were sent and received (the response decompressed), or JSON that
    describes them where they are forms, images or audio (`providers.provider.Reader`); `chunks` are the `data:` texts
    of a stream's events and `chunk_offsets_s` when each came, in seconds after the start. Times are epoch seconds.
    `cut` is the number of bytes of a bulky answer that were left out between the response's head and tail.
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
    """Those of the answer's headers that identify who answered."""
    error: Error | None = None
    model: str | None = None
    """Of a call that was never sent; otherwise the model is read from the bodies."""
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
        return _packed(self, head, self.request, self.response)


@dataclass
class Span:
    """One step of a program, as it names it, or (`of_trace`) a whole trace.

    `input_state` and `output_state` are JSON texts, None where nothing is known of them.
    """

    name: str
    type: str | None
    uuid: str
    span_id: str
    ended_at: float
    duration_s: float
    identity: Identity
    input_state: str | None = None
    output_state: str | None = None
    error: Error | None = None
    of_trace: bool = False
    facts: Mapping[str, str] = field(default_factory=dict)
    """Properties that a library gives its step: names of `processing.event.LIBRARY_PROPERTIES` -> JSON text."""
    spooled: tuple[int, ...] = ()

    def to_bytes(self) -> bytes:
        """As `Call.to_bytes`; the states are the bodies."""
        bodies = ("input_state", "output_state", "spooled")
        head = {"record": "span", **{name: value for name, value in vars(self).items() if name not in bodies}}
        return _packed(self, head, _encoded(self.input_state), _encoded(self.output_state))


@dataclass
class Feedback:
    """Feedback of a program or its user on a trace (`name` is None, `value` a text), or a metric of that name.

    `value` is JSON text."""

    uuid: str
    ended_at: float
    identity: Identity
    name: str | None
    value: str
    spooled: tuple[int, ...] = ()

    def to_bytes(self) -> bytes:
        """As `Call.to_bytes`, without bodies."""
        head = {"record": "remark", **{name: value for name, value in vars(self).items() if name != "spooled"}}
        return _packed(self, head, None, None)


Record = Call | Span | Feedback
"""Everything that travels from the host's side to the flusher."""

_MAGIC = b"PHAC"
_HEAD = struct.Struct("<4sBBQQQI")


def _encoded(text: str | None) -> bytes | None:
    return text.encode("utf-8", "surrogatepass") if text is not None else None


def _decoded(data: bytes | None) -> str | None:
    return data.decode("utf-8", "surrogatepass") if data is not None else None


def _packed(record: Record, head: dict[str, Any], first: bytes | None, second: bytes | None) -> bytes:
    head["identity"] = vars(record.identity)
    error = head.get("error")
    head["error"] = vars(error) if error else None
    parts = [fastjson.dumps(head) or json.dumps(head, separators=(",", ":"), default=dict).encode("utf-8")]
    parts += [part if part is not None else b"" for part in (first, second)]
    present = (first is not None) | (second is not None) << 1
    body = b"".join(parts)
    return _HEAD.pack(_MAGIC, 1, present, *(len(part) for part in parts), zlib.crc32(body, present)) + body


def record_from_bytes(data: bytes, spooled: tuple[int, ...] = ()) -> Record:
    """The record whose `to_bytes` wrote this. Raises ValueError for anything else."""
    if len(data) < _HEAD.size:
        raise ValueError("not a record: too short")
    magic, version, present, *lengths, checksum = _HEAD.unpack_from(data)
    body = data[_HEAD.size :]
    if magic != _MAGIC or version != 1:
        raise ValueError("not a record of a known version")
    if len(body) != sum(lengths) or zlib.crc32(body, present) != checksum:
        raise ValueError("a damaged record")
    head_length, first_length, _ = lengths
    head = fastjson.loads(body[:head_length])
    first_end = head_length + first_length
    first = body[head_length:first_end] if present & 1 else None
    second = body[first_end:] if present & 2 else None
    head["identity"] = Identity(**head["identity"])
    error = head.pop("error")
    if error:
        error = Error(**{**error, "causes": tuple(error["causes"]), "reasons": tuple(error.get("reasons", ()))})
    kind = head.pop("record", "call")
    if kind == "remark":
        return Feedback(**head, spooled=spooled)
    head["error"] = error
    if kind == "span":
        return Span(**head, input_state=_decoded(first), output_state=_decoded(second), spooled=spooled)
    head["chunks"] = None if head["chunks"] is None else tuple(head["chunks"])
    head["chunk_offsets_s"] = tuple(head["chunk_offsets_s"])
    return Call(**head, request=first, response=second, spooled=spooled)


class EncodedEvent(NamedTuple):
    """An event as it is exported, byte for byte the same at every attempt."""

    uuid: str
    name: str
    body: bytes
    """One JSON object in UTF-8: event, uuid, timestamp, distinct_id, properties."""
    spooled: tuple[int, ...] = ()
    """Rows of the outbox to delete once the event is delivered or dropped."""
