"""Server-sent events and content encodings, for bodies that the program read raw. Pure, on the flusher's thread."""

from __future__ import annotations

import re
import zlib
from typing import Any

_LINE_END = re.compile(rb"\r\n|\n|\r")


def is_event_stream(headers: Any) -> bool:
    """Whether an answer's headers (a mapping with `get`, or None) say that its body is a stream of events."""
    return headers is not None and "event-stream" in str(headers.get("content-type", ""))


def texts(body: bytes) -> list[str]:
    """The `data:` text of each event of an SSE body, in order; an event cut off by the end of the body is left out.

    By the WHATWG rules: lines end with CR, LF or both, several data lines are joined by LF, comments are skipped.
    """
    found: list[str] = []
    data: list[str] = []
    for line in _LINE_END.split(body):
        if not line:
            if data:
                found.append("\n".join(data))
                data = []
        elif line.startswith(b"data"):
            name, _, value = line.partition(b":")
            if name == b"data":
                data.append(value.removeprefix(b" ").decode("utf-8", "replace"))
    return found


def decompressed(body: bytes, encoding: str) -> bytes | None:
    """A body without its content encoding, as much of it as came; None for an encoding that is not at hand."""
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding in ("gzip", "x-gzip", "deflate"):
        for bits in (zlib.MAX_WBITS | 32, -zlib.MAX_WBITS):  # zlib or gzip by its header, else raw deflate
            try:
                return zlib.decompressobj(bits).decompress(body)
            except zlib.error:
                continue
    return None
