"""What is measured of every contestant, and how the figures are named in tables."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from harness import Bench, Contestant, Sample, Samples, in_turn, said

START = "import openai"
PASS = "python -c pass"


@dataclass(frozen=True)
class Scenario:
    """One way to use the client. `wanted` goes to the measured program."""

    name: str
    program: str
    wanted: dict[str, Any] = field(default_factory=dict)
    quick: dict[str, Any] = field(default_factory=dict)

    def of(self, quick: bool) -> dict[str, Any]:
        return {**self.wanted, **(self.quick if quick else {})}


SCENARIOS = (
    Scenario("chat 1 KB", "chat", {"calls": 300, "warm": 20}, {"calls": 60}),
    Scenario("chat 100 KB", "chat", {"calls": 100, "size": 102_400}, {"calls": 20}),
    Scenario("stream of 200 chunks", "stream", {"calls": 25, "warm": 5}, {"calls": 5, "warm": 2}),
    Scenario("50 async tasks", "tasks", {"calls": 500, "warm": 50}, {"calls": 100}),
    Scenario("16 threads", "threads", {"calls": 480, "tasks": 16, "warm": 20}, {"calls": 64}),
    Scenario("embeddings 100 x 1536", "embeddings", {"calls": 25, "warm": 5}, {"calls": 5, "warm": 2}),
)


def measure(bench: Bench, contestants: Sequence[Contestant], rounds: int, quick: bool, only: str) -> dict[str, Samples]:
    """Scenario -> samples of every contestant, in turn."""
    found: dict[str, Samples] = {}
    for scenario in SCENARIOS:
        if only in scenario.name.lower():
            said(f"  {scenario.name}")
            wanted = scenario.of(quick)
            found[scenario.name] = in_turn(
                contestants,
                rounds,
                lambda one, s=scenario, w=wanted: bench.sample(one, s.program, **w),  # type: ignore[misc]
            )
    if only in f"start-up, {START}, {PASS}".lower():
        said("  start-up")
        found[PASS] = in_turn(contestants, rounds * 4, lambda one: started_bare(bench, one))
        found[START] = in_turn(contestants, rounds * 2, lambda one: started(bench, one))
    return found


def why_not(bench: Bench, one: Contestant, only: str) -> str:
    """Why a contestant cannot be measured: the last words of the first scenario that it fails. Empty where it can."""
    for scenario in SCENARIOS:
        if only not in scenario.name.lower():
            continue
        try:
            bench.sample(one, scenario.program, **{**scenario.of(True), "warm": 1})
        except (RuntimeError, ValueError, subprocess.TimeoutExpired) as error:
            return f"{scenario.name}: {str(error).strip().splitlines()[-1]}"
    return ""


def started_bare(bench: Bench, one: Contestant) -> Sample:
    """An interpreter that does nothing. A tool that a program switches on in its code costs nothing here."""
    return bench.start(one, "-c", "pass")


def started(bench: Bench, one: Contestant) -> Sample:
    """The program up to its first call."""
    return bench.start(one, *bench.command(one, "start")[1:])


def delivered(samples: Samples, name: str) -> tuple[int, int]:
    """Events that arrived, with content, and those made."""
    return sum(one["sink"]["delivered"] for one in samples[name]), sum(one["made"] for one in samples[name])
