"""Delivers batches of events to the exporter and accounts for each of them.

Splits batches into portions under the exporter's limits, retries with full jitter, pauses when PostHog refuses them,
finds the invalid event of a batch by bisection, and reports rows of the outbox that are finished. One thread at a time.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from time import monotonic
from typing import TYPE_CHECKING

from ..core import diagnostics, guard
from .sleeper import Sleeper

if TYPE_CHECKING:
    from typing import Protocol

    from ..core.records import EncodedEvent
    from .exporter import Exporter

    class RowTracker(Protocol):
        """Where the rows of events are."""

        def done(self, numbers: Sequence[int]) -> None:
            """These were delivered, or dropped for good."""

        def postpone(self, numbers: Sequence[int]) -> None:
            """These were not delivered; they stay, for later."""


MIN_RETRY_S = 0.05
FIRST_RETRY_S = 0.5
"""The longest first wait; each further one may be twice as long, up to MAX_RETRY_S."""
MAX_RETRY_S = 30.0
RETRY_BUDGET_S = 900.0
"""How long one batch is retried. PostHog's deploys and brown-outs are minutes; the queue holds what comes meanwhile."""
MAX_RETRY_AFTER_S = 3600.0
"""Longest pause that a server may ask for: a wrong one must not end all sending."""
FIRST_PAUSE_S = 600.0
"""After a refusal (401, 402, 403, quota): so long at most after the user has corrected the token or the quota."""
NEXT_PAUSE_S = 3600.0
"""After each further one: quotas begin anew by the month, and PostHog need not refuse us more often."""
WARN_EVERY_S = 3600.0
"""A refusal, by whichever process of a tree."""
LOOK_S = 60.0
"""Longest wait without a call of `while_waiting`."""
SEND_TIMEOUT_S = 15.0
EXIT_ATTEMPTS = 20
EXIT_MARGIN_S = 0.2
"""An attempt at exit ends so long before the deadline: the line that gives its reason needs time, too."""
_DICE = random.SystemRandom()
"""Does not disturb the numbers of a program that has called `random.seed`."""


