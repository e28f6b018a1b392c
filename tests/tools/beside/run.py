"""Other tools and the agent in one program: the program sees what it sees with the tool alone, and both get every call.

    make beside  # all of them, in the environments of make bench-peers
    python tests/tools/beside/run.py --wheel W sentry langfuse

Each tool is switched on as `benchmarks/contestants/` does it, before openai is imported and after a client was made.
PostHog's own wrapper is the exception: what it captures, the agent leaves to it. Exit code 1 on any difference.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import peers  # noqa: E402
from environments import CannotInstall  # noqa: E402
from harness import BUILD, Bench, Contestant  # noqa: E402

from posthog_autoinstrument.testing import OpenAIServer, PostHogServer  # noqa: E402

CALLS = 13
"""The program makes so many."""
MARK = re.compile(r"\[call \d+\]")
TIMEOUT_S = 120.0


def main() -> int:
    """Run the program beside the tools that were asked for; 0 when nothing was lost, doubled or changed."""
    parser = argparse.ArgumentParser(description="Run a program with another tool and the agent in it.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(peer.name for peer in peers.PEERS))
    parser.add_argument("--wheel", required=True, help="the package, installed apart from the environments")
    options = parser.parse_args()
    BUILD.mkdir(parents=True, exist_ok=True)
    ours = BUILD / "beside"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    subprocess.run([*pip, "--upgrade", "--target", str(ours), options.wheel], check=True)
    wrong = 0
    with Bench(sys.executable) as bench:
        for peer in peers.PEERS:
            if options.names and not any(name in peer.name for name in options.names):
                continue
            try:
                made = peers.contestant(peer)
            except CannotInstall as error:
                print(f"{peer.name}: cannot be installed: {error}")
                continue
            for order in ("before", "after"):
                found = differences(bench, made, order, ours)
                wrong += len(found)
                print(f"{made.name:<32} switched on {order:<7} {'; '.join(found) or 'both complete'}", flush=True)
    return 1 if wrong else 0


def differences(bench: Bench, made: Contestant, order: str, ours: Path) -> list[str]:
    """What is not as it should be."""
    alone, told_alone, _ = run(bench, made, order, None)
    both, told, events = run(bench, made, order, ours)
    found = []
    if both.stdout != alone.stdout or both.returncode != alone.returncode:
        found.append(f"the program saw something else: {both.stderr[-300:]!r}")
    if told != told_alone:
        found.append(f"the tool got {told} calls and alone {told_alone}")
    doubled = [mark for mark, times in events.items() if times > 1]
    if doubled:
        found.append(f"twice in ours: {', '.join(doubled)}")
    # The wrapper records what goes through its clients, but for raw responses and `.stream()`.
    wanted = CALLS - told if "posthog" in made.name else CALLS
    if len(events) != wanted:
        found.append(f"{len(events)} of {wanted} calls in ours; {both.stderr[-300:]!r}")
    return found


def run(
    bench: Bench, made: Contestant, order: str, ours: Path | None
) -> tuple[subprocess.CompletedProcess[str], int, Counter[str]]:
    """The program, how many calls the tool's receiver knows of, and how often each is among our events."""
    bench.sink("reset")
    with OpenAIServer() as model, PostHogServer() as posthog:
        environ = bench.environ_of(made)
        environ["OPENAI_BASE_URL"] = model.base_url
        command = [made.python, str(HERE / "program.py"), str(ROOT / "benchmarks" / "contestants" / made.setup), order]
        if ours is not None:
            path = environ.get("PYTHONPATH")
            environ["PYTHONPATH"] = os.pathsep.join([str(ours), path] if path else [str(ours)])
            environ |= {"POSTHOG_PROJECT_TOKEN": "phc_beside", "POSTHOG_HOST": posthog.url}
            environ["POSTHOG_AUTOINSTRUMENT_RAISE"] = "1"
            command[:0] = [made.python, "-m", "posthog_autoinstrument"]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=TIMEOUT_S, cwd=BUILD)
        marks = Counter(mark for event in posthog.events for mark in marks_of(event))
    return done, bench.sink("stats")["delivered"], marks


def marks_of(event: dict[str, Any]) -> list[str]:
    """The calls that an event tells of."""
    return MARK.findall(str(event["properties"].get("$ai_input")))


if __name__ == "__main__":
    sys.exit(main())
