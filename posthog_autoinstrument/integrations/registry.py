"""Instruments the modules that `FILES` names: now where they are loaded, else when they are."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..core import guard, package
from ..settings import loader
from . import BEFORE_SDK, FILES

if TYPE_CHECKING:
    from ..settings.config import Config

FINDER = "_posthog_autoinstrument_finder"
"""Attribute of `sys`: the import hook of this interpreter, where there is one."""
OPEN_CONTEXTS = ("web", "sessions", "agents")
"""Kinds that open contexts: propagation is installed with the first of them."""

instrumented: dict[str, bool] = {}
"""Module that has been loaded -> whether something in it is instrumented."""
_installed: dict[str, Config] = {}
"""Kind -> the settings with which it was installed."""


def install(settings: Config, *kinds: str) -> None:
    """Instrument the modules of these kinds that are loaded, and have the others instrumented when they are.
    Idempotent. Never raises."""
    for kind in kinds:
        if kind not in _installed:
            _installed[kind] = settings
            for modules in FILES[kind].values():
                for name in modules:
                    watch(name, loaded)


def watch(name: str, callback: Callable[[str], None]) -> None:
    """Call `callback(name)` when the module is loaded, and now if it already is. It must not raise."""
    finder = getattr(sys, FINDER, None)
    if finder is not None:
        finder.watch(name, callback)
    if name in sys.modules:
        callback(name)


def loaded(name: str) -> None:
    """The module `name` of an installed kind has been loaded. Never raises."""
    for kind, settings in list(_installed.items()):
        for file in _files(kind, name):
            _instrument(kind, file, name, settings)


def loaded_before_sdk(name: str) -> None:
    """A module of the kinds of `BEFORE_SDK` has been loaded in a process that may have no agent yet."""
    settings = loader.load()
    if settings.disabled:
        return
    for kind in BEFORE_SDK:
        for file in _files(kind, name):
            if kind == "workers":  # a part of propagation
                _install_propagation(settings)
            else:
                _instrument(kind, file, name, settings)


def _files(kind: str, name: str) -> list[str]:
    return [file for file, modules in FILES[kind].items() if name in modules]


def _instrument(kind: str, file: str, name: str, settings: Config) -> None:
    if kind == "agents" and instrumented.get(name):
        return  # their files register handlers, which are there once
    done = bool(guard.attempt(f"instrument {name}", _call, file, name, settings))
    instrumented[name] = done
    if done and kind in OPEN_CONTEXTS:
        _install_propagation(settings)


def _call(file: str, name: str, settings: Config) -> bool:
    return bool(package.load(file).instrument(sys.modules[name], settings))


def _install_propagation(settings: Config) -> None:
    from .. import propagation  # a program that opens no context does not load it

    propagation.install(settings)
