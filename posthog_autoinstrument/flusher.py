"""The flusher: one daemon thread that turns finished calls into events and delivers them.

Started by the first captured call, never at exit and never in a finaliser. At exit the program waits for it, bounded.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from . import forks, guard, threads
from .queue import Marker, Queue
from .records import Sealable, Sealed
from .sinks import Event, Sink

if TYPE_CHECKING:  # sqlite3 is for those who asked for a spool
    from .outbox import Kept
    from .spool import Spool

MIN_RETRY_S = 0.05
FIRST_RETRY_S = 0.5
"""The longest first wait; each further one may be twice as long, up to MAX_RETRY_S."""
MAX_RETRY_S = 30.0
RETRY_BUDGET_S = 900.0
"""How long one batch is retried. PostHog's deploys and brown-outs are minutes; the queue holds what comes meanwhile."""
SEND_TIMEOUT_S = 15.0
REPORT_EVERY_S = 60.0
EXIT_ATTEMPTS = 10
LOOK_EVERY_S = 60.0
"""Between two looks for outboxes that dead processes left."""
PAUSE_S = 0.1
"""Longest a fork waits for the idle thread to end. It takes 0.1 ms."""


class _SignalsBlocked:
    """Blocks signals in this thread for as long as it starts another, which inherits that.

    The kernel gives a signal of the process to any thread that does not block it: a program that waits with `sigwait`
    would be killed by a signal that came to ours. Signals of faults are left alone.
    """

    def __enter__(self) -> None:
        signal = sys.modules.get("signal")
        self._mask = getattr(signal, "pthread_sigmask", None)
        if self._mask is not None:
            names = ("SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGABRT", "SIGTRAP", "SIGSYS")
            faults = {getattr(signal, name) for name in names if hasattr(signal, name)}
            self._before = self._mask(signal.SIG_BLOCK, signal.valid_signals() - faults)  # type: ignore[union-attr]

    def __exit__(self, *_: object) -> None:
        if self._mask is not None:
            self._mask(sys.modules["signal"].SIG_SETMASK, self._before)


class Ledger(Protocol):
    """Where the rows of events are."""

    def done(self, numbers: Sequence[int]) -> None:
        """These were delivered, or dropped for good."""

    def spill(self, numbers: Sequence[int]) -> None:
        """These stay, for later."""


class Orphaned(Ledger, Protocol):
    """An outbox whose process is gone."""

    def next(self, limit: int) -> Sequence[Event] | None:
        """The events of the next rows; None where there are no more."""

    def close(self) -> None:
        """Leave it to the next one, or delete it when it is empty."""


class _Failed:
    """Stands for what could not be kept."""


def _yes() -> bool:
    """Stands for `parent_process`, which billiard lacks; its registry is emptied in each child."""
    return True


