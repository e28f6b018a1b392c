"""Huey: a task runs in the consumer in the context in which it was enqueued. Huey 2.5 to 3.5.

A message has no field that is no argument, and a consumer without the agent must be able to read it. So the context is
appended to the pickle, where `pickle.loads` stops reading; compression and signatures are around both. Nothing is
propagated by a serializer of the program's own that does not pickle. A task keeps the context that it came with: a
schedule and a retry write it again. One that runs at once (`immediate`) is a function call.
"""

from __future__ import annotations

from contextvars import ContextVar
from types import ModuleType
from typing import Any

from ...core.patching import replace_all
from ...propagation import ATTRIBUTE
from ...propagation.wrappers import Inside, extract, inject
from ...settings.config import Config

LABEL = b"\x00posthog_autoinstrument:"
_text: ContextVar[str | None] = ContextVar("posthog_autoinstrument_huey", default=None)
"""The packed context of the message that is written or read here."""


def instrument(module: ModuleType, settings: Config) -> bool:
    """`huey.serializer` or `huey.api`."""
    if module.__name__ == "huey.serializer":
        makes = {"_serialize": _serialize, "_deserialize": _deserialize}
        return replace_all(vars(module).get("Serializer"), makes)
    makes = {"serialize_task": _serialize_task, "deserialize_task": _deserialize_task, "_execute": _execute}
    return replace_all(vars(module).get("Huey"), makes)


def _serialize(original: Any) -> Any:
    def _serialize(self: Any, data: Any) -> Any:
        message, text = original(self, data), _text.get()
        return message + LABEL + text.encode() if text is not None and isinstance(message, bytes) else message

    return _serialize


def _deserialize(original: Any) -> Any:
    def _deserialize(self: Any, data: Any) -> Any:
        if isinstance(data, bytes):
            pickled, label, text = data.rpartition(LABEL)
            _text.set(text.decode("utf-8", "replace") if label else None)
            return original(self, pickled if label else data)
        return original(self, data)

    return _deserialize


def _serialize_task(original: Any) -> Any:
    def serialize_task(self: Any, task: Any) -> Any:
        text = vars(task).get(ATTRIBUTE)
        if text is None:
            text = inject()
        token = _text.set(text or None)
        try:
            return original(self, task)
        finally:
            _text.reset(token)

    return serialize_task


def _deserialize_task(original: Any) -> Any:
    def deserialize_task(self: Any, data: Any) -> Any:
        token = _text.set(None)
        try:
            task = original(self, data)
            vars(task)[ATTRIBUTE] = _text.get() or ""
            return task
        finally:
            _text.reset(token)

    return deserialize_task


def _execute(original: Any) -> Any:
    def _execute(self: Any, task: Any, *args: Any, **kwargs: Any) -> Any:
        text = vars(task).get(ATTRIBUTE)
        if text is None:
            return original(self, task, *args, **kwargs)
        with Inside(extract(text or None)):
            return original(self, task, *args, **kwargs)

    return _execute
