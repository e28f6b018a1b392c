"""anyio: what a function changes of the context in a worker thread is in force where it was awaited. anyio 3.7 to 4.16.

`to_thread.run_sync` runs the function in a copy of the Context: a block that one step of a synchronous generator opens
is lost to the next step and to what runs meanwhile. So the second yield of a streamed body (`iterate_in_threadpool` of
Starlette 0.27 to 1.10) was outside of its block, and an endpoint outside of that of a dependency which yields
(`contextmanager_in_threadpool` of FastAPI 0.100 to 0.165).
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ..context.scope import CONTEXT, Context
from ..core.patching import replace


def patch(module: ModuleType) -> None:
    """`anyio.to_thread` has loaded."""
    replace(module, "run_sync", _run_sync)


class Step:
    """A function that is run in a worker thread, and the context that it left there."""

    __slots__ = ("function", "left")

    def __init__(self, function: Any) -> None:
        self.function = function
        self.left: Context | None = CONTEXT.get()

    def __call__(self, /, *args: Any) -> Any:
        try:
            return self.function(*args)
        finally:
            self.left = CONTEXT.get()

    def __repr__(self) -> str:
        return repr(self.function)


def _run_sync(original: Any) -> Any:
    async def run_sync(func: Any, *args: Any, **options: Any) -> Any:
        step = Step(func)
        before = step.left
        try:
            return await original(step, *args, **options)
        finally:
            if step.left is not before:
                CONTEXT.set(step.left)

    return run_sync
