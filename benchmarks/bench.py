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
    made.add_argument("--python", default="", help="an interpreter with the agent; by default one is made")
    return made


def main(arguments: Sequence[str]) -> int:
    options = parser(__doc__ or "").parse_args(arguments)
    BUILD.mkdir(parents=True, exist_ok=True)
    python = python_of(options.python)
    with Bench(python) as bench:
        said("ours against bare")
        contestants = [bench.bare(), bench.ours()]
        measured = measure(
            bench, contestants, options.rounds or (2 if options.quick else 11), options.quick, options.only
        )
    names = [BARE, OURS]
    tables = [report.main_rows(measured, names), report.scenario_rows(measured, names)]
    print("\n\n".join(map(report.markdown, tables)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
