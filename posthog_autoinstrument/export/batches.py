"""What the flusher's thread does each time it wakes up: build events of what is in the queue, deliver them in batches,
then what is in the spool. Used by one thread at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter, sleep
from typing import TYPE_CHECKING

from ..core import diagnostics, guard
from ..core.finished import FinalRecord
from .delivery import RETRY_BUDGET_S, Delivery
from .losses import LossReport
from .queue import Barrier, Queue

if TYPE_CHECKING:
    from typing import Protocol

    from ..core.finished import Finalize, Finished
    from ..core.records import EncodedEvent, Record
    from .delivery import RowTracker
    from .spool.directory import Spool
    from .spool.outbox import OutboxRow

    class BatchSource(RowTracker, Protocol):
        """Stored events, read batch by batch: of an outbox whose process is gone, or of a local store."""

        def next(self, limit: int) -> Sequence[EncodedEvent] | None:
            """The events of the next rows; None where there are no more."""

        def close(self) -> None:
            """Leave it to the next one, or delete it when it is empty."""

    class SpoolWriter(Protocol):
        """Writes records to the spool, and makes events of its rows."""

        @property
        def spool(self) -> Spool: ...

        def keep(self, record: Record) -> None:
            """On the program's thread: commit a record."""

        def read_back(self, row: OutboxRow) -> EncodedEvent | None:
            """The event of a row of our own outbox."""

        def next_abandoned(self) -> BatchSource | None:
            """What a dead process left, if it is ours to deliver."""


BATCH_BYTES = 2 * 1024 * 1024
"""Content of records that is made into events and sent at once: so much of it is in memory several times over."""
LOOK_EVERY_S = 60.0
"""Between two looks for outboxes that dead processes left."""
WORK_S = 0.0005
"""After so much work, other threads get their turn. Python itself would have them wait for 5 ms: a thread that sleeps
1 ms, again and again while 1,000 events are made, woke up 8.8 ms late without this, 1.2 ms with turns of 1 ms, 0.8 ms
with these, and no earlier with shorter ones (99th percentiles). To hand the interpreter over takes four system calls on
each side: turns of 0.3 ms made calls of a busy program dearer."""
REST_S = 0.00005
"""Long enough for a thread that waits for the interpreter to take it."""
RUSH = 500
"""Queue length above which the thread does not rest: on a busy machine a rest takes milliseconds, and the queue would
fill."""
LATER: Sequence[EncodedEvent] = []
"""Stands for the event of a record that has to wait."""


