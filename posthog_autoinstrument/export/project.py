"""Which PostHog project events go to, as far as it is known now: a program may set its token late."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

from ..settings import loader, parsing
from ..settings.config import Config


class Project(NamedTuple):
    """A token and the host that takes its events."""

    token: str
    host: str


def find(settings: Config) -> Project | None:
    """The project by what was given in code, by the environment as it is now (`load_dotenv()` after the imports), by
    the environment as it was at the start, and by the posthog package, if the program uses that. Any thread."""
    token, host = loader.token_and_host(settings)
    if token is not None:
        return Project(token, host or settings.host)
    posthog = sys.modules.get("posthog")
    client = getattr(posthog, "default_client", None)
    for found in (
        getattr(posthog, "project_api_key", None),
        getattr(posthog, "api_key", None),
        getattr(client, "api_key", None),
    ):
        if isinstance(found, str) and found and not found.startswith("phx_"):
            return Project(found, host or _host_of(posthog, client) or settings.host)
    return None


def _host_of(posthog: Any, client: Any) -> str | None:
    host = getattr(posthog, "host", None) or getattr(client, "raw_host", None)
    return parsing.parse_host(host) if isinstance(host, str) else None
