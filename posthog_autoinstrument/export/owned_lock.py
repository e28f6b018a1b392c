"""A lock that knows which thread holds it, so that this one need not wait for itself."""

from __future__ import annotations

from ..core import threads


class OwnedLock:
    """Not reentrant: who holds it asks `is_mine` instead of taking it again."""

    def __init__(self) -> None:
        self._lock = threads.allocate_lock()
        self._owner = 0

    def acquire(self, timeout_s: float = -1.0) -> bool:
        """Take it; False where that was not possible for `timeout_s` seconds. Negative: wait for ever."""
        taken = self._lock.acquire(timeout=timeout_s if timeout_s >= 0 else -1)
        if taken:
            self._owner = threads.get_ident()
        return taken

    def release(self) -> None:
        """Let the next one have it."""
        self._owner = 0
        self._lock.release()

    def is_mine(self) -> bool:
        """Whether the calling thread holds it."""
        return self._owner == threads.get_ident()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()
