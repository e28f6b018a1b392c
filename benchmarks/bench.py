"""What the agent costs: ours against bare, the same program in fresh processes, in turn.

    make bench                             # everything; writes benchmarks/results/ and README.md
    make bench BENCH=quick                 # a sanity check in two minutes; writes nothing
    python benchmarks/bench.py --only chat --python .venv-edit/bin/python    # a part, of an environment of yours

Shown are medians of the differences between the two runs of a round, and how far they may be trusted: half of the range
in which the middle half of the differences lies. On a busy machine the CPU of the caller says more than the wall, and
the instruction count, which does not depend on it, more than both.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

import growth
import instructions
import report
from environments import python_of
from harness import BARE, BUILD, OURS, Bench, said
from scenarios import measure


def parser(doc: str) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=doc.partition("\n")[0])
    made.add_argument(
        "--quick", action="store_true", default=os.environ.get("BENCH") == "quick", help="few, and write nothing"
    )
    made.add_argument("--rounds", type=int, default=0)
    made.add_argument("--only", default="", help="scenarios whose name has this in it")
    made.add_argument("--no-instructions", dest="instructions", action="store_false", help="leave callgrind out")
    made.add_argument("--write", action="store_true", help="write README.md and benchmarks/results")
    made.add_argument("--python", default="", help="an interpreter with the agent; by default one is made")
    return made


def main(arguments: Sequence[str]) -> int:
    options = parser(__doc__ or "").parse_args(arguments)
    BUILD.mkdir(parents=True, exist_ok=True)
    python = python_of(options.python)
    rounds = options.rounds or (2 if options.quick else 11)
    tables: list[tuple[str, list[list[str]]]] = []
    results: dict[str, Any] = {"facts": report.facts(python)}
    with Bench(python) as bench:
        said("ours against bare")
        contestants = [bench.bare(), bench.ours()]
        measured = measure(bench, contestants, rounds, options.quick, options.only)
        if measured:
            names = [BARE, OURS]
            tables += [("Costs", report.main_rows(measured, names)), ("", report.scenario_rows(measured, names))]
            results["samples"] = measured
        show(tables)
        counting = options.instructions and not options.quick and not instructions.missing()
        for title, take in (
            ("Growth", lambda: growth.growth(bench, contestants, 1 if options.quick else 5, options.quick, counting)),
            ("Queue", lambda: growth.queued(bench, options.quick)),
            ("Durable mode", lambda: growth.durable(bench, rounds)),
            ("Gaps", lambda: growth.held(bench, options.quick)),
        ):
            if options.only in title.lower():
                rows, results[title.lower()] = take()
                tables.append((title, rows))
                show(tables[-1:])
        if instructions.missing():
            said(instructions.missing())
        elif counting:
            counted = instructions.per_call(bench, contestants, options.only)
            if options.only in "instructions start":
                counted |= instructions.starts(bench, contestants)
            tables.append(("Instructions a call", instructions.rows(counted)))
            show(tables[-1:])
            results["instructions"] = counted
            if options.write:
                report.append("instructions", {**results["facts"], "instructions": counted})
    return 0


def show(tables: Sequence[tuple[str, list[list[str]]]]) -> None:
    for title, rows in tables:
        print(f"{title}\n\n{report.markdown(rows)}\n" if title else f"{report.markdown(rows)}\n", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
