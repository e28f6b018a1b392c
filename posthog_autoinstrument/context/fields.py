"""What one source gives for a call (user, trace, session, properties, groups, privacy), and how two are merged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..core import guard


@dataclass(eq=False, repr=False)
class Fields:
    """What one source gives for a call; None where it gives nothing. Properties and groups are key -> JSON text."""

    distinct_id: str | None = None
    trace_id: str | None = None
    session_id: str | None = None
    """Groups traces into a conversation."""
    replay_session_id: str | None = None
    """The browser session of posthog-js (`$session_id`), which links the session replay."""
    properties: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)
    privacy_mode: bool | None = None
    parent_id: str | None = None
    span_name: str | None = None
    provider: str | None = None


NO_FIELDS = Fields()
PRIVATE = Fields(privacy_mode=True)


def merge(first: Fields, second: Fields) -> Fields:
    """`first` over `second`, field by field; properties and groups are merged key by key. Private if either is: privacy
    is never taken back."""
    if second is NO_FIELDS:
        return first
    if first is NO_FIELDS:
        return second
    return Fields(
        first.distinct_id or second.distinct_id,
        first.trace_id or second.trace_id,
        first.session_id or second.session_id,
        first.replay_session_id or second.replay_session_id,
        {**second.properties, **first.properties} if first.properties else second.properties,
        {**second.groups, **first.groups} if first.groups else second.groups,
        first.privacy_mode or second.privacy_mode,
        first.parent_id or second.parent_id,
        first.span_name or second.span_name,
        first.provider or second.provider,
    )


def serialize(values: Mapping[Any, Any]) -> dict[str, str]:
    """A mapping of the user's as key -> JSON text. A value that cannot be serialized becomes its repr."""
    if not values:
        return {}
    from ..core import safejson  # not before there are any: `import openai` would wait for it

    # A list first: another thread may change the mapping meanwhile.
    items = guard.attempt("read properties", lambda: list(values.items())) or []
    return {
        name: (guard.attempt("serialize a property", safejson.dumps, value, name) or '"<not serialisable>"')
        for name, value in ((key if isinstance(key, str) else guard.describe(key), value) for key, value in items)
    }


def check_mapping(function: str, name: str, value: object) -> Mapping[Any, Any]:
    """The argument `name` of a public function, where it is a mapping or None."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise TypeError(f"{function}: {name} must be a mapping, not {type(value).__name__}")
    return value
