"""PostHog's events read back: the columns that lists show, the text that is searched, the usage that is billed.

It reads the `$ai_` names that `processing.event` writes. Pure. Events may come from other SDKs, so any value may have
any type: a value that is not as documented counts as missing.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import Any
from urllib.parse import urlsplit

from ..core import fastjson, guard, reasoning_tokens
from ..core.records import EncodedEvent
from .schema import COLUMNS, Row
from .summary import EventSummary, TokenUse

KINDS = {
    "$ai_generation": "generation",
    "$ai_embedding": "embedding",
    "$ai_span": "span",
    "$ai_trace": "trace",
    "$ai_feedback": "feedback",
    "$ai_metric": "metric",
}
CALLS = ("generation", "embedding")
"""The kinds that are calls of a model."""
IS_CALL = f"kind IN ({', '.join(map(repr, CALLS))})"
"""The same as a condition in SQL."""

MAX_TEXT_CHARS = 65_536
"""Characters of an input and of an output that are searched: the end of the input, as its beginning is history."""
MAX_AMOUNT = 2**43
"""Upper bound of counts and amounts: SQLite's 8-byte integers can add a million of them."""


def host_of_chat_stream(event: dict[str, Any]) -> str | None:
    """The host (with its port, if the URL has one) of a streamed chat completion; None for other events."""
    properties = _properties(event)
    if properties.get("$ai_stream") is not True or not str(_endpoint(properties)).endswith("/completions"):
        return None
    try:
        parts = urlsplit(str(properties.get("$ai_base_url")))
        return f"{parts.hostname}:{parts.port}" if parts.hostname and parts.port else parts.hostname
    except ValueError:
        return None


def summary(event: dict[str, Any]) -> EventSummary:
    """The fields of an event that the local store indexes and the `events` command shows."""
    properties = _properties(event)
    return EventSummary(
        time=str(event.get("timestamp", "")),
        kind=KINDS.get(str(event.get("event")), str(event.get("event"))),
        model=_text(properties.get("$ai_model")),
        provider=_text(properties.get("$ai_provider")),
        input_tokens=_count(properties.get("$ai_input_tokens")),
        output_tokens=_output_tokens(properties),
        cached_tokens=_count(properties.get("$ai_cache_read_input_tokens")),
        reasoning_tokens=_count(properties.get("$ai_reasoning_tokens")),
        latency_s=_amount(properties.get("$ai_latency")),
        ttft_s=_amount(properties.get("$ai_time_to_first_token")),
        status=_count(properties.get("$ai_http_status")),
        is_error=bool(properties.get("$ai_is_error")),
        error=_text(properties.get("$ai_error")),
        user=_text(event.get("distinct_id")),
        trace=_text(properties.get("$ai_trace_id")),
        session=_text(properties.get("$ai_session_id")),
        span=_text(properties.get("$ai_span_id")),
        parent=_text(properties.get("$ai_parent_id")),
        name=_text(properties.get("$ai_span_name")),
        endpoint=_endpoint(properties),
        anonymous=properties.get("$process_person_profile") is False,
        input_text=_input_words(properties),
        output_text=_words(properties.get("$ai_output_choices", properties.get("$ai_output_state", "")), last=False),
        cost_usd=_amount(properties.get("$ai_total_cost_usd")),
    )


def token_use(event: dict[str, Any]) -> TokenUse:
    """What a call used of what providers bill."""
    properties = _properties(event)
    return TokenUse(
        time=str(event.get("timestamp", "")),
        model=_text(properties.get("$ai_model")),
        provider=_text(properties.get("$ai_provider")),
        base_url=_text(properties.get("$ai_base_url")),
        tier=_text(properties.get("$ai_service_tier")),
        is_embedding=event.get("event") == "$ai_embedding",
        input_tokens=_count(properties.get("$ai_input_tokens")),
        output_tokens=_output_tokens(properties),
        cache_read_tokens=_count(properties.get("$ai_cache_read_input_tokens")),
        cache_write_tokens=_count(properties.get("$ai_cache_creation_input_tokens")),
        reasoning_tokens=_count(properties.get("$ai_reasoning_tokens")),
        input_audio_tokens=_count(properties.get("$ai_audio_input_tokens")),
        output_audio_tokens=_count(properties.get("$ai_audio_output_tokens")),
        cache_audio_read_tokens=_count(properties.get("$ai_cache_read_audio_tokens")),
        input_image_tokens=_count(properties.get("$ai_image_input_tokens")),
        output_image_tokens=_count(properties.get("$ai_image_output_tokens")),
        web_searches=_count(properties.get("$ai_web_search_count")),
        cache_beside_input=properties.get("$ai_cache_reporting_exclusive") is True,
        reported_usd=_amount(properties.get("$ai_total_cost_usd")),
    )


