"""Finished calls on their way to the flusher: bounded in count and in bytes, without a lock. What the flusher has in
hand counts until it is done with it.

`add` runs on the host's threads and in finalisers, where taking a lock that the same thread already holds would hang
the program. So it appends to a deque and releases a binary semaphore, both atomic in C and reentrant.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from ..core import guard, threads

if TYPE_CHECKING:
    from ..core.finished import Finished

OVERHEAD = 2_000
"""Bytes counted for a record beside its content."""


def cost(record: Finished) -> int:
    """Bytes counted for a record: resident memory, not content. The allocator leaves holes between pieces of 20 KB, and
    the events of a batch stand beside their records while they are sent."""
    return record.size + record.size // 2 + OVERHEAD


class Barrier:
    """Passes through the queue behind what was added before it; `reached` is released when all of that is finished.

    `n_lost` is how many events were lost by then, in the life of the process; None where that is not known."""

    def __init__(self) -> None:
        self.n_lost: int | None = None
        self.reached = threads.allocate_lock()
        self.reached.acquire()


class Queue:
    """A bounded queue of finished records with one reader. What does not fit is dropped and counted."""

    def __init__(self, max_events: int, max_bytes: int, wake_at: int) -> None:
        self._items: deque[Finished | Barrier] = deque()
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._wake_at = wake_at
        # Added to by host threads, subtracted from by the reader. `+=` on an attribute is not interrupted between its
        # load and its store in CPython 3.10 to 3.13 (no eval-breaker check there); `done` puts it right when empty.
        self._bytes = 0
        self._in_hand = 0
        self._barriers = 0
        self.dropped = 0
        self._wake = threads.allocate_lock()
        self._wake.acquire()

    def __len__(self) -> int:
        return len(self._items)

    @property
    def awaited(self) -> bool:
        """Whether a thread waits for a barrier."""
        return self._barriers > 0

    def add(self, record: Finished, counted: bool = True) -> bool:
        """Add a record; False where it was dropped because the queue is full. Never blocks.

        `counted`: it is lost then, and counted."""
        size = cost(record)
        waiting = len(self._items)
        # A record larger than the whole bound still passes an empty queue: dropping it would lose it for ever.
        if waiting >= self._max_events or (self._bytes and self._bytes + size > self._max_bytes):
            if counted:
                self.dropped += 1
            return False
        self._bytes += size
        self._items.append(record)
        if waiting + 1 >= self._wake_at and self._wake.locked():
            self.wake()
        return True

    def holds(self, record: Finished) -> bool:
        """Whether it waits here."""
        try:
            return any(one is record for one in list(self._items))
        except RuntimeError:  # something was added meanwhile, by a finaliser
            return True

    def barrier(self) -> Barrier:
        """Add a barrier and wake the reader."""
        barrier = Barrier()
        self._barriers += 1
        self._items.append(barrier)
        self.wake()
        return barrier

    def wake(self) -> None:
        """End the reader's `wait`. May be called from anywhere."""
        try:
            self._wake.release()
        except RuntimeError:
            pass  # awake already

    def wait(self, timeout_s: float) -> None:
        """For the reader: sleep until woken, `timeout_s` seconds at most."""
        self._wake.acquire(timeout=timeout_s)

    def first(self) -> Finished | Barrier | None:
        """For the reader: what `take` will give. It stays."""
        try:
            return self._items[0]
        except IndexError:
            return None

    def take(self) -> Finished | Barrier | None:
        """For the reader: the oldest item, or None."""
        try:
            item = self._items.popleft()
        except IndexError:
            return None
        if isinstance(item, Barrier):
            self._barriers -= 1
        else:
            self._in_hand += cost(item)
        return item

    def put_back(self, record: Finished) -> None:
        """For the reader: it is the next one again."""
        self._in_hand -= cost(record)
        self._items.appendleft(record)

    def can_wait(self, max_bytes: int) -> bool:
        """For the reader: whether what waits can be left for its next turn: no flush waits for it, it is less than
        `max_bytes` and would not wake the reader, and there is room for more. What was added before does not wake it
        either, from now on."""
        self._wake.acquire(blocking=False)
        waiting = len(self._items)
        roomy = waiting <= self._max_events // 4 and self._bytes <= min(max_bytes, self._max_bytes // 4)
        return roomy and waiting < self._wake_at and not self.awaited

    def done(self) -> None:
        """For the reader: what was taken so far is not in memory any longer."""
        self._bytes -= self._in_hand
        self._in_hand = 0
        if not self._items:
            self._bytes = 0

    def waiting(self) -> int:
        """How many records wait."""
        return sum(not isinstance(item, Barrier) for item in list(self._items))

    def take_dropped(self) -> int:
        """How many were dropped since the last time this was asked."""
        dropped, self.dropped = self.dropped, 0
        return dropped

    def reset(self) -> None:
        """In a forked child: forget everything. The parent has it; locks may be held by threads that are not here."""
        guard.quietly(self._items.clear)
        self.__init__(self._max_events, self._max_bytes, self._wake_at)  # type: ignore[misc]
