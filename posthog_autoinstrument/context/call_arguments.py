"""The `posthog_*` arguments of one call, as PostHog's own wrapper takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core import diagnostics, ids
from .fields import Fields, serialize

NAMES = frozenset(
    (
        "posthog_distinct_id",
        "posthog_trace_id",
        "posthog_properties",
        "posthog_groups",
        "posthog_privacy_mode",
        "posthog_provider_override",
    )
)
"""Accepted by every patched method, and taken out before the SDK sees them."""


def fields_of(overrides: Mapping[str, Any]) -> Fields:
    """The per-call `posthog_*` arguments of one call. A value of a wrong type is converted or left out,
    never an error: the call must go out."""

    def text(name: str) -> str | None:
        return ids.text_of(overrides.get(name), name)

    def mapping(name: str) -> dict[str, str]:
        value = overrides.get(name)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            diagnostics.warn_once(name, f"{name} must be a mapping, not {type(value).__name__}; it is left out")
            return {}
        return serialize(value)

    privacy = overrides.get("posthog_privacy_mode")
    return Fields(
        distinct_id=text("posthog_distinct_id"),
        trace_id=text("posthog_trace_id"),
        properties=mapping("posthog_properties"),
        groups=mapping("posthog_groups"),
        privacy_mode=True if privacy else None,
        provider=text("posthog_provider_override"),
    )
