"""Wakes the agent when an SDK is imported. Runs in every Python process under the launcher, at start-up.

So it imports nothing that a bare interpreter has not loaded, and costs one finder on `sys.meta_path`. The finder walks
the other finders itself: `importlib.util.find_spec` takes the parent package's import lock, which hung programs that
import their own submodule in a thread (ddtrace with snowflake-connector 4.4).
"""

import sys

TYPE_CHECKING = False  # `typing` costs 10 ms, and `from __future__ import annotations` is an import too
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

SENTINEL = "_posthog_autoinstrument_finder"
"""On `sys`: the finder of this interpreter. Survives `del sys.modules[...]`, which other agents do at start-up."""
TRIGGERS = ("openai",)
"""Packages whose import loads the agent: those of the providers, spelled here because reading them is an import."""


class Finder:
    """Tells callbacks of modules when they have loaded, without replacing their loaders' type or identity."""

    def __init__(self) -> None:
        self.before: dict[str, Callable[[str], None]] = {}
        """Module name -> callback before the module runs."""
        self.after: dict[str, Callable[[str], None]] = {}
        """Module name -> callback after it has run."""

    def find_spec(self, name: str, path: "Any" = None, target: "Any" = None) -> "Any":
        if name not in self.before and name not in self.after:
            return None
        for finder in list(sys.meta_path):
            if finder is self:
                continue
            find_spec = getattr(finder, "find_spec", None)
            spec = find_spec(name, path, target) if find_spec is not None else None
            if spec is not None:
                self.attach(spec.loader)
                return spec
        return None

    def attach(self, loader: "Any") -> None:
        """Have `loader` tell us, by an attribute of the instance: hosts check loaders by type and compare them."""
        execute = getattr(loader, "exec_module", None)
        if execute is None or isinstance(loader, type) or getattr(execute, SENTINEL, False):
            return
        finder = self

        def exec_module(module: "Any") -> None:
            if getattr(loader, "name", None) == module.__name__:
                # The loader of one module: leave it as it was. One shared by many (zipimport) keeps telling.
                loader.__dict__.pop("exec_module", None)
            finder.call(finder.before, module.__name__)
            execute(module)
            finder.call(finder.after, module.__name__)

        setattr(exec_module, SENTINEL, True)
        try:
            loader.exec_module = exec_module
        except AttributeError:
            pass

    def call(self, callbacks: "dict[str, Callable[[str], None]]", name: str) -> None:
        callback = callbacks.get(name)
        if callback is not None:
            callback(name)

    def watch(self, name: str, callback: "Callable[[str], None]") -> None:
        """Have `callback(name)` called after the module has run. It must not raise: it would fail the import."""
        self.after[name] = callback


def finder() -> Finder:
    """The finder of this interpreter, installed on `sys.meta_path`."""
    found = getattr(sys, SENTINEL, None)
    if found is None:
        found = Finder()
        setattr(sys, SENTINEL, found)
    if found not in sys.meta_path:
        sys.meta_path.insert(0, found)
    return found


def wake() -> None:
    """Have the agent loaded when an SDK is imported. Idempotent in an interpreter."""
    if getattr(sys, SENTINEL, None) is None:
        found = finder()
        for name in TRIGGERS:
            found.before[name] = load_agent


def load_agent(name: str) -> None:
    """An SDK is about to be imported: load the agent and its hooks, once."""
    found = finder()
    for trigger in TRIGGERS:
        found.before.pop(trigger, None)
    try:
        from . import agent

        agent.start()
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        from . import guard

        guard.report("start", error)
