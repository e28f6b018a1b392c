"""Who asked, in which trace: the context of calls.

One immutable value in one ContextVar, read once when a call starts. What the user gave is serialised here, on the
user's thread, so that later mutation changes nothing and no host object travels to the flusher.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from copy import copy
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, TypeVar

from ..core import diagnostics, guard, ids
from ..core.environment import PARENT_CONTEXT, is_on
from . import posthog_clients, request_lifetime

F = TypeVar("F", bound=Callable[..., Any])

OVERRIDES = frozenset(
    (
        "posthog_distinct_id",
        "posthog_trace_id",
        "posthog_properties",
        "posthog_groups",
        "posthog_privacy_mode",
        "posthog_provider_override",
    )
)
"""The per-call arguments of PostHog's own wrapper, accepted by every patched method."""


@dataclass(eq=False, repr=False)
class Fields:
    """What one source says about a call. None is "says nothing". Properties and groups are key -> JSON text."""

    distinct_id: str | None = None
    trace_id: str | None = None
    session_id: str | None = None
    """Groups traces into a conversation."""
    replay_session_id: str | None = None
    """The browser session of posthog-js (`$session_id`), which links the session replay."""
    properties: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)
    privacy_mode: bool | None = None
    parent_id: str | None = None
    span_name: str | None = None
    provider: str | None = None


NOTHING = Fields()
PRIVATE = Fields(privacy_mode=True)
"""How a setting is switched off."""


class Context:
    """The fields in force inside a `posthog_context` block, inner ones already merged over outer ones."""

    __slots__ = ("began", "fields", "outer", "request", "scope")

    def __init__(self, fields: Fields, outer: Context | None, scope: object) -> None:
        self.fields = fields
        self.outer = outer
        self.scope = scope
        """The `posthog_context` that opened it."""
        self.request: Ambient | None = None
        """The web request around it."""
        self.began: request_lifetime.Moment | None = None
        """When a function began that the request had handed over, and that had to wait until after its end."""
        if isinstance(scope, Ambient):
            self.request = scope
        elif outer is not None:
            self.of_request(outer)

    def copy(self, fields: Fields, outer: Context | None) -> Context:
        """The same block, with other fields or inside another one."""
        made = Context(fields, outer, self.scope)
        made.of_request(self)
        return made

    def of_request(self, other: Context | None) -> None:
        """Be of the web request of another block."""
        self.request = other.request if other is not None else None
        self.began = other.began if other is not None else None


class Ambient:
    """The scope of a block that says less than any `posthog_context` and the posthog package do: a web request."""

    trace_id: str
    ended: request_lifetime.Moment | None = None
    is_private = False

    def fields(self) -> Fields:
        """What it says of a call that starts now. On the caller's thread."""
        raise NotImplementedError


class Passing:
    """The scope of a block that a library opens by what it tells of its steps, and that it may not close where it was
    opened."""

    def in_force(self) -> bool:
        """Whether code that runs here is inside."""
        raise NotImplementedError


def current() -> Context | None:
    """The innermost block in force here."""
    return _in_force(CONTEXT.get())


def _in_force(inside: Context | None) -> Context | None:
    while inside is not None and isinstance(inside.scope, Passing) and not inside.scope.in_force():
        inside = inside.outer
    if inside is not None and inside.request is not None:
        ended = inside.began or inside.request.ended
        if ended is not None and ended.is_past():
            return _outliving(inside, inside.request)
    return inside


def _outliving(inside: Context, request: Ambient) -> Context | None:
    """What is left of a block when the web request around it is over: a span that is still open, with all that is
    inside; else what the program named itself, in a trace of its own."""
    blocks = []
    found: Context | None = inside
    while found is not None and found.scope is not request:
        if getattr(found.scope, "over", True) is False:
            return inside
        blocks.append(found)
        found = found.outer
    rest = _in_force(found.outer) if found is not None else None
    if request.is_private:  # the request's content may still be at work here
        rest = Context(merge(PRIVATE, rest.fields if rest is not None else NOTHING), rest, None)
    for block in reversed(blocks):
        fields = copy(block.fields)
        if fields.trace_id == request.trace_id:
            around = rest.fields if rest is not None else NOTHING
            fields.trace_id, fields.parent_id = around.trace_id, around.parent_id
        rest = Context(fields if not request.is_private else merge(PRIVATE, fields), rest, block.scope)
    return rest


