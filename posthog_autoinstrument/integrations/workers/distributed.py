"""dask.distributed: a task runs in the worker in the context in which it was submitted. distributed 2024.8 to 2026.8.

`Client.submit`, `map`, `compute` and `persist` all send a graph by `_graph_to_futures`, with the annotations of
`dask.annotate`, which the scheduler keeps for each task and gives to its worker. `Worker.execute` runs it: in a thread
with a copy of the worker's ContextVars, or in its event loop. Actors and `Client.run` are no tasks of a graph.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from ...core import guard
from ...core.patching import replace
from ...propagation.wrappers import Inside, extract, inject
from ...settings.config import Config

ANNOTATION = "posthog_autoinstrument"


def instrument(module: ModuleType, settings: Config) -> bool:
    """`distributed.client` or `distributed.worker`."""
    if module.__name__ == "distributed.client":
        return replace(vars(module).get("Client"), "_graph_to_futures", _graph_to_futures)
    return replace(vars(module).get("Worker"), "execute", _execute)


def _graph_to_futures(original: Any) -> Any:
    def _graph_to_futures(self: Any, *args: Any, **kwargs: Any) -> Any:
        text = inject()
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
        with Inside(extract(text)):  # also where it is None: the worker itself may have been started in a block
            return await original(self, key, **kwargs)

    return execute
