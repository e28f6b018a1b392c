"""RQ: a job runs in the worker in the context in which it was saved to its queue. RQ 1.16 to 3.0.

The context is an entry of the job's `meta`, which repeats and retries keep. A job that has one is not changed.
`lifecycle.exits` has the process of a job deliver its events before it ends.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ...core.patching import replace_all
from ...propagation.wrappers import Inside, extract, inject
from ...settings.config import Config

ENTRY = "posthog_autoinstrument"
UNREADABLE = "unserialized"
"""The one entry of a `meta` that this process could not read; it is written back as it was."""


def instrument(module: ModuleType, settings: Config) -> bool:
    """`rq.job`."""
    return replace_all(vars(module).get("Job"), {"save": _save, "perform": _perform})


def _save(original: Any) -> Any:
    def save(self: Any, *args: Any, **kwargs: Any) -> Any:
        meta = getattr(self, "meta", None)
        if isinstance(meta, dict) and meta.keys().isdisjoint((ENTRY, UNREADABLE)):
            text = inject()
            if text is not None:
                meta[ENTRY] = text
        return original(self, *args, **kwargs)

    return save


def _perform(original: Any) -> Any:
    def perform(self: Any) -> Any:
        text = (getattr(self, "meta", None) or {}).get(ENTRY)
        if not isinstance(text, str):
            return original(self)
        with Inside(extract(text)):
            return original(self)

    return perform
