"""Celery: a task runs in the worker in the context in which it was published, by Celery's own signals. Celery 5.3 to
5.7, message protocols 1 and 2.

The context is a header of the message. Protocol 2 makes each header an attribute of the task's request; protocol 1
keeps them together as its `headers`. A retry, and what a task publishes itself, is published anew inside the task's
context. A task that runs eagerly is a function call.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ...context.scope import CONTEXT
from ...propagation.wrappers import extract, inject
from ...settings.config import Config

HEADER = "posthog_autoinstrument"


def instrument(module: ModuleType, settings: Config) -> bool:
    """`celery.signals`."""
    for signal, receiver in (
        (module.before_task_publish, _publish),
        (module.task_prerun, _begin),
        (module.task_postrun, _end),
    ):
        signal.connect(receiver, weak=False, dispatch_uid=f"posthog_autoinstrument{receiver.__name__}")
    return True


def _publish(headers: Any = None, **_: Any) -> None:
    text = inject() if isinstance(headers, dict) else None
    if text is not None:
        headers[HEADER] = text


def _begin(task: Any = None, **_: Any) -> None:
    request = getattr(task, "request", None)
    if request is None or getattr(request, "is_eager", False):
        return
    text = getattr(request, HEADER, None) or (getattr(request, "headers", None) or {}).get(HEADER)
    CONTEXT.set(extract(text))  # also where it is None: an earlier task may have left one in this thread


def _end(task: Any = None, **_: Any) -> None:
    request = getattr(task, "request", None)
    if request is not None and not getattr(request, "is_eager", False):
        CONTEXT.set(None)
