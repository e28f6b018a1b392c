"""A program that calls as fast as it can, while PostHog is slow: what the program notices, and the memory it costs.

    make backpressure                        # threads and tasks, about three minutes
    python benchmarks/backpressure.py --calls 2000

50 threads, or 500 asyncio tasks, call a fake model in tight loops with prompts of 20 KB. Three runs, one after another
and in turn: bare; launched with a PostHog that answers at once; launched with one that takes 5 s for each batch. Shown
are ratios to the bare run of the same round: the median and the 99th percentile of a call, and the peak of resident
memory. Every call must be delivered or counted as lost (or both, where the answer did not come before the exit), and
the peak must not be more than the queue's bound over that of the bare run: exit code 1 otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posthog_autoinstrument.testing import Fault, OpenAIServer, PostHogServer

MIB = 1024 * 1024
PROMPT_CHARS = 20_000
BOUND_MIB = 64
"""The default of POSTHOG_AUTOINSTRUMENT_QUEUE_MAX_BYTES."""

PROGRAM = """
import asyncio, json, resource, sys, threading, time
import openai
way, n_calls, n_chars = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
chat = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "x" * n_chars}]}
took = []

def thread(client, calls):
    for _ in range(calls):
        started = time.perf_counter()
        client.chat.completions.create(**chat)
        took.append(time.perf_counter() - started)

async def task(client, calls):
    for _ in range(calls):
        started = time.perf_counter()
        await client.chat.completions.create(**chat)
        took.append(time.perf_counter() - started)

async def tasks():
    client = openai.AsyncOpenAI(max_retries=5, timeout=120)
    await asyncio.gather(*(task(client, n_calls // 500) for _ in range(500)))

if way == "threads":
    client = openai.OpenAI(max_retries=5, timeout=120)
    threads = [threading.Thread(target=thread, args=(client, n_calls // 50)) for _ in range(50)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
else:
    asyncio.run(tasks())
if sys.platform == "linux":  # its ru_maxrss is at least what the process that started this one held
    with open("/proc/self/status") as status:
        (peak,) = (int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
else:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"took": took, "peak": peak}))
"""


@dataclass
class Run:
    """What one run showed."""

    median_s: float
    p99_s: float
    peak_bytes: int
    n_calls: int
    n_delivered: int
    n_lost: int


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--calls", type=int, default=5_000, help="in each run")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args(arguments)
    print(f"{options.calls} calls of {PROMPT_CHARS:,} characters a run; ratios to the bare run of the same round")
    print(f"{'':28}{'median':>8}{'p99':>8}{'peak over bare':>18}{'delivered':>11}{'lost':>7}")
    well = True
    peak = 0.0
    for way in ("threads", "tasks"):
        for number in range(options.rounds):
            bare = run(way, options.calls, launched=False)
            for name, faults in (("fast", ()), ("slow", [Fault(200, delay_s=5.0, recorded=True)] * 10_000)):
                seen = run(way, options.calls, launched=True, faults=faults)
                over = (seen.peak_bytes - bare.peak_bytes) / MIB
                print(
                    f"{way + ', PostHog ' + name + f' ({number + 1})':28}{seen.median_s / bare.median_s:8.2f}"
                    f"{seen.p99_s / bare.p99_s:8.2f}{over:13.0f} MiB{seen.n_delivered:13}{seen.n_lost:7}",
                    flush=True,
                )
                well = well and seen.n_delivered + seen.n_lost >= seen.n_calls  # more: lost for us, taken by PostHog
                peak = max(peak, over)
    print("every call was delivered or counted" if well else "CALLS ARE MISSING: neither delivered nor counted")
    print(f"at most {peak:.0f} MiB over bare; the bound is {BOUND_MIB} MiB" + ("" if peak <= BOUND_MIB else ": BROKEN"))
    return 0 if well and peak <= BOUND_MIB else 1


def run(way: str, n_calls: int, launched: bool, faults: Sequence[Fault] = ()) -> Run:
    """One run of the program, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder, OpenAIServer() as openai_server, PostHogServer() as posthog:
        posthog.fail_next(*faults)
        program = Path(folder) / "program.py"
        program.write_text(PROGRAM)
        environ = {name: text for name, text in os.environ.items() if not name.startswith(("POSTHOG_", "OPENAI_"))}
        environ |= {"OPENAI_BASE_URL": openai_server.base_url, "OPENAI_API_KEY": "sk-test"}
        environ |= {"POSTHOG_PROJECT_TOKEN": "phc_of_the_benchmark", "POSTHOG_HOST": posthog.url}
        launcher = [sys.executable, "-m", "posthog_autoinstrument"] if launched else []
        done = subprocess.run(
            [*launcher, sys.executable, str(program), way, str(n_calls), str(PROMPT_CHARS)],
            env=environ,
            capture_output=True,
            text=True,
            check=True,
        )
        told: dict[str, Any] = json.loads(done.stdout)
        took = sorted(told["took"])
        said = re.findall(r"(\d+) events? w\w+ lost", done.stderr)
        return Run(
            statistics.median(took),
            took[int(len(took) * 0.99)],
            told["peak"],
            len(openai_server.requests),
            len({event["uuid"] for event in posthog.events}),
            sum(map(int, said)),
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
