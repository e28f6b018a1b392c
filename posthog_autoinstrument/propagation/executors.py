"""Executors of `concurrent.futures`: each task runs in the context of its `submit`, and nothing of it stays in the
worker. CPython 3.10 to 3.14.

`map`, `loop.run_in_executor` and `asyncio.to_thread` submit too, uvloop's as well.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from ..context.scope import current_for_process, current_for_thread
from ..core.patching import replace
from ..settings.config import Config
from .wrappers import InProcess, Inside, InThread


def instrument(module: ModuleType, settings: Config) -> bool:
    """`concurrent.futures.thread` or `concurrent.futures.process`."""
    if module.__name__ == "concurrent.futures.thread":
        return replace(vars(module).get("ThreadPoolExecutor"), "submit", lambda original: _submit(original, InThread))
    return replace(vars(module).get("ProcessPoolExecutor"), "submit", lambda original: _submit(original, InProcess))


def _submit(original: Any, wrapper: type[InThread]) -> Any:
    def submit(self: Any, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        of_interpreters = getattr(sys.modules.get("concurrent.futures.interpreter"), "InterpreterPoolExecutor", ())
        if isinstance(self, of_interpreters):  # from 3.14 on: its workers may not be able to import us
            return original(self, fn, *args, **kwargs)
        context = current_for_thread() or (current_for_process() if wrapper is InProcess else None)
        if context is None:
            return original(self, fn, *args, **kwargs)
        with Inside(None):  # it may start workers
            return original(self, wrapper(fn, context), *args, **kwargs)

    return submit
