"""Executors of `concurrent.futures`: each task runs in the context of its `submit`, and nothing of it stays in the
worker. CPython 3.10 to 3.13.

`map`, `loop.run_in_executor` and `asyncio.to_thread` submit too, uvloop's as well.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from ..context.scope import current_for_process, current_for_thread
from ..core.patching import replace
from .wrappers import InProcess, InThread, Outside


def patch(module: ModuleType) -> None:
    """`concurrent.futures.thread` or `concurrent.futures.process` has loaded."""
    replace(vars(module).get("ThreadPoolExecutor"), "submit", lambda original: _submit(original, InThread))
    replace(vars(module).get("ProcessPoolExecutor"), "submit", lambda original: _submit(original, InProcess))


def _submit(original: Any, crossing: type[InThread]) -> Any:
    def submit(self: Any, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        of_interpreters = getattr(sys.modules.get("concurrent.futures.interpreter"), "InterpreterPoolExecutor", ())
        if isinstance(self, of_interpreters):  # from 3.14 on: its workers may not be able to import us
            return original(self, fn, *args, **kwargs)
        context = current_for_thread() or (current_for_process() if crossing is InProcess else None)
        if context is None:
            return original(self, fn, *args, **kwargs)
        with Outside():  # it may start workers
            return original(self, crossing(fn, context), *args, **kwargs)

    return submit
