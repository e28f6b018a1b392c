"""Processes of `multiprocessing`: a child goes on in the context in which it was started. CPython 3.10 to 3.13.

A forked child inherits it. One that is spawned, or forked from a server, unpickles its Process object in the thread
that then runs it: what says the context travels in that object, and arrives by being unpickled. So the child needs no
patch, and the parent's environment stays as it is.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ..context import serialization
from ..context.scope import CONTEXT, Context, current_for_process, fields_to_propagate, inherit_privacy
from ..core import guard
from ..core.patching import replace
from ..propagation import ATTRIBUTE, install
from .wrappers import unpacked


def patch(module: ModuleType) -> None:
    """`multiprocessing.process` has loaded."""
    replace(module.BaseProcess, "start", _start)


class Luggage:
    """What a Process object has on it while it is started."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def __reduce__(self) -> Any:
        return arrive, (serialization.pack(fields_to_propagate(self._context)),)


def arrive(text: str) -> None:
    """In the child, in the thread that is about to run the process: go on in the parent's context."""
    context = guard.attempt("read the parent's context", unpacked, text)
    CONTEXT.set(context)
    if context is not None:
        inherit_privacy(context.fields)
    install()


def _start(original: Any) -> Any:
    def start(self: Any) -> Any:
        context = current_for_process()
        if context is None:
            return original(self)
        self.__dict__[ATTRIBUTE] = Luggage(context)
        try:
            return original(self)
        finally:
            self.__dict__.pop(ATTRIBUTE, None)

    return start
