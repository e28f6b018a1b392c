"""Real openai-agents, LangChain and LangGraph under the launcher: what PostHog gets of their steps, as trees.

    make steps                                                   # all of them
    python tests/tools/steps/run.py langchain                    # some
    python tests/tools/steps/run.py --environment DIR langchain  # with the Python of an environment that has it all

A library is one file beside this one, `with_NAME.py`: a program, and in its header (inline script metadata) what it
needs. `NAME.txt` has the trees that its events must make, one for each trace:

    user | name of the trace and conversation, where it has one
        agent forecaster agent_tools=["weather"] input -> output
            generation

A span is its type and its name, what its library tells of it, and its states; LOST is one whose parent is none of ours.
Traces and siblings stand in the order of their texts, since some run at the same time, and equal ones once, with their
number. Exit code 1 on any difference, and where the program fails.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from posthog_autoinstrument.testing import OpenAIServer, PostHogServer

HERE = Path(__file__).resolve().parent
ENVIRONMENTS = HERE.parents[2] / "build" / "steps"
PREFIX = "with_"
TIMEOUT_S = 240.0
MAX_SHOWN = 56
"""Characters of an input or output."""
QUIET = {
    "LANGSMITH_TRACING": "false",
    "LANGCHAIN_TRACING_V2": "false",
}
CALLS = {"$ai_generation": "generation", "$ai_embedding": "embedding"}

Properties = dict[str, Any]


def main() -> int:
    """Run the programs that were asked for; 0 when all trees are as they should be."""
    known = {path.stem.removeprefix(PREFIX): path for path in sorted(HERE.glob(PREFIX + "*.py"))}
    parser = argparse.ArgumentParser(description="Compare the trees of libraries' steps with what they should be.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(known))
    parser.add_argument("--python", default=sys.executable, help="makes the environments")
    parser.add_argument("--wheel", help="the package to install into them")
    parser.add_argument("--environment", type=Path, help="use this one as it is, for all")
    parser.add_argument("--show", action="store_true", help="print the trees")
    options = parser.parse_args()
    wrong = 0
    for name in options.names or known:
        folder = options.environment or environment(name, known[name], options.python, options.wheel)
        lines, problems = run(folder / "bin" / "python", known[name])
        expected = wanted(known[name])
        if options.show:
            print("\n".join(lines))
        missing = list((Counter(expected) - Counter(lines)).elements())
        surplus = list((Counter(lines) - Counter(expected)).elements())
        if lines != expected and not (missing or surplus):
            problems.append("the trees hang together in another way:")
            problems += lines
        problems += [f"missing: {line}" for line in missing] + [f"too much: {line}" for line in surplus]
        wrong += len(problems)
        print(f"{name:<16}{len(lines):>4} lines  {'as they should be' if not problems else 'wrong:'}")
        for line in problems:
            print(f"    {line}")
    return 1 if wrong else 0


def environment(name: str, program: Path, python: str, wheel: str | None) -> Path:
    """The environment of a library, made once; the package is installed into it anew."""
    folder = ENVIRONMENTS / name
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    if not (folder / ".made").exists():
        subprocess.run([python, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([*pip, *dependencies(program), "wrapt", "requests"], check=True)
        (folder / ".made").touch()
    if wheel is not None:
        subprocess.run([*pip, "--force-reinstall", "--no-deps", wheel], check=True)
    return folder


def dependencies(program: Path) -> list[str]:
    (line,) = re.findall(r"(?m)^# dependencies = (\[.*\])$", program.read_text())
    found: list[str] = json.loads(line)
    return found


def wanted(program: Path) -> list[str]:
    """The trees that a program's events must make."""
    return program.with_name(program.stem.removeprefix(PREFIX) + ".txt").read_text().splitlines()


