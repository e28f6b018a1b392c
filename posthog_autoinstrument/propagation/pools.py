"""Pools of `multiprocessing`, of processes and of threads: each task runs in the context of its `apply` or `map`, and
nothing of it, nor of the place where the pool was made, stays in the worker. CPython 3.10 to 3.13.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ..context.scope import CONTEXT, current_for_process, current_for_thread
from ..core.patching import replace
from .wrappers import InProcess, Outside

TASKS = ("apply_async", "_map_async", "imap", "imap_unordered")
"""What the other methods call."""


def patch(module: ModuleType) -> None:
    """`multiprocessing.pool` has loaded."""
    replace(module.Pool, "__init__", _init)
    for name in TASKS:
        replace(module.Pool, name, _task)


def _init(original: Any) -> Any:
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        if CONTEXT.get() is None:
            original(self, *args, **kwargs)
        else:
            with Outside():
                original(self, *args, **kwargs)

    return __init__


def _task(original: Any) -> Any:
    def task(self: Any, func: Any, *args: Any, **kwargs: Any) -> Any:
        context = current_for_thread() or current_for_process()
        if context is None:
            return original(self, func, *args, **kwargs)
        return original(self, InProcess(func, context), *args, **kwargs)

    return task
