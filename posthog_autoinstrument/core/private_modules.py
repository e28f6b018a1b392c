"""Modules loaded a second time, for us alone.

What a program does to `requests`, `http.client` or `socket` it does to the module objects in `sys.modules`. A copy that
is not there can neither be patched, recorded, filtered nor stopped by it, and what the copy does to `warnings` and
`logging` does not reach the program. The files are the installed ones; no name of the program's changes in
`sys.modules`.

How: each file is executed as the import system would, with an `__import__` of ours among its builtins. Absolute and
relative imports of copied modules stay among the copies. Everything else of the standard library is the program's.
"""

from __future__ import annotations

import builtins
import importlib
import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib.machinery import BuiltinImporter, ExtensionFileLoader, ModuleSpec, PathFinder
from importlib.util import module_from_spec
from types import ModuleType
from typing import Any

from . import forks, package

PREFIX = f"{package.NAME}.private."
"""Before the names of the copies. While a copy is executed it is in `sys.modules` under that name: `enum` and
`dataclasses` look up the module of a class there (CPython 3.10 to 3.13, `enum._convert_`)."""


class PrivateModules:
    """Copies of modules, each executed once.

    `find` gives the spec of a top-level module by the last part of a name. Copied is what is not in the standard
    library, and what is in `copied`; `absent` cannot be imported. `stand_ins` are given for the modules of their names.
    `is_installed` returns whether the program has no other module of a standard library module's name.
    """

    def __init__(
        self,
        find: Callable[[str], ModuleSpec | None],
        copied: Collection[str] = (),
        absent: Collection[str] = (),
        stand_ins: Mapping[str, ModuleType] | None = None,
        is_installed: Callable[[str], bool] = lambda name: True,
    ) -> None:
        self._find = find
        self._copied = copied
        self._absent = absent
        self._is_installed = is_installed
        self._own: dict[str, bool] = {}
        self.modules: dict[str, ModuleType] = _Modules()
        """By the names that the files import them by. Their `sys.modules`: `requests.packages` writes there."""
        self._finders: list[Any] = []
        """Their `sys.meta_path`: the `six` inside urllib3 1.26 has a finder."""
        self._loading_pid = 0
        self._builtins = {**vars(builtins), "__import__": self._import}
        self.stand_ins: dict[str, ModuleType] = {
            "sys": stand_in(sys, modules=self.modules, meta_path=self._finders),
            "importlib": stand_in(importlib, import_module=self._import_module),
            **(stand_ins or {}),
        }

    def load(self, name: str) -> ModuleType:
        """The copy of a module. Raises what executing it raises."""
        with forks.IMPORTS:
            if name in self.modules:
                return self.modules[name]
            around, self._loading_pid = self._loading_pid, os.getpid()
            try:
                parent, _, last = name.rpartition(".")
                package = self.load(parent) if parent else None
                if name not in self.modules:  # the parent imports it
                    self._execute(name, package)
                    if package is not None:
                        setattr(package, last, self.modules[name])
                return self.modules[name]
            finally:
                self._loading_pid = around

    def is_half_loaded(self) -> bool:
        """Whether this process was forked while another thread loaded something, which is never finished here."""
        return self._loading_pid not in (0, os.getpid())

    def _execute(self, name: str, package: ModuleType | None) -> None:
        for finder in self._finders:
            spec = finder.find_spec(PREFIX + name, None)
            module = spec.loader.create_module(spec) if spec is not None else None
            if module is not None:  # another name for a module that there is
                self.modules[name] = module
                return
        spec = self._spec_of(name, package)
        if spec is None or (package is not None and isinstance(spec.loader, ExtensionFileLoader)):
            # C code imports by name, past our `__import__` (wrapt 2.5: `_wrappers.c` imports wrapt). Each that we know
            # is there for speed, and has its like in Python.
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        module = module_from_spec(spec)
        module.__dict__["__builtins__"] = self._builtins
        self.modules[name] = module
        is_known = spec.name != name
        if is_known:
            sys.modules[spec.name] = module
        done = False
        try:
            if spec.loader is not None:  # None: a folder without an `__init__.py`
                spec.loader.exec_module(module)
            done = True
        finally:
            if is_known:
                sys.modules.pop(spec.name, None)
            if not done:  # with what it has imported of itself: the next attempt needs a whole package
                for other in [one for one in self.modules if one == name or one.startswith(f"{name}.")]:
                    del self.modules[other]

    def _spec_of(self, name: str, package: ModuleType | None) -> ModuleSpec | None:
        if package is not None:
            return PathFinder.find_spec(PREFIX + name, getattr(package, "__path__", []))
        if name in self._absent:
            return None
        return BuiltinImporter.find_spec(name) or self._find(PREFIX + name)

    def _is_own(self, top: str) -> bool:
        """Whether a top-level module is one of the copies."""
        found = self._own.get(top)
        if found is None:
            found = top in self._copied or top not in sys.stdlib_module_names or not self._is_installed(top)
            self._own[top] = found
        return found

    def _import(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> Any:
        """`__import__` of the copies."""
        if level:
            base = str((globals or {})["__package__"]).rsplit(".", level - 1)[0]
            name = (f"{base}.{name}" if name else base).removeprefix(PREFIX)
        top = name.partition(".")[0]
        given = self.stand_ins.get(name) or (self.stand_ins.get(top) if not fromlist else None)
        if given is not None:
            return given
        if not level and not self._is_own(top):
            return builtins.__import__(name, globals, locals, fromlist or (), 0)
        module = self.load(name)
        if not fromlist:
            return self.modules[top]
        if hasattr(module, "__path__"):
            for wanted in getattr(module, "__all__", ()) if "*" in fromlist else fromlist:
                if not hasattr(module, wanted):
                    self._load_if_there(f"{name}.{wanted}")
        return module

    def _load_if_there(self, name: str) -> None:
        try:
            self.load(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise

    def _import_module(self, name: str, package: str | None = None) -> Any:
        return self._import(name, None, None, ("",), 0)


class _Modules(dict[str, ModuleType]):
    """The copies, and where there is none the program's module."""

    def __missing__(self, name: str) -> ModuleType:
        return sys.modules[name]


def stand_in(module: ModuleType, **instead: Any) -> ModuleType:
    """A module that has `instead`, and else what `module` has."""
    made = ModuleType(module.__name__)
    made.__dict__.update(instead, __getattr__=lambda name: getattr(module, name))
    return made
