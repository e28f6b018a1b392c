"""A long life: 200,000 calls in one process, with its resident memory drawn over time.

    make soak                              # writes benchmarks/results/soak.json and soak.svg
    python benchmarks/soak.py --calls 5000 --python .venv-edit/bin/python

The calls are answered inside the process; their events go to the sink over HTTP. Passes when, over the second half, the
straight line through the samples rises by less than 1 MiB for 100,000 calls, and every event was delivered; exit code 1
otherwise.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence

import report
from environments import python_of
from harness import BARE, BUILD, OURS, RESULTS, Bench, said

MIB = 1024 * 1024
ALLOWED_MIB = 1.0
"""For 100,000 calls: 10 bytes a call. A leaked object for each call is 5 at least."""


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--calls", type=int, default=200_000)
    parser.add_argument("--python", default="", help="an interpreter with the agent; by default one is made")
    parser.add_argument("--write", action="store_true", help="write the results, although the interpreter is given")
    options = parser.parse_args(arguments)
    BUILD.mkdir(parents=True, exist_ok=True)
    python = python_of(options.python)
    with Bench(python) as bench:
        lives = {}
        # Bare for a quarter of the way: it is there to show where the line would be.
        for one, calls in ((bench.bare(), options.calls // 4), (bench.ours(), options.calls)):
            said(f"{calls:,} calls: {one.name}")
            lives[one.name] = bench.long_run(one, "soak", calls=calls)
        came = bench.sink("stats")
    rises = {name: rise(life) for name, life in lives.items()}
    for name, life in lives.items():
        ends = f"{life[0]['rss'] / MIB:.1f} MiB after the first call, {life[-1]['rss'] / MIB:.1f} MiB at the end"
        print(f"{name}: {ends}; over the second half {rises[name]:+.2f} MiB for 100,000 calls")
    print(f"{came['delivered']:,} of {options.calls:,} events delivered")
    well = rises[OURS] < ALLOWED_MIB and came["delivered"] == options.calls
    if options.write or not options.python:
        facts = report.facts(python)
        shown = {"facts": facts, "calls": options.calls, "delivered": came["delivered"], "mib_per_100000": rises}
        report.store("soak", {**shown, "samples": lives})
        draw(lives)
    print("flat" if well else "NOT FLAT, OR EVENTS ARE MISSING")
    return 0 if well else 1


def rise(life: Sequence[dict[str, float]]) -> float:
    """MiB for 100,000 calls: the slope of the straight line through the second half."""
    half = life[len(life) // 2 :]
    line = statistics.linear_regression([one["calls"] for one in half], [one["rss"] for one in half])
    return line.slope * 100_000 / MIB


def draw(lives: dict[str, list[dict[str, float]]]) -> None:
    """Resident memory against calls."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "soak", "svg.fonttype": "none"})
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4))
    for name, color in ((BARE, "#8a8f98"), (OURS, "#1d4aff")):
        life = lives[name]
        axes.plot([one["calls"] for one in life], [one["rss"] / MIB for one in life], color=color, label=name)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("calls")
    axes.set_ylabel("resident memory, MiB")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(RESULTS / "soak.svg", metadata={"Date": None}, bbox_inches="tight")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