def run(python: Path, program: Path) -> tuple[list[str], list[str]]:
    """The trees of a program's events, and what was wrong with its run."""
    with OpenAIServer() as openai, PostHogServer() as posthog, tempfile.TemporaryDirectory() as at:
        environ = {name: text for name, text in os.environ.items() if not name.startswith(("POSTHOG_", "OPENAI_"))}
        environ |= QUIET
        environ |= {
            "OPENAI_BASE_URL": openai.base_url,
            "OPENAI_API_KEY": "sk-test",
            "POSTHOG_PROJECT_TOKEN": "phc_ours",
            "POSTHOG_HOST": posthog.url,
            "POSTHOG_AUTOINSTRUMENT_DEBUG": "1",
        }
        command = [str(python), "-m", "posthog_autoinstrument", str(python), str(program)]
        done = subprocess.run(
            command, env=environ, cwd=at, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
        problems = [line for line in done.stderr.splitlines() if "could not" in line or "Error in" in line]
        if done.returncode != 0:
            problems += [f"exit code {done.returncode}", *done.stderr.splitlines()[-15:]]
        return list(trees(posthog.events)), problems


def trees(events: Iterable[dict[str, Any]]) -> list[str]:
    """Events as trees, a line for each."""
    traces: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        traces[event["properties"]["$ai_trace_id"]].append(event)
    return [line for tree in together(map(tree_of, traces.values())) for line in tree]


def tree_of(events: list[dict[str, Any]]) -> list[str]:
    """One trace."""
    named = [event["properties"] for event in events if event["event"] == "$ai_trace"]
    users = {
        "" if event["distinct_id"] == event["properties"]["$ai_trace_id"] else event["distinct_id"] for event in events
    }
    rest = [event for event in events if event["event"] != "$ai_trace"]
    known = {event["properties"].get("$ai_span_id") for event in rest}
    below: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for event in rest:
        parent = event["properties"].get("$ai_parent_id")
        below[parent if parent in known else ("lost" if parent else None)].append(event)

    def under(parent: Any) -> list[str]:
        found = [
            [described(event), *indented(under(event["properties"].get("$ai_span_id")))] for event in below[parent]
        ]
        return [line for lines in together(found) for line in lines]

    lost = [f"LOST {line}" for line in under("lost")]
    sessions = {event["properties"].get("$ai_session_id") for event in events} - {None}
    said = [*map(name_of, named), *map(str, sessions)]
    head = " ".join(filter(None, (",".join(sorted(map(str, users))), "|", *said)))
    return [head, *indented(under(None) + lost)]


def together(found: Iterable[list[str]]) -> list[list[str]]:
    """In the order of their texts, and equal ones once."""
    counted = Counter(map(tuple, found))
    return [
        [f"{lines[0]} ({number} of them)" if number > 1 else lines[0], *lines[1:]]
        for lines, number in sorted(counted.items())
    ]


def indented(lines: Iterable[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def name_of(properties: Properties) -> str:
    return str(properties.get("$ai_span_name"))


def described(event: dict[str, Any]) -> str:
    """An event in a line."""
    properties = event["properties"]
    failed = "FAILED" if properties.get("$ai_is_error") else ""
    if event["event"] in CALLS:
        return f"{CALLS[event['event']]} {failed}".strip()
    parts = [properties.get("$ai_span_type"), name_of(properties)]
    facts = [name for name in properties if name.startswith(("$ai_agent_", "$ai_handoff", "$ai_guard", "$ai_mcp"))]
    facts = [name for name in sorted(facts) if name not in ("$ai_handoff_to_agent", "$ai_agent_output_type")]
    parts += [f"{name[4:]}={json.dumps(properties[name])}" for name in facts]
    if {"$ai_input_state", "$ai_output_state"} & properties.keys():
        parts.append(f"{shown(properties, '$ai_input_state')} -> {shown(properties, '$ai_output_state')}")
    parts.append(failed and f"FAILED {properties.get('$ai_error')}")
    return " ".join(str(part) for part in parts if part)


def shown(properties: Properties, name: str) -> str:
    """An input or output: its texts, where it has messages, or its JSON."""
    if name not in properties:
        return "nothing"
    value = properties[name]
    return json.dumps(list(texts_in(value)) or value)[:MAX_SHOWN]


def texts_in(value: Any) -> Iterator[str]:
    """The texts of messages, at any depth."""
    if isinstance(value, list):
        for item in value:
            yield from texts_in(item)
    elif isinstance(value, dict):
        for name, item in value.items():
            if name in ("content", "text") and isinstance(item, str):
                yield item
            else:
                yield from texts_in(item)


if __name__ == "__main__":
    sys.exit(main())
