"""Replaces functions of the program's classes and modules, each once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

PATCHED = "_posthog_autoinstrument"
"""Attribute of every function of ours in a class or module of the program: a tuple of the patches that it and the
functions below it are."""


def replace(
    owner: type | ModuleType | None, name: str, make: Callable[[F], F], patch: str = "", inherited: bool = False
) -> bool:
    """Replace the function `name` of a class or module by `make(original)`, once. Returns whether ours is in place.

    False where the owner is None or has no such function in its own namespace, or in that of a base class where
    `inherited` is set. `patch` names the replacement where two of ours apply to the same function.
    """
    original = vars(owner).get(name) if owner is not None else None
    if original is None and inherited:
        original = getattr(owner, name, None)
    if not callable(original):
        return False
    if not is_patched(original, patch):
        setattr(owner, name, mark(make(original), original, patch))
    return True


def replace_all(owner: type | ModuleType | None, makes: Mapping[str, Callable[[F], F]]) -> bool:
    """`replace` several functions of one owner. Returns whether any of ours is in place."""
    return sum(replace(owner, name, make) for name, make in makes.items()) > 0


def classes_of(module: ModuleType) -> list[type]:
    """The classes that a module defines."""
    return [cls for cls in list(vars(module).values()) if isinstance(cls, type) and cls.__module__ == module.__name__]


def mark(function: F, original: Any, patch: str = "") -> F:
    """Give `function` the metadata of `original`, which it wraps, and mark it as ours."""
    functools.update_wrapper(function, original)
    setattr(function, PATCHED, (*_patches_of(original), patch))
    return function


def is_patched(function: Any, patch: str = "") -> bool:
    """Whether `function`, or one that it wraps, is ours."""
    return patch in _patches_of(function)


def _patches_of(function: Any) -> tuple[str, ...]:
    found = getattr(function, PATCHED, ())
    return found if isinstance(found, tuple) else ()
