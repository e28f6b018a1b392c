"""Where PostHog shows what was sent to it."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

from ..core.formatting import iso_utc
from ..settings.parsing import EU_HOST, US_HOST

_APPS = {US_HOST: "https://us.posthog.com", EU_HOST: "https://eu.posthog.com"}
_TRACES = "/ai-observability/traces"
"""PostHog's own path (2026-11: `frontend` of PostHog/posthog; `/llm-analytics/traces` before it moved). Without a
project it is the one last used there."""


def app_of(host: str) -> str | None:
    """The address that people open, of the one that takes events; None where it is no http(s) address.

    The cloud's ingestion hosts have their apps elsewhere; with a server of one's own it is the same.
    """
    try:
        parts = urlsplit(host)
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        return None
    return _APPS.get(f"{parts.scheme}://{parts.netloc}", f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}")


def traces_url(host: str) -> str | None:
    """PostHog's list of traces, for the host that events are sent to."""
    app = app_of(host)
    return None if app is None else app + _TRACES


def trace_url(host: str, trace_id: str, when: float | None = None) -> str | None:
    """One trace in PostHog. `when` (epoch seconds) helps it find one that is not of today."""
    app = app_of(host)
    if app is None:
        return None
    at = f"?timestamp={quote(iso_utc(when), safe='')}" if when is not None else ""
    return f"{app}{_TRACES}/{quote(trace_id, safe='', errors='replace')}{at}"
