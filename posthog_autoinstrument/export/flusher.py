"""The flusher: one daemon thread that turns finished calls into events and delivers them.

Started by the first captured call, never at exit and never in a finaliser. At exit the program waits for it, bounded.
Over 400 lines: one thread's whole life, beside the host's threads, forks, exits and a spool, is one state.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from time import perf_counter, sleep
from typing import TYPE_CHECKING

from ..context import scope
from ..core import diagnostics, forks, guard, threads
from ..core.finished import FinalRecord
from .delivery import RETRY_BUDGET_S, SEND_TIMEOUT_S, Delivery
from .owned_lock import OwnedLock
from .queue import Barrier, Queue

if TYPE_CHECKING:
    from typing import Protocol

    from ..core.finished import Finalize, Finished
    from ..core.records import EncodedEvent, Record
    from .delivery import RowTracker
    from .spool.directory import Spool
    from .spool.outbox import Kept

    class BatchSource(RowTracker, Protocol):
        """An outbox whose process is gone."""

        def next(self, limit: int) -> Sequence[EncodedEvent] | None:
            """The events of the next rows; None where there are no more."""

        def close(self) -> None:
            """Leave it to the next one, or delete it when it is empty."""

    class Process(Protocol):
        """The process that the flusher is in."""

        def captured(self) -> None:
            """On the host's thread: something will have to be delivered from here."""

        @property
        def exposed(self) -> bool:
            """Whether a signal would just end it: then what is captured is sent at once."""

        @property
        def watcher(self) -> threads.Thread | None:
            """Another thread of ours in this process."""

        def cover(self) -> None:
            """On the flusher's thread: have that changed."""

    class SpoolWriter(Protocol):
        """What writes records to the spool and makes events of its rows."""

        @property
        def spool(self) -> Spool: ...

        def keep(self, record: Record) -> None:
            """On the program's thread: commit a record."""

        def read_back(self, row: Kept) -> EncodedEvent | None:
            """The event of a row of our own outbox."""

        def next_abandoned(self) -> BatchSource | None:
            """What a dead process left, if it is ours to deliver."""


REPORT_EVERY_S = 60.0
BATCH_BYTES = 2 * 1024 * 1024
"""Content of records that is made into events and sent at once: so much of it is in memory several times over."""
LOOK_EVERY_S = 60.0
"""Between two looks for outboxes that dead processes left."""
WORK_S = 0.0005
"""After so much work, others get their turn. Python itself would have them wait for 5 ms: a thread that sleeps 1 ms,
again and again while 1,000 events are made, woke up 8.8 ms late without this, 1.2 ms with turns of 1 ms, 0.8 ms with
these, and no earlier with shorter ones (99th percentiles). To hand the interpreter over takes four system calls on each
side: turns of 0.3 ms made calls of a busy program dearer."""
REST_S = 0.00005
"""Long enough for a thread that waits for the interpreter to take it."""
RUSH = 500
"""With so many waiting there is no rest: on a busy machine it takes milliseconds, and the queue would fill."""
LATER: Sequence[EncodedEvent] = []
"""Stands for the event of a record that has to wait."""
FLUSH_LOOK_S = 0.05
"""How often `flush` looks whether waiting is of any use."""
PAUSE_S = 0.1
"""Longest a fork waits for the idle thread to end. It takes 0.1 ms."""


