"""Reading JSON that may be anything at all: what is not as documented counts as absent. Pure; never raises.

For the readers in `providers`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..core import fastjson
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
    """The failure that an error body describes; None for an answer (it has `answer_key`) and for what is neither.

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
        description = in_words(body.get("error_description")) or in_words(body.get("message"))  # OAuth
        kind = in_words(body.get("error_type")) or (in_words(error) if description else None)  # Hugging Face's TGI
        return Failure(message=description or in_words(error), code=in_words(body.get("code")), type=kind)
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
