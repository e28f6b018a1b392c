"""Who records a call: this agent, unless another integration of PostHog's does."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from ..core import diagnostics

EVERY_END = frozenset(("complete", "failed", "closed", "abandoned", "cancelled"))


@dataclass(eq=False, repr=False)
class Owner:
    """Who records a call in place of this agent, where it ends in one of `ends`."""

    name: str
    ends: frozenset[str] = EVERY_END


US = Owner("posthog_autoinstrument", frozenset())
INNER_CALL = Owner("another call")
"""The method made its request by another method, whose call is recorded."""

GATEWAY_HOSTS = frozenset(
    (
        "gateway.posthog.com",
        "gateway.us.posthog.com",
        "gateway.eu.posthog.com",
        "ai-gateway.us.posthog.com",
        "ai-gateway.eu.posthog.com",
    )
)
"""PostHog's own AI gateway, which records each call itself (posthog 7.91.1, posthog/ai/gateway.py)."""


def is_gateway(base_url: str) -> bool:
    """Whether calls to this address are recorded by PostHog's own gateway."""
    found = urlsplit(base_url).hostname in GATEWAY_HOSTS
    if found:
        log_left_to("PostHog's AI gateway")
    return found


def log_left_to(name: str) -> None:
    """With POSTHOG_AUTOINSTRUMENT_DEBUG, write once that calls are left to another integration."""
    if diagnostics.debug:
        diagnostics.write_once(f"left to {name}", f"calls that {name} records are left to it")
