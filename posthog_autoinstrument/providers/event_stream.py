"""Server-sent events and content encodings, for bodies that the program read raw. Pure, on the flusher's thread."""

from __future__ import annotations

import re
import sys
import zlib
from collections.abc import Callable
from typing import Any

_LINE_END = re.compile(rb"\r\n|\n|\r")


def is_event_stream(headers: Any) -> bool:
    """Whether an answer's headers (a mapping with `get`, or None) announce a stream of events."""
    return headers is not None and "event-stream" in str(headers.get("content-type", ""))


def texts(body: bytes) -> list[str]:
    """The `data:` text of each event of an SSE body, in order; an event cut off by the end of the body is left out.

    By the WHATWG rules: lines end with CR, LF or both, several data lines are joined by LF, comments are skipped.
    """
    found: list[str] = []
    data: list[str] = []
    for line in _LINE_END.split(body.removeprefix(b"\xef\xbb\xbf")):
        if not line:
            if data:
                found.append("\n".join(data))
                data = []
        elif line.startswith(b"data"):
            name, _, value = line.partition(b":")
            if name == b"data":
                data.append(value.removeprefix(b" ").decode("utf-8", "replace"))
    return found


_BEGIN = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:data|event|id|retry)?(?::|\s*\Z)")


def looks_like_events(body: bytes) -> bool:
    """Whether a body without a whole event is empty, or the begin of a stream: no JSON and no proxy page."""
    return _BEGIN.match(body[:1000]) is not None


MAX_BYTES = 64 * 1024 * 1024
"""Of a decompressed body: a few kilobytes can stand for gigabytes."""
_PIECE_BYTES = 1024
"""Given to a decoder at once: not all of them take a limit for their output."""
_BROTLI = ("brotli", "brotlicffi")
_ZSTD = ("compression.zstd", "backports.zstd", "zstandard")


def decompressed(body: bytes, encoding: str) -> bytes | None:
    """A body without its content encodings, as much of it as came; None for an encoding that is not at hand."""
    for name in reversed(encoding.lower().split(",")):
        name = name.strip()
        if name in ("", "identity"):
            continue
        decoders = _decoders(name)
        opened = next((found for decoder in decoders if (found := _fed(decoder, body)) is not None), None)
        if opened is None:
            return None
        body = opened
    return body


def is_known(encoding: str) -> bool:
    """Whether every one of these content encodings can be read here."""
    names = {name.strip() for name in encoding.lower().split(",")} - {"", "identity"}
    return all(_decoders(name) for name in names)


Decoder = tuple[Callable[[bytes, int], bytes], tuple[type[Exception], ...]]
"""Takes a piece and how much may come of it; and what it raises for a piece that it cannot read."""


def _decoders(name: str) -> list[Decoder]:
    """What may open an encoding, the likeliest first.

    Of other packages only what the transport library has loaded: httpx and httpx2 do, where they can read an encoding
    (httpx 0.28, httpx2 2.16: `_decoders.py`).
    """
    if name in ("gzip", "x-gzip", "deflate"):
        # zlib or gzip by its header; "deflate" also names data that has none, as which any bytes may make sense.
        kinds = (zlib.MAX_WBITS | 32, -zlib.MAX_WBITS) if name == "deflate" else (zlib.MAX_WBITS | 32,)
        made = (zlib.decompressobj(bits) for bits in kinds)
        return [(one.decompress, (zlib.error,)) for one in made]
    found: list[Decoder] = []
    for module in (sys.modules.get(path) for path in (_BROTLI if name == "br" else _ZSTD if name == "zstd" else ())):
        if module is None:
            continue
        if name == "br":
            brotli = module.Decompressor()
            take = getattr(brotli, "process", None) or brotli.decompress
            found.append((_unbounded(take), (module.error,)))
        else:
            zstd = module.ZstdDecompressor()
            zstd = zstd.decompressobj() if hasattr(zstd, "decompressobj") else zstd  # the zstandard package
            errors = (module.ZstdError, EOFError)
            found.append((_unbounded(zstd.decompress), errors))
    return found


def _unbounded(take: Callable[[bytes], bytes]) -> Callable[[bytes, int], bytes]:
    return lambda piece, room: take(piece)


def _fed(decoder: Decoder, body: bytes) -> bytes | None:
    """What a decoder makes of a body, up to where that is broken; None when it is broken from the start."""
    take, errors = decoder
    pieces: list[bytes] = []
    size = 0
    for start in range(0, len(body), _PIECE_BYTES):
        try:
            piece = take(body[start : start + _PIECE_BYTES], MAX_BYTES - size)
        except errors:
            return b"".join(pieces) or None
        pieces.append(piece)
        size += len(piece)
        if size >= MAX_BYTES:
            break
    return b"".join(pieces)
