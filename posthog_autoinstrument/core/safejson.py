"""The user's own objects as bounded JSON text, made on the thread that owns them. Never raises, never loses a key.

The work is bounded as the text is: what has no room is not looked at. What goes by the name of a credential is left out
here already (`scrubbing.secret_names`), so that no text made here has it; what looks like one is looked for later
(`scrubbing.scrubber`).
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
import math
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence, Set, ValuesView
from itertools import islice
from json.encoder import encode_basestring_ascii
from typing import Any

from ..scrubbing.secret_names import REDACTED, has_secret_name, is_schema, is_secret
from .guard import describe, quietly

MAX_CHARS = 262_144
"""Of one value. Context is for ids, flags and small documents; prompts travel by another way (256 Ki characters)."""
MAX_VALUES = 10_000
"""So many values are looked at one by one, in all, a container counted as three. They take some 6 ms."""
MAX_ITEMS = 10_000
"""Of one list or mapping."""
_PYDANTIC = ("__pydantic_fields_set__", "__fields_set__")
"""By which models of pydantic are known, version 2 and 1; their fields are in their `__dict__`."""
_MAX_DEPTH = 50
_MAX_KEY_CHARS = 1_000
_MAX_INTEGER = 10**308
"""A larger one is out of the range of a double, and takes time by the square of its digits."""
_CHUNK = 512
"""Numbers of a list that are written at once."""
_NUMBERS = {int, float}

Convert = Callable[[Any], Any]
"""Converts an object that is not of JSON's types into a value to write in its place, or returns it."""


def dumps(value: Any, name: str = "", convert: Convert | None = None) -> str:
    """`value`, named `name`, as JSON text of about `MAX_CHARS` characters at most.

    What has no room is counted: `... [4990000 items truncated]`. As PostHog's SDK coerces them, dates are ISO text,
    Decimal is float, UUID text, models and dataclasses their fields; what cannot be serialised is replaced by its repr.
    """
    writer = _Writer(convert)
    writer.write(value, 0, is_secret(name))
    return "".join(writer.parts)