class Flusher:
    """Takes records from `queue`, builds events with `build` and gives them to the delivery, in batches.

    `process` is told of the first call that is captured. `overdue` gives the events that
    were held back and are not any longer, at exit all of them; `held` says how many there are.
    `finalize` makes the records that go to the spool. `build` returns None for a record that makes no event.
    """

    def __init__(
        self,
        queue: Queue,
        finalize: Finalize,
        build: Callable[[Finished], EncodedEvent | None],
        delivery: Delivery,
        flush_at: int,
        flush_interval_s: float,
        exit_timeout_s: float,
        process: Process,
        overdue: Callable[[bool], list[EncodedEvent]] = lambda final: [],
        held: Callable[[], int] = lambda: 0,
        spool_writer: SpoolWriter | None = None,
    ) -> None:
        self.queue = queue
        self._finalize = finalize
        self._build = build
        self.delivery = delivery
        self._flush_at = flush_at
        self._flush_interval_s = flush_interval_s
        self._exit_timeout_s = exit_timeout_s
        self._process = process
        self._overdue = overdue
        self._held = held
        self._spool_writer = spool_writer
        self._spool = spool_writer.spool if spool_writer is not None else None
        delivery.own_tracker = self._spool
        delivery.while_waiting = self._while_waiting
        self._clock = delivery.clock
        self._fork_warning = forks.ForkWarning()
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._thread: threads.Thread | None = None
        self._latest: threads.Thread | None = None
        """The last thread that was started: it may have ended and not be gone yet."""
        self._starting = threads.allocate_lock()
        self._pumping = OwnedLock()
        self._exiting = False
        self._idle = False
        self._worked_s = 0.0
        """Since the last rest."""
        self._due: float | None = None
        """When what was left in the queue is to be delivered, by the delivery's clock."""
        self._later_since: float | None = None
        """Since when no event could be made."""
        self._pausing = False
        self._batch: list[EncodedEvent] = []
        self._batch_bytes = 0
        self._in_hand = 0
        self._n_lost_told = 0
        """How many losses `flush` has told of."""
        self._reported_at = 0.0
        self._abandoned: BatchSource | None = None
        self._look_at = 0.0
        """When to look for outboxes of dead processes next, by the delivery's clock."""

    def after_fork_in_child(self) -> None:
        """Forget the parent's thread, locks and events."""
        guard.attempt("let Python warn of forks", self._fork_warning.forget)
        self.queue.reset()
        if self._spool is not None:
            guard.attempt("leave the spool to the parent", self._spool.after_fork_in_child)
        self.delivery.reset()
        self._reset()

    def before_fork(self) -> None:
        """Stop the thread for the time of a fork, where it is idle: a process of one thread forks safely, and from
        Python 3.12 without a DeprecationWarning. One that is sending is left alone: a fork does not wait for it."""
        thread = self._thread
        if thread is not None and self._idle and self._pid == os.getpid() and not self._exiting:
            self._pausing = True
            self.queue.wake()
            thread.join(PAUSE_S)
        if self._latest is not None and self._thread is None:
            forks.wait_gone(self._latest, PAUSE_S)
        n_ours = sum(one is not None and not forks.is_gone(one) for one in (self._latest, self._process.watcher))
        if self._latest is not None:  # the hooks after the fork start ours again
            guard.attempt("hold back a warning of Python's", self._fork_warning.expect, n_ours)
        if self._spool is not None:
            guard.attempt("let nobody write to the spool", self._spool.before_fork)

    def after_fork_in_parent(self) -> None:
        """Start the thread again if there is something to do; otherwise the next call does."""
        if self._spool is not None:
            guard.attempt("let others write to the spool", self._spool.after_fork_in_parent)
        if self._pausing:
            self._pausing = False
            if self._thread is None and (len(self.queue) or self._held()):
                self.start()
        if self._latest is not None:
            guard.attempt("let Python warn of forks", self._fork_warning.over)

    # On the host's threads

    def expect(self) -> None:
        """A call will end later, maybe in a finaliser: have the thread running by then."""
        if self._pid != os.getpid():
            self.after_fork_in_child()
        if self._thread is None:
            self.start()

    def add(self, record: Finished, late: bool) -> None:
        """Hand over a finished record. `late`: from a finaliser, where no thread may be started."""
        pid = os.getpid()
        if self._pid != pid:
            self.after_fork_in_child()  # forked without Python's hooks (uWSGI)
        if record.pid != pid:
            return  # forked while it ran: the parent records it
        if self._spool_writer is not None and not late:
            self._add_kept(self._spool_writer, record)
        else:
            self.queue.add(record)
        if self._thread is None and not late:
            self.start()
        if self._process.exposed:
            self.queue.wake()
        if self._exiting and not late and not sys.is_finalizing():
            self._pump_here(max(0.0, (self.delivery.deadline or 0.0) - self._clock()))

    def _add_kept(self, spool_writer: SpoolWriter, record: Finished) -> None:
        """Commit the record to the spool and hand it over; where memory is full it waits on the disk only."""
        taken: list[FinalRecord] = []
        settled = added = False
        try:
            self._commit(spool_writer, record, taken)
            settled = True
        finally:
            try:
                if taken:
                    added = self.queue.add(taken[0], counted=not taken[0].record.spooled)
                elif not settled:
                    self.queue.add(record)
            finally:
                if taken and not added and not self.queue.holds(taken[0]):
                    spool_writer.spool.spill(taken[0].record.spooled)

    def _commit(self, spool_writer: SpoolWriter, item: Finished, taken: list[FinalRecord]) -> None:
        record = self._finalize(item)
        if record is not None:
            # First: a signal handler of the program's may raise through the commit.
            taken.append(FinalRecord(record, item.pid, item.size))
            spool_writer.keep(record)

    def start(self) -> None:
        """Start the thread, once in this process. Where none can be started, exit sends inline."""
        if self._exiting or not self._starting.acquire(blocking=False):
            return
        thread = threads.make(self._run, "posthog-autoinstrument-flusher")
        self._thread = self._latest = thread
        try:
            with threads.SignalsBlocked():
                thread.start()
        except RuntimeError:  # the interpreter is shutting down, or no more threads: the next call tries again
            self._thread = None
            self._starting.release()
            return
        guard.attempt("prepare for the end of the process", self._process.captured)

    def flush(self, timeout_s: float | None) -> bool:
        """Wait until everything added so far has been delivered; False when `timeout_s` seconds ran out first or cannot
        be enough, and where something was lost since this was last asked. None: wait for as long as PostHog is tried.

        False at once on the thread that delivers: in the user's `before_send`.
        """
        if self._pid != os.getpid():
            self.after_fork_in_child()
        if self.delivers_here():
            return False
        if self._thread is None and not self.is_busy() and not self._n_spilled():
            self._count_dropped()
            return self._is_whole(self.delivery.n_lost)
        self.start()
        barrier = self.queue.barrier()
        # Counted in steps, not by the clock: a test of the host's may stop that.
        left_s = SEND_TIMEOUT_S if timeout_s is None else max(0.0, timeout_s)
        while not barrier.reached.acquire(timeout=min(left_s, FLUSH_LOOK_S)):
            if self._thread is None or not self._thread.is_alive():
                self._pump_here(left_s)
                if not barrier.reached.acquire(blocking=False):
                    return False
                break
            if self.delivery.paused or (timeout_s is not None and self.delivery.next_attempt_s() > left_s):
                return False
            if timeout_s is not None:
                left_s -= FLUSH_LOOK_S
                if left_s <= 0:
                    return False
        return barrier.n_lost is not None and self._is_whole(barrier.n_lost) and not self._n_spilled()

    def delivers_here(self) -> bool:
        """Whether the calling thread is the one that makes and delivers events."""
        return self._pumping.is_mine()

    def begin_flush(self, timeout_s: float) -> Callable[[], bool | None]:
        """`flush` for who looks again and again: None while it goes on."""
        self.start()
        barrier = self.queue.barrier()
        until = self._clock() + timeout_s

        def is_over() -> bool | None:
            if barrier.reached.acquire(blocking=False):
                return True
            return False if self.delivery.paused or self._clock() >= until else None

        return is_over

    def is_busy(self) -> bool:
        """Whether something was added that is not settled. The queue is looked at twice: a record goes from it into the
        flusher's hand, and may come back."""
        return bool(len(self.queue) or self._in_hand or len(self.queue))

    def _n_spilled(self) -> int:
        """How many calls of ours are on the disk only."""
        return self._spool.spilled if self._spool is not None else 0

    def _is_whole(self, n_lost: int) -> bool:
        """Whether nothing was lost that `flush` has not told of; it has now."""
        told, self._n_lost_told = self._n_lost_told, n_lost
        return told == n_lost

    def close(self) -> None:
        """At exit: deliver what is waiting, for at most the exit timeout; say what could not be delivered. Not on
        the thread that delivers."""
        if self._pid != os.getpid() or self._exiting:
            return
        self._exiting = True
        self.delivery.deadline = self._clock() + self._exit_timeout_s
        if (self.is_busy() or self._held()) and not self.delivers_here():
            self.delivery.hurry()
            thread = self._thread
            if thread is not None and thread.is_alive():
                barrier = self.queue.barrier()
                try:
                    barrier.reached.acquire(timeout=self._exit_timeout_s)
                except KeyboardInterrupt:
                    pass  # the user does not want to wait
            else:
                self._pump_here(self._exit_timeout_s)
        self._report(final=True)

    def _pump_here(self, timeout_s: float) -> None:
        """Deliver in the calling thread, where there is no flusher thread to do it."""
        if self.delivers_here() or not self._pumping.acquire(max(0.0, timeout_s)):
            return
        try:
            deadline = self.delivery.deadline
            self.delivery.deadline = self._clock() + timeout_s if deadline is None else deadline
            guard.attempt("deliver events", self._pump, whole=True)
            self.delivery.deadline = deadline
        finally:
            self._pumping.release()

    # On the flusher's thread

    def _run(self) -> None:
        scope.CONTEXT.set(None)  # threads go on in the context in which they were started
        try:
            with self._pumping:
                guard.attempt("take over what others left", self._ship_abandoned)
            while not self._pausing:
                self._idle = True
                self.queue.wait(self._wait_s())
                self._idle = False
                if self._pausing:
                    return
                self._due = None
                if self._process.exposed:
                    guard.attempt("handle signals", self._process.cover)
                with self._pumping:
                    guard.attempt("deliver events", self._pump)
                    guard.attempt("deliver what is in the spool", self._ship_spooled)
                    if self._spool is not None:
                        guard.attempt("tidy the spool", self._spool.tidy)
                    guard.attempt("take over what others left", self._ship_abandoned)
                guard.attempt("report losses", self._report)
                if self._exiting and not len(self.queue):
                    return
        finally:
            self._idle = False
            self._thread = None
            self._starting = threads.allocate_lock()

    def _wait_s(self) -> float:
        """How long what is in the queue may wait."""
        if self._due is None:
            return self._flush_interval_s
        return min(self._flush_interval_s, max(0.0, self._due - self._clock()))

    def _has_time(self) -> bool:
        """Whether nothing in the queue is due: it is empty, or what a full batch left can go on waiting."""
        waiting = len(self.queue)
        if not waiting or self._due is None:
            return not waiting
        return waiting < self._flush_at and not self.queue.awaited and self._clock() < self._due

    def _pump(self, whole: bool = False) -> None:
        """Build and deliver until the queue is empty. Or, if it need not be the `whole` queue, until it holds less than
        another full batch: a program that calls without a pause would have each batch followed by a small one, and a
        request costs as much as ten events."""
        began = self._clock()
        while True:
            item = self.queue.first()
            if item is None:
                self._take_overdue()
                self._send_batch()
                return
            if isinstance(item, Barrier):
                self.queue.take()
                try:
                    self._take_overdue()
                    self._send_batch()
                    self._ship_spooled()
                    if self._exiting:
                        self._ship_abandoned()
                    self._count_dropped()
                    item.n_lost = self.delivery.n_lost
                finally:
                    item.reached.release()
            else:
                # First: who looks from another thread sees it in one of the two at any moment.
                self._in_hand += 1
                self.queue.take()
                size = item.size
                if self._spool_writer is not None and not isinstance(item, FinalRecord):  # ended in a finaliser
                    taken: list[FinalRecord] = []
                    guard.attempt("keep a call", self._commit, self._spool_writer, item, taken)
                    item = taken[0] if taken else item
                started = perf_counter()
                made = guard.attempt("build an event", self._made, item)
                self._worked_s += perf_counter() - started
                if self._worked_s > WORK_S and not self._exiting and len(self.queue) < RUSH:
                    sleep(REST_S)
                    self._worked_s = 0.0
                if not made:
                    if made is LATER and not self._has_waited_long():
                        self.queue.put_back(item)
                        self._in_hand -= 1
                        self._send_batch()
                        return
                    self._in_hand -= 1
                    if (made is None or made is LATER) and not isinstance(item, FinalRecord):  # else it is in the spool
                        self.delivery.count_lost(1, "could not be made")
                    continue
                self._batch += made
                self._batch_bytes += size
                if len(self._batch) >= self._flush_at or self._batch_bytes >= BATCH_BYTES:
                    self._take_overdue()
                    self._send_batch()
                    if not whole and not self._exiting and self.queue.settle(BATCH_BYTES):
                        self._due = began + self._flush_interval_s
                        return

    def _has_waited_long(self) -> bool:
        """Whether no event could be made for longer than a batch would be tried to be sent."""
        now = self._clock()
        self._later_since = now if self._later_since is None else self._later_since
        return now - self._later_since > RETRY_BUDGET_S

    def _made(self, record: Finished) -> Sequence[EncodedEvent]:
        """The event of a record, if it makes one. `LATER` where a module of ours cannot be read at the moment: a
        process may have all the files open that it can have."""
        try:
            self.delivery.choose()
            event = self._build(record)
        except (ImportError, OSError) as error:
            diagnostics.warn_once("later", f"no events can be made at the moment ({error}); they wait")
            return LATER
        self._later_since = None
        return [event] if event is not None else []

    def _ship_spooled(self) -> None:
        """Deliver what is on the disk only, while nothing in memory is due."""
        if self._spool_writer is None:
            return
        spool, read_back = self._spool_writer.spool, self._spool_writer.read_back
        while spool.spilled and not (self.delivery.stopped or self.delivery.paused) and self._has_time():
            rows = spool.spilled_rows(self._flush_at)
            if not rows:
                return
            before = self.delivery.given_up
            self._ship(spool, [guard.attempt("read the spool", read_back, row) for row in rows])
            if self.delivery.given_up != before:
                return  # PostHog is away: not before the next interval

    def _ship_abandoned(self) -> None:
        """Deliver what dead processes left, a batch at a time while nothing of our own is due."""
        if self._spool_writer is None:
            return
        if self._abandoned is None and self._clock() < self._look_at:
            return
        while self._has_time() and not (self.delivery.stopped or self.delivery.paused or self.delivery.is_late()):
            if self._abandoned is None:
                self.delivery.choose()
                self._abandoned = self._spool_writer.next_abandoned()
                if self._abandoned is None:
                    self._look_at = self._clock() + LOOK_EVERY_S
                    return
            before = self.delivery.given_up
            more = self._ship_next(self._abandoned)
            if not more or self.delivery.given_up != before:
                self._abandoned.close()
                self._abandoned = None
            if self.delivery.given_up != before:
                self._look_at = self._clock() + LOOK_EVERY_S
                return

    def _ship_next(self, abandoned: BatchSource) -> bool:
        """Deliver the next batch of an abandoned; False when there is none left."""
        events = abandoned.next(self._flush_at)
        if events is None:
            return False
        self._ship(abandoned, events)
        return True

    def _ship(self, tracker: RowTracker, events: Sequence[EncodedEvent | None]) -> None:
        """Deliver events that were read back."""
        made = [event for event in events if event is not None]
        self._in_hand += len(made)
        self._deliver(made, tracker)

    def _take_overdue(self) -> None:
        due = guard.attempt("look after calls in the background", self._overdue, self._exiting) or []
        self._in_hand += len(due)
        self._batch += due

    def _send_batch(self) -> None:
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        try:
            self._deliver(batch)
        finally:
            self.queue.done()

    def _deliver(self, batch: list[EncodedEvent], tracker: RowTracker | None = None) -> None:
        if not batch:
            return
        try:
            self.delivery.deliver(batch, tracker)
        finally:
            self._in_hand -= len(batch)
        self._report()

    def _while_waiting(self) -> None:
        """Between two attempts, and every minute of a long pause."""
        if self._spool is not None:
            self._spool.tidy()
        self._report()

    def take_unreported(self) -> int:
        """How many events were lost that no event has told of yet."""
        self._count_dropped()
        return self.delivery.take_unreported()

    def _count_dropped(self) -> None:
        full = self.queue.take_dropped()
        if full:
            self.delivery.count_lost(full, "queue full")

    def _report(self, final: bool = False) -> None:
        """Say what was lost, at most once a minute in a tree of processes, and at the end of the one that said it."""
        is_early = self._exiting or self.delivery.stopped or self._clock() - self._reported_at < REPORT_EVERY_S
        if is_early and not final:
            return
        self._count_dropped()
        left = self.queue.waiting() + self._in_hand if final else 0
        if final and self._spool is not None:
            stay = self._spool.close()
            left -= stay
            if stay:
                why = f" ({self.delivery.stays})" if self.delivery.stays else ""
                diagnostics.write(
                    f"{stay} {'event stays' if stay == 1 else 'events stay'} in the spool {self._spool.folder}{why}"
                )
        if left > 0:
            why = f": {self.delivery.why}" if self.delivery.why else ""
            self.delivery.count_lost(left, f"not delivered before exit{why}")
        lost = self.delivery.lost
        if lost:
            self._reported_at = self._clock()
            reasons = ", ".join(f"{count}: {reason}" for reason, count in lost.items())
            total = sum(lost.values())
            line = f"{total} {'event was' if total == 1 else 'events were'} lost"
            if diagnostics.main_pid == self._pid:
                line += f" ({reasons})"
            else:
                line += f" in process {self._pid} ({reasons}); other processes of this program may have lost more"
            if diagnostics.warn_every("lost", line, REPORT_EVERY_S):
                self.delivery.take_lost()
