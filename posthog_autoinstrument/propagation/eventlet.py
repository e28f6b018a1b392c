"""eventlet: a green thread runs in the context in which it was spawned, and a task of `tpool` in that of its `execute`.
eventlet 0.36 to 0.41.

Whatever spawns has the hub switch to a greenlet that has not begun: `schedule_call_global` or `schedule_call_local`
with its `switch`.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ..context.scope import current_for_thread
from ..core import guard
from ..core.patching import replace
from .wrappers import InThread, Outside, to_greenlet


def patch(module: ModuleType) -> None:
    """`eventlet.hubs.hub` or `eventlet.tpool` has loaded."""
    hub = vars(module).get("BaseHub")
    replace(hub, "schedule_call_global", _schedule)
    replace(hub, "schedule_call_local", _schedule)
    if module.__name__ == "eventlet.tpool":
        replace(module, "execute", _execute)


def _schedule(original: Any) -> Any:
    def schedule(self: Any, seconds: Any, cb: Any, *args: Any, **kw: Any) -> Any:
        greenlet: Any = getattr(cb, "__self__", None)
        if hasattr(greenlet, "gr_context") and cb == greenlet.switch:
            guard.attempt("hand a context to a green thread", to_greenlet, greenlet)
        return original(self, seconds, cb, *args, **kw)

    return schedule


def _execute(original: Any) -> Any:
    def execute(meth: Any, *args: Any, **kwargs: Any) -> Any:
        context = current_for_thread()
        if context is None:
            return original(meth, *args, **kwargs)
        with Outside():  # it may start workers
            return original(InThread(meth, context), *args, **kwargs)

    return execute
