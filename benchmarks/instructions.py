"""Instructions a call costs, counted by valgrind's callgrind: figures that do not depend on how busy the machine is.

The program marks the ends of what it measures by `os.getsid(0)`: callgrind writes the costs of that thread so far
whenever libc's `getsid` is entered, so one process yields many counts, without its start-up. What other threads cost is
known for a whole process only: of two processes with different numbers of calls the difference is taken.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import report
from harness import BARE, BUILD, OURS, Bench, Contestant, said

T = TypeVar("T")
SETTINGS = {
    "PYTHONHASHSEED": "0",
    # Nothing is sent by the clock, which runs 50 times as fast as the program: at 100 events, and at the end.
    "POSTHOG_AUTOINSTRUMENT_FLUSH_INTERVAL_S": "300",
}


@dataclass(frozen=True)
class Counted:
    """What callgrind counted in one process."""

    parts: tuple[int, ...]
    """Instructions of the main thread from mark to mark."""
    others: int
    """Instructions of all other threads, from start to end."""


def missing() -> str:
    """Why nothing can be counted; empty where it can."""
    return "" if shutil.which("valgrind") else "valgrind is not installed: no instructions are counted"


def at_once(take: Callable[[Contestant], T], contestants: Sequence[Contestant]) -> list[T]:
    """What `take` says of each. Two at a time: counts do not depend on what else the machine does."""
    with ThreadPoolExecutor(2) as pool:
        return [*pool.map(take, contestants)]


def count(bench: Bench, contestant: Contestant, scenario: str, **wanted: Any) -> Counted:
    """Run the program below callgrind."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        callgrind = ["valgrind", "--tool=callgrind", "--separate-threads=yes", "--dump-before=getsid"]
        command = [
            *callgrind,
            f"--callgrind-out-file={out}",
            *bench.command(contestant, scenario, marks=True, **wanted),
        ]
        done = subprocess.run(
            command,
            env={**bench.environ_of(contestant), **SETTINGS},
            cwd=BUILD,
            capture_output=True,
            text=True,
            timeout=3600,
        )
        if done.returncode:
            raise RuntimeError(f"{contestant.name}, {scenario}, below callgrind: {done.stderr[-2000:]}")
        parts: dict[int, int] = {}
        others = 0
        for file in Path(folder).iterdir():
            thread = re.search(r"-(\d+)$", file.name)
            total = re.search(r"^totals: (\d+)$", file.read_text(), re.MULTILINE)
            if thread is None or total is None:
                continue
            if int(thread[1]) == 1:
                number = re.search(r"\.(\d+)-01$", file.name)
                parts[int(number[1]) if number else 1 << 30] = int(total[1])
            else:
                others += int(total[1])
    in_order = [parts[number] for number in sorted(parts)]
    return Counted(tuple(in_order[1:-1]), others)  # without start-up and end


COUNTED = {
    "chat 1 KB": ("chat", {"warm": 10}, 40),
    "chat 100 KB": ("chat", {"warm": 4, "size": 102_400}, 20),
    "stream of 200 chunks": ("stream", {"warm": 2}, 3),
}
"""Name -> scenario, what it wants, calls of the shorter run; the longer one makes three times as many."""


Counts = dict[str, dict[str, dict[str, float]]]
"""Scenario -> contestant -> instructions of the calling thread, and of all threads."""


def counted(bench: Bench, contestants: Sequence[Contestant]) -> tuple[list[list[str]], Counts]:
    """The table, and what stands in it."""
    found = per_call(bench, contestants) | starts(bench, contestants)
    return rows(found, report.last("instructions")), found


def per_call(bench: Bench, contestants: Sequence[Contestant]) -> Counts:
    """Instructions a call of each scenario."""
    found: Counts = {}
    for name, (scenario, wanted, calls) in COUNTED.items():
        said(f"  instructions, {name}")

        def of_one(
            one: Contestant, scenario: str = scenario, wanted: dict[str, Any] = wanted, calls: int = calls
        ) -> dict[str, float]:
            few = count(bench, one, scenario, calls=calls, **wanted)
            many = count(bench, one, scenario, calls=3 * calls, **wanted)
            caller = (many.parts[0] - few.parts[0]) / (2 * calls)
            others = (many.others - few.others) / (2 * calls)
            return {"caller": round(caller), "all": round(caller + others)}

        counts = at_once(of_one, contestants)
        found[name] = {one.name: each for one, each in zip(contestants, counts, strict=True)}
    return found


def of_callers(bench: Bench, contestants: Sequence[Contestant]) -> tuple[list[list[str]], dict[str, float]]:
    """Instructions of a chat call of 1 KB on the caller's thread only. What other tools do beside it is done by the
    clock, which below callgrind runs too fast."""
    scenario, wanted, calls = COUNTED["chat 1 KB"]

    def of_one(one: Contestant) -> float | str:
        said(f"  instructions: {one.name}")
        try:
            return count(bench, one, scenario, calls=calls, **wanted).parts[0] / calls
        except (RuntimeError, IndexError, subprocess.TimeoutExpired) as error:
            return f"does not run below callgrind: {str(error).strip().splitlines()[-1][:100]}"

    found: dict[str, float] = {}
    shown = [["chat call of 1 KB, caller's thread", "thousands of instructions", "of bare's"]]
    for one, counted in zip(contestants, at_once(of_one, contestants), strict=True):
        if isinstance(counted, str):
            shown.append([one.name, counted, ""])
            continue
        found[one.name] = counted
        by = found[one.name] - found[BARE]
        cells = [f"{by / 1000:+,.0f}", f"{100 * by / found[BARE]:+.1f} %"]
        shown.append([one.name, *cells] if one.name != BARE else [BARE, f"{found[BARE] / 1000:,.0f}", ""])
    return shown, found


def starts(bench: Bench, contestants: Sequence[Contestant]) -> Counts:
    """Instructions of an interpreter that does nothing, and of one that imports openai."""
    found: Counts = {}
    for name in ("pass", "import openai"):
        for one in contestants:
            said(f"  instructions, {name}: {one.name}")
            command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", one.python, "-c", name]
            environ = {**bench.environ_of(one), **SETTINGS}
            done = subprocess.run(command, env=environ, cwd=BUILD, capture_output=True, text=True, check=True)
            refs = re.search(r"Collected : (\d+)", done.stderr)
            assert refs is not None, done.stderr
            found.setdefault(f"python -c {name!r}", {})[one.name] = {"caller": int(refs[1]), "all": int(refs[1])}
    return found


def rows(found: Counts, before: dict[str, Any]) -> list[list[str]]:
    """What ours adds to bare, in thousands of instructions and in percent of bare; and what it added the last time."""
    shown = [["thousands of instructions", "bare", "added on the caller's thread", "added, all threads"]]
    if before:
        shown[0].append(f"before, at {before['revision']}")
    for scenario, counts in found.items():
        cells = [f"{by / 1000:+,.1f} ({100 * by / counts[BARE][who]:+.2f} %)" for who, by in ours(counts).items()]
        old = before.get("instructions", {}).get(scenario)
        if before:
            cells.append(", ".join(f"{by / 1000:+,.1f}" for by in ours(old).values()) if old else "")
        shown.append([scenario, f"{counts[BARE]['all'] / 1000:,.0f}", *cells])
    return shown


def ours(counts: dict[str, dict[str, float]]) -> dict[str, float]:
    """What ours adds to bare: on the caller's thread, on all."""
    return {who: counts[OURS][who] - counts[BARE][who] for who in ("caller", "all")}
