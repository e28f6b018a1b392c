"""What a command would run: its Python is asked, the program is not started."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..bootstrap.import_hook import SENTINEL
from . import interpreter

TIMEOUT_S = 60.0
"""`uv run` may make an environment first."""
OLDEST = [3, 10]
_ADDS = {"uv": "uv add", "poetry": "poetry add", "pdm": "pdm add", "rye": "rye add", "pipenv": "pipenv install"}
"""How a runner installs a package: its environments may have no pip."""
_MARK = "posthog-autoinstrument-doctor:"
_QUESTION = f"""
import json, sys
try:
    from importlib.util import find_spec
    has = find_spec("posthog_autoinstrument") is not None
except ImportError:
    has = False
print({_MARK!r} + json.dumps([sys.executable, list(sys.version_info[:3]), sys.prefix, has, hasattr(sys, {SENTINEL!r})]))
"""


@dataclass
class LookedAt:
    """What was found. `other`: a Python that has the agent too and is not this one. `folders`: where a program finds
    its own modules."""

    lines: list[tuple[str, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    other: str | None = None
    folders: list[str] = field(default_factory=lambda: [os.getcwd()])


def look_at(command: Sequence[str], environ: Mapping[str, str]) -> LookedAt:
    """Look at `command`, in the environment that the launcher would give it."""
    seen = LookedAt(lines=[("command", " ".join(command)[:200])])
    if shutil.which(command[0], path=environ.get("PATH")) is None:
        seen.problems.append(f"program not found: {command[0]}")
        return seen
    found = interpreter.find(command, environ)
    if found.script is not None and os.path.isfile(found.script):
        seen.folders = [os.path.dirname(os.path.realpath(found.script))]
        if found.python is not None and not found.script.endswith((".py", ".pyw")):
            seen.folders.append(os.getcwd())  # servers and workers put it on their path
    seen.problems += [f"no call is captured: {obstacle}" for obstacle in found.obstacles]
    if found.python is None and found.runner is None:
        seen.unchecked.append(f"which Python {command[0]} runs, and whether the agent wakes in it")
        return seen
    asked = _ask([*(found.runner or []), found.python or "python", *found.options], environ)
    if isinstance(asked, str):
        seen.problems.append(f"the Python of {command[0]} cannot be asked: {asked}")
        return seen
    executable, version, prefix, has, woke = asked
    text = ".".join(map(str, version))
    seen.lines.append(("its Python", f"{text} ({executable})"))
    adds = _ADDS.get(os.path.basename(found.runner[0]) if found.runner else "", f"{executable} -m pip install")
    remedy = f"{adds} posthog-autoinstrument"
    if version < OLDEST:
        seen.problems.append(f"{executable} is Python {text}, older than the 3.10 that posthog-autoinstrument needs")
    elif not has:
        of_what = f", which runs {command[0]}," if command[0] != executable else ""
        seen.problems.append(
            f"{executable}{of_what} has no posthog-autoinstrument (this one is of {sys.executable}): {remedy}"
        )
    elif os.path.realpath(prefix) != os.path.realpath(sys.prefix):
        seen.other = executable
    elif not woke and not found.obstacles:
        seen.problems.append(f"the agent does not wake in {executable}")
    return seen


def of_path(name: str, environ: Mapping[str, str]) -> str:
    """What is to be known of the Python that `name` starts where that is not this one; "" where nothing is."""
    path = shutil.which(name, path=environ.get("PATH"))
    if path is None or os.path.dirname(os.path.abspath(path)) == os.path.dirname(sys.executable):
        return ""
    asked = _ask([path], environ)
    if isinstance(asked, str):
        return ""
    executable, version, prefix, has, _ = asked
    if os.path.realpath(prefix) == os.path.realpath(sys.prefix):
        return ""
    here = f"`{name}` on PATH is {executable}, not {sys.executable}"
    if has and version >= OLDEST:
        return f"{here}: posthog-instrument doctor {name} looks at it"
    return (
        f"{here}, and has no posthog-autoinstrument: `posthog-instrument {name} ...` captures nothing "
        f"({executable} -m pip install posthog-autoinstrument)"
    )


def _ask(python: Sequence[str], environ: Mapping[str, str]) -> Any:
    """Executable, version, prefix, whether it has the package, whether the agent wakes; a text that says why not."""
    try:
        done = subprocess.run(
            [*python, "-c", _QUESTION],
            env=dict(environ), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{' '.join(python)} ({type(error).__name__})"
    for line in done.stdout.splitlines():
        if line.startswith(_MARK):
            return json.loads(line[len(_MARK) :])
    last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
    return f"{' '.join(python)} ends with {done.returncode}: {last[:200]}"
