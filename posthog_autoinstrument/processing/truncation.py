"""Events cut down to a size that PostHog accepts. Pure."""

from __future__ import annotations

from typing import Any

from ..core import fastjson, guard
from ..core.records import EncodedEvent
from ..providers.bodies import cut_level
from .sanitize import dumps, rewrite, sanitize, written

TRUNCATED = "posthog_autoinstrument_truncated"
"""Property of events that were truncated."""

_MIN_CUT_BYTES = 256
"""Strings shorter than this are not worth cutting: whole properties are removed instead."""
_MARKER_BYTES = len('"... [99999999999 characters truncated] ..."')


def truncate_encoded(event: EncodedEvent, max_bytes: int) -> EncodedEvent | None:
    """`event` in at most `max_bytes`; None where that fails."""
    body = guard.attempt("truncate an event", truncate, fastjson.loads(event.body), max_bytes)
    return event._replace(body=body) if body is not None else None


def truncate(event: dict[str, Any], max_bytes: int) -> bytes:
    """The event as JSON of at most `max_bytes` (4096 or more).

    Of a larger one the longest strings lose their middle; properties that would still be too large (a list of a million
    numbers) are removed, largest first. The result has the property `TRUNCATED`.
    """
    body = dumps(event)
    if len(body) <= max_bytes:
        return body
    event = sanitize(event)
    properties = event.get("properties")
    properties = {**properties, TRUNCATED: True} if isinstance(properties, dict) else {TRUNCATED: True}
    # Every property is written once here; everything below is arithmetic on these sizes.
    sizes = {name: len(written({name: value})) - 1 for name, value in properties.items()}
    strings = {name: _string_sizes(value) for name, value in properties.items()}
    rigid = {name: size - sum(text - _MIN_CUT_BYTES for text in strings[name]) for name, size in sizes.items()}
    room = max_bytes - len(written({**event, "properties": {}}))
    left = sum(rigid.values())
    for name in sorted(rigid, key=rigid.__getitem__, reverse=True):
        if left <= room:
            break
        if name != TRUNCATED:
            del properties[name], sizes[name], strings[name]
            left -= rigid[name]
    excess = sum(sizes.values()) - room
    level = cut_level([size for found in strings.values() for size in found], excess, _MIN_CUT_BYTES)
    cut = rewrite(properties, lambda value, *place: _cut_string(value, level))
    body = written({**event, "properties": cut})
    if len(body) <= max_bytes:
        return body
    # The fields beside the properties are too large: ids that were not clipped.
    fields = {name: event.get(name) for name in ("event", "uuid", "timestamp", "distinct_id")}
    clipped = {name: _fit(value, 800, tail=False) for name, value in fields.items() if isinstance(value, str)}
    return written({**clipped, "properties": {TRUNCATED: True}})


def _string_sizes(value: Any) -> list[int]:
    """Bytes as JSON of every string in `value` that is worth cutting."""
    sizes: list[int] = []

    def look(item: Any, *place: Any) -> Any:
        # A character takes at most 6 bytes, so the short ones need no encoding.
        if isinstance(item, str) and len(item) * 6 > _MIN_CUT_BYTES:
            size = len(written(item))
            if size > _MIN_CUT_BYTES:
                sizes.append(size)
        return item

    rewrite(value, look)
    return sizes


def _cut_string(value: Any, level: int) -> Any:
    if not isinstance(value, str) or len(value) * 6 <= level or len(written(value)) <= level:
        return value
    room = level - _MARKER_BYTES
    head = _fit(value, room * 2 // 3, tail=False)
    tail = _fit(value[len(head) :], room // 3, tail=True)
    return f"{head}... [{len(value) - len(head) - len(tail)} characters truncated] ...{tail}"


def _fit(text: str, max_bytes: int, tail: bool) -> str:
    """The longest beginning (or end) that takes at most `max_bytes` as JSON, give or take an eighth."""
    count = min(len(text), max_bytes)
    while count > 0:
        piece = text[-count:] if tail else text[:count]
        size = len(written(piece)) - 2
        if size <= max_bytes:
            return piece
        # At least an eighth less each time: on text whose escapes are all in one place the ratio alone creeps.
        count = min(count * max_bytes // size, count - count // 8 - 1)
    return ""
