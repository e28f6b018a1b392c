"""JSON that PostHog accepts: one bad value must not make it refuse a batch.

Everything here is pure, works on values of any depth without recursion and never changes what it is given.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

from ..core import fastjson
from ..core.guard import guarded

MAX_DEPTH = 96
"""Levels of nesting that are kept. capture parses with serde_json, which gives up at 128 and refuses the whole request
(its `recursion_limit`); the batch around an event takes 4 of those, the rest is margin."""

CIRCULAR = "[circular]"
TOO_DEEP = "[nested too deeply]"

_MAX_NUMBER = 10**308
"""Larger integers are out of the range of a double, which serde_json answers with a parse error."""
_STDLIB_TEXT = ("datetime", "decimal", "uuid")
"""Modules whose values are written with `str()`; no `__str__` of the host program runs here."""
_LONE = re.compile("[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]")
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_CONTROL = dict.fromkeys((*range(32), *range(127, 160)))

Visit = Callable[[Any, "str | None", "dict[Any, Any] | None", "str | None"], Any]
"""`(value, key, owner, owner_key) -> value`: `owner` is the nearest dict around the value, `key` the key in it that led
to the value (lists are looked through), `owner_key` the same for the owner."""


class _Frame:
    """A dict or list that is being walked, and its copy once something in it had to change."""

    __slots__ = ("copy", "depth", "entered", "ident", "key", "node", "owner", "owner_key", "slot", "up")

    def __init__(self, node: Any, ident: int, up: _Frame | None, slot: Any, place: tuple[Any, Any, Any]) -> None:
        self.node = node
        self.ident = ident
        self.up = up
        self.slot = slot
        self.key, self.owner, self.owner_key = place
        self.depth: int = 1 if up is None else up.depth + 1
        self.copy: Any = None
        self.entered = False

    def write(self, slot: Any, value: Any) -> None:
        """Set one item in the copy; the containers around are copied first, as far as they are not yet."""
        missing: list[_Frame] = []
        frame: _Frame | None = self
        while frame is not None and frame.copy is None:
            missing.append(frame)
            frame = frame.up
        for frame in reversed(missing):
            frame.copy = dict(frame.node) if isinstance(frame.node, dict) else list(frame.node)
            if frame.up is not None:
                frame.up.copy[frame.slot] = frame.copy
        self.copy[slot] = value


def rewrite(value: Any, visit: Visit, max_depth: int = 1_000_000) -> Any:
    """Replace every value inside `value` by what `visit` returns for it; only what changes is copied.

    A container returned by `visit` is walked too. Cycles and what is deeper than `max_depth` become a short text.
    """
    new = visit(value, None, None, None)
    if not isinstance(new, (dict, list, tuple)):
        return new
    root = _Frame(new, id(value), None, None, (None, None, None))
    stack, path = [root], set[int]()
    while stack:
        frame = stack[-1]
        if frame.entered:
            stack.pop()
            path.discard(frame.ident)
            continue
        frame.entered = True
        path.add(frame.ident)
        node = frame.node
        if not isinstance(node, dict) and _is_plain_numbers(node):
            continue
        for slot, child in node.items() if isinstance(node, dict) else enumerate(node):
            place = (slot, node, frame.key) if isinstance(node, dict) else (frame.key, frame.owner, frame.owner_key)
            new = visit(child, *place)
            if isinstance(new, (dict, list, tuple)):
                if id(child) in path:
                    new = CIRCULAR
                elif frame.depth >= max_depth:
                    new = TOO_DEEP
                elif new:
                    stack.append(_Frame(new, id(child), frame, slot, place))
            if new is not child:
                frame.write(slot, new)
    return root.node if root.copy is None else root.copy


def _is_plain_numbers(node: list[Any] | tuple[Any, ...]) -> bool:
    """Token ids and vectors: long lists that are checked without a Python call for each number."""
    kinds = set(map(type, node))
    if kinds == {int}:
        return bool(min(node) >= -_MAX_NUMBER and max(node) <= _MAX_NUMBER)
    return kinds == {float} and all(map(math.isfinite, node))


def sanitize(value: Any) -> Any:
    """The same value, safe as JSON for PostHog; the very same object when nothing had to change.

    NaN and infinities become None, lone surrogates U+FFFD, bytes and other objects a short text, keys strings, sets
    lists, cycles and nesting below `MAX_DEPTH` levels a short text. Tuples stay: `json` writes them as lists.
    """
    return rewrite(value, _sanitize_one, MAX_DEPTH)


def _sanitize_one(value: Any, key: str | None, owner: dict[Any, Any] | None, owner_key: str | None) -> Any:
    if value is None or isinstance(value, (bool, list, tuple)):
        return value
    if isinstance(value, str):
        return value if _is_utf8(value) else _well_formed(value)
    if isinstance(value, dict):
        if all(isinstance(name, str) and _is_utf8(name) for name in value):
            return value
        return {_sanitize_key(name): item for name, item in value.items()}
    if isinstance(value, int):
        return value if -_MAX_NUMBER <= value <= _MAX_NUMBER else "[number out of range]"
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"[{len(value)} bytes]"
    if isinstance(value, (set, frozenset)):
        return list(value)
    if type(value).__module__ in _STDLIB_TEXT:
        return str(value)
    return f"[{type(value).__name__}]"


def _sanitize_key(name: Any) -> str:
    if isinstance(name, str):
        return _well_formed(name)
    if name is None or isinstance(name, (bool, float)):
        return json.dumps(name)
    sanitized = _sanitize_one(name, None, None, None)
    return str(sanitized) if isinstance(sanitized, (int, str)) else f"[{type(name).__name__}]"


def _is_utf8(text: str) -> bool:
    if text.isascii():  # a flag of the object: no look at its characters
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _well_formed(text: str) -> str:
    """Surrogate pairs joined into their character, lone ones replaced by U+FFFD."""
    # By the codecs' error handlers, 20 million of them took 22 s: those run for each character.
    return _PAIR.sub(_joined, _LONE.sub("\ufffd", text))


def _joined(pair: re.Match[str]) -> str:
    return chr(0x10000 + ((ord(pair[0][0]) - 0xD800) << 10) + (ord(pair[0][1]) - 0xDC00))


@guarded("write JSON", b"null")
def dumps(value: Any, untrusted: bool = False) -> bytes:
    """`value` as compact JSON in UTF-8, sanitized where needed. Never raises.

    `untrusted`: other types than JSON's may be in it.
    """
    try:
        body = _write(value) if untrusted else written(value)
    except (ValueError, TypeError, RecursionError):  # NaN and lone surrogates; other values and keys; cycles
        return _write(sanitize(value))
    return _write(sanitize(value)) if _is_too_deep(value, body) or _may_hold_huge_number(body) else body


def written(value: Any) -> bytes:
    """`value`, which holds JSON's own types only, as JSON."""
    return fastjson.dumps(value) or _write(value)


