"""Which PostHog project events go to, as far as it is known now: a program may set its token late."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from ..core import diagnostics
from ..settings import loader, parsing
from ..settings.config import Config

if TYPE_CHECKING:
    from .delivery import Delivery
    from .exporter import Exporter


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


class ChosenProject:
    """The project that this process sends its events to, since that was chosen."""

    def __init__(self, settings: Config, delivery: Delivery) -> None:
        self._config = settings
        self._delivery = delivery
        self.current: Project | None = None

    def choose(self, exporter: Exporter) -> None:
        """An exporter was chosen: the project is the one of now, also where its host is refused; None for a store."""
        self.current = None if getattr(exporter, "path", None) is not None else find(self._config)

    def check(self) -> None:
        """Warn where the program has set another project than the one that its events go to already."""
        exporter = self._delivery.exporter
        if exporter is None or self._config.local:
            return
        found = find(self._config)
        if found is None or found == self.current:
            return
        if getattr(exporter, "waits_for_project", False):  # what was captured meanwhile is in the spool
            self._delivery.choose_again()
            return
        if hasattr(exporter, "token") and self.current is not None:
            line = (
                f"another PostHog project was set when events had gone to {self.current.host} already; "
                "this process goes on sending them there"
            )
        elif getattr(exporter, "path", None) is not None:
            line = (
                "a PostHog token was set when events had gone to the local store already; this process goes on writing "
                "them there (posthog-instrument send delivers them to PostHog). Set it before the first call"
            )
        else:
            line = "the PostHog project was set too late: set it before the first call"
        diagnostics.warn_once("late project", line)
