"""RQ: a job runs in the worker in the context in which it was saved to its queue. RQ 1.16 to 3.0.

The context is an entry of the job's `meta`, which repeats and retries keep. A job that says so already is not changed.
`exits` has the process of a job deliver its events before it ends.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ...context import serialization
from ...context.scope import CONTEXT, current_for_process, fields_to_propagate
from ...core import guard
from ...core.patching import replace
from ...propagation import install
from ...propagation.wrappers import unpacked

ENTRY = "posthog_autoinstrument"
UNREADABLE = "unserialized"
"""The one entry of a `meta` that this process could not read; it is written back as it was."""


def patch(module: ModuleType) -> None:
    """`rq.job` has loaded."""
    replace(vars(module).get("Job"), "save", _save)
    replace(vars(module).get("Job"), "perform", _perform)


def _save(original: Any) -> Any:
    def save(self: Any, *args: Any, **kwargs: Any) -> Any:
        context = current_for_process()
        meta = getattr(self, "meta", None)
        if context is not None and isinstance(meta, dict) and meta.keys().isdisjoint((ENTRY, UNREADABLE)):
            meta[ENTRY] = guard.attempt("hand a context to a job", serialization.pack, fields_to_propagate(context))
        return original(self, *args, **kwargs)

    return save


def _perform(original: Any) -> Any:
    def perform(self: Any) -> Any:
        text = (getattr(self, "meta", None) or {}).get(ENTRY)
        if not isinstance(text, str):
            return original(self)
        install()
        token = CONTEXT.set(guard.attempt("read the context of a job", unpacked, text))
        try:
            return original(self)
        finally:
            CONTEXT.reset(token)

    return perform
