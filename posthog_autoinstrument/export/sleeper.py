"""Waits of one thread that any other may cut short."""

from __future__ import annotations

from ..core import threads


class Sleeper:
    """Used by one thread, woken by any. A forked child makes one of its own: the lock may never be released there."""

    def __init__(self) -> None:
        self._woken = threads.allocate_lock()
        self._woken.acquire()

    def sleep(self, seconds: float) -> bool:
        """Wait for so long; True as soon as `wake` was called, before or meanwhile: it ends one wait."""
        return self._woken.acquire(timeout=max(0.0, seconds))

    def wake(self) -> None:
        """End the wait, or the next one. Never raises."""
        try:
            self._woken.release()
        except RuntimeError:
            pass  # awake already
