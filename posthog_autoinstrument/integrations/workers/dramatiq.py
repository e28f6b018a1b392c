"""Dramatiq: a message is processed in the context in which it was made. Dramatiq 1.17 to 2.2.

The context is an option of the message, which retries and pipelines keep.
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

OPTION = "posthog_autoinstrument"


def patch(module: ModuleType) -> None:
    """`dramatiq.actor` or `dramatiq.worker` has loaded."""
    replace(vars(module).get("Actor"), "message_with_options", _message_with_options)
    replace(vars(module).get("_WorkerThread"), "process_message", _process_message)


def _message_with_options(original: Any) -> Any:
    def message_with_options(self: Any, *args: Any, **options: Any) -> Any:
        context = current_for_process()
        if context is not None:
            options[OPTION] = guard.attempt(
                "hand a context to a message", serialization.pack, fields_to_propagate(context)
            )
        return original(self, *args, **options)

    return message_with_options


def _process_message(original: Any) -> Any:
    def process_message(self: Any, message: Any) -> Any:
        text = (getattr(message, "options", None) or {}).get(OPTION)
        context = None
        if isinstance(text, str):
            context = guard.attempt("read the context of a message", unpacked, text)
            install()
        token = CONTEXT.set(context)
        try:
            return original(self, message)
        finally:
            CONTEXT.reset(token)

    return process_message