def carried() -> Context | None:
    """The same for another thread, in which it is in force whatever the library knows there."""
    inside = current()
    if inside is not None and isinstance(inside.scope, Passing):
        made = Context(inside.fields, inside.outer, None)
        made.of_request(inside)
        return made
    return inside


def ambient(inside: Context | None) -> Ambient | None:
    """The web request around a block."""
    return inside.request if inside is not None else None


def handed_on(inside: Context) -> Fields:
    """The fields to propagate to another process: the block's own, those of the web request around it, and privacy
    where this process is private."""
    fields, around = inside.fields, ambient(inside)
    if around is not None:
        fields = merge(fields, guard.attempt("read a web request", around.fields) or NOTHING)
    return fields if fields.privacy_mode or not is_private() else merge(PRIVATE, fields)


def leaving() -> Context | None:
    """The block to propagate to another process: the one in force here; in a private process there always is one."""
    inside = current()
    return Context(PRIVATE, None, None) if inside is None and is_private() else inside


def started_in(fields: Fields) -> None:
    """This process was started in such a block: its privacy holds for all that runs here, whatever block that is in."""
    global started_private
    started_private = started_private or bool(fields.privacy_mode)


def _handed_down() -> Context | None:
    """What the parent process handed down: the context of everything here that is in no other."""
    text = os.environ.get(PARENT_CONTEXT)
    if not text or not is_on(os.environ, "POSTHOG_AUTOINSTRUMENT_PROPAGATE", True):
        return None
    from . import serialization

    found = guard.quietly(serialization.unpack, text)
    if not found:
        return None
    fields = Fields(**found)
    started_in(fields)
    return Context(fields, None, None)


private = False
"""Set by the agent from POSTHOG_PRIVACY_MODE."""
started_private = False
"""This process was started in a private block of its parent."""

# The default of the variable, not its value in one thread: threads and tasks that somebody else starts have it, too.
CONTEXT: ContextVar[Context | None] = ContextVar("posthog_autoinstrument_context", default=_handed_down())  # noqa: B039


def merge(first: Fields, second: Fields) -> Fields:
    """`first` over `second`, field by field; properties and groups are united. Private is what either says is private:
    False takes nothing back."""
    if second is NOTHING:
        return first
    if first is NOTHING:
        return second
    return Fields(
        first.distinct_id or second.distinct_id,
        first.trace_id or second.trace_id,
        first.session_id or second.session_id,
        first.replay_session_id or second.replay_session_id,
        {**second.properties, **first.properties} if first.properties else second.properties,
        {**second.groups, **first.groups} if first.groups else second.groups,
        first.privacy_mode or second.privacy_mode,
        first.parent_id or second.parent_id,
        first.span_name or second.span_name,
        first.provider or second.provider,
    )


opentelemetry_trace_ids = False
"""Set by `config` from POSTHOG_AUTOINSTRUMENT_OTEL_TRACE_ID: a trace that nobody names is OpenTelemetry's."""


def fresh_trace_id() -> str:
    """The id of a trace that begins here and that nobody names."""
    if opentelemetry_trace_ids:
        found = guard.quietly(opentelemetry_ids)
        if found:
            return found[0]
    return ids.new_trace_id()


def opentelemetry_ids() -> tuple[str, str] | None:
    """Trace id and span id of OpenTelemetry's active span, in hexadecimal (W3C); None where there is none.

    opentelemetry-api 1.0 to 1.45: `trace.get_current_span().get_span_context()`; an invalid context has ids of 0.
    """
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    context = trace.get_current_span().get_span_context()
    return (f"{context.trace_id:032x}", f"{context.span_id:016x}") if context.trace_id else None


