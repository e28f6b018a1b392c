"""A finder on `sys.meta_path` that calls functions before and after modules are loaded.

It asks the other finders itself: `importlib.util.find_spec` takes the parent package's import lock, which hung programs
that import their own submodule in a thread (ddtrace with snowflake-connector 4.4). Every Python process under the
launcher imports this file, which imports nothing that a bare interpreter has not loaded.
"""

import sys

TYPE_CHECKING = False  # `typing` costs 10 ms, and `from __future__ import annotations` is an import too
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

SENTINEL = "_posthog_autoinstrument_finder"
"""Attribute of `sys`: the finder of this interpreter. Survives `del sys.modules[...]`, which other agents do at
start-up."""


class Finder:
    """Calls functions before and after watched modules run. The modules' loaders keep their type and identity."""

    def __init__(self) -> None:
        import os

        self.tree = f"{os.getpid()}:{os.urandom(8).hex()}"
        """Label of the process tree where no launcher has set one; forked children inherit it."""
        self.before: dict[str, Callable[[str], None]] = {}
        """Module name -> function called before the module runs."""
        self.after: dict[str, list[Callable[[str], None]]] = {}
        """Module name -> functions called after it has run, in the order of registration."""

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
        """Replace `exec_module` of a loader, as an attribute of the instance: programs check loaders by type and
        compare them."""
        execute = getattr(loader, "exec_module", None)
        if execute is None or isinstance(loader, type) or getattr(execute, SENTINEL, False):
            return
        finder = self

        def exec_module(module: "Any") -> None:
            if getattr(loader, "name", None) == module.__name__:
                # The loader of one module is restored. One that many modules share (zipimport) keeps the replacement.
                loader.__dict__.pop("exec_module", None)
            before = finder.before.get(module.__name__)
            if before is not None:
                before(module.__name__)
            execute(module)
            for after in list(finder.after.get(module.__name__, ())):
                after(module.__name__)

        setattr(exec_module, SENTINEL, True)
        try:
            loader.exec_module = exec_module
        except AttributeError:
            pass

    def watch(self, name: str, callback: "Callable[[str], None]") -> None:
        """Call `callback(name)` after the module has run, in addition to earlier callbacks; the same callback is added
        once. It must not raise: the import would fail."""
        callbacks = self.after.setdefault(name, [])
        if callback not in callbacks:
            callbacks.append(callback)


def finder() -> Finder:
    """The finder of this interpreter, installed on `sys.meta_path`."""
    found = getattr(sys, SENTINEL, None)
    if found is None:
        found = Finder()
        setattr(sys, SENTINEL, found)
    if found not in sys.meta_path:
        sys.meta_path.insert(0, found)
    return found