class BatchProcessor:
    """Takes what has ended from `queue`, makes events with `build` and delivers them.

    `build` returns None for what makes no event, `overdue` the events that were held back and are not any longer (at
    the end of the process all of them). `finalize` makes the records that go to the spool.
    """

    def __init__(
        self,
        queue: Queue,
        finalize: Finalize,
        build: Callable[[Finished], EncodedEvent | None],
        delivery: Delivery,
        losses: LossReport,
        flush_at: int,
        flush_interval_s: float,
        overdue: Callable[[bool], list[EncodedEvent]],
        spool_writer: SpoolWriter | None,
    ) -> None:
        self._queue = queue
        self._finalize = finalize
        self._build = build
        self._delivery = delivery
        self._losses = losses
        self._flush_at = flush_at
        self._flush_interval_s = flush_interval_s
        self._overdue = overdue
        self._spool_writer = spool_writer
        self._spool = spool_writer.spool if spool_writer is not None else None
        delivery.own_tracker = self._spool
        delivery.while_waiting = self._while_waiting
        self._clock = delivery.clock
        self.reset()

    def reset(self) -> None:
        """In a forked child, whose parent goes on with what is in hand."""
        self.is_ending = False
        """The process ends: everything is delivered now, nothing is put off."""
        self.n_in_hand = 0
        """Records and events that are in neither the queue nor PostHog."""
        self._batch: list[EncodedEvent] = []
        self._batch_bytes = 0
        self._worked_s = 0.0
        """Since the last rest."""
        self._due: float | None = None
        """When what was left in the queue is to be delivered, by the delivery's clock."""
        self._waiting_since: float | None = None
        """Since when no event could be made."""
        self._abandoned: BatchSource | None = None
        self._look_at = 0.0
        """When to look for abandoned outboxes next, by the delivery's clock."""

    def is_busy(self) -> bool:
        """Whether something was added that is not finished. The queue is read twice: a record goes from it into the
        thread's hand, and may come back."""
        return bool(len(self._queue) or self.n_in_hand or len(self._queue))

    def wait_s(self) -> float:
        """How long what is in the queue may wait."""
        if self._due is None:
            return self._flush_interval_s
        return min(self._flush_interval_s, max(0.0, self._due - self._clock()))

    def commit(self, item: Finished, committed: list[FinalRecord]) -> None:
        """Make the record of `item` and write it to the spool. It is in `committed` before it is written: a signal
        handler of the program may raise through this. Nothing is where nothing must be recorded."""
        assert self._spool_writer is not None
        record = self._finalize(item)
        if record is not None:
            committed.append(FinalRecord(record, item.pid, item.size))
            self._spool_writer.keep(record)

    def run(self) -> None:
        """Deliver what is due: of the queue, of our own outbox, of outboxes that dead processes left."""
        self._due = None
        guard.attempt("deliver events", self.deliver_queue)
        guard.attempt("deliver what is in the spool", self._deliver_spilled)
        if self._spool is not None:
            guard.attempt("tidy the spool", self._spool.tidy)
        self.deliver_abandoned()
        guard.attempt("report losses", self._report)

    def deliver_queue(self, whole: bool = False) -> None:
        """Build and deliver until the queue is empty. Or, if it need not be the `whole` queue, until it holds less than
        another full batch: a program that calls without a pause would have each batch followed by a small one, and a
        request costs as much as ten events."""
        began = self._clock()
        while True:
            item = self._queue.first()
            if item is None:
                self._send_batch()
                return
            if isinstance(item, Barrier):
                self._queue.take()
                self._reach(item)
            elif not self._take(item):
                return
            elif len(self._batch) >= self._flush_at or self._batch_bytes >= BATCH_BYTES:
                self._send_batch()
                if not whole and not self.is_ending and self._queue.can_wait(BATCH_BYTES):
                    self._due = began + self._flush_interval_s
                    return

    def _reach(self, barrier: Barrier) -> None:
        """Deliver all that was added before the barrier."""
        try:
            self._send_batch()
            self._deliver_spilled()
            if self.is_ending:
                self._deliver_abandoned()
            self._losses.count_dropped()
            barrier.n_lost = self._delivery.n_lost
        finally:
            barrier.reached.release()

    def _take(self, item: Finished) -> bool:
        """Take the first item of the queue and put its event into the batch; False where no event can be made now."""
        # First: who looks from another thread sees it in one of the two at any moment.
        self.n_in_hand += 1
        self._queue.take()
        size = item.size
        if self._spool_writer is not None and not isinstance(item, FinalRecord):  # ended in a finaliser
            committed: list[FinalRecord] = []
            guard.attempt("keep a call", self.commit, item, committed)
            item = committed[0] if committed else item
        started = perf_counter()
        events = guard.attempt("build an event", self._events_of, item)
        self._rest(perf_counter() - started)
        if events:
            self._batch += events
            self._batch_bytes += size
            return True
        if events is LATER and not self._has_waited_long():
            self._queue.put_back(item)
            self.n_in_hand -= 1
            self._send_batch(with_overdue=False)
            return False
        self.n_in_hand -= 1
        if (events is None or events is LATER) and not isinstance(item, FinalRecord):  # else it is in the spool
            self._delivery.count_lost(1, "could not be made")
        return True

    def _rest(self, worked_s: float) -> None:
        self._worked_s += worked_s
        if self._worked_s > WORK_S and not self.is_ending and len(self._queue) < RUSH:
            sleep(REST_S)
            self._worked_s = 0.0

    def _events_of(self, item: Finished) -> Sequence[EncodedEvent]:
        """The event of an item, if it makes one. `LATER` where a module of ours cannot be read at the moment: a process
        may have all the files open that it can have."""
        try:
            self._delivery.choose()
            event = self._build(item)
        except (ImportError, OSError) as error:
            diagnostics.warn_once("later", f"no events can be made at the moment ({error}); they wait")
            return LATER
        self._waiting_since = None
        return [event] if event is not None else []

    def _has_waited_long(self) -> bool:
        """Whether no event could be made for longer than a batch would be tried to be sent."""
        now = self._clock()
        self._waiting_since = now if self._waiting_since is None else self._waiting_since
        return now - self._waiting_since > RETRY_BUDGET_S

    def _send_batch(self, with_overdue: bool = True) -> None:
        if with_overdue:
            due = guard.attempt("look after calls in the background", self._overdue, self.is_ending) or []
            self.n_in_hand += len(due)
            self._batch += due
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        try:
            self._deliver(batch)
        finally:
            self._queue.done()

    def _deliver(self, batch: list[EncodedEvent], tracker: RowTracker | None = None) -> None:
        if not batch:
            return
        try:
            self._delivery.deliver(batch, tracker)
        finally:
            self.n_in_hand -= len(batch)
        self._report()

    # The spool

    def _has_time(self) -> bool:
        """Whether nothing in the queue is due: it is empty, or what a full batch left can go on waiting."""
        waiting = len(self._queue)
        if not waiting or self._due is None:
            return not waiting
        return waiting < self._flush_at and not self._queue.awaited and self._clock() < self._due

    def _deliver_spilled(self) -> None:
        """Deliver what is in our outbox only, while nothing in memory is due."""
        if self._spool_writer is None:
            return
        spool, read_back, delivery = self._spool_writer.spool, self._spool_writer.read_back, self._delivery
        while spool.spilled and not (delivery.stopped or delivery.paused) and self._has_time():
            rows = spool.spilled_rows(self._flush_at)
            if not rows:
                return
            n_given_up = delivery.n_given_up
            self._deliver_read([guard.attempt("read the spool", read_back, row) for row in rows], spool)
            if delivery.n_given_up != n_given_up:
                return  # PostHog is away: not before the next interval

    def deliver_abandoned(self) -> None:
        """Deliver what dead processes left, as far as there is time."""
        guard.attempt("take over what others left", self._deliver_abandoned)

    def _deliver_abandoned(self) -> None:
        """A batch at a time, while nothing of our own is due and PostHog has not asked to wait."""
        delivery = self._delivery
        if self._spool_writer is None or (self._abandoned is None and self._clock() < self._look_at):
            return
        while self._has_time() and not (delivery.stopped or delivery.next_attempt_s() > 0 or delivery.is_late()):
            if self._abandoned is None:
                delivery.choose()
                self._abandoned = self._spool_writer.next_abandoned()
                if self._abandoned is None:
                    self._look_at = self._clock() + LOOK_EVERY_S
                    return
            n_given_up = delivery.n_given_up
            events = self._abandoned.next(self._flush_at)
            self._deliver_read(events or (), self._abandoned)
            is_given_up = delivery.n_given_up != n_given_up
            if is_given_up:
                self._look_at = self._clock() + LOOK_EVERY_S
            if events is None or is_given_up:
                abandoned, self._abandoned = self._abandoned, None
                abandoned.close()
            if is_given_up:
                return

    def _deliver_read(self, events: Sequence[EncodedEvent | None], tracker: RowTracker) -> None:
        batch = [event for event in events if event is not None]
        self.n_in_hand += len(batch)
        self._deliver(batch, tracker)

    def _while_waiting(self) -> None:
        """Between two attempts, and every minute of a long pause."""
        if self._spool is not None:
            self._spool.tidy()
        self._report()

    def _report(self) -> None:
        if not self.is_ending:
            self._losses.write()
