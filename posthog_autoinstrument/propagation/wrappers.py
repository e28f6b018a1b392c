"""Wrappers that run a function later, in another thread or process, in the context captured now."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from contextvars import Token
from typing import Any

from ..context import serialization
from ..context.fields import Fields
from ..context.request_lifetime import Moment
from ..context.scope import CONTEXT, Context, current_for_process, current_for_thread, fields_to_propagate
from ..core import guard
from ..propagation import install


class InThread:
    """A function to be called in another thread of this process, in `context`, which ends there when it returns."""

    __slots__ = ("_in_request", "context", "function")

    def __init__(self, function: Callable[..., Any], context: Context) -> None:
        self.function = function
        self.context = context
        self._in_request = context.request is not None and context.request.ended is None

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        context = self.context
        if self._in_request and context.request is not None and context.request.ended is not None:
            # Submitted by a web request that has ended while this waited: it still belongs to the request.
            context = context.copy(context.fields, context.outer)
            context.began = Moment()
        token = CONTEXT.set(context)
        try:
            return self.function(*args, **kwargs)
        finally:
            CONTEXT.reset(token)

    def __repr__(self) -> str:
        return repr(self.function)


class InProcess(InThread):
    """A function to be called in another process: pickled with the packed fields of the context."""

    __slots__ = ()

    def __reduce__(self) -> Any:
        return unpickle, (self.function, serialization.pack(fields_to_propagate(self.context)))


def unpickle(function: Callable[..., Any], text: str) -> Callable[..., Any]:
    """The function of an `InProcess`, in the process that unpickles it."""
    context = _unpack(text)
    return InThread(function, context) if context is not None else function


def inject() -> str | None:
    """The context to propagate to another process, as text; None where none is open."""
    context = current_for_process()
    if context is None:
        return None
    return guard.attempt("pack a context", lambda: serialization.pack(fields_to_propagate(context)))


def extract(text: object) -> Context | None:
    """The context that another process packed by `inject`; None for anything else."""
    if not isinstance(text, str):
        return None
    install()
    return guard.attempt("unpack a context", _unpack, text)


def _unpack(text: str) -> Context | None:
    found = serialization.unpack(text)
    return Context(Fields(**found), None, None) if found else None


class Inside:
    """A block in this context, or outside of any: for a worker that is started in it, or runs a task of another
    process."""

    __slots__ = ("_context", "_token")

    def __init__(self, context: Context | None) -> None:
        self._context = context

    def __enter__(self) -> None:
        self._token: Token[Context | None] = CONTEXT.set(self._context)

    def __exit__(self, *_: object) -> None:
        CONTEXT.reset(self._token)


def start_greenlet_inside(greenlet: Any) -> None:
    """Have a greenlet that has not begun run in the context of now. One to which the program gave a Context keeps that.

    greenlet 1.0 to 3.5: `gr_context` is the `contextvars.Context` that it will run in, None for an empty one.
    """
    context = current_for_thread()
    if context is None or greenlet or greenlet.dead or greenlet.gr_context is not None:
        return
    own = contextvars.Context()
    own.run(CONTEXT.set, context)
    greenlet.gr_context = own
