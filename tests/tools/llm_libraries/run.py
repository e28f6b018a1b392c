"""Real frameworks, each in an environment of its own, run bare and under the launcher, against the bundled servers.

    make frameworks                                               # all of them
    python tests/tools/llm_libraries/run.py langchain-openai llm  # some
    python tests/tools/llm_libraries/run.py --python 3.12 dspy    # with another Python

A framework is one file beside this one, `with_NAME.py`: a program that does what users of it do, and in its header
(inline script metadata) what it needs. It is run twice, each time against a fresh OpenAI server, and what the servers
saw and said is held against the events and against the other run:

- events: as many as there were requests of the SDK to captured endpoints, each with the kind, model, status and
  tokens of its answer, and without tokens where the answer had none;
- stdout, exit code and stderr of both runs the same, no line of ours among them;
- the same requests in both runs, byte for byte (sorted where a program asks in parallel);
- nobody but this machine was addressed, by the framework or by the agent.

Environments stay in `build/frameworks/` and are used again; the package is installed into them anew from the wheel.
"others" in the table are requests that the framework makes with an HTTP client of its own, without the OpenAI SDK:
nobody captures them. Exit code 1 on any difference.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from posthog_autoinstrument.testing import Answer, OpenAIServer, PostHogServer, Request

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
ENVIRONMENTS = ROOT / "build" / "llm_libraries"
PREFIX = "with_"
TIMEOUT_S = 240.0

CAPTURED = {
    "/chat/completions": "$ai_generation",
    "/responses": "$ai_generation",
    "/completions": "$ai_generation",
    "/embeddings": "$ai_embedding",
}
"""The paths that are captured, and the event each makes."""

LEFT_EARLY = "To be left early"
"""Stands in the prompts of streams that the program does not read to the end, where the usage would be. Some of them
are cancelled, and the event then has the status of that."""

SDK_HEADER = "x-stainless-lang"
"""On every request of the OpenAI SDK. What a framework sends with another HTTP client is not captured."""

QUIET = {
    "OPENAI_AGENTS_DISABLE_TRACING": "1",
    "LANGCHAIN_TRACING_V2": "false",
    "LANGSMITH_TRACING": "false",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_TELEMETRY": "False",
    "ANONYMIZED_TELEMETRY": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "OTEL_SDK_DISABLED": "true",
    "LOGFIRE_SEND_TO_LOGFIRE": "false",
    "DO_NOT_TRACK": "1",
}
"""Turns the frameworks' own telemetry off."""


@dataclass(frozen=True)
class Framework:
    """A program and what it needs, read from its header."""

    name: str
    program: Path
    requirements: list[str]
    """The first is the framework itself."""
    python: str
    """The Python version to run it with, "3.11"."""

    @property
    def folder(self) -> Path:
        return ENVIRONMENTS / self.name

    @property
    def interpreter(self) -> Path:
        return self.folder / "bin" / "python"


def frameworks() -> dict[str, Framework]:
    """Every framework there is a program for, by name."""
    found = {}
    for program in sorted(HERE.glob(f"{PREFIX}*.py")):
        header = re.search(r"(?ms)^# /// script$(.*?)^# ///$", program.read_text())
        if header is None:
            raise SystemExit(f"{program.name} has no inline script metadata")
        lines = dict(line[2:].split(" = ", 1) for line in header[1].splitlines() if " = " in line)
        name = program.stem.removeprefix(PREFIX).replace("_", "-")
        python = re.search(r"3\.\d+", lines["requires-python"])
        assert python is not None
        found[name] = Framework(name, program, json.loads(lines["dependencies"]), python[0])
    return found


class RecordingServer(OpenAIServer):
    """Keeps with each request what was answered."""

    def __init__(self) -> None:
        self.answered: list[tuple[Request, Answer]] = []
        super().__init__()

    def _answer(self, request: Request) -> Answer:
        answer = super()._answer(request)
        self.answered.append((request, answer))
        return answer


@dataclass(frozen=True)
class Run:
    """One run of a program, and what the servers saw of it."""

    exit_code: int
    stdout: str
    stderr: str
    answered: list[tuple[Request, Answer]]
    events: list[dict[str, Any]]
    foreign: str
    """Hosts other than this machine that were addressed."""
    seconds: float


@dataclass
class Result:
    """A framework's row in the table."""

    name: str
    version: str = ""
    openai: str = ""
    requests: int = 0
    events: int = 0
    others: int = 0
    """Requests that were not made by the OpenAI SDK."""
    tokens: int = 0
    tokens_right: bool = False
    stdout_same: bool = False
    seconds: float = 0.0
    differences: list[str] = field(default_factory=list)


# --- environments ---


def find_python(version: str) -> str:
    found = subprocess.run([ROOT / ".ci" / "find-python", version], capture_output=True, text=True, check=True)
    if not found.stdout.strip():
        raise SystemExit(f"Python {version} is needed; none was found")
    return found.stdout.strip()


def install(interpreter: Path, *what: str) -> None:
    command = [str(interpreter), "-m", "pip", "install", "--quiet", "--quiet", "--disable-pip-version-check", *what]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"pip install {' '.join(what)}: {done.stderr[-2000:]}")