class Flusher:
    """Takes records from `queue`, builds events with `build` and gives them to the sink, in batches.

    `close` is what the end of a process calls, where the flusher has to arrange for it. `overdue` gives the events that
    were held back and are not any longer, at exit all of them; `held` says how many there are.
    With a `spool`, `keep` commits a record to it on the program's thread, `read_back` makes an event of a row, and
    `orphaned` takes over what a dead process left. `build` returns None for a record that makes no event.
    `choose_sink` is called at the first batch: only then is a token known that the program sets in code. `shrink` cuts
    an event down to a number of bytes, or returns None.
    """

    def __init__(
        self,
        queue: Queue,
        build: Callable[[Sealable], Event | None],
        choose_sink: Callable[[], Sink],
        shrink: Callable[[Event, int], Event | None],
        flush_at: int,
        flush_interval_s: float,
        exit_timeout_s: float,
        close: Callable[[], None],
        overdue: Callable[[bool], list[Event]] = lambda final: [],
        held: Callable[[], int] = lambda: 0,
        spool: Spool | None = None,
        keep: Callable[[Sealable], Sealable | None] | None = None,
        read_back: Callable[[Kept], Event | None] | None = None,
        orphaned: Callable[[Spool], Orphaned | None] | None = None,
    ) -> None:
        self.queue = queue
        self._build = build
        self._choose_sink = choose_sink
        self._shrink = shrink
        self._flush_at = flush_at
        self._flush_interval_s = flush_interval_s
        self._exit_timeout_s = exit_timeout_s
        self._close = close
        self._overdue = overdue
        self._held = held
        self._spool = spool
        self._keep = keep
        self._read_back = read_back
        self._orphaned = orphaned
        self._fork_warning = forks.ForkWarning()
        self.sink: Sink | None = None
        self.delivered = 0
        self.lost: dict[str, int] = {}
        self.possibly_resent = 0
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._thread: threads.Thread | None = None
        self._latest: threads.Thread | None = None
        """The last thread that was started: it may have ended and not be gone yet."""
        self._starting = threads.allocate_lock()
        self._pumping = threads.allocate_lock()
        self._halt = threads.allocate_lock()  # released to end a wait between two attempts
        self._halt.acquire()
        self._deadline: float | None = None
        self._exiting = False
        self._idle = False
        self._pausing = False
        self._refused = ""
        self._batch: list[Event] = []
        self._in_hand = 0
        self._reported_at = 0.0
        self._untold = 0
        self._given_up = 0
        """How many batches were not delivered and are not tried any longer."""
        self.stays = ""
        """Why events stay in the spool."""
        self._ledger: Ledger | None = self._spool
        self._orphan: Orphaned | None = None
        self._look_at = 0.0
        """When to look for outboxes of dead processes next, by the monotonic clock."""

    def after_fork_in_child(self) -> None:
        """Forget the parent's thread, locks and events; the sink notices the new process by itself."""
        guard.attempt("let Python warn of forks", self._fork_warning.forget)
        self.queue.reset()
        if self._spool is not None:
            guard.attempt("leave the spool to the parent", self._spool.after_fork_in_child)
        self.delivered = self.possibly_resent = 0
        self.lost = {}
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
        if self._latest is not None and not forks.is_gone(self._latest):
            guard.attempt("hold back a warning of Python's", self._fork_warning.expect)
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

    def add(self, record: Sealable, late: bool) -> None:
        """Hand over a finished record. `late`: from a finaliser, where no thread may be started."""
        if self._pid != os.getpid():
            self.after_fork_in_child()  # forked without Python's hooks (uWSGI)
        if self._spool is not None and not late:
            self._add_kept(self._spool, record)
        else:
            self.queue.add(record)
        if self._thread is None and not late:
            self.start()
        if self._exiting and not late and not sys.is_finalizing():
            self._pump_here(max(0.0, (self._deadline or 0.0) - monotonic()))

    def _add_kept(self, spool: Spool, record: Sealable) -> None:
        """Commit the record to the spool and hand it over; where memory is full it waits on the disk only."""
        assert self._keep is not None
        failed = _Failed
        kept: Any = failed
        try:
            kept = self._keep(record)
        finally:
            if kept is failed:
                self.queue.add(record)
        if kept is not None:
            rows = getattr(getattr(kept, "call", None), "spooled", ())
            if not self.queue.add(kept, counted=not rows):
                spool.spill(rows)

    def _kept(self, record: Sealable) -> Sealable | None:
        return self._keep(record) if self._keep is not None else None

    def start(self) -> None:
        """Start the thread, once in this process. Where none can be started, exit sends inline."""
        if self._exiting or not self._starting.acquire(blocking=False):
            return
        thread = threads.make(self._run, "posthog-autoinstrument-flusher")
        self._thread = self._latest = thread
        try:
            with _SignalsBlocked():
                thread.start()
        except RuntimeError:  # the interpreter is shutting down, or no more threads: the next call tries again
            self._thread = None
            self._starting.release()
            return
        guard.attempt("register with multiprocessing", self._register_ways_out)

    def _register_ways_out(self) -> None:
        """Children of pools end with `os._exit` after finalisers of their own: `atexit` never runs there."""
        for package in ("multiprocessing", "billiard"):  # billiard: Celery's
            util, process = (sys.modules.get(f"{package}.{name}") for name in ("util", "process"))
            if util is not None and process is not None and getattr(process, "parent_process", _yes)() is not None:
                util.Finalize(None, self._close, exitpriority=0)
        celery = sys.modules.get("celery.signals")
        if celery is not None:
            celery.worker_process_shutdown.connect(self._worker_shuts_down, weak=False, dispatch_uid=__name__)

    def _worker_shuts_down(self, *_: object, **__: object) -> None:
        self._close()

    def flush(self, timeout_s: float | None = None) -> bool:
        """Wait until everything added so far has been delivered or dropped; False when `timeout_s` ran out first."""
        if self._pid != os.getpid():
            self.after_fork_in_child()
        if not len(self.queue) and not self._in_hand and not (self._spool is not None and self._spool.spilled):
            return True
        self.start()
        if self._thread is None or not self._thread.is_alive():
            return self._pump_here(SEND_TIMEOUT_S if timeout_s is None else timeout_s)
        marker = self.queue.mark()
        reached = marker.reached.acquire(timeout=-1 if timeout_s is None else max(0.0, timeout_s))
        return reached and not (self._spool is not None and self._spool.spilled)

    def close(self) -> None:
        """At exit: deliver what is waiting, for at most the exit timeout; say what could not be delivered."""
        if self._pid != os.getpid() or self._exiting:
            return
        self._exiting = True
        self._deadline = monotonic() + self._exit_timeout_s
        if len(self.queue) or self._in_hand or self._held():
            thread = self._thread
            if thread is not None and thread.is_alive():
                marker = self.queue.mark()
                guard.quietly(self._halt.release)
                try:
                    marker.reached.acquire(timeout=self._exit_timeout_s)
                except KeyboardInterrupt:
                    pass  # the user does not want to wait
            else:
                self._pump_here(self._exit_timeout_s)
        self._report(final=True)

    def _pump_here(self, timeout_s: float) -> bool:
        """Deliver in the calling thread, where there is no flusher thread to do it."""
        if not self._pumping.acquire(timeout=max(0.0, timeout_s)):
            return False
        try:
            deadline = self._deadline
            self._deadline = monotonic() + timeout_s if deadline is None else deadline
            guard.attempt("deliver events", self._pump)
            self._deadline = deadline
        finally:
            self._pumping.release()
        return not len(self.queue) and not self._in_hand

    # On the flusher's thread

    def _run(self) -> None:
        try:
            with self._pumping:
                guard.attempt("take over what others left", self._ship_orphans)
            while not self._pausing:
                self._idle = True
                self.queue.wait(self._flush_interval_s)
                self._idle = False
                if self._pausing:
                    return
                with self._pumping:
                    guard.attempt("deliver events", self._pump)
                    guard.attempt("deliver what is in the spool", self._ship_spooled)
                    guard.attempt("take over what others left", self._ship_orphans)
                guard.attempt("report losses", self._report)
                if self._exiting and not len(self.queue):
                    return
        finally:
            self._idle = False
            self._thread = None
            self._starting = threads.allocate_lock()

    def _pump(self) -> None:
        """Build and deliver until the queue is empty."""
        while True:
            item = self.queue.take()
            if isinstance(item, Marker):
                try:
                    self._take_overdue()
                    self._send_batch()
                    self._ship_spooled()
                    if self._exiting:
                        self._ship_orphans()
                finally:
                    item.reached.release()
            elif item is None:
                self._take_overdue()
                self._send_batch()
                return
            else:
                self._in_hand += 1
                if self._spool is not None and not isinstance(item, Sealed):  # ended in a finaliser
                    item = guard.attempt("keep a call", self._kept, item) or item
                event = guard.attempt("build an event", self._build, item)
                if event is None:
                    self._in_hand -= 1
                    continue
                self._batch.append(event)
                if len(self._batch) >= self._flush_at:
                    self._send_batch()

    def _ship_spooled(self) -> None:
        """Deliver what is on the disk only, while nothing waits in memory."""
        spool, read_back = self._spool, self._read_back
        if spool is None or read_back is None:
            return
        while spool.spilled and not self._refused and not len(self.queue):
            rows = spool.spilled_rows(self._flush_at)
            if not rows:
                return
            before = self._given_up
            self._ship(spool, [guard.attempt("read the spool", read_back, row) for row in rows])
            if self._given_up != before:
                return  # PostHog is away: not before the next interval

    def _ship_orphans(self) -> None:
        """Deliver what dead processes left, a batch at a time while nothing else waits."""
        if self._spool is None or self._orphaned is None:
            return
        if self._orphan is None and monotonic() < self._look_at:
            return
        while not len(self.queue) and not self._refused and not self._is_late():
            if self._orphan is None:
                self._choose()
                self._orphan = self._orphaned(self._spool)
                if self._orphan is None:
                    self._look_at = monotonic() + LOOK_EVERY_S
                    return
            before = self._given_up
            more = self.ship_next(self._orphan)
            if not more or self._given_up != before:
                self._orphan.close()
                self._orphan = None
            if self._given_up != before:
                self._look_at = monotonic() + LOOK_EVERY_S
                return

    def _is_late(self) -> bool:
        return self._deadline is not None and monotonic() >= self._deadline

    def ship_next(self, orphan: Orphaned) -> bool:
        """Deliver the next batch of an orphan; False when there is none left."""
        events = orphan.next(self._flush_at)
        if events is None:
            return False
        self._ship(orphan, events)
        return True

    def _ship(self, ledger: Ledger, events: Sequence[Event | None]) -> None:
        """Deliver events that were read back."""
        made = [event for event in events if event is not None]
        before, self._ledger = self._ledger, ledger
        try:
            self._in_hand += len(made)
            self._send(made)
        finally:
            self._ledger = before

    def forget(self, rows: tuple[int, ...]) -> None:
        """These rows make no event."""
        if self._spool is not None and rows:
            self._spool.done(rows)

    def _choose(self) -> Sink:
        if self.sink is None:
            self.sink = self._choose_sink()
        return self.sink

    def _take_overdue(self) -> None:
        due = guard.attempt("look after calls in the background", self._overdue, self._exiting) or []
        self._in_hand += len(due)
        self._batch += due

    def _send_batch(self) -> None:
        batch, self._batch = self._batch, []
        self._send(batch)

    def _send(self, batch: list[Event]) -> None:
        if not batch:
            return
        try:
            sink = self._choose()
            waiting = self._portions(sink, batch)
            waiting.reverse()
            while waiting:
                self._deliver(sink, waiting)
        finally:
            self._in_hand -= len(batch)
        self._report()

    def _portions(self, sink: Sink, batch: list[Event]) -> list[list[Event]]:
        """The batch in portions under the sink's size limit."""
        portions: list[list[Event]] = [[]]
        size = 0
        for event in batch:
            if len(event.body) > sink.max_event_bytes:
                event = self._shrink(event, sink.max_event_bytes) or event
            if portions[-1] and size + len(event.body) > sink.max_batch_bytes:
                portions.append([])
                size = 0
            portions[-1].append(event)
            size += len(event.body) + 1
        return portions

    def _deliver(self, sink: Sink, waiting: list[list[Event]]) -> None:
        """Settle the last portion of `waiting`: deliver it, drop it, or put smaller portions in its place."""
        portion = waiting.pop()
        if self._refused:
            self._give_up(portion, self._refused)
            return
        started = monotonic()
        attempt = 0
        while True:
            outcome = sink.send(portion, self._timeout_s())
            if outcome.kind == "delivered":
                self.delivered += len(portion)
                self._done(portion)
                return
            if outcome.kind == "refused":
                self._refused = outcome.detail or "refused"
                guard.say_once("refused", f"{outcome.detail}; no events are sent from now on")
                self._give_up(portion, self._refused)
                return
            if outcome.kind in ("too_large", "rejected") and len(portion) > 1:
                half = len(portion) // 2
                waiting.append(portion[half:])
                waiting.append(portion[:half])
                return
            if outcome.kind == "too_large":
                smaller = self._shrink(portion[0], min(sink.max_event_bytes, len(portion[0].body) * 3 // 4))
                if smaller is None or len(smaller.body) >= len(portion[0].body):
                    self._done(portion)
                    self.lose(1, "too large")
                    return
                portion = [smaller]
                continue
            if outcome.kind == "rejected":
                guard.say_once("rejected", f"one event was dropped: {outcome.detail}")
                self._done(portion)
                self.lose(1, "rejected")
                return
            if outcome.fate_unknown:
                self.possibly_resent += len(portion)
            attempt += 1
            # Full jitter: those who failed together must not come back together.
            wait_s = random.uniform(MIN_RETRY_S, min(MAX_RETRY_S, FIRST_RETRY_S * 2 ** min(attempt - 1, 10)))
            if outcome.retry_after_s is not None:
                wait_s = max(wait_s, outcome.retry_after_s)
            if guard.debug:
                guard.say(f"{outcome.detail}; trying again in {wait_s:.1f} s")
            # Counted as well: a host that stops the clock (freezegun) stops this one too.
            late = self._deadline is not None and (monotonic() + wait_s >= self._deadline or attempt > EXIT_ATTEMPTS)
            if late:
                self._give_up(portion, outcome.detail or "not delivered before exit")
                return
            if monotonic() + wait_s - started > RETRY_BUDGET_S:
                self._give_up(portion, outcome.detail or "not delivered")
                return
            if wait_s > 0 and self._halt.acquire(timeout=wait_s):
                attempt = 0  # the program is ending: once more, now

    def _timeout_s(self) -> float:
        if self._deadline is None:
            return SEND_TIMEOUT_S
        return max(0.1, min(SEND_TIMEOUT_S, self._deadline - monotonic()))

    def _done(self, portion: list[Event]) -> None:
        """These events need no more care: where they are in an outbox, they go out of it."""
        rows = [number for event in portion for number in event.spooled]
        if rows and self._ledger is not None:
            guard.attempt("take events out of the spool", self._ledger.done, rows)

    def _give_up(self, portion: list[Event], reason: str) -> None:
        """No more attempts for now: what is in an outbox stays there, the rest is lost."""
        self._given_up += 1
        rows = [number for event in portion for number in event.spooled]
        if rows and self._ledger is not None:
            self._ledger.spill(rows)
            self.stays = reason
        only_here = sum(1 for event in portion if not event.spooled)
        if only_here:
            self.lose(only_here, reason)

    def lose(self, count: int, reason: str) -> None:
        """Count events that nobody will get."""
        self.lost[reason] = self.lost.get(reason, 0) + count
        self._untold += count

    def take_untold(self) -> int:
        """How many events were lost that no event has told of yet."""
        full = self.queue.take_dropped()
        if full:
            self.lose(full, "queue full")
        untold, self._untold = self._untold, 0
        return untold

    def _report(self, final: bool = False) -> None:
        """Say what was lost, at most once a minute and once at the end."""
        if not final and (self._refused or monotonic() - self._reported_at < REPORT_EVERY_S):
            return
        full = self.queue.take_dropped()
        if full:
            self.lose(full, "queue full")
        left = self.queue.waiting() + self._in_hand if final else 0
        if final and self._spool is not None:
            stay = self._spool.close()
            left -= stay
            if stay:
                why = f" ({self.stays})" if self.stays else ""
                guard.say(
                    f"{stay} {'event stays' if stay == 1 else 'events stay'} in the spool {self._spool.folder}{why}"
                )
        if left > 0:
            self.lose(left, "not delivered before exit")
        if self.lost:
            self._reported_at = monotonic()
            reasons = ", ".join(f"{count}: {reason}" for reason, count in self.lost.items())
            total = sum(self.lost.values())
            guard.say(f"{total} {'event was' if total == 1 else 'events were'} lost ({reasons})")
            self.lost = {}
