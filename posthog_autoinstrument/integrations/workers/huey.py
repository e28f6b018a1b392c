"""Huey: a task runs in the consumer in the context in which it was enqueued. Huey 2.5 to 3.5.

A message has no place for what is nobody's argument, and a consumer without the agent must be able to read it. So the
context stands behind the pickle, which `pickle.loads` does not read on; compression and signatures are around both. A
serializer of the program's own that does not pickle carries nothing. A task keeps what it came with: a schedule and a
retry write it anew. One that runs at once (`immediate`) is a function call.
"""

from __future__ import annotations

from contextvars import ContextVar
from types import ModuleType
from typing import Any

from ...context import serialization
from ...context.scope import CONTEXT, current_for_process, fields_to_propagate
from ...core import guard
from ...core.patching import replace
from ...propagation import ATTRIBUTE, install
from ...propagation.wrappers import unpacked

LABEL = b"\x00posthog_autoinstrument:"
_carried: ContextVar[str | None] = ContextVar("posthog_autoinstrument_huey", default=None)
"""The text of the message that is written or read here."""


def patch(module: ModuleType) -> None:
    """`huey.serializer` or `huey.api` has loaded."""
    replace(vars(module).get("Serializer"), "_serialize", _serialize)
    replace(vars(module).get("Serializer"), "_deserialize", _deserialize)
    replace(vars(module).get("Huey"), "serialize_task", _serialize_task)
    replace(vars(module).get("Huey"), "deserialize_task", _deserialize_task)
    replace(vars(module).get("Huey"), "_execute", _execute)


def _serialize(original: Any) -> Any:
    def _serialize(self: Any, data: Any) -> Any:
        made, text = original(self, data), _carried.get()
        return made + LABEL + text.encode() if text is not None and isinstance(made, bytes) else made

    return _serialize


def _deserialize(original: Any) -> Any:
    def _deserialize(self: Any, data: Any) -> Any:
        if isinstance(data, bytes):
            pickled, label, text = data.rpartition(LABEL)
            _carried.set(text.decode("utf-8", "replace") if label else None)
            return original(self, pickled if label else data)
        return original(self, data)

    return _deserialize


def _serialize_task(original: Any) -> Any:
    def serialize_task(self: Any, task: Any) -> Any:
        text = vars(task).get(ATTRIBUTE)
        context = current_for_process() if text is None else None
        if context is not None:
            text = guard.attempt("hand a context to a task", serialization.pack, fields_to_propagate(context))
        token = _carried.set(text or None)
        try:
            return original(self, task)
        finally:
            _carried.reset(token)

    return serialize_task


def _deserialize_task(original: Any) -> Any:
    def deserialize_task(self: Any, data: Any) -> Any:
        token = _carried.set(None)
        try:
            task = original(self, data)
            vars(task)[ATTRIBUTE] = _carried.get() or ""
            return task
        finally:
            _carried.reset(token)

    return deserialize_task


def _execute(original: Any) -> Any:
    def _execute(self: Any, task: Any, *args: Any, **kwargs: Any) -> Any:
        text = vars(task).get(ATTRIBUTE)
        if text is None:
            return original(self, task, *args, **kwargs)
        if text:
            install()
        token = CONTEXT.set(guard.attempt("read the context of a task", unpacked, text) if text else None)
        try:
            return original(self, task, *args, **kwargs)
        finally:
            CONTEXT.reset(token)

    return _execute