class Delivery:
    """Delivers events to the exporter that `choose_exporter` returns at the first batch, when a token that the program
    sets in code is known. `truncate` cuts an event to a number of bytes, or returns None. All times are those of
    `clock`, in seconds; `make_sleeper` is called once in each process.
    """

    def __init__(
        self,
        choose_exporter: Callable[[], Exporter],
        truncate: Callable[[EncodedEvent, int], EncodedEvent | None],
        clock: Callable[[], float] = monotonic,
        make_sleeper: Callable[[], Sleeper] = Sleeper,
    ) -> None:
        self._choose_exporter = choose_exporter
        self._truncate = truncate
        self.clock = clock
        self._make_sleeper = make_sleeper
        self.exporter: Exporter | None = None
        self.own_tracker: RowTracker | None = None
        """Of rows of batches that come without a tracker: the outbox of this process."""
        self.while_waiting: Callable[[], None] | None = None
        """Called between two attempts, and every minute of a long wait."""
        self.waits_out_refusals = True
        """Whether a refused batch is kept and tried again later. Not where a user waits for the end of a command; and
        never a batch of another outbox, which another process may be able to deliver meanwhile."""
        self.reset()

    def reset(self) -> None:
        """In a forked child: the parent's batches are not ours. The exporter notices the new process by itself."""
        self._tracker: RowTracker | None = None
        self.delivered = 0
        self.lost: dict[str, int] = {}
        self.n_lost = 0
        """How many events were lost so far, for whatever reason."""
        self._unreported = 0
        self.n_given_up = 0
        """How many batches were not delivered and are not tried any longer."""
        self.stopped = ""
        """Why nothing is sent any longer: there is nowhere to send it."""
        self.paused = ""
        """Why the destination takes nothing at the moment, though it answers."""
        self._n_refusals = 0
        """Since something was delivered."""
        self.stays = ""
        """Why events stay in the spool."""
        self.deadline: float | None = None
        """Until when to try, by `clock`."""
        self._pause_until: float | None = None
        """No attempt before this time by `clock`: not of the next batch either."""
        self.why = ""
        """Why the last attempt that failed did."""
        self._sleeper = self._make_sleeper()

    def hurry(self) -> None:
        """The program is ending: try again now. From any thread."""
        self._sleeper.wake()

    def is_late(self) -> bool:
        """Whether the deadline is over."""
        return self.deadline is not None and self.clock() >= self.deadline

    def next_attempt_s(self) -> float:
        """How long nothing will be tried. From any thread."""
        until = self._pause_until
        return max(0.0, until - self.clock()) if until is not None else 0.0

    def choose(self) -> Exporter:
        """The exporter."""
        if self.exporter is None:
            self.stopped = ""  # by another
            self.exporter = self._choose_exporter()
        return self.exporter

    def choose_again(self) -> None:
        """Choose the exporter anew before anything else is delivered. From any thread."""
        self.exporter = None
        self.stopped = ""

    def deliver(self, batch: list[EncodedEvent], tracker: RowTracker | None = None) -> None:
        """Deliver, drop or give up every event of the batch. `tracker`: of its rows, if not this process's outbox."""
        self._tracker = tracker or self.own_tracker
        try:
            exporter = self.choose()
            waiting = self._portions(exporter, batch)
            waiting.reverse()
            while waiting:
                self._deliver(exporter, waiting)
        finally:
            self._tracker = None

    def _portions(self, exporter: Exporter, batch: list[EncodedEvent]) -> list[list[EncodedEvent]]:
        """The batch in portions under the exporter's size limit."""
        portions: list[list[EncodedEvent]] = [[]]
        size = 0
        for event in batch:
            if len(event.body) > exporter.max_event_bytes:
                event = self._truncate(event, exporter.max_event_bytes) or event
            if portions[-1] and size + len(event.body) > exporter.max_batch_bytes:
                portions.append([])
                size = 0
            portions[-1].append(event)
            size += len(event.body) + 1
        return portions

    def _deliver(self, exporter: Exporter, waiting: list[list[EncodedEvent]]) -> None:
        """Settle the last portion of `waiting`: deliver it, drop it, or put smaller portions in its place."""
        portion = waiting.pop()
        if self.stopped:
            self._give_up(portion, self.stopped)
            return
        started: float | None = None
        attempt = 0
        while True:
            paused = self._pause()
            if paused is None:
                self._give_up(portion, self.why)
                return
            if paused:
                attempt = 0  # the program is ending: once more, now
            started = self.clock() if started is None else started
            result = exporter.send(portion, self._timeout_s())
            if result.kind != "paused":
                self.paused = ""
            if result.kind == "delivered":
                self.delivered += len(portion)
                self._n_refusals = 0
                self.why = ""
                self._done(portion)
                return
            if result.kind == "stopped":
                self.stopped = result.detail or "refused"
                diagnostics.warn_once("refused", f"{result.detail}; no events are sent from now on")
                self._give_up(portion, self.stopped)
                return
            if result.kind == "paused":
                self._take_refusal(result.detail or "refused")
                if self.deadline is not None or not self.waits_out_refusals or self._tracker is not self.own_tracker:
                    self._give_up(portion, self.why)
                    return
                started, attempt = None, 0
                continue
            if result.kind == "retry" and result.less_may_fit and self.deadline is not None and len(portion) == 1:
                self.why = result.detail or "no room"
                self._give_up(portion, self.why)  # another one may fit
                return
            if (result.kind in ("too_large", "invalid") or result.less_may_fit) and len(portion) > 1:
                half = len(portion) // 2
                waiting.append(portion[half:])
                waiting.append(portion[:half])
                return
            if result.kind == "too_large":
                smaller = self._truncate(portion[0], min(exporter.max_event_bytes, len(portion[0].body) * 3 // 4))
                if smaller is None or len(smaller.body) >= len(portion[0].body):
                    self._done(portion)
                    self.count_lost(1, "too large")
                    return
                portion = [smaller]
                continue
            if result.kind == "invalid":
                diagnostics.warn_once("rejected", f"one event was dropped: {result.detail}")
                self._done(portion)
                self.count_lost(1, "rejected")
                return
            attempt += 1
            # Full jitter: those who failed together must not come back together.
            wait_s = _DICE.uniform(MIN_RETRY_S, min(MAX_RETRY_S, FIRST_RETRY_S * 2 ** min(attempt - 1, 10)))
            if self.deadline is not None:  # several attempts have room in what is left
                wait_s = min(wait_s, max(MIN_RETRY_S, (self.deadline - self.clock()) / 4))
            if result.retry_after_s is not None:
                wait_s = max(wait_s, min(MAX_RETRY_AFTER_S, result.retry_after_s))
            if diagnostics.debug:
                twice = " (PostHog may have them already)" if result.fate_unknown else ""
                diagnostics.write(f"{result.detail}; trying again in {wait_s:.1f} s{twice}")
            self._pause_until = self.clock() + wait_s
            self.why = result.detail or "not delivered"
            # Counted as well: a host that stops the clock (freezegun) stops this one too.
            late = self.deadline is not None and attempt > EXIT_ATTEMPTS
            if late or self.clock() - started > RETRY_BUDGET_S:
                self._give_up(portion, self.why)
                return

    def _take_refusal(self, detail: str) -> None:
        """The destination refuses all events for now: begin a pause, and write a line the first time."""
        self.paused = self.why = detail
        self._n_refusals += 1
        self._pause_until = self.clock() + (FIRST_PAUSE_S if self._n_refusals == 1 else NEXT_PAUSE_S)
        if self.deadline is None and self.waits_out_refusals:
            detail += "; delivery pauses and is tried again in 10 minutes, then every hour"
        if self._n_refusals == 1:  # after what was delivered it is news again
            diagnostics.warn_every("refused", detail, WARN_EVERY_S)

    def _pause(self) -> bool | None:
        """Wait for the next attempt. True where that was cut short because the program is ending; None where there is
        no time left for it."""
        until, hurried = self._pause_until, self._sleeper.sleep(0.0)
        left_s = until - self.clock() if until is not None and not hurried else 0.0
        while left_s > 0 and not hurried:
            if self.deadline is not None and until is not None and until >= self.deadline:
                return None
            if self.while_waiting is not None:
                guard.attempt("do what there is to do while waiting", self.while_waiting)
            step_s = min(left_s, LOOK_S)
            hurried = self._sleeper.sleep(step_s)
            left_s -= step_s  # counted: a host may stop the clock
        self._pause_until = None
        return hurried

    def _timeout_s(self) -> float:
        if self.deadline is None:
            return SEND_TIMEOUT_S
        return max(0.1, min(SEND_TIMEOUT_S, self.deadline - self.clock() - EXIT_MARGIN_S))

    def _done(self, portion: list[EncodedEvent]) -> None:
        """These events need no more care: where they are in an outbox, they go out of it."""
        rows = [number for event in portion for number in event.spooled]
        if rows and self._tracker is not None:
            guard.attempt("take events out of the spool", self._tracker.done, rows)

    def _give_up(self, portion: list[EncodedEvent], reason: str) -> None:
        """No more attempts for now: what is in an outbox stays there, the rest is lost."""
        self.n_given_up += 1
        rows = [number for event in portion for number in event.spooled]
        if rows and self._tracker is not None:
            self._tracker.postpone(rows)
            self.stays = reason
        only_here = sum(1 for event in portion if not event.spooled)
        if only_here:
            self.count_lost(only_here, reason)

    def count_lost(self, count: int, reason: str) -> None:
        """Count events that will not be delivered."""
        self.lost[reason] = self.lost.get(reason, 0) + count
        self.n_lost += count
        self._unreported += count

    def take_unreported(self) -> int:
        """How many events were lost that no event has reported yet."""
        unreported, self._unreported = self._unreported, 0
        return unreported

    def take_lost(self) -> dict[str, int]:
        """What was lost since the last time this was asked: how many, by reason."""
        lost, self.lost = self.lost, {}
        return lost
