"""The context in force: one immutable value in one ContextVar, read once when a call starts.

What the user gave is serialized on the user's thread, so that later mutation changes nothing and no object of the
program travels to the flusher.
"""

from __future__ import annotations

import os
from contextvars import ContextVar
from copy import copy

from ..core import guard, ids
from ..core.environment import PARENT_CONTEXT, is_on
from . import opentelemetry, posthog_sdk, request_lifetime
from .fields import NO_FIELDS, PRIVATE, Fields, merge


class Context:
    """The fields in force inside a `posthog_context` block, inner ones already merged over outer ones."""

    __slots__ = ("began", "fields", "outer", "request", "scope")

    def __init__(self, fields: Fields, outer: Context | None, scope: object) -> None:
        self.fields = fields
        self.outer = outer
        self.scope = scope
        """What opened it, and closes it: a `posthog_context`, a span, a `RequestScope`, ..."""
        self.request: RequestScope | None = None
        """The web request around this block."""
        self.began: request_lifetime.Moment | None = None
        """Start of a function that the request had queued and that ran only after the request had ended."""
        if isinstance(scope, RequestScope):
            self.request = scope
        elif outer is not None:
            self.join_request(outer)

    def copy(self, fields: Fields, outer: Context | None) -> Context:
        """The same block, with other fields or inside another one."""
        made = Context(fields, outer, self.scope)
        made.join_request(self)
        return made

    def join_request(self, other: Context | None) -> None:
        """Belong to the web request of another block."""
        self.request = other.request if other is not None else None
        self.began = other.began if other is not None else None


class RequestScope:
    """Scope of a web request: lower precedence than `posthog_context` and the posthog package's context."""

    trace_id: str
    ended: request_lifetime.Moment | None = None
    """None while the request is being answered."""
    is_private = False

    def fields(self) -> Fields:
        """The fields for a call that starts now. On the caller's thread."""
        raise NotImplementedError


class LibraryScope:
    """Scope of a block that follows a library's callbacks. It may be closed in another task or thread than where it was
    opened, so it is asked whether it is in force."""

    def in_force(self) -> bool:
        """Whether code that runs here is inside the library's step."""
        raise NotImplementedError


def current() -> Context | None:
    """The innermost block in force here."""
    return _in_force(CONTEXT.get())


def _in_force(inside: Context | None) -> Context | None:
    while inside is not None and isinstance(inside.scope, LibraryScope) and not inside.scope.in_force():
        inside = inside.outer
    if inside is not None and inside.request is not None:
        ended = inside.began or inside.request.ended
        if ended is not None and ended.is_past():
            return _after_request(inside, inside.request)
    return inside


def _after_request(inside: Context, request: RequestScope) -> Context | None:
    """What remains of a block when the web request around it is over: all of it inside a span that is still open; else
    only the fields that the program set itself, in a trace of their own."""
    blocks = []
    found: Context | None = inside
    while found is not None and found.scope is not request:
        if getattr(found.scope, "over", True) is False:
            return inside
        blocks.append(found)
        found = found.outer
    rest = _in_force(found.outer) if found is not None else None
    if request.is_private:  # the request's content may still be at work here
        rest = Context(merge(PRIVATE, rest.fields if rest is not None else NO_FIELDS), rest, None)
    for block in reversed(blocks):
        fields = copy(block.fields)
        if fields.trace_id == request.trace_id:
            around = rest.fields if rest is not None else NO_FIELDS
            fields.trace_id, fields.parent_id = around.trace_id, around.parent_id
        rest = Context(fields if not request.is_private else merge(PRIVATE, fields), rest, block.scope)
    return rest


def current_for_thread() -> Context | None:
    """The block to propagate to another thread, in force there whatever a library's callbacks say."""
    inside = current()
    if inside is not None and isinstance(inside.scope, LibraryScope):
        made = Context(inside.fields, inside.outer, None)
        made.join_request(inside)
        return made
    return inside


def request_around(inside: Context | None) -> RequestScope | None:
    """The web request around a block."""
    return inside.request if inside is not None else None


def fields_to_propagate(inside: Context) -> Fields:
    """The fields to propagate to another process: the block's own, those of the web request around it, and privacy
    where this process is private."""
    fields, around = inside.fields, request_around(inside)
    if around is not None:
        fields = merge(fields, guard.attempt("read a web request", around.fields) or NO_FIELDS)
    return fields if fields.privacy_mode or not is_private() else merge(PRIVATE, fields)


def current_for_process() -> Context | None:
    """The block to propagate to another process: the one in force here; in a private process there always is one."""
    inside = current()
    return Context(PRIVATE, None, None) if inside is None and is_private() else inside


def inherit_privacy(fields: Fields) -> None:
    """The parent process started this one in a block with these fields: if private, everything here is private."""
    global started_private
    started_private = started_private or bool(fields.privacy_mode)


def _inherited() -> Context | None:
    """The context that the parent process put into the environment: in force where no other is."""
    text = os.environ.get(PARENT_CONTEXT)
    if not text or not is_on(os.environ, "POSTHOG_AUTOINSTRUMENT_PROPAGATE", True):
        return None
    from . import serialization

    found = guard.quietly(serialization.unpack, text)
    if not found:
        return None
    fields = Fields(**found)
    inherit_privacy(fields)
    return Context(fields, None, None)


private = False
"""POSTHOG_PRIVACY_MODE is set. Written by the agent."""
started_private = False
"""This process was started in a private block of its parent."""
opentelemetry_trace_ids = False
"""POSTHOG_AUTOINSTRUMENT_OTEL_TRACE_ID is set: a trace that nothing else names has OpenTelemetry's id. Written by the
agent."""

# The default of the variable, not its value in one thread: threads and tasks that are started without us have it, too.
CONTEXT: ContextVar[Context | None] = ContextVar("posthog_autoinstrument_context", default=_inherited())  # noqa: B039


def is_private() -> bool:
    """Whether this process is private as a whole: by its environment, the posthog package, or its parent process."""
    return private or started_private or bool(guard.quietly(posthog_sdk.is_private))


def new_trace_id() -> str:
    """The id of a trace that begins here: a new one, or OpenTelemetry's where the setting asks for it."""
    if opentelemetry_trace_ids:
        found = guard.quietly(opentelemetry.active_ids)
        if found:
            return found[0]
    return ids.new_trace_id()


def close(scope: object) -> Context | None:
    """Close the innermost block that `scope` opened and return it; None where none is open here."""
    # By scope, not by token: a token cannot be reset in another Context, which is where frameworks that finish a
    # request in a second task would leave us ("was created in a different Context" at every stream).
    above: list[Context] = []
    context = CONTEXT.get()
    while context is not None and context.scope is not scope:
        above.append(context)
        context = context.outer
    if context is not None:
        rest = context.outer
        for inner in reversed(above):  # blocks opened later and still open (two generators)
            rest = inner.copy(inner.fields, rest)
        CONTEXT.set(rest)
    return context
