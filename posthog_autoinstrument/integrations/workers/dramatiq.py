"""Dramatiq: a message is processed in the context in which it was made. Dramatiq 1.17 to 2.2.

The context is an option of the message, which retries and pipelines keep.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ...core.patching import replace
from ...propagation.wrappers import Inside, extract, inject
from ...settings.config import Config

OPTION = "posthog_autoinstrument"


def instrument(module: ModuleType, settings: Config) -> bool:
    """`dramatiq.actor` or `dramatiq.worker`."""
    if module.__name__ == "dramatiq.actor":
        return replace(vars(module).get("Actor"), "message_with_options", _message_with_options)
    return replace(vars(module).get("_WorkerThread"), "process_message", _process_message)


def _message_with_options(original: Any) -> Any:
    def message_with_options(self: Any, *args: Any, **options: Any) -> Any:
        text = inject()
        if text is not None:
            options[OPTION] = text
        return original(self, *args, **options)

    return message_with_options


def _process_message(original: Any) -> Any:
    def process_message(self: Any, message: Any) -> Any:
        text = (getattr(message, "options", None) or {}).get(OPTION)
        with Inside(extract(text)):
            return original(self, message)

    return process_message
