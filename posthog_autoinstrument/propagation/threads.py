"""Threads: a `threading.Thread` runs in the context that was open where it was started. CPython 3.10 to 3.14.

From 3.14 on (Lib/threading.py) `_bootstrap_inner` runs `run` in a Context that `start` has made, or that the program
gave to the thread. Our variable is set in the one made by `start`; one given by the program is not changed.

Only our own ContextVar is propagated, never the program's whole Context. Subclasses that override `run` (Timer is one)
and those that override `start` are reached, since `_bootstrap_inner` calls the one and is called because of the other.
"""

from __future__ import annotations

from contextvars import Context as Run
from types import ModuleType
from typing import Any

from ..context.scope import CONTEXT, current_for_thread
from ..core.patching import replace_all
from ..propagation import ATTRIBUTE
from ..settings.config import Config


def instrument(module: ModuleType, settings: Config) -> bool:
    """`threading`."""
    return replace_all(vars(module).get("Thread"), {"start": _start, "_bootstrap_inner": _bootstrap_inner})


def _start(original: Any) -> Any:
    def start(self: Any) -> Any:
        context = current_for_thread()
        if context is None or vars(self).get("_context") is not None:
            return original(self)
        self.__dict__[ATTRIBUTE] = context
        try:
            return original(self)
        finally:
            self.__dict__.pop(ATTRIBUTE, None)  # where it could not be started

    return start


def _bootstrap_inner(original: Any) -> Any:
    def _bootstrap_inner(self: Any) -> Any:
        context = self.__dict__.pop(ATTRIBUTE, None)
        if context is not None:
            CONTEXT.set(context)
            runs_in = vars(self).get("_context")
            if isinstance(runs_in, Run):
                runs_in.run(CONTEXT.set, context)
        return original(self)

    return _bootstrap_inner
