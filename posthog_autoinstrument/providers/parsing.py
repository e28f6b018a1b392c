"""Reading JSON that may be anything at all: what is not as documented counts as absent. Pure; never raises.

For the readers in `providers`: they take bytes and texts off the wire apart with these functions.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence, Set
from typing import Any

from ..core import fastjson
from ..providers import EDGE_BYTES
from .generation import Failure

MAX_ERROR_CHARS = 4096
"""How much of an answer that is not JSON (a proxy's HTML page) is kept as the message of the error."""


def parse(text: bytes | str | None) -> Any:
    """The JSON value, or None where there is none: no text, cut short, not UTF-8, nested too deeply."""
    if not text:
        return None
    try:
        return fastjson.loads(text)
    except UnicodeDecodeError as error:
        # One bad byte in a text: the rest of it is still worth reading.
        return parse(text.decode("utf-8", "replace")) if isinstance(text, bytes) and error.encoding == "utf-8" else None
    except (ValueError, RecursionError):  # bad JSON, and integers of over 4300 digits
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
    """A text of its pieces. Of one that no event has room for, the middle is left out."""
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
                said = b"... [%d bytes truncated] ..." % (tail.end() - head.end())
                pieces += body[kept : head.end()], said
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


def as_dict(value: Any) -> dict[str, Any]:
    """`value` when it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    """`value` when it is an array, else an empty one."""
    return value if isinstance(value, list) else []


def as_text(value: Any) -> str | None:
    """`value` when it is a string with something in it, else None."""
    return value if isinstance(value, str) and value else None


def as_index(value: Any, missing: int) -> int:
    """`value` when it can be a position in a list, else `missing`."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else missing


def as_count(value: Any) -> int | None:
    """`value` when it is a whole number of something that a float can hold, else None."""
    if type(value) is int:
        return value if 0 <= value < 2**53 else None
    amount = as_amount(value)
    return int(amount) if amount is not None and amount.is_integer() and amount < 2**53 else None


def as_amount(value: Any) -> float | None:
    """`value` when it is a number that can be a price, else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        amount = float(value)
    except OverflowError:
        return None
    return amount if math.isfinite(amount) and amount >= 0 else None


def first_count(*values: Any) -> int | None:
    """The first of `values` that is a count."""
    for value in values:
        if value is not None and (count := as_count(value)) is not None:
            return count
    return None


def in_words(value: Any) -> str | None:
    """`value` as a string: as it is, or its JSON. None for null."""
    if value is None or isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return None


def joined(parts: Sequence[Any]) -> Any:
    """Pieces of one string put together; where one of them is something else (arguments as an object), the last."""
    strings = [part for part in parts if isinstance(part, str)]
    return "".join(strings) if len(strings) == len(parts) else parts[-1]


def without_nulls(value: Any) -> Any:
    """`value` with the null members of every object in it left out, as the SDK's `model_dump(exclude_none=True)`."""
    try:
        return _without_nulls(value)
    except RecursionError:
        return value


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(member) for key, member in value.items() if member is not None}
    if isinstance(value, list):
        return [_without_nulls(member) for member in value]
    return value


def read_failure(body: Any, answer_key: str) -> Failure | None:
    """What an error body says, None for an answer (which has the member `answer_key`) and for what is neither.

    `{"error": {"message", "type", "param", "code"}}` is OpenAI's; others answer with `{"error": "text"}`, with a list
    of one such object (Google), or flat: `{"detail": ...}` (FastAPI), `{"message": ..., "code": ...}` (Azure, vLLM).
    """
    body = body[0] if isinstance(body, list) and body else body
    if not isinstance(body, dict):
        return None
    error = body.get("error")
    if error and isinstance(error, dict):
        return failure_of(error)
    if error:
        said = in_words(body.get("error_description")) or in_words(body.get("message"))  # OAuth
        kind = in_words(body.get("error_type")) or (in_words(error) if said else None)  # Hugging Face's TGI
        return Failure(message=said or in_words(error), code=in_words(body.get("code")), type=kind)
    if body.get(answer_key) is not None:
        return None
    several = body.get("errors")  # Cloudflare
    if several and isinstance(several, list) and isinstance(several[0], dict):
        return failure_of(several[0])
    if several and body.get("message") is None:
        return Failure(message=in_words(several))
    state = body.get("base_resp")  # MiniMax
    if isinstance(state, dict) and state.get("status_code"):
        return Failure(message=in_words(state.get("status_msg")), code=in_words(state["status_code"]))
    return failure_of(body) if any(body.get(name) for name in _MESSAGES) else None


_MESSAGES = ("message", "detail", "msg", "error_msg", "Message")
"""How servers name what went wrong: OpenAI, FastAPI, Zhipu and others, Baidu, AWS."""


def failure_of(error: Mapping[str, Any]) -> Failure:
    """The failure that one error object describes."""
    return Failure(
        message=next((in_words(error[name]) for name in _MESSAGES if error.get(name)), None),
        code=in_words(error.get("code") or error.get("error_code")),
        type=in_words(error.get("type")) or as_text(error.get("status")),  # Google: "NOT_FOUND"
        param=in_words(error.get("param")),
    )


def read_failure_text(body: bytes | None) -> Failure | None:
    """The failure of an answer that is neither JSON (perhaps cut short) nor an event stream: its text."""
    text = (body or b"")[: 4 * MAX_ERROR_CHARS].decode("utf-8", "replace").strip()
    if not text or text.startswith(("{", "[", '"', "data:", "event:")):
        return None
    return None if parse(text) is not None or text == "null" else Failure(message=text[:MAX_ERROR_CHARS])


def read_events(texts: Sequence[str]) -> tuple[list[tuple[int, dict[str, Any]]], Failure | None]:
    """The events of a stream with their positions in `texts`, and what made the SDK raise before its end.

    As `openai._streaming.Stream.__stream__` (1.0.0 to 3.54.0) reads them: "[DONE]" ends the stream; a text that is not
    JSON and an event with an `error` member raise.
    """
    events: list[tuple[int, dict[str, Any]]] = []
    end = next((index for index, text in enumerate(texts) if text.startswith("[DONE]")), len(texts))
    for start in range(0, end, _PARSED_AT_ONCE):
        some = texts[start : min(end, start + _PARSED_AT_ONCE)]
        together = _parse_together(some)
        for index, text in enumerate(some, start):
            try:
                event = json.loads(text) if together is None else together[index - start]
            except (ValueError, RecursionError) as error:
                return events, Failure(message=str(error), raised=True)
            if isinstance(event, dict):
                failure = read_failure(event, "error") if event.get("error") else None
                if failure is not None:
                    failure.raised = True
                    return events, failure
                events.append((index, event))
    return events, None


_PARSED_AT_ONCE = 50
"""Texts: a call for each of them takes twice the time. Not all of them: a call holds up every other thread."""
_SEAM = 8_317_264_519_035_127


def _parse_together(texts: Sequence[str]) -> list[Any] | None:
    """The values of several texts; None where one of them is not JSON."""
    try:
        values = fastjson.loads(f"[{f',{_SEAM},'.join(texts)}]")
    except (ValueError, RecursionError):
        return None
    # A number between them: two halves of a value are no value, although they may be one with a comma between them.
    seams = values[1::2]
    return values[::2] if len(values) == 2 * len(texts) - 1 and seams.count(_SEAM) == len(seams) else None


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
