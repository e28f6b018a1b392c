"""What PostHog refuses for now is kept and tried again: wrong tokens, quotas, addresses where there is no PostHog."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.waiting import wait_until

from posthog_autoinstrument.core import diagnostics
from posthog_autoinstrument.core.finished import FinalRecord
from posthog_autoinstrument.core.records import Call, EncodedEvent, Identity
from posthog_autoinstrument.export.delivery import Delivery
from posthog_autoinstrument.export.flusher import Flusher
from posthog_autoinstrument.export.posthog import PostHogExporter
from posthog_autoinstrument.export.queue import Queue
from posthog_autoinstrument.export.sleeper import Sleeper
from posthog_autoinstrument.export.spool.directory import Spool
from posthog_autoinstrument.testing import Fault, PostHogServer

CALL = """
import time
import posthog_autoinstrument
from openai import OpenAI
client = OpenAI()
def call(text):
    client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": text}])
"""
OVER_QUOTA = Fault(200, body={"status": 1, "quota_limited": ["llm_events"]})
REFUSALS = [Fault(401), Fault(402), Fault(403), OVER_QUOTA]
REFUSAL_NAMES = ["401", "402", "403", "quota"]
REMEDY = "POSTHOG_PROJECT_TOKEN; see posthog-instrument doctor"
BODY = '{"event":"$ai_generation","distinct_id":"d","uuid":"%s","properties":{}}'
FAST = {"POSTHOG_AUTOINSTRUMENT_FLUSH_INTERVAL_S": "0.05"}


def asked(events: list[dict[str, Any]]) -> list[str]:
    return sorted(event["properties"]["$ai_input"][0]["content"] for event in events)


class Hours(Sleeper):
    """A clock that only waiting moves, and a sleeper that waits for `let_go` only."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 5_000.0
        self.waits: list[float] = []
        self.holds = False
        self.let_go = threading.Event()

    def sleep(self, seconds: float) -> bool:
        if seconds <= 0:
            return super().sleep(0)
        self.waits.append(seconds)
        if self.holds:
            self.let_go.wait(60)
        self.now += seconds
        return False


class Simulation:
    """The real flusher and delivery in front of a recording PostHog, in the hours of `Hours`."""

    def __init__(self, posthog: PostHogServer, max_events: int = 1_000, spool_writer: Any = None) -> None:
        self.hours = Hours()
        self.delivery = Delivery(
            lambda: PostHogExporter("phc_x", posthog.url),
            lambda event, size: None,
            lambda: self.hours.now,
            lambda: self.hours,
        )
        process = SimpleNamespace(captured=lambda: None, exposed=False)  # no signals here
        self.flusher = Flusher(
            Queue(max_events, 1 << 30, 1),
            lambda item: item.record,
            self._event,
            self.delivery,
            1,
            0.01,
            3.0,
            process,
            spool_writer=spool_writer,
        )

    def _event(self, record: Any) -> EncodedEvent:
        return EncodedEvent(record.record.uuid, "$ai_generation", (BODY % record.record.uuid).encode())

    def add(self, number: int) -> None:
        uuid = f"0198c3f2-0000-7000-8000-{number:012d}"
        who = Identity(None, "trace")
        call = Call("openai", "chat", uuid, "", "", "", "", 0, 0, "complete", False, who)
        self.flusher.add(FinalRecord(call, os.getpid(), 100), late=False)

    def close(self) -> None:
        self.hours.let_go.set()
        self.flusher.close()


@pytest.fixture
def delivery(posthog_server: PostHogServer) -> Iterator[Callable[..., Simulation]]:
    made: list[Simulation] = []

    def make(max_events: int = 1_000, spool_writer: Any = None) -> Simulation:
        made.append(Simulation(posthog_server, max_events, spool_writer))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize("fault", REFUSALS, ids=REFUSAL_NAMES)
