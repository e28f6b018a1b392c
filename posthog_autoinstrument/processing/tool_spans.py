"""Tools that models ask for, as spans, without any code of the program's.

A generation asks for a tool; a later call of the same trace brings the result. What is between them is the tool's work:
one `Span` of type "tool", below the generation that asked. Lives on the flusher's thread.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

from ..core.ids import new_ids
from ..core.records import Call, Span
from ..providers.generation import Generation
from ..providers.parsing import as_dict, as_list, as_text, parse

T = TypeVar("T")

MAX_ASKED = 1_000
"""Tools whose results are waited for; the oldest goes."""
TYPE = "tool"
LIBRARY_TYPES = (TYPE, "handoff")
"""Types of a library's spans that are the work of a tool."""

_ASKING = ("function", "custom", "custom_tool_call")
"""Types of content parts by which a model asks for a tool of the program's: of chat and of Responses."""


class _Asked(NamedTuple):
    name: str
    arguments: Any
    at: float
    """Epoch seconds at which the generation ended that asked."""
    span_id: str
    private: bool


class Tools:
    """Tools that were asked for and have not answered yet."""

    def __init__(self) -> None:
        self._asked: OrderedDict[tuple[str, str], _Asked] = OrderedDict()
        self._named: OrderedDict[tuple[str, str], float] = OrderedDict()
        """Trace and name of the program's own spans of tools, and when each ended."""
        self._of_libraries: OrderedDict[str, float] = OrderedDict()
        """Traces in which a library makes spans of tools itself, and when the last of them ended."""

    def clear(self) -> None:
        """Forget everything: in a forked child, whose parent has it."""
        self.__init__()  # type: ignore[misc]

    def named(self, span: Span) -> None:
        """The program names a span itself, or its library does: of a tool it needs no other."""
        if span.of_trace:
            return
        if span.facts and span.type in LIBRARY_TYPES:
            # By whatever name: a library hands over to another agent by a tool, too, and may rename a tool.
            _note(self._of_libraries, span.identity.trace_id, span.ended_at)
        elif span.type == TYPE:
            _note(self._named, (span.identity.trace_id, span.name), span.ended_at)

    def look(self, call: Call, generation: Generation) -> list[Span]:
        """The tools whose results this call brings; what it asks for is noted."""
        trace_id = call.identity.trace_id
        found = []
        for ident, result in _results(generation) if self._asked else ():
            asked = self._asked.pop((trace_id, ident), None)
            if asked is None:
                continue
            if max(self._named.get((trace_id, asked.name), 0.0), self._of_libraries.get(trace_id, 0.0)) < asked.at:
                found.append(_span(call, asked, result))
        for ident, name, arguments in _calls(generation):
            private = call.identity.privacy_mode
            self._asked[trace_id, ident] = _Asked(name, arguments, call.ended_at, call.span_id, private)
        while len(self._asked) > MAX_ASKED:
            self._asked.popitem(last=False)
        return found


def _note(times: OrderedDict[T, float], key: T, at: float) -> None:
    times[key] = at
    times.move_to_end(key)
    while len(times) > MAX_ASKED:
        times.popitem(last=False)


def _calls(generation: Generation) -> Iterator[tuple[str, str, Any]]:
    """Id, name and arguments of each tool that the model asks for."""
    for message in generation.output or ():
        for part in as_list(message.get("content")):
            part = as_dict(part)
            if part.get("type") in _ASKING:
                tool = as_dict(part.get("function")) or as_dict(part.get("custom")) or part
                ident, name = as_text(part.get("id")) or as_text(part.get("call_id")), as_text(tool.get("name"))
                if part.get("type") == "custom_tool_call":
                    ident = as_text(part.get("call_id"))
                if ident and name:
                    yield ident, name, tool.get("arguments", tool.get("input"))


def _results(generation: Generation) -> Iterator[tuple[str, Any]]:
    """Id and result of each tool that has answered: the whole conversation is sent again and again."""
    for message in as_list(generation.input):
        message = as_dict(message)
        if message.get("role") == "tool":
            ident, result = as_text(message.get("tool_call_id")), message.get("content")
        elif message.get("type") in ("function_call_output", "custom_tool_call_output"):
            ident, result = as_text(message.get("call_id")), message.get("output")
        else:
            continue
        if ident:
            yield ident, result


def _span(call: Call, asked: _Asked, result: Any) -> Span:
    began_at = call.ended_at - call.duration_s
    private = asked.private or call.identity.privacy_mode
    uuid, span_id = new_ids(began_at)
    arguments = asked.arguments
    if isinstance(arguments, str):
        arguments = as_dict(parse(arguments)) or arguments
    return Span(
        name=asked.name,
        type=TYPE,
        uuid=uuid,
        span_id=span_id,
        ended_at=began_at,
        duration_s=max(0.0, began_at - asked.at),
        identity=replace(call.identity, parent_id=asked.span_id, span_name=None, privacy_mode=private),
        input_state=json.dumps(arguments),
        output_state=json.dumps(result),
    )
