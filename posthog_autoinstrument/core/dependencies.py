"""Imports a dependency of ours: the installed module, not what the program has of that name.

A program may have a `requests.py` or a `wrapt/` of its own. Its folder comes first on `sys.path`, so an import by name
would execute the program's file, and before the program does.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

from . import package

_SITES = ("site-packages", "dist-packages")


def load(name: str) -> ModuleType:
    """A module that we need: the program's where it is the installed one, else a copy that only we have."""
    if is_installed(name):
        return importlib.import_module(name)
    from . import private_modules  # for the few that have one: `import openai` would wait for it

    return private_modules.PrivateModules(find, (name,), is_installed=is_installed).load(name)


def is_installed(name: str) -> bool:
    """Whether the program's `import name` gives the installed module (or there is none, and the import raises)."""
    loaded = sys.modules.get(name)
    theirs = _spec_of(name) if loaded is None else getattr(loaded, "__spec__", None)
    if theirs is not None and theirs.origin in ("built-in", "frozen"):
        return True
    ours = find(name)
    return ours is None or (theirs is not None and _is_same_file(ours.origin, theirs.origin))


def find(name: str) -> ModuleSpec | None:
    """The installed top-level module of that name (its last part, where it has dots); None where it is in no folder, as
    in frozen programs."""
    first, rest = _folders()
    if name.rpartition(".")[2] in sys.stdlib_module_names:
        return PathFinder.find_spec(name, rest) or PathFinder.find_spec(name)  # PyInstaller 6: in several places
    here = os.path.dirname(package.FOLDER)
    sites = [entry for entry in first if os.path.basename(entry.rstrip("/\\")) in _SITES]
    found = PathFinder.find_spec(name, [here, *sites, *rest])
    if found is None:  # PYTHONPATH names folders that are called otherwise; the program's own is the first
        others = [entry for entry in first[1:] if entry and not _is_same_file(entry, os.curdir)]
        found = PathFinder.find_spec(name, others)
    return found


def _folders() -> tuple[Sequence[str], Sequence[str]]:
    """`sys.path` in two: the program's folder and PYTHONPATH; the standard library and what is installed (`site`)."""
    path = [entry for entry in list(sys.path) if isinstance(entry, str)]
    library = os.path.dirname(os.__file__)
    for index, entry in enumerate(path):
        if entry and _is_same_file(entry, library):
            return path[:index], path[index:]
    return path, []


def _spec_of(name: str) -> ModuleSpec | None:
    """What an import of a top-level module would find."""
    for finder in list(sys.meta_path):
        find_spec = getattr(finder, "find_spec", None)
        spec = find_spec(name, None) if find_spec is not None else None
        if spec is not None:
            return spec  # type: ignore[no-any-return]
    return None


def _is_same_file(one: str | None, other: str | None) -> bool:
    if one is None or other is None:
        return False
    try:
        return one == other or os.path.realpath(one) == os.path.realpath(other)
    except OSError:  # one of them is relative, and the working directory is gone
        return False
