"""What the agent costs: ours against bare, the same program in fresh processes, in turn.

    make bench                             # everything; writes benchmarks/results/ and docs/performance.md
    make bench BENCH=quick                 # a sanity check; writes nothing
    make bench ONLY=growth                 # one part, or the scenarios with that word in their name; writes nothing
    python benchmarks/bench.py --only chat --python .venv-edit/bin/python    # of an environment of yours

Parts: the scenarios of `scenarios.py`, growth, caller's thread, queue, durable mode, gaps, instructions.

Shown are medians of the differences between the two runs of a round, and how far they may be trusted: half of the range
in which the middle half of the differences lies. On a busy machine the CPU of the caller says more than the wall, and
the instruction count, which does not depend on it, more than both.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import growth
import instructions
import report
from environments import python_of
from harness import BARE, BUILD, OURS, Bench, said
from scenarios import measure

ON_THE_PAGE = ("Growth", "Durable mode", "Instructions a call")


def parser(doc: str) -> argparse.ArgumentParser:
    """What `make bench` and `make bench-peers` take."""
    made = argparse.ArgumentParser(description=doc.partition("\n")[0])
    quick = os.environ.get("BENCH") == "quick"
    made.add_argument("--quick", action="store_true", default=quick, help="little of everything; writes nothing")
    made.add_argument("--rounds", type=int, default=0)
    only = "parts and scenarios whose name has this in it; writes nothing"
    made.add_argument("--only", default="", type=str.lower, help=only)
    made.add_argument("--python", default="", help="an interpreter that has the agent; by default one is made")
    made.add_argument("--no-instructions", dest="instructions", action="store_false", help="leave callgrind out")
    made.add_argument("--write", action="store_true", help="write the results all the same")
    made.add_argument("--json", default="", help="also write the samples to this file")
    return made


def writes(options: argparse.Namespace) -> bool:
    """Whether the run is whole and its results may be kept: one part would take the place of all on the page."""
    return not options.only and (options.write or not (options.quick or options.python or options.rounds))


def main(arguments: Sequence[str]) -> int:
    options = parser(__doc__ or "").parse_args(arguments)
    BUILD.mkdir(parents=True, exist_ok=True)
    python = python_of(options.python)
    rounds = options.rounds or (2 if options.quick else 11)
    counting = options.instructions and not options.quick and not instructions.missing()
    results: dict[str, Any] = {"facts": report.facts(python), "rounds": rounds}
    tables: list[tuple[str, list[list[str]]]] = []
    failed: list[str] = []
    with Bench(python) as bench:
        said("ours against bare")
        both = [bench.bare(), bench.ours()]
        measured = measure(bench, both, rounds, options.quick, options.only)
        if measured:
            results["samples"] = measured
            tables = [("Costs", report.main_rows(measured, [BARE, OURS]))]
            tables += [("All scenarios", report.scenario_rows(measured, [BARE, OURS]))]
            show(tables)
        parts: dict[str, Callable[[], tuple[list[list[str]], Any]]] = {
            "Growth": lambda: growth.growth(bench, both, 1 if options.quick else 5, options.quick, counting),
            "Caller's thread": lambda: growth.profiled(bench, options.quick),
            "Queue": lambda: growth.queued(bench, options.quick),
            "Durable mode": lambda: growth.durable(bench, rounds),
            "Gaps": lambda: growth.held(bench, options.quick),
            "Instructions a call": lambda: instructions.counted(bench, both),
        }
        if not counting:
            del parts["Instructions a call"]
            said(instructions.missing() or "instructions are not counted")
        for title, take in parts.items():
            if options.only in title.lower():
                try:
                    rows, results[title.lower()] = take()
                except (RuntimeError, ValueError, subprocess.TimeoutExpired) as error:
                    said(f"{title} failed, the other parts go on: {error}")
                    failed.append(title)
                    continue
                tables.append((title, rows))
                show(tables[-1:])
    if options.only and not (tables or failed):
        raise SystemExit(f"no part and no scenario has {options.only!r} in its name")
    if options.json:
        Path(options.json).write_text(json.dumps(results))
    if "instructions a call" in results and (writes(options) or options.only):
        report.append("instructions", {**results["facts"], "instructions": results["instructions a call"]})
    if writes(options):
        report.keep("bench", results, tables, [])
        if not failed:  # a table that is missing would not show there
            chosen = [(title, rows) for title, rows in tables if title in ON_THE_PAGE]
            report.write_page("bench", report.document(results, chosen))
    return 1 if failed else 0


def show(tables: Sequence[tuple[str, list[list[str]]]]) -> None:
    for title, rows in tables:
        print(f"{title}\n\n{report.markdown(rows)}\n", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
