"""Where the events of a process go: PostHog, the local store, or nowhere. On the flusher's thread, and loaded there."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from .._version import __version__
from ..core import diagnostics, forks
from ..processing import event, redaction
from ..settings.config import Config
from ..store import columns
from . import project
from .exporter import Exporter, ExportResult
from .posthog import PostHogExporter


class NoExporter:
    """Takes no events, for the reason given."""

    name = "nowhere"
    max_event_bytes = 1 << 40
    max_batch_bytes = 1 << 40

    def __init__(self, why: str) -> None:
        self._why = why

    def send(self, events: object, timeout_s: float) -> ExportResult:
        return ExportResult("stopped", self._why)

    def close(self) -> None:
        pass


class NoProject(NoExporter):
    """There is no destination: this process was not launched and has no token."""

    waits_for_project = True


def choose(settings: Config) -> Exporter:
    """The exporter of this process. Asked at the first flush, when a token set in code is known."""
    found = project.find(settings) if not settings.local else None
    if found is not None:
        refused = why_refused(found.host, settings)
        if refused:
            return NoExporter(refused)
        if diagnostics.debug:
            diagnostics.write(f"events go to {redaction.redact_url(found.host)}")
        return PostHogExporter(found.token, found.host, library=f"{event.LIBRARY}/{__version__}")
    if settings.local or settings.launched:
        if diagnostics.debug:
            diagnostics.write(f"events go to {settings.db_path}")
        try:
            with forks.IMPORTS:  # sqlite3: only a process that writes the store pays for it
                from .local import LocalExporter
        except ImportError as error:
            return NoExporter(f"this Python has no {error.name}, so there is no local store")
        return LocalExporter(settings.db_path, columns.summary, settings.store_max_mb * 1_000_000)
    return NoProject("no POSTHOG_PROJECT_TOKEN is set")


def why_refused(host: str, settings: Config) -> str:
    """Why nothing is sent to a host, whatever it is; "" where there is no reason."""
    if host.startswith("http:") and not settings.allow_http and not _is_loopback(host):
        return (
            f"{redaction.redact_url(host)} is plain http, which anybody on the way can read "
            "(POSTHOG_AUTOINSTRUMENT_ALLOW_HTTP=1 allows it)"
        )
    return ""


def names(exporter: Exporter) -> tuple[str, ...]:
    """What identifies a destination: host and token, or the name of another exporter."""
    return (exporter.host, exporter.token) if isinstance(exporter, PostHogExporter) else (exporter.name,)


_LOOPBACK = re.compile(r"127(\.\d{1,3}){3}")
"""An address: the name of a host may begin like one."""


def _is_loopback(host: str) -> bool:
    name = urlsplit(host).hostname or ""
    return name in ("localhost", "::1") or name.endswith(".localhost") or _LOOPBACK.fullmatch(name) is not None
