"""Pools of `multiprocessing`, of processes and of threads: each task runs in the context of its `apply` or `map`, and
nothing of it, nor of the place where the pool was made, stays in the worker. CPython 3.10 to 3.14.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ..context.scope import current_for_process, current_for_thread
from ..core.patching import replace_all
from ..settings.config import Config
from .wrappers import InProcess, Inside

TASKS = ("apply_async", "_map_async", "imap", "imap_unordered")
"""Methods that the other ones call."""


def instrument(module: ModuleType, settings: Config) -> bool:
    """`multiprocessing.pool`."""
    return replace_all(vars(module).get("Pool"), {"__init__": _init, **dict.fromkeys(TASKS, _task)})


def _init(original: Any) -> Any:
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        with Inside(None):  # it starts workers
            original(self, *args, **kwargs)

    return __init__


def _task(original: Any) -> Any:
    def task(self: Any, func: Any, *args: Any, **kwargs: Any) -> Any:
        context = current_for_thread() or current_for_process()
        if context is None:
            return original(self, func, *args, **kwargs)
        return original(self, InProcess(func, context), *args, **kwargs)

    return task
