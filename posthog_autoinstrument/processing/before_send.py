"""The user's `before_send` hook: loaded when it is first needed, called with every event."""

from __future__ import annotations

from collections.abc import Callable
from types import CoroutineType
from typing import Any

from ..context.active_call import suppressed
from ..core import diagnostics, forks, guard
from ..settings import hook_loader
from ..settings.config import NOT_ACCEPTED, Config

Event = dict[str, Any]
Hook = Callable[[Event], "Event | None"]

_WARN_AT = 20
"""So many events dropped, and none returned: the hook may lack its `return`."""
_STEP = "run before_send (its event is dropped)"


class BeforeSend:
    """The hook of one process. It fails closed, since it may be there to hide something: where it cannot be loaded or
    raises, no event is sent.

    `count_lost` counts the events lost that way.
    """

    def __init__(self, settings: Config, count_lost: Callable[[int, str], None]) -> None:
        self._config = settings
        self._count_lost = count_lost
        self._hook: Hook | None = None
        self._is_loaded = False
        self.n_dropped = 0
        """Events for which the hook returned None."""
        self._any_returned = False

    def use(self, hook: Hook | None) -> None:
        """Use a hook given in code instead of the one that the environment names."""
        self._hook = hook
        self._is_loaded = True
        self.n_dropped, self._any_returned = 0, False

    def is_set(self) -> bool:
        """Whether events pass through a hook, loaded or not."""
        return self._hook is not None or (not self._is_loaded and self._config.before_send is not None)

    def is_broken(self) -> bool:
        """Whether the hook could not be loaded, so that all events are dropped. Raises NotYetError as `load` does."""
        return self.load() is _drop

    def load(self) -> Hook | None:
        """The hook. Raises NotYetError where the program has not defined it yet."""
        if not self._is_loaded and self._config.before_send is not None:
            self._hook = self._hook or _drop  # whatever ends the loading
            self._is_loaded = True
            name = str(self._config.before_send)
            if self._hook is _drop and guard.contain("load before_send", self._load, name) is False:
                self._is_loaded = False
                raise hook_loader.NotYetError(f"before_send: {name} is not defined yet")
        return self._hook

    def _load(self, name: str) -> bool:
        try:
            with forks.IMPORTS:
                self._hook = hook_loader.load(name)
        except hook_loader.NotYetError:
            return False
        except hook_loader.HookError as error:
            if name != NOT_ACCEPTED:
                diagnostics.warn_once(
                    "before_send", f"POSTHOG_AUTOINSTRUMENT_BEFORE_SEND={name}: {error}; no event is sent"
                )
        return True

    def run(self, event: Event) -> Event | None:
        """What the hook returns for `event`, which it may change in place; None where the event is dropped or lost."""
        hook = self.load()
        if hook is None:
            return event
        if hook is _drop:
            self._count_lost(1, "before_send could not be loaded")
            return None
        failures = guard.failures.get(_STEP, 0)
        with suppressed():  # the event of a call that the hook makes would run the hook again, without end
            returned: Any = guard.contain(_STEP, hook, event)
        if isinstance(returned, dict):
            self._any_returned = True
            return returned
        if returned is not None:
            if isinstance(returned, CoroutineType):
                returned.close()  # else Python warns that it was never awaited
            diagnostics.warn_once(
                "before_send",
                f"before_send returned {type(returned).__name__}, no dict and not None: its event is dropped",
            )
            self._count_lost(1, "before_send returned no event")
        elif guard.failures.get(_STEP, 0) != failures:
            self._count_lost(1, "before_send failed")
        else:
            self.n_dropped += 1
            if self.n_dropped == _WARN_AT:
                self.warn_if_all_dropped()
        return None

    def warn_if_all_dropped(self) -> None:
        """Write a line where the hook has returned None for all events: it may have been meant to return them."""
        if self.n_dropped and not self._any_returned:
            which = "the only event" if self.n_dropped == 1 else f"all {self.n_dropped} events"
            diagnostics.warn_once(
                "before_send returned None",
                f"before_send returned None for {which} so far, so none was sent; to have an event sent, return it",
            )


def _drop(event: Event) -> None:
    """Stands for a hook that could not be loaded."""
