"""Child programs: `subprocess.Popen`, and all that is made of it, asyncio's too, hands the open context down in the
child's environment, where the child's `context` finds it. CPython 3.10 to 3.13.

Neither the parent's environment nor a mapping that the program gives is changed. Without an open context nothing is
added, so a child gets what its parent got, if anything.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ..context import serialization
from ..context.scope import Context, current_for_process, fields_to_propagate
from ..core import environment, guard
from ..core.patching import replace

ENV = 10
"""The position of `env` among the arguments after `self`."""


def patch(module: ModuleType) -> None:
    """`subprocess` has loaded."""
    replace(module.Popen, "__init__", _init)


def _init(original: Any) -> Any:
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        context = current_for_process()
        if context is not None:
            env = args[ENV] if len(args) > ENV else kwargs.get("env")
            changed = guard.attempt("hand a context down", environment_with, env, context)
            if changed is not None and len(args) > ENV:
                args = (*args[:ENV], changed, *args[ENV + 1 :])
            elif changed is not None:
                kwargs["env"] = changed
        original(self, *args, **kwargs)

    return __init__


def environment_with(env: Any, context: Context) -> dict[Any, Any] | None:
    """A copy of the child's environment with the context in it; None for what is no environment, as Popen will say."""
    if env is not None and not hasattr(env, "keys"):
        return None
    changed = dict(environment.current() if env is None else env)
    # A program may give names as bytes.
    changed.pop(environment.PARENT_CONTEXT.encode(), None)
    changed[environment.PARENT_CONTEXT] = serialization.pack(fields_to_propagate(context))
    return changed
