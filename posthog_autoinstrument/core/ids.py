"""Ids: fresh ones of traces, spans and events (UUIDs), and those of the program, as PostHog takes them.

`uuid` is not imported: 7 ms at start-up.
"""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING

from . import diagnostics, guard

if TYPE_CHECKING:
    from uuid import UUID

    Id = str | int | UUID
else:
    Id = object

_PIECE_BYTES = 16
_PIECES = 64


class Entropy:
    """Random bytes, drawn ahead. `os.urandom` lets go of the interpreter, and in a busy program the thread that called
    it waits for its next turn: one event needs three ids.

    Any thread may take. A forked child takes none of its parent's.
    """

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._pieces: deque[bytes] = deque()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._pieces.clear)

    def take(self) -> bytes:
        """16 random bytes, given once."""
        pid = os.getpid()
        if pid != self._pid:  # forked without Python's knowledge
            self._pieces.clear()
            self._pid = pid
        try:
            return self._pieces.popleft()
        except IndexError:
            drawn = os.urandom(_PIECE_BYTES * _PIECES)
        first, *others = (drawn[at : at + _PIECE_BYTES] for at in range(0, len(drawn), _PIECE_BYTES))
        self._pieces.extend(others)
        return first


_entropy = Entropy()


def uuid_text(octets: bytes, version: int) -> str:
    """16 bytes as the text of a UUID of that version (RFC 9562), its version and variant bits set."""
    text = octets.hex()
    variant = "89ab"[octets[8] >> 4 & 3]
    return f"{text[:8]}-{text[8:12]}-{version:x}{text[13:16]}-{variant}{text[17:20]}-{text[20:]}"


def new_trace_id() -> str:
    """A fresh random trace id: a UUID version 4 as text."""
    return uuid_text(_entropy.take(), version=4)


def new_ids(ended_at: float) -> tuple[str, str]:
    """Two new ids: a UUID version 7 of that time, in epoch seconds, and one of version 4."""
    ordered = max(0, int(ended_at * 1000)).to_bytes(6, "big") + _entropy.take()[6:]
    return uuid_text(ordered, version=7), uuid_text(_entropy.take(), version=4)


def text_of(value: object, name: str) -> str | None:
    """An id as text, as PostHog's own library makes it of any value (posthog 7.91: `stringify_id`); None for None and
    for an empty one. Never raises.

    A value whose text cannot be an id (a bool, an object whose `repr` is its address) is left out, with a warning that
    calls it `name`.
    """
    if type(value) is str:
        return value or None
    if value is None:
        return None
    found = guard.quietly(_text_of, value)
    if found is None:
        kind = type(value).__name__
        diagnostics.warn_once(f"id {name}", f"{name} of type {kind} cannot be made into text: it is left out")
    return found or None


def _text_of(value: object) -> str | None:
    kind = type(value)
    if issubclass(kind, str):
        return str.__str__(value)  # an enumeration's own `__str__` is another text
    if issubclass(kind, (bytes, bytearray)):
        return bytes(value).decode()  # type: ignore[call-overload, no-any-return]
    if kind is bool or (kind.__str__ is object.__str__ and kind.__repr__ is object.__repr__):
        return None
    text = str(value)
    return text if type(text) is str else str.__str__(text)
