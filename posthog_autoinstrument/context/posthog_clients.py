"""The clients that a program makes of the `posthog` package: one that is private makes all that is captured private.

posthog 3.6 to 7.91: `Client.__init__` sets `privacy_mode`; `Posthog` is a subclass.
"""

from __future__ import annotations

import functools
import sys
import weakref
from typing import Any

CLIENT = "posthog.client"
"""The module to watch."""
MARK = "_posthog_autoinstrument_seen"

_made: list[weakref.ref[Any]] = []


def loaded(name: str = CLIENT) -> None:
    """The module has loaded. Idempotent."""
    cls = getattr(sys.modules.get(name), "Client", None)
    original = vars(cls).get("__init__") if isinstance(cls, type) else None
    if original is None or hasattr(original, MARK):
        return

    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        _made.append(weakref.ref(self, _made.remove))  # in one step each: other threads make clients, too

    setattr(__init__, MARK, True)
    cls.__init__ = __init__  # type: ignore[misc]


def any_private() -> bool:
    """Whether one of them is in privacy mode now."""
    return any(getattr(one(), "privacy_mode", False) for one in tuple(_made))
