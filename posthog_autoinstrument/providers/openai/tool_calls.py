"""Tool calls put together from deltas, as OpenAI and the servers that speak its protocol in their own way send them.

OpenAI numbers the calls (`index`), and gives id and name once. Of others the number may be missing, the same for all,
or that of the tool; the name may come in pieces or whole in each delta; each delta may have an id of its own. What a
delta continues is decided by its number and id as far as they agree with what is known: the arguments of a call are one
JSON object, so one that is whole takes no more, and one that is not yet whole is not followed by another of its name.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Any

from ..parsing import as_dict, as_text, joined, parse

_SIGNS = re.compile(r'\\.|["{}\[\]]', re.DOTALL)


class _Arguments:
    """The arguments of a call as far as they came, and whether they are whole."""

    def __init__(self) -> None:
        self.pieces: list[Any] = []
        self._depth = 0
        self._quoted = False
        self._looked_at = 0
        """How many of the pieces were looked at for their brackets."""
        self._rest = ""
        self._is_object: bool | None = None

    def add(self, piece: Any) -> None:
        self.pieces.append(piece)

    def begun(self) -> bool:
        return any(not _is_blank(piece) for piece in self.pieces)

    def whole(self) -> bool:
        """Whether they are a JSON object that is closed, or came as one."""
        self._look()
        return bool(self._is_object) and self._depth <= 0

    def open(self) -> bool:
        """Whether they are a JSON object that is not closed yet."""
        self._look()
        return bool(self._is_object) and self._depth > 0

    def _look(self) -> None:
        """Each piece once, and only when asked: most streams leave no doubt."""
        for piece in self.pieces[self._looked_at :]:
            if not isinstance(piece, str):
                self._is_object = True
                continue
            if self._is_object is None and piece.strip():
                self._is_object = piece.lstrip().startswith("{")
            if self._is_object:
                self._count(self._rest + piece)
        self._looked_at = len(self.pieces)

    def _count(self, text: str) -> None:
        end = 0
        for sign in _SIGNS.finditer(text):
            end = sign.end()
            found = sign[0]
            if found == '"':
                self._quoted = not self._quoted
            elif not self._quoted and len(found) == 1:
                self._depth += 1 if found in "{[" else -1
        self._rest = "\\" if text.endswith("\\") and end < len(text) else ""

    def value(self) -> Any:
        """What they are. Where each piece is all that there was so far, the last of them."""
        if not self.pieces:
            return ""
        together = joined(self.pieces)
        if len(self.pieces) == 1 or not all(isinstance(piece, str) for piece in self.pieces):
            return together
        return self.pieces[-1] if _grows(self.pieces) and parse(together) is None else together


def _is_blank(piece: Any) -> bool:
    return piece is None or (isinstance(piece, str) and not piece.strip())


def _grows(pieces: Sequence[str]) -> bool:
    """Whether each of the texts begins with the one before it, and the last is JSON."""
    return all(late.startswith(early) for early, late in itertools.pairwise(pieces)) and parse(pieces[-1]) is not None


class ToolCall:
    """One tool call as far as it was seen."""

    def __init__(self, call_id: str | None = "") -> None:
        self.id = call_id
        self.name = ""
        self.arguments = _Arguments()
        self.repeats_name = False
        """Each delta so far had the name, and there were several."""
        self._deltas = self._named = 0
        self.unknown: dict[str, Any] = {}
        """A call that is neither of a function nor of a custom tool, as it came."""

    def add(self, delta: dict[str, Any]) -> None:
        """Take one delta in. The first id that came stays."""
        function = _function(delta)
        self.id = self.id or as_text(delta.get("id")) or self.id
        name = as_text(function.get("name"))
        self._deltas += 1
        self._named += name is not None
        self.repeats_name = self._named == self._deltas > 1
        self._add_name(name)
        piece = _arguments(function)
        if piece is not None and piece != "" and not self._is_repeated(function, piece):
            self.arguments.add(piece)
        if as_text(delta.get("type")) not in _TYPES and not function:
            self.unknown = {name: value for name, value in delta.items() if name != "index"}

    def _add_name(self, name: str | None) -> None:
        if not name or name == self.name:
            return  # whole in every delta
        if name.startswith(self.name):
            self.name = name  # the first, or all of it so far
        elif not self.arguments.begun():
            self.name += name

    def _is_repeated(self, function: dict[str, Any], piece: Any) -> bool:
        """Whether arguments that are whole came again, as some servers do at the end."""
        if not as_text(function.get("name")) and not isinstance(piece, str):
            return False
        return self.arguments.whole() and piece == self.arguments.value()

    def part(self) -> dict[str, Any]:
        """The call as a part of a message."""
        if self.unknown and not self.name:
            return self.unknown
        return {"type": "function", "id": self.id, "function": {"name": self.name, "arguments": self.arguments.value()}}


def _function(delta: dict[str, Any]) -> dict[str, Any]:
    return as_dict(delta.get("function")) or as_dict(delta.get("custom"))


def _arguments(function: dict[str, Any]) -> Any:
    return function.get("arguments", function.get("input"))  # a custom tool takes free text as `input`


class ToolCalls:
    """The tool calls of one choice."""

    def __init__(self) -> None:
        self._calls: list[ToolCall] = []
        """As they came."""
        self._numbers: list[int | None] = []
        """The number that the head of each of them had."""
        self._by_number: dict[int, ToolCall] = {}
        """The latest call of a number, or of a place in a list without numbers."""
        self._by_id: dict[str, ToolCall] = {}
        self._sound = True
        """The numbers distinguish the calls, as far as is known."""

    def add_whole(self, deltas: Sequence[Any]) -> bool:
        """Take the calls of a message that was not streamed. Whether there were any."""
        found = [delta for delta in deltas if isinstance(delta, dict)]
        for delta in found:
            self._begin(None, None).add(delta)
        return bool(found)

    def add(self, deltas: Sequence[Any]) -> bool:
        """Take what one chunk brings of them. Whether there was anything."""
        taken: list[ToolCall] = []
        found = [delta for delta in deltas if isinstance(delta, dict)]
        for position, delta in enumerate(found):
            number = _number(delta)
            place = position if number is None and len(found) > 1 else number
            call = self._continued(delta, place)
            if call is None or (number is None and call in taken):
                call = self._begin(number, place)
            taken.append(call)
            call.add(delta)
            call_id = as_text(delta.get("id"))
            if call_id:
                self._by_id.setdefault(call_id, call)
        return bool(found)

    def in_order(self) -> list[ToolCall]:
        """By their numbers where these distinguish them, as in an answer that was not streamed; else as they came."""
        if self._sound and None not in self._numbers:
            return [self._by_number[number] for number in sorted(self._by_number)]
        return self._calls

    def _begin(self, number: int | None, place: int | None) -> ToolCall:
        call = ToolCall()
        self._calls.append(call)
        self._numbers.append(number)
        if place is not None:
            self._sound = self._sound and place not in self._by_number
            self._by_number[place] = call
        return call

    def _continued(self, delta: dict[str, Any], place: int | None) -> ToolCall | None:
        """The call that a delta continues; None where it begins one."""
        if not self._calls:
            return None
        function = _function(delta)
        call_id, name = as_text(delta.get("id")), as_text(function.get("name"))
        known = self._by_number.get(place) if place is not None else None
        if call_id is None and name is None and as_text(delta.get("type")) in _TYPES:
            return self._of_arguments(known, place, _arguments(function))
        named = self._by_id.get(call_id) if call_id is not None else None
        by_id = named is not None and not (known is not None and known.id == call_id)
        last = self._calls[-1]
        call = (named if by_id else known) or last
        if call.arguments.whole() and not last.arguments.whole():
            call = last
        goes_on = _goes_on(
            call,
            call_id,
            name,
            _arguments(function),
            # The server names the call: by a number that one has, or by its id and no other number.
            is_named=call is known or (call is named and place is None),
            is_unknown=known is None and place is not None,
            another=call_id is not None and named is None and bool(call.id),
            odd=as_text(delta.get("type")) not in _TYPES,
        )
        if goes_on and call is not known and place is not None:
            self._sound = False
        return call if goes_on else None

    def _of_arguments(self, known: ToolCall | None, place: int | None, piece: Any) -> ToolCall:
        """The call that arguments without id and name are of: that of their number, unless it is whole already; the one
        which stands at that place; the latest."""
        last = self._calls[-1]
        if place is None or piece is None or piece == "":
            return known or last
        if known is not None and not known.arguments.whole():
            return known
        if known is None:
            self._sound = False
        placed = self._calls[place] if 0 <= place < len(self._calls) else last
        if placed.arguments.open() or not placed.arguments.begun():
            return placed
        return last if not last.arguments.whole() else known or last


_TYPES = (None, "function", "custom")


def _goes_on(
    call: ToolCall,
    call_id: str | None,
    name: str | None,
    piece: Any,
    is_named: bool,
    is_unknown: bool,
    another: bool,
    odd: bool,
) -> bool:
    """Whether a delta with an id or a name goes on with `call`, and does not begin another one.

    `is_named`: its number or id is the call's; `is_unknown`: its number is no call's; `another`: its id is no call's,
    and the call has one; `odd`: it is of a kind that has no function.
    """
    arguments = call.arguments
    same = name is None or name == call.name
    if odd:
        return is_named and not another and bool(call.unknown)
    if arguments.whole():
        if another:
            return name is None and is_named and _is_blank(piece)
        if name is None:
            return is_named
        repeated = _is_blank(piece) if call_id is None else _is_blank(piece) or piece == arguments.value()
        gives_ids = bool(call.id) if call_id is None else is_named
        return same and repeated and (gives_ids or (is_named and call.repeats_name))
    under_way = arguments.open() or (not arguments.begun() and not _is_blank(piece))
    if another:  # an id that changes in each delta, or another call
        if name is None:
            return is_named or (bool(call.name) and under_way)
        return same and (arguments.open() or (is_named and not arguments.begun())) and not is_unknown
    if is_unknown and call_id is None and not call.id:
        return False
    # A server that gives ids gives one to each call: without one, or with the same, it is no other.
    if name is None or not arguments.begun():
        return True
    if call_id is not None and is_named:
        return True
    return name.startswith(call.name) and (is_named or arguments.open())


def _number(delta: dict[str, Any]) -> int | None:
    index = delta.get("index")
    return index if isinstance(index, int) and not isinstance(index, bool) else None
