"""The promises to the host program, each through the public door: one program, run bare and under the launcher.

What a bare run does is the expected value; nothing about it is written down by hand.
"""

from __future__ import annotations

import difflib
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from posthog_autoinstrument.testing import OpenAIServer, PostHogServer, Request

from . import calls
from .features import supported
from .programs import environment

PRELUDE = f"""
import asyncio, gc, os, pickle, sys, threading, traceback, types
import openai
HTTPX = sys.modules[openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0]]
MESSAGES = {calls.HELLO}
CHAT = {calls.CHAT.arguments}
RESPONSE = {calls.RESPONSES.arguments}
BROKEN = (openai.APIError, HTTPX.TransportError)  # what a stream breaks with: the version decides
EMBEDDING = {calls.EMBEDDINGS.arguments | {"input": ["one", "two"]}}

def tell(*things):
    print(*things, flush=True)

def chat(model):
    return {{"model": model, "messages": MESSAGES}}
"""

TIMEOUT_S = 60.0


@dataclass
class Ran:
    """A finished program: what it gave back, what the OpenAI server saw, and the events that PostHog got."""

    returncode: int
    stdout: str
    stderr: str
    requests: list[Request]
    events: list[dict[str, Any]] = field(default_factory=list)


def run(
    folder: Path,
    source: str,
    launched: bool = True,
    flags: Sequence[str] = (),
    args: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    stdin: str = "",
    token: bool = True,
    first: str = "",
) -> Ran:
    """Run `source` as a program of its own, against servers of its own, after `first` and `PRELUDE`.

    Lines that end with `# needs PATH` are left out where the SDK lacks it: see `features.supported`. `flags` are the
    interpreter's, `args` the program's.
    """
    path = folder / "program.py"
    text = supported(first + PRELUDE + textwrap.dedent(source))
    if not path.exists() or path.read_text() != text:  # the other of two runs may be reading it
        draft = folder / f"draft-{threading.get_ident()}"
        draft.write_text(text)
        draft.replace(path)
    command = [sys.executable, *flags, str(path), *args]
    if launched:
        command = [sys.executable, "-m", "posthog_autoinstrument", *command]
    with OpenAIServer() as openai_server, PostHogServer() as posthog_server:
        environ = environment(openai_server, posthog_server if token else None, **(env or {}))
        environ.setdefault("PYTHONHASHSEED", "0")  # sets are printed
        environ.setdefault("POSTHOG_AUTOINSTRUMENT_DB", str(folder / "state" / "events.db"))
        done = subprocess.run(
            command,
            env=environ,
            cwd=folder,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr, list(openai_server.requests), list(posthog_server.events))


def same(
    folder: Path,
    source: str,
    events: int | Literal["one each request"] | None,
    returncode: int = 0,
    agent_lines: bool = False,
    **options: Any,
) -> Ran:
    """Run `source` bare and under the launcher and assert that nobody outside can tell which was which.

    Returns the launched run, which must have delivered `events` events (None: not asserted): proof that the agent was
    there. "one each request" is for programs whose calls are captured and not retried. `returncode` is what the program
    ends with by itself. `agent_lines`: the agent may write lines of its own to stderr.
    """
    with ThreadPoolExecutor(2) as pool:
        bare, launched = pool.map(lambda flag: run(folder, source, flag, **options), (False, True))
    assert bare.events == []
    if bare.returncode == -signal.SIGSEGV:  # Python 3.13.0 does, at its exit, with an open stream
        pytest.skip("without the agent too, this Python crashes")
    assert bare.returncode == returncode, bare.stderr  # a program that dies early has nothing to compare
    assert_same("stdout", plain(bare.stdout), plain(launched.stdout))
    stderr = "".join(line + "\n" for line in other_lines(launched.stderr)) if agent_lines else launched.stderr
    assert_same("stderr", without_our_frames(bare.stderr), without_our_frames(stderr))
    assert_same("exit code", str(bare.returncode), str(launched.returncode))
    assert_same("requests", "\n".join(map(sent, bare.requests)), "\n".join(map(sent, launched.requests)))
    if events == "one each request":
        events = len(launched.requests)
    if events is not None:
        kinds = [(event["event"], event["properties"].get("$ai_error")) for event in launched.events]
        assert len(launched.events) == events, (len(launched.events), kinds)
    return launched


def assert_same(what: str, bare: str, launched: str) -> None:
    """Say only the lines that differ: a program prints thousands."""
    lines = difflib.unified_diff(bare.splitlines(), launched.splitlines(), "bare", "launched", n=1, lineterm="")
    assert bare == launched, f"{what} differs:\n" + "\n".join(line[:1000] for line in lines)


def plain(text: str) -> str:
    """Output without what differs between two runs of any program: ports, addresses, process ids."""
    text = re.sub(r"(127\.0\.0\.1:|'127\.0\.0\.1', )\d+", r"\1PORT", text)
    return re.sub(r"(0x|cancel scope )[0-9a-f]{6,}", r"\1ADDRESS", text)


_FRAME = re.compile(
    r'(?m)^[ \t]*File "[^"\n]*[/\\](?:posthog_autoinstrument|wrapt)[/\\][^"\n]*", line.*\n(?:    .*\n)*'
)
_CREATED = re.compile(r"(?m)^(Coroutine created at \(most recent call last\)\n)(?:  .*\n)*")


def without_our_frames(text: str) -> str:
    """Standard error without the agent's frames in tracebacks.

    asyncio's debug mode also tells the 10 frames above the creation of a coroutine: the agent's coroutine around the
    SDK's is created one frame higher, so that list is left out as a whole.
    """
    return _CREATED.sub(r"\1", _FRAME.sub("", plain(text)))


def sent(request: Request) -> str:
    """A request as the server sees it, without the port."""
    headers = [(name, value) for name, value in request.headers.items() if name != "host"]
    return f"{request.method} {request.path} {headers} {request.body!r}"


def own_lines(text: str) -> list[str]:
    """The lines that the agent itself wrote to standard error."""
    return [line for line in text.splitlines() if line.startswith("posthog-autoinstrument: ")]


def other_lines(text: str) -> list[str]:
    """What else stands on standard error."""
    return [line for line in text.splitlines() if not line.startswith("posthog-autoinstrument: ")]


def folder_of_sitecustomize() -> str:
    """What the launcher puts in front of PYTHONPATH."""
    import sitecustomize_template

    return os.path.dirname(os.path.abspath(sitecustomize_template.__file__))
