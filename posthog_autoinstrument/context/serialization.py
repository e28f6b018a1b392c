"""The fields of a context as one text for another process of the same program: in an environment variable, the header
of a task, an argument of a pool's worker. Pure.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .fields import Fields

MAX_CHARS = 16 * 1024
"""Maximum length of the text. Linux takes 128 KiB for one variable; brokers set lower limits."""
TEXTS = ("distinct_id", "trace_id", "session_id", "replay_session_id", "parent_id", "span_name", "provider")
MAPPINGS = ("properties", "groups")
PRIVACY = "privacy_mode"


def pack(fields: Fields) -> str:
    """The text: ASCII, without control characters, and scrubbed of credentials, since whoever can read the process's
    environment or the queue can read it. What makes it too long is left out, properties and groups first, but never
    privacy."""
    from ..scrubbing import scrubber, secret_texts

    packed: dict[str, Any] = {PRIVACY: True} if fields.privacy_mode else {}
    for name in TEXTS:
        value = getattr(fields, name)
        if value and len(value) <= MAX_CHARS:
            shown = scrubber.scrub_id(value) if name.endswith("_id") else secret_texts.scrub_text(value)
            if name != "distinct_id" or shown == value:  # a credential is no user id
                packed[name] = shown
    for name in MAPPINGS:
        values = getattr(fields, name)
        if values and sum(map(len, values.values())) <= MAX_CHARS:
            found = scrubber.scrub_properties({key: json.loads(text) for key, text in values.items()})
            packed[name] = {key: _dumps(value) for key, value in found.items()}
    for left_out in ((), MAPPINGS, (*MAPPINGS, "span_name", "provider"), (*MAPPINGS, *TEXTS)):
        text = _dumps({name: value for name, value in packed.items() if name not in left_out})
        if len(text) <= MAX_CHARS:
            break
    return text


def _dumps(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), default=dict)


def unpack(text: str) -> dict[str, Any]:
    """The fields that `pack` was given, as keyword arguments of `Fields`; empty for any other text.

    Values of a wrong type are left out. Never raises.
    """
    if len(text) > MAX_CHARS:
        return {}
    try:
        packed = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(packed, dict):
        return {}
    found: dict[str, Any] = {name: value for name in TEXTS if isinstance(value := packed.get(name), str) and value}
    for name in MAPPINGS:
        values = packed.get(name)
        if isinstance(values, dict):
            kept = {key: value for key, value in values.items() if isinstance(value, str) and _is_json(value)}
            if kept:
                found[name] = kept
    if packed.get(PRIVACY) is True:
        found[PRIVACY] = True
    return found


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
