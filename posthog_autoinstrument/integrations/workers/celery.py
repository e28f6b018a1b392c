"""Celery: a task runs in the worker in the context in which it was published, by Celery's own signals. Celery 5.3 to
5.7, message protocols 1 and 2.

The context is a header of the message. Protocol 2 makes each header an attribute of the task's request; protocol 1
keeps them together as its `headers`. A retry, and what a task publishes itself, is published anew inside the task's
context. A task that runs eagerly is a function call.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ...context import serialization
from ...context.scope import CONTEXT, current_for_process, fields_to_propagate
from ...core import guard
from ...propagation import install
from ...propagation.wrappers import unpacked

HEADER = "posthog_autoinstrument"


def patch(module: ModuleType) -> None:
    """`celery.signals` has loaded."""
    for signal, receiver in (
        (module.before_task_publish, _publish),
        (module.task_prerun, _begin),
        (module.task_postrun, _end),
    ):
        signal.connect(receiver, weak=False, dispatch_uid=f"posthog_autoinstrument{receiver.__name__}")


def _publish(headers: Any = None, **_: Any) -> None:
    context = current_for_process()
    if context is not None and isinstance(headers, dict):
        headers[HEADER] = guard.attempt("hand a context to a task", serialization.pack, fields_to_propagate(context))


def _begin(task: Any = None, **_: Any) -> None:
    request = getattr(task, "request", None)
    if request is None or getattr(request, "is_eager", False):
        return
    text = getattr(request, HEADER, None) or (getattr(request, "headers", None) or {}).get(HEADER)
    # Always: whatever an earlier task left in this thread is not this one's.
    CONTEXT.set(guard.attempt("read the context of a task", unpacked, text) if isinstance(text, str) else None)
    if text is not None:
        install()


def _end(task: Any = None, **_: Any) -> None:
    request = getattr(task, "request", None)
    if request is not None and not getattr(request, "is_eager", False):
        CONTEXT.set(None)
