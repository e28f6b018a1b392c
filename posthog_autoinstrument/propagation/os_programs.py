"""Programs that `os` itself starts: `posix_spawn` hands the open context down as `subprocess.Popen` does; `system`, the
`exec` functions, and `spawn*`, which is made of them, say that it is private. CPython 3.10 to 3.13.

No more than that: a command line can be read by other users, and what a process becomes is no part of one block.
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
from ..core.patching import replace
from .subprocesses import environment_with

ENV = 2
"""The position of `env` among the arguments."""


def patch(module: ModuleType) -> None:
    """`os` has loaded."""
    for name in ("posix_spawn", "posix_spawnp"):
        replace(module, name, _spawn)
    replace(module, "execv", _execv)
    replace(module, "execve", _execve)
    if os.name == "posix":
        replace(module, "system", _system)


def _spawn(original: Any) -> Any:
    def spawn(*args: Any, **kwargs: Any) -> Any:
        context = current_for_process()
        if context is not None:
            return _with(original, args, kwargs, lambda env: environment_with(env, context))
        return original(*args, **kwargs)

    return spawn


def _execve(original: Any) -> Any:
    def execve(*args: Any, **kwargs: Any) -> Any:
        if guard.attempt("look for privacy", _is_private):
            return _with(original, args, kwargs, _private)
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
                args = (guard.attempt("hand privacy down", _command, args[0]) or args[0],)
            elif "command" in kwargs:
                kwargs["command"] = guard.attempt("hand privacy down", _command, kwargs["command"]) or kwargs["command"]
        return original(*args, **kwargs)

    return system


def _command(command: Any) -> Any:
    """What a shell runs, in an environment that says that it is private."""
    before = f"export {environment.PARENT_CONTEXT}={shlex.quote(serialization.pack(PRIVATE))}; "
    if isinstance(command, str):
        return before + command
    return before.encode() + command if isinstance(command, bytes) else None


def _with(original: Any, args: tuple[Any, ...], kwargs: dict[str, Any], change: Any) -> Any:
    """Call with another environment, where that can be made."""
    env = args[ENV] if len(args) > ENV else kwargs.get("env")
    changed = guard.attempt("hand a context down", change, env) if env is not None else None
    if changed is not None and len(args) > ENV:
        args = (*args[:ENV], changed, *args[ENV + 1 :])
    elif changed is not None:
        kwargs = {**kwargs, "env": changed}
    return original(*args, **kwargs)


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
