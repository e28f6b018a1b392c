"""One step that a library runs: a span, and the parent of every call and span inside, as a `posthog_span` is.

A library reports where a step begins and where it ends. Between the two the step is the block in force, where both are
reported in one Context; where they are not, the step is skipped as soon as it has ended.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, Generic, TypeVar

from ...capture.span_recorder import active_recorder
from ...capture.spans import Span
from ...context import scope
from ...core import guard, safejson
from ...providers import parsing

T = TypeVar("T")

MAX_OPEN = 10_000
"""Open steps that are kept; above it the oldest is dropped."""


class _Left(scope.LibraryScope):
    """Scope of the block of a step that has ended."""

    def in_force(self) -> bool:
        return False


class Step(Span, scope.LibraryScope):
    """One step that runs. `silent`: another integration of PostHog records it; it still is the parent inside."""

    left = _Left()
    over = False
    silent = False
    begins_trace = False
    """Nothing around it belongs to a trace."""
    is_step = True
    """False: it is no span, but only the trace, if it begins one."""

    def __init__(
        self,
        name: str,
        type: str | None,
        framework: str,
        inside: scope.Context | None = None,
        id: str | None = None,
        session_id: str | None = None,
    ) -> None:
        """`session_id` is the conversation where nothing around it has one."""
        around = inside if inside is not None else scope.current()
        super().__init__(None, name, type, around, id)
        self.begins_trace = around is None or around.fields.trace_id is None
        self.facts["framework"] = safejson.dumps(framework)
        if session_id and not self.opened.fields.session_id:
            self.opened.fields.session_id = session_id
        to = active_recorder()
        self._private = bool(self.opened.fields.privacy_mode or (to is not None and to.defaults.privacy_mode))

    def enter(self) -> None:
        """Make it the block in force here."""
        scope.CONTEXT.set(self.opened)

    def in_force(self) -> bool:
        return not self.over

    def innermost(self) -> scope.Context:
        """The block around a step inside of this one: one that the program has opened inside of it, or this one."""
        inside = found = scope.current()
        while found is not None and found.scope is not self:
            if isinstance(found.scope, Step) and not found.scope.over:
                return self.opened  # for the library, the new step is no part of that one
            found = found.outer
        return self.opened if found is None or inside is None else inside

    def add_properties(self, **properties: Any) -> None:
        """Add properties that the library reports; None is left out."""
        self.facts.update(
            {name: safejson.dumps(value, name) for name, value in properties.items() if value is not None}
        )

    def set_input(self, value: Any, convert: safejson.Convert | None = None) -> None:
        """Set the input. `convert` turns the library's own types into JSON types."""
        if value is not None and not self.silent:
            self.input_state = self._state(value, convert)

    def set_output(self, value: Any, convert: safejson.Convert | None = None) -> None:
        """Set the output."""
        if value is not None and not self.silent:
            self.output_state = self._state(value, convert)

    def _state(self, value: Any, convert: safejson.Convert | None) -> str | None:
        """As JSON, serialized now; null where content is private."""
        if self._private:
            return "null"
        if isinstance(value, str) and value.startswith("{") and len(value) <= safejson.MAX_CHARS:
            arguments = parsing.parse(value)  # as a model writes them
            value = arguments if isinstance(arguments, dict) else value
        return guard.attempt("write a state", safejson.dumps, value, "", convert)

    def leave(self, error: BaseException | None = None) -> None:
        """End the step, by an exception or not."""
        if self.over:
            return
        self.over = True
        scope.close(self)
        if not self.silent and (self.is_step or self.begins_trace):
            self.end(error, self.begins_trace, self.is_step)
        self.let_go()


class Open(Generic[T]):
    """Steps that have begun and not ended, by the library's ids."""

    def __init__(self) -> None:
        self._found: OrderedDict[Hashable, T] = OrderedDict()

    def get(self, key: Hashable) -> T | None:
        """The open step of this id."""
        return self._found.get(key)

    def put(self, key: Hashable, value: T) -> None:
        """Add a step that has begun."""
        self._found[key] = value
        if len(self._found) > MAX_OPEN:
            guard.quietly(self._found.popitem, False)  # another thread may be at it

    def pop(self, key: Hashable) -> T | None:
        """Remove a step that has ended."""
        return self._found.pop(key, None)
