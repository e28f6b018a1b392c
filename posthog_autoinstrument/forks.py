"""What must not be half done while the process forks: `os.register_at_fork` hooks wait for it, bounded.

A process forked while another of its threads imports a module inherits import locks that nobody will release: the
child hung 5 times of 5 at its own `import requests`.
"""

from __future__ import annotations

import os
import threading
from types import TracebackType

WAIT_S = 2.0
"""Longest a fork waits. Importing requests takes 0.1 s here; a fork that hangs would be worse than a late child."""


class Gate:
    """A lock that forks wait for. In the child it is free, whoever held it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._held_by_fork = False

    def __enter__(self) -> Gate:
        self._lock.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    def before_fork(self, timeout_s: float = WAIT_S) -> None:
        """Wait until no other thread is inside, at most `timeout_s`, and keep the others out."""
        if self._lock.acquire(timeout=timeout_s):
            self._held_by_fork = True

    def after_fork_in_parent(self) -> None:
        """Let the others in again."""
        if self._held_by_fork:
            self._held_by_fork = False
            self._lock.release()

    def after_fork_in_child(self) -> None:
        """Whoever was inside does not exist here."""
        self.__init__()  # type: ignore[misc]


IMPORTS = Gate()
"""Held around every import that the flusher's thread makes."""
STORE = Gate()
"""Held while a store file is open: SQLite's locks do not survive a fork."""


def register() -> None:
    """Have forks wait for every gate. Once in a process."""
    if hasattr(os, "register_at_fork"):
        for gate in (IMPORTS, STORE):
            os.register_at_fork(
                before=gate.before_fork,
                after_in_parent=gate.after_fork_in_parent,
                after_in_child=gate.after_fork_in_child,
            )
