"""dask.distributed: a task runs in the worker in the context in which it was submitted. distributed 2024.8 to 2026.8.

`Client.submit`, `map`, `compute` and `persist` all send a graph by `_graph_to_futures`, with the annotations of
`dask.annotate`, which the scheduler keeps for each task and gives to its worker. `Worker.execute` runs it: in a thread
with a copy of the worker's ContextVars, or in its event loop. Actors and `Client.run` are no tasks of a graph.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from ...context import serialization
from ...context.scope import CONTEXT, current_for_process, fields_to_propagate
from ...core import guard
from ...core.patching import replace
from ...propagation import install
from ...propagation.wrappers import unpacked

ANNOTATION = "posthog_autoinstrument"


def patch(module: ModuleType) -> None:
    """`distributed.client` or `distributed.worker` has loaded."""
    replace(vars(module).get("Client"), "_graph_to_futures", _graph_to_futures)
    replace(vars(module).get("Worker"), "execute", _execute)


def _graph_to_futures(original: Any) -> Any:
    def _graph_to_futures(self: Any, *args: Any, **kwargs: Any) -> Any:
        context = current_for_process()
        text = None
        if context is not None:
            text = guard.attempt("hand a context to a graph", serialization.pack, fields_to_propagate(context))
        if not text:
            return original(self, *args, **kwargs)
        with sys.modules["dask"].annotate(**{ANNOTATION: text}):
            return original(self, *args, **kwargs)

    return _graph_to_futures


def _text(worker: Any, key: Any) -> Any:
    return (getattr(worker.state.tasks.get(key), "annotations", None) or {}).get(ANNOTATION)


def _execute(original: Any) -> Any:
    async def execute(self: Any, key: Any, **kwargs: Any) -> Any:
        text = guard.attempt("look at a task", _text, self, key)
        context = None
        if isinstance(text, str):
            context = guard.attempt("read the context of a task", unpacked, text)
            install()
        # Always: the worker itself may have been started inside a block.
        token = CONTEXT.set(context)
        try:
            return await original(self, key, **kwargs)
        finally:
            CONTEXT.reset(token)

    return execute
