"""The flusher: one daemon thread that turns what has ended into events and delivers them.

Started by the first captured call, never at exit and never in a finaliser. At exit the program waits for it, bounded.
What the thread does is in `batches`; here is its life: starts, flushes, forks, the end of the process.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..context import scope
from ..core import forks, guard, threads
from .batches import BatchProcessor
from .delivery import SEND_TIMEOUT_S, Delivery
from .losses import LossReport
from .owned_lock import OwnedLock
from .queue import Queue

if TYPE_CHECKING:
    from typing import Protocol

    from ..core.finished import Finalize, FinalRecord, Finished
    from ..core.records import EncodedEvent
    from .batches import SpoolWriter

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


FLUSH_LOOK_S = 0.05
"""How often `flush` looks whether waiting is of any use."""
PAUSE_S = 0.1
"""Longest a fork waits for the idle thread to end. It takes 0.1 ms."""


class Flusher:
    """The thread that delivers what is added to `queue`. Makes a `BatchProcessor` of the same arguments.

    `process.captured` is called for the first call that is captured. `held` returns how many events `overdue` still
    holds back. `wait` waits for so many seconds, or until the queue wakes it up; the clock is the delivery's.
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
        wait: Callable[[float], None] | None = None,
    ) -> None:
        self.queue = queue
        self.delivery = delivery
        self._exit_timeout_s = exit_timeout_s
        self._process = process
        self._held = held
        self._spool_writer = spool_writer
        self._spool = spool_writer.spool if spool_writer is not None else None
        self._wait = wait or queue.wait
        self._losses = LossReport(queue, delivery, self._spool)
        self.take_unreported = self._losses.take_unreported
        self.batches = BatchProcessor(
            queue, finalize, build, delivery, self._losses, flush_at, flush_interval_s, overdue, spool_writer
        )
        self._fork_warning = forks.ForkWarning()
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._thread: threads.Thread | None = None
        self._latest: threads.Thread | None = None
        """The last thread that was started: after its end the system may still count it."""
        self._starting = threads.allocate_lock()
        self._pumping = OwnedLock()
        """Held by the thread that delivers."""
        self._exiting = False
        self._idle = False
        self._pausing = False
        """The thread is to end for the time of a fork."""
        self._n_lost_answered = 0
        """How many losses `flush` has returned False for."""

    # Forks

    def after_fork_in_child(self) -> None:
        """Forget the parent's thread, locks and events."""
        guard.attempt("let Python warn of forks", self._fork_warning.forget)
        self.queue.reset()
        if self._spool is not None:
            guard.attempt("leave the spool to the parent", self._spool.after_fork_in_child)
        self.delivery.reset()
        self._losses.reset()
        self.batches.reset()
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
            guard.attempt("keep threads out of the spool", self._spool.before_fork)

    def after_fork_in_parent(self) -> None:
        """Start the thread again if there is something to do; otherwise the next call does."""
        if self._spool is not None:
            guard.attempt("let threads into the spool", self._spool.after_fork_in_parent)
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

    def add(self, item: Finished, late: bool) -> None:
        """Hand over what has ended. `late`: from a finaliser, where no thread may be started."""
        pid = os.getpid()
        if self._pid != pid:
            self.after_fork_in_child()  # forked without Python's hooks (uWSGI)
        if item.pid != pid:
            return  # forked while it ran: the parent records it
        if self._spool_writer is not None and not late:
            self._commit(self._spool_writer, item)
        else:
            self.queue.add(item)
        if self._thread is None and not late:
            self.start()
        if self._process.exposed:
            self.queue.wake()
        if self._exiting and not late and not sys.is_finalizing():
            self._deliver_here(max(0.0, (self.delivery.deadline or 0.0) - self.delivery.clock()))

    def _commit(self, spool_writer: SpoolWriter, item: Finished) -> None:
        """Commit it to the spool and hand it over; where memory is full it waits on the disk only."""
        committed: list[FinalRecord] = []
        is_over = added = False
        try:
            self.batches.commit(item, committed)
            is_over = True
        finally:
            try:
                if committed:
                    added = self.queue.add(committed[0], counted=not committed[0].record.spooled)
                elif not is_over:
                    self.queue.add(item)
            finally:
                if committed and not added and not self.queue.holds(committed[0]):
                    spool_writer.spool.spill(committed[0].record.spooled)

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

    # Flushes

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
            self._losses.count_dropped()
            return self._is_whole(self.delivery.n_lost)
        self.start()
        barrier = self.queue.barrier()
        # Counted in steps, not by the clock: a test of the host's may stop that.
        left_s = SEND_TIMEOUT_S if timeout_s is None else max(0.0, timeout_s)
        while not barrier.reached.acquire(timeout=min(left_s, FLUSH_LOOK_S)):
            if self._thread is None or not self._thread.is_alive():
                self._deliver_here(left_s)
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

    def begin_flush(self, timeout_s: float) -> Callable[[], bool | None]:
        """`flush` for a caller that may not wait and looks again and again: None while it goes on."""
        self.start()
        barrier = self.queue.barrier()
        until = self.delivery.clock() + timeout_s

        def is_over() -> bool | None:
            if barrier.reached.acquire(blocking=False):
                return True
            return False if self.delivery.paused or self.delivery.clock() >= until else None

        return is_over

    def delivers_here(self) -> bool:
        """Whether the calling thread is the one that makes and delivers events."""
        return self._pumping.is_mine()

    def is_busy(self) -> bool:
        """Whether something was added that is not finished."""
        return self.batches.is_busy()

    def _n_spilled(self) -> int:
        """How many calls of ours are on the disk only."""
        return self._spool.spilled if self._spool is not None else 0

    def _is_whole(self, n_lost: int) -> bool:
        """Whether nothing was lost that `flush` has not returned False for yet."""
        before, self._n_lost_answered = self._n_lost_answered, n_lost
        return before == n_lost

    # The end of the process

    def close(self) -> None:
        """Deliver what is waiting, for at most the exit timeout; report what could not be delivered. Not on the thread
        that delivers."""
        if self._pid != os.getpid() or self._exiting:
            return
        self._exiting = self.batches.is_ending = True
        self.delivery.deadline = self.delivery.clock() + self._exit_timeout_s
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
                self._deliver_here(self._exit_timeout_s)
        self._losses.write_last(self.batches.n_in_hand)

    def _deliver_here(self, timeout_s: float) -> None:
        """Deliver in the calling thread, where there is no flusher thread to do it."""
        if self.delivers_here() or not self._pumping.acquire(max(0.0, timeout_s)):
            return
        try:
            deadline = self.delivery.deadline
            self.delivery.deadline = self.delivery.clock() + timeout_s if deadline is None else deadline
            guard.attempt("deliver events", self.batches.deliver_queue, whole=True)
            self.delivery.deadline = deadline
        finally:
            self._pumping.release()

    # On the flusher's thread

    def _run(self) -> None:
        scope.CONTEXT.set(None)  # threads go on in the context in which they were started
        try:
            with self._pumping:
                self.batches.deliver_abandoned()
            while not self._pausing:
                self._idle = True
                self._wait(self.batches.wait_s())
                self._idle = False
                if self._pausing:
                    return
                if self._process.exposed:
                    guard.attempt("handle signals", self._process.cover)
                with self._pumping:
                    self.batches.run()
                if self._exiting and not len(self.queue):
                    return
        finally:
            self._idle = False
            self._thread = None
            self._starting = threads.allocate_lock()