# Without `check_circular`: a cycle ends in a RecursionError, and the check is a fifth of the time.
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")).encode


def _write(value: Any) -> bytes:
    return _encode(value).encode("utf-8")


def _is_too_deep(value: Any, body: bytes) -> bool:
    """Whether a value, whose JSON is `body`, has more than `MAX_DEPTH` levels."""
    if len(body) < _LARGE_BYTES and body.count(b"{") + body.count(b"[") <= MAX_DEPTH:
        return False
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, (dict, list, tuple))
        ]
        if not level:
            return False
    return True


_LARGE_BYTES = 100_000
"""A look at all of it takes longer than one at each container."""
_SAMPLED = 77
_FOUR_DIGITS = re.compile(rb"[0-9]{4,}")
_HUGE_NUMBER = re.compile(rb"(?<![0-9])[0-9]{309}")


def _may_hold_huge_number(body: bytes) -> bool:
    """Whether digits enough for a number over `_MAX_NUMBER` stand in a row in this JSON, in a number or not."""
    # Of 309 in a row, at least four stand at multiples of 77. A look at those alone is 1 % of the time.
    for match in _FOUR_DIGITS.finditer(body[::_SAMPLED]):
        start, end = (match.start() - 1) * _SAMPLED, (match.end() + 1) * _SAMPLED
        if _HUGE_NUMBER.search(body, max(0, start), end) is not None:
            return True
    return False


def clip_id(text: object, limit: int = 200) -> str | None:
    """An id as PostHog takes it: a string without control characters, at most `limit` characters; None when empty.

    Numbers become their text; anything else that is not a string is None. capture cuts distinct ids at 200 characters.
    """
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        text = str(text)
    if not isinstance(text, str):
        return None
    if len(text) <= limit and text.isascii() and text.isprintable():
        return text.strip() or None
    text = text[: limit * 4].translate(_CONTROL).strip()[:limit].strip()
    return (text if _is_utf8(text) else _well_formed(text)) or None
