"""Spans: the steps that a program names itself.

What a program puts into a span is made into JSON on its own thread, when it is put there: nothing that changes later,
and no `__repr__` of the program's on the flusher's thread, can matter. Without an agent in the process a span only
places the calls inside it.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from time import perf_counter, time
from types import TracebackType
from typing import Any, TypeVar

from ..context import decorators, scope
from ..context.fields import NO_FIELDS, Fields, check_mapping, merge, serialize
from ..context.identity import Intent
from ..core import guard, ids, safejson
from .exceptions import CANCELLATIONS, MAX_ERROR_CHARS
from .span_recorder import Recorder, active_recorder

F = TypeVar("F", bound=Callable[..., Any])

MAX_ITEMS = 1_000
"""So many of what a decorated generator yields are its output."""


class FinishedSpan:
    """A span that was left, as the queue holds it; `of_trace`: the event of its whole trace."""

    def __init__(self, to: Recorder, span: Span, of_trace: bool) -> None:
        self.span = span
        self.of_trace = of_trace
        self.defaults = to.defaults
        self.size = len(span.input_state or "") + len(span.output_state or "")
        self.pid = span.pid
        self.ended_at = time()


class Span:
    """One span that was entered: what `with posthog_span(...) as span` gives.

    `id` and `trace_id` are those of its event; calls inside have them as parent and trace. Its methods never raise.
    """

    input_state: str | None = None
    output_state: str | None = None
    error: tuple[Any, ...] | None = None
    duration_s = 0.0
    over = False
    left: object = None
    """The scope of its block when it is over."""

    def __init__(
        self, of: object, name: str, type: str | None, inside: scope.Context | None = None, id: str | None = None
    ) -> None:
        """`inside`: the block that it is a step of, where that is not the one in force here."""
        outer = scope.CONTEXT.get()
        if inside is None:
            inside = scope.current()
        inherited = inside.fields if inside is not None else NO_FIELDS
        self.of = of
        self.name = name
        self.type = type
        self.id = id or ids.new_trace_id()
        self.parent_id = inherited.parent_id
        self.trace_id = inherited.trace_id or scope.new_trace_id()
        self.properties: dict[str, str] = {}
        self.facts: dict[str, str] = {}
        """Properties that a library gives it: `records.Span.facts`."""
        fields = merge(Fields(trace_id=self.trace_id, parent_id=self.id), inherited)
        self.opened = scope.Context(fields, outer or inside, self)
        self.opened.join_request(inside)  # one that is over may still stand in `outer`
        self.intent = Intent(None, self.opened)
        self.pid = os.getpid()
        self.started = perf_counter()

    def set_input(self, value: Any) -> None:
        """Set the input: any value, made into JSON now."""
        self.input_state = guard.attempt("write a state", safejson.dumps, value)

    def set_output(self, value: Any) -> None:
        """Set the output: any value, made into JSON now."""
        self.output_state = guard.attempt("write a state", safejson.dumps, value)

    def set_property(self, name: str, value: Any) -> None:
        """Put a property on the span's event."""
        self.properties.update(serialize({name: value}))

    def end(self, error: BaseException | None, names_trace: bool, is_step: bool = True) -> None:
        """The span was left, by an exception or not. Not `is_step`: only the event of the trace is made."""
        self.over = True
        self.duration_s = perf_counter() - self.started
        self.let_go()
        to = active_recorder()
        if to is None:
            return
        if error is not None and self.error is None and not isinstance(error, GeneratorExit):
            name = type(error).__name__
            text = "cancelled" if name in CANCELLATIONS else (guard.quietly(str, error) or "")[:MAX_ERROR_CHARS]
            self.error = (name, text)
        if is_step:
            to.emit(FinishedSpan(to, self, of_trace=False), False)
        if names_trace and self.parent_id is None:
            to.emit(FinishedSpan(to, self, of_trace=True), False)

    def let_go(self) -> None:
        """It is over: its block no longer leads to it. Until then each holds the other, and the input and output."""
        self.opened.scope = self.left


class posthog_span:
    """Name one step of the program: a span event, and the parent of every call and span inside.

    Context manager and decorator, for functions, coroutine functions, generators and asynchronous generators. A
    decorated function's arguments and its result are the span's input and output (`capture_input=False` and
    `capture_output=False` leave them out); in a `with` block `span.set_input(value)` and `span.set_output(value)` set
    them. `type` is the kind of step, in PostHog's words "tool", "agent", "chain" and the like. `trace=True` on the
    outermost span names the whole trace, too: a trace event with the same input and output. `properties` go on
    the span's event only.

    One object may be entered many times, in any thread or task. Raises TypeError for an empty name, and for properties
    that are no mapping.
    """

    def __init__(
        self,
        name: str,
        type: str | None = None,
        *,
        trace: bool = False,
        capture_input: bool = True,
        capture_output: bool = True,
        properties: Mapping[str, Any] | None = None,
    ) -> None:
        self._name = ids.text_of(name, "posthog_span: name")
        if not self._name:
            raise TypeError("posthog_span: name must not be empty")
        self._type = ids.text_of(type, "posthog_span: type")
        self._properties = check_mapping("posthog_span", "properties", properties)
        self._trace = bool(trace)
        self._capture_input = bool(capture_input)
        self._capture_output = bool(capture_output)

    def _opened(self) -> Span:
        span = Span(self, str(self._name), self._type)
        if self._properties:
            span.properties = serialize(self._properties)
        return span

    def __enter__(self) -> Span:
        span = self._opened()
        scope.CONTEXT.set(span.opened)
        return span

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        found = scope.CONTEXT.get()
        while found is not None and getattr(found.scope, "of", None) is not self:
            found = found.outer
        if found is not None:
            scope.close(found.scope)
            guard.attempt("end a span", found.scope.end, error, self._trace)  # type: ignore[attr-defined]

    async def __aenter__(self) -> Span:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def __call__(self, function: F) -> F:
        """Decorate `function`: each call of it is a span of its own."""
        signature = guard.quietly(inspect.signature, function) if self._capture_input else None

        def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> decorators.Block:
            span = self._opened()
            if signature is not None and active_recorder() is not None:
                guard.attempt("read the arguments of a span", _take_arguments, span, signature, args, kwargs)
            return _Run(span, self._capture_output, self._trace)

        return decorators.decorate(function, begin)


def _take_arguments(span: Span, signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """The arguments by their names. Those that do not fit raise in the function, as they should."""
    try:
        named = dict(signature.bind(*args, **kwargs).arguments)
    except TypeError:
        return
    first = next(iter(signature.parameters), None)
    if first in ("self", "cls"):
        named.pop(first, None)
    span.set_input(named)


class _Run(decorators.Block):
    """One run of a decorated function, as a span."""

    def __init__(self, span: Span, capture_output: bool, names_trace: bool) -> None:
        super().__init__(span.opened)
        self._span = span
        self._captures = capture_output and active_recorder() is not None
        self._names_trace = names_trace
        self._items: list[str] | None = None
        self._size = 0

    def item(self, value: Any) -> None:
        if not self._captures:
            return
        items = self._items = self._items if self._items is not None else []
        if len(items) < MAX_ITEMS and self._size < safejson.MAX_CHARS:
            text = guard.attempt("write a state", safejson.dumps, value)
            if text is not None:
                items.append(text)
                self._size += len(text)

    def returned(self, value: Any) -> None:
        if self._captures:
            self._span.set_output(value)

    def ended(self, error: BaseException | None) -> None:
        if self._items is not None:
            self._span.output_state = f"[{','.join(self._items)}]"
        guard.attempt("end a span", self._span.end, error, self._names_trace)