def prepare(framework: Framework, python: str, wheel: Path) -> None:
    """Make the environment where there is none of these requirements, and install the wheel into it."""
    stamp = framework.folder / "requirements.txt"
    wanted = "\n".join([f"# Python {python}", *framework.requirements])
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(framework.folder, ignore_errors=True)
        subprocess.run([find_python(python), "-m", "venv", framework.folder], check=True)
        install(framework.interpreter, *framework.requirements, str(wheel))
        stamp.write_text(wanted)
    else:
        install(framework.interpreter, "--force-reinstall", "--no-deps", str(wheel))
    site = next(framework.folder.glob("lib/python*/site-packages"))
    shutil.copy(HERE / "loopback_only.py", site)
    (site / "loopback_only.pth").write_text("import loopback_only\n")


def build_wheel() -> Path:
    """The package as it is now, as a wheel."""
    subprocess.run(["make", "--silent", "build/wheel/.built"], cwd=ROOT, check=True)
    return next((ROOT / "build" / "wheel").glob("*.whl"))


def versions(framework: Framework) -> tuple[str, str]:
    """Of the framework and of the openai package that it runs on."""
    name = re.split(r"[\[<>=!~ ]", framework.requirements[0])[0]
    code = f"from importlib.metadata import version as v; print(v({name!r}), v('openai'))"
    done = subprocess.run([framework.interpreter, "-c", code], capture_output=True, text=True, check=True)
    own, openai = done.stdout.split()
    return own, openai


# --- running ---


