"""Processes of `multiprocessing`: a child runs in the context in which it was started. CPython 3.10 to 3.14.

A forked child inherits it. One that is spawned, or forked from a server, unpickles its Process object in the thread
that then runs it: an attribute of that object has the packed context, which is set when it is unpickled. So the child
needs no patch, and the parent's environment is not changed.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ..context import serialization
from ..context.scope import CONTEXT, Context, current_for_process, fields_to_propagate, inherit_privacy
from ..core.patching import replace
from ..propagation import ATTRIBUTE
from ..settings.config import Config
from .wrappers import extract


def instrument(module: ModuleType, settings: Config) -> bool:
    """`multiprocessing.process`."""
    return replace(vars(module).get("BaseProcess"), "start", _start)


class ContextInPickle:
    """An attribute of a Process object while it is started: unpickled, it sets the context."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def __reduce__(self) -> Any:
        return set_context, (serialization.pack(fields_to_propagate(self._context)),)


def set_context(text: str) -> None:
    """In the child, in the thread that is about to run the process: set the parent's context."""
    context = extract(text)
    CONTEXT.set(context)
    if context is not None:
        inherit_privacy(context.fields)


def _start(original: Any) -> Any:
    def start(self: Any) -> Any:
        context = current_for_process()
        if context is None:
            return original(self)
        self.__dict__[ATTRIBUTE] = ContextInPickle(context)
        try:
            return original(self)
        finally:
            self.__dict__.pop(ATTRIBUTE, None)

    return start
