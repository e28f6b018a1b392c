"""How a function that somebody else calls later, in another thread or process, runs in the context of now."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from contextvars import Token
from typing import Any

from ..context import serialization
from ..context.fields import Fields
from ..context.request_lifetime import Moment
from ..context.scope import CONTEXT, Context, current_for_thread, fields_to_propagate


class InThread:
    """A function for another thread of this process. The context is gone from that thread when it returns."""

    __slots__ = ("_in_request", "context", "function")

    def __init__(self, function: Callable[..., Any], context: Context) -> None:
        self.function = function
        self.context = context
        self._in_request = context.request is not None and context.request.ended is None

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        context = self.context
        if self._in_request and context.request is not None and context.request.ended is not None:
            # The request handed it over, and it had to wait: it is what the request left behind.
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
    """A function for another process: pickled with what the context says."""

    __slots__ = ()

    def __reduce__(self) -> Any:
        return arrived, (self.function, serialization.pack(fields_to_propagate(self.context)))


def arrived(function: Callable[..., Any], text: str) -> Callable[..., Any]:
    """An `InProcess` on the other side."""
    context = unpacked(text)
    return InThread(function, context) if context is not None else function


def unpacked(text: str) -> Context | None:
    """The context that `serialization.pack` wrote."""
    found = serialization.unpack(text)
    return Context(Fields(**found), None, None) if found else None


class Outside:
    """A block outside of any context: a worker that is started in it does not keep that of its first task."""

    __slots__ = ("_token",)

    def __enter__(self) -> None:
        self._token: Token[Context | None] = CONTEXT.set(None)

    def __exit__(self, *_: object) -> None:
        CONTEXT.reset(self._token)


def to_greenlet(greenlet: Any) -> None:
    """Have a greenlet that has not begun run in the context of now. One to which the program gave a Context keeps that.

    greenlet 1.0 to 3.5: `gr_context` is the `contextvars.Context` that it will run in, None for an empty one.
    """
    context = current_for_thread()
    if context is None or greenlet or greenlet.dead or greenlet.gr_context is not None:
        return
    own = contextvars.Context()
    own.run(CONTEXT.set, context)
    greenlet.gr_context = own
