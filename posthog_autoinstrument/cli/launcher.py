"""Start a program under the agent: our folder in front of PYTHONPATH, then `exec`."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Sequence

import sitecustomize_template

from ..core import diagnostics, process_tree
from ..core import environment as variables
from ..settings import loader
from . import interpreter

NOT_FOUND = 127
NOT_EXECUTABLE = 126
OTHER_REMEDY = "or write `import posthog_autoinstrument.auto` at the beginning of the program"
"""Where PYTHONPATH does not arrive."""


def command_line(command: Sequence[str]) -> list[str]:
    """The program and arguments to start: a Python file that is not executable, and `-m`, go to this interpreter."""
    first = command[0]
    if first == "-m":
        return [sys.executable, *command]
    if _is_python_file(first) and not os.access(first, os.X_OK):
        return [sys.executable, *command]
    return list(command)


def _is_python_file(path: str) -> bool:
    return path.endswith((".py", ".pyz", ".pyw")) and os.path.isfile(path)


def environment(environ: dict[str, str], local: bool, debug: bool, summary: bool = False) -> dict[str, str]:
    """The environment of the program: `environ` with our folder first on PYTHONPATH and the launcher's variables."""
    folder = os.path.dirname(os.path.abspath(sitecustomize_template.__file__))
    entries = [entry for entry in environ.get("PYTHONPATH", "").split(os.pathsep) if entry != folder]
    if entries == [""]:
        entries = []
    changed = {**environ, "PYTHONPATH": os.pathsep.join([folder, *entries]), variables.LAUNCHED: process_tree.label()}
    for variable in ("POSTHOG_AUTOINSTRUMENT_DB", "POSTHOG_AUTOINSTRUMENT_PRICES", "POSTHOG_SPOOL"):
        path = environ.get(variable, "").strip()
        if path:  # the program may change its directory before the agent looks
            changed[variable] = os.path.abspath(os.path.expanduser(path))
    if local:
        changed["POSTHOG_AUTOINSTRUMENT_LOCAL"] = "1"
    if debug:
        changed["POSTHOG_AUTOINSTRUMENT_DEBUG"] = "1"
    if summary:
        changed["POSTHOG_AUTOINSTRUMENT_SUMMARY"] = "1"
    return changed


def launch(command: Sequence[str], local: bool = False, debug: bool = False, summary: bool = False) -> int:
    """Replace this process by the program (POSIX), or run it and return its exit code (Windows).

    Returns 127 when it is not found and 126 when it cannot be executed, after one line on stderr.
    """
    environ = environment(dict(os.environ), local, debug, summary)
    environ[variables.LAUNCHER] = sys.executable
    environ.pop(variables.KEPT, None)
    settings = loader.load(environ)
    arguments = command_line(command)
    program = shutil.which(arguments[0])
    if program is None and arguments == list(command) and _is_python_file(command[0]):
        arguments = [sys.executable, *command]  # executable, but not on PATH
        program = sys.executable
    if program is None:
        return _refuse(arguments[0])
    for problem in settings.problems:
        diagnostics.write(problem)
    found = interpreter.find([program, *arguments[1:]], environ)
    if found.obstacles and not settings.disabled:
        diagnostics.write(f"no call is captured: {'; '.join(found.obstacles)}; {OTHER_REMEDY}")
        if found.python is not None:
            del environ[variables.LAUNCHER]  # the Python without an agent need not report it again
    elif not settings.disabled and (settings.local or settings.token is None):
        where = f"calls are kept in {settings.db_path}"
        unless = "" if settings.local else " unless the program sets a PostHog token"
        of_store = f" --db {shlex.quote(settings.db)}" if settings.db else ""
        environ[variables.KEPT] = f"{where}{unless}; see them: posthog-instrument view{of_store}, or events{of_store}"
    if os.name == "nt":
        return _run_and_wait(program, arguments, environ)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # closed by the shell
            stream.flush()
    try:
        os.execve(program, arguments, environ)
    except OSError as error:
        diagnostics.write(f"cannot execute {arguments[0]}: {error.strerror}")
        return NOT_EXECUTABLE


def _refuse(name: str) -> int:
    if os.path.isdir(name):
        diagnostics.write(f"cannot execute {name}: it is a directory")
        return NOT_EXECUTABLE
    if os.path.dirname(name) and os.path.exists(name):
        diagnostics.write(f"cannot execute {name}: permission denied (a Python file? then: python {name})")
        return NOT_EXECUTABLE
    diagnostics.write(f"program not found: {name}")
    return NOT_FOUND


def _run_and_wait(program: str, arguments: Sequence[str], environ: dict[str, str]) -> int:
    """Windows has no exec that keeps the process: its `os.exec*` returns to the shell at once with code 0."""
    import subprocess

    with subprocess.Popen([program, *arguments[1:]], env=environ) as child:
        while True:
            try:
                return child.wait()
            except KeyboardInterrupt:
                continue  # the child got it too, and decides
