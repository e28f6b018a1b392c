"""Damaged answers of every kind: the program sees what it would have seen without us, and no event is lost.

`make fuzz FUZZ_CASES=100000 FUZZ_SEED=5` runs more of them; each failure names the case, which `FUZZ_FROM` repeats.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from support.calls import SHAPES
from support.own_process import POSTHOG

import posthog_autoinstrument
from posthog_autoinstrument import posthog_context
from posthog_autoinstrument.testing import OpenAIServer

pytest.importorskip("openai.types.responses")  # the fuzzer knows answers of all endpoints
from support.fuzz import Fuzzed, drive, make
from support.fuzz.bare import Bare

CASES = int(os.environ.get("FUZZ_CASES", "240"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))
FROM = int(os.environ.get("FUZZ_FROM", "0"))
BATCH = 60
"""Cases between two looks at the events."""


@pytest.fixture
def bare() -> Iterator[Bare]:
    process = Bare()
    yield process
    process.close()


def compare(case: Fuzzed, bare: Bare, server: OpenAIServer) -> list[str]:
    """Run a case in both processes; what the program saw, which must be the same."""
    call = SHAPES[case.endpoint].called(case.mode, case.is_async)
    server.script(case.answer)
    without = bare.outcome(base_url=server.base_url, **call)
    server.script(case.answer)
    with posthog_context(trace_id=f"fuzz-{case.name}"):
        seen = drive.outcome(server.base_url, **call)
    assert seen == without, f"case {case.name} {case}"
    return seen


def check_events(cases: list[Fuzzed], refused: int) -> None:
    """There is one event of each case, and PostHog took them all."""
    assert posthog_autoinstrument.flush(30)
    traces = Counter(event["properties"].get("$ai_trace_id") for event in POSTHOG.events)
    wrong = {case.name: traces[f"fuzz-{case.name}"] for case in cases if traces[f"fuzz-{case.name}"] != 1}
    assert not wrong, f"events of these cases: {wrong}; {[case for case in cases if case.name in wrong][:3]}"
    assert sum(request.status != 200 for request in POSTHOG.requests) == refused


@pytest.mark.timeout(0 if CASES > 1000 else 180)
def test_damaged_answers(bare: Bare) -> None:
    started, raised = time.monotonic(), 0
    refused = sum(request.status != 200 for request in POSTHOG.requests)
    with OpenAIServer() as server:
        for first in range(FROM, FROM + CASES, BATCH):
            cases = [make(SEED, number) for number in range(first, min(first + BATCH, FROM + CASES))]
            raised += sum(any(line.startswith("raised") for line in compare(case, bare, server)) for case in cases)
            check_events(cases, refused)
            if CASES > 1000:
                print(f"\r{first + len(cases) - FROM} cases, {raised} raised", end="", flush=True)
        drive.close(server.base_url)
    print(f"\nseed {SEED}: {CASES} cases, {raised} raised, in {time.monotonic() - started:.0f} s")
    assert CASES < 100 or 0 < raised < CASES, "all cases are alike"


def test_a_case_can_be_made_again() -> None:
    assert make(3, 7) == make(3, 7) != make(3, 8)
