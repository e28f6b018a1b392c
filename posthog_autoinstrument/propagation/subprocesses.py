"""Child programs: `subprocess.Popen`, and all that uses it, asyncio too, puts the open context into the environment of
the child, whose `context.scope` finds it there. CPython 3.10 to 3.14.

Neither the parent's environment nor a mapping that the program gives is changed. Without an open context nothing is
added: a child then inherits the variable of its parent, if there is one.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from ..context import serialization
from ..context.scope import Context, current_for_process, fields_to_propagate
from ..core import environment, guard
from ..core.patching import replace
from ..settings.config import Config

ENV = 10
"""The position of `env` among the arguments after `self`."""


def instrument(module: ModuleType, settings: Config) -> bool:
    """`subprocess`."""
    return replace(vars(module).get("Popen"), "__init__", _init)


def _init(original: Any) -> Any:
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        context = current_for_process()
        if context is not None:
            args, kwargs = with_environment(args, kwargs, ENV, lambda env: environment_with(env, context))
        original(self, *args, **kwargs)

    return __init__


def with_environment(
    args: tuple[Any, ...], kwargs: dict[str, Any], at: int, change: Callable[[Any], Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a function with a changed `env`, the one at position `at`. Unchanged where `change` returns None
    or fails."""
    changed = guard.attempt("propagate to a child program", change, args[at] if len(args) > at else kwargs.get("env"))
    if changed is None:
        return args, kwargs
    if len(args) > at:
        return (*args[:at], changed, *args[at + 1 :]), kwargs
    return args, {**kwargs, "env": changed}


def environment_with(env: Any, context: Context) -> dict[Any, Any] | None:
    """A copy of the child's environment with the context in it; None for something else, which Popen will refuse."""
    if env is not None and not hasattr(env, "keys"):
        return None
    changed = dict(environment.current() if env is None else env)
    # A program may give names as bytes.
    changed.pop(environment.PARENT_CONTEXT.encode(), None)
    changed[environment.PARENT_CONTEXT] = serialization.pack(fields_to_propagate(context))
    return changed
