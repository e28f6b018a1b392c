"""Lines on standard error about events that were lost, and about those that stay in the spool."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..core import diagnostics
from .delivery import Delivery
from .queue import Queue

if TYPE_CHECKING:
    from .spool.directory import Spool

EVERY_S = 60.0


class LossReport:
    """One line a minute in a tree of processes, and one at the end of the process."""

    def __init__(self, queue: Queue, delivery: Delivery, spool: Spool | None) -> None:
        self._queue = queue
        self._delivery = delivery
        self._spool = spool
        self.reset()

    def reset(self) -> None:
        """In a forked child: the parent reports what it has lost."""
        self._reported_at = 0.0

    def count_dropped(self) -> None:
        """Count what did not fit into the queue as lost."""
        n_dropped = self._queue.take_dropped()
        if n_dropped:
            self._delivery.count_lost(n_dropped, "queue full")

    def take_unreported(self) -> int:
        """How many events were lost that no event has reported yet."""
        self.count_dropped()
        return self._delivery.take_unreported()

    def write(self) -> None:
        """Report what was lost since the last line, unless that is too recent or nothing is delivered any more."""
        delivery = self._delivery
        if not delivery.stopped and delivery.clock() - self._reported_at >= EVERY_S:
            self._write()

    def write_last(self, n_in_hand: int) -> None:
        """At the end of the process: report what stays in the spool, and what is lost. `n_in_hand` events were taken
        from the queue and not delivered."""
        delivery = self._delivery
        left = self._queue.waiting() + n_in_hand
        if self._spool is not None:
            n_stay = self._spool.close()
            left -= n_stay
            if n_stay:
                why = f" ({delivery.stays})" if delivery.stays else ""
                events = "event stays" if n_stay == 1 else "events stay"
                diagnostics.write(f"{n_stay} {events} in the spool {self._spool.folder}{why}")
        if left > 0:
            why = f": {delivery.why}" if delivery.why else ""
            delivery.count_lost(left, f"not delivered before exit{why}")
        self._write()

    def _write(self) -> None:
        self.count_dropped()
        lost = self._delivery.lost
        if not lost:
            return
        self._reported_at = self._delivery.clock()
        reasons = ", ".join(f"{count}: {reason}" for reason, count in lost.items())
        total = sum(lost.values())
        line = f"{total} {'event was' if total == 1 else 'events were'} lost"
        if diagnostics.main_pid == os.getpid():
            line += f" ({reasons})"
        else:
            line += f" in process {os.getpid()} ({reasons}); other processes of this program may have lost more"
        if diagnostics.warn_every("lost", line, EVERY_S):
            self._delivery.take_lost()
