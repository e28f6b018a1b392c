"""Propagation of contexts into threads, processes, child programs and greenlets.

One file for each way to run code elsewhere; its `instrument(module, settings)` has the shape described in
`integrations`, whose registry calls it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core import guard, package
from ..settings import loader

if TYPE_CHECKING:
    from ..settings.config import Config

ATTRIBUTE = "_posthog_autoinstrument_context"
"""Attribute of a thread, process or task of the program: the context that it is to run in."""

_installed = False


def install(settings: Config | None = None) -> None:
    """Propagate contexts from here on. Called where a context may be opened, so not by `import openai`. Idempotent.
    Never raises."""
    global _installed
    if not _installed:
        _installed = True
        guard.attempt("install propagation", _install, settings or loader.load())


def _install(settings: Config) -> None:
    if settings.propagate and not settings.disabled:
        kinds = ("propagation", "workers", *(("http_clients",) if settings.propagate_hosts else ()))
        package.load("integrations.registry").install(settings, *kinds)
