"""Real frameworks with PostHog's own integration in them, under the launcher: each call is in PostHog exactly once.

    make elsewhere                                                   # all of them
    python tests/tools/elsewhere/run.py langchain                    # some
    python tests/tools/elsewhere/run.py --environment DIR langchain  # with the Python of an environment that has it all

A framework is one file beside this one, `with_NAME.py`: a program, and in its header (inline script metadata) what it
needs. Its integration sends to one PostHog server, the agent to another. Every prompt begins by saying who
records its call:

    theirs: ...     one event from the integration, none from us
    ours: ...       one event from us, none from the integration
    nobody: ...     none

Events are held against prompts by this text, which stands in their input; a prompt may be asked several times
("ours 3: ..."). An integration that leaves the input out of an event
is met by "theirs: ... without input". Exit code 1 on any difference, and where the program fails.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from posthog_autoinstrument.testing import OpenAIServer, PostHogServer

HERE = Path(__file__).resolve().parent
ENVIRONMENTS = HERE.parents[2] / "build" / "elsewhere"
PREFIX = "with_"
TIMEOUT_S = 240.0
PROMPT = re.compile(r"(theirs|ours|nobody)(?: (\d+))?: [a-z0-9 ,.()_-]+")
KINDS = ("$ai_generation", "$ai_embedding")
QUIET = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_TELEMETRY": "False",
    "LANGSMITH_TRACING": "false",
    "LANGCHAIN_TRACING_V2": "false",
    "POSTHOG_AUTOINSTRUMENT_DEBUG": "1",
}


def main() -> int:
    """Run the programs that were asked for; 0 when every call was recorded once."""
    known = {path.stem.removeprefix(PREFIX): path for path in sorted(HERE.glob(PREFIX + "*.py"))}
    parser = argparse.ArgumentParser(description="Count the events of calls that another integration records too.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(known))
    parser.add_argument("--python", default=sys.executable, help="makes the environments")
    parser.add_argument("--wheel", help="the package to install into them")
    parser.add_argument("--environment", type=Path, help="use this one as it is, for all")
    options = parser.parse_args()
    wrong = 0
    for name in options.names or known:
        python = (options.environment or _environment(name, known[name], options.python, options.wheel)) / "bin/python"
        found, calls = _run(python, known[name])
        wrong += len(found)
        print(f"{name:<16}{calls:>4} calls  {'each recorded once' if not found else 'wrong:'}")
        for line in found:
            print(f"    {line}")
    return 1 if wrong else 0


def _environment(name: str, program: Path, python: str, wheel: str | None) -> Path:
    """The environment of a framework, made once; the package is installed into it anew."""
    folder = ENVIRONMENTS / name
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    if not (folder / ".made").exists():
        subprocess.run([python, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([*pip, *_dependencies(program), "wrapt", "requests"], check=True)
        (folder / ".made").touch()
    if wheel is not None:
        subprocess.run([*pip, "--force-reinstall", "--no-deps", wheel], check=True)
    return folder


def _dependencies(program: Path) -> list[str]:
    (line,) = re.findall(r"(?m)^# dependencies = (\[.*\])$", program.read_text())
    found: list[str] = json.loads(line)
    return found


def _run(python: Path, program: Path) -> tuple[list[str], int]:
    """What was wrong with a program's events, and how many calls it made."""
    with (
        OpenAIServer() as openai,
        PostHogServer() as ours,
        PostHogServer() as theirs,
        tempfile.TemporaryDirectory() as at,
    ):
        environ = {name: text for name, text in os.environ.items() if not name.startswith(("POSTHOG_", "OPENAI_"))}
        environ |= QUIET
        environ |= {
            "OPENAI_BASE_URL": openai.base_url,
            "OPENAI_API_KEY": "sk-test",
            "POSTHOG_PROJECT_TOKEN": "phc_ours",
            "POSTHOG_HOST": ours.url,
            "THEIR_POSTHOG": theirs.url,
            # What litellm's logger reads.
            "POSTHOG_API_KEY": "phc_theirs",
            "POSTHOG_API_URL": theirs.url,
        }
        command = [str(python), "-m", "posthog_autoinstrument", str(python), str(program)]
        done = subprocess.run(
            command, env=environ, cwd=at, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
        if done.returncode != 0:
            return [f"exit code {done.returncode}", *done.stderr.splitlines()[-15:]], len(openai.requests)
        prompts = Counter(text for request in openai.requests for text in _prompts(request.json()))
        found = list(_differences(prompts, ours.events, theirs.events))
        found += [line for line in done.stderr.splitlines() if "could not" in line]
        said = [line for line in done.stderr.splitlines() if "records are left to it" in line]
        if any(text.startswith("theirs") for text in prompts) and len(said) != len(set(said)) + (not said):
            found.append(f"said about it: {said}")
        return found, len(openai.requests)


def _prompts(value: Any) -> Iterator[str]:
    """The prompts in a request's body, or in an event's input, each once."""
    yield from dict.fromkeys(match.group() for match in PROMPT.finditer(json.dumps(value)))


def _differences(prompts: Counter[str], ours: list[Any], theirs: list[Any]) -> Iterator[str]:
    counts = []
    for events in (ours, theirs):
        kept = [event["properties"] for event in events if event["event"] in KINDS]
        found = [list(_prompts(properties.get("$ai_input"))) for properties in kept]
        # An integration may leave the input out of an event: any of the prompts that say so is meant.
        unseen = [text for text in prompts if text.startswith("theirs") and text.endswith("without input")]
        counts.append(Counter(text for texts in found for text in texts or [unseen.pop() if unseen else "?: no input"]))
    for text in prompts | counts[0] | counts[1]:
        match = PROMPT.match(text)
        who, times = match.groups() if match else ("", None)
        wanted = int(times or 1)
        expected = (wanted if who == "ours" else 0, wanted if who == "theirs" else 0)
        if (counts[0][text], counts[1][text]) != expected:
            yield f"{text!r}: {counts[0][text]} of ours, {counts[1][text]} of theirs, {prompts[text]} requests"


if __name__ == "__main__":
    sys.exit(main())