def words_to_search(event: dict[str, Any]) -> str:
    """The text of an event that a search looks at, one line each: input, output, error, user, model, names.

    In privacy mode the event has no contents, so these are not searchable.
    """
    properties = _properties(event)
    given = [_flat(properties.get(name)) for name in ("$ai_instructions", "$ai_input", "$ai_input_state")]
    made = [_flat(properties.get(name)) for name in ("$ai_output_choices", "$ai_output_state", "$ai_feedback_text")]
    names = [
        _text(value) or ""
        for value in (
            event.get("distinct_id"),
            *(properties.get(name) for name in ("$ai_model", "$ai_span_name", "$ai_metric_name", "$ai_error")),
        )
    ]
    lines = ["\n".join(filter(None, given))[-MAX_TEXT_CHARS:], "\n".join(filter(None, made))[:MAX_TEXT_CHARS]]
    return "\n".join(filter(None, [*lines, *names]))


def ai_properties(event: dict[str, Any]) -> dict[str, Any]:
    """The `$ai_` properties, without that prefix: `input`, `model_parameters`."""
    return {name[4:]: value for name, value in _properties(event).items() if name.startswith("$ai_")}


def custom_properties(event: dict[str, Any]) -> dict[str, Any]:
    """The program's own properties, including its groups."""
    return {name: value for name, value in _properties(event).items() if name[:1] != "$" or name == "$groups"}


def _output_tokens(properties: dict[str, Any]) -> int | None:
    """All output tokens, reasoning among them."""
    output, reasoning = _count(properties.get("$ai_output_tokens")), _count(properties.get("$ai_reasoning_tokens"))
    if reasoning and reasoning_tokens.are_beside_output(properties.get("$ai_model")):
        return (output or 0) + reasoning
    return output


def _properties(event: dict[str, Any]) -> dict[str, Any]:
    properties = event.get("properties")
    return properties if isinstance(properties, dict) else {}


# --- the row of an event ---


def make_row(event: EncodedEvent, summarise: Callable[[dict[str, Any]], EventSummary]) -> Row:
    """The event with its columns. Raises ValueError when its body is no JSON object."""
    body = event.body.decode("utf-8")
    parsed = fastjson.loads(event.body)
    if not isinstance(parsed, dict):
        raise ValueError("not an object")
    summary = guard.attempt("summarise an event", summarise, parsed) or EventSummary()
    when = _utc(parsed.get("timestamp"))
    values = {
        **vars(summary),
        "epoch": when.timestamp(),
        "uuid": event.uuid,
        "user": None if summary.anonymous else summary.user,
        "priced": summary.cost_usd is not None or summary.kind not in CALLS,
        "input_text": _first_words(summary.input_text),
        "output_text": _first_words(summary.output_text),
    }
    columns = {column.name: storable(values[column.field]) for column in COLUMNS}
    of_event = (columns["trace_id"], columns["model"], columns["is_error"])
    distinct_id = storable(_text(parsed.get("distinct_id")))
    return Row(
        event.uuid,
        (event.uuid, when.isoformat(), when.timestamp(), event.name, distinct_id, *of_event, body),
        tuple(columns.values()),
    )


def _utc(timestamp: object) -> datetime:
    """The ISO 8601 time, in UTC; now when it is none."""
    try:
        # Python 3.10 does not read "Z".
        when = datetime.fromisoformat(str(timestamp).replace("Z", "+00:00"))
        return (when if when.tzinfo else when.replace(tzinfo=timezone.utc)).astimezone(timezone.utc)
    except (ValueError, OverflowError):  # OverflowError: year 1 or 9999 here, another one in UTC
        return datetime.now(timezone.utc)


def storable(value: Any) -> Any:
    """The value as SQLite takes it: a lone surrogate is not UTF-8."""
    if not isinstance(value, str) or value.isascii():
        return value
    return value.encode("utf-8", "replace").decode("utf-8")


_FIRST_WORDS_CHARS = 200