class _Writer:
    """The parts of one text, and how much more may be written."""

    def __init__(self, convert: Convert | None) -> None:
        self.parts: list[str] = []
        self._room = MAX_CHARS
        self._values = MAX_VALUES
        self._convert = convert
        self._above: set[int] = set()
        """Identities of the containers around what is written."""

    def _put(self, text: str) -> None:
        self.parts.append(text)
        self._room -= len(text)

    def write(self, value: Any, depth: int, hidden: bool) -> None:
        """One value. `hidden`: it is a credential, unless it is a number, a flag or nothing."""
        self._values -= 1
        kind = type(value)
        if kind is str:
            self._text(REDACTED if hidden and value else value)
        elif kind is dict or kind is list:
            self._container(value, depth, hidden)
        elif value is None:
            self._put("null")
        elif isinstance(value, bool):
            self._put("true" if value else "false")
        elif isinstance(value, enum.Enum) and depth < _MAX_DEPTH:
            self.write(value.value, depth + 1, hidden)
        elif isinstance(value, int):
            fits = -_MAX_INTEGER <= value <= _MAX_INTEGER
            self._put(int.__repr__(value) if fits else '"[number out of range]"')
        elif isinstance(value, (float, decimal.Decimal)):
            number = float(value) if isinstance(value, float) or value.is_finite() else math.nan
            self._put(repr(number) if math.isfinite(number) else "null")
        elif isinstance(value, str):
            self.write(str.__str__(value), depth, hidden)
        else:
            self._object(value, depth, hidden)

    def _object(self, value: Any, depth: int, hidden: bool) -> None:
        if self._convert is not None:
            value = self._convert(value)
        if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
            self._text(value.isoformat())
        elif isinstance(value, uuid.UUID):
            self._text(REDACTED if hidden else str(value))
        elif isinstance(value, (bytes, bytearray, memoryview)):
            self._text(REDACTED if hidden else describe(bytes(value[:2_001])))
        elif isinstance(value, type):
            self._text(describe(value))
        else:
            self._container(value, depth, hidden)

    def _container(self, value: Any, depth: int, hidden: bool) -> None:
        if id(value) in self._above or depth >= _MAX_DEPTH:
            self._text(f"<{type(value).__name__}: cyclic or too deep>")
            return
        self._values -= 2  # it takes three times as long as a text
        self._above.add(id(value))
        if type(value) is dict:
            self._mapping(value, len(value), depth, hidden and not is_schema(value))
        elif type(value) is list:
            self._list(value, len(value), depth, hidden)
        elif (fields := _fields(value)) is not None:
            self._mapping(fields, quietly(len, fields) or 0, depth, hidden and not is_schema(fields))
        elif (items := _items(value)) is not None:
            self._list(items, quietly(len, value) or 0, depth, hidden)
        else:
            self._text(REDACTED if hidden else describe(value))
        self._above.discard(id(value))

    def _is_full(self) -> bool:
        return self._room <= 0 or self._values <= 0

    def _mapping(self, fields: Mapping[Any, Any], n_items: int, depth: int, hidden: bool) -> None:
        # At once: another thread may change it meanwhile.
        found: list[tuple[Any, Any]] = quietly(_first, fields.items(), self._values) or []
        # `{"name": "Authorization", "value": ...}`
        named = 2 <= len(found) <= 4 and has_secret_name(found)
        n_written = 0
        self._put("{")
        for key, value in found:
            if self._is_full():
                break
            if n_written:
                self._put(",")
            name = _name(key)
            self._text(name[:_MAX_KEY_CHARS])
            self._put(":")
            self.write(value, depth + 1, hidden or is_secret(name) or (named and name.lower() == "value"))
            n_written += 1
        missing = n_items - n_written
        if missing > 0:
            self._put(f'{"," if n_written else ""}"...":"[{missing} items truncated]"')
        self._put("}")

    def _list(self, items: Sequence[Any], n_items: int, depth: int, hidden: bool) -> None:
        """`n_items`: how many there are, of which `items` are the first."""
        # `("Authorization", "Bearer ...")`
        named = len(items) == 2 and isinstance(items[0], (str, bytes)) and is_secret(_name(items[0]))
        names = getattr(type(items), "_fields", ())  # of a named tuple
        secrets = {at for at, name in enumerate(names) if isinstance(name, str) and is_secret(name)} if names else ()
        n_written = 0
        self._put("[")
        while n_written < MAX_ITEMS and not self._is_full() and (chunk := items[n_written : n_written + _CHUNK]):
            numbers = _numbers(chunk)
            if numbers:
                self._put("," + numbers if n_written else numbers)
                n_written += len(chunk)
                continue
            for value in chunk:
                if self._is_full():
                    break
                if n_written:
                    self._put(",")
                self.write(value, depth + 1, hidden or (named and n_written == 1) or n_written in secrets)
                n_written += 1
        missing = n_items - n_written
        if missing > 0:
            self._put(f'{"," if n_written else ""}"... [{missing} items truncated]"')
        self._put("]")

    def _text(self, text: str) -> None:
        room = max(self._room, 100)
        piece = text if len(text) <= room else text[:room]
        written = encode_basestring_ascii(piece)
        if len(written) > room + 2:  # many characters that are written as `\u1234`
            piece = piece[: len(piece) * room // len(written)]
            written = encode_basestring_ascii(piece)
        if len(piece) < len(text):
            written = f'{written[:-1]}... [{len(text) - len(piece)} characters truncated]"'
        self._put(written)


def _name(key: Any) -> str:
    """The key of a mapping as JSON's."""
    if isinstance(key, str):
        return str.__str__(key)
    if key is None or isinstance(key, (bool, float)):
        return json.dumps(key)
    if isinstance(key, enum.Enum):
        return _name(key.value)
    if isinstance(key, (datetime.datetime, datetime.date, uuid.UUID, decimal.Decimal)):
        return str(key)
    return describe(key, _MAX_KEY_CHARS)


def _fields(value: Any) -> Mapping[Any, Any] | None:
    """The members of a value that is written as a JSON object; None where it is none."""
    if isinstance(value, Mapping):
        return value
    if any(hasattr(type(value), name) for name in _PYDANTIC):
        fields: dict[str, Any] = vars(value)
        return fields
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
    return None


def _items(value: Any) -> Sequence[Any] | None:
    """The first items of a value that is written as a list: any collection but a range; None where it is none."""
    if isinstance(value, (list, tuple)):
        return value
    if isinstance(value, (Set, Sequence, ValuesView)) and not isinstance(value, range):
        found: list[Any] | None = quietly(_first, value, MAX_ITEMS)
        return found
    return None


def _first(value: Iterable[Any], n_items: int) -> list[Any]:
    return list(islice(value, max(0, n_items)))


def _numbers(chunk: Sequence[Any]) -> str | None:
    """A list of numbers as JSON, without the brackets; None where there is anything else in it."""
    kinds = set(map(type, chunk))
    if not chunk or not kinds <= _NUMBERS:
        return None
    if int in kinds and not -_MAX_INTEGER <= min(chunk) <= max(chunk) <= _MAX_INTEGER:
        return None
    try:
        return json.dumps(chunk, allow_nan=False, separators=(",", ":"))[1:-1]
    except ValueError:  # infinite, or none at all
        return None
