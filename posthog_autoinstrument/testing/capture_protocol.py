"""What PostHog's capture service accepts, and with which messages and statuses it refuses the rest.

The rules are those of capture's v0 and v1 endpoints (PostHog/posthog rust/capture, read 2026-11). On v0 one bad event
fails its whole request. Where a rule depends on the deployment, the production value is the default. Used by
`view --receive` and by the fake PostHog of the tests.
"""

from __future__ import annotations

import json
import math
import re
import uuid
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

AI_PREFIX = "$ai"
AI_EVENT_KINDS = frozenset(
    (
        "embedding",
        "evaluation",
        "evaluation_report",
        "feedback",
        "generation",
        "generation_summary",
        "metric",
        "span",
        "tag",
        "trace",
        "trace_summary",
    )
)
"""What may follow the prefix and an underscore in the name of an event on the AI path."""
AI_PATHS = ("/i/v0/ai/batch",)
ANALYTICS_PATHS = ("/batch", "/capture", "/e", "/i/v0/e", "/track")
SINGLE_PATHS = ("/capture", "/e", "/i/v0/e", "/track")
"""Paths that take an event by itself, too."""
MAX_TOKEN_CHARS = 64
MULTIPART_PATH = "/i/v0/ai"
FLAGS_PATHS = ("/flags", "/decide")
CONFIG_PATH = re.compile(r"/array/([^/]+)/config(?:\.js)?")
"""Both look the token up, which capture does not (PostHog/posthog#54670): 401 and 404 for one that no project has."""
V1_PATHS = ("/i/v1/ai/events", "/i/v1/analytics/events")

INFLATES = 5
"""How many times larger than on the wire a request may be when it is decompressed."""


@dataclass
class Limits:
    """Bytes: of an event on the AI paths, of one on the others, of a request on the wire."""

    max_event_bytes: int = 8 * 1024 * 1024
    max_analytics_event_bytes: int = 960 * 1024
    max_body_bytes: int = 20 * 1024 * 1024


class Refused(Exception):
    """A request that capture refuses; the message is what it answers."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


def is_ai(name: str) -> bool:
    """Whether an event of this name is one of those that PostHog shows as calls of models."""
    prefix, _, kind = name.partition("_")
    return prefix == AI_PREFIX and kind in AI_EVENT_KINDS


def check_size(size: int, limits: Limits) -> None:
    """Raises Refused for a request that is too large on the wire."""
    if size > limits.max_body_bytes:
        raise Refused(413, f"request body is {size} bytes, over the {limits.max_body_bytes}-byte limit")


def decompressed(body: bytes, max_bytes: int) -> bytes:
    """A request's body, unpacked where it is gzip: capture looks at the bytes, not at Content-Encoding."""
    return inflated(body, 31, max_bytes) if body.startswith(b"\x1f\x8b") else body


def inflated(body: bytes, wbits: int, max_bytes: int) -> bytes:
    """The body unpacked by zlib (`wbits` as there), if it is then not larger than `max_bytes`."""
    unpacked = b""
    try:
        while body:  # gzip: members, one behind the other
            unpacker = zlib.decompressobj(wbits)
            unpacked += unpacker.decompress(body, max_bytes + 1 - len(unpacked))
            if len(unpacked) > max_bytes:
                raise Refused(413, f"request body is over {max_bytes} bytes when it is decompressed")
            if not unpacker.eof:
                raise Refused(400, "failed to decode request: it ends in the middle")
            body = unpacker.unused_data.lstrip(b"\0")
    except zlib.error as error:
        raise Refused(400, f"failed to decode request: {error}") from None
    return unpacked


def events_of(path: str, body: bytes, limits: Limits) -> list[dict[str, Any]]:
    """The events of a decompressed v0 body. Raises Refused with capture's status otherwise."""
    parsed = parsed_json(body)
    single = path in SINGLE_PATHS
    if single and isinstance(parsed, list):
        batch: Any = parsed
    elif isinstance(parsed, dict):
        batch = parsed.get("batch", [parsed] if single else None)
    else:
        raise Refused(400, "failed to parse request: not an object")
    if not isinstance(batch, list) or not all(isinstance(event, dict) for event in batch):
        raise Refused(400, "failed to parse request: batch is not a list of events")
    if not batch:
        raise Refused(400, "submitted an empty batch")
    check_key(_token_of(parsed, batch))
    for event in batch:
        _check_event(event, path in AI_PATHS, limits)
    return batch


