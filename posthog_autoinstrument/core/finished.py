"""What has ended and waits to be delivered. Apart from `records`, which only the flusher's thread loads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .records import Record


class Finished(Protocol):
    """A call, span or metric that has ended, as the queue holds it: made of references. `Finalize` makes the record."""

    pid: int
    """The process in which it began. One that forked meanwhile leaves it to its parent."""
    size: int
    """Bytes of content it holds, for the queue's bound."""


class FinalRecord:
    """A record that was made on the program's thread already, and written to the spool."""

    __slots__ = ("pid", "record", "size")

    def __init__(self, record: Record, pid: int, size: int) -> None:
        self.record = record
        self.pid = pid
        self.size = size


Finalize = Callable[[Finished], "Record | None"]
"""Makes the record of what has ended; None where it must not be recorded after all."""
