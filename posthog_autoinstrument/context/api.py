"""The public functions of the context: `posthog_context`, `set_session`, `current_trace_id`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from types import TracebackType
from typing import Any, TypeVar

from ..core import guard, ids
from . import opentelemetry, scope
from .fields import NO_FIELDS, Fields, check_mapping, merge, serialize
from .scope import CONTEXT, Context, close, current, new_trace_id, request_around

F = TypeVar("F", bound=Callable[..., Any])


class posthog_context:
    """Sets the user and the trace of every call made inside. Context manager and decorator, sync and async.

    `distinct_id` is PostHog's person; without one, events are anonymous. `trace_id` groups the calls of one request
    or turn; without one, an outermost block starts a fresh trace. `session_id` groups traces into a conversation.
    `properties` and `groups` go on every event; inner blocks win, key by key. `privacy_mode=True` leaves prompts and
    answers out, and nothing inside takes that back: False is the same as None. `parent_id` and `span_name` place the
    calls in a tree of spans. `provider` is the name of who answers, for addresses that it cannot be read from.

    One object may be entered many times, in any thread or task. Decorates functions, coroutine functions, generators
    and asynchronous generators. Ids that are not strings (numbers, UUIDs) are converted to text, as PostHog does.
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
        self._properties = check_mapping("posthog_context", "properties", properties)
        self._groups = check_mapping("posthog_context", "groups", groups)
        if privacy_mode is not None and not isinstance(privacy_mode, bool):
            raise TypeError(f"posthog_context: privacy_mode must be a bool, not {type(privacy_mode).__name__}")
        self._privacy_mode = privacy_mode
        self._parent_id = ids.text_of(parent_id, "posthog_context: parent_id")
        self._span_name = ids.text_of(span_name, "posthog_context: span_name")
        self._provider = ids.text_of(provider, "posthog_context: provider")

    def _opened(self) -> Context:
        outer = current()
        inherited = outer.fields if outer is not None else NO_FIELDS
        if self._trace_id and inherited.parent_id and self._trace_id != inherited.trace_id:
            inherited = copy(inherited)
            inherited.parent_id = None  # a span of another trace
        return Context(
            merge(
                Fields(
                    self._distinct_id,
                    self._trace_id or inherited.trace_id or new_trace_id(),
                    self._session_id,
                    None,
                    serialize(self._properties),
                    serialize(self._groups),
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
    if scope.opentelemetry_trace_ids:
        request = request_around(context)
        active = guard.quietly(opentelemetry.active_ids)
        if active and request is not None and context.fields.trace_id == request.trace_id:
            return active[0]
    return context.fields.trace_id


def set_session(session_id: ids.Id | None) -> None:
    """Set the session (a conversation) of the calls made from here on.

    Until the innermost open block ends; outside of any block, for the rest of this thread or task. None: no session.
    An id that is not a string is converted to one.
    """
    session_id = ids.text_of(session_id, "set_session: session_id")
    context = current()
    fields = copy(context.fields if context is not None else NO_FIELDS)
    fields.session_id = session_id
    CONTEXT.set(context.copy(fields, context.outer) if context is not None else Context(fields, None, None))