def serialised(values: Mapping[Any, Any]) -> dict[str, str]:
    """A mapping of the user's as key -> JSON text. A value that cannot be serialised becomes its repr."""
    if not values:
        return {}
    from ..core import safejson  # not before there are any: `import openai` would wait for it

    # A list first: another thread may change the mapping meanwhile.
    items = guard.attempt("read properties", lambda: list(values.items())) or []
    return {
        name: (guard.attempt("serialise a property", safejson.dumps, value, name) or '"<not serialisable>"')
        for name, value in ((key if isinstance(key, str) else guard.describe(key), value) for key, value in items)
    }


def checked_mapping(function: str, name: str, value: object) -> Mapping[Any, Any]:
    """The argument `name` of a public function, where it is a mapping or None."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise TypeError(f"{function}: {name} must be a mapping, not {type(value).__name__}")
    return value


def close(scope: object) -> Context | None:
    """Leave the innermost block that `scope` opened; what it was, None where none is open here."""
    # By scope, not by token: a token cannot be reset in another Context, which is where frameworks that finish a
    # request in a second task would leave us ("was created in a different Context" at every stream).
    above: list[Context] = []
    context = CONTEXT.get()
    while context is not None and context.scope is not scope:
        above.append(context)
        context = context.outer
    if context is not None:
        rest = context.outer
        for inner in reversed(above):  # blocks that were opened later and are still open (two generators)
            rest = inner.copy(inner.fields, rest)
        CONTEXT.set(rest)
    return context


class posthog_context:
    """Name the user and the trace of every call made inside. Context manager and decorator, sync and async.

    `distinct_id` is PostHog's person; without one, events are anonymous. `trace_id` groups the calls of one request
    or turn; without one, an outermost block starts a fresh trace. `session_id` groups traces into a conversation.
    `properties` and `groups` go on every event; inner blocks win, key by key. `privacy_mode=True` leaves prompts and
    answers out, and nothing inside takes that back: False says as little as None. `parent_id` and `span_name` place the
    calls in a tree of spans. `provider` is what the events call whoever answers, where the address does not tell.

    One object may be entered many times, in any thread or task. Decorates functions, coroutine functions, generators
    and asynchronous generators. Ids that are no strings (numbers, UUIDs) are turned into text, as PostHog does it.
    Raises TypeError for properties or groups that are not a mapping, and for a privacy mode that is not a bool.
    """

    def __init__(
        self,
        distinct_id: ids.Id | None = None,
        trace_id: ids.Id | None = None,
        session_id: ids.Id | None = None,
        properties: Mapping[str, Any] | None = None,
        groups: Mapping[str, Any] | None = None,
        privacy_mode: bool | None = None,
        parent_id: ids.Id | None = None,
        span_name: str | None = None,
        provider: str | None = None,
    ) -> None:
        self._distinct_id = ids.text_of(distinct_id, "posthog_context: distinct_id")
        self._trace_id = ids.text_of(trace_id, "posthog_context: trace_id")
        self._session_id = ids.text_of(session_id, "posthog_context: session_id")
        self._properties = checked_mapping("posthog_context", "properties", properties)
        self._groups = checked_mapping("posthog_context", "groups", groups)
        if privacy_mode is not None and not isinstance(privacy_mode, bool):
            raise TypeError(f"posthog_context: privacy_mode must be a bool, not {type(privacy_mode).__name__}")
        self._privacy_mode = privacy_mode
        self._parent_id = ids.text_of(parent_id, "posthog_context: parent_id")
        self._span_name = ids.text_of(span_name, "posthog_context: span_name")
        self._provider = ids.text_of(provider, "posthog_context: provider")

    def _opened(self) -> Context:
        outer = current()
        inherited = outer.fields if outer is not None else NOTHING
        if self._trace_id and inherited.parent_id and self._trace_id != inherited.trace_id:
            inherited = copy(inherited)
            inherited.parent_id = None  # a span of another trace
        return Context(
            merge(
                Fields(
                    self._distinct_id,
                    self._trace_id or inherited.trace_id or fresh_trace_id(),
                    self._session_id,
                    None,
                    serialised(self._properties),
                    serialised(self._groups),
                    self._privacy_mode,
                    self._parent_id,
                    self._span_name,
                    self._provider,
                ),
                inherited,
            ),
            outer,
            self,
        )

    def _close(self) -> None:
        close(self)

    def __enter__(self) -> posthog_context:
        CONTEXT.set(self._opened())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    async def __aenter__(self) -> posthog_context:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def __call__(self, function: F) -> F:
        """Decorate `function`: each call of it runs inside a block of its own."""
        from .decorators import Block, decorate  # where something is decorated only: `import openai` would wait for it

        return decorate(function, lambda args, kwargs: Block(self._opened()))


def current_trace_id() -> str | None:
    """The trace that calls made here belong to; None outside of any block and web request."""
    context = current()
    if context is None:
        return None
    if opentelemetry_trace_ids:
        request = ambient(context)
        active = guard.quietly(opentelemetry_ids)
        if active and request is not None and context.fields.trace_id == request.trace_id:
            return active[0]
    return context.fields.trace_id


def set_session(session_id: ids.Id | None) -> None:
    """Say to which session (a conversation) the calls belong that are made from here on.

    Until the innermost open block ends; outside of any, for the rest of this thread or task. None says to no session.
    An id that is no string is turned into one.
    """
    session_id = ids.text_of(session_id, "set_session: session_id")
    context = current()
    fields = copy(context.fields if context is not None else NOTHING)
    fields.session_id = session_id
    CONTEXT.set(context.copy(fields, context.outer) if context is not None else Context(fields, None, None))


def fields_of_overrides(overrides: Mapping[str, Any]) -> Fields:
    """The per-call `posthog_*` arguments of one call. Odd types are mended, never an error: the call must go out."""

    def text(name: str) -> str | None:
        return ids.text_of(overrides.get(name), name)

    def mapping(name: str) -> dict[str, str]:
        value = overrides.get(name)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            diagnostics.warn_once(name, f"{name} must be a mapping, not {type(value).__name__}; it is left out")
            return {}
        return serialised(value)

    privacy = overrides.get("posthog_privacy_mode")
    return Fields(
        distinct_id=text("posthog_distinct_id"),
        trace_id=text("posthog_trace_id"),
        properties=mapping("posthog_properties"),
        groups=mapping("posthog_groups"),
        privacy_mode=True if privacy else None,
        provider=text("posthog_provider_override"),
    )


def fields_of_posthog_sdk() -> Fields:
    """What the posthog package's own context says, where the program has loaded it (posthog 7: `posthog.contexts`).

    Read when a call starts, on the caller's thread. The package's `privacy_mode` (module or any client) counts;
    False there says nothing, so that the most private setting of all wins.
    """
    contexts = sys.modules.get("posthog.contexts")
    if "posthog" not in sys.modules:
        return NOTHING
    private = _private_by_posthog_sdk()
    read_user = getattr(contexts, "get_context_distinct_id", None)
    read_session = getattr(contexts, "get_context_session_id", None)
    read_tags = getattr(contexts, "get_tags", None)
    user = read_user() if read_user is not None else None
    session = read_session() if read_session is not None else None
    tags = read_tags() if read_tags is not None else None
    if not (user or session or tags or private):
        return NOTHING
    return Fields(
        distinct_id=ids.text_of(user, "posthog.identify_context: distinct_id") if user else None,
        replay_session_id=ids.text_of(session, "posthog.set_context_session: session_id") if session else None,
        properties=serialised(tags) if tags else {},
        privacy_mode=True if private else None,
    )


def _private_by_posthog_sdk() -> bool:
    posthog = sys.modules.get("posthog")
    client = getattr(posthog, "default_client", None)
    return (
        bool(getattr(posthog, "privacy_mode", False) or getattr(client, "privacy_mode", False))
        or posthog_clients.any_private()
    )


def is_private() -> bool:
    """Whether this process is private as a whole: by its environment, the posthog package, or its parent process."""
    return private or started_private or bool(guard.quietly(_private_by_posthog_sdk))


def disabled_by_posthog_sdk() -> bool:
    """The program switched the posthog package off: our events are its events too."""
    posthog = sys.modules.get("posthog")
    if posthog is None:
        return False
    client = getattr(posthog, "default_client", None)
    return bool(getattr(posthog, "disabled", False) or getattr(client, "disabled", False))