def _first_words(text: str | None) -> str | None:
    """One short line of a text that may be long."""
    return None if text is None else " ".join(text[: _FIRST_WORDS_CHARS + 50].split())[:_FIRST_WORDS_CHARS]


# --- values of any type ---


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value) if isinstance(value, (dict, list)) else str(value)


def _count(value: object) -> int | None:
    """A whole number that is not negative; None for anything else."""
    amount = _amount(value)
    return int(amount) if amount is not None and amount == int(amount) else None


def _amount(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        amount = float(value)
    except OverflowError:  # an integer of hundreds of digits
        return None
    return amount if 0 <= amount < MAX_AMOUNT else None  # NaN is not, either


_ID = re.compile(r"[a-z]+(?:_[a-z]+)*[_-][A-Za-z0-9]{8,}|[0-9a-fA-F-]{16,}")
"""A path segment that is an id: `resp_68af4030592c81938ec0a5fbab4a3e9f`, a UUID."""
_DEPLOYMENT = re.compile(r"^/deployments/[^/]+(?=/)")
"""Azure has the deployment in the path."""


def _endpoint(properties: dict[str, Any]) -> str | None:
    whole, base = properties.get("$ai_request_url"), properties.get("$ai_base_url")
    if not isinstance(whole, str) or len(whole) > 2_000:
        return None
    return _path_below(whole, base if isinstance(base, str) else "")


@functools.lru_cache(maxsize=128)
def _path_below(whole: str, base: str) -> str | None:
    """The path of the request below the base URL, ids replaced: `/chat/completions`, `/responses/:id`.

    Cached: a program calls few URLs many times.
    """
    try:
        path, below = urlsplit(whole).path, urlsplit(base).path.rstrip("/")
    except ValueError:
        return None
    if below and path.startswith(below + "/"):
        path = path[len(below) :]
    path = _DEPLOYMENT.sub("", path)
    return "/".join(":id" if _ID.fullmatch(part) else part for part in path.split("/")) or None


# --- words ---


def _input_words(properties: dict[str, Any]) -> str | None:
    """First words of the input: for a span after its name, for feedback its text, for a metric its name and value."""
    if "$ai_metric_name" in properties:
        return f"{properties['$ai_metric_name']} = {properties.get('$ai_metric_value')}"
    if "$ai_feedback_text" in properties:
        return _words(properties["$ai_feedback_text"], last=True)
    if "$ai_input" in properties or "$ai_span_name" not in properties:
        return _words(properties.get("$ai_input", ""), last=True)
    state = _words(properties.get("$ai_input_state", ""), last=True)
    return " ".join(filter(None, (f"[{properties['$ai_span_name']}]", state)))


def _words(content: Any, last: bool) -> str | None:
    """The first words of an input (of its last message: the rest is history) or of an output. None: not captured."""
    if content is None or isinstance(content, str):
        return content
    if isinstance(content, list) and content and all(isinstance(item, dict) for item in content):
        message = content[-1] if last else content[0]
        inner = message.get("content") or message.get("output") or message.get("arguments") or ""
        if isinstance(inner, list):
            return " ".join(filter(None, map(_part_words, inner)))
        return inner if isinstance(inner, str) else json.dumps(inner, ensure_ascii=False)
    return json.dumps(content, ensure_ascii=False)[:500] if content else ""


def _part_words(part: Any) -> str | None:
    if not isinstance(part, dict):
        return str(part)
    function = part.get("function")
    if isinstance(function, dict):
        return f"{function.get('name')}({function.get('arguments')})"
    text = part.get("text") or part.get("refusal") or part.get("transcript")
    return text if isinstance(text, str) else f"[{part.get('type')}]"


def _flat(content: Any) -> str:
    """Every text in `content`, one line each, without keys and without values such as roles and ids."""
    return "\n".join(_texts(content, 0))


_SHAPE_KEYS = frozenset(("role", "type", "id", "index", "tool_call_id", "call_id", "status", "finish_reason", "detail"))
_MAX_DEPTH = 12


def _texts(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif depth < _MAX_DEPTH and isinstance(value, list):
        for item in value:
            yield from _texts(item, depth + 1)
    elif depth < _MAX_DEPTH and isinstance(value, dict):
        for key, item in value.items():
            if key not in _SHAPE_KEYS or not isinstance(item, str):
                yield from _texts(item, depth + 1)
