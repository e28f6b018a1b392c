"""An outage of ten minutes at 50 calls a second, in simulated time, through the real flusher, queue and spool."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.waiting import wait_until

from posthog_autoinstrument.core.finished import FinalRecord
from posthog_autoinstrument.core.records import Call, EncodedEvent, Identity
from posthog_autoinstrument.export import flusher
from posthog_autoinstrument.export.delivery import Delivery
from posthog_autoinstrument.export.exporter import ExportResult
from posthog_autoinstrument.export.queue import Queue
from posthog_autoinstrument.export.sleeper import Sleeper
from posthog_autoinstrument.export.spool.directory import Spool
from posthog_autoinstrument.export.spool.outbox import RECORD, OutboxRow

OUTAGE_S = 600
CALLS_A_SECOND = 50


class World(Sleeper):
    """The clock, what waits, PostHog and the program: waiting is what makes time pass and calls come."""

    def __init__(
        self,
        spool: Spool | None,
        max_events: int,
        outage_s: float = OUTAGE_S,
        retry_after_s: float | None = None,
    ) -> None:
        self.outage_s = outage_s
        self.retry_after_s = retry_after_s
        self.now = 1000.0
        self.n_called = 0
        self.taken: list[str] = []
        self.tries: list[float] = []
        self.spool = spool
        self.flusher = flusher.Flusher(
            Queue(max_events, 1 << 30, 100),
            lambda item: item.record,  # type: ignore[attr-defined]
            lambda item: self.event(item.record),  # type: ignore[attr-defined]
            Delivery(lambda: self, lambda event, size: None, lambda: self.now, lambda: self),
            100,
            2.0,
            3.0,
            SimpleNamespace(captured=lambda: None, exposed=False),  # type: ignore[arg-type]  # no signals here
            spool_writer=self if spool is not None else None,  # type: ignore[arg-type]
            wait=self.wait,
        )
        self.over = threading.Event()

    # The exporter

    name = "PostHog"
    max_event_bytes = 1 << 20
    max_batch_bytes = 1 << 20

    def send(self, events: list[EncodedEvent], timeout_s: float) -> ExportResult:
        self.tries.append(self.now)
        if self.now < 1000 + self.outage_s:
            return ExportResult("retry", "503", self.retry_after_s)
        self.taken += [event.uuid for event in events]
        return ExportResult("delivered")

    # The wait between two attempts

    def sleep(self, seconds: float) -> bool:
        self.live(seconds)
        return False

    def live(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            self.now += 1 / CALLS_A_SECOND
            if self.n_called < OUTAGE_S * CALLS_A_SECOND:
                self.n_called += 1
                call = Call("openai", "chat", f"uuid-{self.n_called}", "", "", "", "", 0, 0, "complete", False, WHO)
                self.flusher.add(FinalRecord(call, os.getpid(), 100), late=False)

    # What the agent does

    def event(self, call: Any) -> EncodedEvent:
        return EncodedEvent(call.uuid, "$ai_generation", b"{}", call.spooled)

    def keep(self, record: Any) -> None:
        assert self.spool is not None
        number = self.spool.keep(RECORD, record.uuid, b"body")
        object.__setattr__(record, "spooled", (number,))

    def next_abandoned(self) -> None:
        return None

    def read_back(self, row: OutboxRow) -> EncodedEvent:
        return EncodedEvent(row.uuid, "$ai_generation", b"{}", (row.number,))

    # The wait for the next batch

    def wait(self, seconds: float) -> None:
        left = len(self.flusher.queue) or (self.spool is not None and self.spool.spilled)
        if self.n_called < OUTAGE_S * CALLS_A_SECOND or left:
            self.live(seconds)
        else:
            self.over.set()
            self.flusher.queue.wait(60)

    def run(self) -> None:
        """The whole outage, on the flusher's thread."""
        self.flusher.expect()
        wait_until(self.over.is_set, "everything was delivered or lost", 600)
        self.flusher.close()
        self.flusher.queue.wake()


WHO = Identity(None, "trace")


def test_within_the_bounds_of_the_queue_nothing_is_lost() -> None:
    world = World(None, max_events=50_000)
    world.run()
    assert len(world.taken) == len(set(world.taken)) == OUTAGE_S * CALLS_A_SECOND
    assert world.flusher.queue.dropped == 0
    # One batch at a time is tried, and no more often than that.
    during = [at for at in world.tries if at < 1000 + OUTAGE_S]
    assert 20 <= len(during) <= 200


def test_beyond_them_the_rest_is_counted() -> None:
    world = World(None, max_events=10_000)
    world.run()
    lost = OUTAGE_S * CALLS_A_SECOND - len(world.taken)
    assert lost > 10_000
    assert world.flusher.take_unreported() == lost


def test_with_a_spool_nothing_is_lost_at_all(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path / "spool"), 1 << 30)
    world = World(spool, max_events=1_000)
    world.run()
    assert len(world.taken) == len(set(world.taken)) == OUTAGE_S * CALLS_A_SECOND
    assert list((tmp_path / "spool").iterdir()) == []


@pytest.mark.parametrize("spool_writer", [False, True])
def test_a_retry_after_is_kept_to_however_long(tmp_path: Path, spool_writer: bool) -> None:
    """Longer than one batch is tried: it is no reason to lose it, nor to ask again with the next one."""
    spool = Spool(str(tmp_path / "spool"), 1 << 30) if spool_writer else None
    world = World(spool, max_events=50_000, retry_after_s=1800.0)
    world.run()
    assert len(world.taken) == len(set(world.taken)) == OUTAGE_S * CALLS_A_SECOND
    assert len([at for at in world.tries if at < 1000 + 1800]) == 1


def test_what_is_given_up_does_not_shorten_the_pause(tmp_path: Path) -> None:
    world = World(Spool(str(tmp_path / "spool"), 1 << 30), 50_000, outage_s=2300, retry_after_s=1200.0)
    world.run()
    assert len(world.taken) == len(set(world.taken)) == OUTAGE_S * CALLS_A_SECOND
    first, second, third = world.tries[:3]
    assert second - first == pytest.approx(1200, abs=1)
    assert third - second == pytest.approx(1200, abs=1)


def test_a_senseless_retry_after_does_not_end_all_sending() -> None:
    world = World(None, max_events=50_000, retry_after_s=1e8)
    world.run()
    assert len(world.taken) == OUTAGE_S * CALLS_A_SECOND
    assert world.now < 1000 + 4000
