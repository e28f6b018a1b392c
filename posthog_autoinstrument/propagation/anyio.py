"""anyio: a change of the context by a function in a worker thread applies where it was awaited. anyio 3.7 to 4.16.

`to_thread.run_sync` runs the function in a copy of the Context: a block that one step of a synchronous generator opens
is not seen by the next step and by what runs meanwhile. So the second yield of a streamed body
(`iterate_in_threadpool` of Starlette 0.27 to 1.10) was outside of its block, and an endpoint outside of that of a
dependency which yields (`contextmanager_in_threadpool` of FastAPI 0.100 to 0.165).
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ..context.scope import CONTEXT, Context
from ..core.patching import replace
from ..settings.config import Config


def instrument(module: ModuleType, settings: Config) -> bool:
    """`anyio.to_thread`."""
    return replace(module, "run_sync", _run_sync)


class Step:
    """A function to be run in a worker thread, and the context at its end."""

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
