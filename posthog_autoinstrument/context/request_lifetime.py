"""How long the context of a web request lasts: until its response is sent, and a moment longer for what it left behind.

A thread, task or scheduler that a request starts inherits its context, and may serve other users for ever after.
Only time and quiet distinguish such work from what the request itself left behind: what begins soon after the end,
while no other request is or was answered, is the request's; the rest belongs to none. Wrong is worse than missing.
"""

from __future__ import annotations

from time import monotonic
from weakref import WeakSet

GRACE_S = 2.0
"""What a request leaves behind begins its first call milliseconds after the answer; a longer pause is another job."""


class Presence:
    """One web request that is being answered, for as long as it is and somebody holds this object."""

    __slots__ = ("__weakref__",)


_present: WeakSet[Presence] = WeakSet()
_latest: Presence | None = None
"""The last request that came in."""


def begin() -> Presence:
    """A web request comes in."""
    global _latest
    _latest = presence = Presence()
    _present.add(presence)
    return presence


def end(presence: Presence) -> Moment:
    """It is answered."""
    _present.discard(presence)
    return Moment(alone=not len(_present))


class Moment:
    """When a request ended, or when a function began that it had handed over and that had to wait until after that.

    Not `alone`: other requests are being answered, for which a call that begins from now on may be made.
    """

    __slots__ = ("_at", "_latest")

    def __init__(self, alone: bool = True) -> None:
        self._at = monotonic() if alone else float("-inf")
        self._latest = _latest

    def is_past(self) -> bool:
        """Whether a call that begins now is not the request's any more. Once true, true for ever."""
        return self._latest is not _latest or monotonic() - self._at > GRACE_S
