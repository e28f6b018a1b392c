"""Libraries that tell of their steps: agents, tools, chains. One file for each, which listens by the library's own hook
and makes a span of each step.

A file has `HOOKS`: module name -> hook, called as `hook(module)` when that module has loaded; it returns whether it
found what it hooks into. A file is imported when one of its modules has loaded, so the names are spelled here a second
time.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ...core import guard, package

if TYPE_CHECKING:
    from types import ModuleType

    from ...settings.config import Config

    Hook = Callable[[ModuleType], bool]

MODULES: Mapping[str, tuple[str, ...]] = {
    "openai_agents": ("agents.tracing",),
    "langchain": ("langchain_core.tracers.context",),
}
"""File -> the modules that it hooks into."""
DISTRIBUTIONS = {"openai_agents": "openai-agents", "langchain": "langchain-core"}
"""File -> what is installed where it can apply."""

hooked: dict[str, bool] = {}
"""Module that has loaded -> whether it is hooked into."""


def install(watch: Callable[[str, Callable[[str], None]], None], settings: Config) -> None:
    """Hook into what is loaded, and into what will be when it is: `watch(module, callback)` tells."""
    if not settings.library_spans:
        return
    for file, modules in MODULES.items():
        for module in modules:
            loaded = functools.partial(_loaded, file, settings)
            watch(module, loaded)
            if module in sys.modules:
                loaded(module)


def _loaded(file: str, settings: Config, name: str) -> None:
    if not hooked.get(name):
        hooked[name] = bool(guard.attempt(f"hook into {name}", _hook, file, settings, name))


def _hook(file: str, settings: Config, name: str) -> bool:
    from ... import propagation

    hooks: Mapping[str, Hook] = package.load(f"integrations.agents.{file}").HOOKS
    if not hooks[name](sys.modules[name]):
        return False
    propagation.install(settings)  # from now on contexts are opened
    return True
