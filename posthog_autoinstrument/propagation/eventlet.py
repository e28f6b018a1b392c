"""eventlet: a green thread runs in the context in which it was spawned, and a task of `tpool` in that of its `execute`.
eventlet 0.36 to 0.41.

Every way to spawn calls `schedule_call_global` or `schedule_call_local` of the hub with the `switch` of a greenlet that
has not begun.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ..context.scope import current_for_thread
from ..core import guard
from ..core.patching import replace, replace_all
from ..settings.config import Config
from .wrappers import Inside, InThread, start_greenlet_inside


def instrument(module: ModuleType, settings: Config) -> bool:
    """`eventlet.hubs.hub` or `eventlet.tpool`."""
    if module.__name__ == "eventlet.tpool":
        return replace(module, "execute", _execute)
    hub = vars(module).get("BaseHub")
    return replace_all(hub, {"schedule_call_global": _schedule, "schedule_call_local": _schedule})


def _schedule(original: Any) -> Any:
    def schedule(self: Any, seconds: Any, cb: Any, *args: Any, **kw: Any) -> Any:
        greenlet: Any = getattr(cb, "__self__", None)
        if hasattr(greenlet, "gr_context") and cb == greenlet.switch:
            guard.attempt("propagate to a green thread", start_greenlet_inside, greenlet)
        return original(self, seconds, cb, *args, **kw)

    return schedule


def _execute(original: Any) -> Any:
    def execute(meth: Any, *args: Any, **kwargs: Any) -> Any:
        context = current_for_thread()
        if context is None:
            return original(meth, *args, **kwargs)
        with Inside(None):  # it may start workers
            return original(InThread(meth, context), *args, **kwargs)

    return execute
