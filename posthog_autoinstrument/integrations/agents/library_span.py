"""One step that a library runs: a span, and the parent of every call and span inside, as a `posthog_span` is.

A library tells where a step begins and where it ends. Between the two the step is the block in force, where the library
tells of both in one Context; where it does not, the step is passed over once it is over.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, Generic, TypeVar

from ...capture.span_recorder import recording
from ...capture.spans import Span
from ...context import scope
from ...core import guard, safejson
from ...providers import parsing

T = TypeVar("T")

MAX_OPEN = 10_000
"""Steps that are waited for to end; the oldest goes."""


class _Left(scope.LibraryScope):
    """The scope of the block of a step that is over."""

    def in_force(self) -> bool:
        return False


class Step(Span, scope.LibraryScope):
    """One step that runs. `silent`: somebody else tells PostHog of it; the calls inside are placed all the same."""

    left = _Left()
    over = False
    silent = False
    begins_trace = False
    """Nothing around it is of any trace."""
    is_step = True
    """False: only what is said of the trace, if it begins one."""

    def __init__(
        self,
        name: str,
        type: str | None,
        framework: str,
        inside: scope.Context | None = None,
        id: str | None = None,
        session_id: str | None = None,
    ) -> None:
        """`session_id` is the conversation where nothing around it says one."""
        around = inside if inside is not None else scope.current()
        super().__init__(None, name, type, around, id)
        self.begins_trace = around is None or around.fields.trace_id is None
        self.facts["framework"] = safejson.dumps(framework)
        if session_id and not self.opened.fields.session_id:
            self.opened.fields.session_id = session_id
        to = recording()
        self._private = bool(self.opened.fields.privacy_mode or (to is not None and to.defaults.privacy_mode))

    def enter(self) -> None:
        """The code that runs here is inside."""
        scope.CONTEXT.set(self.opened)

    def in_force(self) -> bool:
        return not self.over

    def innermost(self) -> scope.Context:
        """The block that a step of this one is in: one of the program's own inside of it, or this one."""
        inside = found = scope.current()
        while found is not None and found.scope is not self:
            if isinstance(found.scope, Step) and not found.scope.over:
                return self.opened  # the library says that it is no part of that
            found = found.outer
        return self.opened if found is None or inside is None else inside

    def tell(self, **facts: Any) -> None:
        """What the library tells of it beside; nothing of what is empty."""
        self.facts.update({name: safejson.dumps(value, name) for name, value in facts.items() if value is not None})

    def takes(self, value: Any, convert: safejson.Convert | None = None) -> None:
        """What goes in. `convert` makes JSON's types of the library's own."""
        if value is not None and not self.silent:
            self.input_state = self._state(value, convert)

    def gives(self, value: Any, convert: safejson.Convert | None = None) -> None:
        """What comes out."""
        if value is not None and not self.silent:
            self.output_state = self._state(value, convert)

    def _state(self, value: Any, convert: safejson.Convert | None) -> str | None:
        """As JSON, now; but not where nobody will see it."""
        if self._private:
            return "null"
        if isinstance(value, str) and value.startswith("{") and len(value) <= safejson.MAX_CHARS:
            arguments = parsing.parse(value)  # as a model writes them
            value = arguments if isinstance(arguments, dict) else value
        return guard.attempt("write a state", safejson.dumps, value, "", convert)

    def leave(self, error: BaseException | None = None) -> None:
        """It is over, by an exception or not."""
        if self.over:
            return
        self.over = True
        scope.close(self)
        if not self.silent and (self.is_step or self.begins_trace):
            self.end(error, self.begins_trace, self.is_step)
        self.let_go()


class Open(Generic[T]):
    """Steps that have begun and not ended, by the ids that their library gives them."""

    def __init__(self) -> None:
        self._found: OrderedDict[Hashable, T] = OrderedDict()

    def get(self, key: Hashable) -> T | None:
        """What has begun under this id."""
        return self._found.get(key)

    def put(self, key: Hashable, value: T) -> None:
        """It has begun."""
        self._found[key] = value
        if len(self._found) > MAX_OPEN:
            guard.quietly(self._found.popitem, False)  # another thread may be at it

    def pop(self, key: Hashable) -> T | None:
        """It is over."""
        return self._found.pop(key, None)
