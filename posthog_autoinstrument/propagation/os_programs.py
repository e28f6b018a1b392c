"""Programs started by `os` itself: `posix_spawn` propagates the open context as `subprocess.Popen` does; `system`, the
`exec` functions, and `spawn*`, which calls them, propagate only that it is private. CPython 3.10 to 3.14.

A command line can be read by other users, and what a process becomes by `exec` is no part of one block.
"""

from __future__ import annotations

import os
import shlex
from types import ModuleType
from typing import Any

from ..context import serialization
from ..context.fields import PRIVATE
from ..context.scope import current_for_process, fields_to_propagate
from ..core import environment, guard
from ..core.patching import replace_all
from ..settings.config import Config
from .subprocesses import environment_with, with_environment

ENV = 2
"""The position of `env` among the arguments."""


def instrument(module: ModuleType, settings: Config) -> bool:
    """`os`."""
    functions = {"posix_spawn": _spawn, "posix_spawnp": _spawn, "execv": _execv, "execve": _execve}
    if os.name == "posix":
        functions["system"] = _system
    return replace_all(module, functions)


def _spawn(original: Any) -> Any:
    def spawn(*args: Any, **kwargs: Any) -> Any:
        context = current_for_process()
        if context is not None:
            args, kwargs = with_environment(
                args, kwargs, ENV, lambda env: environment_with(env, context) if env is not None else None
            )
        return original(*args, **kwargs)

    return spawn


def _execve(original: Any) -> Any:
    def execve(*args: Any, **kwargs: Any) -> Any:
        if guard.attempt("look for privacy", _is_private):
            args, kwargs = with_environment(args, kwargs, ENV, _private)
        return original(*args, **kwargs)

    return execve


def _execv(original: Any) -> Any:
    def execv(*args: Any, **kwargs: Any) -> Any:
        if len(args) == ENV and not kwargs and guard.attempt("look for privacy", _is_private):
            return os.execve(args[0], args[1], environment.current())
        return original(*args, **kwargs)

    return execv


def _system(original: Any) -> Any:
    def system(*args: Any, **kwargs: Any) -> Any:
        if guard.attempt("look for privacy", _is_private):
            if len(args) == 1:
                args = (guard.attempt("propagate privacy", _command, args[0]) or args[0],)
            elif "command" in kwargs:
                kwargs["command"] = guard.attempt("propagate privacy", _command, kwargs["command"]) or kwargs["command"]
        return original(*args, **kwargs)

    return system


def _command(command: Any) -> Any:
    """A shell command in an environment that is marked as private."""
    before = f"export {environment.PARENT_CONTEXT}={shlex.quote(serialization.pack(PRIVATE))}; "
    if isinstance(command, str):
        return before + command
    return before.encode() + command if isinstance(command, bytes) else None


def _is_private() -> bool:
    context = current_for_process()
    return context is not None and bool(fields_to_propagate(context).privacy_mode)


def _private(env: Any) -> dict[Any, Any] | None:
    if not hasattr(env, "keys"):
        return None
    changed = dict(env)
    changed.pop(environment.PARENT_CONTEXT.encode(), None)
    changed[environment.PARENT_CONTEXT] = serialization.pack(PRIVATE)
    return changed
