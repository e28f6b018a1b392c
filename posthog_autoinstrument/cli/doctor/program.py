"""What a command would run: its Python is started to answer a question, the program is not started."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...bootstrap.import_hook import SENTINEL
from .. import interpreter
from .report import Check

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
class Found:
    """What was found."""

    checks: list[Check] = field(default_factory=list)
    other: str | None = None
    """Another Python that has the package, too: it has to do the checks."""
    folders: list[str] = field(default_factory=lambda: [os.getcwd()])
    """Where the program finds its own modules."""


def look_at(command: Sequence[str], environ: Mapping[str, str]) -> Found:
    """Check `command`, in the environment that the launcher would give it."""
    result = Found([Check("command", " ".join(command)[:200])])
    if shutil.which(command[0], path=environ.get("PATH")) is None:
        result.checks.append(Check("", problem=f"program not found: {command[0]}"))
        return result
    found = interpreter.find(command, environ)
    if found.script is not None and os.path.isfile(found.script):
        result.folders = [os.path.dirname(os.path.realpath(found.script))]
        if found.python is not None and not found.script.endswith((".py", ".pyw")):
            result.folders.append(os.getcwd())  # servers and workers put it on their path
    result.checks += [Check("", problem=f"no call is captured: {obstacle}") for obstacle in found.obstacles]
    if found.python is None and found.runner is None:
        unknown = f"which Python {command[0]} runs, and whether the agent starts in it"
        result.checks.append(Check("", unknown=unknown))
        return result
    answer = _ask([*(found.runner or []), found.python or "python", *found.options], environ)
    if isinstance(answer, str):
        result.checks.append(Check("", problem=f"the Python of {command[0]} could not be checked: {answer}"))
        return result
    executable, version, prefix, has, starts = answer
    text = ".".join(map(str, version))
    problem = ""
    if version < OLDEST:
        problem = f"{executable} is Python {text}, posthog-autoinstrument needs 3.10 or newer"
    elif not has:
        which = f", which runs {command[0]}," if command[0] != executable else ""
        adds = _ADDS.get(os.path.basename(found.runner[0]) if found.runner else "", f"{executable} -m pip install")
        problem = (
            f"{executable}{which} has no posthog-autoinstrument (this one is of {sys.executable}): "
            f"{adds} posthog-autoinstrument"
        )
    elif os.path.realpath(prefix) != os.path.realpath(sys.prefix):
        result.other = executable
    elif not starts and not found.obstacles:
        problem = f"the agent does not start in {executable}"
    result.checks.append(Check("its Python", f"{text} ({executable})", problem))
    return result


def of_path(name: str, environ: Mapping[str, str]) -> str:
    """A note on the Python that `name` starts, if that is not this one; "" if there is nothing to note."""
    path = shutil.which(name, path=environ.get("PATH"))
    if path is None or os.path.dirname(os.path.abspath(path)) == os.path.dirname(sys.executable):
        return ""
    answer = _ask([path], environ)
    if isinstance(answer, str):
        return ""
    executable, version, prefix, has, _ = answer
    if os.path.realpath(prefix) == os.path.realpath(sys.prefix):
        return ""
    here = f"`{name}` on PATH is {executable}, not {sys.executable}"
    if has and version >= OLDEST:
        return f"{here}: to check that one: posthog-instrument doctor {name}"
    return (
        f"{here}, and has no posthog-autoinstrument: `posthog-instrument {name} ...` captures nothing "
        f"({executable} -m pip install posthog-autoinstrument)"
    )


def _ask(python: Sequence[str], environ: Mapping[str, str]) -> Any:
    """Executable, version, prefix, whether it has the package, whether the agent starts in it; else why not known."""
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
    last = (done.stderr.strip().splitlines() or ["no output"])[-1]
    return f"{' '.join(python)} exits with {done.returncode}: {last[:200]}"
