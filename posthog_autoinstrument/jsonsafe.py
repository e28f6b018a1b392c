"""The user's own objects as bounded JSON text, made on the thread that owns them. Never raises, never loses a key."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
import math
import uuid
from collections.abc import Mapping
from typing import Any

from .guard import describe

MAX_CHARS = 262_144
"""Of one value. Context is for ids, flags and small documents; prompts travel by another way (256 Ki characters)."""
_PYDANTIC = ("__pydantic_fields_set__", "__fields_set__")
"""By which models of pydantic are known, version 2 and 1; their fields are in their `__dict__`."""
_MAX_DEPTH = 50
_MAX_ITEMS = 10_000


def dumps(value: Any) -> str:
    """`value` as JSON text of at most `MAX_CHARS` characters; what cannot be serialised is replaced by its repr."""
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=True, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError):
        text = json.dumps(_plain(value, 0, set()), allow_nan=False, ensure_ascii=True, separators=(",", ":"))
    if len(text) > MAX_CHARS:
        text = json.dumps(text[:MAX_CHARS] + f"... [{len(text) - MAX_CHARS} characters truncated]")
    return text


def _plain(value: Any, depth: int, above: set[int]) -> Any:
    """`value` in JSON's types, as PostHog's SDK coerces them: dates as ISO text, Decimal as float, UUID as text."""
    if value is None or isinstance(value, (bool, str)):
        return str.__str__(value) if isinstance(value, str) else value
    if isinstance(value, enum.Enum):
        return _plain(value.value, depth + 1, above)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return float(value) if value.is_finite() else None
    if isinstance(value, uuid.UUID):
        return str(value)
    if id(value) in above or depth >= _MAX_DEPTH:
        return f"<{type(value).__name__}: cyclic or too deep>"
    if isinstance(value, type):
        return describe(value)
    if any(hasattr(type(value), name) for name in _PYDANTIC):
        value = vars(value)
    elif dataclasses.is_dataclass(value):
        value = {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        above = above | {id(value)}
        return {
            key
            if isinstance(key, str)
            else describe(key)
            if isinstance(key, tuple)
            else str(_plain(key, depth, above)): _plain(item, depth + 1, above)
            for key, item in list(value.items())[:_MAX_ITEMS]
        }
    if isinstance(value, (list, tuple, set, frozenset)):
        above = above | {id(value)}
        return [_plain(item, depth + 1, above) for item in list(value)[:_MAX_ITEMS]]
    return describe(value)