def parsed_json(body: bytes) -> Any:
    """A body as JSON, without the constants that only Python knows, and without numbers that become one (`1e999`)."""
    try:
        return json.loads(body, parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError, too
        raise Refused(400, f"failed to parse request: {error}") from None


def check_key(token: str) -> None:
    """Raises Refused for what cannot be a project token (capture's `validate_token`). It is not looked up: one that no
    project has is taken."""
    token = token.strip()
    if not token:
        raise Refused(401, "API key is not provided")
    for is_wrong, reason in (
        (len(token) > MAX_TOKEN_CHARS, "too_long"),
        (not token.isascii(), "not_ascii"),
        (token.startswith("phx_"), "personal_api_key"),
        ("\0" in token, "null_byte"),
    ):
        if is_wrong:
            raise Refused(401, f"API key is not valid: {reason}")


def flags_answer(body: bytes, is_known: Callable[[str], bool]) -> tuple[int, dict[str, Any]]:
    """Status and JSON of a request for feature flags, of which there are none: 401 for a token that is not known (the
    body as since PostHog/posthog#61421)."""
    try:
        asked = json.loads(body or b"{}")
    except ValueError:
        asked = None
    token = _own_token(asked) if isinstance(asked, dict) else ""
    if not token or not is_known(token):
        detail = "The provided API key is invalid or has expired. Please check your API key and try again."
        return 401, {"type": "authentication_error", "code": "invalid_api_key", "detail": detail, "attr": None}
    return 200, {"flags": {}, "errorsWhileComputingFlags": False}


def may_be_known(token: str) -> bool:
    """Whether a token could be a project's."""
    try:
        check_key(token)
    except Refused:
        return False
    return True


def _token_of(parsed: Any, batch: list[dict[str, Any]]) -> str:
    """The token of a request: the batch's own, whatever its events say. Without one, that of the events, which must be
    the same in all (capture's `extract_and_verify_token`)."""
    own = _own_token(parsed) if isinstance(parsed, dict) else ""
    if own:
        return own
    given = {_own_token(event) or _own_token(event.get("properties")) for event in batch} - {""}
    if len(given) > 1:
        raise Refused(401, "events submitted with several different tokens")
    return given.pop() if given else ""


def _own_token(source: Any) -> str:
    """The token among these members of a request, an event or its properties; "" where there is none."""
    names = ("api_key", "token", "$token") if isinstance(source, dict) else ()
    return next((token for name in names if isinstance(token := source.get(name), str) and token), "")


def _check_event(event: dict[str, Any], ai_only: bool, limits: Limits) -> None:
    name = event.get("event")
    if not isinstance(name, str) or not name:
        raise Refused(400, "event submitted with an empty or missing event name")
    properties = event.get("properties", {})
    if not isinstance(properties, dict):
        raise Refused(400, "failed to parse request: properties is not an object")
    if not person_of(event):
        raise Refused(400, "event submitted without a distinct_id")
    if event.get("uuid") and not is_uuid(event["uuid"]):
        raise Refused(400, "failed to parse request: malformed uuid")
    size = size_of(event)  # first: raises for texts that are not UTF-8, before one is put into a message
    if ai_only and not is_ai(name):
        raise Refused(400, f"event {name} is not an AI event")
    limit = limits.max_event_bytes if ai_only else limits.max_analytics_event_bytes
    if size > limit:
        kind = "AI event" if is_ai(name) else "event"
        raise Refused(413, f"maximum {kind} size exceeded: {kind} {name} is {size} bytes, over the {limit}-byte limit")


def person_of(event: dict[str, Any]) -> Any:
    """The distinct id, wherever an event may have it."""
    properties = event.get("properties")
    own = properties.get("distinct_id") if isinstance(properties, dict) else None
    return event.get("distinct_id") or own or event.get("$distinct_id")


def is_uuid(value: Any) -> bool:
    """Whether it is one, as text."""
    try:
        uuid.UUID(value)
    except (ValueError, AttributeError, TypeError):
        return False
    return True


def size_of(event: dict[str, Any]) -> int:
    """Bytes of an event as JSON."""
    try:
        return len(json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode())
    except UnicodeEncodeError:
        raise Refused(400, "failed to parse request: lone surrogate") from None


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"number out of range: {text[:20]}")
    return number


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
