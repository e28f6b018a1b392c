"""The loader of functions that a setting names as `module:function`.

The program is never run a second time: where the module is the program itself, the function is taken from `__main__`.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Callable
from types import FrameType, ModuleType
from typing import Any

ACCEPTS = "module:function"
_NAME = r"[^\W\d]\w*"
_NAMED = rf"({_NAME}(?:\.{_NAME})*)(?::({_NAME}(?:\.{_NAME})*)|\.({_NAME}))"


class HookError(ValueError):
    """A setting names no function; the message is the reason."""


class NotYetError(ImportError):
    """The module that should define the function has not done so yet: try again later."""


def parse(text: str) -> tuple[str, str]:
    """Module and function of `module:function`, or of `module.function`. Raises HookError for anything else."""
    found = re.fullmatch(_NAMED, text.strip())
    if found is None:
        raise HookError(f"not of the form {ACCEPTS}")
    return found[1], found[2] or found[3]


def load(text: str) -> Callable[..., Any]:
    """The function that `text` names, on the thread that calls this; its module is imported where that is not yet done.

    Raises HookError with the reason where there is none, NotYetError where the program or the module has not defined it
    yet, and whatever else the module raises.
    """
    module_name, path = parse(text)
    module = _module(module_name)
    found: Any = module
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError as error:
            if _may_define(module, path.partition(".")[0]):
                raise NotYetError(f"{module_name} has not defined {path} yet") from None
            where = "the program" if module is sys.modules.get("__main__") else f"module {module_name!r}"
            raise HookError(f"{where} has no attribute {name!r}" if found is module else str(error)) from None
    if not callable(found):
        raise HookError(f"{path} is not callable")
    return found  # type: ignore[no-any-return]


def _module(name: str) -> ModuleType:
    found = sys.modules.get(name)
    if found is not None:
        return found
    main = sys.modules.get("__main__")
    if main is not None and _is_program(main, name):
        return main
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise HookError(str(error)) from error


def _is_program(main: ModuleType, name: str) -> bool:
    """Whether importing `name` would run the program again: by `python -m name`, or from the file of that name."""
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name == name:
        return True
    # CPython takes `__file__` away from a script that has ended (Python/pythonrun.c, 3.10 to 3.14); its loader stays.
    file = getattr(main, "__file__", None) or getattr(getattr(main, "__loader__", None), "path", None)
    if not isinstance(file, str):
        return False
    would_run = origin(name)
    if would_run is None:  # not to be imported from here: the program's own folder may be kept off the path
        return os.path.splitext(os.path.basename(file))[0] == name
    return os.path.realpath(would_run) == os.path.realpath(file)


def origin(name: str) -> str | None:
    """The file that `import name` would run. Unlike `importlib.util.find_spec` it runs no package on the way."""
    found, path = None, None
    parts = name.split(".")
    for depth in range(1, len(parts) + 1):
        full_name = ".".join(parts[:depth])
        spec = getattr(sys.modules.get(full_name), "__spec__", None) or _spec(full_name, path)
        if spec is None:
            return None
        try:
            path = list(spec.submodule_search_locations or ())
        except KeyError:  # a namespace package inside one that is not loaded (importlib/_bootstrap_external.py)
            return None
        found = spec.origin
    return found


def _spec(name: str, path: list[str] | None) -> Any:
    for finder in list(sys.meta_path):
        find_spec = getattr(finder, "find_spec", None)
        spec = find_spec(name, path) if find_spec is not None else None
        if spec is not None:
            return spec
    return None


def _may_define(module: ModuleType, name: str) -> bool:
    """Whether the body of a module is still running, in whatever thread, and has `name` among its own."""
    if hasattr(module, name):
        return False
    frames: dict[int, FrameType] = getattr(sys, "_current_frames", dict)()  # CPython's
    for frame in frames.values():
        at: FrameType | None = frame
        while at is not None:
            if at.f_globals is module.__dict__ and at.f_code.co_name == "<module>" and name in at.f_code.co_names:
                return True
            at = at.f_back
    return False
