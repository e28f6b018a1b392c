"""gevent: a greenlet runs in the context in which it was started, and a task of a thread pool in that of its `spawn`.
gevent 24.2 to 26.9.

A greenlet begins with an empty Context (greenlet 3.5, `gr_context`). gevent calls the functions of
`Greenlet.add_spawn_callback` for greenlets of every class, of pools and of `spawn_later`, not for those of `spawn_raw`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from ..context.scope import current_for_thread
from ..core import guard
from ..core.patching import replace
from ..settings.config import Config
from .wrappers import Inside, InThread, start_greenlet_inside


def instrument(module: ModuleType, settings: Config) -> bool:
    """`gevent.greenlet`, `gevent.hub` or `gevent.threadpool`."""
    names = vars(module)
    done = [replace(names.get("ThreadPool"), "spawn", _spawn)]
    if "add_spawn_callback" in vars(names.get("Greenlet", object)):
        names["Greenlet"].add_spawn_callback(_started)  # kept in a set
        done.append(True)
    if module.__name__ == "gevent.hub":
        done.append(replace(module, "spawn_raw", _spawn_raw))
        package = sys.modules.get("gevent")
        if hasattr(package, "spawn_raw"):
            package.spawn_raw = module.spawn_raw  # type: ignore[union-attr]
    return any(done)


def _started(greenlet: Any) -> None:
    guard.attempt("propagate to a greenlet", start_greenlet_inside, greenlet)


def _spawn_raw(original: Any) -> Any:
    def spawn_raw(function: Any, *args: Any, **kwargs: Any) -> Any:
        greenlet = original(function, *args, **kwargs)
        _started(greenlet)
        return greenlet

    return spawn_raw


def _spawn(original: Any) -> Any:
    def spawn(self: Any, func: Any, *args: Any, **kwargs: Any) -> Any:
        context = current_for_thread()
        if context is None:
            return original(self, func, *args, **kwargs)
        with Inside(None):  # it may start workers
            return original(self, InThread(func, context), *args, **kwargs)

    return spawn