def run(framework: Framework, launched: bool) -> Run:
    """Run the program against servers of its own."""
    with RecordingServer() as openai_server, PostHogServer() as posthog_server, tempfile.TemporaryDirectory() as home:
        foreign = Path(home, "foreign-hosts")
        environ = {
            "PATH": f"{framework.interpreter.parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": home,
            "TMPDIR": home,
            "LANG": "C.UTF-8",
            "PYTHONHASHSEED": "0",
            "FOREIGN_HOSTS": str(foreign),
            "OPENAI_BASE_URL": openai_server.base_url,
            "OPENAI_API_BASE": openai_server.base_url,
            "OPENAI_API_KEY": "sk-test",
            "POSTHOG_PROJECT_TOKEN": "phc_test_token_of_the_frameworks",
            "POSTHOG_HOST": posthog_server.url,
            "POSTHOG_AUTOINSTRUMENT_RAISE": "1",
            **QUIET,
        }
        command = [str(framework.interpreter), str(framework.program)]
        if launched:
            command = [str(framework.interpreter.parent / "posthog-instrument"), *command]
        started = time.monotonic()
        done = subprocess.run(
            command, env=environ, cwd=home, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
        return Run(
            done.returncode,
            done.stdout.replace(openai_server.url, "http://openai").replace(home, "~"),
            done.stderr.replace(openai_server.url, "http://openai").replace(home, "~"),
            list(openai_server.answered),
            list(posthog_server.events),
            foreign.read_text() if foreign.exists() else "",
            time.monotonic() - started,
        )


# --- what must be the same ---

Facts = tuple[Any, ...]
"""Of one call: event, model, status, streamed, input tokens, output tokens, cached tokens (None for 0)."""


def payloads(answer: Answer) -> Iterator[dict[str, Any]]:
    """The JSON objects of an answer: its body, or the events of its stream."""
    if answer.chunks is None:
        if isinstance(answer.body, dict):
            yield answer.body
        return
    for chunk in answer.chunks:
        for line in str(chunk).splitlines():
            if line.startswith("data: {"):
                payload = json.loads(line.removeprefix("data: "))
                yield payload.get("response") or payload


def said(request: Request, answer: Answer) -> Facts | None:
    """What the server said of a call; None for a request that is not captured."""
    path = request.path.partition("?")[0]
    kind = next((CAPTURED[end] for end in CAPTURED if path.endswith(end)), None)
    if kind is None or request.method != "POST" or SDK_HEADER not in request.headers:
        return None
    asked = request.json()
    model: str = asked.get("model")
    usage: dict[str, Any] = {}
    for payload in payloads(answer):
        model = payload.get("model") or model
        usage = payload.get("usage") or usage
    left_early = LEFT_EARLY.encode() in request.body
    if left_early:
        usage = {}
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
    return (
        kind,
        model,
        None if left_early else answer.status,
        bool(asked.get("stream")),
        usage.get("prompt_tokens", usage.get("input_tokens")),
        usage.get("completion_tokens", usage.get("output_tokens")),
        details.get("cached_tokens") or None,
    )


def told(event: dict[str, Any]) -> Facts:
    """What an event says of its call."""
    properties = event["properties"]
    return (
        event["event"],
        properties.get("$ai_model"),
        None if LEFT_EARLY in json.dumps(event) else properties.get("$ai_http_status"),
        bool(properties.get("$ai_stream")),
        properties.get("$ai_input_tokens"),
        properties.get("$ai_output_tokens"),
        properties.get("$ai_cache_read_input_tokens") or None,
    )


def tokens_of(calls: Sequence[Facts]) -> int:
    return sum(number for call in calls for number in call[4:6] if number is not None)


def requests_of(one: Run) -> list[tuple[str, str, bytes]]:
    return sorted((request.method, request.path, request.body) for request, _ in one.answered)


def shorter(text: str, limit: int = 400) -> str:
    return text if len(text) <= limit else f"{text[:limit]}..."


def compare(result: Result, bare: Run, launched: Run) -> None:
    """Fill the row, and note every difference."""
    differ = result.differences.append
    calls = [facts for request, answer in launched.answered if (facts := said(request, answer)) is not None]
    # Not the steps of agents and tools: `make steps` looks at those.
    events = [told(event) for event in launched.events if event["event"] in CAPTURED.values()]
    result.requests, result.events = len(calls), len(events)
    result.others = sum(SDK_HEADER not in request.headers for request, _ in launched.answered)
    result.tokens = tokens_of(calls)
    if bare.events:
        differ(f"the bare run made {len(bare.events)} events")
    if not calls:
        differ("the program made no call")
    if len(calls) != len(events):
        differ(f"{len(calls)} requests, {len(events)} events")
    missing, extra = Counter(calls) - Counter(events), Counter(events) - Counter(calls)
    for facts, count in missing.items():
        differ(f"no event for {count} x {facts}")
    for facts, count in extra.items():
        differ(f"no answer for the event {count} x {facts}")
    result.tokens_right = not missing and not extra and tokens_of(calls) == tokens_of(events)
    result.stdout_same = bare.stdout == launched.stdout
    if bare.exit_code or launched.exit_code:
        differ(f"exit code {bare.exit_code} bare, {launched.exit_code} launched; {shorter(bare.stderr[-1500:], 1500)}")
    for name, before, after in (("stdout", bare.stdout, launched.stdout), ("stderr", bare.stderr, launched.stderr)):
        if before != after:
            lines = difflib.unified_diff(before.splitlines(), after.splitlines(), "bare", "launched", "", "", 0, "")
            differ(f"{name} differs:\n    " + "\n    ".join(shorter(line) for line in lines))
    for line in launched.stderr.splitlines():
        if "posthog" in line.lower():
            differ(f"a line of ours on stderr: {shorter(line)}")
    if requests_of(bare) != requests_of(launched):
        before, after = Counter(requests_of(bare)), Counter(requests_of(launched))
        for label, more in (("only bare", before - after), ("only launched", after - before)):
            for (method, path, body), count in more.items():
                differ(f"request {label}: {count} x {method} {path} {shorter(body.decode())}")
    for foreign in {bare.foreign, launched.foreign} - {""}:
        differ(f"addressed a foreign host: {foreign.strip()}")


def check(framework: Framework, python: str, wheel: Path) -> tuple[Result, Run | None]:
    """Prepare, run twice and compare. Whatever goes wrong is a difference."""
    result = Result(framework.name)
    started = time.monotonic()
    launched = None
    try:
        prepare(framework, python, wheel)
        result.version, result.openai = versions(framework)
        bare = run(framework, launched=False)
        launched = run(framework, launched=True)
        compare(result, bare, launched)
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        result.differences.append(f"{type(error).__name__}: {error}")
    result.seconds = time.monotonic() - started
    return result, launched


# --- the report ---


def table(results: Sequence[Result]) -> str:
    head = (
        "framework",
        "version",
        "openai",
        "requests",
        "events",
        "others",
        "tokens",
        "tokens right",
        "stdout same",
        "seconds",
    )
    rows = [head]
    for result in results:
        right = ("no", "yes")
        rows.append(
            (
                result.name,
                result.version,
                result.openai,
                str(result.requests),
                str(result.events),
                str(result.others),
                str(result.tokens),
                right[result.tokens_right],
                right[result.stdout_same],
                f"{result.seconds:.0f}",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def main() -> int:
    known = frameworks()
    parser = argparse.ArgumentParser(description="Run real frameworks bare and under posthog-instrument.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which ones; without any, all: {', '.join(known)}")
    parser.add_argument("--python", help="the Python version to use instead of each framework's own")
    parser.add_argument("--show", action="store_true", help="print the program's output too")
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(known))
    if unknown:
        parser.error(f"no framework {', '.join(unknown)}; there are {', '.join(known)}")
    started = time.monotonic()
    ENVIRONMENTS.mkdir(parents=True, exist_ok=True)
    wheel = build_wheel()
    results = []
    for name in options.names or known:
        framework = known[name]
        python = options.python or framework.python
        print(f"{name} on Python {python} ...", flush=True)
        result, launched = check(framework, python, wheel)
        results.append(result)
        if options.show and launched is not None:
            print(launched.stdout, launched.stderr, sep="\n")
        for difference in result.differences:
            print(f"  DIFFERENCE: {difference}", flush=True)
    print()
    print(table(results))
    wrong = [result.name for result in results if result.differences]
    verdict = f"WRONG: {', '.join(wrong)}" if wrong else "all as they should be"
    print(f"{len(results)} frameworks in {time.monotonic() - started:.0f} s; {verdict}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
