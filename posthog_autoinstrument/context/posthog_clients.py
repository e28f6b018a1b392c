"""The clients that a program makes of the `posthog` package: one that is private makes all that is captured private.

posthog 3.6 to 7.91: `Client.__init__` sets `privacy_mode`; `Posthog` is a subclass.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import ModuleType
from typing import Any

from ..core.patching import replace
from ..settings.config import Config

_made: list[weakref.ref[Any]] = []


def instrument(module: ModuleType, settings: Config) -> bool:
    """`posthog.client`."""
    return replace(vars(module).get("Client"), "__init__", _init)


def _init(original: Callable[..., None]) -> Callable[..., None]:
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        _made.append(weakref.ref(self, _made.remove))  # in one step each: other threads make clients, too

    return __init__


def any_private() -> bool:
    """Whether one of them is in privacy mode now."""
    return any(getattr(one(), "privacy_mode", False) for one in tuple(_made))
