"""A context as HTTP headers between services, and back: W3C `traceparent` and `baggage`. Pure.

Trace Context 1 (2021) and Baggage (2024) of the W3C. A trace id of ours is any text: where it is a UUID, its 32 digits
are the trace id of `traceparent`; baggage has every id as it is, percent-encoded. What comes in may be anybody's and
proves nothing: it is read where the user trusts whoever can send it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from ..scrubbing.scrubber import scrub_id
from .fields import Fields

TRACEPARENT = "traceparent"
BAGGAGE = "baggage"
PREFIX = "posthog."
MAX_BAGGAGE = 8192
"""Characters of the whole header: what the W3C has everybody carry."""
MAX_ID = 1000
"""Characters of one id; PostHog's own integrations cut there. A longer one is refused: cut, it would be another one."""
MAX_ENCODED = 3 * 4 * MAX_ID
"""A character is at most 4 bytes, each of them `%XX`."""
IDS = ("trace_id", "parent_id", "distinct_id", "session_id", "replay_session_id")
"""The propagated fields; with the prefix, their names in baggage."""
PRIVACY = "privacy_mode"

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_DIGITS = re.compile(r"[0-9a-f]{32}")
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_SAFE = "!#$&'()*+-./:<=>?@[]^_`{|}~"
"""What a value of baggage may hold beside letters and digits, `%` excepted, which escapes."""


def inject(fields: Fields, get: Callable[[str], str | None]) -> dict[str, str]:
    """The headers that carry `fields`, to be set in a request whose headers `get` reads.

    `traceparent` only where there is none; `baggage` is what is there, followed by ours. Nothing that is there is
    removed or repeated.
    """
    headers = {}
    if get(TRACEPARENT) is None:
        trace = digits(fields.trace_id)
        if trace is not None:
            # Theirs are 16 digits: the first of the span's, or of the trace's where no span is open.
            span = (digits(fields.parent_id) or trace)[:16]
            headers[TRACEPARENT] = f"00-{trace}-{span}-01"
    before = get(BAGGAGE) or ""
    there = {member.partition("=")[0].strip() for member in before.split(",")}
    found_values = {name: _shown(name, getattr(fields, name)) for name in IDS}
    found_values[PRIVACY] = "1" if fields.privacy_mode else None
    members = [
        f"{PREFIX}{name}={quote(value, safe=_SAFE, errors='replace')}"
        for name, value in found_values.items()
        if value and PREFIX + name not in there
    ]
    text = ",".join([*([before] if before else []), *members])
    if members and len(text) <= MAX_BAGGAGE:
        headers[BAGGAGE] = text
    return headers


def _shown(name: str, value: str | None) -> str | None:
    """An id as it is propagated; None for one that looks like a credential."""
    if not value or len(value) > MAX_ID:
        return None
    shown = scrub_id(value)
    return shown if shown == value or name != "distinct_id" else None


def digits(id: str | None) -> str | None:
    """An id as the W3C writes one, where it is a UUID or is written so; never all zeros."""
    if id is None:
        return None
    found = id.replace("-", "") if _UUID.fullmatch(id) else id
    return found if _DIGITS.fullmatch(found) and found.strip("0") else None


def has_context(get: Callable[[str], Any]) -> bool:
    """Whether the headers carry fields of ours."""
    return PREFIX in _text(get(BAGGAGE))


def extract(get: Callable[[str], Any]) -> Fields | None:
    """The fields that another service propagated: `get(name)` is the value of a header (lower-case name) or None.

    None where there are none of ours; a `traceparent` alone is another tracer's. Values that are malformed, too long or
    have control characters are left out one by one. Never raises.
    """
    text = _text(get(BAGGAGE))
    if PREFIX not in text:
        return None
    if len(text) > MAX_BAGGAGE:
        text = text[:MAX_BAGGAGE].rpartition(",")[0]
    found_values: dict[str, str] = {}
    for member in text.split(","):
        name, equals, value = member.partition(";")[0].partition("=")  # properties of a member mean nothing to us
        name = name.strip(" \t")
        if equals and name.startswith(PREFIX) and name not in found_values:
            found = decoded(value.strip(" \t"))
            if found:
                found_values[name] = found
    fields = Fields(privacy_mode=True if found_values.get(PREFIX + PRIVACY) == "1" else None)
    for name in IDS:
        setattr(fields, name, found_values.get(PREFIX + name))
    if fields.trace_id is None and found_values:
        fields.trace_id = _trace_of(_text(get(TRACEPARENT)))
    if fields.trace_id is None:
        fields.parent_id = None  # a span of no trace
    return fields if any(getattr(fields, name) for name in (*IDS, PRIVACY)) else None


def decoded(value: str) -> str | None:
    """A percent-encoded id, decoded; None where it is malformed."""
    if len(value) > MAX_ENCODED or _BAD_ESCAPE.search(value):
        return None
    try:
        found = unquote_to_bytes(value).decode("utf-8").strip()
    except UnicodeError:
        return None
    return found if len(found) <= MAX_ID and found.isprintable() else None


def _trace_of(text: str) -> str | None:
    """The trace of a `traceparent`, as the UUID that it was."""
    match = _TRACEPARENT.fullmatch(text.strip(" \t"))
    if match is None:
        return None
    version, trace, _, more = match.groups()
    if version == "ff" or (version == "00" and more) or not trace.strip("0"):
        return None
    return f"{trace[:8]}-{trace[8:12]}-{trace[12:16]}-{trace[16:20]}-{trace[20:]}"


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return value if isinstance(value, str) else ""
