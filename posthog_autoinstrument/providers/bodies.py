"""Bodies too large for an event, and answers that are mostly bulk (vectors, pictures, sound). Pure; never raises."""

from __future__ import annotations

import json
import re
from collections.abc import Set
from typing import Any

from .provider import EDGE_BYTES

_LEFT_OUT = re.compile(r"\n\.\.\.(\d+) left out\.\.\.\n")


def left_out(text: bytes | str | None) -> int | None:
    """How much of an answer was left out where only its two ends were kept; None for a whole one."""
    if text is None or not 2 * EDGE_BYTES < len(text) < 2 * EDGE_BYTES + 100:
        return None
    middle = text[EDGE_BYTES : EDGE_BYTES + 100]
    match = _LEFT_OUT.match(middle.decode("ascii", "replace") if isinstance(middle, bytes) else middle)
    return int(match[1]) if match else None


def find_member(body: bytes, name: str) -> Any:
    """The value of the member `name` of an object too bulky to parse, or of which only the two ends are left.

    Looks at both ends, and takes the last that parses. Right only where `name` cannot occur inside the bulk itself, as
    in numbers and base64.
    """
    decoder = json.JSONDecoder()
    for end in (body[-EDGE_BYTES:], body[:EDGE_BYTES]):
        edge = end.decode("utf-8", "replace")
        for match in reversed(list(re.finditer(rf'"{re.escape(name)}"\s*:\s*', edge))):
            try:
                return decoder.raw_decode(edge, match.end())[0]
            except (ValueError, RecursionError):
                continue
    return None


# --- bodies too large for an event ---

MAX_BYTES = 15 * 1024 * 1024 // 2
"""Of a request or an answer. PostHog takes events of 8 MiB; what is cut here, nothing else has to hold and to parse."""
_LONG_BYTES = 64 * 1024
"""Texts longer than this may lose their middle."""
_SLICE = 500_000
_MEDIA_BYTES = 192
"""What `bounded` keeps of a picture: enough to see that it is one."""
_MAX_QUOTES = 50_000
"""To look at more of them by themselves would hold up the thread that ends the call. To count them in a body of 300 MB
takes 80 ms (CPython 3.10 to 3.13)."""


def shortened(body: bytes) -> bytes:
    """A JSON body of at most about `MAX_BYTES`: its longest texts lose their middle. As it is where that cannot be.

    Texts that may be pictures or sound stay: they must still be known as such, and become short then.
    """
    if len(body) <= MAX_BYTES:
        return body
    texts = [place for place in _long_texts(body) if not _may_be_media(body, *place)]
    return _without_middles(body, texts, _level(texts, len(body) - MAX_BYTES))


def bounded(body: bytes) -> bytes | None:
    """A JSON body that is too large to be kept, shortened; of pictures and sound only the begin stays. None where that
    cannot be had quickly: this runs on the program's thread."""
    if body.count(b'"') > _MAX_QUOTES:
        return None
    texts = _long_texts(body)
    media = {place for place in texts if _may_be_media(body, *place)}
    plain = [place for place in texts if place not in media]
    size = len(body) - sum(end - start for start, end in media)
    level = _level(plain, size - MAX_BYTES)
    cut = _without_middles(body, texts, level, media)
    return cut if len(cut) <= 2 * MAX_BYTES else None


def put_together(pieces: list[str]) -> str:
    """The pieces as one text, which loses its middle where it is longer than `MAX_BYTES`."""
    size = sum(map(len, pieces))
    if size <= MAX_BYTES:
        return "".join(pieces)
    head, tail = MAX_BYTES * 2 // 3, MAX_BYTES // 3
    begin: list[str] = []
    for piece in pieces:
        begin.append(piece[:head])
        head -= len(begin[-1])
        if head <= 0:
            break
    end: list[str] = []
    for piece in reversed(pieces):
        end.append(piece[-tail:])
        tail -= len(end[-1])
        if tail <= 0:
            break
    left_out = size - sum(map(len, begin)) - sum(map(len, end))
    return "".join([*begin, f"... [{left_out} characters truncated] ...", *reversed(end)])


def _level(texts: list[tuple[int, int]], excess: int) -> int:
    return cut_level([end - start for start, end in texts], max(0, excess), _LONG_BYTES)


def _without_middles(
    body: bytes, texts: list[tuple[int, int]], level: int, media: Set[tuple[int, int]] = frozenset()
) -> bytes:
    """The body without the middle of those texts that are longer than `level`, or are media."""
    pieces: list[bytes] = []
    kept = 0
    for place in texts:
        start, end = place
        most = _MEDIA_BYTES if place in media else level
        if end - start > most:
            head, tail = _CUT.search(body, start + most * 2 // 3, end), _CUT.search(body, end - most // 3, end)
            if head is not None and tail is not None and head.end() < tail.end():
                note = b"... [%d bytes truncated] ..." % (tail.end() - head.end())
                pieces += body[kept : head.end()], note
                kept = tail.end()
    return b"".join([*pieces, body[kept:]]) if pieces else body


def cut_level(sizes: list[int], excess: int, least: int) -> int:
    """The size in bytes to which all longer texts must be cut to save `excess` bytes; never below `least`."""
    sizes = sorted(sizes, reverse=True)
    total = 0
    for count, size in enumerate(sizes, 1):
        total += size
        next_size = sizes[count] if count < len(sizes) else least
        if total - count * next_size >= excess:
            return max(least, (total - excess) // count)
    return least


def _long_texts(body: bytes) -> list[tuple[int, int]]:
    """Where the long strings of a JSON text begin and end, without their quotes."""
    found: list[tuple[int, int]] = []
    start = body.find(b'"') + 1
    while start:
        end = _end_of_text(body, start)
        if end - start > _LONG_BYTES:
            found.append((start, end))
        start = body.find(b'"', end + 1) + 1
    return found


def _end_of_text(body: bytes, start: int) -> int:
    """Where the string ends that begins at `start`: at the first quote with an even number of backslashes before it."""
    while (end := body.find(b'"', start)) >= 0:
        before = end
        while body[before - 1] == _BACKSLASH:
            before -= 1
        if (end - before) % 2 == 0:
            return end
        start = end + 1
    return len(body)


_BACKSLASH = 0x5C


_FAR_ESCAPE = re.compile(rb"\\u(?!00)")
"""Of a character that is not in base64, however that is escaped."""


def _may_be_media(body: bytes, start: int, end: int) -> bool:
    begin = body[start : start + 1_000]
    if b" " not in begin and begin.isascii() and _FAR_ESCAPE.search(begin) is None:
        return True
    return any(body.find(b";base64,", at, min(end, at + _SLICE + 7)) >= 0 for at in range(start, end, _SLICE))


_CUT = re.compile(rb'[^"\\]{12}(?=[^"\\\x80-\xbf])|[^"\\](?=\\(?!u[dD][c-fC-F]))')
"""Behind it, a string of a JSON text can be cut: no character of several bytes, no escape sequence and no pair of them
(`\\ud83d\\ude00` is twelve bytes) goes on there."""