def test_it_is_tried_again_after_10_minutes_and_then_every_hour(
    posthog_server: PostHogServer,
    delivery: Callable[..., Simulation],
    fault: Fault,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(diagnostics, "tree", None)
    posthog_server.fail_next(*[fault] * 4)
    made = delivery()
    for number in range(3):
        made.add(number)
    events = posthog_server.wait_for(3)
    assert [event["uuid"][-1] for event in events] == ["0", "1", "2"]
    assert sum(made.hours.waits) == 600 + 3 * 3600
    assert made.delivery.n_lost == 0
    wait_until(lambda: made.delivery.delivered == 3, "what was delivered is counted")
    posthog_server.fail_next(fault)
    made.add(3)
    posthog_server.wait_for(4)
    assert sum(made.hours.waits) == 600 + 3 * 3600 + 600  # another refusal, another first pause
    assert capfd.readouterr().err.count("; delivery pauses and is tried again in 10 minutes") == 2


@pytest.mark.parametrize("fault", REFUSALS, ids=REFUSAL_NAMES)
def test_flush_does_not_wait_for_the_end_of_a_pause(
    posthog_server: PostHogServer, delivery: Callable[..., Simulation], fault: Fault
) -> None:
    posthog_server.fail_next(fault)
    made = delivery()
    made.hours.holds = True
    made.add(1)
    assert made.flusher.flush(600.0) is False
    assert made.flusher.flush(None) is False
    assert len(posthog_server.requests) == 1
    made.hours.let_go.set()
    posthog_server.wait_for(1)
    assert made.flusher.flush(60.0) is True


def test_what_does_not_fit_meanwhile_is_counted(
    posthog_server: PostHogServer, delivery: Callable[..., Simulation]
) -> None:
    posthog_server.fail_next(Fault(402))
    made = delivery(max_events=5)
    made.hours.holds = True
    made.add(0)
    wait_until(lambda: made.hours.waits, "a pause begins")
    for number in range(1, 11):
        made.add(number)
    made.hours.let_go.set()
    assert [event["uuid"][-2:] for event in posthog_server.wait_for(6)] == ["00", "01", "02", "03", "04", "05"]
    assert made.flusher.flush(60.0) is False  # the other five are lost, which it says once
    assert made.delivery.n_lost == 5
    assert made.flusher.flush(60.0) is True


def test_a_404_for_ever_ends_nothing(posthog_server: PostHogServer, delivery: Callable[..., Simulation]) -> None:
    posthog_server.fail_next(*[Fault(404)] * 23)
    made = delivery()
    made.add(1)
    posthog_server.wait_for(1)
    assert made.delivery.n_lost == 0
    # Two of one path, eight times both: a minute or two. Then the pauses.
    assert 600 + 2 * 3600 <= sum(made.hours.waits) <= 600 + 2 * 3600 + 300


class Abandoned:
    """What a dead process left: one event."""

    def __init__(self) -> None:
        uuid = "0198c3f2-0000-7000-8000-000000000001"
        self.events = [EncodedEvent(uuid, "$ai_generation", (BODY % uuid).encode(), (7,))]
        self.done_with: list[int] = []
        self.is_closed = False

    def next(self, limit: int) -> list[EncodedEvent] | None:
        events, self.events = self.events, []
        return events or None

    def done(self, numbers: Any) -> None:
        self.done_with += numbers

    def postpone(self, numbers: Any) -> None:
        assert list(numbers) == [7]

    def close(self) -> None:
        self.is_closed = True


@pytest.mark.parametrize("fault", REFUSALS, ids=REFUSAL_NAMES)
def test_a_pause_does_not_hold_what_a_dead_process_left(
    posthog_server: PostHogServer, delivery: Callable[..., Simulation], fault: Fault, tmp_path: Path
) -> None:
    """Another process, with a token that is accepted, may deliver it meanwhile."""
    posthog_server.fail_next(fault)
    first, second = Abandoned(), Abandoned()
    left = [first, second]
    writer = SimpleNamespace(
        spool=Spool(str(tmp_path / "spool"), 1 << 20),
        read_back=None,
        next_abandoned=lambda: left.pop(0) if left else None,
    )
    made = delivery(spool_writer=writer)
    made.hours.holds = True
    made.flusher.expect()
    wait_until(lambda: first.is_closed, "it is left to others")
    assert (first.done_with, made.hours.waits, len(posthog_server.requests)) == ([], [], 1)
    assert not second.is_closed
    made.hours.now += 601
    wait_until(lambda: second.is_closed, "it is tried again after ten minutes")
    assert second.done_with == [7]
    assert len(posthog_server.events) == 1


class TestPrograms:
    """Under the launcher, against the recording PostHog."""

    @pytest.mark.parametrize("fault", REFUSALS, ids=REFUSAL_NAMES)
    def test_a_refusal_is_said_once_and_what_waits_is_tried_at_the_end(self, run_program, posthog_server, fault):
        posthog_server.fail_next(fault)
        ran = run_program(
            CALL + "call('one')\nprint(posthog_autoinstrument.flush(50))\ncall('two')\n"
            "print(posthog_autoinstrument.flush(50))\n",
            env=FAST,
        )
        assert ran.stdout == "False\nFalse\n"
        (line,) = ran.stderr.splitlines()
        assert line.endswith("; delivery pauses and is tried again in 10 minutes, then every hour")
        assert f"{fault.status} from 127.0.0.1: " in line
        assert asked(ran.events) == ["one", "two"]

    def test_at_the_end_there_is_one_attempt(self, run_program, posthog_server):
        posthog_server.fail_next(*[Fault(401)] * 100)
        ran = run_program(
            CALL + "call('one')\nprint(posthog_autoinstrument.flush(50))\nfor text in 'abc': call(text)\n",
            env={"POSTHOG_AUTOINSTRUMENT_FLUSH_AT": "1", **FAST},
        )
        assert ran.stdout == "False\n"
        assert len(posthog_server.requests) == 2
        said, lost = ran.stderr.splitlines()
        assert f"401 from 127.0.0.1: the project token is not accepted ({REMEDY}); delivery pauses" in said
        assert "4 events were lost (4: 401 from 127.0.0.1: the project token is not accepted (" in lost

    def test_a_program_that_ends_at_once_promises_no_later_attempt(self, run_program, posthog_server):
        posthog_server.fail_next(Fault(401))
        ran = run_program(CALL + "call('one')\n", env={"POSTHOG_AUTOINSTRUMENT_FLUSH_INTERVAL_S": "60"})
        said, lost = ran.stderr.splitlines()
        assert said.endswith(f"401 from 127.0.0.1: the project token is not accepted ({REMEDY})")
        assert "1 event was lost" in lost

    def test_over_quota_events_stay_in_the_spool(self, run_program, posthog_server, tmp_path):
        spool = tmp_path / "spool"
        posthog_server.fail_next(OVER_QUOTA)
        ran = run_program(CALL + "call('one')\n", env={"POSTHOG_SPOOL": str(spool)})
        assert "over its quota" in ran.stderr
        assert "1 event stays in the spool" in ran.stderr
        assert ran.events == []
        ran = run_program(CALL + "call('two')\n", env={"POSTHOG_SPOOL": str(spool)})
        assert asked(posthog_server.events) == ["one", "two"]
        assert list(spool.iterdir()) == []

    def test_a_404_of_a_proxy_for_a_moment_ends_nothing(self, run_program, posthog_server):
        posthog_server.fail_next(Fault(404), Fault(404))
        ran = run_program(
            CALL + "for text in 'abc':\n    call(text)\n    print(posthog_autoinstrument.flush(30))\n",
        )
        assert ran.stdout == "True\nTrue\nTrue\n"
        assert (asked(ran.events), ran.stderr) == (["a", "b", "c"], "")
        assert {request.path for request in posthog_server.requests} == {"/i/v0/ai/batch/"}
