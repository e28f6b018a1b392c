"""What all benchmarks share: the fake model and the sink as processes, fresh processes to measure, turns, medians."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
BUILD = ROOT / "build" / "bench"
RESULTS = HERE / "results"
BARE, OURS, DURABLE = "bare", "ours", "ours, spool"

Sample = dict[str, Any]
Samples = dict[str, list[Sample]]
"""Contestant -> one sample a round, in order."""


@dataclass(frozen=True)
class Contestant:
    """A way to run the measured program."""

    name: str
    python: str
    environ: dict[str, str] = field(default_factory=dict)
    setup: str = ""
    """A file of `contestants/`; empty: none."""


class Bench:
    """The servers of one run, and how a sample is taken. A context manager."""

    def __init__(self, python: str) -> None:
        self._python = python
        self._stack = ExitStack()

    def __enter__(self) -> Bench:
        self.model_url = self._server("model_server.py")
        self.sink_url = self._server("sink.py")
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _server(self, file: str) -> str:
        process = subprocess.Popen(
            [self._python, str(HERE / file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._stack.callback(process.wait, 10)
        assert process.stdin is not None
        assert process.stdout is not None
        self._stack.callback(process.stdin.close)  # it ends then
        return f"http://127.0.0.1:{int(process.stdout.readline())}"

    def sink(self, question: str) -> Any:
        with urllib.request.urlopen(f"{self.sink_url}/-/{question}", timeout=60) as answer:
            return json.load(answer)

    def bare(self) -> Contestant:
        return Contestant(BARE, self._python)

    def ours(self, name: str = OURS, **settings: str) -> Contestant:
        """The agent, by the environment that its launcher makes: what the launcher costs is another matter."""
        show = "import json, os; print(json.dumps(dict(os.environ)))"
        settings = {"POSTHOG_PROJECT_TOKEN": "phc_of_the_benchmark", "POSTHOG_HOST": self.sink_url, **settings}
        done = subprocess.run(
            [self._python, "-m", "posthog_autoinstrument", self._python, "-c", show],
            env=environment(settings),
            cwd=BUILD,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise SystemExit(f"the launcher failed: {done.stderr}")
        launched = json.loads(done.stdout)
        plain = environment({})
        return Contestant(name, self._python, {k: v for k, v in launched.items() if plain.get(k) != v}, "ours.py")

    def environ_of(self, contestant: Contestant) -> dict[str, str]:
        filled = {
            name: text.replace("{sink}", self.sink_url).replace("{port}", self.sink_url.rpartition(":")[2])
            for name, text in contestant.environ.items()
        }
        return environment({"BENCH_MODEL_URL": self.model_url, "BENCH_SINK_URL": self.sink_url, **filled})

    def command(self, contestant: Contestant, scenario: str, **wanted: Any) -> list[str]:
        setup = str(HERE / "contestants" / contestant.setup) if contestant.setup else ""
        told = json.dumps({"scenario": scenario, "setup": setup, **wanted})
        return [contestant.python, str(HERE / "program.py"), told]

    def sample(self, contestant: Contestant, scenario: str, **wanted: Any) -> Sample:
        """Run the program once. Raises RuntimeError with its last words where it fails."""
        self.sink("reset")
        done = subprocess.run(
            self.command(contestant, scenario, **wanted),
            env=self.environ_of(contestant),
            cwd=BUILD,
            capture_output=True,
            text=True,
            timeout=600,
        )
        if done.returncode:
            raise RuntimeError(f"{contestant.name}, {scenario}: exit code {done.returncode}: {done.stderr[-2000:]}")
        found = json.loads(done.stdout.rstrip().rpartition("\n")[2])
        shown: Sample = {"shown": found} if isinstance(found, list) else found
        return shown | {"sink": self.sink("stats")}

    def long_run(self, contestant: Contestant, what: str, **wanted: Any) -> list[dict[str, float]]:
        """Run `long_run.py` once; what it shows."""
        self.sink("reset")
        setup = str(HERE / "contestants" / contestant.setup) if contestant.setup else ""
        command = [contestant.python, str(HERE / "long_run.py"), json.dumps({"what": what, "setup": setup, **wanted})]
        environ = self.environ_of(contestant)
        done = subprocess.run(command, env=environ, cwd=BUILD, capture_output=True, text=True, timeout=3600)
        if done.returncode:
            raise RuntimeError(f"{contestant.name}, {what}: exit code {done.returncode}: {done.stderr[-2000:]}")
        found: list[dict[str, float]] = json.loads(done.stdout.rstrip().rpartition("\n")[2])
        return found

    def start(self, contestant: Contestant, *arguments: str) -> Sample:
        """Start an interpreter and wait for its end: wall and CPU."""
        began = time.perf_counter()
        pid = os.posix_spawn(
            contestant.python, [contestant.python, *arguments], {**self.environ_of(contestant), "PYTHONHASHSEED": "0"}
        )
        _, status, usage = os.wait4(pid, 0)
        took = time.perf_counter() - began
        if status:
            raise RuntimeError(f"{contestant.name}: {arguments} ended with status {status}")
        return {"wall_s": took, "all_s": usage.ru_utime + usage.ru_stime}


def environment(more: dict[str, str]) -> dict[str, str]:
    """The environment without what would switch something on; proxies would stand between us and loopback."""
    gone = ("POSTHOG_", "OPENAI_", "OTEL_", "DD_", "LANGFUSE_", "LOGFIRE_", "SENTRY_", "TRACELOOP_", "PYTHONPATH")
    plain = {k: v for k, v in os.environ.items() if not k.startswith(gone) and not k.lower().endswith("_proxy")}
    return {**plain, **more}


def in_turn(contestants: Sequence[Contestant], rounds: int, take: Callable[[Contestant], Sample]) -> Samples:
    """A B A B ...: what disturbs the machine disturbs all alike. Each sample is a fresh process.

    One that fails is taken again, once: a whole run takes long.
    """
    samples: Samples = {one.name: [] for one in contestants}
    for _ in range(rounds):
        for one in contestants:
            try:
                sample = take(one)
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                said(f"taken again: {error}")
                sample = take(one)
            samples[one.name].append(sample)
    return samples


def added(samples: Samples, name: str, figure: str) -> float:
    """How much more than bare: the median of the differences of the rounds."""
    return float(statistics.median(differences(samples, name, figure)))


def differences(samples: Samples, name: str, figure: str) -> list[float]:
    return [one[figure] - bare[figure] for one, bare in zip(samples[name], samples[BARE], strict=True)]


def ratio(samples: Samples, name: str, figure: str) -> float:
    pairs = zip(samples[name], samples[BARE], strict=True)
    return float(statistics.median(one[figure] / bare[figure] for one, bare in pairs))


def spread(samples: Samples, name: str, figure: str) -> float:
    """Half of the range in which the middle half of the differences lies: how far `added` may be trusted."""
    found = differences(samples, name, figure)
    if len(found) < 4:
        return float(max(found) - min(found)) / 2
    low, _, high = statistics.quantiles(found, n=4)
    return float(high - low) / 2


def median(samples: Samples, name: str, figure: str) -> float:
    return float(statistics.median(one[figure] for one in samples[name]))


def said(line: str) -> None:
    """Progress, on standard error: the tables go to standard output."""
    print(line, file=sys.stderr, flush=True)


def lines_of(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows as a Markdown table; the first is the head."""
    for number, row in enumerate(rows):
        yield "| " + " | ".join(row) + " |"
        if number == 0:
            yield "|" + "---|" * len(row)
